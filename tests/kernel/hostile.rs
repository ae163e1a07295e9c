//! What a hostile or broken client can do to the sockets: nothing.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::PathBuf,
    time::{Duration, Instant},
};

use recorder_tests::{
    Child, Counts, Pipe, RecorderProcess, Start, TestDirectory,
    http::{Server, read_answer},
    number, run, text, wait_for, wait_until,
};
use serde_json::{Value, json};

/// Nothing was lost and the recorder is as it was.
#[track_caller]
fn assert_unharmed(recorder: &RecorderProcess) {
    let status = recorder.status();
    assert_eq!(status["recording"], true);
    assert_eq!(status["ledger"]["closes"], true, "{}", status["ledger"]);
    assert_eq!(status["ledger"]["lost"], json!({}), "{}", status["ledger"]);
}

#[test]
fn bodies_that_make_no_sense_are_refused_with_a_reason() {
    let recorder = RecorderProcess::start();
    let server = recorder.socket();
    let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
    let deep_object = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    let huge = format!("{{\"reason\":\"{}\"}}", "x".repeat(3 << 20));
    let doors = ["alertmanager", "grafana", "pagerduty", "generic"];
    let bodies: [(&[u8], u16); 9] = [
        (b"", 400),
        (b"{", 400),
        (b"{\"alerts\":[{\"labels\":{\"a\":\"b\"}", 400),
        (b"\xff\xfe\x00", 400),
        (b"nonsense", 400),
        (deep.as_bytes(), 400),
        (deep_object.as_bytes(), 400),
        (huge.as_bytes(), 413),
        (b"{\"alerts\":1,\"event\":1", 400),
    ];
    for door in doors {
        for (body, status) in bodies {
            let answer = server.post(&format!("/v1/trigger/{door}"), &[], body);
            assert_eq!(answer.status, status, "{door}: {:.60?}: {answer:?}", body);
            assert!(answer.head.contains("application/problem+json"), "{answer:?}");
            let problem = answer.json();
            assert!(!text(&problem["detail"]).is_empty() && problem["status"] == status);
        }
    }
    for (method, path, status) in [
        ("GET", "/v1/trigger/generic", 405),
        ("POST", "/v1/trigger/nobody", 404),
        ("DELETE", "/metrics", 405),
        ("POST", "/v1/status", 405),
    ] {
        assert_eq!(server.send(method, path, &[], b"").status, status, "{method} {path}");
    }
    assert_eq!(recorder.files(), Vec::<PathBuf>::new());
    assert_unharmed(&recorder);
}

