//! The books against a kernel that knows the truth: they close exactly when nobody
//! tampered with a record or a counter.

use std::cell::Cell;

use recorder::{
    context::Processes,
    event::{
        Event, Kind,
        syscall::Abi,
        wire::{PerCpu, call_index, filtered},
    },
    loss::Ledger,
    recorder::{KernelCounts, Record, Tally},
    window::{Window, WindowLimits},
};
use recorder_tests::{
    property::{Case, check, met, seeds},
    simulated::{Cut, SimulatedKernel},
    synth::Random,
};

/// How often a CPU is cut again.
const CUTS_MAX: u32 = 1_000;

const OTHERS: [Kind; 4] =
    [Kind::ProcessFork, Kind::ProcessExit, Kind::TcpState, Kind::TcpRetransmit];

/// The kernel and the window, and what is changed behind their backs.
#[derive(Clone, Debug)]
struct Setup {
    cpus: usize,
    ring_bytes: usize,
    window_bytes: u64,
    tamper: Option<Tamper>,
}

/// What somebody changes once.
#[derive(Clone, Copy, Debug)]
enum Tamper {
    /// The record read as this one never comes.
    Drop(u64),
    /// It comes twice.
    Twice(u64),
    /// It comes behind the one that follows on its CPU, when both are calls.
    Late(u64),
    /// It says that it is of another kind.
    Kind(u64, u8),
    /// It ends too early.
    Short(u64),
    /// A counter of the kernel is another one, of the CPU that is cut as this one.
    Counter(u64, Counter, bool),
}

/// The counters that are compared with others. `others_filtered` is not: nothing
/// else counts what no program was offered.
#[derive(Clone, Copy, Debug)]
enum Counter {
    Calls,
    CallsFiltered(usize),
    Seen(Kind),
    Stored(Kind),
    Lost(Kind),
    PendingLost,
    PendingSkipped,
    CallSeen(i64),
    CallLost(i64),
}

#[derive(Clone, Debug)]
enum Step {
    Call {
        cpu: usize,
        nr: i64,
        compat: bool,
        interrupts: Vec<Kind>,
        times: u32,
    },
    Filtered {
        cpu: usize,
        reason: usize,
        times: u64,
    },
    FilteredOther {
        cpu: usize,
    },
    Other {
        cpu: usize,
        kind: Kind,
        times: u32,
    },
    Skipped {
        times: u64,
    },
    Online {
        cpu: usize,
        is_online: bool,
    },
    /// The reader comes round.
    Visit {
        most: u32,
    },
    /// A dump. Programs run while some CPUs are cut, and after others were.
    Dump {
        busy: bool,
        meanwhile: u32,
    },
}

/// The recorder's loop, as far as it touches the books.
struct Reader {
    kernel: SimulatedKernel,
    tally: Tally,
    window: Window,
    nonce: u64,
    setup: Setup,
    records: u64,
    cuts: u64,
    late: Option<(usize, Vec<u8>)>,
    is_tampered: bool,
    changed: Option<(usize, Counter, bool)>,
}

impl Reader {
    fn new(setup: &Setup) -> Reader {
        let limits = WindowLimits { span_ns: 20_000_000_000, bytes_max: setup.window_bytes };
        Reader {
            kernel: SimulatedKernel::new(setup.cpus, setup.ring_bytes),
            tally: Tally::new(setup.cpus),
            window: Window::new(limits, setup.cpus, Abi::X86_64, Processes::default()),
            nonce: 0,
            setup: setup.clone(),
            records: 0,
            cuts: 0,
            late: None,
            is_tampered: false,
            changed: None,
        }
    }

    /// Reads a ring up to the mark `nonce`.
    fn drain(&mut self, cpu: usize, most: u32, nonce: u64) {
        for _ in 0..most {
            let Some(record) = self.kernel.take(cpu) else { break };
            let is_mark = record[2] == Kind::Cut as u8;
            if is_mark && self.late.as_ref().is_some_and(|(of, _)| *of == cpu) {
                // What was to come late comes now: behind the mark it would be of the
                // next dump.
                let (_, late) = self.late.take().expect("it is there");
                self.read(cpu, &late);
            }
            if !is_mark {
                self.tampered(cpu, record);
            } else if self.read(cpu, &record) == Some(nonce) {
                break;
            }
        }
        if self.late.as_ref().is_some_and(|(of, _)| *of == cpu) {
            let (_, late) = self.late.take().expect("it is there");
            self.read(cpu, &late);
        }
    }

