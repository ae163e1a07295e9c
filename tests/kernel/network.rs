//! TCP: states of both ends, who owns them, resets and retransmissions.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd as _,
    process::{Command, Stdio},
};

use recorder_tests::{
    Child, RecorderProcess, SILENT_PEER, has_program, kind, of_pid, one, run, skip, text, wait_for,
    wait_until,
};
use serde_json::Value;

fn listener() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}

/// Old and new states with the pid, of the end whose `side` is `address`.
fn states(events: &[Value], side: &str, address: &str) -> Vec<(String, String, u64)> {
    let states = kind(events, "tcp_state").into_iter().filter(|event| event[side] == address);
    let word = |event: &Value, name: &str| text(&event[name]).to_string();
    let row = |event: &Value| {
        (word(event, "old"), word(event, "new"), event["pid"].as_u64().unwrap_or_default())
    };
    states.map(row).collect()
}

/// Whether the change is there, by this process.
#[track_caller]
fn assert_change(states: &[(String, String, u64)], old: &str, new: &str, pid: i32) {
    let wanted = (old.to_string(), new.to_string(), u64::from(pid.cast_unsigned()));
    assert!(states.contains(&wanted), "{wanted:?} is missing: {states:?}");
}

/// The parent listens, one child accepts, another connects: each end belongs to
/// the process that holds it.
#[test]
fn both_ends_of_a_connection_have_states_and_processes() {
    let recorder = RecorderProcess::start();
    let (listener, port) = listener();
    let server = Child::fork(|| {
        let serve = || -> std::io::Result<usize> {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(b"word")?;
            // Until the other end is closed.
            stream.read(&mut [0; 8])
        };
        i32::from(!matches!(serve(), Ok(0)))
    });
    let client = Child::fork(|| {
        let ask = || TcpStream::connect(("127.0.0.1", port))?.read_exact(&mut [0; 4]);
        i32::from(ask().is_err())
    });
    let (server, client) = (server.finish(), client.finish());
    let address = format!("127.0.0.1:{port}");
    // The last word of a connection is the kernel's, after both processes ended.
    let events = wait_for("both ends to be closed", || {
        let events = recorder.replay(&recorder.dump(&[]), &[]);
        let closed = |end: &str, last: &str| {
            states(&events, end, &address).iter().any(|(old, new, _)| old == last && new == "CLOSE")
        };
        let both = closed("local", "LAST_ACK")
            && states(&events, "remote", &address).last().is_some_and(|(_, new, _)| new == "CLOSE");
        both.then_some(events)
    });

    let connect = one(&events, "connect", |event| {
        event["name"] == "connect" && event["args"]["uservaddr"] == address.as_str()
    });
    assert_eq!((&connect["pid"], &connect["ret"]), (&client.into(), &0.into()));
    let near = states(&events, "remote", &address);
    assert_change(&near, "CLOSE", "SYN_SENT", client);
    assert_change(&near, "SYN_SENT", "ESTABLISHED", client);
    assert_change(&near, "ESTABLISHED", "FIN_WAIT1", client);
    assert_eq!(
        near.last().map(|(_, new, pid)| (new.as_str(), *pid)),
        Some(("CLOSE", client as u64))
    );

    let far = states(&events, "local", &address);
    let ours = std::process::id().cast_signed();
    assert_change(&far, "CLOSE", "LISTEN", ours);
    // Until somebody accepts it, it belongs to whoever listens.
    assert_change(&far, "SYN_RECV", "ESTABLISHED", ours);
    assert_change(&far, "ESTABLISHED", "CLOSE_WAIT", server);
    assert_change(&far, "CLOSE_WAIT", "LAST_ACK", server);
    assert_change(&far, "LAST_ACK", "CLOSE", server);
    let accept = one(&events, "accept", |event| {
        event["pid"] == server && event["name"] == "accept4" && event["ret"].as_i64() >= Some(0)
    });
    let peer = text(&accept["args"]["upeer_sockaddr"]);
    let peer_states = states(&events, "local", peer);
    assert_change(&peer_states, "SYN_SENT", "ESTABLISHED", client);
    let line = format!("{peer} -> {address}");
    println!("client {client} {line} server {server}");
    assert!(recorder.replay_text(&recorder.dump(&[]), &[]).contains(&address));
}

#[test]
fn a_curl_and_its_server_are_told() {
    if !has_program("curl") {
        skip("there is no curl");
        return;
    }
    let recorder = RecorderProcess::start();
    let (listener, port) = listener();
    let server = Child::fork(|| {
        let serve = || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            let mut asked = [0; 4096];
            let read = stream.read(&mut asked)?;
            assert!(asked[..read].starts_with(b"GET / HTTP/1."));
            stream.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nyes")?;
            // Until the other end is closed.
            stream.read(&mut asked).map(drop)
        };
        i32::from(serve().is_err())
    });
    let url = format!("http://127.0.0.1:{port}/");
    let mut curl = Command::new("curl");
    curl.args(["-s", "--noproxy", "*", &url]).stdout(Stdio::piped());
    let curl = curl.spawn().expect("curl");
    let pid = curl.id().cast_signed();
    assert_eq!(curl.wait_with_output().expect("its answer").stdout, b"yes");
    let server = server.finish();
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &[]);
    let address = format!("127.0.0.1:{port}");
    let connect = one(&events, "connect of curl", |event| {
        event["name"] == "connect" && event["args"]["uservaddr"] == address.as_str()
    });
    assert_eq!(connect["comm"], "curl");
    assert_change(&states(&events, "remote", &address), "SYN_SENT", "ESTABLISHED", pid);
    let far = states(&events, "local", &address);
    assert_change(&far, "ESTABLISHED", "CLOSE_WAIT", server);
    let exec = one(&events, "exec of curl", |event| {
        event["kind"] == "process_exec" && event["pid"] == pid
    });
    assert_eq!(exec["args"].as_array().and_then(|args| args.last()), Some(&url.into()));
}

