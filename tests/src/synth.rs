//! Snapshots nobody recorded: made of events by the same window and writer as
//! real ones, always the same from the same numbers.

#![expect(clippy::expect_used, reason = "a test that panics shows where it failed")]

use std::{
    net::Ipv6Addr,
    path::{Path, PathBuf},
    time::Instant,
};

use recorder::{
    clock::ClockAnchor,
    context::{Processes, ThreadFacts},
    event::{
        ATTACHMENTS_MAX, Attached, Class, Event, Kind, NUMBERS_MAX, file,
        syscall::Abi,
        wire::{self, ATTACHMENT_WAIT_CHANNEL, FileHead, attachment_flag, flag, lost},
    },
    loss::{CallLedger, Ledger, Missing},
    snapshot::{self, Contents, Header, WindowInfo},
    trigger::Trigger,
    window::{Block, FrozenWindow, Window, WindowLimits, blocks_of},
};

/// Numbers that look random and are the same for the same seed: splitmix64.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The numbers of this seed.
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    /// The next one.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..end`; 0 where that is empty.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next_u64().checked_rem(end).unwrap_or_default()
    }

    /// True once in `of` times.
    pub fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    /// A number as programs have them: mostly small, sometimes at an edge.
    pub fn number(&mut self) -> u64 {
        match self.below(8) {
            0 => self.next_u64(),
            1 => u64::MAX - self.below(3),
            2 => (1 << 63) - 1 + self.below(3),
            3 => u64::from(u32::MAX) - 1 + self.below(3),
            _ => {
                let bits = self.below(20);
                self.below(1 << bits)
            }
        }
    }

    /// Bytes, fewer than `end`.
    pub fn bytes(&mut self, end: u64) -> Vec<u8> {
        (0..self.below(end)).map(|_| self.next_u64() as u8).collect()
    }
}

/// An event that owns its bytes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Made {
    /// What happened.
    pub kind: Kind,
    /// `wire::flag` bits.
    pub flags: u16,
    /// On which CPU.
    pub cpu: u16,
    /// In which process.
    pub pid: u32,
    /// In which thread.
    pub tid: u32,
    /// When.
    pub ts_ns: u64,
    /// Fields and arguments.
    pub numbers: Vec<u64>,
    /// Index, flags and bytes.
    pub attached: Vec<(u8, u8, Vec<u8>)>,
}

impl Made {
    /// An event in thread `tid`, which is a process of its own.
    pub fn new(kind: Kind, ts_ns: u64, cpu: u16, tid: u32, numbers: &[u64]) -> Made {
        let numbers = numbers.to_vec();
        Made { kind, flags: 0, cpu, pid: tid, tid, ts_ns, numbers, attached: Vec::new() }
    }

    /// A call: number, result, duration, then its arguments.
    pub fn call(ts_ns: u64, cpu: u16, tid: u32, nr: i64, ret: i64, rest: &[u64]) -> Made {
        let mut numbers = vec![nr.cast_unsigned(), ret.cast_unsigned()];
        numbers.extend(rest);
        Made::new(Kind::Syscall, ts_ns, cpu, tid, &numbers)
    }

    /// The same with bytes.
    pub fn with(mut self, index: u8, bytes: &[u8]) -> Made {
        self.attached.push((index, 0, bytes.to_vec()));
        self
    }

    /// The same with bytes that have flags.
    pub fn with_flagged(mut self, index: u8, flags: u8, bytes: &[u8]) -> Made {
        self.attached.push((index, flags, bytes.to_vec()));
        self
    }

    /// The same with flags of its own.
    pub fn flagged(mut self, flags: u16) -> Made {
        self.flags |= flags;
        self
    }

