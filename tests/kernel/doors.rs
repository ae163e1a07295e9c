//! The doors for triggers: who gets a snapshot, who gets none, and what is kept.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use recorder_tests::{
    Child, Counts, RecorderProcess, Start, TestDirectory, binary, free_address,
    http::{Answer, Server, timed},
    run, text, this_host, wait_for, wait_until,
};
use serde_json::{Value, json};

/// What a body of Alertmanager looks like, with one alert.
fn alert(name: &str, instance: &str, fingerprint: &str) -> Value {
    json!({
        "receiver": "rec", "status": "firing", "version": "4", "externalURL": "http://am:9093",
        "groupKey": format!("{{}}:{{alertname=\"{name}\"}}"), "truncatedAlerts": 0,
        "alerts": [{
            "status": "firing", "fingerprint": fingerprint,
            "labels": {"alertname": name, "instance": instance, "severity": "page"},
            "annotations": {"summary": format!("{name} is up")},
            "startsAt": "2026-11-23T02:26:24.469621545Z", "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prom/graph",
        }],
    })
}

#[track_caller]
fn post(server: &Server, door: &str, body: &Value) -> Answer {
    server.post(&format!("/v1/trigger/{door}"), &[], body.to_string().as_bytes())
}

/// The snapshot an answer promised, when it is there.
#[track_caller]
fn promised(answer: &Answer) -> PathBuf {
    assert_eq!(answer.status, 202, "{answer:?}");
    let answer = answer.json();
    let path = Path::new(text(&answer["path"])).to_path_buf();
    let id = text(&answer["id"]);
    assert_eq!(path.file_stem().and_then(|stem| stem.to_str()), Some(id), "{answer}");
    wait_until("the promised snapshot", || path.is_file());
    path
}

#[test]
fn an_alert_takes_one_snapshot_with_its_words() {
    let recorder = RecorderProcess::start();
    let server = recorder.socket();
    let body = alert("HighLatency", &format!("{}:9100", this_host()), "3899d7aab40bf7bf");
    let (answer, took) = timed(|| post(&server, "alertmanager", &body));
    println!("answered after {took:?}");
    let file = promised(&answer);
    let info = recorder.info(&file);
    let trigger = &info["trigger"];
    assert_eq!(trigger["source"], "alertmanager");
    assert_eq!(trigger["name"], "HighLatency");
    assert_eq!(trigger["reason"], "HighLatency is up");
    assert_eq!(trigger["labels"]["severity"], "page");
    assert_eq!(trigger["annotations"]["summary"], "HighLatency is up");
    assert_eq!(trigger["links"]["generator"], "http://prom/graph");
    assert_eq!(trigger["starts_at"], "2026-11-23T02:26:24.469621545Z");
    assert_eq!(info["ledger"]["closes"], true);

    // Again, resolved, for another host: none of it takes a snapshot.
    let again = post(&server, "alertmanager", &body);
    assert_eq!((again.status, text(&again.json()["path"])), (200, file.to_str().expect("UTF-8")));
    let resolved = body.to_string().replace("\"firing\"", "\"resolved\"");
    let resolved = server.post("/v1/trigger/alertmanager", &[], resolved.as_bytes());
    assert_eq!((resolved.status, resolved.json()["ignored"].clone()), (200, json!("resolved")));
    let other = post(&server, "alertmanager", &alert("Down", "db-other:9100", "01"));
    assert_eq!(other.status, 200);
    assert!(text(&other.json()["ignored"]).contains("db-other"), "{other:?}");
    assert_eq!(recorder.files(), std::slice::from_ref(&file));

    // Nor does it after a restart, or after it was killed.
    let directory = recorder.stop();
    let recorder = RecorderProcess::start_in(directory, &Start::default());
    let known = post(&recorder.socket(), "alertmanager", &body);
    assert_eq!((known.status, &known.json()["path"]), (200, &answer.json()["path"]));
    let directory = recorder.kill();
    let recorder = RecorderProcess::start_in(directory, &Start::default());
    let known = post(&recorder.socket(), "alertmanager", &body);
    assert_eq!((known.status, &known.json()["path"]), (200, &answer.json()["path"]));
    assert_eq!(recorder.files(), [file]);
}

/// A secret nobody but its owner may read.
fn secret_file(directory: &TestDirectory, name: &str, text: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, text).expect("a secret");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("its mode");
    path.to_string_lossy().into_owned()
}

