//! The fuzzer: makes inputs, tries them, watches over time and memory, keeps what met
//! something new, and makes an input that fails smaller.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use recorder_tests::{memory, property::failure, synth::Random};

use crate::{Target, corpus, forget, has_met_something, mutate, things_met};

/// CPU time one input may take, on all CPUs together, and how long it may wait for what
/// does not come.
pub const INPUT_TIME_MAX: Duration = Duration::from_secs(1);

/// How often the watch looks.
const WATCH_EVERY: Duration = Duration::from_millis(100);

/// Looks without a thread that runs or would, before an input is said to wait: time in
/// which a loaded machine does not run us does not count.
const IDLE_LOOKS_MAX: u128 = INPUT_TIME_MAX.as_millis() / WATCH_EVERY.as_millis();

/// Inputs kept at the most.
pub const POOL_MAX: usize = 2_000;

/// Inputs tried at the most to make one smaller, and how long.
const SHRINKS_MAX: u32 = 20_000;
const SHRINK_TIME: Duration = Duration::from_secs(20);

/// What a run is asked for.
#[derive(Clone, Debug)]
pub struct Order {
    /// Makes the inputs.
    pub seed: u64,
    /// How long.
    pub time: Duration,
    /// How many inputs, where that is said instead of a time.
    pub inputs: Option<u64>,
    /// The folder of the target's corpus.
    pub corpus: PathBuf,
    /// Where inputs that fail are put.
    pub failures: PathBuf,
    /// Where each input is put before it is tried: what kills the process is there.
    pub trace: Option<PathBuf>,
    /// Inputs that met something new are added to the corpus.
    pub keep: bool,
}

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Inputs tried.
    pub inputs: u64,
    /// How long that took.
    pub time: Duration,
    /// Inputs that met something new.
    pub kept: usize,
    /// Different things met.
    pub met: usize,
    /// The most memory one input took.
    pub memory_bytes: usize,
    /// The longest time one input took.
    pub slowest: Duration,
}

/// An input that fails.
#[derive(Clone, Debug)]
pub struct Found {
    /// Why.
    pub reason: String,
    /// Where it is, as small as it could be made.
    pub path: PathBuf,
    /// How many bytes it has, and had.
    pub bytes: (usize, usize),
}

/// Tries one input; answers how much memory it took, on all threads, and why it fails.
pub fn tried(target: &Target, input: &[u8]) -> (usize, Option<String>) {
    let (bytes, panicked) = memory::peak_of_process(|| failure(|| (target.run)(input)));
    let too_much = (bytes > target.memory_bytes_max).then(|| {
        let most = target.memory_bytes_max;
        format!("takes {bytes} bytes of memory, at most {most}")
    });
    (bytes, panicked.or(too_much))
}

/// What the watch looks at: the input that is being tried, and since which one.
struct Current {
    number: AtomicU64,
    input: Mutex<Vec<u8>>,
}

/// Ends the process when one input takes too long: it cannot be taken back.
fn watch(current: &Arc<Current>, name: &'static str, failures: PathBuf) {
    let current = Arc::clone(current);
    thread::spawn(move || {
        let (mut number, mut cpu, mut idle_looks) = (0, own_cpu(), 0);
        loop {
            thread::sleep(WATCH_EVERY);
            let now = current.number.load(Ordering::Acquire);
            if now != number || now == 0 {
                (number, cpu, idle_looks) = (now, own_cpu(), 0);
                continue;
            }
            idle_looks = if does_anybody_run() { 0 } else { idle_looks + 1 };
            let busy = own_cpu().saturating_sub(cpu);
            let verb = match (busy >= INPUT_TIME_MAX, idle_looks > IDLE_LOOKS_MAX) {
                (true, _) => "takes",
                (false, true) => "waits",
                (false, false) => continue,
            };
            let reason = format!("{verb} longer than {} s", INPUT_TIME_MAX.as_secs());
            let input = current.input.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let path = keep_failure(&failures, name, &input).unwrap_or_default();
            let bytes = (input.len(), input.len());
            println!("{}", found_line(name, &Found { reason, path, bytes }));
            std::process::exit(1);
        }
    });
}

