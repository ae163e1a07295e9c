//! What is shipped beside the program, judged by the programs that read it: systemd,
//! Prometheus, Alertmanager, Nagios, Kubernetes, the shells, the manual. One that is not
//! there is a skip that says so.

mod settings;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use recorder_tests::{Counts, has_program, skip, unpacked};
use serde_json::{Value, json};

use crate::{program, scratch::Scratch};

/// A file of `packaging`.
fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name)
}

fn read(path: &Path) -> String {
    let text = fs::read_to_string(path);
    assert!(text.is_ok(), "{}: {text:?}", path.display());
    text.unwrap()
}

/// The names of a folder of `packaging`, with this end.
fn names(folder: &str, end: &str) -> Vec<String> {
    let entries = fs::read_dir(shipped(folder)).unwrap().flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.ends_with(end)).collect();
    names.sort();
    assert!(!names.is_empty(), "nothing in {folder} ends in {end}");
    names
}

/// The files as they lie on a host: `cargo xtask test` makes them.
fn tree() -> Option<PathBuf> {
    let tree = env::var_os("RECORDER_TEST_TREE").map(PathBuf::from);
    if tree.is_none() {
        skip("there is no tree of files: `cargo xtask test` makes it");
    }
    tree
}

/// A program of a package that is installed or unpacked.
fn judge(name: &str, package: &str) -> Option<PathBuf> {
    let unpacked = unpacked(package).map(|home| {
        let folders = ["usr/bin", "usr/sbin", "bin"].map(|folder| home.join(folder).join(name));
        folders.into_iter().find(|path| path.is_file())
    });
    let found = unpacked.flatten().or_else(|| has_program(name).then(|| PathBuf::from(name)));
    if found.is_none() {
        skip(&format!("there is no {name}: it is in {package}"));
    }
    found
}

fn run(command: &mut Command) -> Output {
    let output = command.stdin(Stdio::null()).output();
    assert!(output.is_ok(), "{command:?}: {output:?}");
    output.unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// A judge that has nothing to say against it.
#[track_caller]
fn accepts(command: &mut Command) -> String {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", said(&output));
    said(&output)
}

#[track_caller]
fn refuses(command: &mut Command) {
    let output = run(command);
    assert!(!output.status.success(), "{command:?} accepts what it must not: {}", said(&output));
}

#[test]
fn systemd_understands_the_units_and_thinks_them_safe() {
    let Some(analyze) = judge("systemd-analyze", "systemd") else { return };
    let scratch = Scratch::new();
    let mut units = Vec::new();
    for name in names("systemd", "") {
        let from = shipped("systemd").join(&name);
        if from.is_dir() {
            continue;
        }
        // It looks for the program, which need not be installed here.
        let built = program::path().canonicalize().unwrap();
        let text = read(&from)
            .replace("/usr/bin/recorder", built.to_str().unwrap())
            .replace("ExecStart=/etc/recorder/upload", "ExecStart=/bin/true");
        units.push(scratch.file(&name.replace("@.", "@x."), text.as_bytes()));
    }
    assert!(units.len() >= 6, "{units:?}");
    let verified = accepts(Command::new(&analyze).args(["verify", "--man=no"]).args(&units));
    assert_eq!(verified.trim(), "", "not a word");
    let services = || units.iter().filter(|unit| unit.extension() == Some("service".as_ref()));
    for service in services() {
        let security = ["security", "--no-pager", "--offline=true"];
        accepts(Command::new(&analyze).args(security).arg("--threshold=25").arg(service));
        refuses(Command::new(&analyze).args(security).arg("--threshold=0").arg(service));
    }
}

#[test]
fn the_units_agree_with_the_program() {
    let service = read(&shipped("systemd/recorder.service"));
    let line = |key: &str| {
        let lines: Vec<&str> = service.lines().filter_map(|line| line.strip_prefix(key)).collect();
        assert_eq!(lines.len(), 1, "{key}: {lines:?}");
        lines[0].to_string()
    };
    assert_eq!(line("CapabilityBoundingSet="), line("AmbientCapabilities="));
    assert_eq!(line("UMask="), "0027", "the group reads snapshots");
    let socket = read(&shipped("systemd/recorder.socket"));
    let help = program::run(["record", "--help"]);
    if help.code == Some(0) {
        for default in ["/run/recorder/control.sock", "/var/lib/recorder/snapshots"] {
            assert!(help.stdout.contains(default), "{}", help.stdout);
        }
        assert!(socket.contains("ListenStream=/run/recorder/control.sock\n"), "{socket}");
    }
}

fn promtool() -> Option<Command> {
    judge("promtool", "prometheus").map(Command::new)
}

#[test]
fn prometheus_takes_the_alert_rules_and_they_fire_when_they_should() {
    let Some(mut check) = promtool() else { return };
    accepts(check.args(["check", "rules"]).arg(shipped("prometheus/recorder.rules.yml")));
    accepts(
        promtool().unwrap().args(["check", "config"]).arg(shipped("prometheus/prometheus.yml")),
    );
    let test = shipped("prometheus/recorder.rules.test.yml");
    accepts(promtool().unwrap().args(["test", "rules"]).arg(&test));

    // The tests can fail: with a rule that never fires, and with one that always does.
    let rules = read(&shipped("prometheus/recorder.rules.yml"));
    let alerts = rules.matches("- alert: ").count();
    assert!(alerts >= 6, "{alerts}");
    for (from, to) in [
        ("recorder_ledger_closes == 0", "recorder_ledger_closes == 2"),
        ("recorder_ledger_closes == 0", "recorder_ledger_closes >= 0"),
    ] {
        assert!(rules.contains(from));
        let scratch = Scratch::new();
        scratch.file("recorder.rules.yml", rules.replace(from, to).as_bytes());
        let copy = scratch.file("test.yml", read(&test).as_bytes());
        refuses(promtool().unwrap().args(["test", "rules"]).arg(copy));
    }
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(read(&test).contains(&format!("alertname: {name}")), "{name} has no test");
    }
}

