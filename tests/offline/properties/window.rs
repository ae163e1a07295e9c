//! The window against the simplest one there is: a list of everything that was ever
//! pushed, with times and classes.

use std::{cell::Cell, collections::HashSet};

use recorder::{
    context::{Descriptors, OpenFile, Processes, ThreadFacts},
    event::{
        Class, Kind, file,
        syscall::Abi,
        wire::{self, FileHead},
    },
    window::{FrozenWindow, SEGMENT_SPAN_NS, Window, WindowLimits},
};
use recorder_tests::{
    property::{Case, check, met},
    synth::{Made, Random},
};

/// The number of `close` on x86-64.
const CLOSE: i64 = 3;

/// How far an event can lag behind the clock: another CPU's ring was read first.
const LAG_NS: u64 = 3_000_000;

/// The least memory tried: a hundredth of what the daemon takes.
const BYTES_MIN: u64 = 100_000;

/// What the window is made of.
#[derive(Clone, Debug)]
struct Setup {
    cpus: u16,
    limits: WindowLimits,
    /// Threads that are there when recording begins, and bytes of arguments of each.
    threads: u32,
    args_bytes: usize,
}

/// What happens to it.
#[derive(Clone, Debug)]
enum Step {
    /// The clock goes on, and the loop comes round.
    Tick { after_ns: u64 },
    /// Events of one class are recorded.
    Push { cpu: u16, class: Class, count: u32, lag_ns: u64 },
    /// A dump begins.
    Freeze,
    /// A dump compresses what it got.
    Compress { which: usize },
    /// A dump ends.
    Release { which: usize },
    /// The settings are read again.
    Limits(WindowLimits),
    /// A clock that is not what it should be.
    Jump { back_ns: u64 },
    /// A record whose time is not what it should be.
    WrongTime { cpu: u16, ts_ns: u64 },
}

/// A frozen window that is held, and what it was.
struct Held {
    frozen: FrozenWindow,
    /// Numbers of its events.
    events: Vec<u64>,
    baseline: Vec<(u32, Known)>,
}

/// The window beside the list.
struct Model {
    window: Window,
    setup: Setup,
    pushed: Vec<(Made, Class)>,
    held: Vec<Held>,
    now_ns: u64,
    ticked_ns: u64,
    /// The longest time between two ticks.
    gap_ns: u64,
    initial: Processes,
    /// Events found missing for want of memory: the tests are to see some.
    evicted: u64,
    /// By class, whether it came near its share of the window: what it has more goes before
    /// anything else.
    was_near_share: [bool; Class::RECORDED.len()],
    /// Numbers of events that were gone when the last dump let go.
    gone_by_dumps: HashSet<u64>,
    /// Nothing was said that no clock says.
    is_sane: bool,
    /// The clock never went back: the kernel's does not.
    is_monotonic: bool,
    limits_changed: bool,
}

/// When the recording begins.
const START_NS: u64 = 1_000_000_000_000;

fn decoded(frozen: &FrozenWindow) -> Vec<(Made, Class)> {
    let mut events = Vec::new();
    for block in &frozen.blocks {
        let opened = block.sealed().open().expect("a block of our own making is read");
        let meta = block.meta();
        assert_eq!((opened.class, opened.cpu), (meta.class, meta.cpu));
        assert_eq!(opened.len(), meta.count as usize);
        events.extend(opened.events().map(|event| (Made::from(&event), meta.class)));
    }
    events
}

/// What is known of a thread, with what it has open and where it is.
type Known = (ThreadFacts, Vec<(i32, OpenFile)>, Option<OpenFile>);

fn threads(processes: &Processes) -> Vec<(u32, Known)> {
    let known = |tid, facts: &ThreadFacts| {
        let files = processes.descriptors(tid).into_iter().flat_map(Descriptors::iter);
        let files = files.map(|(fd, open)| (fd, open.clone())).collect();
        (tid, (facts.clone(), files, processes.directory(tid).cloned()))
    };
    processes.iter().map(|(tid, facts)| known(tid, facts)).collect()
}