    /// An event with random contents, of a random kind the kernel makes.
    pub fn random(random: &mut Random, ts_ns: u64, cpus: u16) -> Made {
        let recorded = Kind::ALL.iter().filter(|kind| !is_made_by_recorder(**kind));
        let recorded: Vec<Kind> = recorded.copied().collect();
        let kind = match random.below(4) {
            0 => recorded.get(random.below(recorded.len() as u64) as usize).copied(),
            _ => None,
        };
        let kind = kind.unwrap_or(Kind::Syscall);
        let cpu = random.below(u64::from(cpus)) as u16;
        let tid = 1 + random.below(12) as u32;
        if random.one_in(6) {
            return Made::on_tables(random, ts_ns, cpu, tid);
        }
        let mut made = Made::new(kind, ts_ns, cpu, tid, &[]);
        made.pid = 1 + tid / 3;
        made.flags = if random.one_in(5) { random.next_u64() as u16 } else { 0 };
        made.numbers = match kind {
            Kind::Syscall => {
                let args = random.below(NUMBERS_MAX as u64 - 2);
                let nr = if random.one_in(9) { random.number() } else { random.below(450) };
                let ret = if random.one_in(3) { random.number() } else { random.below(3) };
                let rest: Vec<u64> = (0..=args).map(|_| random.number()).collect();
                [vec![nr, ret], rest].concat()
            }
            // A loss ends after it began.
            Kind::Lost => vec![random.below(4), random.below(1000), ts_ns],
            _ => kind.schema().fields.iter().map(|_| random.number()).collect(),
        };
        for _ in 0..random.below(ATTACHMENTS_MAX as u64 + 1) {
            let flags = if random.one_in(4) { random.next_u64() as u8 } else { 0 };
            let bytes = if random.one_in(2) { b"/etc/hosts".to_vec() } else { random.bytes(40) };
            made.attached.push((random.below(10) as u8, flags, bytes));
        }
        made
    }

    /// An event that changes what threads have open, of x86-64.
    fn on_tables(random: &mut Random, ts_ns: u64, cpu: u16, tid: u32) -> Made {
        let fd = random.below(6);
        let dur_ns = random.below(5_000_000);
        let file = |random: &mut Random, fd: i32| {
            let flags = if random.one_in(3) { wire::file_flag::CLOSE_ON_EXEC } else { 0 };
            let head = FileHead { fd, flags, inode: random.below(9), ..FileHead::default() };
            let names: [&[u8]; 4] = [b"/a/b", b"pipe:[7]", b"socket:[8]", b"/x (deleted)"];
            file::describe(head, names[random.below(4) as usize], None)
        };
        let made = match random.below(8) {
            // openat, twice as often as anything else
            0 | 1 => {
                let args = [dur_ns, 0, 0, 0, 0];
                let made = Made::call(ts_ns, cpu, tid, 257, fd.cast_signed(), &args);
                made.with(wire::ATTACHMENT_FILES, &file(random, fd as i32))
            }
            2 => Made::call(ts_ns, cpu, tid, 3, 0, &[dur_ns, fd]),
            3 => {
                let directory = file(random, wire::FILE_WORKING_DIRECTORY);
                Made::call(ts_ns, cpu, tid, 80, 0, &[dur_ns, 0])
                    .with(wire::ATTACHMENT_FILES, &directory)
            }
            // close_range, unshare
            4 => {
                let last = fd + random.below(3);
                Made::call(ts_ns, cpu, tid, 436, 0, &[dur_ns, fd, last, random.below(3) * 2])
            }
            5 => Made::call(ts_ns, cpu, tid, 272, 0, &[dur_ns, random.below(4) * 0x200]),
            6 => {
                let child = 1 + random.below(12);
                Made::new(Kind::ProcessFork, ts_ns, cpu, tid, &[child, child, random.below(4)])
            }
            _ => {
                let numbers = [u64::from(tid), 0, 1, 2, 3, 4];
                Made::new(Kind::ProcessExec, ts_ns, cpu, tid, &numbers)
            }
        };
        Made { pid: 1 + tid / 3, ..made }
    }