/// Every expression of a dashboard, wherever it stands.
fn expressions(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_string));
            fields.values().for_each(|value| expressions(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| expressions(value, found)),
        _ => {}
    }
}

#[test]
fn the_dashboard_is_whole_and_its_expressions_are_understood() {
    let board: Value = serde_json::from_str(&read(&shipped("grafana/recorder.json"))).unwrap();
    let panels = board["panels"].as_array().unwrap();
    let mut ids: Vec<u64> = panels.iter().map(|panel| panel["id"].as_u64().unwrap()).collect();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), panels.len(), "every panel has a number of its own");
    let place = |panel: &Value, name: &str| panel["gridPos"][name].as_u64().unwrap();
    for (at, panel) in panels.iter().enumerate() {
        let right = place(panel, "x") + place(panel, "w");
        assert!(right <= 24, "{panel}");
        for other in &panels[at + 1..] {
            let apart = |from: &str, length: &str| {
                place(panel, from) + place(panel, length) <= place(other, from)
                    || place(other, from) + place(other, length) <= place(panel, from)
            };
            assert!(apart("x", "w") || apart("y", "h"), "one over the other: {panel} {other}");
        }
    }

    let mut found = Vec::new();
    expressions(&board, &mut found);
    assert!(found.len() > 20, "{found:?}");
    let rules: Vec<Value> = found
        .iter()
        .enumerate()
        .map(|(at, expression)| {
            // What Grafana would put in.
            let expression = expression
                .replace("$__rate_interval", "5m")
                .replace("$__range", "6h")
                .replace("$job", "recorder")
                .replace("$instance", ".*");
            assert!(!expression.contains('$'), "a variable that is not there: {expression}");
            json!({"record": format!("dashboard:expression_{at}"), "expr": expression})
        })
        .collect();
    let Some(mut check) = promtool() else { return };
    let scratch = Scratch::new();
    let groups = |rules: Value| json!({"groups": [{"name": "dashboard", "rules": rules}]});
    // JSON is YAML.
    let good = scratch.file("good.yml", groups(rules.into()).to_string().as_bytes());
    accepts(check.args(["check", "rules"]).arg(good));
    let broken = json!([{"record": "a:b", "expr": "sum(rate(recorder_events_total[5m])"}]);
    let bad = scratch.file("bad.yml", groups(broken).to_string().as_bytes());
    refuses(promtool().unwrap().args(["check", "rules"]).arg(bad));
}