/// CPU time of this process: but for the one that tries, and those it starts, its threads
/// only wait.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Whether another thread of this process runs, could, or waits for a disk.
fn does_anybody_run() -> bool {
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let threads = fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    threads.filter(|thread| thread.file_name() != own.as_str()).any(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state stands behind the name, which is in brackets.
        stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['R', 'D']))
    })
}

/// What is said of an input that fails.
pub fn found_line(name: &str, found: &Found) -> String {
    format!(
        "{name}: FOUND: {}\n{name}: {} bytes, {} before, in {}\n{name}: again with \
         `cargo xtask fuzz {name} --input {}`\n{name}: once that is mended, keep it in \
         tests/fuzz/corpus/{name} by a name that says what it was",
        found.reason,
        found.bytes.0,
        found.bytes.1,
        found.path.display(),
        found.path.display()
    )
}

fn keep_failure(failures: &Path, name: &str, input: &[u8]) -> io::Result<PathBuf> {
    fs::create_dir_all(failures)?;
    let path = failures.join(format!("{name}-{:08x}", crc32c::crc32c(input)));
    fs::write(&path, input)?;
    Ok(path)
}

/// Tries inputs until one fails or the time is up. The corpus comes first.
pub fn run(target: &Target, order: &Order) -> Result<Outcome, Found> {
    forget();
    let current = Arc::new(Current { number: AtomicU64::new(0), input: Mutex::default() });
    watch(&current, target.name, order.failures.clone());
    let mut fuzzer = Fuzzer {
        target,
        order,
        random: Random::new(order.seed),
        pool: Vec::new(),
        outcome: Outcome::default(),
        current,
    };
    let started = Instant::now();
    for input in corpus::inputs(&order.corpus) {
        fuzzer.input(input, false)?;
    }
    let is_over = |outcome: &Outcome| match order.inputs {
        Some(inputs) => outcome.inputs >= inputs,
        None => started.elapsed() >= order.time,
    };
    while !is_over(&fuzzer.outcome) {
        let input = fuzzer.next();
        fuzzer.input(input, true)?;
    }
    fuzzer.current.number.store(0, Ordering::Release);
    fuzzer.outcome.time = started.elapsed();
    fuzzer.outcome.met = things_met();
    Ok(fuzzer.outcome)
}

struct Fuzzer<'a> {
    target: &'a Target,
    order: &'a Order,
    random: Random,
    pool: Vec<Vec<u8>>,
    outcome: Outcome,
    current: Arc<Current>,
}

