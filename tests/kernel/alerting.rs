//! Real alerting systems in front of the recorder: Debian's Alertmanager and Nagios,
//! from packages that are unpacked and not installed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use recorder_tests::{
    RecorderProcess, Start, TestDirectory, binary, free_address, http::Server, run, skip, text,
    this_host, unpacked, wait_until,
};
use serde_json::{Value, json};

/// A program that is killed at the end of a test.
struct Service(Child);

impl Service {
    #[track_caller]
    fn start(command: &mut Command, log: &Path) -> Service {
        let log = fs::File::create(log).expect("a log");
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a log")).stderr(log);
        Service(command.spawn().expect("a program that starts"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts Alertmanager with the recorder as its receiver.
fn alertmanager(
    home: &Path,
    directory: &TestDirectory,
    receiver: &str,
    repeat: &str,
) -> (Service, Server) {
    let address = free_address();
    let config = directory.join("alertmanager.yml");
    let text = format!(
        "route: {{receiver: recorder, group_by: [alertname], group_wait: 0s, \
         group_interval: 1s, repeat_interval: {repeat}}}\n\
         receivers:\n- name: recorder\n  webhook_configs:\n  - url: {receiver}\n    \
         send_resolved: true\n"
    );
    fs::write(&config, text).expect("a configuration");
    let mut command = Command::new("unshare");
    // It wants its templates where the package would have put them.
    let script = "mount -t tmpfs none /usr/share && mkdir -p /usr/share/prometheus \
                  && ln -s \"$0/usr/share/prometheus/alertmanager\" /usr/share/prometheus/ \
                  && exec \"$0/usr/bin/prometheus-alertmanager\" \"$@\"";
    command.args(["-m", "sh", "-c", script]).arg(home);
    command.arg(format!("--config.file={}", config.display()));
    command.arg(format!("--storage.path={}", directory.join("data").display()));
    command.arg(format!("--web.listen-address={address}")).arg("--cluster.listen-address=");
    let service = Service::start(&mut command, &directory.join("alertmanager.log"));
    wait_until("Alertmanager", || std::net::TcpStream::connect(address).is_ok());
    (service, Server::Tcp(address))
}

/// Tells Alertmanager of an alert, as Prometheus would.
#[track_caller]
fn fire(server: &Server, name: &str, instance: &str, ends_at: Option<&str>) {
    let mut alert = json!({
        "labels": {"alertname": name, "instance": instance, "severity": "page"},
        "annotations": {"summary": format!("{name} on {instance}")},
        "startsAt": "2026-11-23T02:26:24Z",
        "generatorURL": "http://prometheus/graph",
    });
    if let (Some(ends_at), Some(fields)) = (ends_at, alert.as_object_mut()) {
        fields.insert("endsAt".into(), ends_at.into());
    }
    let body = json!([alert]).to_string();
    let answer = server.post("/api/v2/alerts", &[], body.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// How often the recorder's door of Alertmanager was knocked at, by outcome.
fn knocks(recorder: &RecorderProcess, outcome: &str) -> u64 {
    let metrics = recorder.socket().get("/metrics").text();
    let name = format!("recorder_triggers_total{{outcome=\"{outcome}\",source=\"alertmanager\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.map_or(0, |count| count.parse().expect("a number"))
}

fn package(name: &str, program: &str) -> Option<PathBuf> {
    let home = unpacked(name).unwrap_or_else(|| PathBuf::from("/"));
    home.join(program).is_file().then_some(home)
}

#[test]
fn a_real_alertmanager_takes_exactly_one_snapshot_for_an_alert() {
    let Some(home) = package("prometheus-alertmanager", "usr/bin/prometheus-alertmanager") else {
        skip("there is no prometheus-alertmanager: `cargo xtask setup --tests` unpacks it");
        return;
    };
    let listen = free_address().to_string();
    let start = Start { arguments: &["--listen", &listen], ..Start::default() };
    let recorder = RecorderProcess::start_in(TestDirectory::new(), &start);
    let directory = TestDirectory::new();
    let receiver = format!("http://{listen}/v1/trigger/alertmanager");
    let (_service, server) = alertmanager(&home, &directory, &receiver, "1s");

    fire(&server, "HighLatency", &this_host(), None);
    wait_until("the snapshot of the alert", || recorder.files().len() == 1);
    let file = recorder.files().remove(0);
    let info = recorder.info(&file);
    let trigger = &info["trigger"];
    assert_eq!(trigger["source"], "alertmanager");
    assert_eq!(trigger["labels"]["alertname"], "HighLatency");
    assert_eq!(trigger["labels"]["instance"], this_host());
    assert_eq!(trigger["labels"]["severity"], "page");
    assert!(text(&trigger["annotations"]["summary"]).starts_with("HighLatency on"));
    assert!(text(&trigger["links"]["alertmanager"]).starts_with("http://"), "{trigger}");
    assert_eq!(info["ledger"]["closes"], true);

    // It repeats: the interval is a second.
    wait_until("a repetition", || knocks(&recorder, "ignored") >= 1);
    assert_eq!((recorder.files().len(), knocks(&recorder, "accepted")), (1, 1));

    // A restart in between changes nothing.
    let directory_of_recorder = recorder.stop();
    let recorder = RecorderProcess::start_in(directory_of_recorder, &start);
    wait_until("a repetition after the restart", || knocks(&recorder, "ignored") >= 1);
    assert_eq!((recorder.files().len(), knocks(&recorder, "accepted")), (1, 0));

    // An alert of another host takes none.
    let ignored = knocks(&recorder, "ignored");
    fire(&server, "DiskSlow", "db-other:9100", None);
    wait_until("the other alert", || recorder.log().contains("db-other"));
    assert!(knocks(&recorder, "ignored") > ignored);

    // Neither does its end: both groups are resolved, and nothing more is to come.
    for (name, instance) in [("HighLatency", this_host()), ("DiskSlow", "db-other:9100".into())] {
        fire(&server, name, &instance, Some("2026-11-24T02:26:24Z"));
    }
    wait_until("the end of the alert", || recorder.log().contains("ignored: resolved"));
    assert_eq!((recorder.files(), knocks(&recorder, "accepted")), (vec![file], 0));
    println!("accepted 1, ignored {} after the restart", knocks(&recorder, "ignored"));
}

/// The configuration of a Nagios that knows one service, fails it by a check of ours,
/// and watches the recorder by its plugin.
fn nagios_config(recorder: &RecorderProcess, directory: &TestDirectory, host: &str) -> PathBuf {
    let path = directory.path().display();
    let (program, socket) = (binary().display().to_string(), recorder.directory().join("socket"));
    let socket = socket.display();
    let objects = format!(
        "define timeperiod {{\n timeperiod_name always\n alias always\n sunday 00:00-24:00\n \
         monday 00:00-24:00\n tuesday 00:00-24:00\n wednesday 00:00-24:00\n \
         thursday 00:00-24:00\n friday 00:00-24:00\n saturday 00:00-24:00\n}}\n\
         define command {{\n command_name fails\n command_line /bin/sh {path}/fails\n}}\n\
         define command {{\n command_name recorder\n command_line {program} check --socket \
         {socket}\n}}\n\
         define command {{\n command_name snapshot\n command_line {program} trigger nagios \
         --socket {socket} \"$SERVICESTATE$\" \"$SERVICESTATETYPE$\" \"$SERVICEATTEMPT$\" \
         \"$HOSTNAME$\" \"$SERVICEDESC$\" --output \"$SERVICEOUTPUT$\" --problem \
         \"$SERVICEPROBLEMID$\" >> {path}/handler 2>&1\n}}\n\
         define contact {{\n contact_name nobody\n host_notifications_enabled 0\n \
         service_notifications_enabled 0\n host_notification_period always\n \
         service_notification_period always\n host_notification_commands fails\n \
         service_notification_commands fails\n}}\n\
         define host {{\n host_name {host}\n address 127.0.0.1\n max_check_attempts 1\n \
         check_period always\n contacts nobody\n}}\n\
         define service {{\n host_name {host}\n service_description disk\n check_command fails\n \
         event_handler snapshot\n event_handler_enabled 1\n max_check_attempts 2\n \
         check_interval 1\n retry_interval 1\n check_period always\n \
         contacts nobody\n}}\n\
         define service {{\n host_name {host}\n service_description recorder\n \
         check_command recorder\n max_check_attempts 1\n check_interval 1\n \
         check_period always\n contacts nobody\n}}\n"
    );
    fs::write(directory.join("objects.cfg"), objects).expect("objects");
    let script = format!("cat {path}/state\nexit $(cat {path}/code)\n");
    fs::write(directory.join("fails"), script).expect("a check");
    let main = format!(
        "log_file={path}/nagios.log\ncfg_file={path}/objects.cfg\n\
         object_cache_file={path}/objects.cache\nstatus_file={path}/status.dat\n\
         lock_file={path}/nagios.lock\ntemp_file={path}/nagios.tmp\ntemp_path={path}\n\
         check_result_path={path}/results\nstate_retention_file={path}/retention.dat\n\
         command_file={path}/nagios.cmd\nquery_socket={path}/nagios.qh\n\
         nagios_user=root\nnagios_group=root\ninterval_length=1\nstatus_update_interval=1\n\
         enable_event_handlers=1\nexecute_service_checks=1\ncheck_external_commands=0\n\
         service_inter_check_delay_method=n\nmax_service_check_spread=1\nuse_syslog=0\n\
         check_for_updates=0\nlog_event_handlers=1\nillegal_macro_output_chars=`~$&|'\"<>\n"
    );
    let config = directory.join("nagios.cfg");
    fs::create_dir(directory.join("results")).expect("a directory");
    fs::write(&config, main).expect("a configuration");
    config
}

/// What Nagios thinks of a service.
fn state_of(directory: &TestDirectory, service: &str) -> (String, String) {
    let status = fs::read_to_string(directory.join("status.dat")).unwrap_or_default();
    let block = status
        .split("servicestatus {")
        .find(|block| block.contains(&format!("service_description={service}\n")))
        .unwrap_or_default();
    let field = |name: &str| {
        let line = block.lines().find_map(|line| line.trim().strip_prefix(name));
        line.and_then(|rest| rest.strip_prefix('=')).unwrap_or_default().to_string()
    };
    (field("current_state"), field("plugin_output"))
}

#[test]
fn a_real_nagios_runs_the_handler_and_the_check() {
    let Some(home) = package("nagios4-core", "usr/sbin/nagios4") else {
        skip("there is no nagios4-core: `cargo xtask setup --tests` unpacks it");
        return;
    };
    let recorder = RecorderProcess::start();
    let directory = TestDirectory::new();
    let host = this_host();
    let config = nagios_config(&recorder, &directory, &host);
    let (state, code) = (directory.join("state"), directory.join("code"));
    fs::write(&state, "fine").expect("a state");
    fs::write(&code, "0").expect("a code");
    let mut command = Command::new(home.join("usr/sbin/nagios4"));
    let _service = Service::start(command.arg(&config), &directory.join("output"));
    let log = || fs::read_to_string(directory.join("nagios.log")).unwrap_or_default();
    wait_until("Nagios to find the service well", || {
        let (current, output) = state_of(&directory, "disk");
        current == "0" && output == "fine"
    });
    wait_until("Nagios to run the plugin", || {
        let (current, output) = state_of(&directory, "recorder");
        current == "0" && output.starts_with("RECORDER OK - window ")
    });
    assert_eq!(recorder.files(), Vec::<PathBuf>::new(), "no problem, no snapshot");

    fs::write(&state, "99 % full; $(reboot)").expect("a state");
    fs::write(&code, "2").expect("a code");
    wait_until("the snapshot of the hard problem", || recorder.files().len() == 1);
    let file = recorder.files().remove(0);
    let trigger = recorder.info(&file)["trigger"].clone();
    assert_eq!((&trigger["source"], &trigger["name"]), (&json!("nagios"), &json!("disk")));
    assert_eq!(trigger["labels"]["host"], host);
    assert_eq!(trigger["labels"]["state"], "CRITICAL");
    assert_eq!(trigger["labels"]["state_type"], "HARD");
    assert!(text(&trigger["reason"]).contains("99 % full"), "{trigger}");
    let handler = fs::read_to_string(directory.join("handler")).unwrap_or_default();
    assert!(handler.contains("no snapshot: CRITICAL SOFT 1"), "{handler}\n{}", log());

    // Well again: the handler runs and takes none.
    fs::write(&code, "0").expect("a code");
    wait_until("the recovery", || {
        let handler = fs::read_to_string(directory.join("handler")).unwrap_or_default();
        handler.contains("no snapshot: OK")
    });
    assert_eq!(recorder.files(), [file]);

    // A recorder that is gone is a problem of its own.
    recorder.stop();
    wait_until("Nagios to miss the recorder", || {
        let (current, output) = state_of(&directory, "recorder");
        current == "2" && output.contains("no recorder answers")
    });
}

#[test]
fn the_plugin_ends_with_the_codes_of_nagios() {
    let recorder = RecorderProcess::start();
    let check = |arguments: &[&str]| run(&mut recorder.command("check", arguments));
    let ok = check(&[]);
    assert_eq!(ok.code, Some(0), "{ok:?}");
    assert!(ok.text().starts_with("RECORDER OK - window "), "{}", ok.text());
    assert!(ok.text().contains(" | window="), "{}", ok.text());
    // The window is as long as the recorder runs: with this one it is full at once.
    let short = RecorderProcess::start_with(&["--window", "1s"]);
    wait_until("a full window", || {
        let status: Value = short.status();
        status["uptime_s"].as_f64() > Some(1.5)
    });
    let warned = run(&mut short.command("check", &["-w", "240:", "-c", "~:"]));
    assert_eq!(warned.code, Some(1), "{warned:?}");
    let critical = run(&mut short.command("check", &["-w", "240:", "-c", "120:"]));
    assert_eq!(critical.code, Some(2), "{critical:?}");
    let unknown = run(&mut short.command("check", &["-w", "x"]));
    assert_eq!(unknown.code, Some(3), "wrong arguments are UNKNOWN: {unknown:?}");
    short.signal(libc::SIGSTOP);
    let hung = run(&mut short.command("check", &["-t", "1"]));
    assert_eq!(hung.code, Some(3), "{hung:?}");
    assert!(hung.text().contains("no answer within 1 s"), "{}", hung.text());
    short.signal(libc::SIGCONT);
    let socket = recorder.directory().join("socket");
    recorder.stop();
    let gone = run(Command::new(binary()).arg("check").arg("--socket").arg(&socket));
    assert_eq!(gone.code, Some(2), "{gone:?}");
    assert!(gone.text().starts_with("RECORDER CRITICAL - no recorder answers"), "{}", gone.text());
}