    /// The event.
    pub fn as_event(&self) -> Event<'_> {
        let mut event = Event::new(self.kind, self.ts_ns);
        (event.pid, event.tid, event.cpu, event.flags) = (self.pid, self.tid, self.cpu, self.flags);
        for number in &self.numbers {
            assert!(event.push_number(*number), "{self:?} has too many numbers");
        }
        for (index, flags, bytes) in &self.attached {
            let attached = Attached { index: *index, flags: *flags, bytes };
            assert!(event.attach(attached), "{self:?} has too many attachments");
        }
        event
    }
}

impl From<&Event<'_>> for Made {
    fn from(event: &Event<'_>) -> Made {
        let attached = event.attached().iter();
        Made {
            kind: event.kind,
            flags: event.flags,
            cpu: event.cpu,
            pid: event.pid,
            tid: event.tid,
            ts_ns: event.ts_ns,
            numbers: event.numbers().to_vec(),
            attached: attached.map(|a| (a.index, a.flags, a.bytes.to_vec())).collect(),
        }
    }
}

fn is_made_by_recorder(kind: Kind) -> bool {
    matches!(kind, Kind::Process | Kind::Descriptor | Kind::Cut | Kind::Rollup)
}

/// What a snapshot is made of.
pub struct Synth {
    /// What is known of the host; ledger and window are filled in by
    /// [`Synth::write`].
    pub header: Header,
    /// Its CPUs.
    pub cpus: u16,
    /// The recorded events, in the order in which the rings gave them.
    pub events: Vec<Made>,
    /// The threads at the left edge.
    pub context: Processes,
    /// Calls that have not returned.
    pub unfinished: Vec<Made>,
}

/// When the sample's recording ends, on the kernel's clock.
const SAMPLE_END_NS: u64 = 1_000_000_000_000;

impl Synth {
    /// The snapshot whose file and texts are kept in `tests/golden`: something of
    /// everything. What is written once stays: add a sample of another name.
    pub fn sample() -> Synth {
        Synth {
            header: sample_header(),
            cpus: 2,
            events: sample_events(),
            context: sample_context(),
            unfinished: sample_unfinished(),
        }
    }

    /// Random events on several CPUs, each CPU's nearly in the order of time.
    pub fn random(seed: u64, cpus: u16, events: usize) -> Synth {
        let mut random = Random::new(seed);
        let mut now_ns = 5_000_000_000;
        let events = (0..events)
            .map(|_| {
                now_ns += random.below(4_000_000);
                // An interrupt can turn neighbours round, a CPU can lag.
                let lag_ns = if random.one_in(20) { random.below(3_000_000) } else { 0 };
                let ts_ns = now_ns - lag_ns;
                Made::random(&mut random, ts_ns, cpus)
            })
            .collect();
        let mut header = sample_header();
        header.clock.monotonic_ns = now_ns;
        Synth { header, cpus, events, context: Processes::default(), unfinished: Vec::new() }
    }

    /// The window after all events, frozen.
    pub fn frozen(&self) -> FrozenWindow {
        let limits = WindowLimits { span_ns: 300_000_000_000, bytes_max: 64 << 20 };
        let cpus = usize::from(self.cpus);
        let mut window = Window::new(limits, cpus, Abi::X86_64, self.context.clone());
        // The clock does not go back, nor beyond the end, whatever an event says.
        let mut now_ns = 0;
        for made in &self.events {
            now_ns = made.ts_ns.min(self.header.clock.monotonic_ns).max(now_ns);
            window.push(&made.as_event());
            window.tick(now_ns);
        }
        window.freeze()
    }