fn initial_threads(setup: &Setup) -> Processes {
    let mut processes = Processes::default();
    for tid in 1..=setup.threads {
        let facts = ThreadFacts {
            pid: tid,
            as_of_ns: START_NS / 2,
            comm: format!("thread-{tid}").into_bytes(),
            program: b"/usr/bin/program".to_vec(),
            args: vec![b'a'; setup.args_bytes],
            ..ThreadFacts::default()
        };
        processes.insert(tid, facts);
    }
    processes
}

/// The number by which an event is known: it was pushed as the `number`th, from 0.
fn number(made: &Made) -> u64 {
    match made.kind {
        Kind::Syscall if made.numbers[0] == CLOSE as u64 => made.numbers[4],
        Kind::Syscall => made.numbers[3],
        Kind::ProcessFork => made.numbers[0] - CHILDREN,
        Kind::ProcessRename => {
            let name = std::str::from_utf8(&made.attached[0].2).unwrap();
            name.parse().unwrap()
        }
        Kind::ProcessExec => made.numbers[1],
        _ => made.numbers[0],
    }
}

/// Threads that are forked have numbers from here on.
const CHILDREN: u64 = 1_000_000;

impl Model {
    fn new(setup: &Setup) -> Model {
        let initial = initial_threads(setup);
        let cpus = usize::from(setup.cpus);
        let mut window = Window::new(setup.limits, cpus, Abi::X86_64, initial.clone());
        window.tick(START_NS);
        Model {
            window,
            setup: setup.clone(),
            pushed: Vec::new(),
            held: Vec::new(),
            now_ns: START_NS,
            ticked_ns: START_NS,
            gap_ns: 0,
            initial,
            evicted: 0,
            was_near_share: Default::default(),
            gone_by_dumps: HashSet::new(),
            is_sane: true,
            is_monotonic: true,
            limits_changed: false,
        }
    }

