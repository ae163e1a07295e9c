//! Records as the kernel writes them, by an encoder that knows nothing but the schema
//! and the table of offsets below.

use recorder::event::{ATTACHMENTS_MAX, Kind, wire::SYSCALL_ARGS_MAX};

use crate::synth::{Made, Random};

// Where the header has what, as `recorder-ebpf/src/wire.rs` says: not taken from
// there, so that a change is noticed.
/// Bytes of the whole record, 16 bits.
pub const BYTES: usize = 0;
/// The kind, 8 bits.
pub const KIND: usize = 2;
/// How many words of arguments follow, 8 bits.
pub const ARGS: usize = 3;
const FLAGS: usize = 4;
/// How many attachments follow, 8 bits.
pub const ATTACHMENTS: usize = 6;
const SEQ: usize = 8;
const SKIPPED: usize = 12;
const TS_NS: usize = 16;
const PID: usize = 24;
const TID: usize = 28;

/// An event as the kernel writes it.
#[derive(Clone, Debug)]
pub struct Written {
    /// The event.
    pub made: Made,
    /// The running number.
    pub seq: u32,
    /// What was skipped before it.
    pub skipped: u32,
    /// What stands where nothing does: padding, and behind the record.
    pub filler: u8,
}

impl Written {
    /// An event with random contents, of any kind.
    pub fn random(random: &mut Random) -> Written {
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

    /// The record, as it lies in the ring.
    pub fn encode(&self) -> Vec<u8> {
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
