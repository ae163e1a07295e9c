//! Snapshots that are asked for at the same time, that have a deadline, and whose disk fails.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use recorder_tests::{
    RecorderProcess, binary, has_program, number, run, skip, wait_for, wait_until,
};

/// Makes a call that is known by its words.
fn mark(word: &str) {
    let path = format!("/nonexistent/{word}\0");
    // SAFETY: a string with its NUL; it is not there.
    unsafe { libc::access(path.as_ptr().cast(), libc::F_OK) };
}

fn has_mark(recorder: &RecorderProcess, file: &Path, word: &str) -> bool {
    let path = format!("\"/nonexistent/{word}\"");
    let marks = recorder.replay_some(file, &["-e", "trace=access"], |line| line.contains(&path));
    marks.len() == 1
}

fn verify(file: &Path) {
    run(Command::new(binary()).arg("verify").arg(file)).succeeded();
}

/// Whoever asks while one waits for its turn gets that one, and what it did before is in it.
#[test]
fn snapshots_asked_for_at_the_same_time_share_the_work() {
    const ASKERS: usize = 24;
    let recorder = RecorderProcess::start();
    let askers: Vec<_> = (0..ASKERS)
        .map(|asker| {
            let word = format!("asker-{asker}");
            mark(&word);
            let mut command = recorder.command("dump", &["--reason", &word]);
            (word, command.stdout(Stdio::piped()).spawn().expect("a client"))
        })
        .collect();
    let asked: Vec<(String, PathBuf)> = askers
        .into_iter()
        .map(|(word, client)| {
            let output = client.wait_with_output().expect("its end");
            assert!(output.status.success(), "{word}: {output:?}");
            (word, PathBuf::from(String::from_utf8_lossy(&output.stdout).trim_end()))
        })
        .collect();
    let files: BTreeSet<&PathBuf> = asked.iter().map(|(_, file)| file).collect();
    println!("{ASKERS} askers, {} files", files.len());
    for file in &files {
        verify(file);
        // Everybody's words are in it.
        let trigger = &recorder.info(file)["trigger"];
        let also = trigger["also"].as_array().map_or(0, Vec::len);
        let askers = asked.iter().filter(|(_, asked)| asked == *file).count();
        assert_eq!(1 + also, askers, "{trigger}");
    }
    for (word, file) in &asked {
        assert!(has_mark(&recorder, file, word), "{word} is in {}", file.display());
    }
    assert_eq!(recorder.files().len(), files.len(), "and no other file");
}

#[test]
fn a_snapshot_with_a_deadline_is_whole() {
    let recorder = RecorderProcess::start();
    mark("before");
    let file = recorder.dump(&["--deadline", "2s"]);
    verify(&file);
    assert!(has_mark(&recorder, &file, "before"), "there was time for everything");
    let info = recorder.info(&file);
    assert_eq!(info["ledger"]["closes"], true, "{info}");
    assert!(number(&info["dump"]["total_ms"]) <= 2_000, "{info}");
    let refused = run(&mut recorder.command("dump", &["--deadline", "1ms"]));
    refused.failed_with(2, &["deadline", "100 ms"]);
}

/// A disk that fails once: no file, one clear error, and the next snapshot is fine.
#[test]
fn an_error_of_the_disk_costs_that_snapshot_alone() {
    if !has_program("strace") {
        return skip("there is no strace, which makes calls fail");
    }
    let recorder = RecorderProcess::start();
    for (calls, error, word) in [
        ("fsync,fdatasync", "EIO", "Input/output error"),
        ("renameat2", "EDQUOT", "quota exceeded"),
    ] {
        let before = recorder.files();
        let log = recorder.directory().join(&format!("strace-{calls}"));
        let mut tracer = Command::new("strace");
        tracer.args(["-f", "-qq", "-p", &recorder.pid().to_string(), "-o"]).arg(&log);
        tracer.args(["-e", &format!("trace={calls}")]);
        tracer.args(["-e", &format!("inject={calls}:error={error}:when=1")]);
        let mut tracer = tracer.stdin(Stdio::null()).spawn().expect("strace");
        let status = format!("/proc/{}/status", recorder.pid());
        wait_until("strace to follow", || {
            let text = fs::read_to_string(&status).unwrap_or_default();
            text.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
        });
        let failed = wait_for("a dump that fails", || {
            let outcome = run(&mut recorder.command("dump", &[]));
            (outcome.code != Some(0)).then_some(outcome)
        });
        assert_eq!(failed.code, Some(73), "{failed:?}");
        assert!(failed.stderr.contains(word), "{failed:?}");
        assert_eq!(failed.stderr.lines().count(), 1, "{failed:?}");
        // SAFETY: our child, and not reaped.
        unsafe { libc::kill(tracer.id().cast_signed(), libc::SIGTERM) };
        tracer.wait().expect("its end");
        let (files, parts): (Vec<_>, Vec<_>) = fs::read_dir(recorder.snapshots())
            .expect("the directory")
            .flatten()
            .map(|entry| entry.path())
            .partition(|path| path.extension() == Some("kfr".as_ref()));
        files.iter().for_each(|file| verify(file));
        let is_part = |path: &PathBuf| path.extension() == Some("kfr-part".as_ref());
        assert!(!parts.iter().any(is_part), "{parts:?}");
        let after = recorder.dump(&[]);
        verify(&after);
        assert!(recorder.files().len() > before.len());
        let metrics = recorder.socket().get("/metrics").text();
        let failures = metrics
            .lines()
            .find(|line| line.starts_with("recorder_snapshots_total") && line.contains("failed"));
        assert!(failures.is_some(), "{calls}: {metrics}");
    }
}

/// A recording whose thread is held: the order waited ten seconds for it, whatever its
/// deadline was.
#[test]
fn a_deadline_holds_for_a_recording_that_does_not_answer() {
    let recorder = RecorderProcess::start();
    let task = format!("/proc/{}/task", recorder.pid());
    let threads = fs::read_dir(task).expect("threads").flatten();
    let is_ingest = |path: &PathBuf| {
        fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim_end() == "ingest")
    };
    let ingest = threads.map(|entry| entry.path()).find(is_ingest).expect("the ingest thread");
    let tid: i32 = ingest.file_name().and_then(|name| name.to_str()?.parse().ok()).expect("its id");
    let ptrace = |request, tid: i32| {
        // SAFETY: numbers; the thread is one of a program of ours.
        let answer = unsafe { libc::ptrace(request, tid, 0, 0) };
        assert_eq!(answer, 0, "ptrace: {}", std::io::Error::last_os_error());
    };
    ptrace(libc::PTRACE_SEIZE, tid);
    ptrace(libc::PTRACE_INTERRUPT, tid);
    wait_until("the thread to be held", || {
        fs::read_to_string(ingest.join("stat")).is_ok_and(|stat| stat.contains(") t "))
    });
    let asked = std::time::Instant::now();
    let late = run(&mut recorder.command("dump", &["--deadline", "1s"]));
    let took = asked.elapsed();
    // SAFETY: room for a status.
    let held = unsafe { libc::waitpid(tid, std::ptr::null_mut(), libc::__WALL) };
    assert_eq!(held, tid, "the thread is held");
    ptrace(libc::PTRACE_DETACH, tid);
    late.failed_with(75, &["did not answer within 500ms", "allow more time"]);
    assert!(took < std::time::Duration::from_secs(8), "{took:?}");
    let file = recorder.dump(&["--deadline", "2s"]);
    assert!(recorder.info(&file)["ledger"]["closes"].as_bool().is_some_and(|closes| closes));
}