/// HMAC-SHA256 as another program makes it.
#[track_caller]
fn sign(secret: &str, message: &str) -> String {
    let script = "printf %s \"$2\" | openssl dgst -sha256 -hmac \"$1\"";
    let outcome = run(Command::new("sh").args(["-c", script, "sh", secret, message])).succeeded();
    outcome.text().trim().rsplit(' ').next().expect("a signature").to_string()
}

fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("a time after 1970").as_secs()
}

/// As PagerDuty sends it, with one incident.
fn incident(id: &str, occurred_at: &str) -> String {
    json!({"event": {
        "id": id, "event_type": "incident.triggered", "resource_type": "incident",
        "occurred_at": occurred_at, "agent": null, "client": null,
        "data": {
            "id": "PGR0VU2", "type": "incident", "number": 2, "status": "triggered",
            "title": "A little bump in the road", "urgency": "high",
            "html_url": "https://acme.pagerduty.com/incidents/PGR0VU2",
            "service": {"id": "PF9KMXH", "summary": "API Service"},
        },
    }})
    .to_string()
}

fn utc(seconds_ago: u64) -> String {
    let at = format!("@{}", now_s() - seconds_ago);
    let date = run(Command::new("date").args(["-u", "-d", &at, "+%Y-%m-%dT%H:%M:%SZ"]));
    date.succeeded().text().trim().to_string()
}

/// A recorder behind TCP whose doors have secrets: Grafana's one with a signed time,
/// PagerDuty's two during a rotation, and a token.
fn with_secrets() -> RecorderProcess {
    let directory = TestDirectory::new();
    let grafana = secret_file(&directory, "grafana", "g-secret\n");
    let pagerduty = secret_file(&directory, "pagerduty", "# new, then old\np-new\np-old\n");
    let token = secret_file(&directory, "token", "t0ken\n");
    let config = format!(
        "[access]\ntoken_file = \"{token}\"\n\
         [trigger]\ncooldown = \"0s\"\n\
         [trigger.grafana]\nsecret_file = \"{grafana}\"\ntimestamp_header = \"X-Time\"\n\
         [trigger.pagerduty]\nsecret_file = \"{pagerduty}\"\n"
    );
    let start = Start { config: &config, arguments: &["--listen", "127.0.0.1:0"], wrapper: &[] };
    RecorderProcess::start_in(directory, &start)
}

#[track_caller]
fn assert_unproven(refused: &[Answer]) {
    for (place, answer) in refused.iter().enumerate() {
        assert_eq!(answer.status, 401, "{place}: {answer:?}");
        assert!(answer.head.contains("application/problem+json"), "{answer:?}");
    }
}

#[test]
fn a_right_signature_of_grafana_takes_one_snapshot_and_a_wrong_one_none() {
    let recorder = with_secrets();
    let server = recorder.tcp();
    let body = alert("T", &this_host(), "57c6d9296de2ad39").to_string();
    let door = |time: &str, signature: &str, body: &str| {
        let headers = [("X-Grafana-Alerting-Signature", signature), ("X-Time", time)];
        server.post("/v1/trigger/grafana", &headers, body.as_bytes())
    };
    let now = now_s().to_string();
    let right = sign("g-secret", &format!("{now}:{body}"));
    let old = (now_s() - 600).to_string();
    let untimed = [("X-Grafana-Alerting-Signature", right.as_str())];
    assert_unproven(&[
        door(&now, &sign("other", &format!("{now}:{body}")), &body),
        door(&now, &right, &body.replace("page", "Page")),
        door(&(now_s() + 1).to_string(), &right, &body),
        door(&old, &sign("g-secret", &format!("{old}:{body}")), &body),
        door(&now, "", &body),
        server.post("/v1/trigger/grafana", &untimed, body.as_bytes()),
        server.post("/v1/trigger/grafana", &[], body.as_bytes()),
        server.post("/v1/trigger/grafana", &[("authorization", "Bearer t0ke")], body.as_bytes()),
    ]);
    assert_eq!(recorder.files(), Vec::<PathBuf>::new());
    let file = promised(&door(&now, &right, &body));
    let played_again = door(&now, &right, &body);
    assert_eq!(played_again.status, 200, "{played_again:?}");
    assert_eq!(recorder.files(), [file]);
}

