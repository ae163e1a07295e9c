//! A spool written and read without a kernel: many times round, and damaged.

use std::{fs, path::Path, thread};

use recorder::{
    context::Processes,
    event::{Class, Kind, syscall::Abi},
    privacy::{Privacy, Rules},
    rollup::Rollups,
    snapshot::{SnapshotReader, verify},
    spool::{PARTS, Spool, SpoolError, SpoolSetup, recover, sessions},
    window::{Window, WindowLimits, codec::BlockMeta},
};
use recorder_tests::{
    recorded,
    synth::{Random, Synth},
    wait_until,
};

use crate::scratch::{Scratch, rounds};

/// The smallest: it goes round soon.
const SPOOL_BYTES: u64 = 16 << 20;

/// What is known of the host then takes less than half of a part.
const SPAN_NS: u64 = 50_000_000_000;

/// What a recording did with its spool.
struct Spooled {
    /// Events that were missed.
    missed: u64,
    /// Blocks of counts that were sealed: their time and how many rows they have.
    rollups: Vec<(u64, u64, u32)>,
}

/// Feeds `events` through a window into a spool in `directory`; `ends` when the recording
/// ends as it should.
fn spool(directory: &Path, synth: &Synth, ends: bool) -> Spooled {
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
    let mut rollups = Rollups::new(Abi::X86_64, 8 << 20, &Processes::default());
    rollups.keep_unseen();
    wait_until("the first part", || {
        feed.take(&mut window, rollups.sealed(), Vec::new());
        spool.health().written_bytes > 0
    });
    let mut now_ns = 0;
    for (number, made) in synth.events.iter().enumerate() {
        now_ns = made.ts_ns.max(now_ns);
        window.push(&made.as_event());
        window.tick(now_ns);
        rollups.push(&made.as_event());
        rollups.tick(now_ns);
        let sealed = rollups.take_unseen();
        feed.take(&mut window, rollups.sealed(), sealed);
        if number % 1_000 == 0 {
            // The disk has its time, as it has between two visits of the rings.
            thread::yield_now();
        }
    }
    if ends {
        window.seal_all();
        feed.take(&mut window, rollups.sealed(), Vec::new());
        feed.end();
    } else {
        drop(feed);
    }
    writing.join().expect("the thread that writes");
    let health = spool.health();
    assert_eq!(health.error, None);
    println!("{} bytes written, {} events missed", health.written_bytes, health.missed_events);
    let rollups = rollups.sealed().iter().map(|block| what(&block.meta)).collect();
    Spooled { missed: health.missed_events, rollups }
}

fn what(meta: &BlockMeta) -> (u64, u64, u32) {
    (meta.first_ns, meta.last_ns, meta.count)
}

fn synth(seed: u64, events: usize) -> Synth {
    let mut synth = Synth::random(seed, 3, events);
    // The context is folded by effect; here it is the bytes that count.
    synth.events.retain(|made| made.kind != Kind::Lost);
    synth
}

#[test]
fn what_goes_round_and_round_ends_with_the_last_window() {
    for seed in 0..rounds(3) {
        let scratch = Scratch::new();
        let synth = synth(seed, 200_000 + 10_000 * (seed as usize % 3));
        let Spooled { missed, rollups } = spool(scratch.path(), &synth, true);
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
        // The counts of what was long gone from the window, each once, up to the end.
        let reader = SnapshotReader::open(&recovered.path).unwrap();
        let kept = reader.blocks().iter().filter(|entry| entry.meta.class == Class::Rollup);
        let mut kept: Vec<_> = kept.map(|entry| what(&entry.meta)).collect();
        kept.sort_unstable();
        let oldest_ns = kept.first().map_or(u64::MAX, |(first_ns, ..)| *first_ns);
        assert!(oldest_ns < end_ns - 2 * SPAN_NS, "seed {seed}: counts from {oldest_ns} on");
        let mut expected = rollups;
        // Those that were sealed last.
        let mut expected = expected.split_off(expected.len() - kept.len());
        expected.sort_unstable();
        if missed == 0 {
            assert_eq!(kept, expected, "seed {seed}");
        }
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
