//! The threads a program was made of, by the recorder's own account.

use std::collections::HashMap;

use recorder_tests::{number, text};
use serde_json::Value;

/// A thread and its calls, in the order of the events.
#[derive(Default)]
pub(super) struct RecordedThread {
    /// Its number; that of the leader after an exec of another thread.
    pub(super) tid: i32,
    /// Its calls.
    pub(super) calls: Vec<Value>,
    /// How many of them come before the first program it started; 0 when it
    /// started none.
    pub(super) before_exec: usize,
    /// Its end, when it had one: another thread that takes its number has the
    /// last word.
    pub(super) end: Option<Value>,
    /// Programs it started.
    execs: usize,
    /// The last one, until the call that started it.
    words: Option<Value>,
}

impl RecordedThread {
    /// The words of a new program are in an event of their own: the memory they were
    /// in is gone when the call returns.
    fn call(&mut self, mut call: Value) {
        let is_exec = matches!(call["name"].as_str(), Some("execve" | "execveat"));
        if is_exec
            && call["ret"] == 0
            && let Some(exec) = self.words.take()
        {
            for (from, to) in [("args", "argv"), ("args_cut", "argv_cut")] {
                if let Some(words) = exec.get(from) {
                    call["args"][to] = words.clone();
                }
            }
        }
        self.calls.push(call);
    }
}

/// The thread `root` that the process `parent` made, and all that come from it,
/// each with what it did while it lived: its number may have been another's before
/// and become another's after.
pub(super) fn threads(events: &[Value], parent: i32, root: i32) -> Vec<RecordedThread> {
    let mut threads = Vec::new();
    // Where the living are, and where those were that ended.
    let (mut living, mut last) = (HashMap::new(), HashMap::new());
    for event in events {
        // A loss has no thread.
        let Some(tid) = event["tid"].as_i64().map(|tid| tid as i32) else { continue };
        match text(&event["kind"]) {
            "process_fork" => {
                let child = number(&event["child_tid"]) as i32;
                if living.contains_key(&tid) || tid == parent && child == root {
                    living.insert(child, threads.len());
                    threads.push(RecordedThread { tid: child, ..RecordedThread::default() });
                }
            }
            "process_exec" => {
                let old_tid = number(&event["old_tid"]) as i32;
                if old_tid != tid && living.remove(&old_tid).is_some() {
                    // The leader has ended; this thread takes its number.
                    living.insert(tid, last[&tid]);
                }
                if let Some(place) = living.get(&tid) {
                    let thread: &mut RecordedThread = &mut threads[*place];
                    if thread.execs == 0 {
                        thread.before_exec = thread.calls.len();
                    }
                    thread.execs += 1;
                    thread.words = Some(event.clone());
                }
            }
            "process_exit" => {
                if let Some(place) = living.remove(&tid) {
                    last.insert(tid, place);
                    threads[place].end = Some(event.clone());
                }
            }
            "syscall" => {
                if let Some(place) = living.get(&tid) {
                    threads[*place].call(event.clone());
                }
            }
            _ => {}
        }
    }
    threads
}
