//! Secrets and the environment: none of it is in a file.

use std::{
    ffi::{CString, OsStr},
    fs,
    io::{Read as _, Write as _},
    os::unix::{
        fs::{FileExt as _, OpenOptionsExt as _},
        net::UnixStream,
        process::CommandExt as _,
    },
    path::Path,
    process::{Command, Stdio},
};

use recorder::snapshot::SnapshotReader;
use recorder_tests::{
    Child, RecorderProcess, Start, TestDirectory, binary, number, rename_thread, run,
    secrets::{Planted, planted},
    wait_until,
};

/// Everything a file holds: its own bytes, and every frame decompressed.
fn contents(file: &Path) -> Vec<u8> {
    let mut bytes = fs::read(file).expect("the file");
    let reader = SnapshotReader::open(file).expect("a snapshot");
    assert_eq!(reader.complaints(), [""; 0]);
    for entry in reader.blocks() {
        let from = entry.offset as usize;
        let frame = bytes[from..from + entry.frame_bytes as usize].to_vec();
        let raw = zstd::bulk::decompress(&frame, entry.raw_bytes as usize).expect("a frame");
        bytes.extend(raw);
    }
    bytes
}

fn has(contents: &[u8], wanted: &[u8]) -> bool {
    let first = wanted[0];
    let mut rest = contents;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(wanted) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

#[track_caller]
fn none_is_left<'s>(file: &Path, secrets: impl Iterator<Item = (&'s str, &'s str)>) {
    let contents = contents(file);
    let left: Vec<_> = secrets.filter(|(_, secret)| has(&contents, secret.as_bytes())).collect();
    assert!(left.is_empty(), "{} are in {}: {left:?}", left.len(), file.display());
}

/// A program that does nothing, under the name and with the arguments of another.
fn run_as(planted: &Planted) {
    let (name, rest) = planted.arguments.split_first().expect("a name");
    let status = Command::new("/bin/true").arg0(name).args(rest).status();
    assert!(status.expect("a program").success());
}

/// The promise: 300 secrets of 20 kinds, in programs that really run, in paths, in
/// programs that ran before, in calls that have not returned, and in the reason.
#[test]
fn no_planted_secret_is_in_the_file() {
    let all = planted(1, 300);
    let before = planted(2, 60);
    let paths = planted(3, 60);
    // They wait for their standard input, which ends with the test.
    let waiting = |one: &Planted| {
        let mut command = Command::new("/bin/sh");
        command.arg0(&one.arguments[0]).args(["-c", "read x", "sh"]).args(&one.arguments[1..]);
        command.stdin(Stdio::piped()).spawn().expect("a shell")
    };
    let shaped = |one: &&Planted| one.is_shaped;
    let mut shells: Vec<_> = before.iter().filter(shaped).map(waiting).collect();
    assert!(shells.len() > 5, "{} shells", shells.len());

    let recorder = RecorderProcess::start();
    all.iter().for_each(run_as);
    let in_paths: Vec<&Planted> = paths.iter().filter(shaped).collect();
    for one in &in_paths {
        let secret = &one.secret;
        // Calls that fail leave their strings all the same.
        let _ = fs::metadata(format!("/nonexistent/{secret}/x"));
        let _ = fs::rename(format!("/nonexistent/a?token={secret}&b=1"), "/nonexistent/b");
        let _ = UnixStream::connect(format!("/nonexistent/{}", &secret[..secret.len().min(90)]));
        let _ = Command::new(format!("/nonexistent/{secret}")).status();
    }
    let thread_name = c"ghp_Ab1Cd2Ef3Gh";
    let renamed = Child::fork(|| {
        rename_thread(thread_name);
        0
    });
    renamed.finish();
    let directory = TestDirectory::new();
    let fifo = directory.join(&format!("password={}", in_paths[0].secret));
    let path = CString::new(fifo.to_str().expect("a path in UTF-8")).expect("no NUL");
    // SAFETY: a string with its NUL.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0, "a FIFO");
    let open = Child::fork(|| {
        // SAFETY: a string with its NUL.
        unsafe { libc::openat(libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY) };
        0
    });
    open.wait_in_call(libc::SYS_openat);
    let reason = format!("curl -u app:x https://app:{}@h/ failed", in_paths[1].secret);
    let file = recorder.dump(&["--reason", &reason]);

    let secrets = all.iter().chain(before.iter().filter(shaped)).chain(in_paths.iter().copied());
    let secrets = secrets.map(|one| (one.kind, one.secret.as_str()));
    none_is_left(&file, secrets.chain([("name of a thread", "ghp_Ab1Cd2Ef3Gh")]));

    // What was no secret is there, and what was is counted.
    let text = recorder.replay_text(&file, &[]);
    for word in [
        "mysqldump",
        "--user=app",
        "--password=***",
        "postgres://app:***@db.internal:5432/shop",
        "/nonexistent/***/x",
        "/nonexistent/a?token=***&b=1",
        "password=***",
    ] {
        assert!(text.contains(word), "{word} is missing");
    }
    let info = recorder.info(&file);
    assert!(number(&info["masked"]) >= 300, "{}", info["privacy"]);
    for kind in ["password", "url_password", "github", "jwt", "private_key", "aws", "slack"] {
        assert!(number(&info["privacy"]["masked"][kind]) > 0, "{kind}: {}", info["privacy"]);
    }
    assert_eq!(info["privacy"]["mask"], "on");
    assert_eq!(info["ledger"]["closes"], true);
    assert!(number(&recorder.status()["privacy"]["masked"]["password"]) > 0);
    run(Command::new(binary()).arg("verify").arg(&file)).succeeded();
    for shell in &mut shells {
        shell.kill().expect("a shell");
        shell.wait().expect("a shell");
    }
}