    /// Hands a record to the tally, or does to it what was said.
    fn tampered(&mut self, cpu: usize, mut record: Vec<u8>) {
        self.records += 1;
        let is_call = |record: &[u8]| record[2] == Kind::Syscall as u8;
        if let Some((of, late)) = self.late.take() {
            if of == cpu && is_call(&record) {
                self.is_tampered = true;
                self.read(cpu, &record);
                self.read(cpu, &late);
                return;
            }
            self.read(of, &late);
        }
        let is_it = |number: u64| number == self.records;
        match self.setup.tamper {
            Some(Tamper::Drop(number)) if is_it(number) => self.is_tampered = true,
            Some(Tamper::Twice(number)) if is_it(number) => {
                self.is_tampered = true;
                self.read(cpu, &record);
                self.read(cpu, &record);
            }
            Some(Tamper::Late(number)) if is_it(number) && is_call(&record) => {
                self.late = Some((cpu, record));
            }
            Some(Tamper::Kind(number, kind)) if is_it(number) => {
                self.is_tampered = kind != record[2];
                record[2] = kind;
                self.read(cpu, &record);
            }
            Some(Tamper::Short(number)) if is_it(number) => {
                self.is_tampered = true;
                let short = record.len() - 1;
                self.read(cpu, &record[..short]);
            }
            _ => {
                self.read(cpu, &record);
            }
        }
    }

    /// Answers the nonce of a mark.
    fn read(&mut self, cpu: usize, record: &[u8]) -> Option<u64> {
        let mut event = Event::new(Kind::Lost, 0);
        match self.tally.read(cpu, record, &mut event) {
            Record::Event => {
                self.window.push(&event);
            }
            Record::Mark(nonce) => return Some(nonce),
            Record::Malformed => {}
        }
        None
    }

    fn visit(&mut self, most: u32) {
        for cpu in 0..self.kernel.cpus() {
            self.drain(cpu, most, 0);
        }
        self.window.tick(self.kernel.now_ns());
    }

    /// Cuts every CPU as the recorder does, and answers the books.
    fn dump(&mut self, busy: bool, meanwhile: u32) -> Ledger {
        for cpu in 0..self.kernel.cpus() {
            let mut cuts = 0;
            loop {
                cuts += 1;
                assert!(cuts < CUTS_MAX, "CPU {cpu} cannot be cut");
                self.nonce += 1;
                let answer = if busy && cuts == 1 && self.kernel.is_online(cpu) {
                    self.kernel.call_cut(cpu, 3, false, &[Kind::TcpState], Some(self.nonce));
                    Cut::Marked
                } else {
                    self.kernel.cut(cpu, self.nonce)
                };
                match answer {
                    Cut::Offline => {
                        self.drain(cpu, u32::MAX, 0);
                        self.tally.offline(cpu);
                        break;
                    }
                    Cut::Full => self.drain(cpu, 64, 0),
                    Cut::Marked => {
                        self.drain(cpu, u32::MAX, self.nonce);
                        if self.tally.is_cut(cpu, self.nonce) {
                            break;
                        }
                    }
                }
            }
            self.change_counter(cpu);
            // The CPUs that were cut go on.
            for _ in 0..meanwhile {
                self.kernel.call(cpu, 0, false, &[]);
            }
        }
        let (mut at_cut, mut running) = (self.kernel.at_cut(), self.kernel.running());
        if let Some((cpu, counter, up)) = self.changed {
            let is_online = self.kernel.is_online(cpu);
            let of = if is_online { &mut at_cut } else { &mut running };
            self.is_tampered |= counter.change(&mut of[cpu], up);
        }
        let kernel =
            KernelCounts { at_cut: &at_cut, running: &running, skipped: self.kernel.skipped() };
        self.tally.ledger(kernel, &self.window, Abi::X86_64)
    }

    fn change_counter(&mut self, cpu: usize) {
        self.cuts += 1;
        if let Some(Tamper::Counter(number, counter, up)) = self.setup.tamper
            && number == self.cuts
        {
            self.changed = Some((cpu, counter, up));
        }
    }
}

