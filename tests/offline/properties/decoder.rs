//! The decoder against an encoder that knows nothing but the schema and the table of
//! offsets below.

use recorder::{
    decode::{DecodeError, decode},
    event::{
        ATTACHMENTS_MAX, Kind, NUMBERS_MAX,
        wire::{RECORD_BYTES_MAX, SYSCALL_ARGS_MAX},
    },
};
use recorder_tests::{
    property::{Case, check, met, seeds},
    synth::{Made, Random},
};

// Where the header has what, as `recorder-ebpf/src/wire.rs` says: not taken from
// there, so that a change is noticed.
const BYTES: usize = 0;
const KIND: usize = 2;
const ARGS: usize = 3;
const FLAGS: usize = 4;
const ATTACHMENTS: usize = 6;
const SEQ: usize = 8;
const SKIPPED: usize = 12;
const TS_NS: usize = 16;
const PID: usize = 24;
const TID: usize = 28;

/// An event as the kernel writes it.
#[derive(Clone, Debug)]
struct Written {
    made: Made,
    seq: u32,
    skipped: u32,
    /// What stands where nothing does: padding, and behind the record.
    filler: u8,
}

fn written(random: &mut Random) -> Written {
    let kind = Kind::ALL[random.below(Kind::ALL.len() as u64) as usize];
    let mut made = Made::new(kind, random.number(), random.next_u64() as u16, 0, &[]);
    (made.pid, made.tid) = (random.number() as u32, random.number() as u32);
    made.flags = random.next_u64() as u16;
    for field in kind.schema().fields {
        let number = random.number();
        // As wide as the field, widened again as its type says.
        let shift = 64 - 8 * field.width as u32;
        made.numbers.push(if field.signed {
            ((number << shift).cast_signed() >> shift).cast_unsigned()
        } else {
            number << shift >> shift
        });
    }
    if kind == Kind::Syscall {
        let args = random.below(SYSCALL_ARGS_MAX as u64 + 1);
        made.numbers.extend((0..args).map(|_| random.number()));
    }
    for _ in 0..random.below(ATTACHMENTS_MAX as u64 + 1) {
        let most = if random.one_in(10) { 4_000 } else { 30 };
        let bytes = random.bytes(most);
        made.attached.push((random.next_u64() as u8, random.next_u64() as u8, bytes));
    }
    let (seq, skipped) = (random.number() as u32, random.number() as u32);
    Written { made, seq, skipped, filler: random.next_u64() as u8 }
}

impl Written {
    fn encode(&self) -> Vec<u8> {
        let Written { made, seq, skipped, filler } = self;
        let schema = made.kind.schema();
        let mut record = vec![*filler; schema.fixed_bytes];
        let mut put = |at: usize, bytes: &[u8]| record[at..at + bytes.len()].copy_from_slice(bytes);
        put(FLAGS, &made.flags.to_ne_bytes());
        put(SEQ, &seq.to_ne_bytes());
        put(SKIPPED, &skipped.to_ne_bytes());
        put(TS_NS, &made.ts_ns.to_ne_bytes());
        put(PID, &made.pid.to_ne_bytes());
        put(TID, &made.tid.to_ne_bytes());
        for (field, number) in schema.fields.iter().zip(&made.numbers) {
            match field.width {
                1 => put(field.offset, &(*number as u8).to_ne_bytes()),
                2 => put(field.offset, &(*number as u16).to_ne_bytes()),
                4 => put(field.offset, &(*number as u32).to_ne_bytes()),
                _ => put(field.offset, &number.to_ne_bytes()),
            }
        }
        let args = made.numbers.len() - schema.fields.len();
        put(KIND, &[made.kind as u8, args as u8]);
        put(ATTACHMENTS, &[made.attached.len() as u8]);
        for arg in made.numbers.iter().skip(schema.fields.len()) {
            record.extend(arg.to_ne_bytes());
        }
        for (index, flags, bytes) in &made.attached {
            record.extend([*index, *flags]);
            record.extend((bytes.len() as u16).to_ne_bytes());
            record.extend(bytes);
            record.resize(record.len().next_multiple_of(4), *filler);
        }
        let bytes = record.len() as u16;
        record[BYTES..BYTES + 2].copy_from_slice(&bytes.to_ne_bytes());
        record
    }
}

#[test]
fn what_the_kernel_writes_is_what_is_read() {
    check(
        3_000,
        |random| Case { setup: (), steps: vec![written(random)] },
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
        let mut event = written(&mut Random::new(seed));
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
        let mut record = written(&mut random).encode();
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
