//! What is saved of files that are cut or damaged is whole, and is all there is.

use std::{fs, path::Path};

use recorder::{
    privacy::Rules,
    snapshot::{
        Header, RecoverError, Recovered, ScrubError, SnapshotReader, Wanted, header_frame, recover,
        scrub, verify,
    },
};
use recorder_tests::{property::met, synth::Random};

use crate::{golden, program, scratch::Scratch};

/// Saves what there is of a file, and holds what was saved to it.
fn recovered(file: &Path, scratch: &Scratch) -> Result<Recovered, RecoverError> {
    let reader = SnapshotReader::open_without_header(file).expect("a file that can be read");
    let to = (scratch.path(), "saved.kfr", true);
    let recovered = recover(&reader, to, &mut |_| ())?;
    let verdict = verify(&recovered.path, &mut |_, _| ()).expect("a snapshot");
    assert_eq!(verdict.complaints, Vec::<String>::new());
    assert_eq!(verdict.blocks, recovered.blocks);
    let saved = SnapshotReader::open(&recovered.path).expect("a snapshot");
    let of_header = if reader.has_header() { reader.header().missing.len() } else { 1 };
    let missing = of_header + usize::from(!recovered.complaints.is_empty());
    assert_eq!(saved.header().missing.len(), missing);
    let whole = reader.blocks().iter().filter(|entry| reader.block(entry).is_ok());
    let metas: Vec<_> = whole.map(|entry| entry.meta).collect();
    assert_eq!(saved.blocks().iter().map(|entry| entry.meta).collect::<Vec<_>>(), metas);
    Ok(recovered)
}

#[test]
fn every_whole_block_before_a_cut_is_saved() {
    let scratch = Scratch::new();
    let sample = fs::read(golden::newest_sample()).unwrap();
    let whole = SnapshotReader::open(&golden::newest_sample()).unwrap();
    let first = whole.blocks()[0];
    let first_end = first.offset as usize + first.frame_bytes as usize;
    let mut lengths: Vec<usize> = (0..sample.len()).step_by(7).collect();
    lengths.extend([first_end - 1, first_end, sample.len() - 1, sample.len()]);
    for length in lengths {
        let cut = scratch.file("cut.kfr", &sample[..length]);
        match recovered(&cut, &scratch) {
            Ok(recovered) => {
                assert!(length >= first_end, "nothing is whole in {length} bytes");
                let is_whole = length == sample.len();
                assert_eq!(recovered.complaints.is_empty(), is_whole, "{length} bytes");
            }
            Err(RecoverError::Nothing(..)) => assert!(length < first_end, "{length} bytes"),
            Err(error) => panic!("{length} bytes: {error}"),
        }
    }
}

/// A damaged block costs itself, whatever else is damaged: the index, the header, the
/// length of a frame.
#[test]
fn damage_costs_the_blocks_it_is_in() {
    let scratch = Scratch::new();
    let sample = fs::read(golden::newest_sample()).unwrap();
    let whole = SnapshotReader::open(&golden::newest_sample()).unwrap();
    let blocks = whole.blocks();
    let mut random = Random::new(3);
    let mut searched = 0;
    for place in (0..sample.len()).step_by(3) {
        let mut damaged = sample.clone();
        damaged[place] ^= 1 << random.below(8);
        // The seek table: blocks are found one after the other.
        let has_end = random.one_in(2);
        if !has_end {
            damaged.truncate(sample.len() - 9);
        }
        let hit =
            |at: u64, bytes: u32| (at as usize..at as usize + bytes as usize).contains(&place);
        let hits = blocks.iter().filter(|entry| hit(entry.offset, entry.frame_bytes)).count();
        let file = scratch.file("damaged.kfr", &damaged);
        let saved = recovered(&file, &scratch).unwrap_or_else(|error| panic!("{place}: {error}"));
        let least = (blocks.len() - hits) as u64;
        // A bit that zstd does not look at harms nothing but the checksum of the index.
        let most = least + u64::from(!has_end) * hits as u64;
        assert!((least..=most).contains(&saved.blocks), "{place}: {} blocks", saved.blocks);
        assert!(!saved.complaints.is_empty(), "byte {place} is damaged");
        searched += u64::from(!has_end && hits == 1 && saved.blocks == least);
    }
    met(searched, 5, "blocks were found behind a damaged one without an index");
}