#[test]
fn a_right_signature_of_pagerduty_takes_one_snapshot_also_while_keys_are_rotated() {
    let recorder = with_secrets();
    let server = recorder.tcp();
    let page = |signature: &str, delivery: &str, body: &str| {
        let headers = [("X-PagerDuty-Signature", signature), ("X-Webhook-Id", delivery)];
        server.post("/v1/trigger/pagerduty", &headers, body.as_bytes())
    };
    let body = incident("5ac64822-4adc-4fda", &utc(1));
    // Signed with a key we do not have yet and one that we still have.
    let both = format!("v1={},v1={}", sign("p-next", &body), sign("p-old", &body));
    let stale = incident("5ac64822-4adc-4fda", &utc(7200));
    assert_unproven(&[
        page(&format!("v1={}", sign("p-wrong", &body)), "d1", &body),
        page(&both, "d1", &body.replace("bump", "dump")),
        page(&sign("p-old", &body), "d1", &body),
        page(&format!("v1={}", sign("p-new", &stale)), "d1", &stale),
        server.post("/v1/trigger/pagerduty", &[], body.as_bytes()),
    ]);
    assert_eq!(recorder.files(), Vec::<PathBuf>::new());
    let file = promised(&page(&both, "d1", &body));
    let again = page(&format!("v1={}", sign("p-new", &body)), "d2", &body);
    assert_eq!(again.status, 200, "the same event by another delivery: {again:?}");
    let acknowledged = body.replace("incident.triggered", "incident.acknowledged");
    let signed = format!("v1={}", sign("p-new", &acknowledged));
    assert_eq!(page(&signed, "d3", &acknowledged).status, 200);
    assert_eq!(recorder.files(), std::slice::from_ref(&file));
    let info = recorder.info(&file);
    assert_eq!(info["trigger"]["labels"]["service"], "API Service");
    assert_eq!(info["trigger"]["reason"], "A little bump in the road");
}

#[test]
fn over_tcp_a_token_opens_every_door_and_nothing_else_opens_the_rest() {
    let recorder = with_secrets();
    let server = recorder.tcp();
    let bearer = [("authorization", "Bearer t0ken")];
    let body = alert("U", &this_host(), "02").to_string();
    promised(&server.post("/v1/trigger/alertmanager", &bearer, body.as_bytes()));
    assert_unproven(&[
        server.get("/v1/status"),
        server.get("/v1/snapshots"),
        server.post("/v1/dump", &[], b"{}"),
        server.post("/v1/trigger/generic", &[], b"{}"),
    ]);
    assert_eq!(server.send("GET", "/v1/status", &bearer, b"").status, 200);
    for open in ["/metrics", "/healthz", "/readyz", "/-/healthy", "/-/ready"] {
        assert_eq!(server.get(open).status, 200, "{open}");
    }
    let plain = server.send("POST", "/v1/trigger/generic", &bearer, b"{}");
    assert_eq!(plain.status, 415, "a web page could send that: {plain:?}");
    // Without any secret the doors are open on this host, and the rest is not.
    let start = Start { arguments: &["--listen", "127.0.0.1:0"], ..Start::default() };
    let recorder = RecorderProcess::start_in(TestDirectory::new(), &start);
    promised(&post(&recorder.tcp(), "generic", &json!({"reason": "r"})));
    assert_eq!(recorder.tcp().get("/v1/status").status, 403);
}

#[test]
fn an_address_others_reach_needs_a_secret() {
    let directory = TestDirectory::new();
    let start = Start { arguments: &["--listen", "0.0.0.0:0"], ..Start::default() };
    let refused = RecorderProcess::refused(&directory, &start);
    println!("{}", refused.stderr.trim_end());
    refused.failed_with(2, &["0.0.0.0:0", "token_file", "127.0.0.1"]);
    let open = directory.join("open");
    fs::write(&open, "secret").expect("a file");
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).expect("its mode");
    let config = format!("[access]\ntoken_file = \"{}\"\n", open.display());
    let start = Start { config: &config, ..Start::default() };
    RecorderProcess::refused(&directory, &start).failed_with(2, &["open", "chmod"]);
    let token = secret_file(&directory, "token", "t0ken");
    let config = format!("[access]\ntoken_file = \"{token}\"\n");
    // In a network of its own, so that nothing listens where others are.
    let start = Start {
        arguments: &["--listen", "0.0.0.0:0"],
        config: &config,
        wrapper: &["unshare", "-n"],
    };
    let recorder = RecorderProcess::start_in(directory, &start);
    assert!(recorder.said().contains("listen 0.0.0.0:"), "{}", recorder.said());
    // The address cannot be given up while it runs, so the secret cannot either.
    fs::write(recorder.directory().join("recorder.toml"), "").expect("a configuration");
    recorder.signal(libc::SIGHUP);
    wait_until("the complaint", || recorder.log().contains("the old configuration stays"));
}