impl Counter {
    fn random(random: &mut Random) -> Counter {
        let kinds = [Kind::Syscall, Kind::ProcessFork, Kind::TcpState];
        let kind = kinds[random.below(3) as usize];
        let nr = random.below(5).cast_signed();
        match random.below(9) {
            0 => Counter::Calls,
            1 => Counter::CallsFiltered(random.below(filtered::COUNT as u64) as usize),
            2 => Counter::Seen(kind),
            3 => Counter::Stored(kind),
            4 => Counter::Lost(kind),
            5 => Counter::PendingLost,
            6 => Counter::PendingSkipped,
            7 => Counter::CallSeen(nr),
            _ => Counter::CallLost(nr),
        }
    }

    /// Answers whether there was something to take away.
    fn change(self, of: &mut PerCpu, up: bool) -> bool {
        let PerCpu { counters, calls } = of;
        let number = match self {
            Counter::Calls => &mut counters.calls,
            Counter::CallsFiltered(reason) => &mut counters.calls_filtered[reason],
            Counter::Seen(kind) => &mut counters.seen[kind as usize],
            Counter::Stored(kind) => &mut counters.stored[kind as usize],
            Counter::Lost(kind) => &mut counters.lost[kind as usize],
            Counter::PendingLost => &mut counters.pending_lost,
            Counter::PendingSkipped => &mut counters.pending_skipped,
            Counter::CallSeen(nr) => &mut calls[call_index(nr, false) as usize].seen,
            Counter::CallLost(nr) => &mut calls[call_index(nr, false) as usize].lost,
        };
        let changed = if up { Some(*number + 1) } else { number.checked_sub(1) };
        *number = changed.unwrap_or(*number);
        changed.is_some()
    }
}

fn steps(random: &mut Random, cpus: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    for _ in 0..10 + random.below(60) {
        let cpu = random.below(cpus as u64) as usize;
        let kind = OTHERS[random.below(4) as usize];
        steps.push(match random.below(16) {
            0..=4 => {
                let interrupts =
                    (0..random.below(3)).map(|_| OTHERS[random.below(4) as usize]).collect();
                let nr = if random.one_in(20) { -1 } else { random.below(5).cast_signed() };
                let times = 1 + random.below(40) as u32;
                Step::Call { cpu, nr, compat: random.one_in(8), interrupts, times }
            }
            5 | 6 => {
                // Enough to go round the 32 bits of the running number.
                let times = if random.one_in(4) { (1 << 32) - 3 } else { 1 };
                Step::Filtered { cpu, reason: random.below(2) as usize, times }
            }
            7 => Step::FilteredOther { cpu },
            8 | 9 => Step::Other { cpu, kind, times: 1 + random.below(20) as u32 },
            10 => Step::Skipped { times: random.below(5) },
            11 => Step::Online { cpu, is_online: random.one_in(2) },
            12..=14 => Step::Visit { most: random.below(40) as u32 },
            _ => Step::Dump { busy: random.one_in(3), meanwhile: random.below(4) as u32 },
        });
    }
    steps.push(Step::Dump { busy: false, meanwhile: 0 });
    steps
}

fn case(random: &mut Random, tamper: Option<Tamper>) -> Case<Setup, Step> {
    let cpus = 1 + random.below(4) as usize;
    let ring_bytes = if random.one_in(3) { 1 << 20 } else { 600 + random.below(4_000) as usize };
    let window_bytes = if random.one_in(2) { u64::MAX } else { 100_000 };
    let setup = Setup { cpus, ring_bytes, window_bytes, tamper };
    Case { setup, steps: steps(random, cpus) }
}

/// Answers whether something was tampered with, and how many events were lost.
fn run(case: &Case<Setup, Step>) -> (bool, u64) {
    let mut reader = Reader::new(&case.setup);
    let mut lost = 0;
    for step in &case.steps {
        let kernel = &mut reader.kernel;
        kernel.wait(50_000_000);
        match step {
            Step::Call { cpu, nr, compat, interrupts, times } => {
                (0..*times).for_each(|_| kernel.call(*cpu, *nr, *compat, interrupts));
            }
            Step::Filtered { cpu, reason, times } => kernel.filtered_calls(*cpu, *reason, *times),
            Step::FilteredOther { cpu } => kernel.filtered_other(*cpu),
            Step::Other { cpu, kind, times } => {
                (0..*times).for_each(|_| kernel.other(*cpu, *kind));
            }
            Step::Skipped { times } => kernel.skip(*times),
            Step::Online { cpu, is_online } => kernel.set_online(*cpu, *is_online),
            Step::Visit { most } => reader.visit(*most),
            Step::Dump { busy, meanwhile } => {
                let ledger = reader.dump(*busy, *meanwhile);
                if reader.is_tampered {
                    let is_noticed = !ledger.closes || ledger.malformed > 0;
                    assert!(is_noticed, "{:?} is not noticed: {ledger:?}", case.setup.tamper);
                    return (true, lost);
                }
                is_true(&reader, &ledger);
                lost += ledger.lost_total();
            }
        }
    }
    (false, lost)
}

