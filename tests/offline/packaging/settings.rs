//! The shipped configuration and its page of the manual against the program: it is
//! asked what it knows, by a word it does not know.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt as _};

use recorder_tests::skip;

use super::{read, shipped};
use crate::{program, scratch::Scratch};

/// What the program says of a configuration; `None` when it takes it. It never gets so
/// far as to record: its socket cannot be made.
fn refusal(text: &str) -> Option<String> {
    let scratch = Scratch::new();
    let file = scratch.file("recorder.toml", text.as_bytes());
    let nowhere = file.join("socket");
    let arguments = ["record".as_ref(), "--config".as_ref(), file.as_os_str()];
    let ran = program::run(arguments.into_iter().chain(["--socket".as_ref(), nowhere.as_os_str()]));
    if ran.code == Some(2) {
        return Some(ran.stderr);
    }
    assert_eq!(ran.code, Some(73), "{ran:?}");
    None
}

fn can_record() -> bool {
    let can = program::run(["record", "--help"]).code == Some(0);
    if !can {
        skip("this program was built without the recording side");
    }
    can
}

/// The keys the program takes in a table.
fn known(table: &str) -> BTreeSet<String> {
    let said = refusal(&format!("{table}\nnonsense = 1\n")).unwrap();
    assert!(said.contains("unknown field `nonsense`"), "{said}");
    let (_, expected) = said.split_once("expected ").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_string).collect()
}

/// The shipped file with every setting in force; without those that have no default
/// unless they are wanted.
fn uncommented(with_examples: bool) -> String {
    let mut text = String::new();
    for line in read(&shipped("recorder.toml")).lines() {
        let setting = line
            .strip_prefix('#')
            .filter(|rest| rest.starts_with(|c: char| c.is_ascii_lowercase() || c == '['));
        match setting {
            Some(setting) if with_examples || !setting.ends_with("# no default") => text += setting,
            Some(_) => {}
            None => text += line,
        }
        text.push('\n');
    }
    text
}

/// The keys of a table of the shipped file, whether in force or not.
fn shipped_keys(table: &str) -> BTreeSet<String> {
    let mut keys = BTreeSet::new();
    let mut current = String::new();
    for line in uncommented(true).lines() {
        let line = line.split(" # no default").next().unwrap_or_default();
        if line.starts_with('[') {
            current = line.to_string();
        } else if let Some((key, _)) = line.split_once(" = ").filter(|_| current == table)
            && !key.starts_with('#')
        {
            keys.insert(key.to_string());
        }
    }
    keys
}

#[test]
fn every_setting_there_is_stands_in_the_shipped_file_and_in_the_manual() {
    if !can_record() {
        return;
    }
    let manual = read(&shipped("man/recorder.toml.5"));
    let tables: BTreeSet<String> = uncommented(true)
        .lines()
        .filter(|line| line.starts_with('['))
        .map(|line| line.split(' ').next().unwrap_or_default().to_string())
        .collect();
    assert!(tables.len() >= 8, "{tables:?}");
    let below = |table: &str| {
        // `trigger.grafana` is a key of `trigger` to the program.
        let inside = table.trim_matches(['[', ']']);
        let names = tables.iter().map(|name| name.trim_matches(['[', ']']));
        names
            .filter_map(|name| match inside {
                "" => Some(name.split('.').next()?),
                _ => name.strip_prefix(inside)?.strip_prefix('.'),
            })
            .map(str::to_string)
            .collect::<BTreeSet<_>>()
    };
    for table in tables.iter().map(String::as_str).chain([""]) {
        // A rule says what it is about before it says anything else.
        let keys = known(table);
        let written: BTreeSet<String> = &shipped_keys(table) | &below(table);
        let unwritten: Vec<&String> = keys.difference(&written).collect();
        assert!(unwritten.is_empty(), "{table} has {unwritten:?}, which nobody wrote down");
        let invented: Vec<&String> = written.difference(&keys).collect();
        assert!(invented.is_empty(), "{table} has no {invented:?}");
        for key in &keys {
            assert!(manual.contains(key.as_str()), "{table} {key} is not in the manual");
        }
    }
}

#[test]
fn the_shipped_file_is_taken_as_it_is_and_with_its_defaults_in_force() {
    if !can_record() {
        return;
    }
    assert_eq!(refusal(&read(&shipped("recorder.toml"))), None);
    let defaults = uncommented(false);
    assert!(defaults.contains("\nwindow = \"5m\"\n") && !defaults.contains("token_file ="));
    assert_eq!(refusal(&defaults), None);
    // A word that is none is told with its place.
    let typo = uncommented(false).replace("cooldown", "cooldwon");
    let said = refusal(&typo).unwrap();
    let line = 1 + typo.lines().position(|line| line.contains("cooldwon")).unwrap();
    assert!(said.contains("cooldwon") && said.contains(&format!("line {line},")), "{said}");
}

#[test]
fn the_settings_of_the_daemon_set_are_taken() {
    if !can_record() {
        return;
    }
    let manifest = read(&shipped("kubernetes/10-config.yaml"));
    let (_, block) = manifest.split_once("  recorder.toml: |\n").unwrap();
    let settings = block.lines().map(|line| line.strip_prefix("    ").unwrap_or_default());
    let settings: String = settings.map(|line| format!("{line}\n")).collect();
    assert!(settings.contains("\nlisten = \"0.0.0.0:9774\"\n"), "{settings}");
    let scratch = Scratch::new();
    let token = scratch.file("token", b"a-long-word\n");
    fs::set_permissions(&token, fs::Permissions::from_mode(0o400)).unwrap();
    let mounted = "/etc/recorder-secret/token";
    assert!(settings.contains(mounted), "{settings}");
    assert_eq!(refusal(&settings.replace(mounted, token.to_str().unwrap())), None);
    // Without the token the pod does not start.
    let open = settings.replace("token_file", "# token_file");
    assert!(refusal(&open).unwrap().contains("token_file"));
}
