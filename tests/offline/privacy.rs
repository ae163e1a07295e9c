//! Masking: nothing that was planted is left, and what is ordinary stays.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
};

use recorder::{
    event::Kind,
    privacy::{Form, Privacy, Rules},
    snapshot::SnapshotReader,
};
use recorder_tests::{
    Counts, say,
    secrets::{Planted, kinds, planted},
    synth::{Made, Synth},
};
use serde_json::{Value, json};

use crate::{
    program::{self, Ran},
    scratch::Scratch,
};

/// Arguments as they lie in the memory of a process.
fn joined<S: AsRef<[u8]>>(arguments: &[S]) -> Vec<u8> {
    let end = |argument: &S| [argument.as_ref(), b"\0"].concat();
    arguments.iter().flat_map(end).collect()
}

fn has(bytes: &[u8], secret: &str) -> bool {
    bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
}

/// The promise is 300 of 20 kinds; these are more of each.
#[test]
fn no_planted_secret_is_left_in_its_arguments() {
    assert!(kinds() >= 20);
    let mut masker = Privacy::new(Rules::default()).masker();
    let mut left = Vec::new();
    for seed in 0..Counts::of(200) {
        for one in planted(seed, 300) {
            let mut bytes = joined(&one.arguments);
            let count = one.arguments.len();
            masker.mask_vec(&mut bytes, Form::Arguments, false);
            if has(&bytes, &one.secret) {
                left.push(format!("{}: {:?}", one.kind, one.arguments));
            }
            let once = bytes.clone();
            masker.mask_vec(&mut bytes, Form::Arguments, false);
            assert_eq!(once, bytes, "masked again: {one:?}");
            assert_eq!(bytes.iter().filter(|byte| **byte == 0).count(), count, "{one:?}");
            assert!(has(&bytes, "***"), "{one:?}");
        }
    }
    assert!(left.is_empty(), "{} are left:\n{}", left.len(), left.join("\n"));
}

/// What a line of the file stands for: `{a|b}` is one of these, each in turn.
fn spelled(line: &str) -> Vec<String> {
    let mut spelled = vec![String::new()];
    let mut rest = line;
    while let Some((before, from)) = rest.split_once("{{") {
        let (choices, after) = from.split_once("}}").expect("a closed list");
        let choices: Vec<&str> = choices.split('|').collect();
        let longer = |start: &String| {
            choices.iter().map(|choice| format!("{start}{before}{choice}")).collect::<Vec<_>>()
        };
        spelled = spelled.iter().flat_map(longer).collect();
        rest = after;
    }
    spelled.iter().map(|start| format!("{start}{rest}")).collect()
}