    /// Writes the snapshot into `directory` and answers its path.
    pub fn write(&self, directory: &Path) -> PathBuf {
        let frozen = self.frozen();
        let mut header = self.header.clone();
        let metas = frozen.blocks.iter().map(Block::meta);
        header.window = WindowInfo::of(metas, header.clock.monotonic_ns, 300_000_000_000);
        let in_window = frozen.blocks.iter().map(|block| block.meta().ledger_events()).sum();
        complete(&mut header.ledger, in_window);
        let mut blocks = blocks_of(frozen.baseline.to_events(), Class::Context);
        blocks.extend(frozen.blocks);
        blocks.extend(blocks_of(self.unfinished.iter().map(Made::as_event), Class::Unfinished));
        let contents = Contents { header: &header, blocks, asked: Instant::now(), deadline: None };
        let name = snapshot::snapshot_name(&header, &header.clock, &header.trigger.source);
        snapshot::write(directory, &name, contents).expect("the snapshot is written").path
    }
}

/// Books that close around `in_window` events.
fn complete(ledger: &mut Ledger, in_window: u64) {
    ledger.in_window = in_window;
    ledger.decoded = in_window + ledger.evicted;
    ledger.stored = ledger.decoded + ledger.malformed;
    let known = ledger.stored + ledger.filtered;
    ledger.seen = known.saturating_add(ledger.lost_total());
    ledger.closes = ledger.sums_hold();
}

fn sample_header() -> Header {
    let trigger = Trigger {
        source: "manual".to_string(),
        reason: "disk \"slow\"\u{1b}[31m".to_string(),
        labels: [("severity".to_string(), "page".to_string())].into(),
        annotations: [("runbook".to_string(), "line one\nline two".to_string())].into(),
        at_ns: SAMPLE_END_NS - 500_000_000,
        ..Trigger::default()
    };
    let ledger = Ledger {
        filtered: 11,
        filtered_by: [("own".to_string(), 10), ("child_return".to_string(), 1)].into(),
        lost: [("ring_full".to_string(), 1234)].into(),
        malformed: 1,
        evicted: 1_000_000,
        calls: [("read".to_string(), CallLedger { seen: 2_000, lost: 1234, aggregated: 0 })].into(),
        ..Ledger::default()
    };
    Header {
        format_version: snapshot::FORMAT_VERSION,
        program: "recorder 0.1.0".to_string(),
        host: "db-1.example".to_string(),
        kernel: "6.12.48-amd64".to_string(),
        arch: "x86_64".to_string(),
        boot_id: "6d2f0c7e-0000-4000-8000-00000000c0de".to_string(),
        cpus: 2,
        // 2026-11-23T02:26:24Z.
        clock: ClockAnchor { monotonic_ns: SAMPLE_END_NS, wall_ns: 1_795_400_784_000_000_000 },
        trigger,
        freeze_us: 42,
        drain_us: 1_300,
        memory_bytes: 256 << 20,
        missing: vec![Missing { what: "resets".to_string(), why: "no BTF".to_string() }],
        ledger,
        ..Header::default()
    }
}

fn sample_context() -> Processes {
    let mut context = Processes::default();
    let threads: [(u32, u32, [&[u8]; 3]); 3] = [
        (1, 0, [b"systemd", b"/usr/lib/systemd/systemd", b"/sbin/init\0splash\0"]),
        (100, 1, [b"sh", b"/bin/sh", b"sh\0-c\0cat /etc/hostname\0"]),
        (101, 1, [b"w\xf6rker\x1b[2J", b"/opt/w\xf6rker", b"w\xf6rker\0--all\0"]),
    ];
    for (tid, ppid, [comm, program, args]) in threads {
        let facts = ThreadFacts {
            pid: tid,
            ppid,
            start_ns: u64::from(tid) * 1_000_000,
            as_of_ns: 2_000_000_000,
            comm: comm.to_vec(),
            program: program.to_vec(),
            args: args.to_vec(),
            ..ThreadFacts::default()
        };
        context.insert(tid, facts);
    }
    context
}

/// Milliseconds before the end of the sample.
fn before_end(ms: u64) -> u64 {
    SAMPLE_END_NS - ms * 1_000_000
}

fn sample_events() -> Vec<Made> {
    let mut events = sample_of_a_process();
    events.extend(sample_of_calls());
    events.extend(sample_of_network());
    // In the order in which a reader of both rings would meet them: nearly.
    events.sort_by_key(|made| made.ts_ns / 50_000_000);
    events
}