    /// When the last dump lets go: what is gone by now may have gone because older
    /// blocks gave no memory back while it held them. The hole stays when it is over.
    fn let_go(&mut self) {
        let kept = decoded(&self.window.freeze());
        let kept: HashSet<u64> = kept.iter().map(|(made, _)| number(made)).collect();
        let all = 0..self.pushed.len() as u64;
        self.gone_by_dumps = all.filter(|number| !kept.contains(number)).collect();
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Tick { after_ns } => self.tick(*after_ns),
            Step::Push { cpu, class, count, lag_ns } => {
                for _ in 0..*count {
                    self.now_ns += 1_000;
                    // Threads and their ends are read in the order in which they happen.
                    let lag_ns = if *class == Class::State { 0 } else { *lag_ns };
                    let made = self.event(*cpu, *class, self.now_ns - lag_ns);
                    self.push(made, *class);
                }
            }
            Step::Freeze => self.freeze(),
            Step::Compress { which } => {
                if let Some(held) = self.held.get(*which) {
                    held.frozen.blocks.iter().for_each(|block| drop(block.sealed()));
                }
            }
            Step::Release { which } => {
                if *which < self.held.len() {
                    self.held.remove(*which).check();
                    if self.held.is_empty() {
                        self.let_go();
                    }
                }
            }
            Step::Limits(limits) => {
                self.window.set_limits(*limits);
                self.setup.limits = *limits;
                self.limits_changed = true;
            }
            Step::Jump { back_ns } => {
                (self.is_sane, self.is_monotonic) = (false, false);
                self.now_ns = self.now_ns.saturating_sub(*back_ns);
                self.window.tick(self.now_ns);
            }
            Step::WrongTime { cpu, ts_ns } => {
                self.is_sane = false;
                let made = self.event(*cpu, Class::Bulk, *ts_ns);
                self.push(made, Class::Bulk);
            }
        }
        self.check_numbers();
    }

    fn tick(&mut self, after_ns: u64) {
        self.now_ns += after_ns;
        self.gap_ns = self.gap_ns.max(self.now_ns.saturating_sub(self.ticked_ns));
        self.ticked_ns = self.ticked_ns.max(self.now_ns);
        self.window.tick(self.now_ns);
        // Frozen windows that are held, and what is recorded meanwhile: all of it. What
        // was handed out under other limits cannot be taken back.
        let handed = if self.limits_changed { self.window.pinned_bytes() } else { 0 };
        let (bytes, most) = (self.window.bytes() - handed, self.setup.limits.bytes_max);
        assert!(bytes <= most, "{bytes} bytes after a tick, at most {most}");
    }

    /// The next event, of this class.
    fn event(&self, cpu: u16, class: Class, ts_ns: u64) -> Made {
        let number = self.pushed.len() as u64;
        let tid = 1 + (number % 40) as u32;
        let words = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        match (class, number % 6) {
            (Class::State, 0) => {
                Made::new(Kind::ProcessFork, ts_ns, cpu, tid, &[CHILDREN + number; 2])
            }
            (Class::State, 1) => {
                let name = number.to_string();
                Made::new(Kind::ProcessRename, ts_ns, cpu, tid, &[]).with(0, name.as_bytes())
            }
            (Class::State, 2) => {
                Made::new(Kind::ProcessExec, ts_ns, cpu, tid, &[u64::from(tid), number])
                    .with(0, format!("/bin/{number}").as_bytes())
                    .with(1, format!("program\0{words:x}\0").as_bytes())
            }
            // openat and close: of the close the number stands behind what it closes.
            (Class::State, 4) => {
                let fd = number % 7;
                let flags = if fd > 4 { wire::file_flag::CLOSE_ON_EXEC } else { 0 };
                let head = FileHead { fd: fd as i32, flags, ..FileHead::default() };
                let file = file::describe(head, format!("/file/{number}").as_bytes(), None);
                Made::call(ts_ns, cpu, tid, 257, fd as i64, &[words % 4_000_000, number])
                    .with(wire::ATTACHMENT_FILES, &file)
            }
            (Class::State, 5) => {
                Made::call(ts_ns, cpu, tid, CLOSE, 0, &[words % 4_000_000, words % 7, number])
            }
            (Class::State, _) => {
                // Mostly that of a thread that was just forked.
                let child = CHILDREN + number.saturating_sub(3);
                Made::new(Kind::ProcessExit, ts_ns, cpu, child as u32, &[number, 0])
            }
            (Class::Precious, _) => Made::new(Kind::TcpRetransmit, ts_ns, cpu, tid, &[number])
                .with(0, &words.to_ne_bytes()),
            // getppid with arguments it does not have.
            _ => Made::call(ts_ns, cpu, tid, 110, 1, &[100, number, words]),
        }
    }

    fn push(&mut self, made: Made, class: Class) {
        self.window.push(&made.as_event());
        self.pushed.push((made, class));
    }

    /// What can be asked at any time.
    fn check_numbers(&mut self) {
        let holdings = self.window.holdings();
        let in_window: u64 = holdings.iter().map(|holding| holding.events).sum();
        // A quarter of seven eighths, less what leaves at once.
        let near = self.setup.limits.bytes_max / 4 / 2;
        for (was_near, holding) in self.was_near_share.iter_mut().zip(&holdings) {
            *was_near |= holding.bytes >= near;
        }
        assert_eq!(self.window.events(), self.pushed.len() as u64);
        assert_eq!(in_window + self.window.evicted().events, self.window.events());
        let own = self.window.bytes() - self.window.pinned_bytes();
        let most = self.setup.limits.bytes_max;
        assert!(self.limits_changed || own <= most, "{own} bytes, at most {most}");
    }

    fn freeze(&mut self) {
        let frozen = self.window.freeze();
        // What it hands over counts from then on, and nothing of it can be taken back:
        // with sixteen dumps that hang the next one broke the bound by a hundred bytes.
        let (bytes, most) = (self.window.bytes(), self.setup.limits.bytes_max);
        assert!(self.limits_changed || bytes <= most, "{bytes} bytes frozen, at most {most}");
        let kept = decoded(&frozen);
        for (made, class) in &kept {
            assert_eq!(Class::of(&made.as_event(), Abi::X86_64), *class, "{made:?}");
        }
        let held: u64 = frozen.blocks.iter().map(|block| block.meta().ledger_events()).sum();
        assert_eq!(held + self.window.evicted().events, self.window.events());
        assert_eq!(held, kept.len() as u64);
        let mut is_there = vec![false; self.pushed.len()];
        for (made, _) in &kept {
            let number = number(made);
            let (pushed, _) = &self.pushed[number as usize];
            assert_eq!(made, pushed, "it is not what was pushed");
            let again = std::mem::replace(&mut is_there[number as usize], true);
            assert!(!again, "{made:?} is there twice");
        }
        if self.is_sane {
            self.check_age(&kept);
        }
        let missing: Vec<&(Made, Class)> = self
            .pushed
            .iter()
            .zip(&is_there)
            .filter_map(|(made, is_there)| (!is_there).then_some(made))
            .collect();
        let missing: Vec<(Made, Class)> = missing.into_iter().cloned().collect();
        self.check_missing(&kept, &missing);
        self.check_baseline(&frozen, &missing);
        let baseline = threads(&frozen.baseline);
        let events = kept.iter().map(|(made, _)| number(made)).collect();
        self.held.push(Held { frozen, events, baseline });
    }

    /// Nothing is older than the window, within one segment.
    fn check_age(&self, kept: &[(Made, Class)]) {
        let span_ns = self.setup.limits.span_ns;
        let slack_ns = SEGMENT_SPAN_NS + self.gap_ns + LAG_NS;
        let oldest_ns = self.ticked_ns.saturating_sub(span_ns).saturating_sub(slack_ns);
        if let Some((made, _)) = kept.iter().find(|(made, _)| made.ts_ns < oldest_ns) {
            assert!(self.limits_changed, "{made:?} is older than {oldest_ns}");
        }
    }

    /// What is missing is too old, or others of its class had to go before, and of those
    /// above it unless it had its share.
    fn check_missing(&mut self, kept: &[(Made, Class)], missing: &[(Made, Class)]) {
        // What was right under other limits need not be under these.
        if self.limits_changed || !self.is_monotonic {
            return;
        }
        let oldest_ns = self.ticked_ns.saturating_sub(self.setup.limits.span_ns);
        let is_wrong = |made: &Made| made.ts_ns < START_NS / 2 || made.ts_ns > 2 * START_NS;
        let young = |made: &Made| made.ts_ns >= oldest_ns && !is_wrong(made);
        let young_missing = missing.iter().filter(|(made, _)| young(made));
        self.evicted += young_missing.clone().count() as u64;
        if self.setup.limits.bytes_max == u64::MAX {
            let first = young_missing.clone().next();
            assert!(first.is_none(), "{first:?} is missing, and there is room");
        }
        // Blocks a dump holds give no memory back: others may have to go.
        if !self.held.is_empty() || !self.is_sane {
            return;
        }
        for class in Class::RECORDED {
            let of_class = young_missing
                .clone()
                .filter(|(made, of)| *of == class && !self.gone_by_dumps.contains(&number(made)));
            let Some(gone_ns) = of_class.map(|(made, _)| made.ts_ns).max() else { continue };
            let least_ns = gone_ns.saturating_sub(SEGMENT_SPAN_NS + self.gap_ns + LAG_NS);
            let is_shared = class != Class::Bulk && self.was_near_share[class as usize];
            let was_to_go = |of: Class| of == class || of > class && !is_shared;
            let older = kept.iter().find(|(kept, of)| was_to_go(*of) && kept.ts_ns < least_ns);
            assert!(older.is_none(), "{class:?} of {gone_ns} is missing, but {older:?} is there");
        }
    }

    /// The baseline is the fold of what is gone.
    fn check_baseline(&self, frozen: &FrozenWindow, missing: &[(Made, Class)]) {
        assert!(
            frozen.baseline.bytes() <= self.setup.limits.bytes_max / 4 || self.limits_changed,
            "{} of {}",
            frozen.baseline.bytes(),
            self.setup.limits.bytes_max / 4
        );
        if frozen.baseline.cut() > 0 || !self.is_sane {
            return;
        }
        let mut expected = self.initial.clone();
        let mut events: Vec<&Made> = missing
            .iter()
            .filter(|(_, class)| *class == Class::State)
            .map(|(made, _)| made)
            .collect();
        events.sort_by_key(|made| made.ts_ns);
        events.iter().for_each(|made| expected.apply(&made.as_event(), Abi::X86_64));
        assert_eq!(threads(&frozen.baseline), threads(&expected));
    }
}