#[test]
fn alertmanager_takes_the_sample_of_a_receiver() {
    let Some(amtool) = judge("amtool", "prometheus-alertmanager") else { return };
    let sample = shipped("alertmanager/recorder.yml");
    accepts(Command::new(&amtool).arg("check-config").arg(&sample));
    let scratch = Scratch::new();
    let text = read(&sample).replace("send_resolved", "send_resolve");
    let wrong = scratch.file("wrong.yml", text.as_bytes());
    refuses(Command::new(&amtool).arg("check-config").arg(wrong));
}

/// A host and a service that use every command of the sample.
const NAGIOS: &str = "\
define timeperiod {
    timeperiod_name always
    alias always
    sunday 00:00-24:00
}
define contact {
    contact_name somebody
    host_notification_period always
    service_notification_period always
    host_notification_commands check-recorder
    service_notification_commands check-recorder
}
define host {
    host_name db-1
    address 127.0.0.1
    max_check_attempts 1
    contacts somebody
    check_period always
    notification_period always
    event_handler recorder-snapshot-host
}
define service {
    host_name db-1
    service_description recorder
    check_command check-recorder
    max_check_attempts 1
    contacts somebody
    check_period always
    notification_period always
    event_handler recorder-snapshot-service
}
";

#[test]
fn nagios_takes_the_commands_and_the_program_takes_what_they_say() {
    let sample = shipped("nagios/recorder.cfg");
    for line in read(&sample).lines().filter_map(|line| line.trim().strip_prefix("command_line")) {
        handler_line_is_understood(line.trim());
    }
    let Some(nagios) = judge("nagios4", "nagios4-core") else { return };
    let scratch = Scratch::new();
    let objects = scratch.file("objects.cfg", NAGIOS.as_bytes());
    let path = |name: &str| scratch.path().join(name).display().to_string();
    let config = format!(
        "log_file={}\ncfg_file={}\ncfg_file={}\ncheck_result_path={}\n\
         command_file={}\nlock_file={}\ntemp_file={}\n\
         nagios_user={}\nnagios_group={}\nillegal_macro_output_chars=`~$&|'\"<>\n",
        path("log"),
        sample.display(),
        objects.display(),
        scratch.path().display(),
        path("command"),
        path("lock"),
        path("temp"),
        // It becomes whom it is told to become.
        accepts(Command::new("id").arg("-un")).trim(),
        accepts(Command::new("id").arg("-gn")).trim(),
    );
    let config = scratch.file("nagios.cfg", config.as_bytes());
    let outcome = accepts(Command::new(&nagios).arg("-v").arg(&config));
    for expected in ["Checked 3 commands.", "Total Warnings: 0", "Total Errors:   0"] {
        assert!(outcome.contains(expected), "{expected}: {outcome}");
    }
}

