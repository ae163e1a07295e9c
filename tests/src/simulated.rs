//! A kernel that never was: CPUs that count, rings with little room, interrupts,
//! CPUs that go off line. It does what the programs in `recorder-ebpf` do, in plain
//! words, and knows where every event is.

use std::collections::{BTreeMap, VecDeque};

use recorder::event::{
    Kind,
    wire::{CALLS_MAX, CallCounts, Counters, KINDS_MAX, PerCpu, call_index, filtered, flag, lost},
};

/// Bytes a record takes in a BPF ring beside its own: a head, and up to eight.
const RECORD_HEAD_BYTES: usize = 8;

/// Where the events of a CPU are, counted one by one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Truth {
    /// Every event a program looked at.
    pub seen: u64,
    /// Events that were not wanted.
    pub filtered: u64,
    /// Events the ring took.
    pub stored: u64,
    /// Events the ring had no room for.
    pub lost: u64,
    /// Calls by their place among the counters: looked at, and lost.
    pub calls: BTreeMap<u32, (u64, u64)>,
}

/// One CPU.
struct Cpu {
    running: Box<PerCpu>,
    at_cut: Box<PerCpu>,
    truth: Truth,
    truth_at_cut: Truth,
    ring: VecDeque<Vec<u8>>,
    ring_bytes: usize,
    is_online: bool,
}

/// How an attempt to cut a CPU ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The mark is in the ring.
    Marked,
    /// The ring had no room.
    Full,
    /// The CPU is off line.
    Offline,
}

/// The kernel.
pub struct SimulatedKernel {
    cpus: Vec<Cpu>,
    room: usize,
    now_ns: u64,
    skipped: u64,
}

fn empty() -> Box<PerCpu> {
    let counters = Counters {
        calls: 0,
        calls_filtered: [0; filtered::COUNT],
        others_filtered: 0,
        seen: [0; KINDS_MAX],
        stored: [0; KINDS_MAX],
        lost: [0; KINDS_MAX],
        busy: 0,
        pending_lost: 0,
        pending_lost_process: 0,
        pending_first_ns: 0,
        pending_last_ns: 0,
        pending_skipped: 0,
        woken_at: 0,
        unasked_bytes: 0,
    };
    Box::new(PerCpu { counters, calls: [CallCounts::default(); CALLS_MAX as usize] })
}

/// A record of a kind with these numbers in its fields, as it lies in the ring.
pub fn record(kind: Kind, ts_ns: u64, numbers: &[u64], seq: u32, skipped: u32) -> Vec<u8> {
    let schema = kind.schema();
    let mut record = vec![0; schema.fixed_bytes];
    record[2] = kind as u8;
    record[8..12].copy_from_slice(&seq.to_ne_bytes());
    record[12..16].copy_from_slice(&skipped.to_ne_bytes());
    record[16..24].copy_from_slice(&ts_ns.to_ne_bytes());
    record[24..28].copy_from_slice(&77u32.to_ne_bytes());
    record[28..32].copy_from_slice(&78u32.to_ne_bytes());
    for (field, number) in schema.fields.iter().zip(numbers) {
        let bytes = number.to_le_bytes();
        let place = field.offset..field.offset + field.width;
        // Only little-endian machines are recorded.
        record[place].copy_from_slice(&bytes[..field.width]);
    }
    let bytes = record.len() as u16;
    record[..2].copy_from_slice(&bytes.to_ne_bytes());
    record
}

impl SimulatedKernel {
    /// A kernel with `cpus` CPUs whose rings have `room` bytes each.
    pub fn new(cpus: usize, room: usize) -> SimulatedKernel {
        let cpu = || Cpu {
            running: empty(),
            at_cut: empty(),
            truth: Truth::default(),
            truth_at_cut: Truth::default(),
            ring: VecDeque::new(),
            ring_bytes: 0,
            is_online: true,
        };
        SimulatedKernel {
            cpus: (0..cpus).map(|_| cpu()).collect(),
            room,
            now_ns: 1_000_000_000,
            skipped: 0,
        }
    }

    /// How many CPUs there are.
    pub fn cpus(&self) -> usize {
        self.cpus.len()
    }