impl Held {
    /// Whatever came later: it is what it was.
    fn check(&self) {
        let now: Vec<u64> = decoded(&self.frozen).iter().map(|(made, _)| number(made)).collect();
        assert!(now == self.events, "a frozen window is not what it was");
        assert_eq!(threads(&self.frozen.baseline), self.baseline);
    }
}

/// Answers how many events had to go for want of memory.
fn run(case: &Case<Setup, Step>) -> u64 {
    let mut model = Model::new(&case.setup);
    for step in &case.steps {
        model.step(step);
    }
    model.tick(1_000_000);
    model.freeze();
    for held in std::mem::take(&mut model.held) {
        held.check();
    }
    // With nobody who holds it, nothing is pinned, and the bound holds with less.
    model.tick(1_000_000);
    assert_eq!(model.window.pinned_bytes(), 0);
    model.evicted
}

/// Which steps are of a case, and how often: one in so many, 0 for never.
#[derive(Clone, Copy)]
struct Mix {
    freeze: u64,
    release: u64,
    limits: u64,
    wrong: u64,
    jump: u64,
    sleep_ns: u64,
}

fn limits(random: &mut Random, tight: bool) -> WindowLimits {
    let bytes_max = if tight { BYTES_MIN + random.below(400_000) } else { u64::MAX };
    let seconds = if tight { 1_000 } else { 1 + random.below(20) };
    let span_ns = SEGMENT_SPAN_NS * seconds;
    WindowLimits { span_ns, bytes_max }
}

