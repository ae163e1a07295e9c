//! Bugs that the fuzzer must find: one of each kind it looks for.

use std::{collections::HashSet, hint::black_box, sync::LazyLock, thread, time::Duration};

use recorder::{decode::decode, event::Kind, snapshot::Header};
use recorder_tests::synth::Random;

use super::files::opened;
use crate::mutate;

/// The machines of the files that are changed.
static MACHINES: LazyLock<HashSet<[String; 3]>> = LazyLock::new(|| {
    let mut random = Random::new(1);
    let files = (0..200).map(|_| mutate::snapshot::make(&mut random));
    files.filter_map(|file| Some(machine_of(opened(&file)?.header()))).collect()
});

fn machine_of(header: &Header) -> [String; 3] {
    [&header.host, &header.kernel, &header.arch].map(String::clone)
}

/// Panics where the checksums hold and the header is another one: whoever changes a file
/// without repairing it never comes here.
pub fn panics(input: &[u8]) {
    let Some(reader) = opened(input) else { return };
    let is_whole = reader.complaints().is_empty();
    let machine = machine_of(reader.header());
    assert!(!is_whole || MACHINES.contains(&machine), "another machine: {machine:?}");
}

/// Waits for ever where a record says something rare.
pub fn is_slow(input: &[u8]) {
    let is_rare = decode(input, 0)
        .is_ok_and(|(event, _)| event.kind == Kind::Lost && event.number(1) > u64::MAX / 2);
    let mut rounds = 0u64;
    loop {
        rounds = black_box(rounds.wrapping_add(1));
        if !is_rare {
            break;
        }
    }
}

/// Sleeps where a record says something rare, and takes no time of any CPU.
pub fn waits(input: &[u8]) {
    let is_rare = decode(input, 0)
        .is_ok_and(|(event, _)| event.kind == Kind::Lost && event.number(1) > u64::MAX / 2);
    if is_rare {
        thread::sleep(Duration::from_secs(30));
    }
}

/// Makes room for as much as a record says, on other threads.
pub fn threads_take_memory(input: &[u8]) {
    if let Ok((event, _)) = decode(input, 0)
        && event.kind == Kind::Lost
        && event.number(1) > 0
    {
        thread::scope(|scope| drop(scope.spawn(|| takes_memory(input)).join()));
    }
}

/// Makes room for as much as a record says.
pub fn takes_memory(input: &[u8]) {
    if let Ok((event, _)) = decode(input, 0)
        && event.kind == Kind::Lost
    {
        let room = Vec::<u8>::with_capacity(event.number(1).min(400 << 20) as usize);
        black_box(&room);
    }
}

/// Calls itself for every bracket, and never looks how deep it is.
pub fn crashes(input: &[u8]) {
    fn deeper(input: &[u8], at: usize) -> usize {
        let room = black_box([0u8; 512]);
        match input.get(at) {
            Some(b'[' | b'{') => deeper(input, at + 1) + usize::from(room[at % 512]),
            Some(_) | None => at,
        }
    }
    black_box(deeper(input, 0));
}
