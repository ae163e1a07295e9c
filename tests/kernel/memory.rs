//! Memory: whom the kernel kills for want of it, and by which name.

use std::path::Path;

use recorder::event::Kind;
use recorder_tests::{
    Child, Ended, MemoryGroup, Pipe, RecorderProcess, Start, TestDirectory, kind, one, recorded,
    rename_thread, skip, take_memory,
};
use serde_json::json;

/// What all processes of a group may have.
const LIMIT_BYTES: usize = 64 << 20;

/// A process that has most of the memory of its group and waits, and the one that
/// asks for more than is left.
fn run_out_of_memory(group: &MemoryGroup) -> (i32, i32) {
    let (has_it, go) = (Pipe::new(), Pipe::new());
    let mut hog = Child::fork(|| {
        rename_thread(c"oom-hog");
        if !group.enter() {
            return 3;
        }
        take_memory(LIMIT_BYTES * 5 / 8);
        has_it.tell();
        // SAFETY: a wait for the signal that ends it.
        unsafe { libc::pause() }
    });
    has_it.wait();
    let asker = Child::fork(|| {
        rename_thread(c"oom-asker");
        if !group.enter() {
            return 3;
        }
        go.tell();
        take_memory(LIMIT_BYTES * 5 / 8);
        0
    });
    go.wait();
    assert_eq!(hog.wait(), Ended::Signal(libc::SIGKILL), "the larger one is killed");
    (hog.pid(), asker.finish())
}

/// Every field of a kill, and the end that follows from it.
fn assert_kill_is_told(recorder: &RecorderProcess, group: &MemoryGroup) {
    let (hog, asker) = run_out_of_memory(group);
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &[]);
    let kill =
        one(&events, "kill of the hog", |event| event["kind"] == "oom_kill" && event["pid"] == hog);
    assert_eq!((&kill["tid"], &kill["comm"]), (&json!(hog), &json!("oom-hog")), "{kill}");
    assert_eq!((&kill["by_pid"], &kill["by_tid"]), (&json!(asker), &json!(asker)), "{kill}");
    assert!(kill["cpu"].is_u64() && kill["ts"].is_string(), "{kill}");
    // Either may come first: the kernel sends the signal, and tells afterwards whom it chose
    // (`__oom_kill_process`, mm/oom_kill.c, 6.18); another CPU can end the process in between.
    one(&events, "end of the hog", |event| event["kind"] == "process_exit" && event["pid"] == hog);
    let line = format!("oom-hog[{hog}] +++ chosen by the OOM killer, {asker} asked for memory +++");
    for filter in [&["-e", "trace=%memory"][..], &["-e", "trace=oom_kill"], &["--comm", "oom-hog"]]
    {
        let text = recorder.replay_text(&file, filter);
        assert!(text.contains(&line), "{filter:?}: {text}");
    }
    assert_eq!(kind(&events, "oom_kill").len() as u64, recorder.info(&file)["events"]["oom_kill"]);
    assert_eq!(recorder.info(&file)["ledger"]["closes"], true);
    assert_name_is_the_kernels(recorder, &file, hog);
}

/// The name is in the record itself, wherever the kernel hands it over.
fn assert_name_is_the_kernels(recorder: &RecorderProcess, file: &Path, hog: i32) {
    let missing = recorder.status()["missing"].to_string();
    let has_task =
        !missing.contains("gives its number only") && !missing.contains("comm of oom/mark_victim");
    let events = recorded(file);
    let name_of = |kind: Kind| {
        let mut found = events.iter().filter(|made| made.kind == kind && made.tid == hog as u32);
        let made = found.next().expect("an event of the hog");
        made.as_event().comm().map(|comm| comm.text().to_vec())
    };
    let expected = has_task.then(|| b"oom-hog".to_vec());
    assert_eq!(name_of(Kind::OomKill), expected, "{missing}");
    assert_eq!(name_of(Kind::ProcessExit), Some(b"oom-hog".to_vec()));
}

#[test]
fn a_kill_for_want_of_memory_is_told() {
    let group = match MemoryGroup::new(LIMIT_BYTES as u64) {
        Ok(group) => group,
        Err(why) => return skip(&why),
    };
    let recorder = RecorderProcess::start();
    assert_kill_is_told(&recorder, &group);
}

#[test]
fn a_kill_for_want_of_memory_is_told_without_btf() {
    let Some(wrapper) = Start::hide_btf() else {
        return skip("nothing to hide: no BTF, or no unshare");
    };
    let group = match MemoryGroup::new(LIMIT_BYTES as u64) {
        Ok(group) => group,
        Err(why) => return skip(&why),
    };
    let start = Start { wrapper: &wrapper, ..Start::default() };
    let recorder = RecorderProcess::start_in(TestDirectory::new(), &start);
    assert_kill_is_told(&recorder, &group);
}

/// Whoever asks for more than there is may be the one that is killed for it.
#[test]
fn a_process_that_is_killed_for_its_own_wish_is_told() {
    let group = match MemoryGroup::new(LIMIT_BYTES as u64) {
        Ok(group) => group,
        Err(why) => return skip(&why),
    };
    let recorder = RecorderProcess::start();
    let mut child = Child::fork(|| {
        rename_thread(c"oom-alone");
        if !group.enter() {
            return 3;
        }
        take_memory(2 * LIMIT_BYTES);
        0
    });
    assert_eq!(child.wait(), Ended::Signal(libc::SIGKILL));
    let pid = child.pid();
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &["-e", "trace=oom_kill"]);
    let kill = one(&events, "kill", |event| event["pid"] == pid);
    assert_eq!((&kill["by_pid"], &kill["by_tid"]), (&json!(pid), &json!(pid)));
    let made = recorded(&file);
    let made = made.iter().find(|made| made.kind == Kind::OomKill && made.tid == pid as u32);
    let comm = made.and_then(|made| made.as_event().comm().map(|comm| comm.text().to_vec()));
    assert_eq!(comm.as_deref(), Some(&b"oom-alone"[..]), "every kernel knows its current thread");
}