fn steps(random: &mut Random, cpus: u16, mix: Mix) -> Vec<Step> {
    let once = |random: &mut Random, in_: u64| in_ > 0 && random.one_in(in_);
    let mut steps = Vec::new();
    for _ in 0..20 + random.below(150) {
        let cpu = random.below(u64::from(cpus)) as u16;
        if once(random, mix.freeze) {
            steps.push(Step::Freeze);
        }
        if once(random, mix.freeze) {
            steps.push(Step::Compress { which: random.below(3) as usize });
        }
        if once(random, mix.release) {
            steps.push(Step::Release { which: random.below(3) as usize });
        }
        if once(random, mix.limits) {
            let tight = random.one_in(2);
            steps.push(Step::Limits(limits(random, tight)));
        }
        if once(random, mix.wrong) {
            let ts_ns = [0, 1, START_NS * 4, u64::MAX];
            let ts_ns = ts_ns.get(random.below(4) as usize).copied().unwrap_or_default();
            steps.push(Step::WrongTime { cpu, ts_ns });
        }
        if once(random, mix.jump) {
            steps.push(Step::Jump { back_ns: random.below(SEGMENT_SPAN_NS * 40) });
        }
        let class = Class::RECORDED[random.below(3) as usize];
        let most = if random.one_in(20) { 2_000 } else { 60 };
        let lag_ns = if random.one_in(3) { random.below(LAG_NS) } else { 0 };
        let count = random.below(most) as u32;
        steps.push(Step::Push { cpu, class, count, lag_ns });
        let most_ns = if random.one_in(40) { mix.sleep_ns } else { 300_000_000 };
        steps.push(Step::Tick { after_ns: random.below(most_ns) });
    }
    steps
}