const AT_FDCWD: u64 = (-100i64).cast_unsigned();

/// `cat` from fork to exit, and one that a signal ended.
fn sample_of_a_process() -> Vec<Made> {
    let at = before_end;
    vec![
        Made::new(Kind::ProcessFork, at(2_400), 0, 100, &[200, 200]),
        Made::call(at(2_399), 0, 100, 56, 200, &[250_000, 0x0120_0011, 0, 0, 0x7f00, 0]),
        Made::new(Kind::ProcessExec, at(2_390), 0, 200, &[200, 18])
            .with(0, b"/usr/bin/cat")
            .with(1, b"cat\0/etc/hostname\0"),
        Made::new(Kind::ProcessRename, at(2_390), 0, 200, &[]).with(0, b"cat\0\0\0\0"),
        Made::call(at(2_389), 0, 200, 59, 0, &[800_000, 0x5500, 0x5600, 0x5700])
            .with(0, b"/usr/bin/cat"),
        Made::call(at(2_380), 0, 200, 257, 3, &[4_200, AT_FDCWD, 0x7ffe_1000, 0o2_000_000, 0])
            .with(1, b"/etc/hostname"),
        Made::call(at(2_379), 0, 200, 0, 13, &[1_500, 3, 0x7f11_2233_4000, 131_072]),
        Made::call(at(2_378), 0, 200, 257, -2, &[3_100, AT_FDCWD, 0x7ffe_2000, 0o101, 0o644])
            .with(1, b"/nonexistent/\xff\xfe\n\"quoted\""),
        Made::call(at(2_377), 0, 200, 231, 0, &[0, 1]).flagged(flag::NO_RETURN),
        Made::new(Kind::ProcessExit, at(2_376), 0, 200, &[1, 0]),
        Made::new(Kind::ProcessFork, at(2_000), 1, 101, &[101, 102]),
        Made { pid: 101, ..Made::new(Kind::ProcessRename, at(1_999), 1, 102, &[]) }
            .with(0, b"p\xc3\xb6ol\xff"),
        Made { pid: 101, ..Made::new(Kind::ProcessExit, at(300), 1, 102, &[0, 9]) },
        Made::new(Kind::ProcessExit, at(200), 1, 103, &[0, 0]).flagged(flag::NO_ARGS),
    ]
}

/// Calls whose record is out of the ordinary, each in its own way.
fn sample_of_calls() -> Vec<Made> {
    let at = before_end;
    let huge = 0xffff_8000_0000_0000u64;
    vec![
        Made::call(at(1_800), 1, 101, 9, 0x7f00_dead_b000, &[900, 0, 4096, 3, 0x22, u64::MAX, 0]),
        Made::call(at(1_750), 1, 101, 0, -11, &[700, 5, huge, 16]),
        Made::call(at(1_700), 1, 101, 7, 0, &[250_000_000, 0x7ffe_3000, 2, 250]),
        Made::call(at(1_650), 1, 101, 202, -512, &[99_000, 0x7f00_0010, 128, 2, 0, 0, 0]),
        Made::call(at(1_600), 1, 101, 999, -38, &[100, 1, 2, 3, 4, 5, huge]),
        Made::call(at(1_550), 1, 101, 5, 4, &[5_000, 0x0804_8000, 0, 0])
            .with(0, b"/etc/passwd")
            .flagged(flag::COMPAT),
        Made::call(at(1_500), 1, 101, 39, 101, &[0]).flagged(flag::NO_ENTRY),
        Made::call(at(1_450), 1, 101, 15, 0, &[12]).flagged(flag::NO_ARGS),
        Made::call(at(1_400), 1, 101, 2, -14, &[300, 0xdead, 0, 0]).with_flagged(
            0,
            attachment_flag::UNREADABLE,
            b"",
        ),
        Made::call(at(1_350), 1, 101, 2, 9, &[20_000_000, 0x7f00_0200, 0, 0])
            .with_flagged(0, attachment_flag::CUT, b"/srv/very/long")
            .flagged(flag::LATE),
        Made::call(at(1_300), 1, 101, 0xffff_ffff_ffff, 0, &[1, u64::MAX, 1 << 53, (1 << 53) + 1]),
        Made::new(Kind::Lost, at(1_250), 1, 0, &[u64::from(lost::RING_FULL), 1234, at(1_200)]),
        Made::new(Kind::Lost, at(1_150), 0, 0, &[77, 1, at(1_150)]),
    ]
}