/// Runs a line of the sample with hostile words in place of its macros: the program
/// understands it, and finds nobody to tell.
fn handler_line_is_understood(line: &str) {
    let words = [
        ("$SERVICEPROBLEMID$", "17"),
        ("$HOSTPROBLEMID$", "17"),
        ("$SERVICEOUTPUT$", "--on -x; rm \\"),
        ("$HOSTOUTPUT$", "-1 degrees"),
        ("$SERVICESTATE$", "CRITICAL"),
        ("$HOSTSTATE$", "DOWN"),
        ("$SERVICESTATETYPE$", "HARD"),
        ("$HOSTSTATETYPE$", "HARD"),
        ("$SERVICEATTEMPT$", "3"),
        ("$HOSTATTEMPT$", "3"),
        ("$HOSTNAME$", "db-1"),
        ("$SERVICEDESC$", "-disk /"),
    ];
    if program::run(["trigger", "--help"]).code != Some(0) {
        skip("this program was built without the recording side");
        return;
    }
    let line =
        words.iter().fold(line.to_string(), |line, (macro_, word)| line.replace(macro_, word));
    assert!(!line.contains('$'), "a macro that is not known here: {line}");
    let binary = program::path().canonicalize().unwrap();
    let line = line.replace("/usr/bin/recorder", binary.to_str().unwrap());
    let none = Scratch::new().path().join("none");
    let output = run(Command::new("sh").args(["-c", &line]).env("RECORDER_SOCKET", none));
    let code = if line.contains(" check") { 2 } else { 69 };
    assert_eq!(output.status.code(), Some(code), "{line}: {}", said(&output));
}

#[test]
fn kubernetes_takes_the_manifests() {
    for name in names("kubernetes", "") {
        let text = read(&shipped("kubernetes").join(&name));
        assert!(text.starts_with("# "), "{name} says what it is for");
    }
    let daemons = read(&shipped("kubernetes/20-daemonset.yaml"));
    for word in [
        "add: [BPF, PERFMON, SYS_PTRACE, DAC_READ_SEARCH]\n",
        "drop: [ALL]\n",
        "automountServiceAccountToken: false\n",
        "privileged: false\n",
        "hostPID: true\n",
    ] {
        assert!(daemons.contains(word), "{word}");
    }
    // A program of a hundred megabytes for one check.
    if !Counts::full() {
        return;
    }
    let Some(validate) = judge("kubernetes-validate", "kubernetes-validate") else { return };
    for name in names("kubernetes", "") {
        let manifest = shipped("kubernetes").join(name);
        accepts(Command::new(&validate).arg("--strict").arg(manifest));
    }
    let scratch = Scratch::new();
    let wrong = scratch.file("wrong.yaml", daemons.replace("hostPID", "hostPid").as_bytes());
    refuses(Command::new(&validate).arg("--strict").arg(wrong));
}

#[test]
fn the_manual_has_a_page_for_every_command_and_mandoc_likes_them() {
    let Some(tree) = tree() else { return };
    let page = |section: u8, name: &str| {
        tree.join(format!("usr/share/man/man{section}/{name}.{section}.gz"))
    };
    let mut pages = vec![page(1, "recorder"), page(5, "recorder.toml")];
    let help = program::run(["--help"]).stdout;
    let commands = help.split_once("Commands:\n").unwrap().1.split_once("\n\n").unwrap().0;
    let commands: Vec<&str> =
        commands.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for command in commands.iter().filter(|command| **command != "help") {
        pages.push(page(1, &format!("recorder-{command}")));
    }
    assert!(pages.len() >= 8, "{pages:?}");
    for page in &pages {
        assert!(page.is_file(), "{} is missing", page.display());
    }
    let Some(mandoc) = judge("mandoc", "mandoc") else { return };
    let lint = ["-T", "lint", "-W", "warning"];
    let scratch = Scratch::new();
    for page in &pages {
        let text = run(Command::new("gzip").arg("-dc").arg(page)).stdout;
        assert!(text.len() > 500, "{} is empty", page.display());
        let page = scratch.file(page.file_stem().unwrap().to_str().unwrap(), &text);
        assert_eq!(accepts(Command::new(&mandoc).args(lint).arg(page)), "");
    }
    let wrong = scratch.file("wrong.1", b".TH x 1 2026-11-25\n.SH NAME\nx \\- y\n.NOSUCH\n");
    refuses(Command::new(&mandoc).args(lint).arg(wrong));
}