    /// The clock.
    pub fn now_ns(&self) -> u64 {
        self.now_ns
    }

    /// The clock goes on.
    pub fn wait(&mut self, ns: u64) {
        self.now_ns += ns;
    }

    /// A call returns. While its program runs, interrupts see events of these kinds.
    pub fn call(&mut self, cpu: usize, nr: i64, compat: bool, interrupts: &[Kind]) {
        self.call_cut(cpu, nr, compat, interrupts, None);
    }

    /// The same; `nonce` asks for a cut while the program runs.
    pub fn call_cut(
        &mut self,
        cpu: usize,
        nr: i64,
        compat: bool,
        interrupts: &[Kind],
        nonce: Option<u64>,
    ) {
        self.now_ns += 100;
        let now_ns = self.now_ns;
        let index = call_index(nr, compat);
        let room = self.room;
        let Some(this) = self.cpus.get_mut(cpu).filter(|cpu| cpu.is_online) else { return };
        this.running.counters.busy += 1;
        this.running.counters.calls += 1;
        this.running.calls[index as usize].seen += 1;
        this.truth.seen += 1;
        this.truth.calls.entry(index).or_default().0 += 1;
        let (seq, skipped) =
            (this.running.counters.calls as u32, this.running.counters.pending_skipped as u32);
        for kind in interrupts {
            this.other(*kind, now_ns, room, false);
        }
        if let Some(nonce) = nonce {
            this.mark(nonce, now_ns, room);
        }
        let mut bytes = record(Kind::Syscall, now_ns, &[nr.cast_unsigned(), 0, 90], seq, skipped);
        if compat {
            bytes[4..6].copy_from_slice(&flag::COMPAT.to_ne_bytes());
        }
        if this.offer(Kind::Syscall, bytes, now_ns, room, true) {
            this.running.counters.pending_skipped = 0;
        } else {
            this.running.calls[index as usize].lost += 1;
            this.truth.calls.entry(index).or_default().1 += 1;
            this.running.counters.pending_skipped += 1;
        }
        this.running.counters.busy -= 1;
    }

    /// Calls that are not wanted return, any number of them.
    pub fn filtered_calls(&mut self, cpu: usize, reason: usize, times: u64) {
        let Some(this) = self.cpus.get_mut(cpu).filter(|cpu| cpu.is_online) else { return };
        let counters = &mut this.running.counters;
        counters.calls += times;
        counters.calls_filtered[reason] += times;
        counters.pending_skipped += times;
        this.truth.seen += times;
        this.truth.filtered += times;
    }

    /// An event of another kind that is not wanted.
    pub fn filtered_other(&mut self, cpu: usize) {
        let Some(this) = self.cpus.get_mut(cpu).filter(|cpu| cpu.is_online) else { return };
        this.running.counters.others_filtered += 1;
        this.truth.seen += 1;
        this.truth.filtered += 1;
    }

    /// An event of another kind.
    pub fn other(&mut self, cpu: usize, kind: Kind) {
        self.now_ns += 100;
        let (now_ns, room) = (self.now_ns, self.room);
        if let Some(this) = self.cpus.get_mut(cpu).filter(|cpu| cpu.is_online) {
            this.other(kind, now_ns, room, true);
        }
    }

    /// The kernel does not run a program.
    pub fn skip(&mut self, times: u64) {
        self.skipped += times;
    }

    /// Events no program was run for.
    pub fn skipped(&self) -> u64 {
        self.skipped
    }

    /// A CPU goes off line or comes back.
    pub fn set_online(&mut self, cpu: usize, is_online: bool) {
        if let Some(this) = self.cpus.get_mut(cpu) {
            this.is_online = is_online;
        }
    }

    /// Puts a mark into the ring of a CPU and copies its counters.
    pub fn cut(&mut self, cpu: usize, nonce: u64) -> Cut {
        let (now_ns, room) = (self.now_ns, self.room);
        match self.cpus.get_mut(cpu) {
            Some(this) if this.is_online => this.mark(nonce, now_ns, room),
            Some(this) => {
                // Nothing changes there: what is true is true at the cut.
                this.truth_at_cut = this.truth.clone();
                Cut::Offline
            }
            None => Cut::Offline,
        }
    }

