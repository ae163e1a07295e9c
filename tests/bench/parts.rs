//! What the daemon's time per event consists of: the events of a snapshot go
//! through the parts of its work once more, one part after the other, while the
//! load runs again and takes from caches and CPUs what it took before.

use std::{hint::black_box, ops::ControlFlow, path::Path, thread};

use recorder::{
    context::Processes,
    decode::decode,
    event::{
        Class, Event, Kind,
        syscall::Abi,
        wire::{AttachmentHead, Header, flag},
    },
    recorder::{Places, Repeats},
    replay::replay,
    rollup::Rollups,
    snapshot::SnapshotReader,
    window::{
        Window, WindowLimits,
        codec::{Columns, RAW_BYTES_TARGET},
        compress,
    },
};
use recorder_tests::figures::Figure;

use crate::machine::thread_ns;

/// The records of the first events of a snapshot, as the rings would give them.
struct Records {
    bytes: Vec<u8>,
    /// CPU and length of each.
    heads: Vec<(u16, usize)>,
}

/// How often the window looks at the clock.
const TICK_NS: u64 = 10_000_000;

/// How often all of it is done; the medians count.
const TIMES: usize = 3;

/// Takes at most `events_max` events of `file` apart. `whole_ns` is what the daemon
/// took for each, `load` what it worked beside.
pub(crate) fn measure(
    file: &Path,
    events_max: usize,
    whole_ns: f64,
    load: &mut (dyn FnMut() -> f64 + Send),
) -> Vec<Figure> {
    let records = Records::read(file, events_max);
    let count = records.heads.len() as f64;
    let pass = |_| {
        let [bytes_ns, zstd_ns] = records.blocks();
        // Taking them in makes blocks of the same events, if not quite the same blocks.
        let intake_ns = records.intake().saturating_sub(bytes_ns + zstd_ns);
        [intake_ns, bytes_ns, zstd_ns].map(|ns| ns as f64 / count)
    };
    let passes: Vec<[f64; 3]> = thread::scope(|scope| {
        scope.spawn(load);
        (0..TIMES).map(pass).collect()
    });
    let labels = [
        ("cpu_intake", "  records to columns, counts"),
        ("cpu_block", "  columns to a block"),
        ("cpu_zstd", "  zstd"),
    ];
    let part = |(place, (key, label)): (usize, &(&str, &str))| {
        let samples = passes.iter().filter_map(|pass| pass.get(place).copied());
        Figure::median(key, label, samples, "ns", 1)
    };
    let mut parts: Vec<Figure> = labels.iter().enumerate().map(part).collect();
    let rest_ns = whole_ns - parts.iter().map(Figure::value).sum::<f64>();
    parts.push(Figure::new("cpu_rest", "  rings, wake-ups, the rest", rest_ns, "ns", 1));
    parts
}

impl Records {
    fn read(file: &Path, events_max: usize) -> Records {
        let reader = SnapshotReader::open(file).expect("a snapshot");
        let mut records = Records { bytes: Vec::new(), heads: Vec::new() };
        replay(&reader, &|_| false, &mut |_| (), &mut |event, _| {
            // Neither came out of a ring as a record of its own.
            if event.kind != Kind::Lost && !event.has(flag::UNFINISHED) {
                records.push(event);
            }
            if records.heads.len() < events_max {
                ControlFlow::Continue(())
            } else {
                ControlFlow::Break(())
            }
        });
        assert!(!records.heads.is_empty(), "{} has events", file.display());
        records
    }

    /// Adds an event as the kernel writes it, and reads it back to be sure.
    fn push(&mut self, event: &Event<'_>) {
        let start = self.bytes.len();
        let schema = event.kind.schema();
        self.bytes.resize(start + schema.fixed_bytes, 0);
        let (fields, words) = event.numbers().split_at(schema.fields.len());
        let mut put = |at: usize, bytes: &[u8]| {
            let place = self.bytes.get_mut(start + at..start + at + bytes.len());
            place.expect("a field in the fixed part").copy_from_slice(bytes);
        };
        put(std::mem::offset_of!(Header, kind), &[event.kind as u8]);
        put(std::mem::offset_of!(Header, args), &[words.len() as u8]);
        put(std::mem::offset_of!(Header, flags), &event.flags.to_ne_bytes());
        put(std::mem::offset_of!(Header, attachments), &[event.attached().len() as u8]);
        put(std::mem::offset_of!(Header, ts_ns), &event.ts_ns.to_ne_bytes());
        put(std::mem::offset_of!(Header, pid), &event.pid.to_ne_bytes());
        put(std::mem::offset_of!(Header, tid), &event.tid.to_ne_bytes());
        for (field, number) in schema.fields.iter().zip(fields) {
            // Little-endian, as every machine that is recorded.
            put(field.offset, number.to_le_bytes().get(..field.width).unwrap_or_default());
        }
        words.iter().for_each(|word| self.bytes.extend(word.to_ne_bytes()));
        for attached in event.attached() {
            const { assert!(size_of::<AttachmentHead>() == 4) };
            self.bytes.extend([attached.index, attached.flags]);
            self.bytes.extend((attached.bytes.len() as u16).to_ne_bytes());
            self.bytes.extend(attached.bytes);
            let padded = self.bytes.len() - start;
            self.bytes.resize(start + padded.next_multiple_of(4), 0);
        }
        let length = self.bytes.len() - start;
        let said = (length as u16).to_ne_bytes();
        self.bytes.get_mut(start..start + 2).expect("a header").copy_from_slice(&said);
        let record = self.bytes.get(start..).unwrap_or_default();
        let (read, _) = decode(record, event.cpu).expect("a record that makes sense");
        assert_eq!(&read, event, "the record is the event");
        self.heads.push((event.cpu, length));
    }