fn case(random: &mut Random, tight: bool, mix: Mix) -> Case<Setup, Step> {
    let cpus = [1, 2, 3, 64][random.below(4) as usize];
    let threads = if random.one_in(3) { 300 } else { 40 };
    let args_bytes = random.below(4_000) as usize;
    let setup = Setup { cpus, limits: limits(random, tight), threads, args_bytes };
    Case { setup, steps: steps(random, cpus, mix) }
}

const MIX: Mix =
    Mix { freeze: 12, release: 10, limits: 0, wrong: 0, jump: 0, sleep_ns: 60_000_000_000 };

#[test]
fn with_room_it_has_exactly_the_time_it_should_have() {
    check(
        25,
        |random| case(random, false, MIX),
        |case| {
            run(case);
        },
    );
}

#[test]
fn without_room_the_least_precious_goes_first_and_the_bound_holds() {
    check(
        25,
        |random| case(random, true, MIX),
        |case| {
            run(case);
        },
    );
}

/// With nobody who holds what is evicted, the order of eviction can be told.
#[test]
fn what_is_evicted_is_the_oldest_of_its_class() {
    let mix = Mix { release: 0, freeze: 0, ..MIX };
    let evicted = Cell::new(0);
    check(25, |random| case(random, true, mix), |case| evicted.set(evicted.get() + run(case)));
    met(evicted.get(), 10_000, "events were evicted");
}

/// A disk that hangs: every dump is held to the end.
#[test]
fn dumps_that_never_end_cost_the_span_and_not_the_bound() {
    let mix = Mix { release: 0, ..MIX };
    check(
        25,
        |random| case(random, true, mix),
        |case| {
            run(case);
        },
    );
}

#[test]
fn limits_may_change_at_any_time() {
    check(
        25,
        |random| case(random, true, Mix { limits: 10, ..MIX }),
        |case| {
            run(case);
        },
    );
}

/// One bad record costs one record.
#[test]
fn wrong_times_cost_nobody_elses_events() {
    check(
        25,
        |random| case(random, false, Mix { wrong: 15, ..MIX }),
        |case| {
            run(case);
        },
    );
}

#[test]
fn whatever_the_clock_does_nothing_is_invented_or_uncounted() {
    let mix = Mix { wrong: 15, jump: 15, limits: 30, ..MIX };
    check(
        25,
        |random| case(random, true, mix),
        |case| {
            run(case);
        },
    );
}

/// Evicting is by blocks: it takes what it must, not more. State is left out here: all
/// that a segment has of it goes together.
#[test]
fn memory_that_is_there_is_used() {
    check(
        20,
        |random| {
            let limits = limits(random, true);
            let setup = Setup { cpus: 2, limits, threads: 40, args_bytes: 0 };
            let mut steps = steps(random, 2, Mix { freeze: 0, release: 0, ..MIX });
            for step in &mut steps {
                if let Step::Push { class: class @ Class::State, .. } = step {
                    *class = Class::Bulk;
                }
            }
            Case { setup, steps }
        },
        |case| {
            let mut model = Model::new(&case.setup);
            let least = case.setup.limits.bytes_max / 2;
            for step in &case.steps {
                let evicted = model.window.evicted();
                model.step(step);
                let bytes = model.window.bytes();
                let has_dropped = model.window.evicted() != evicted;
                assert!(!has_dropped || bytes >= least, "{bytes} bytes are left, not {least}");
            }
        },
    );
}