/// Every block was whole and the books counted other events: what was saved of it was said
/// to be whole, and `recorder verify` refused it. Found by the fuzzer.
#[test]
fn books_that_miscount_are_damage() {
    let scratch = Scratch::new();
    let sample = SnapshotReader::open(&golden::newest_sample()).unwrap();
    let events = sample.header().ledger.in_window;
    let mut header = sample.header().clone();
    header.ledger.in_window = events + 7;
    // Room for what headers say since the sample was written.
    header.trigger.annotations.clear();
    header.trigger.labels.clear();
    let bytes = fs::read(golden::newest_sample()).unwrap();
    let file = scratch.file("miscounts.kfr", &with_header(&bytes, &sample, &header));
    let found = verify(&file, &mut |_, _| ()).unwrap();
    assert_eq!(found.complaints.len(), 1, "{:?}", found.complaints);
    let saved = recovered(&file, &scratch).unwrap();
    assert_eq!(saved.complaints, found.complaints);
    assert_eq!((saved.events, saved.absent), (events, Some(7)));
    let reader = SnapshotReader::open(&file).unwrap();
    let scrubbed = |damaged| {
        let wanted = Wanted { damaged, ..Wanted::default() };
        let to = (scratch.path(), "scrubbed.kfr", true);
        scrub(&reader, Rules::default(), to, wanted, &mut |_| ())
    };
    assert!(matches!(scrubbed(false), Err(ScrubError::Damaged(..))));
    let scrubbed = scrubbed(true).unwrap();
    assert_eq!(scrubbed.complaints, found.complaints);
    let verdict = verify(&scrubbed.path, &mut |_, _| ()).unwrap();
    assert_eq!(verdict.complaints, Vec::<String>::new());
}

/// The file with another header that is as long: blanks fill it up.
fn with_header(bytes: &[u8], reader: &SnapshotReader, header: &Header) -> Vec<u8> {
    let old = reader.header_bytes() as usize;
    let shortest = header_frame(header, 0).unwrap().len();
    let new = header_frame(header, old.saturating_sub(shortest)).unwrap();
    assert_eq!(new.len(), old, "the sample's header has no room");
    [&new, &bytes[old..]].concat()
}

#[test]
fn the_program_says_what_is_saved_and_what_is_not() {
    let scratch = Scratch::new();
    let sample = fs::read(golden::newest_sample()).unwrap();
    let cut = scratch.file("cut.kfr", &sample[..sample.len() - 400]);
    let words = cut.to_str().unwrap();
    let ran = program::run(["recover", words]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let saved = scratch.path().join("cut-recovered.kfr");
    assert_eq!(ran.stdout.trim_end(), saved.to_str().unwrap());
    assert!(ran.stderr.contains("are saved") && ran.stderr.contains("missing"), "{}", ran.stderr);
    program::run(["verify", saved.to_str().unwrap()]).succeeded("verify what was saved");
    let info = program::run(["info", saved.to_str().unwrap()]);
    info.succeeded("info");
    assert!(info.stdout.contains("the file that was recovered"), "{}", info.stdout);

    let mut headless = sample;
    headless[..40].fill(0);
    let headless = scratch.file("headless.kfr", &headless);
    let ran = program::run(["recover", headless.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stderr.contains("nobody knows how many"), "{}", ran.stderr);
    let replayed = program::run(["replay", ran.stdout.trim_end()]);
    replayed.succeeded("replay without a host");
    let lines = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
    let whole = program::run(["replay", golden::newest_sample().to_str().unwrap()]);
    assert_eq!(lines(&replayed.stdout), lines(&whole.stdout));

    let again = program::run(["recover", words]);
    again.failed_with(73, "a file that is there");
    assert!(again.stderr.contains("--force"), "{}", again.stderr);
    assert_eq!(program::run(["recover", words, "--force"]).code, Some(0));
    let text = scratch.file("text.kfr", b"this is no snapshot at all");
    let ran = program::run(["recover", text.to_str().unwrap()]);
    ran.failed_with(65, "a text");
    assert!(ran.stderr.contains("nothing of"), "{}", ran.stderr);
    assert!(!scratch.path().join("text-recovered.kfr").exists());
}

/// Nothing but beginnings of frames: each costs a search, and there is an end to that.
#[test]
fn a_file_of_beginnings_is_given_up() {
    let scratch = Scratch::new();
    let beginnings = [0x28, 0xb5, 0x2f, 0xfd].repeat(1 << 18);
    let file = scratch.file("beginnings.kfr", &beginnings);
    let error = recovered(&file, &scratch).expect_err("nothing is whole");
    assert!(matches!(error, RecoverError::Nothing(..)), "{error}");
}