/// The words of a command line as a shell gives them to a program: quotation marks hold
/// blanks, and that is all of a shell that the file uses.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        let last = words.last_mut().expect("a word");
        match quote {
            Some(open) if c == open => quote = None,
            Some(_) => last.push(c),
            None if c == '"' || c == '\'' => quote = Some(c),
            None if c == ' ' => words.push(String::new()),
            None => last.push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Of what people and services run all day at most one argument in a hundred may be
/// masked; which ones is printed.
#[test]
fn ordinary_command_lines_stay_as_they_are() {
    let lines = include_str!("privacy/ordinary.txt").lines();
    let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    let lines: Vec<String> = lines.flat_map(spelled).collect();
    let mut masker = Privacy::new(Rules::default()).masker();
    let (mut all, mut masked) = (0, Vec::new());
    for line in &lines {
        let words = words(line);
        let mut bytes = joined(&words);
        masker.mask_vec(&mut bytes, Form::Arguments, false);
        let after = bytes.strip_suffix(b"\0").unwrap_or_default().split(|byte| *byte == 0);
        for (before, after) in words.iter().zip(after) {
            all += 1;
            if before.as_bytes() != after {
                masked.push(format!("{before}   of   {line}"));
            }
        }
    }
    let share = masked.len() as f64 / f64::from(all) * 100.0;
    say(&format!(
        "{} of {all} arguments of {} ordinary command lines are masked, {share:.2} %:\n{}\n",
        masked.len(),
        lines.len(),
        masked.join("\n")
    ));
    assert!(lines.len() >= 2_000, "{} lines", lines.len());
    assert!(share <= 1.0, "{share:.2} %");
}

/// An old file, of a recorder that masked nothing: programs with secrets on their command
/// lines among events of every kind.
fn old_file(scratch: &Scratch, planted: &[Planted]) -> PathBuf {
    let mut synth = Synth::random(7, 2, 3_000);
    synth.header.trigger.reason = "see https://bob:hunter2hunter2@example.org/".to_string();
    for (place, one) in planted.iter().enumerate() {
        let at = place * synth.events.len() / planted.len();
        let near = &synth.events[at];
        let numbers = [77, 0, 0, 0, 0, 0];
        let exec = Made::new(Kind::ProcessExec, near.ts_ns, near.cpu, 77, &numbers);
        let path = format!("/srv/acme/{place}");
        let arguments = joined(&one.arguments);
        synth.events.insert(at, exec.with(0, path.as_bytes()).with(1, &arguments));
    }
    synth.write(scratch.path())
}

/// All that a file says, in its own bytes and decompressed.
fn contents(file: &Path) -> Vec<u8> {
    let mut bytes = fs::read(file).unwrap();
    let reader = SnapshotReader::open(file).unwrap();
    for entry in reader.blocks() {
        let from = entry.offset as usize;
        let frame = bytes[from..from + entry.frame_bytes as usize].to_vec();
        bytes.extend(zstd::bulk::decompress(&frame, entry.raw_bytes as usize).unwrap());
    }
    bytes
}

fn scrub(file: &Path, out: &Path, more: &[&str]) -> Ran {
    let words = ["scrub".as_ref(), file.as_os_str(), "-o".as_ref(), out.as_os_str()];
    program::run(words.into_iter().chain(more.iter().map(OsStr::new)))
}

fn lines(file: &Path) -> Vec<Value> {
    let ran = program::run(["replay".as_ref(), file.as_os_str(), "--format=jsonl".as_ref()]);
    ran.succeeded("replay");
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn info(file: &Path) -> Value {
    let ran = program::run(["info".as_ref(), file.as_os_str(), "--format=json".as_ref()]);
    ran.succeeded("info");
    serde_json::from_str(&ran.stdout).unwrap()
}

/// The new file has everything of the old one, in its order and at its times, but what
/// was masked, and says so.
#[test]
fn a_scrubbed_file_has_all_of_the_old_one_but_its_secrets() {
    let scratch = Scratch::new();
    let planted = planted(5, 300);
    let file = old_file(&scratch, &planted);
    let out = scratch.path().join("scrubbed.kfr");
    let ran = scrub(&file, &out, &["--text", "acme", "--word", "badge_number"]);
    ran.succeeded("scrub");
    assert_eq!(ran.stdout, format!("{}\n", out.display()));
    program::run(["verify".as_ref(), out.as_os_str()]).succeeded("verify");

    let (before, after) = (contents(&file), contents(&out));
    for one in &planted {
        assert!(has(&before, &one.secret), "{one:?}");
        assert!(!has(&after, &one.secret), "{one:?}");
    }
    assert!(!has(&after, "acme") && !has(&after, "hunter2hunter2"));
    let facts = |event: &Value| {
        ["ts_ns", "kind", "cpu", "pid", "tid", "name", "ret"].map(|key| event[key].clone())
    };
    let (old, new) = (lines(&file), lines(&out));
    assert_eq!(old.len(), new.len());
    assert!(old.iter().zip(&new).all(|(old, new)| facts(old) == facts(new)));
    let differ = old.iter().zip(&new).filter(|(old, new)| old != new).count();
    assert!(differ >= 300, "{differ} events differ");

    let (old, new) = (info(&file), info(&out));
    for same in ["ledger", "events", "window", "host", "missing", "boot_id"] {
        assert_eq!(old[same], new[same], "{same}");
    }
    let scrubs = new["privacy"]["scrubs"].as_array().unwrap();
    assert_eq!((scrubs.len(), &scrubs[0]["words"], &scrubs[0]["texts"]), (1, &1.into(), &1.into()));
    assert!(scrubs[0]["masked"]["text"].as_u64() >= Some(300), "{scrubs:?}");
    assert!(scrubs[0]["masked"]["password"].as_u64() > Some(20), "{scrubs:?}");
    // Once more finds nothing, and says that it was there.
    let again = scratch.path().join("again.kfr");
    scrub(&out, &again, &[]).succeeded("scrub");
    let scrubs = info(&again)["privacy"]["scrubs"].clone();
    assert_eq!((&scrubs[1]["masked"], scrubs.as_array().unwrap().len()), (&json!({}), 2));
    let said = program::run(["info".as_ref(), again.as_os_str()]);
    assert!(said.stdout.contains("scrubbed  0 secrets"), "{}", said.stdout);
}

/// It replaces nothing that is there, and of a damaged file it makes one that is whole
/// only when it is told to.
#[test]
fn a_scrubbed_file_is_whole_or_absent() {
    let scratch = Scratch::new();
    let planted = planted(6, 20);
    let file = old_file(&scratch, &planted);
    let there = scratch.file("there.kfr", b"mine");
    scrub(&file, &there, &[]).failed_with(73, "a file that is there");
    assert_eq!(fs::read(&there).unwrap(), b"mine");
    scrub(&file, &there, &["--force"]).succeeded("--force");
    program::run(["verify".as_ref(), there.as_os_str()]).succeeded("verify");

    let absent = scratch.path().join("absent.kfr");
    scrub(&file, &absent, &["--text", "x"]).failed_with(2, "a text that is everywhere");
    scrub(&file, &absent, &["--word", "a b"]).failed_with(2, "no name");
    let kernel = info(&file)["kernel"].as_str().unwrap().to_string();
    scrub(&file, &absent, &["--text", &kernel]).failed_with(1, "a text of the header");
    let nowhere = scratch.path().join("nowhere/x.kfr");
    scrub(&file, &nowhere, &[]).failed_with(73, "no directory");
    let mut bytes = fs::read(&file).unwrap();
    let entry = SnapshotReader::open(&file).unwrap().blocks()[2];
    bytes[entry.offset as usize + 40] ^= 1;
    let damaged = scratch.file("damaged.kfr", &bytes);
    scrub(&damaged, &absent, &[]).failed_with(65, "a damaged file");
    assert!(!absent.exists());
    let ran = scrub(&damaged, &absent, &["--damaged"]);
    assert_eq!((ran.code, ran.stderr.lines().count()), (Some(65), 1), "{}", ran.stderr);
    program::run(["verify".as_ref(), absent.as_os_str()]).succeeded("verify");
    assert!(planted.iter().all(|one| !has(&contents(&absent), &one.secret)));
    let info = info(&absent);
    assert_eq!(info["ledger"]["closes"], false, "events are gone");
    assert!(info["missing"].to_string().contains("damaged"), "{}", info["missing"]);
    // Nothing half written is left beside them.
    let left = fs::read_dir(scratch.path()).unwrap().flatten();
    assert!(left.into_iter().all(|entry| !entry.file_name().to_string_lossy().starts_with('.')));
}
