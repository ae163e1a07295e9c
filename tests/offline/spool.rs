//! A spool written and read without a kernel: many times round, and damaged.

use std::{fs, path::Path, thread};

use recorder::{
    context::Processes,
    event::{Kind, syscall::Abi},
    privacy::{Privacy, Rules},
    snapshot::{SnapshotReader, verify},
    spool::{PARTS, Spool, SpoolError, SpoolSetup, recover, sessions},
    window::{Window, WindowLimits},
};
use recorder_tests::{
    recorded,
    synth::{Random, Synth},
    wait_until,
};

use crate::scratch::{Scratch, rounds};

/// The smallest: it goes round soon.
const SPOOL_BYTES: u64 = 16 << 20;

const SPAN_NS: u64 = 60_000_000_000;

/// Feeds `events` through a window into a spool in `directory`; `ends` when the recording
/// ends as it should. Answers how many events were missed.
fn spool(directory: &Path, synth: &Synth, ends: bool) -> u64 {
    let (spool, mut feed, writer) = Spool::new(SpoolSetup {
        directory: directory.join("spool"),
        bytes: SPOOL_BYTES,
        snapshots: directory.to_path_buf(),
        host: synth.header.clone(),
        privacy: Privacy::new(Rules::default()),
    });
    let writing = thread::spawn(move || writer.run());
    let limits = WindowLimits { span_ns: SPAN_NS, bytes_max: 64 << 20 };
    let mut window =
        Window::new(limits, usize::from(synth.cpus), Abi::X86_64, Processes::default());
    window.keep_unseen();
    wait_until("the first part", || {
        feed.take(&mut window);
        spool.health().written_bytes > 0
    });
    let mut now_ns = 0;
    for (number, made) in synth.events.iter().enumerate() {
        now_ns = made.ts_ns.max(now_ns);
        window.push(&made.as_event());
        window.tick(now_ns);
        feed.take(&mut window);
        if number % 1_000 == 0 {
            // The disk has its time, as it has between two visits of the rings.
            thread::yield_now();
        }
    }
    if ends {
        feed.end(&mut window);
    } else {
        drop(feed);
    }
    writing.join().expect("the thread that writes");
    let health = spool.health();
    assert_eq!(health.error, None);
    println!("{} bytes written, {} events missed", health.written_bytes, health.missed_events);
    health.missed_events
}

fn synth(seed: u64, events: usize) -> Synth {
    let mut synth = Synth::random(seed, 3, events);
    // The context is folded by effect; here it is the bytes that count.
    synth.events.retain(|made| made.kind != Kind::Lost);
    synth
}

#[test]
fn what_goes_round_and_round_ends_with_the_last_minute() {
    for seed in 0..rounds(3) {
        let scratch = Scratch::new();
        let synth = synth(seed, 200_000 + 20_000 * (seed as usize % 3));
        let missed = spool(scratch.path(), &synth, true);
        let recovered = recover(&scratch.path().join("spool"), scratch.path(), None)
            .unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        assert_eq!(recovered.complaints, Vec::<String>::new(), "seed {seed}");
        let verdict = verify(&recovered.path, &mut |_, _| {}).unwrap();
        assert_eq!(verdict.complaints, Vec::<String>::new(), "seed {seed}");
        let end_ns = synth.events.iter().map(|made| made.ts_ns).max().unwrap();
        let is_in_window = |ts_ns: u64| ts_ns >= end_ns - SPAN_NS;
        let expected = synth.events.iter().filter(|made| is_in_window(made.ts_ns)).count() as u64;
        let events = recorded(&recovered.path);
        let found = events.iter().filter(|made| {
            is_in_window(made.ts_ns)
                && !matches!(made.kind, Kind::Lost | Kind::Process | Kind::Descriptor)
        });
        let found = found.count() as u64;
        assert!(found <= expected, "seed {seed}: {found} of {expected}");
        assert!(found + missed >= expected, "seed {seed}: {found} and {missed} of {expected}");
        let sessions = sessions(&scratch.path().join("spool")).unwrap();
        assert_eq!(sessions.len(), 1);
    }
}

/// Whatever becomes of its files: what is saved is whole, and nothing of it panics.
#[test]
fn a_damaged_spool_gives_what_is_whole_of_it() {
    let scratch = Scratch::new();
    let small = synth(1, 3_000);
    spool(scratch.path(), &small, false);
    let directory = scratch.path().join("spool");
    let part = |number: usize| directory.join(format!("{number}.kfr-spool"));
    let whole = fs::read(part(0)).unwrap();
    let used = whole.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let (mut saved, mut refused) = (0, 0);
    for seed in 0..rounds(2_000) {
        let mut random = Random::new(seed);
        let mut damaged = whole.get(..used).unwrap().to_vec();
        match random.below(3) {
            0 => damaged.truncate(random.below(used as u64) as usize),
            1 => {
                let place = random.below(used as u64) as usize;
                damaged[place] ^= 1 << random.below(8);
            }
            _ => {
                let place = random.below(used as u64) as usize;
                let end = (place + random.below(5_000) as usize).min(used);
                damaged[place..end].fill(random.next_u64() as u8);
            }
        }
        damaged.resize(used + 100, 0);
        fs::write(part(0), &damaged).unwrap();
        let name = format!("{seed}.kfr");
        match recover(&directory, scratch.path(), Some((&name, false))) {
            Ok(recovered) => {
                let verdict = verify(&recovered.path, &mut |_, _| {}).unwrap();
                assert_eq!(verdict.complaints, Vec::<String>::new(), "seed {seed}");
                // Nobody knows what is missing: the books of none are said to close.
                let reader = SnapshotReader::open(&recovered.path).unwrap();
                let ledger = &reader.header().ledger;
                assert_eq!((ledger.in_window, ledger.closes), (recovered.events, false));
                fs::remove_file(recovered.path).unwrap();
                saved += 1;
            }
            Err(SpoolError::Io(path, error)) => panic!("seed {seed}: {}: {error}", path.display()),
            Err(SpoolError::Empty(_) | SpoolError::Recover(_)) => refused += 1,
        }
    }
    println!("{saved} saved, {refused} refused");
    assert!(saved > 0 && refused > 0, "{saved} saved, {refused} refused");
}

/// A directory of somebody else is no spool, whatever is in it.
#[test]
fn what_is_no_spool_is_said_to_be_none() {
    let scratch = Scratch::new();
    let empty = |path: &Path| {
        let error = recover(path, scratch.path(), None).expect_err("nothing there");
        assert!(matches!(error, SpoolError::Empty(_)), "{error}");
    };
    empty(scratch.path());
    for number in 0..3 * PARTS {
        fs::write(scratch.path().join(format!("{number}.kfr-spool")), [number as u8; 5_000])
            .unwrap();
    }
    empty(scratch.path());
    // A snapshot is no part, by whatever name.
    let snapshot = synth(2, 500).write(scratch.path());
    fs::rename(snapshot, scratch.path().join("0.kfr-spool")).unwrap();
    empty(scratch.path());
    let nowhere = recover(&scratch.path().join("absent"), scratch.path(), None);
    assert!(matches!(nowhere, Err(SpoolError::Io(..))));
}
