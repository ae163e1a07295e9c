//! The decoder against an encoder that knows nothing but the schema and a table of
//! offsets of its own.

use recorder::{
    decode::{DecodeError, decode},
    event::{ATTACHMENTS_MAX, NUMBERS_MAX, wire::RECORD_BYTES_MAX},
};
use recorder_tests::{
    property::{Case, check, met, seeds},
    synth::{Made, Random},
    written::{ARGS, BYTES, KIND, Written},
};

#[test]
fn what_the_kernel_writes_is_what_is_read() {
    check(
        3_000,
        |random| Case { setup: (), steps: vec![Written::random(random)] },
        |case| {
            for event in &case.steps {
                let mut record = event.encode();
                if record.len() > RECORD_BYTES_MAX {
                    assert!(matches!(decode(&record, 0), Err(DecodeError::Length { .. })));
                    continue;
                }
                for _ in 0..2 {
                    let (read, sequence) = decode(&record, event.made.cpu).unwrap();
                    assert_eq!(Made::from(&read), event.made);
                    assert_eq!((sequence.seq, sequence.skipped), (event.seq, event.skipped));
                    // Whatever stands behind the record is not its own.
                    record.extend([event.filler; 9]);
                }
            }
        },
    );
}

#[test]
fn every_shorter_record_is_refused() {
    for seed in seeds(200) {
        let mut event = Written::random(&mut Random::new(seed));
        event.made.attached.iter_mut().for_each(|(_, _, bytes)| bytes.truncate(30));
        let record = event.encode();
        for bytes in 0..record.len() {
            assert!(decode(&record[..bytes], 0).is_err(), "seed {seed}, {bytes} bytes");
        }
    }
}

/// A change anywhere gives an event or an error; an event has nothing that does not
/// lie in its record, and no more than an event may have.
#[test]
fn a_changed_record_gives_what_lies_in_it_or_an_error() {
    let (mut understood, mut refused) = (0, 0);
    for seed in seeds(40_000) {
        let mut random = Random::new(seed);
        let mut record = Written::random(&mut random).encode();
        for _ in 0..=random.below(4) {
            let within = if random.one_in(2) { 40 } else { record.len() as u64 };
            let place = (random.below(within) as usize).min(record.len() - 1);
            match random.below(8) {
                0..=3 => record[place] = random.next_u64() as u8,
                4 | 5 => record[place] ^= 1 << random.below(8),
                6 => record.truncate(place.max(1)),
                _ => record.insert(place, random.next_u64() as u8),
            }
        }
        match decode(&record, 3) {
            Ok((event, _)) => {
                understood += 1;
                let said = u16::from_ne_bytes([record[BYTES], record[BYTES + 1]]);
                let own = record[..usize::from(said)].as_ptr_range();
                for attached in event.attached() {
                    let bytes = attached.bytes.as_ptr_range();
                    assert!(own.start <= bytes.start && bytes.end <= own.end, "seed {seed}");
                }
                assert!(event.numbers().len() <= NUMBERS_MAX, "seed {seed}");
                assert!(event.attached().len() <= ATTACHMENTS_MAX, "seed {seed}");
                assert!(event.cpu == 3 && record[KIND] == event.kind as u8, "seed {seed}");
                let args = event.numbers().len() - event.kind.schema().fields.len();
                assert_eq!(usize::from(record[ARGS]), args, "seed {seed}");
            }
            Err(error) => {
                refused += 1;
                assert!(!error.to_string().is_empty(), "seed {seed}");
            }
        }
    }
    met(understood, 2_000, "records were understood");
    met(refused, 2_000, "records were refused");
}

#[test]
fn bytes_that_are_no_record_are_survived() {
    for seed in seeds(20_000) {
        let mut random = Random::new(seed);
        let _ = decode(&random.bytes(200), seed as u16);
    }
}