/// Words of an alert that would be a path, a line or a colour somewhere.
#[test]
fn hostile_words_are_kept_as_words() {
    let recorder = RecorderProcess::start();
    let server = recorder.socket();
    let hostile = "../../x\u{0}\n\u{1b}[31m\u{202e}red";
    let megabyte = "y".repeat(1 << 20);
    let body = json!({
        "reason": hostile, "source": "../../etc", "name": hostile,
        "labels": {"a": hostile, "../b": "c", "large": megabyte},
    });
    let answer = server.post("/v1/trigger/generic", &[], body.to_string().as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
    let path = text(&answer.json()["path"]).to_string();
    let file = wait_for("the snapshot", || recorder.files().pop());
    assert_eq!(file.to_string_lossy(), path);
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name");
    assert!(name.chars().all(|c| c.is_ascii_alphanumeric() || "-._".contains(c)), "{name}");
    let trigger = recorder.info(&file)["trigger"].clone();
    assert_eq!(trigger["reason"], hostile);
    assert_eq!(trigger["labels"]["a"], hostile);
    assert_eq!(text(&trigger["labels"]["large"]).len(), 4096);
    assert_eq!(trigger["cut"], 1);
    let shown = run(std::process::Command::new(recorder_tests::binary()).arg("info").arg(&file));
    let shown = shown.succeeded();
    let obeyed = |c: char| c.is_control() && c != '\n' || c == '\u{202e}';
    assert!(!shown.text().contains(obeyed), "{}", shown.text());
    let log = recorder.log();
    assert!(!log.contains(obeyed), "{log}");
    assert_unharmed(&recorder);
}

/// Requests that never end: each costs a connection for seconds and nothing else.
#[test]
fn slow_clients_are_hung_up_on() {
    let directory = TestDirectory::new();
    let start = Start { arguments: &["--listen", "127.0.0.1:0"], ..Start::default() };
    let recorder = RecorderProcess::start_in(directory, &start);
    let heads: [&[u8]; 4] = [
        b"",
        b"POST /v1/trigger/generic HT",
        b"POST /v1/trigger/generic HTTP/1.1\r\nhost: r\r\n",
        b"POST /v1/trigger/generic HTTP/1.1\r\nhost: r\r\ncontent-type: application/json\r\n\
          content-length: 100\r\n\r\n{",
    ];
    let began = Instant::now();
    let mut slow: Vec<_> = [recorder.socket(), recorder.tcp()]
        .iter()
        .flat_map(|server| heads.map(|head| (server.connect(), head)))
        .collect();
    for (stream, head) in &mut slow {
        stream.write_all(head).expect("the beginning of a request");
    }
    for (stream, head) in &mut slow {
        // It ends by itself, with or without a word.
        let answer = read_answer(stream);
        println!("{:?} after {:?}: {:?}", head.len(), began.elapsed(), answer.map(|a| a.status));
    }
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    // A client that sends a byte from time to time is no better.
    let mut drip = recorder.tcp().connect();
    let began = Instant::now();
    wait_until("the dripping client to be hung up on", || {
        std::thread::sleep(Duration::from_millis(200));
        drip.write_all(b"x").is_err()
    });
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    assert_unharmed(&recorder);
}

/// As many connections as a host has descriptors for, all of them idle.
#[test]
fn idle_connections_are_bounded_and_root_still_gets_in() {
    let directory = TestDirectory::new();
    let start = Start { arguments: &["--listen", "127.0.0.1:0"], ..Start::default() };
    let recorder = RecorderProcess::start_in(directory, &start);
    raise_descriptors();
    let before = resident_bytes(&recorder);
    let Server::Tcp(address) = recorder.tcp() else { unreachable!("it is TCP") };
    let count = Counts::of(10_000) as usize;
    let mut idle = Vec::new();
    for _ in 0..count {
        // Those that are one too many are closed at once; they count all the same.
        if let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_secs(10)) {
            idle.push(stream);
        }
    }
    // Over the socket it is somebody of the group who takes all places.
    let socket = recorder.directory().join("socket");
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).expect("its mode");
    let (ready, hold) = (Pipe::new(), Pipe::new());
    let somebody = Child::fork(|| {
        // SAFETY: gives up rights, nothing else.
        assert_eq!(unsafe { libc::setuid(65534) }, 0);
        let held: Vec<_> = (0..count.min(2_000)).map(|_| UnixStream::connect(&socket)).collect();
        ready.tell();
        hold.wait();
        i32::from(held.iter().any(Result::is_err))
    });
    ready.wait();
    println!("{} connections over TCP are held", idle.len());
    // The last places are root's: a dump works in the middle of it.
    let file = recorder.dump(&[]);
    // The kernel skips a program that is preempted by another task that needs it: among ten
    // thousand connections it did so now and then, which is counted and not ours to help.
    let lost = recorder.info(&file)["ledger"]["lost"].clone();
    assert_eq!(lost.get("ring_full"), None, "{lost}");
    let grown = resident_bytes(&recorder).saturating_sub(before);
    println!("resident set grew by {} KiB", grown >> 10);
    assert!(grown < 16 << 20, "{grown} bytes more");
    // One after the other they are hung up on, and there is room again.
    wait_until("room over TCP", || {
        let mut stream = TcpStream::connect(address).expect("a connection");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("a limit");
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n");
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said);
        said.starts_with("HTTP/1.1 200")
    });
    let refused = recorder.tcp().get("/metrics").text();
    let line = refused
        .lines()
        .find(|line| line.starts_with("recorder_limits_reached_total{limit=\"connections\"}"));
    let refused: u64 = line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or(0);
    println!("{refused} were refused");
    assert!(refused > 0);
    hold.tell();
    somebody.finish();
    drop(idle);
    assert_unharmed(&recorder);
}

fn resident_bytes(recorder: &RecorderProcess) -> u64 {
    number(&recorder.status()["resident_bytes"])
}

/// As many descriptors as this process may have.
fn raise_descriptors() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is writable, and then holds what the kernel gave.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
}

/// Heads of requests that are no heads.
#[test]
fn what_is_no_http_is_refused() {
    let recorder = RecorderProcess::start();
    let large = format!("GET / HTTP/1.1\r\nhost: {}\r\n\r\n", "x".repeat(1 << 20));
    let many = format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(10_000));
    let requests: [&[u8]; 6] = [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST /v1/dump HTTP/1.1\r\nhost: r\r\ncontent-length: -1\r\n\r\n",
        large.as_bytes(),
        many.as_bytes(),
    ];
    for request in requests {
        let mut stream = recorder.socket().connect();
        // It may be hung up on before all of it is sent.
        let _ = stream.write_all(request);
        let answer = read_answer(&mut stream);
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        assert!(status == 0 || (400..=431).contains(&status), "{:.40?}: {answer:?}", request);
    }
    let length: Value = recorder.status()["segments"].clone();
    assert!(number(&length) > 0);
    assert_unharmed(&recorder);
}