/// An operator may switch it off, and then the file says so.
#[test]
fn masking_that_is_off_is_said_in_the_file() {
    let recorder = RecorderProcess::start_configured("[privacy]\nmask = false\n");
    let planted = planted(4, 1);
    run_as(&planted[0]);
    let file = recorder.dump(&[]);
    assert!(has(&contents(&file), planted[0].secret.as_bytes()));
    let info = recorder.info(&file);
    assert_eq!((&info["privacy"]["mask"], &info["masked"]), (&"off".into(), &0.into()));
    let said = run(Command::new(binary()).arg("info").arg(&file)).succeeded();
    assert!(said.text().contains("NOTHING"), "{}", said.text());

    // Switched on while it records, with a word of one's own.
    let config = recorder.directory().join("recorder.toml");
    fs::write(config, "[privacy]\nwords = [\"badge_number\"]\n").expect("a configuration");
    recorder.signal(libc::SIGHUP);
    wait_until("the new configuration", || recorder.log().contains("configuration read again"));
    let arguments = ["tool", "--badge-number", "4711-aBcD-4711"].map(str::to_string).to_vec();
    let secret = arguments[2].clone();
    run_as(&Planted { kind: "badge", is_shaped: false, secret: secret.clone(), arguments });
    let file = recorder.dump(&[]);
    assert!(!has(&contents(&file), secret.as_bytes()));
    let privacy = recorder.info(&file)["privacy"].clone();
    assert_eq!((&privacy["mask"], &privacy["words"]), (&"partly".into(), &1.into()));
    assert_eq!(privacy["masked"]["word"], 1);
}

/// Writes a title over the arguments of a process up to their last byte, so that what
/// `/proc` gives for them runs on into the environment.
fn write_title(pid: u32) {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(')').expect("its name");
    // Fields 48 and 49 of proc_pid_stat(5); the state is field 3.
    let places: Vec<u64> = fields
        .split_whitespace()
        .skip(45)
        .take(2)
        .map(|field| field.parse().expect("a number"))
        .collect();
    let memory = fs::OpenOptions::new().write(true).open(format!("/proc/{pid}/mem"));
    let title = vec![b'x'; (places[1] - places[0]) as usize];
    memory.expect("its memory").write_all_at(&title, places[0]).expect("a title");
}

