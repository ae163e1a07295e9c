use super::*;
use crate::decode::{Recurrence, Sequence};

fn sample(place: u64) -> Event<'static> {
    let kind = if place.is_multiple_of(7) { Kind::TcpState } else { Kind::Syscall };
    let mut event = Event::new(kind, 1_000_000 + place * 37 - (place % 5) * 50);
    event.cpu = 3;
    event.pid = (place % 3) as u32;
    event.tid = (place % 11) as u32;
    event.flags = (place % 2) as u16;
    for number in 0..(place % 7) + 2 {
        event.push_number(place.wrapping_mul(number).wrapping_sub(5));
    }
    if place.is_multiple_of(4) {
        let bytes: &[u8] = if place.is_multiple_of(8) { b"/etc/hosts" } else { b"" };
        event.attach(Attached { index: 1, flags: 0, bytes });
    }
    event
}

#[test]
fn what_is_read_is_what_was_written() {
    let mut columns = Columns::default();
    let mut events: Vec<Event<'static>> = (0..3_000).map(sample).collect();
    for event in &events {
        columns.push(event);
    }
    let block = DecodedBlock::read(&columns.to_bytes(Class::Bulk, 3).bytes).unwrap();
    events.sort_by_key(|event| event.ts_ns);
    assert_eq!(block.len(), events.len());
    for (place, event) in events.iter().enumerate() {
        assert_eq!(block.event(place).as_ref(), Some(event), "event {place}");
    }
    columns.clear();
    columns.push(&events[0]);
    let again = DecodedBlock::read(&columns.to_bytes(Class::Bulk, 3).bytes).unwrap();
    assert_eq!(again.event(0).as_ref(), Some(&events[0]));
}

/// A call that came before leaves the same bytes however it is told: from its numbers and
/// strings, or from where the block knows it.
#[test]
fn a_known_call_is_written_as_one_that_is_looked_up() {
    let mut random = 1u64;
    let mut below = |most: u64| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (random >> 33) % most
    };
    let paths: Vec<String> = (0..40).map(|path| format!("/usr/lib/part-{path}.so")).collect();
    let (mut looked_up, mut mixed) = (Columns::default(), Columns::default());
    let mut places = std::collections::HashMap::new();
    let mut known = 0;
    for turn in 0..20_000u64 {
        // Habits and exceptions, so that every kind of step is there.
        let which = if below(4) > 0 { turn % 23 } else { below(400) };
        let (thread, attachments) = (which % 5 + below(20) / 19, which as usize % 4);
        let mut event = Event::new(Kind::Syscall, 1_000 * turn - below(1_500).min(turn));
        (event.pid, event.tid) = (thread as u32 / 2, thread as u32);
        for number in [which % 9, below(3), below(100_000), which, which % 7] {
            event.push_number(number);
        }
        let attached: Vec<usize> =
            (0..attachments).map(|_| (which + below(30) / 28) as usize % paths.len()).collect();
        for (index, path) in (0..).zip(&attached) {
            event.attach(Attached { index, flags: 0, bytes: paths[*path].as_bytes() });
        }
        looked_up.push(&event);
        match places.get(&(which, thread, attached.clone())) {
            Some(place) => {
                let call = Recurrence {
                    sequence: Sequence { seq: 0, skipped: 0 },
                    ts_ns: event.ts_ns,
                    ret: event.number(1),
                    dur_ns: event.number(2),
                };
                mixed.push_known(place, &call);
                known += 1;
            }
            None => drop(places.insert((which, thread, attached), mixed.push(&event))),
        }
        assert_eq!(looked_up.raw_bytes(), mixed.raw_bytes(), "turn {turn}");
    }
    assert!(known > 10_000, "{known} were known");
    let bytes = [&looked_up, &mixed].map(|columns| columns.to_bytes(Class::Bulk, 3).bytes);
    assert_eq!(bytes[0], bytes[1]);
    assert_eq!(looked_up.held_bytes(), mixed.held_bytes());
}

/// Each thread goes through the same strings again, and a child through those of its
/// parent.
#[test]
fn what_follows_as_before_costs_next_to_nothing() {
    let names: Vec<String> = (0..200).map(|name| format!("/usr/include/{name}.h")).collect();
    let mut columns = Columns::default();
    for tid in 0..20u32 {
        for name in &names {
            let mut event = Event::new(Kind::Syscall, u64::from(tid));
            event.tid = tid + 1;
            event.push_number(2);
            event.attach(Attached { index: 0, flags: 0, bytes: name.as_bytes() });
            columns.push(&event);
        }
    }
    let bytes = columns.to_bytes(Class::Bulk, 0).bytes;
    let strings: usize = names.iter().map(String::len).sum();
    // Three columns have a byte for each event, the bits of times come on top.
    let most = strings + 200 * 6 + 20 * 200 * 4 + 100;
    assert!(bytes.len() < most, "{} bytes, {most} at the most", bytes.len());
    let block = DecodedBlock::read(&columns.to_bytes(Class::Bulk, 0).bytes).unwrap();
    let read: Vec<Vec<u8>> =
        block.events().map(|event| event.attached()[0].bytes.to_vec()).collect();
    let written = (0..20).flat_map(|_| names.iter().map(|name| name.as_bytes().to_vec()));
    assert_eq!(read, written.collect::<Vec<_>>());
}

/// A server that waits for many clients, in no order.
#[test]
fn the_same_call_points_to_the_same() {
    let mut columns = Columns::default();
    let mut written = Vec::new();
    for turn in 0..2_000u64 {
        let client = turn.wrapping_mul(0x9e37_79b9) >> 7 & 31;
        let mut event = Event::new(Kind::Syscall, turn);
        event.tid = 1;
        for number in [233, 0, turn, 5, 1, client] {
            event.push_number(number);
        }
        let bytes: &[u8] = &client.to_le_bytes();
        event.attach(Attached { index: 3, flags: 0, bytes });
        columns.push(&event);
        written.push(bytes.to_vec());
    }
    let bytes = columns.to_bytes(Class::Bulk, 0).bytes;
    let before = bytes.len();
    columns.clear();
    for event in DecodedBlock::read(&bytes).unwrap().events() {
        columns.push(&event.without_attachments());
    }
    let strings = before - columns.to_bytes(Class::Bulk, 0).bytes.len();
    // Each string is told once: a reference, a length, eight bytes; and its place among
    // the attachments is noted in the shape.
    assert!(strings <= 32 * 10 + 10, "what 32 clients send takes {strings} bytes");
    let block = DecodedBlock::read(&bytes).unwrap();
    let read: Vec<_> = block.events().map(|event| event.attached()[0].bytes.to_vec()).collect();
    assert_eq!(read, written);
}

#[test]
fn any_bytes_are_survived() {
    let mut columns = Columns::default();
    for place in 0..40 {
        columns.push(&sample(place));
    }
    let bytes = columns.to_bytes(Class::State, 0).bytes;
    for length in 0..bytes.len() {
        assert!(DecodedBlock::read(&bytes[..length]).is_err(), "length {length}");
    }
    for place in 0..bytes.len() {
        for value in [0, 1, 0x7f, 0x80, 0xff] {
            let mut changed = bytes.clone();
            changed[place] = value;
            if let Ok(block) = DecodedBlock::read(&changed) {
                assert!(block.events().count() <= EVENTS_MAX);
            }
        }
    }
}
