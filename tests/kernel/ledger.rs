//! The books under load.

use std::thread::available_parallelism;

use recorder_tests::{
    Child, Counts, Pipe, RecorderProcess, kind, lost_count, ns, number, pin, wait_until,
};
use serde_json::Value;

/// A call as cheap as `getppid` that nothing else on a machine makes: shells call
/// `getppid` when they start, and the counts were off by one.
const CALL: &str = "sched_get_priority_min";

/// [`CALL`] this many times on each CPU at once; the children do nothing else.
fn flood(calls: u64) -> u64 {
    let cpus = available_parallelism().expect("the number of CPUs").get();
    let go = Pipe::new();
    let children: Vec<Child> = (0..cpus)
        .map(|cpu| {
            Child::fork(|| {
                pin(cpu);
                go.wait();
                for _ in 0..calls {
                    // SAFETY: a call whose argument is a number.
                    unsafe { libc::syscall(libc::SYS_sched_get_priority_min, 0) };
                }
                0
            })
        })
        .collect();
    for _ in 0..cpus {
        go.tell();
    }
    for child in children {
        child.finish();
    }
    calls * cpus as u64
}

fn sum(counts: &Value) -> u64 {
    counts.as_object().map_or(0, |counts| counts.values().map(number).sum())
}

/// Each sum of the ledger, by the numbers printed.
#[track_caller]
fn assert_closes(ledger: &Value) {
    let of = |name: &str| number(&ledger[name]);
    assert_eq!(ledger["closes"], true, "{ledger}");
    let lost = sum(&ledger["lost"]);
    let sums = of("stored") + of("filtered") + of("aggregated") + lost;
    assert_eq!(of("seen"), sums, "{ledger}");
    assert_eq!(of("stored"), of("decoded") + of("malformed") + of("in_flight"), "{ledger}");
    assert_eq!(of("decoded"), of("in_window") + of("evicted"), "{ledger}");
    assert_eq!((of("unaccounted"), of("malformed"), of("in_flight")), (0, 0, 0), "{ledger}");
}

#[test]
fn each_call_on_every_cpu_at_once_is_counted() {
    let recorder = RecorderProcess::start();
    let made = flood(Counts::of(3_000_000));
    let file = recorder.dump(&[]);
    let info = recorder.info(&file);
    let ledger = &info["ledger"];
    assert_closes(ledger);
    let call = &ledger["calls"][CALL];
    assert_eq!(number(&call["seen"]), made, "{call}");
    let kept = recorder.replay(&file, &["-e", &format!("trace={CALL}")]);
    let kept_calls = kept.iter().filter(|event| event["name"] == CALL).count() as u64;
    let evicted = number(&ledger["evicted"]);
    println!("made {made}, kept {kept_calls}, lost {}, evicted {evicted}", call["lost"]);
    assert_eq!(evicted, 0, "the window is large enough for all of it");
    assert_eq!(kept_calls + number(&call["lost"]), made);
    let all = recorder.replay(&file, &["--failed"]);
    let placed = lost_count(&all).max(lost_count(&kept));
    assert_eq!(placed, sum(&ledger["lost"]), "every loss has its place on the time line");
}

/// A reader that stands still while the rings run over.
#[test]
fn losses_are_counted_and_placed_in_time() {
    let recorder = RecorderProcess::start_with(&["--memory", "16MiB"]);
    recorder.signal(libc::SIGSTOP);
    let stat = format!("/proc/{}/stat", recorder.pid());
    wait_until("the recorder to be stopped", || {
        std::fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") T "))
    });
    let before_ns = monotonic_ns();
    let made = flood(Counts::of(3_000_000));
    let after_ns = monotonic_ns();
    recorder.signal(libc::SIGCONT);
    let file = recorder.dump(&[]);
    let info = recorder.info(&file);
    let ledger = &info["ledger"];
    assert_closes(ledger);
    let call = &ledger["calls"][CALL];
    assert_eq!(number(&call["seen"]), made, "{call}");
    let lost = sum(&ledger["lost"]);
    assert!(lost > 0, "{ledger}");
    assert_eq!(number(&ledger["lost"]["ring_full"]), lost);

    let events = recorder.replay(&file, &[]);
    let kept = events.iter().filter(|event| event["name"] == CALL).count() as u64;
    println!("made {made}, kept {kept}, lost {} of them, {lost} in all", call["lost"]);
    assert_eq!(number(&ledger["evicted"]), 0, "the file holds all that was not lost");
    assert_eq!(kept + number(&call["lost"]), made);
    assert_eq!(lost_count(&events), lost);
    let mut in_flood = 0;
    for loss in kind(&events, "lost") {
        let (first, last) = (ns(&loss["ts_ns"]), ns(&loss["until_ns"]));
        assert!(before_ns <= first && first <= last, "{loss}");
        // The rings stay full until the reader has gone on, so others lose a few
        // events after the flood.
        if first <= after_ns {
            in_flood += number(&loss["count"]);
        }
    }
    let flood_lost = number(&call["lost"]);
    assert!(
        in_flood >= flood_lost,
        "{in_flood} of {flood_lost} lost calls are placed in the flood"
    );
    let text = recorder.replay_text(&file, &["--failed"]);
    assert!(text.contains("ring_full"), "text has a line where losses fall:\n{text:.2000}");
}

fn monotonic_ns() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `now` is writable.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut now) };
    now.tv_sec.cast_unsigned() * 1_000_000_000 + now.tv_nsec.cast_unsigned()
}
