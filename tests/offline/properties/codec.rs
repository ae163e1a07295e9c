//! Blocks: what is pushed comes back, and no bytes take more than a block may.

use recorder::{
    event::{Class, Kind},
    window::codec::{Columns, DecodedBlock, EVENTS_MAX, RAW_BYTES_MAX},
};
use recorder_tests::{
    memory,
    property::{met, seeds},
    synth::{Made, Random},
};

#[test]
fn any_events_come_back_from_a_block() {
    for seed in seeds(300) {
        let mut random = Random::new(seed);
        let mut columns = Columns::default();
        let count = random.below(60) as usize;
        let mut pushed: Vec<Made> = (0..count)
            .map(|_| {
                let ts_ns = if random.one_in(10) { random.number() } else { random.below(1_000) };
                Made { cpu: u16::MAX, ..Made::random(&mut random, ts_ns, 1) }
            })
            .collect();
        for made in &pushed {
            columns.push(&made.as_event());
        }
        let bytes = columns.to_bytes(Class::Bulk, u16::MAX).bytes;
        let block =
            DecodedBlock::read(&bytes).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        pushed.sort_by_key(|made| made.ts_ns);
        let read: Vec<Made> = block.events().map(|event| Made::from(&event)).collect();
        assert_eq!(read, pushed, "seed {seed}");
    }
}

/// However its bytes lie, a block takes no more memory than the largest honest one.
#[test]
fn any_bytes_of_a_block_are_survived_in_bounded_memory() {
    /// Per event: its row, 9 numbers, a context of 9 numbers and its key, 4
    /// attachments, each in a vector or table that may have just doubled; and the
    /// strings.
    const BYTES_MAX: usize = EVENTS_MAX * 4 * (56 + 9 * 8 + (16 + 9 * 8) + 4 * 24) + RAW_BYTES_MAX;
    let mut understood = 0;
    for seed in seeds(4_000) {
        let mut random = Random::new(seed);
        let mut columns = Columns::default();
        for _ in 0..random.below(40) {
            columns.push(&Made::random(&mut random, seed, 1).as_event());
        }
        let mut bytes = columns.to_bytes(Class::State, 0).bytes;
        for _ in 0..=random.below(3) {
            let place = random.below(bytes.len() as u64) as usize;
            match random.below(4) {
                0 => bytes[place] = random.next_u64() as u8,
                1 => bytes[place] ^= 1 << random.below(8),
                2 => bytes.truncate(place.max(1)),
                _ => bytes.insert(place, random.next_u64() as u8),
            }
        }
        let (peak, block) = memory::peak_of(|| DecodedBlock::read(&bytes));
        assert!(peak < BYTES_MAX, "seed {seed}: {peak} bytes");
        if let Ok(block) = block {
            understood += 1;
            assert!(block.len() <= EVENTS_MAX);
            assert_eq!(block.events().count(), block.len(), "seed {seed}");
        }
    }
    met(understood, 100, "blocks were understood");
}

/// The dearest block there is: every event has all there can be, all different.
#[test]
fn the_dearest_block_is_bounded() {
    let mut columns = Columns::default();
    let mut random = Random::new(23);
    while !columns.is_full(usize::MAX) {
        let numbers: Vec<u64> = (0..9).map(|_| random.below(100)).collect();
        let made =
            Made { numbers, ..Made::new(Kind::Syscall, 1, 0, columns.raw_bytes() as u32, &[]) };
        columns.push(&made.with(0, b"a").with(1, b"a").with(2, b"a").with(6, b"a").as_event());
    }
    let bytes = columns.to_bytes(Class::State, 0).bytes;
    assert!(bytes.len() <= RAW_BYTES_MAX);
    let (peak, block) = memory::peak_of(|| DecodedBlock::read(&bytes));
    assert!(block.is_ok_and(|block| block.len() > 10_000));
    assert!(peak < 48 << 20, "{peak} bytes");
    let words = [&[1u8, 0, 0][..], &[0xff; 9], &[0x7f], &[0xff; 64]].concat();
    let (peak, block) = memory::peak_of(|| DecodedBlock::read(&words));
    assert!(block.is_err() && peak < 4_096, "{peak} bytes");
}