#[test]
fn a_refused_connection_has_a_reset_on_both_sides() {
    let recorder = RecorderProcess::start();
    let (closed, port) = listener();
    drop(closed);
    let client = Child::fork(|| i32::from(TcpStream::connect(("127.0.0.1", port)).is_ok()));
    let client = client.finish();
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &[]);
    let address = format!("127.0.0.1:{port}");
    let received = one(&events, "reset received", |event| {
        event["kind"] == "tcp_reset_received" && event["remote"] == address.as_str()
    });
    assert_eq!((&received["pid"], &received["state"]), (&client.into(), &"SYN_SENT".into()));
    let missing = recorder.status()["missing"].to_string();
    if missing.contains("ports nobody listens on") {
        skip("this kernel does not trace a reset that belongs to no socket");
    } else {
        let sent = one(&events, "reset sent", |event| {
            event["kind"] == "tcp_reset_sent" && event["local"] == address.as_str()
        });
        assert_eq!(sent["remote"], received["local"]);
    }
    let calls = of_pid(&events, client);
    one(&calls, "connect", |event| event["errno"] == "ECONNREFUSED");
}

#[test]
fn a_connection_that_is_aborted_has_a_reset_on_both_sides() {
    let recorder = RecorderProcess::start();
    let (listener, port) = listener();
    let client = Child::fork(|| {
        let abort = || -> std::io::Result<i32> {
            let mut stream = TcpStream::connect(("127.0.0.1", port))?;
            stream.read_exact(&mut [0; 1])?;
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            let (level, option) = (libc::SOL_SOCKET, libc::SO_LINGER);
            let length = size_of::<libc::linger>() as u32;
            let value = (&raw const linger).cast();
            // SAFETY: a value of the option, as long as is said.
            Ok(unsafe { libc::setsockopt(stream.as_raw_fd(), level, option, value, length) })
        };
        abort().unwrap_or(1)
    });
    let server = Child::fork(|| {
        let serve = || -> std::io::Result<usize> {
            let (mut stream, _) = listener.accept()?;
            stream.write_all(b"x")?;
            stream.read(&mut [0; 8])
        };
        let reset = |error: std::io::Error| error.raw_os_error() == Some(libc::ECONNRESET);
        i32::from(!serve().is_err_and(reset))
    });
    let (client, server) = (client.finish(), server.finish());
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &[]);
    let address = format!("127.0.0.1:{port}");
    let sent = one(&events, "reset sent", |event| {
        event["kind"] == "tcp_reset_sent" && event["remote"] == address.as_str()
    });
    assert_eq!(sent["pid"], client, "{sent}");
    let received = one(&events, "reset received", |event| {
        event["kind"] == "tcp_reset_received" && event["local"] == address.as_str()
    });
    assert_eq!((&received["pid"], &received["state"]), (&server.into(), &"ESTABLISHED".into()));
    assert_eq!((&sent["local"], &sent["remote"]), (&received["remote"], &received["local"]));
}

#[test]
fn a_segment_that_is_sent_again_is_told() {
    if !has_program("ip") {
        skip("there is no ip(8) to make a network with");
        return;
    }
    let recorder = RecorderProcess::start();
    let mut child = Child::fork(|| {
        // SAFETY: only the child leaves the network.
        if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0
            || run(Command::new("sh").args(["-c", SILENT_PEER])).code != Some(0)
        {
            return 3;
        }
        let asked = TcpStream::connect_timeout(
            &([192, 0, 2, 2], 9).into(),
            std::time::Duration::from_secs(20),
        );
        i32::from(asked.is_ok())
    });
    let pid = child.pid().to_string();
    let mut found = None;
    wait_until("a retransmission in a snapshot, or the child to give up", || {
        let file = recorder.dump(&["--since", "30s"]);
        let events = recorder.replay(&file, &["--pid", &pid]);
        found = kind(&events, "tcp_retransmit").first().map(|event| (*event).clone());
        std::fs::remove_file(file).expect("the snapshot");
        found.is_some() || unmade(&mut child)
    });
    let Some(again) = found else {
        skip("a network of its own cannot be made here");
        return;
    };
    assert_eq!((&again["remote"], &again["state"]), (&"192.0.2.2:9".into(), &"SYN_SENT".into()));
    assert!(text(&again["local"]).starts_with("192.0.2.1:"), "{again}");
}

/// Whether the child could not make its network.
fn unmade(child: &mut Child) -> bool {
    child.ended() == Some(recorder_tests::Ended::Code(3))
}
