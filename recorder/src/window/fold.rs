//! Blocks of state, taken into account: what is known of the host follows from them.

use super::{Block, codec::DecodedBlock, sealed_of};
use crate::{
    context::Processes,
    event::{Class, Event, Kind, syscall::Abi},
};

/// Takes the context of a file into account, the state at its left edge. Threads come before
/// what they have open, and the first thread of a table before the others: a block has them in
/// the order of time.
pub fn begin_with(processes: &mut Processes, context: &[DecodedBlock], native: Abi) {
    let mut order: Vec<(bool, u32, u32, u32)> = Vec::new();
    for (number, block) in (0..).zip(context) {
        for (place, event) in (0..).zip(block.events()) {
            order.push((event.kind == Kind::Descriptor, event.tid, number, place));
        }
    }
    order.sort_unstable();
    for (_, _, number, place) in order {
        let block = context.get(number as usize);
        if let Some(event) = block.and_then(|block| block.event(place as usize)) {
            processes.apply(&event, native);
        }
    }
}

/// The blocks that may change what is known of threads.
pub(super) fn state_of(blocks: &[Block]) -> Vec<DecodedBlock> {
    let state = blocks.iter().filter(|block| block.meta().class == Class::State);
    state.filter_map(|block| block.sealed().open()).collect()
}

/// Takes state events into account, of each block those before the first that does not go,
/// all in the order of time. Answers the rest as blocks.
pub(super) fn fold_up_to(
    baseline: &mut Processes,
    state: &[DecodedBlock],
    goes: &dyn Fn(&Event<'_>) -> bool,
    native: Abi,
) -> Vec<Block> {
    let mut events: Vec<Event<'_>> =
        state.iter().flat_map(|block| block.events().take_while(goes)).collect();
    events.sort_by_key(|event| event.ts_ns);
    for event in &events {
        baseline.apply(event, native);
    }
    let rest = state
        .iter()
        .flat_map(|block| sealed_of(block.events().skip_while(goes), Class::State, block.cpu));
    rest.map(Block::Sealed).collect()
}