/// Many triggers at once, from several sources.
#[test]
fn a_storm_makes_few_files_and_each_answer_names_one() {
    const SOURCES: u64 = 5;
    let recorder = RecorderProcess::start();
    let server = recorder.socket();
    let each = Counts::of(1000) / SOURCES;
    let senders: Vec<_> = (0..SOURCES)
        .map(|source| {
            let server = server.clone();
            std::thread::spawn(move || {
                let ask = |place: u64| {
                    let (name, key) = (format!("alert{source}"), format!("{source}-{place}"));
                    let body = json!({"reason": name, "key": key, "source": "storm"});
                    let (answer, took) = timed(|| post(&server, "generic", &body));
                    assert_eq!(answer.status, 202, "{answer:?}");
                    (text(&answer.json()["path"]).to_string(), took)
                };
                (0..each).map(ask).collect::<Vec<_>>()
            })
        })
        .collect();
    let answers: Vec<(String, Duration)> =
        senders.into_iter().flat_map(|sender| sender.join().expect("a sender")).collect();
    let mut took: Vec<Duration> = answers.iter().map(|(_, took)| *took).collect();
    took.sort();
    let last = took.len() - 1;
    println!("{} answers, median {:?}, slowest {:?}", took.len(), took[last / 2], took[last]);
    let mut named: Vec<String> = answers.into_iter().map(|(path, _)| path).collect();
    named.sort();
    named.dedup();
    assert!((1..=2).contains(&named.len()), "{named:?}");
    // At its end the recorder takes what it has promised.
    let directory = recorder.stop();
    for path in &named {
        assert!(Path::new(path).is_file(), "{path} was promised");
        run(Command::new(binary()).arg("verify").arg(path)).succeeded();
    }
    let recorder = RecorderProcess::start_in(directory, &Start::default());
    assert_eq!(recorder.files().len(), named.len());
    let kept: u64 = named
        .iter()
        .map(|path| {
            let trigger = recorder.info(Path::new(path))["trigger"].clone();
            let also = trigger["also"].as_array().map_or(0, Vec::len) as u64;
            1 + also + trigger["also_left_out"].as_u64().unwrap_or_default()
        })
        .sum();
    assert_eq!(kept, each * SOURCES, "every trigger is in a file, or counted there");
}

#[test]
fn who_comes_during_the_after_of_another_joins_it() {
    let recorder = RecorderProcess::start_configured("[trigger]\nafter = \"1s\"\n");
    let server = recorder.socket();
    let first = post(&server, "generic", &json!({"reason": "one", "name": "a", "key": "1"}));
    let second = post(&server, "alertmanager", &alert("B", &this_host(), "03"));
    assert_eq!((first.status, second.status), (202, 202));
    assert_eq!(first.json()["path"], second.json()["path"]);
    assert_eq!(second.json()["joined"], true);
    // What happens now is before the snapshot is taken.
    let pid = Child::fork(|| 0).finish();
    let file = promised(&first);
    let trigger = recorder.info(&file)["trigger"].clone();
    assert_eq!(trigger["reason"], "one");
    assert_eq!(trigger["also"][0]["name"], "B");
    assert_eq!(trigger["also"][0]["labels"]["severity"], "page");
    let ended = recorder.replay(&file, &["--pid", &pid.to_string()]);
    assert!(ended.iter().any(|event| event["kind"] == "process_exit"), "{ended:?}");
    let shown = run(Command::new(binary()).arg("info").arg(&file)).succeeded();
    assert!(shown.text().contains("also    alertmanager: B: B is up"), "{}", shown.text());
    assert_eq!(recorder.files(), [file]);
}

