//! Files.

use std::{
    cell::RefCell,
    fs::File,
    io::{self, Write},
    ops::ControlFlow,
    os::fd::AsRawFd as _,
    os::unix::fs::FileExt as _,
    path::PathBuf,
};

use clap::ValueEnum as _;
use recorder::{
    cli::{write_info, write_info_json},
    event::syscall::Abi,
    export::{Exporter, JsonLines, Text, rfc3339},
    replay::replay,
    rollup::{Latencies, blocks_of_rows},
    snapshot::{SnapshotReader, verify},
    state::{HostState, What},
};

use crate::{met, met_error};

/// Events printed of one input: a small file can hold very many.
const EVENTS_MAX: u64 = 4_000;

/// Lines of JSON that are parsed again.
const LINES_MAX: u64 = 200;

thread_local! {
    /// A file in memory, used again and again.
    static SCRATCH: RefCell<Option<File>> = const { RefCell::new(None) };
}

/// A path behind which the input lies.
pub(super) fn path_of(input: &[u8]) -> PathBuf {
    SCRATCH.with_borrow_mut(|scratch| {
        let file = scratch.get_or_insert_with(|| {
            let flags = rustix::fs::MemfdFlags::CLOEXEC;
            let file = rustix::fs::memfd_create("recorder-fuzz", flags).expect("memory for a file");
            File::from(file)
        });
        file.set_len(0).expect("a file in memory is made empty");
        file.write_all_at(input, 0).expect("a file in memory is written");
        PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
    })
}

/// The file, if it is one.
pub fn opened(input: &[u8]) -> Option<SnapshotReader> {
    match SnapshotReader::open(&path_of(input)) {
        Ok(reader) => Some(reader),
        Err(error) => {
            met_error("open", &error);
            None
        }
    }
}

/// Opens, reads every block, checks.
pub fn snapshot(input: &[u8]) {
    let Some(reader) = opened(input) else { return };
    for complaint in reader.complaints() {
        met_error("complaint", complaint);
    }
    let mut events = 0;
    for entry in reader.blocks() {
        match reader.block(entry) {
            Ok(block) => {
                assert_eq!(block.len(), entry.meta.count as usize);
                events += block.events().count() as u64;
                met(("class", entry.meta.class as u8, entry.meta.count.ilog2_or_zero()));
            }
            Err(error) => met_error("block", &error),
        }
    }
    for row in blocks_of_rows(&reader, |_| true).filter_map(Result::ok).flatten() {
        let latencies = Latencies::from_bytes(&row.latencies);
        assert!(!rfc3339(reader.header().clock.wall_ns(row.start_ns)).is_empty());
        met(("row", row.counted.name(Abi::X86_64).len(), latencies.below_ns(500).is_some()));
    }
    let verdict = verify(reader.path(), &mut |_, _| {}).expect("it was opened a moment ago");
    assert_eq!(verdict.events, events);
    let is_whole = verdict.complaints.is_empty();
    met(("whole", is_whole, reader.trailer().is_some(), reader.blocks().len().min(8)));
    assert!(!is_whole || reader.trailer().is_some(), "whole, and has no end");
    // What was read can be written.
    serde_json::to_vec(reader.header()).expect("a header is JSON");
    told(&reader);
}

/// What `recorder info` says of it.
fn told(reader: &SnapshotReader) {
    let (mut text, mut json) = (Vec::new(), Vec::new());
    write_info(reader, &mut text).expect("there is room in memory");
    let text = String::from_utf8(text).expect("it is UTF-8");
    let is_obeyed = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(is_obeyed), "a terminal would obey {text:?}");
    text.lines().for_each(|line| met(("info", line.split(' ').next().unwrap_or_default())));
    write_info_json(reader, &mut json).expect("there is room in memory");
    serde_json::from_slice::<serde_json::Value>(&json).expect("it is JSON");
}

trait Ilog2 {
    fn ilog2_or_zero(self) -> u32;
}

impl Ilog2 for u32 {
    fn ilog2_or_zero(self) -> u32 {
        self.checked_ilog2().unwrap_or_default()
    }
}

/// Looks at lines instead of keeping them.
struct Lines {
    line: Vec<u8>,
    is_json: bool,
    lines: u64,
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.line.extend(bytes);
        if self.line.ends_with(b"\n") {
            self.lines += 1;
            let text = std::str::from_utf8(&self.line).expect("a line is UTF-8");
            let text = text.trim_end_matches('\n');
            // JSON may hold what is a control character only to terminals.
            let is_obeyed = |c: char| if self.is_json { c < ' ' } else { c.is_control() };
            assert!(!text.contains(is_obeyed), "a terminal would obey {text:?}");
            if self.is_json && self.lines < LINES_MAX {
                let object: serde_json::Value = serde_json::from_str(text).expect("a line is JSON");
                assert!(object["ts_ns"].is_string() && object["kind"].is_string());
            }
            self.line.clear();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Replays and prints.
pub fn replayed(input: &[u8]) {
    let Some(reader) = opened(input) else { return };
    let header = reader.header();
    let native = Abi::native(&header.arch).unwrap_or(Abi::Aarch64);
    let mut text = Text::new(header.clock, native, input.len().is_multiple_of(2));
    let mut json = JsonLines::new(header.clock, native);
    let mut lines = Lines { line: Vec::new(), is_json: false, lines: 0 };
    let mut objects = Lines { line: Vec::new(), is_json: true, lines: 0 };
    let (mut last_ns, mut events) = (0, 0);
    let done = replay(&reader, &|_| false, &mut |_| {}, &mut |event, processes| {
        assert!(event.ts_ns >= last_ns, "{} after {last_ns}", event.ts_ns);
        last_ns = event.ts_ns;
        text.event(event, processes, &mut lines).expect("it is only looked at");
        json.event(event, processes, &mut objects).expect("it is only looked at");
        met(("event", event.kind as u8, event.attached().len(), event.numbers().len()));
        events += 1;
        if events == EVENTS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((lines.lines, objects.lines), (events, events));
    done.damage.iter().for_each(|damage| met_error("damage", damage));
}

/// The host as it was at its moments: processes, files, sockets.
pub fn state(input: &[u8]) {
    let Some(reader) = opened(input) else { return };
    let header = reader.header();
    let middle_ns = header.window.start_ns.midpoint(header.window.end_ns);
    for at_ns in [0, middle_ns, u64::MAX] {
        let (host, done) = HostState::at(&reader, at_ns, &mut |_| {});
        done.damage.iter().for_each(|damage| met_error("damage", damage));
        met(("at", host.processes.len().checked_ilog2(), host.processes.uncertain_ns() == 0));
        for what in What::value_variants() {
            let (mut table, mut objects) = (Vec::new(), Vec::new());
            host.write_text(*what, header.clock, &mut table).expect("there is room in memory");
            let table = String::from_utf8(table).expect("a table is UTF-8");
            let is_obeyed = |c: char| c.is_control() && c != '\n';
            assert!(!table.contains(is_obeyed), "a terminal would obey {table:?}");
            host.write_json(*what, header.clock, &mut objects).expect("there is room in memory");
            let rows = objects.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            let mut count = 0u32;
            for row in rows {
                serde_json::from_slice::<serde_json::Value>(row).expect("a row is JSON");
                count += 1;
            }
            met((*what as u8, count.ilog2_or_zero()));
        }
    }
}
