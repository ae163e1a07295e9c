//! What is printed, against texts that are read in review. The file they are made
//! of was written once and stays: it also shows that old files stay readable.

use std::{
    env, fs,
    mem::offset_of,
    path::{Path, PathBuf},
    sync::Once,
};

use recorder::{
    event::{Kind, wire},
    snapshot::FORMAT_VERSION,
};
use recorder_tests::synth::{Made, Synth};

use crate::{program, scratch::Scratch};

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden")
}

/// The sample file of format version 1.
pub(crate) fn sample() -> PathBuf {
    folder().join("v1/sample.kfr")
}

/// The same of the version that is written now. It is made when it is not there.
pub(crate) fn newest_sample() -> PathBuf {
    static ONCE: Once = Once::new();
    let folder = folder().join(format!("v{FORMAT_VERSION}"));
    let path = folder.join("sample.kfr");
    ONCE.call_once(|| {
        if is_blessing() && !path.exists() {
            let scratch = Scratch::new();
            fs::create_dir_all(&folder).unwrap();
            fs::copy(Synth::sample().write(scratch.path()), &path).unwrap();
        }
    });
    path
}

fn is_blessing() -> bool {
    env::var_os("RECORDER_BLESS").is_some()
}

/// Compares with the text of this name, or rewrites it.
pub(crate) fn compare(name: &str, found: &str) {
    let path = folder().join(name);
    if is_blessing() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let differs = (1..).zip(expected.lines().zip(found.lines())).find(|(_, (a, b))| a != b);
    let detail = match differs {
        Some((line, (expected, found))) => format!("line {line}\n  {expected}\n  {found}"),
        None => format!("{} lines, now {}", expected.lines().count(), found.lines().count()),
    };
    assert!(expected == found, "{name} differs, RECORDER_BLESS=1 rewrites it: {detail}");
}

/// What `recorder` prints with these arguments and the sample, by a name that
/// does not depend on where the tree is.
fn printed(arguments: &[&str]) -> String {
    printed_of(&sample(), arguments)
}

/// The same of another file.
pub(crate) fn printed_of(file: &Path, arguments: &[&str]) -> String {
    let mut command = program::command();
    let (name, options) = arguments.split_at(1);
    command.current_dir(file.parent().unwrap()).args(name);
    command.arg(file.file_name().unwrap()).args(options);
    let ran = program::finished(command.output().unwrap());
    ran.succeeded(&format!("{arguments:?}"));
    ran.stdout
}

#[test]
fn the_sample_is_printed_as_it_always_was() {
    let lines = printed(&["replay", "--format", "jsonl"]);
    for line in lines.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect(line);
        assert!(object.get("ts_ns").is_some_and(serde_json::Value::is_string), "{line}");
    }
    compare("v1/sample.jsonl", &lines);
    compare("v1/sample.txt", &printed(&["replay"]));
    compare("v1/sample-entry.txt", &printed(&["replay", "--time", "entry"]));
    compare("v1/sample-info.txt", &printed(&["info"]));
    compare("v1/sample-info.json", &printed(&["info", "--format", "json"]));
    compare("v1/sample-verify.txt", &printed(&["verify"]));
}

#[test]
fn filters_choose_what_they_always_did() {
    let filters: [&[&str]; 8] = [
        &["-e", "trace=%file"],
        &["-e", "trace=%process"],
        &["-e", "trace=%net", "--failed"],
        &["--pid", "200"],
        &["--comm", "cat"],
        &["--path", "/etc/"],
        &["--duration", "50ms"],
        &["--since", "t-600ms", "--until", "t"],
    ];
    let mut all = String::new();
    for filter in filters {
        all.push_str(&format!("## {}\n", filter.join(" ")));
        all.push_str(&printed(&[&["replay"], filter].concat()));
    }
    compare("v1/sample-filtered.txt", &all);
}

#[test]
fn the_sample_of_the_newest_version_reads_like_the_first() {
    for format in ["text", "jsonl"] {
        let arguments = ["replay", "--format", format];
        assert_eq!(printed_of(&newest_sample(), &arguments), printed(&arguments));
    }
}

/// The writer of today makes a file that reads like the one of then. The bytes
/// may differ: zstd does not promise the same ones in every version.
#[test]
fn a_new_file_reads_like_the_old_one() {
    let scratch = Scratch::new();
    let path = Synth::sample().write(scratch.path());
    for format in ["text", "jsonl"] {
        let new = program::run(["replay", "--format", format, path.to_str().unwrap()]);
        new.succeeded(format);
        assert_eq!(new.stdout, printed(&["replay", "--format", format]));
    }
}

#[test]
fn every_command_explains_itself_as_it_always_did() {
    for name in ["replay", "state", "info", "verify", "fields"] {
        let ran = program::run([name, "--help"]);
        ran.succeeded(name);
        compare(&format!("help/{name}.txt"), &ran.stdout);
    }
}