/// Nothing of the environment is ever in a file: not of programs that start, nor of
/// those that cannot, nor where it is read from `/proc`, nor behind a title.
#[test]
fn no_environment_is_in_the_file() {
    let mark = |place: u32| format!("envmark{place:04}Qz{}", place * 7919);
    // The mark is the first of the environment, right behind the arguments.
    let mut titled = Command::new("/bin/sh");
    titled.args(["-c", "read x"]).env_clear().env("A_FIRST", mark(0)).stdin(Stdio::piped());
    let mut titled = titled.spawn().expect("a shell");
    // It has read its arguments when it waits for its input.
    wait_until("the shell to read", || {
        let call = fs::read_to_string(format!("/proc/{}/syscall", titled.id()));
        call.unwrap_or_default().starts_with(&format!("{} ", libc::SYS_read))
            && fs::read(format!("/proc/{}/cmdline", titled.id()))
                .is_ok_and(|c| c.starts_with(b"/bin/sh\0-c"))
    });
    write_title(titled.id());
    let mut waiting = Command::new("/bin/sh");
    waiting.args(["-c", "read x"]).env("B_SECOND", mark(1)).stdin(Stdio::piped());
    let mut waiting = waiting.spawn().expect("a shell");
    let shown = fs::read(format!("/proc/{}/cmdline", titled.id())).expect("its title");
    assert!(has(&shown, mark(0).as_bytes()), "the title runs into the environment");

    let recorder = RecorderProcess::start_in(TestDirectory::new(), &Start::default());
    for place in 2..40 {
        let environment = [("MARK", mark(place)), ("OTHER_MARK", mark(place))];
        let mut command = Command::new("/bin/sh");
        // Started, started again without a shell between, looked at, and not started.
        command.args(["-c", "exec /bin/true \"$0\"", "x"]).envs(environment.clone());
        assert!(command.status().expect("a shell").success());
        let reads = ["-c", "cat /proc/self/environ >/dev/null; cat /proc/$PPID/environ >/dev/null"];
        run(Command::new("/bin/sh").args(reads).envs(environment.clone()));
        let missing = Command::new("/nonexistent/program").envs(environment).status();
        assert!(missing.is_err());
    }
    // A program that cannot be run for another reason: it is no program.
    let directory = TestDirectory::new();
    let nothing = directory.join("nothing");
    let made = fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&nothing);
    drop(made.expect("a file"));
    fs::write(&nothing, [0u8; 64]).expect("a file");
    assert!(Command::new(&nothing).env("MARK", mark(40)).status().is_err());
    let file = recorder.dump(&[]);
    let marks: Vec<String> = (0..=40).map(mark).collect();
    none_is_left(&file, marks.iter().map(|mark| ("environment", mark.as_str())));
    assert!(recorder.replay_text(&file, &[]).contains("/nonexistent/program"));
    for process in [&mut titled, &mut waiting] {
        process.kill().expect("a process");
        process.wait().expect("a process");
    }
}

/// Data is kept where somebody asked for it, by class of descriptor, cut and masked; of
/// what `/proc` says never; and the file says so.
#[test]
fn data_is_kept_by_class_when_it_is_asked_for() {
    let contents_of = |arguments: &[&str]| {
        let start = Start { arguments, ..Start::default() };
        let recorder = RecorderProcess::start_in(TestDirectory::new(), &start);
        let directory = TestDirectory::new();
        let path = directory.join("file");
        let written = "filedata-begins password=hunter2hunter2 and filedata-ends-late";
        fs::write(&path, written).expect("a file");
        fs::read(&path).expect("a file");
        let (mut one, mut other) = UnixStream::pair().expect("sockets");
        one.write_all(b"sockdata-begins and sockdata-ends-late").expect("a socket");
        let mut buffer = [0; 64];
        assert!(other.read(&mut buffer).expect("a socket") > 0);
        let environment = ["-c", "cat /proc/self/environ >/dev/null"];
        run(Command::new("/bin/sh").args(environment).env("MARK", "envmark-in-data"));
        let file = recorder.dump(&[]);
        let scrubbed = directory.join("scrubbed.kfr");
        let words = [OsStr::new("--payload"), OsStr::new("-o"), scrubbed.as_os_str()];
        run(Command::new(binary()).arg("scrub").arg(&file).args(words)).succeeded();
        for word in ["filedata-begins", "sockdata-begins"] {
            assert!(!has(&contents(&scrubbed), word.as_bytes()), "{word}");
        }
        assert_eq!(recorder.info(&scrubbed)["privacy"].get("payload"), None);
        (contents(&file), recorder.info(&file), recorder.status())
    };
    let kept = |contents: &[u8]| {
        ["filedata-begins", "filedata-ends-late", "sockdata-begins", "sockdata-ends-late"]
            .map(|word| has(contents, word.as_bytes()))
    };
    let (contents, info, _) = contents_of(&[]);
    assert_eq!(kept(&contents), [false; 4]);
    assert_eq!(info["privacy"].get("payload"), None);
    let (contents, info, status) = contents_of(&["--snaplen", "file=4095,network=20"]);
    assert_eq!(kept(&contents), [true, true, true, false]);
    assert!(!has(&contents, b"hunter2hunter2") && !has(&contents, b"envmark-in-data"));
    let payload = serde_json::json!({"file_bytes": 4095, "network_bytes": 20});
    assert_eq!((&info["privacy"]["payload"], &status["privacy"]["payload"]), (&payload, &payload));
    let (contents, ..) = contents_of(&["--snaplen", "network=4095"]);
    assert_eq!(kept(&contents), [false, false, true, true]);
}