/// The books say what the kernel knows.
fn is_true(reader: &Reader, ledger: &Ledger) {
    let truth = reader.kernel.truth_at_cut();
    assert!(ledger.closes && ledger.complaints().is_empty(), "{ledger:?}");
    assert_eq!(ledger.unaccounted, 0);
    assert_eq!(ledger.seen, truth.seen + reader.kernel.skipped());
    assert_eq!(ledger.stored, truth.stored);
    assert_eq!(ledger.filtered, truth.filtered);
    assert_eq!(ledger.decoded, truth.stored);
    assert_eq!(ledger.in_window + ledger.evicted, truth.stored);
    let lost = |reason: &str| ledger.lost.get(reason).copied().unwrap_or_default();
    assert_eq!(lost("ring_full"), truth.lost);
    assert_eq!(lost("kernel_skipped"), reader.kernel.skipped());
    for (name, nr, compat) in
        [("read", 0, false), ("close", 3, false), ("other", -1, false), ("read@32", 3, true)]
    {
        let of = truth.calls.get(&call_index(nr, compat)).copied().unwrap_or_default();
        let found = ledger.calls.get(name).copied().unwrap_or_default();
        assert_eq!((found.seen, found.lost), of, "{name}");
    }
}

#[test]
fn books_of_an_honest_kernel_close_and_are_true() {
    let lost = Cell::new(0);
    check(
        300,
        |random| case(random, None),
        |case| {
            let (tampered, more) = run(case);
            assert!(!tampered);
            lost.set(lost.get() + more);
        },
    );
    met(lost.get(), 1_000, "events were lost");
}

#[test]
fn whatever_is_tampered_with_is_noticed() {
    let tampered = Cell::new(0u64);
    check(
        600,
        |random| {
            let number = 1 + random.below(120);
            let tamper = match random.below(6) {
                0 => Tamper::Drop(number),
                1 => Tamper::Twice(number),
                2 => Tamper::Late(number),
                3 => Tamper::Kind(number, random.below(14) as u8),
                4 => Tamper::Short(number),
                _ => {
                    let counter = Counter::random(random);
                    Tamper::Counter(1 + random.below(8), counter, random.one_in(2))
                }
            };
            case(random, Some(tamper))
        },
        |case| {
            let (is_tampered, _) = run(case);
            tampered.set(tampered.get() + u64::from(is_tampered));
        },
    );
    met(tampered.get(), 150, "cases were tampered with");
}

#[test]
fn a_ledger_closes_only_when_every_number_is_right() {
    for seed in seeds(2_000) {
        let mut random = Random::new(seed);
        let mut few = || random.below(1_000);
        let mut ledger = Ledger {
            filtered: few(),
            aggregated: few(),
            malformed: few(),
            in_flight: few(),
            evicted: few(),
            in_window: few(),
            lost: [("a".to_string(), few()), ("b".to_string(), few())].into(),
            ..Ledger::default()
        };
        ledger.decoded = ledger.in_window + ledger.evicted;
        ledger.stored = ledger.decoded + ledger.malformed + ledger.in_flight;
        ledger.seen = ledger.stored + ledger.filtered + ledger.aggregated + ledger.lost_total();
        assert!(ledger.sums_hold() && ledger.complaints().is_empty(), "seed {seed}: {ledger:?}");
        let wrong = 1 + random.number() % 1_000_000;
        let fields = [
            &mut ledger.seen,
            &mut ledger.stored,
            &mut ledger.filtered,
            &mut ledger.aggregated,
            &mut ledger.malformed,
            &mut ledger.in_flight,
            &mut ledger.decoded,
            &mut ledger.evicted,
            &mut ledger.in_window,
            &mut ledger.unaccounted,
        ];
        let place = random.below(fields.len() as u64) as usize;
        for field in fields.into_iter().skip(place).take(1) {
            *field += wrong;
        }
        assert!(!ledger.sums_hold(), "seed {seed}: {ledger:?}");
        assert!(!ledger.complaints().is_empty(), "seed {seed}: {ledger:?}");
    }
}