    /// The oldest record of a CPU's ring.
    pub fn take(&mut self, cpu: usize) -> Option<Vec<u8>> {
        let this = self.cpus.get_mut(cpu)?;
        let record = this.ring.pop_front()?;
        this.ring_bytes -= in_ring(record.len());
        Some(record)
    }

    /// The counters of every CPU at its last clean cut.
    pub fn at_cut(&self) -> Vec<PerCpu> {
        self.cpus.iter().map(|cpu| *cpu.at_cut).collect()
    }

    /// The counters of every CPU as they are.
    pub fn running(&self) -> Vec<PerCpu> {
        self.cpus.iter().map(|cpu| *cpu.running).collect()
    }

    /// Whether a CPU is on line.
    pub fn is_online(&self, cpu: usize) -> bool {
        self.cpus.get(cpu).is_some_and(|cpu| cpu.is_online)
    }

    /// Where every event was at the last cut of its CPU.
    pub fn truth_at_cut(&self) -> Truth {
        let mut sum = Truth::default();
        for truth in self.cpus.iter().map(|cpu| &cpu.truth_at_cut) {
            sum.seen += truth.seen;
            sum.filtered += truth.filtered;
            sum.stored += truth.stored;
            sum.lost += truth.lost;
            for (index, (seen, lost)) in &truth.calls {
                let of = sum.calls.entry(*index).or_default();
                *of = (of.0 + seen, of.1 + lost);
            }
        }
        sum
    }
}

/// What a record takes of a ring.
fn in_ring(bytes: usize) -> usize {
    RECORD_HEAD_BYTES + bytes.next_multiple_of(8)
}

impl Cpu {
    fn push(&mut self, record: Vec<u8>, room: usize) -> bool {
        let bytes = in_ring(record.len());
        let fits = self.ring_bytes + bytes <= room;
        if fits {
            self.ring_bytes += bytes;
            self.ring.push_back(record);
        }
        fits
    }

    fn other(&mut self, kind: Kind, now_ns: u64, room: usize, is_outermost: bool) {
        self.truth.seen += 1;
        let numbers = [u64::from(is_outermost), 1, 2];
        self.offer(kind, record(kind, now_ns, &numbers, 0, 0), now_ns, room, is_outermost);
    }

    /// Counts, and puts a record into the ring where there is room.
    fn offer(
        &mut self,
        kind: Kind,
        record: Vec<u8>,
        now_ns: u64,
        room: usize,
        is_outermost: bool,
    ) -> bool {
        self.running.counters.seen[kind as usize] += 1;
        if is_outermost {
            self.flush_losses(room);
        }
        let stored = self.push(record, room);
        let counters = &mut self.running.counters;
        if stored {
            counters.stored[kind as usize] += 1;
            self.truth.stored += 1;
        } else {
            counters.lost[kind as usize] += 1;
            if counters.pending_lost == 0 {
                counters.pending_first_ns = now_ns;
            }
            counters.pending_last_ns = now_ns;
            counters.pending_lost += 1;
            self.truth.lost += 1;
        }
        stored
    }

    /// A loss becomes a record as soon as there is room.
    fn flush_losses(&mut self, room: usize) {
        let Counters { pending_lost, pending_first_ns, pending_last_ns, .. } =
            self.running.counters;
        if pending_lost == 0 {
            return;
        }
        let numbers = [u64::from(lost::RING_FULL), pending_lost, pending_last_ns, 0];
        if self.push(record(Kind::Lost, pending_first_ns, &numbers, 0, 0), room) {
            self.running.counters.pending_lost = 0;
        }
    }

    fn mark(&mut self, nonce: u64, now_ns: u64, room: usize) -> Cut {
        let busy = self.running.counters.busy;
        if busy == 0 {
            self.flush_losses(room);
            if self.running.counters.pending_lost != 0 {
                return Cut::Full;
            }
            self.at_cut = self.running.clone();
            self.truth_at_cut = self.truth.clone();
        }
        let mark = record(Kind::Cut, now_ns, &[nonce, busy], 0, 0);
        if self.push(mark, room) { Cut::Marked } else { Cut::Full }
    }
}
