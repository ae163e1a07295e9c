//! Processes: what a shell does, fork, threads, names and ends.

use std::process::Command;

use recorder_tests::{
    Child, Ended, Pipe, RecorderProcess, kind, ns, number, one, position, run, text,
};
use serde_json::{Value, json};

/// The scenario of the promise: everything a shell did is there, in order.
#[test]
fn a_shell_with_two_programs_is_told_from_exec_to_exit() {
    let recorder = RecorderProcess::start();
    let outcome = run(Command::new("sh").args(["-c", "cat /etc/hostname; ls /nonexistent"]));
    assert_eq!(outcome.code, Some(2), "{outcome:?}");
    let asked = std::time::Instant::now();
    let file = recorder.dump(&[]);
    println!("dump took {} ms", asked.elapsed().as_millis());

    let all = recorder.replay(&file, &[]);
    let exec =
        |args: Value| move |event: &Value| event["kind"] == "process_exec" && event["args"] == args;
    let cat_exec = position(&all, "exec of cat", exec(json!(["cat", "/etc/hostname"])));
    let ls_exec = position(&all, "exec of ls", exec(json!(["ls", "/nonexistent"])));
    let (cat, ls) = (all[cat_exec]["pid"].clone(), all[ls_exec]["pid"].clone());
    assert!(text(&all[cat_exec]["program"]).ends_with("/cat"), "{}", all[cat_exec]);
    assert!(text(&all[ls_exec]["program"]).ends_with("/ls"), "{}", all[ls_exec]);
    let open = position(&all, "openat of /etc/hostname", |event| {
        event["pid"] == cat
            && event["name"] == "openat"
            && event["args"]["filename"] == "/etc/hostname"
    });
    assert_eq!(all[open]["args"]["flags"], "O_RDONLY", "{}", all[open]);
    assert!(all[open]["ret"].as_i64().is_some_and(|fd| fd >= 3), "{}", all[open]);
    assert!(number(&all[open]["dur_ns"]) > 0, "{}", all[open]);
    assert_eq!(all[open].get("errno"), None);
    let failing = position(&all, "failing call on /nonexistent", |event| {
        event["pid"] == ls && event["args"]["filename"] == "/nonexistent"
    });
    assert_eq!((&all[failing]["errno"], &all[failing]["ret"]), (&json!("ENOENT"), &json!(-2)));
    assert!(number(&all[failing]["dur_ns"]) > 0, "{}", all[failing]);
    let exit_of = |pid: &Value| {
        position(&all, "exit", |event| event["kind"] == "process_exit" && event["pid"] == *pid)
    };
    let (cat_exit, ls_exit) = (exit_of(&cat), exit_of(&ls));
    assert_eq!((&all[cat_exit]["code"], &all[ls_exit]["code"]), (&json!(0), &json!(2)));
    let order = [cat_exec, open, cat_exit, ls_exec, failing, ls_exit];
    assert!(order.is_sorted(), "{order:?}");
    assert!(all.is_sorted_by_key(|event| ns(&event["ts_ns"])), "time never goes back");

    // Text says the same as JSON.
    let lines = recorder.replay_text(&file, &[]);
    let events = lines.lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(events, all.len(), "one line per event");
    let open_line = format!(
        "cat[{cat}] openat(AT_FDCWD, \"/etc/hostname\", O_RDONLY) = {}</etc/hostname> <",
        all[open]["ret"]
    );
    assert!(lines.contains(&open_line), "{open_line}");
    let fails = |line: &&str| line.contains("\"/nonexistent\"") && line.contains("-1 ENOENT");
    assert!(lines.lines().any(|line| fails(&line)), "the failing call in text");
    assert!(lines.contains(&format!("ls[{ls}] +++ exited with 2 +++")), "the exit in text");
    assert_eq!(recorder.info(&file)["ledger"]["closes"], true);
}

/// Everything that had returned before the request is in the file: the last call
/// before it, many times over.
#[test]
fn what_returned_before_a_dump_is_in_it() {
    let recorder = RecorderProcess::start();
    for round in 0..5 {
        let path = format!("/nonexistent/round-{round}");
        assert!(std::fs::metadata(&path).is_err());
        let file = recorder.dump(&[]);
        let found = recorder.replay(&file, &["--path", &path]);
        one(&found, "call of this round", |event| event["errno"] == "ENOENT");
    }
}

#[test]
fn fork_thread_rename_and_end_by_signal_are_told() {
    let recorder = RecorderProcess::start();
    let ready = Pipe::new();
    let mut child = Child::fork(|| {
        let thread = std::thread::Builder::new().name("second".to_string());
        let spawned = thread.spawn(recorder_tests::this_thread);
        let ended = spawned.map(std::thread::JoinHandle::join);
        // SAFETY: a string with its NUL; then a wait for the signal.
        unsafe {
            libc::prctl(libc::PR_SET_NAME, c"renamed".as_ptr());
            ready.tell();
            libc::pause();
        }
        i32::from(ended.is_err())
    });
    ready.wait();
    child.signal(libc::SIGKILL);
    assert_eq!(child.wait(), Ended::Signal(libc::SIGKILL));
    let pid = child.pid();
    let file = recorder.dump(&[]);
    let all = recorder.replay(&file, &[]);
    let fork = one(&all, "fork of the child", |event| {
        event["kind"] == "process_fork" && event["child_tid"] == pid
    });
    assert_eq!(fork["child_pid"], pid);
    assert_eq!(fork["pid"], std::process::id());
    let of_child = recorder_tests::of_pid(&all, pid);
    let thread = one(&of_child, "fork of the thread", |event| event["kind"] == "process_fork");
    assert_eq!(thread["child_pid"], pid, "a thread belongs to its process");
    let tid = &thread["child_tid"];
    assert_ne!(tid, pid);
    one(&of_child, "end of the thread", |event| {
        event["kind"] == "process_exit" && event["tid"] == *tid
    });
    let renames = kind(&of_child, "process_rename");
    let names: Vec<_> = renames.iter().map(|event| (&event["tid"], &event["new_comm"])).collect();
    assert_eq!(names, [(tid, &json!("second")), (&json!(pid), &json!("renamed"))]);
    let end = one(&of_child, "end of the process", |event| {
        event["kind"] == "process_exit" && event["tid"] == pid
    });
    assert_eq!((&end["signal"], &end["code"]), (&json!("SIGKILL"), &json!(0)));
    assert_eq!(end["comm"], "renamed");
}
