//! Records of the ring, and blocks.

use recorder::{
    clock::ClockAnchor,
    context::Processes,
    decode::{Keys, Sequence, decode},
    event::{ATTACHMENTS_MAX, Class, Event, NUMBERS_MAX, syscall::Abi},
    export::{Exporter as _, JsonLines, Text},
    window::codec::{Columns, DecodedBlock, EVENTS_MAX, RAW_BYTES_MAX},
};
use recorder_tests::synth::Made;

use crate::{met, met_error};

/// A record: whatever it is, it can be classed, folded, put into a block and printed.
pub fn record(input: &[u8]) {
    let (event, sequence) = match decode(input, 3) {
        Ok(decoded) => decoded,
        Err(error) => return met_error("decode", &error),
    };
    again(input, &event, sequence);
    let (numbers, attached) = (event.numbers().len(), event.attached().len());
    assert!(numbers <= NUMBERS_MAX && attached <= ATTACHMENTS_MAX);
    let class = Class::of(&event, Abi::X86_64);
    met((event.kind as u8, numbers, attached, class as u8));
    let mut columns = Columns::default();
    columns.push(&event);
    let block = DecodedBlock::read(&columns.to_bytes(class, 3).bytes).expect("it was just written");
    assert_eq!(block.event(0).as_ref(), Some(&event));
    let mut processes = Processes::default();
    processes.apply(&event, Abi::X86_64);
    printed(&event, &processes);
}

/// The short way of a call that comes again reads what the long way reads.
fn again(input: &[u8], event: &Event<'_>, sequence: Sequence) {
    let Some((_, call)) = Keys::default().split(input) else { return };
    met("again");
    let read = (call.sequence, call.ts_ns, call.ret, call.dur_ns);
    assert_eq!(read, (sequence, event.ts_ns, event.number(1), event.number(2)));
}

fn printed(event: &Event<'_>, processes: &Processes) {
    let clock = ClockAnchor { monotonic_ns: 1, wall_ns: 1_700_000_000_000_000_000 };
    for native in [Abi::X86_64, Abi::Aarch64] {
        let mut line = Vec::new();
        Text::new(clock, native, false).event(event, processes, &mut line).expect("room in memory");
        let text = std::str::from_utf8(&line).expect("a line is UTF-8");
        let line_of = text.strip_suffix('\n').expect("a line ends");
        assert!(!line_of.contains(char::is_control), "a terminal would obey {line_of:?}");
        let mut object = Vec::new();
        JsonLines::new(clock, native).event(event, processes, &mut object).expect("room in memory");
        serde_json::from_slice::<serde_json::Value>(&object).expect("an object is JSON");
    }
}

/// A block: what is read of it can be written, and is the same then.
pub fn block(input: &[u8]) {
    let block = match DecodedBlock::read(input) {
        Ok(block) => block,
        Err(error) => return met_error("block", &error),
    };
    assert!(block.len() <= EVENTS_MAX && input.len() <= RAW_BYTES_MAX);
    let mut columns = Columns::default();
    let mut last_ns = 0;
    for event in block.events() {
        assert!(event.ts_ns >= last_ns, "events of a block are in the order of time");
        last_ns = event.ts_ns;
        met((event.kind as u8, event.numbers().len(), event.attached().len()));
        columns.push(&event);
    }
    met(("events", block.len().checked_ilog2()));
    let again = DecodedBlock::read(&columns.to_bytes(block.class, block.cpu).bytes);
    let again = again.expect("what was read can be written");
    assert_eq!(again.len(), block.len());
    for (one, other) in block.events().zip(again.events()) {
        assert!(one == other, "{:?} became {:?}", Made::from(&one), Made::from(&other));
    }
}