#[test]
fn shells_understand_the_completions_and_the_scripts_of_the_package() {
    for name in ["postinst", "prerm", "postrm"] {
        accepts(Command::new("sh").arg("-n").arg(shipped("debian").join(name)));
        assert!(read(&shipped("debian").join(name)).contains("\nset -e\n"), "{name}");
    }
    let Some(tree) = tree() else { return };
    for (shell, file) in [
        ("bash", "bash-completion/completions/recorder"),
        ("zsh", "zsh/vendor-completions/_recorder"),
        ("fish", "fish/vendor_completions.d/recorder.fish"),
    ] {
        let file = tree.join("usr/share").join(file);
        assert!(read(&file).contains("replay"), "{}", file.display());
        if let Some(shell) = judge(shell, shell) {
            accepts(Command::new(shell).arg("-n").arg(file));
        }
    }
    // What bash offers behind `recorder `.
    let script = "source \"$1\"; COMP_WORDS=(recorder r); COMP_CWORD=1; \
                  _recorder recorder r recorder; printf '%s\\n' \"${COMPREPLY[@]}\"";
    let file = tree.join("usr/share/bash-completion/completions/recorder");
    let offered = accepts(Command::new("bash").args(["-c", script, "bash"]).arg(file));
    assert!(offered.lines().any(|word| word == "replay"), "{offered}");
}

#[test]
fn the_package_holds_what_it_should_with_the_rights_it_should() {
    let Some(deb) = env::var_os("RECORDER_TEST_DEB") else {
        skip("there is no package: `cargo xtask test` makes it where there is a dpkg-deb");
        return;
    };
    let fields = accepts(Command::new("dpkg-deb").arg("--field").arg(&deb));
    for field in ["Package: recorder\n", "Version: ", "Architecture: ", "Maintainer: "] {
        assert!(fields.contains(field), "{field}: {fields}");
    }
    assert!(!fields.contains('@') || fields.matches('@').count() == 1, "filled in: {fields}");
    let info = accepts(Command::new("dpkg-deb").arg("--info").arg(&deb));
    for script in ["postinst", "prerm", "postrm"] {
        let line = info.lines().find(|line| line.contains(script)).unwrap();
        assert!(line.contains('*'), "{script} is executable: {line}");
    }
    let contents = accepts(Command::new("dpkg-deb").arg("--contents").arg(&deb));
    let mut programs = Vec::new();
    for line in contents.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (mode, owner, path) = (fields[0], fields[1], fields[5]);
        assert_eq!(owner, "root/root", "{line}");
        assert!(matches!(mode, "drwxr-xr-x" | "-rw-r--r--" | "-rwxr-xr-x"), "{line}");
        if mode == "-rwxr-xr-x" {
            programs.push(path);
        }
    }
    assert_eq!(programs, ["./usr/bin/recorder"]);
    for path in [
        "etc/recorder/recorder.toml",
        "usr/lib/systemd/system/recorder.service",
        "usr/lib/systemd/system/recorder.socket",
        "usr/lib/sysusers.d/recorder.conf",
        "usr/lib/tmpfiles.d/recorder.conf",
        "usr/share/doc/recorder/copyright",
        "usr/share/man/man1/recorder.1.gz",
        "usr/share/recorder/prometheus/recorder.rules.yml",
    ] {
        assert!(contents.contains(&format!(" ./{path}\n")), "{path}: {contents}");
    }
}

#[test]
fn an_image_has_what_its_recipe_copies() {
    let recipe = read(&shipped("container/Containerfile"));
    let copied: Vec<&str> =
        recipe.lines().filter_map(|line| line.strip_prefix("COPY ")?.split(' ').next()).collect();
    assert!(copied.contains(&"usr/bin/recorder"), "{copied:?}");
    let Some(tree) = tree() else { return };
    for path in copied {
        assert!(tree.join(path).is_file(), "{path}");
    }
}

#[test]
fn file_knows_a_snapshot() {
    if !has_program("file") {
        skip("there is no file(1)");
        return;
    }
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/v1/sample.kfr");
    let outcome = accepts(Command::new("file").arg("-m").arg(shipped("magic")).arg(sample));
    assert!(outcome.contains("flight recorder, format version 1"), "{outcome}");
}
