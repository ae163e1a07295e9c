//! A file that had to be durable by a deadline is whole, whenever that was.

use std::time::{Duration, Instant};

use recorder::{
    event::Class,
    snapshot::{self, Contents, SnapshotReader, verify},
    window::{Block, blocks_of},
};
use recorder_tests::synth::{Random, Synth};

use crate::scratch::{Scratch, rounds};

#[test]
fn whatever_the_deadline_the_file_is_whole_and_says_what_is_not_in_it() {
    let synth = Synth::random(3, 4, 60_000);
    let frozen = synth.frozen();
    let (mut cut, mut whole) = (0, 0);
    for seed in 0..rounds(60) {
        let scratch = Scratch::new();
        let mut random = Random::new(seed);
        let mut header = synth.header.clone();
        let metas = frozen.blocks.iter().map(Block::meta);
        header.ledger.in_window = metas.map(|meta| meta.ledger_events()).sum();
        header.ledger.decoded = header.ledger.in_window;
        let context = blocks_of(frozen.baseline.to_events(), Class::Context);
        let blocks = [context, frozen.blocks.clone()].concat();
        let count = blocks.len();
        let asked = Instant::now();
        // From a moment that has been to one that is far away.
        let within = Duration::from_micros(random.below(200_000));
        let deadline = Some(asked + within);
        let contents = Contents { header: &header, blocks, asked, deadline };
        let written = snapshot::write(scratch.path(), "a.kfr", contents).unwrap();
        let verdict = verify(&written.path, &mut |_, _| {}).unwrap();
        assert_eq!(verdict.complaints, Vec::<String>::new(), "seed {seed}");
        let reader = SnapshotReader::open(&written.path).unwrap();
        let found = reader.header();
        let recorded = reader.blocks().iter().filter(|entry| entry.meta.class.has_events());
        let there: u64 = recorded.map(|entry| entry.meta.ledger_events()).sum();
        assert_eq!(found.ledger.in_window, there, "seed {seed}");
        assert_eq!(there + found.ledger.evicted, header.ledger.in_window + header.ledger.evicted);
        if reader.blocks().len() < count {
            cut += 1;
            let said = found.missing.last().unwrap();
            assert!(said.why.contains("durable within"), "seed {seed}: {said:?}");
        } else {
            whole += 1;
            assert_eq!(found.missing, header.missing, "seed {seed}");
        }
    }
    println!("{whole} whole, {cut} cut");
    assert!(whole > 0 && cut > 0, "{whole} whole, {cut} cut");
}