fn sample_of_network() -> Vec<Made> {
    let at = before_end;
    let local = inet([10, 0, 0, 7], 40_123);
    let remote = inet([192, 0, 2, 1], 443);
    let local6 = inet6(Ipv6Addr::LOCALHOST, 80);
    let pair = |made: Made| made.with(0, &local).with(1, &remote);
    vec![
        Made::call(at(1_000), 0, 101, 42, -115, &[8_000, 6, 0x7ffe_4000, 16])
            .with(1, &remote[..16]),
        pair(Made::new(Kind::TcpState, at(999), 0, 101, &[7, 2])),
        pair(Made { pid: 0, ..Made::new(Kind::TcpState, at(980), 1, 0, &[2, 1]) }),
        pair(Made { pid: 0, ..Made::new(Kind::TcpRetransmit, at(900), 1, 0, &[1]) }),
        pair(Made { pid: 0, ..Made::new(Kind::TcpResetReceived, at(890), 1, 0, &[1]) }),
        Made { pid: 0, ..Made::new(Kind::TcpResetSent, at(880), 1, 0, &[0]) }
            .with(0, &local6)
            .with(1, &inet6(Ipv6Addr::UNSPECIFIED, 0)),
        Made::call(at(870), 0, 101, 42, 0, &[9_000, 7, 0x7ffe_5000, 18])
            .with(1, b"\x01\0/run/a\xffb.sock\0junk"),
        Made::call(at(860), 0, 101, 42, -111, &[9_000, 7, 0x7ffe_5000, 12])
            .with(1, b"\x01\0\0abstract\0"),
        Made::call(
            at(850),
            0,
            101,
            288,
            8,
            &[70_000_000, 6, 0x7ffe_6000, 0x7ffe_7000, 0o2_004_000],
        )
        .with(1, &local6),
    ]
}

fn sample_unfinished() -> Vec<Made> {
    let call = |tid, nr, rest: &[u64]| {
        Made::call(SAMPLE_END_NS, 0, tid, nr, 0, rest).flagged(flag::UNFINISHED)
    };
    vec![
        call(1, 0, &[10_002_345_678, 4, 0x7f00, 4096])
            .with(ATTACHMENT_WAIT_CHANNEL, b"anon_pipe_read"),
        call(100, 202, &[3_600_000_000_000, 0x7f00_0010, 128, 2, 0, 0, 0])
            .with(ATTACHMENT_WAIT_CHANNEL, b"futex_wait_queue")
            .flagged(flag::BEFORE_RECORDING),
        call(101, 257, &[10_000_000_000, AT_FDCWD, 0x7ffe_9000, 0, 0])
            .with(1, b"/tmp/f\xefifo\x07"),
    ]
}

/// `struct sockaddr_in` in 28 bytes, as the network probes keep it.
fn inet(address: [u8; 4], port: u16) -> Vec<u8> {
    let mut bytes = vec![2, 0];
    bytes.extend(port.to_be_bytes());
    bytes.extend(address);
    bytes.resize(28, 0);
    bytes
}

/// `struct sockaddr_in6`.
fn inet6(address: Ipv6Addr, port: u16) -> Vec<u8> {
    let mut bytes = vec![10, 0];
    bytes.extend(port.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(address.octets());
    bytes.extend([0; 4]);
    bytes
}
