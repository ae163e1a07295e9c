//! The fuzzer makes spools without a clock and without the thread that writes them. This
//! holds what it tries to one that was really written.

#![cfg(feature = "capture")]
#![expect(clippy::unwrap_used, reason = "a test that panics shows where it failed")]

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, thread};

use recorder::{
    context::Processes,
    event::{Class, syscall::Abi},
    privacy::{Privacy, Rules},
    snapshot::SnapshotReader,
    spool::{PARTS, Spool, SpoolSetup, sessions},
    window::{Window, WindowLimits},
};
use recorder_fuzz::{
    met_by,
    mutate::spool::{make, packed, unpacked},
    targets::recovery::spooled,
};
use recorder_tests::{
    TestDirectory,
    synth::{Random, Synth},
    wait_until,
};

/// Small enough that a few hundred events go from part to part.
const PART_BYTES: u64 = 8 << 10;

/// Writes a spool in `directory` as a recording does that ends without a word.
fn write(directory: &Path) {
    let mut synth = Synth::random(7, 1, 500);
    // Few that say what threads have open: a part may begin with as much as half of it.
    let mut room = 20u32;
    synth.events.retain(|made| {
        let is_state = Class::of(&made.as_event(), Abi::X86_64) == Class::State;
        room = room.saturating_sub(u32::from(is_state));
        !is_state || room > 0
    });
    let (spool, mut feed, writer) = Spool::new(SpoolSetup {
        directory: directory.to_path_buf(),
        bytes: PART_BYTES * PARTS as u64,
        snapshots: directory.to_path_buf(),
        host: synth.header.clone(),
        privacy: Privacy::new(Rules::default()),
    });
    let writing = thread::spawn(move || writer.run());
    let limits = WindowLimits { span_ns: 60_000_000_000, bytes_max: 64 << 20 };
    let mut window = Window::new(limits, 1, Abi::X86_64, Processes::default());
    window.keep_unseen();
    let rollups = Arc::default();
    wait_until("the first part", || {
        feed.take(&mut window, &rollups, Vec::new());
        spool.health().written_bytes > 0
    });
    for events in synth.events.chunks(20) {
        let before = spool.health().written_bytes;
        for made in events {
            window.push(&made.as_event());
            window.tick(made.ts_ns);
        }
        window.seal_all();
        wait_until("the blocks are written", || {
            feed.take(&mut window, &rollups, Vec::new());
            let health = spool.health();
            health.written_bytes > before || health.missed_blocks > 0
        });
    }
    drop(feed);
    writing.join().unwrap();
    assert_eq!(spool.health().error, None);
}

/// The files of a spool as one input, without most of the zeros behind what was written.
fn input_of(directory: &Path) -> Vec<u8> {
    let mut files = Vec::new();
    for slot in 0..PARTS as u8 {
        let Ok(mut file) = fs::read(directory.join(format!("{slot}.kfr-spool"))) else { continue };
        let used = file.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        file.truncate(used + 16);
        files.push((slot, file));
    }
    packed(files.iter().map(|(slot, file)| (*slot, file.as_slice())))
}

#[test]
fn a_spool_of_the_library_is_what_the_fuzzer_tries() {
    let directory = TestDirectory::new();
    write(directory.path());
    assert_eq!(sessions(directory.path()).unwrap().len(), 1, "one recording");
    let input = input_of(directory.path());
    let parts = unpacked(&input).iter().filter(|(_, file)| file.len() > 1_000).count();
    assert!(parts > 1, "{parts} parts are written");
    if std::env::var_os("RECORDER_BLESS").is_some() {
        let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus/spool");
        fs::create_dir_all(&kept).unwrap();
        fs::write(kept.join("written-by-the-library"), &input).unwrap();
    }
    let real = met_by(|| spooled(&input));
    assert!(!real.is_empty(), "it is saved");
    // What is made for the fuzzer has the same sorts of blocks.
    let mut random = Random::new(1);
    let made: Vec<u8> = (0..40).map(|_| make(&mut random)).max_by_key(Vec::len).unwrap();
    assert!(!met_by(|| spooled(&made)).is_empty());
    let made = classes(&directory, &made);
    let missing: Vec<u8> = classes(&directory, &input).difference(&made).copied().collect();
    assert_eq!(missing, Vec::<u8>::new(), "classes of blocks that are not made");
}

/// The classes of the blocks in an input's files.
fn classes(directory: &TestDirectory, input: &[u8]) -> BTreeSet<u8> {
    let mut classes = BTreeSet::new();
    for (_, file) in unpacked(input) {
        let path = directory.path().join("one");
        fs::write(&path, file).unwrap();
        let Ok(reader) = SnapshotReader::open_part(&path) else { continue };
        classes.extend(reader.blocks().iter().map(|entry| entry.meta.class as u8));
    }
    classes
}