/// The page of all fields is what the program of this tree prints.
#[test]
fn the_page_of_all_fields_is_fresh() {
    let ran = program::run(["fields"]);
    ran.succeeded("fields");
    compare("../../recorder/FIELDS.md", &ran.stdout);
    let ran = program::run(["fields", "--format", "json"]);
    ran.succeeded("fields");
    let fields: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    for part in ["kinds", "calls", "structures"] {
        assert!(fields[part].as_array().is_some_and(|rows| rows.len() > 10), "{part}");
    }
    assert!(fields["flags"]["Open"].as_array().is_some());
}

/// An end that carries a name and a kill for want of memory are younger than the
/// sample. The name that came with the event wins over the one that was known, here
/// because the rename was lost; an end without a name has the one that was known.
#[test]
fn the_end_of_a_process_has_the_name_it_came_with() {
    let scratch = Scratch::new();
    let mut synth = Synth::sample();
    let at = synth.header.clock.monotonic_ns - 1_000_000_000;
    synth.unfinished.clear();
    synth.events = vec![
        Made::new(Kind::OomKill, at, 0, 100, &[101, 101]).with(0, b"renamed\0\0\0\0\0\0\0\0\0"),
        Made::new(Kind::ProcessExit, at + 1_000_000, 0, 100, &[0, 9]).with(0, b"renamed\0\0"),
        Made::new(Kind::OomKill, at + 2_000_000, 0, 101, &[101, 101]),
        Made::new(Kind::ProcessExit, at + 3_000_000, 0, 101, &[0, 9]),
    ];
    let path = synth.write(scratch.path());
    let replayed = |arguments: &[&str]| {
        let ran = program::run([&["replay", path.to_str().unwrap()], arguments].concat());
        ran.succeeded(&format!("{arguments:?}"));
        ran.stdout
    };
    assert_eq!(
        replayed(&[]).lines().skip(1).collect::<Vec<_>>(),
        [
            "02:26:23.000000 renamed[100] +++ chosen by the OOM killer, 101 asked for memory +++",
            "02:26:23.001000 renamed[100] +++ killed by SIGKILL +++",
            "02:26:23.002000 w\\xf6rker\\x1b[2J[101] +++ chosen by the OOM killer, 101 asked for \
             memory +++",
            "02:26:23.003000 w\\xf6rker\\x1b[2J[101] +++ killed by SIGKILL +++",
        ]
    );
    let renamed = replayed(&["--comm", "renamed", "--format", "jsonl"]);
    let first: serde_json::Value = serde_json::from_str(renamed.lines().next().unwrap()).unwrap();
    assert_eq!(renamed.lines().count(), 2, "{renamed}");
    assert_eq!(renamed.matches("\"comm\"").count(), 2, "once in each object: {renamed}");
    assert_eq!((&first["comm"], &first["by_pid"]), (&"renamed".into(), &101.into()), "{first}");
    assert_eq!(replayed(&["-e", "trace=%memory"]).lines().skip(1).count(), 2);
    assert_eq!(replayed(&["--comm", "sh"]).lines().skip(1).count(), 0, "its name of before");
}

/// Where each field lies: the kernel programs are built apart from the reader.
#[test]
fn records_lie_in_the_ring_as_they_always_did() {
    let mut text = String::new();
    for kind in Kind::ALL {
        let schema = kind.schema();
        text.push_str(&format!("{} {} {}\n", *kind as u8, schema.name, schema.fixed_bytes));
        for field in schema.fields {
            let sign = if field.signed { 'i' } else { 'u' };
            let bits = 8 * field.width;
            text.push_str(&format!("  {:>3} {sign}{bits:<2} {}\n", field.offset, field.name));
        }
        for (index, attachment) in schema.attachments.iter().enumerate() {
            text.push_str(&format!("  attachment {index} {}\n", attachment.name));
        }
    }
    macro_rules! layout {
        ($($name:ident { $($field:ident),* })*) => { $(
            text.push_str(&format!("{} {}\n", stringify!($name), size_of::<wire::$name>()));
            $( text.push_str(&format!(
                "  {:>4} {}\n", offset_of!(wire::$name, $field), stringify!($field)
            )); )*
        )* };
    }
    layout! {
        Header { bytes, kind, args, flags, attachments, reserved, seq, skipped, ts_ns, pid, tid }
        AttachmentHead { index, flags, bytes }
        CallCounts { seen, lost }
        Counters {
            calls, calls_filtered, others_filtered, seen, stored, lost, busy, pending_lost, pending_lost_process,
            pending_first_ns, pending_last_ns, pending_skipped, woken_at, unasked_bytes
        }
        PerCpu { counters, calls }
        Slot { entry_ns, nr, args, state, flags }
        SlotRow { pid, tid, slot }
        RingControl { head, unasked_until, woken_at, unused, tail }
    }
    compare("wire.txt", &text);
}