#[test]
fn limits_are_said_and_a_person_is_exempt_from_the_one_an_hour() {
    let config = "[trigger]\ncooldown = \"0s\"\nper_hour_max = 2\n";
    let recorder = RecorderProcess::start_configured(config);
    let server = recorder.socket();
    for key in ["1", "2"] {
        promised(&post(&server, "generic", &json!({"reason": "r", "key": key})));
    }
    let refused = post(&server, "generic", &json!({"reason": "r", "key": "3"}));
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(refused.head.contains("retry-after: "), "{}", refused.head);
    assert!(text(&refused.json()["detail"]).contains("at most 2"), "{refused:?}");
    let outcome = run(&mut recorder.command("trigger", &["--reason", "r"]));
    outcome.failed_with(75, &["at most 2"]);
    recorder.dump(&[]);
    // An hour has to pass also across a restart.
    let directory = recorder.stop();
    let recorder = RecorderProcess::start_in(directory, &Start { config, ..Start::default() });
    assert_eq!(post(&recorder.socket(), "generic", &json!({"reason": "r"})).status, 429);
    let metrics = recorder.socket().get("/metrics").text();
    let line = "recorder_triggers_total{outcome=\"refused\",source=\"generic\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[test]
fn a_share_of_the_disk_stays_free() {
    let recorder = RecorderProcess::start_configured("[keep]\nfree_percent_min = 99\n");
    let stat = run(Command::new("stat").args(["-f", "-c", "%a %b"]).arg(recorder.snapshots()));
    let blocks: Vec<u64> = stat.text().split_whitespace().flat_map(str::parse).collect();
    if matches!(blocks.as_slice(), [free, all] if free * 100 >= all * 99) {
        // In a virtual machine everything lies in memory, and there is a lot of that.
        recorder_tests::skip("hardly anything is on this disk: no share of it is short");
        return;
    }
    let refused = post(&recorder.socket(), "generic", &json!({"reason": "r"}));
    assert_eq!(refused.status, 429, "{refused:?}");
    assert!(text(&refused.json()["detail"]).contains("99 % stay free"), "{refused:?}");
    let outcome = run(&mut recorder.command("dump", &[]));
    println!("{}", outcome.stderr.trim_end());
    outcome.failed_with(73, &["no space left", "free_percent_min"]);
    assert_eq!(recorder.files(), Vec::<PathBuf>::new());
    assert_eq!(recorder.status()["recording"], true);
}

#[test]
fn old_snapshots_expire_and_marked_ones_stay() {
    let recorder = RecorderProcess::start_configured("[keep]\ncount_max = 2\n");
    let marked = recorder.dump(&["--keep", "--reason", "the first"]);
    let second = recorder.dump(&[]);
    let third = recorder.dump(&[]);
    let sorted = |mut paths: Vec<PathBuf>| {
        paths.sort();
        paths
    };
    let kept = sorted(vec![marked.clone(), third.clone()]);
    assert_eq!(recorder.files(), kept, "{} has expired", second.display());
    let name =
        |path: &Path| path.file_name().and_then(|name| name.to_str()).expect("a name").to_string();
    let server = recorder.socket();
    let listed = server.get("/v1/snapshots").json();
    let listed = listed.as_array().expect("a list");
    let of = |path: &Path| listed.iter().find(|row| row["name"] == name(path).as_str());
    assert_eq!(of(&marked).expect("the first one")["kept"], true, "{listed:?}");
    assert_eq!(of(&third).expect("the last one")["kept"], false, "{listed:?}");
    let mark = format!("/v1/snapshots/{}/keep", name(&marked));
    assert_eq!(server.send("DELETE", &mark, &[], b"").status, 204);
    let fourth = recorder.dump(&[]);
    assert_eq!(recorder.files(), sorted(vec![third, fourth]));
    for wrong in ["..%2f..%2fetc%2fpasswd", "x.kfr", ".triggers.json", "%00", "a%0ab-00000000.kfr"]
    {
        let path = format!("/v1/snapshots/{wrong}");
        assert_eq!(server.get(&path).status, 404, "{wrong}");
        assert_eq!(server.send("POST", &format!("{path}/keep"), &[], b"").status, 404, "{wrong}");
    }
}

/// A hook that hangs is ended; one that cannot be run is told; neither costs a
/// snapshot or an event.
#[test]
fn a_hook_that_hangs_or_fails_costs_nothing_else() {
    let directory = TestDirectory::new();
    let (script, seen) = (directory.join("hook"), directory.join("seen"));
    let text = format!("echo \"$RECORDER_SOURCE $1\" >> {}; exec sleep 1000\n", seen.display());
    fs::write(&script, text).expect("a script");
    let config = format!(
        "[hook]\ncommand = [\"/bin/sh\", \"{}\", \"{{path}}\"]\ntimeout = \"500ms\"\n",
        script.display()
    );
    let start = Start { config: &config, ..Start::default() };
    let recorder = RecorderProcess::start_in(directory, &start);
    let file = recorder.dump(&[]);
    wait_until("the hook", || {
        let said = fs::read_to_string(&seen).unwrap_or_default();
        said.trim() == format!("manual {}", file.display())
    });
    let metric = |line: &str| recorder.socket().get("/metrics").text().contains(line);
    wait_until("the end of the hook", || metric("recorder_hook_runs_total{result=\"timeout\"} 1"));
    assert!(recorder.log().contains("took longer"), "{}", recorder.log());

    let config = "[hook]\ncommand = [\"/nonexistent/hook\"]\n";
    fs::write(recorder.directory().join("recorder.toml"), config).expect("a configuration");
    recorder.signal(libc::SIGHUP);
    wait_until("the new configuration", || recorder.log().contains("read again"));
    let file = recorder.dump(&[]);
    wait_until("the hook to fail", || metric("recorder_hook_runs_total{result=\"failed\"} 1"));
    let ledger = recorder.info(&file)["ledger"].clone();
    assert_eq!((&ledger["closes"], &ledger["lost"]), (&json!(true), &json!({})), "{ledger}");
    assert_eq!(recorder.status()["recording"], true);
}

#[test]
fn a_typo_in_the_configuration_is_refused_at_the_start_and_ignored_later() {
    let directory = TestDirectory::new();
    for (config, words) in [
        ("[trigger]\ncooldwn = \"1s\"\n", ["cooldwn", "line 2"]),
        ("[trigger]\nafter = \"5\"\n", ["`5` is not a duration", "line 2"]),
        ("[keep]\nfree_percent_min = 100\n", ["free_percent_min", "between 0 and 99"]),
        ("[hook]\ncommand = [\"upload\"]\n", ["whole path", "upload"]),
        ("listen = \"nowhere\"\n", ["nowhere", "127.0.0.1:9774"]),
        ("[trigger.pagerduty]\nsecret_file = \"/nonexistent\"\n", ["/nonexistent", "No such"]),
    ] {
        let start = Start { config, ..Start::default() };
        let outcome = RecorderProcess::refused(&directory, &start);
        println!("{}", outcome.stderr.trim_end());
        assert!(matches!(outcome.code, Some(1 | 2)), "{outcome:?}");
        for word in words {
            assert!(outcome.stderr.contains(word), "{word} is missing: {}", outcome.stderr);
        }
    }
    let recorder = RecorderProcess::start_configured("[trigger]\nafter = \"0s\"\n");
    fs::write(recorder.directory().join("recorder.toml"), "x = 1\n").expect("a configuration");
    recorder.signal(libc::SIGHUP);
    wait_until("the complaint", || recorder.log().contains("the old configuration stays"));
    promised(&post(&recorder.socket(), "generic", &json!({"reason": "r"})));
}

#[test]
fn sockets_of_a_service_manager_are_taken() {
    if !recorder_tests::has_program("systemd-socket-activate") {
        recorder_tests::skip("there is no systemd-socket-activate");
        return;
    }
    let directory = TestDirectory::new();
    let socket = directory.join("inherited");
    let address = free_address().to_string();
    let mut command = Command::new("systemd-socket-activate");
    command.arg("--listen").arg(&socket).args(["--listen", &address]).arg(binary());
    command.args(["record", "--socket", "/nonexistent/socket", "--snapshots"]);
    command.arg(directory.join("snapshots")).arg("--config").arg("/dev/null");
    let log = fs::File::create(directory.join("log")).expect("a log");
    let mut daemon = command.stdout(log.try_clone().expect("a log")).stderr(log).spawn();
    let daemon = daemon.as_mut().expect("systemd-socket-activate");
    wait_until("the socket", || socket.exists());
    let ask = || run(Command::new(binary()).arg("dump").arg("--socket").arg(&socket));
    let outcome = wait_for("a snapshot", || Some(ask()).filter(|outcome| outcome.code == Some(0)));
    assert!(Path::new(outcome.text().trim()).is_file(), "{outcome:?}");
    let status = run(Command::new(binary()).args(["status", "--socket"]).arg(&socket));
    assert!(status.succeeded().text().contains(&format!("listen    {address}")));
    assert!(!directory.join("inherited.lock").exists(), "the manager's socket needs no lock");
    // SAFETY: our child and not reaped, so the number is its own.
    assert_eq!(unsafe { libc::kill(daemon.id().cast_signed(), libc::SIGTERM) }, 0);
    let ended = wait_for("its end", || daemon.try_wait().ok().flatten());
    let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
    assert!(ended.success(), "{ended}: {log}");
    assert!(socket.exists(), "the manager's socket is not removed");
}