    fn each(&self, mut take: impl FnMut(&[u8], u16)) {
        let mut rest = self.bytes.as_slice();
        for (cpu, length) in &self.heads {
            let (record, behind) = rest.split_at(*length);
            take(record, *cpu);
            rest = behind;
        }
    }

    /// Nanoseconds for taking all of them into a window and the counts beside it.
    fn intake(&self) -> u64 {
        let native = native();
        let limits = WindowLimits { span_ns: u64::MAX, bytes_max: 1 << 30 };
        let mut window = Window::new(limits, self.cpus(), native, Processes::default());
        let mut rollups = Rollups::new(native, 32 << 20, &Processes::default());
        let mut repeats = Repeats::new(self.cpus(), 256 << 20);
        let (mut now_ns, mut ticked_ns) = (0, 0);
        let began_ns = thread_ns();
        self.each(|record, cpu| {
            let call = repeats.split(record);
            if let Some((key, call)) = &call
                && let Some(places) = repeats.find(usize::from(cpu), *key)
                && rollups.is_current(places.cell)
                && window.push_known(cpu, &places.window, call)
            {
                rollups.push_known(places.cell, call);
                now_ns = call.ts_ns.max(now_ns);
            } else if let Ok((event, _)) = decode(record, cpu) {
                let (cell, window) = (rollups.push(&event), window.push(&event));
                if let (Some((key, _)), Some(cell), Some(window)) = (call, cell, window) {
                    repeats.learn(usize::from(cpu), key, &event, Places { window, cell });
                }
                now_ns = event.ts_ns.max(now_ns);
            }
            if now_ns - ticked_ns > TICK_NS {
                window.tick(now_ns);
                rollups.tick(now_ns);
                ticked_ns = now_ns;
            }
        });
        window.seal_all();
        thread_ns() - began_ns
    }

    fn cpus(&self) -> usize {
        self.heads.iter().map(|(cpu, _)| usize::from(*cpu) + 1).max().unwrap_or(1)
    }

    /// Nanoseconds for making blocks of them, and for compressing these.
    fn blocks(&self) -> [u64; 2] {
        let native = native();
        let mut open: Vec<[Columns; Class::RECORDED.len()]> =
            (0..self.cpus()).map(|_| Default::default()).collect();
        let (mut bytes_ns, mut zstd_ns) = (0, 0);
        let mut seal = |columns: &mut Columns, class: Class, cpu: u16| {
            let began_ns = thread_ns();
            let raw = columns.to_bytes(class, cpu);
            let middle_ns = thread_ns();
            black_box(compress(&raw));
            bytes_ns += middle_ns - began_ns;
            zstd_ns += thread_ns() - middle_ns;
        };
        self.each(|record, cpu| {
            let Ok((event, _)) = decode(record, cpu) else { return };
            let class = Class::of(&event, native);
            let classes = open.get_mut(usize::from(cpu));
            let Some(columns) = classes.and_then(|open| open.get_mut(class as usize)) else {
                return;
            };
            columns.push(&event);
            if columns.is_full(RAW_BYTES_TARGET) {
                seal(columns, class, cpu);
                columns.clear();
            }
        });
        for (cpu, classes) in open.iter_mut().enumerate() {
            for (columns, class) in classes.iter_mut().zip(Class::RECORDED) {
                seal(columns, class, cpu as u16);
            }
        }
        [bytes_ns, zstd_ns]
    }
}

fn native() -> Abi {
    Abi::native(std::env::consts::ARCH).expect("an architecture that is recorded")
}