impl Fuzzer<'_> {
    /// A new input: one that is right, or one that met something, changed.
    fn next(&mut self) -> Vec<u8> {
        let Fuzzer { target, random, pool, .. } = self;
        let pick = |random: &mut Random, pool: &[Vec<u8>]| {
            let at = random.below(pool.len() as u64) as usize;
            pool.get(at).cloned().unwrap_or_default()
        };
        let mut input = if pool.is_empty() || random.one_in(8) {
            (target.make)(random)
        } else {
            pick(random, pool)
        };
        let changes = if random.one_in(20) { 0 } else { 1 << random.below(5) };
        for _ in 0..changes {
            if random.one_in(6) {
                mutate::bytes(random, &mut input);
            } else {
                (target.mutate)(random, &mut input);
            }
            input.truncate(target.bytes_max);
        }
        if random.one_in(16) && !pool.is_empty() {
            let other = pick(random, pool);
            mutate::splice(random, &mut input, &other);
        }
        input.truncate(target.bytes_max);
        input
    }

    fn input(&mut self, input: Vec<u8>, is_new: bool) -> Result<(), Found> {
        if let Some(trace) = &self.order.trace {
            fs::write(trace, &input).expect("the trace can be written");
        }
        {
            let mut current = self.current.input.lock().unwrap_or_else(PoisonError::into_inner);
            current.clear();
            current.extend(&input);
        }
        self.outcome.inputs += 1;
        self.current.number.store(self.outcome.inputs, Ordering::Release);
        let started = Instant::now();
        let (bytes, failed) = tried(self.target, &input);
        self.current.number.store(0, Ordering::Release);
        self.outcome.slowest = self.outcome.slowest.max(started.elapsed());
        self.outcome.memory_bytes = self.outcome.memory_bytes.max(bytes);
        if let Some(reason) = failed {
            return Err(self.smaller(input, reason));
        }
        if has_met_something() && self.pool.len() < POOL_MAX {
            if is_new {
                self.outcome.kept += 1;
                self.keep(&input);
            }
            self.pool.push(input);
        }
        Ok(())
    }

    fn keep(&self, input: &[u8]) {
        if self.order.keep {
            corpus::add(&self.order.corpus, input).expect("the corpus can be written");
        }
    }

    /// Leaves out ever smaller parts while it fails in the same way.
    fn smaller(&mut self, input: Vec<u8>, reason: String) -> Found {
        let before = input.len();
        let same = kind_of(&reason);
        let mut shrinker =
            Shrinker { fuzzer: self, started: Instant::now(), tries: 0, same: &same };
        let input = shrinker.by_parts(input);
        let input = shrinker.by_bytes(input);
        let path = keep_failure(&self.order.failures, self.target.name, &input);
        Found { reason, path: path.unwrap_or_default(), bytes: (input.len(), before) }
    }
}

/// Makes an input smaller.
struct Shrinker<'a, 'b> {
    fuzzer: &'a Fuzzer<'b>,
    started: Instant,
    tries: u32,
    same: &'a str,
}

impl Shrinker<'_, '_> {
    fn is_over(&self) -> bool {
        self.tries >= SHRINKS_MAX || self.started.elapsed() > SHRINK_TIME
    }

    fn fails(&mut self, input: &[u8]) -> bool {
        self.tries += 1;
        let Fuzzer { target, current, outcome, .. } = self.fuzzer;
        *current.input.lock().unwrap_or_else(PoisonError::into_inner) = input.to_vec();
        let number = outcome.inputs + u64::from(self.tries);
        current.number.store(number, Ordering::Release);
        let failed = tried(target, input).1;
        current.number.store(0, Ordering::Release);
        failed.is_some_and(|reason| kind_of(&reason) == self.same)
    }

    /// By what the input is made of.
    fn by_parts(&mut self, mut input: Vec<u8>) -> Vec<u8> {
        loop {
            let candidates = (self.fuzzer.target.smaller)(&input);
            let next = candidates.into_iter().find(|smaller| {
                !self.is_over() && smaller.len() < input.len() && self.fails(smaller)
            });
            match next {
                Some(smaller) => input = smaller,
                None => return input,
            }
        }
    }

    /// By halves, quarters, and so on; as it is then, or mended.
    fn by_bytes(&mut self, mut input: Vec<u8>) -> Vec<u8> {
        let mut part = input.len().div_ceil(2);
        while part > 0 {
            let mut from = 0;
            while from < input.len() {
                if self.is_over() {
                    return input;
                }
                let mut without = input.clone();
                without.drain(from..(from + part).min(input.len()));
                let mut mended = without.clone();
                (self.fuzzer.target.mend)(&mut mended);
                if self.fails(&without) {
                    input = without;
                } else if mended != without && self.fails(&mended) {
                    input = mended;
                } else {
                    from += part;
                }
            }
            part /= 2;
        }
        input
    }
}

/// The reason without its numbers: those may be others in a smaller input.
fn kind_of(reason: &str) -> String {
    let first = reason.lines().next().unwrap_or_default();
    first.replace(|c: char| c.is_ascii_digit(), "")
}
