//! The long memory: how often who did what.

use std::{path::Path, process::Command};

use recorder_tests::{Child, Pipe, RecorderProcess, binary, number, run, text, wait_for};
use serde_json::Value;

fn rollups(file: &Path, arguments: &[&str]) -> Vec<Value> {
    let mut command = Command::new(binary());
    command.arg("rollups").arg(file).args(["--format", "jsonl", "--top", "0"]).args(arguments);
    let outcome = run(&mut command).succeeded();
    let lines = outcome.text().lines();
    lines.map(|line| serde_json::from_str(line).expect("one JSON object per line")).collect()
}

fn sum(rows: &[Value], field: &str) -> u64 {
    rows.iter().map(|row| number(&row[field])).sum()
}

/// Each call is in the row of its second, with its failures, its bytes and its process' name.
#[test]
fn what_a_busy_process_does_is_counted_second_by_second() {
    const CALLS: u64 = 5_000;
    let recorder = RecorderProcess::start();
    let (go, done) = (Pipe::new(), Pipe::new());
    let busy = Child::fork(|| {
        recorder_tests::rename_thread(c"busy-bee");
        go.wait();
        let pipe = Pipe::new();
        for _ in 0..CALLS {
            let mut byte = 0u8;
            // SAFETY: strings with their NUL, and room for a byte.
            unsafe {
                libc::access(c"/nonexistent".as_ptr(), libc::F_OK);
                libc::write(pipe.writer, (&raw const byte).cast(), 1);
                libc::read(pipe.reader, (&raw mut byte).cast(), 1);
            }
        }
        done.tell();
        go.wait();
        0
    });
    go.tell();
    done.wait();
    let pid = busy.pid().to_string();
    let of = |call| ["--per", "1s", "--pid", &pid, "--call", call].map(str::to_string);
    let (file, failed) = wait_for("its seconds to end", || {
        let file = recorder.dump(&[]);
        let arguments = of("access");
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let rows = rollups(&file, &arguments);
        (sum(&rows, "count") == CALLS).then_some((file, rows))
    });
    assert_eq!(sum(&failed, "errors"), CALLS, "{failed:?}");
    assert!(failed.iter().all(|row| text(&row["comm"]) == "busy-bee"), "{failed:?}");
    assert!(failed.iter().all(|row| number(&row["dur_ns_p50"]) > 0), "{failed:?}");
    for call in ["read", "write"] {
        let arguments = of(call);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let rows = rollups(&file, &arguments);
        // It waits for us with some of them.
        assert!(sum(&rows, "count") >= CALLS, "{call}: {rows:?}");
        assert!(sum(&rows, "bytes") >= CALLS, "{call}: {rows:?}");
        assert_eq!(sum(&rows, "errors"), 0, "{call}: {rows:?}");
    }
    // The minute is not over, and has them all.
    let minute = rollups(&file, &["--pid", &pid, "--call", "access"]);
    assert_eq!(sum(&minute, "count"), CALLS, "{minute:?}");
    assert!(minute.iter().all(|row| row["unfinished"] == true), "{minute:?}");
    // Everything of a kind, whoever did it.
    let all = rollups(&file, &["--per", "1s"]);
    let kinds: Vec<&Value> = all.iter().filter(|row| row["kind"] == "syscall").collect();
    let calls: u64 = kinds.iter().map(|row| number(&row["count"])).sum();
    assert!(calls >= 3 * CALLS, "{kinds:?}");
    go.tell();
    busy.finish();
    // They are no events, and their bytes are none of the window's.
    let info = recorder.info(&file);
    assert_eq!(info["ledger"]["closes"], true, "{info}");
    assert_eq!(info["events"]["rollup"], Value::Null, "{info}");
    run(Command::new(binary()).arg("verify").arg(&file)).succeeded();
    let status = recorder.status();
    let memory = &status["memory"];
    assert!(number(&memory["rollups"]) <= number(&memory["limit"]) / 8, "{memory}");
    let shown = run(Command::new(binary()).arg("rollups").arg(&file).args(["--per", "1s"]));
    assert!(shown.succeeded().text().contains("busy-bee["));
}
