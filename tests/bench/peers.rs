//! The same loads as other tools store them: what an event, or a call, takes on disk.
//!
//! None of them keeps what the recorder keeps: perf and the kernel's own tracer have numbers
//! alone, strace has words and stops the program at each call. It is asked for less work, and
//! of the server and its clients only, for it takes hundreds of times as long.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use recorder_tests::{
    TestDirectory,
    figures::{Figure, Section},
    run, wait_until,
};

use crate::{
    compile::Tree,
    load::{bytes_per_event, start_recorder},
    servers::{Nginx, Redis},
};

/// Something that makes calls.
struct Load<'a> {
    key: &'a str,
    title: &'a str,
    /// The server, where there is one.
    server: Option<u32>,
    /// Does a little of it, or so many times as much; how fast is not what is asked.
    run: &'a dyn Fn(usize) -> f64,
}

/// How much of a load the tools get that do not stop it.
const TIMES: usize = 10;

/// Measures all loads with all tools.
pub(crate) fn measure(directory: &TestDirectory) -> Vec<Section> {
    let redis = Redis::start(directory);
    let nginx = Nginx::start(directory);
    let tree = Tree::generate(directory.join("tree"));
    let loads = [
        Load {
            key: "peers_redis",
            title: "redis, as others store it",
            server: Some(redis.server.pid()),
            run: &|times| redis.per_second(1_000 * times as u64),
        },
        Load {
            key: "peers_nginx",
            title: "nginx, connections stay, as others store it",
            server: Some(nginx.server.pid()),
            run: &|_| nginx.per_second(1, &[]),
        },
        Load {
            key: "peers_compile",
            title: "compile, as others store it",
            server: None,
            run: &|times| tree.compile(4 * times),
        },
    ];
    loads.iter().map(|load| of_load(load, directory)).collect()
}

fn of_load(load: &Load<'_>, directory: &TestDirectory) -> Section {
    eprintln!("bench: {}", load.title);
    (load.run)(1);
    let figure = |key: &str, label: &str, stored: Stored| {
        let value = stored.bytes as f64 / stored.calls as f64;
        Figure::new(key, label, value, "B", 2)
    };
    let figures = vec![
        figure_of_recorder(load),
        figure("perf", "perf.data, a call", perf(load, &directory.join("perf.data"))),
        figure("pages", "trace pages, a call", trace_pages(load)),
        figure("strace", "strace, zstd -19, a call", strace(load, &directory.join("strace.txt"))),
    ];
    let notes = vec![
        "Trace pages are what a file of trace-cmd holds; perf and they have numbers alone, of \
         entry and return. What they lost is not counted as stored."
            .to_string(),
    ];
    Section { figures, notes, ..Section::new(load.key, load.title) }
}

/// What a tool left of how many calls.
struct Stored {
    bytes: u64,
    calls: u64,
}

fn figure_of_recorder(load: &Load<'_>) -> Figure {
    let recorder = start_recorder(&[]);
    (load.run)(TIMES);
    let info = recorder.info(&recorder.dump(&[]));
    recorder.stop();
    Figure::new("recorder", "recorder, an event", bytes_per_event(&info), "B", 2)
}

/// Starts a tool and waits until it is at work; `is_ready` is asked with its process.
fn start(command: &mut Command, log: &Path, is_ready: impl Fn(u32) -> bool) -> Child {
    let log = File::create(log).expect("a log file");
    command.stdin(Stdio::null()).stdout(log.try_clone().expect("the log once more")).stderr(log);
    let child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    wait_until(&format!("{command:?} to be at work"), || is_ready(child.id()));
    child
}

/// Ends a tool as a key at its terminal would, and waits for it.
fn interrupt(mut child: Child) {
    run(Command::new("kill").args(["-INT", &child.id().to_string()])).succeeded();
    child.wait().expect("the end of a tool we started");
}

fn perf(load: &Load<'_>, file: &Path) -> Stored {
    let mut command = Command::new("perf");
    command.args(["record", "-q", "-a", "-m", "16M", "-o"]).arg(file);
    command.args(["-e", "raw_syscalls:sys_enter,raw_syscalls:sys_exit"]);
    let is_ready = |pid| links_of(pid).any(|link| link.contains("perf_event"));
    let child = start(&mut command, &file.with_extension("log"), is_ready);
    (load.run)(TIMES);
    interrupt(child);
    let stats = run(Command::new("perf").args(["report", "--stats", "-i"]).arg(file)).succeeded();
    // `SAMPLE events: 1396143`, first of all, then of each kind.
    let samples = stats.text().lines().find(|line| line.contains("SAMPLE events:"));
    let samples = samples.and_then(|line| line.split_whitespace().nth(2)?.parse::<u64>().ok());
    let samples = samples.unwrap_or_else(|| panic!("perf says how much:\n{}", stats.text()));
    Stored { bytes: bytes_of(file), calls: samples / 2 }
}

/// What the descriptors of a process point to.
fn links_of(pid: u32) -> impl Iterator<Item = String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.map(|link| link.to_string_lossy().into_owned())
}

fn strace(load: &Load<'_>, file: &Path) -> Stored {
    let mut command = Command::new("strace");
    command.args(["-f", "-ttt", "-T", "-y", "-o"]).arg(file);
    // The clients are our children.
    for pid in load.server.into_iter().chain([std::process::id()]) {
        command.args(["-p", &pid.to_string()]);
    }
    let traced = load.server.into_iter().chain([std::process::id()]).collect::<Vec<_>>();
    let is_traced = |pid: &u32| {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line.starts_with("TracerPid:") && !line.ends_with("\t0"))
    };
    let is_ready = |_| traced.iter().all(is_traced);
    let child = start(&mut command, &file.with_extension("log"), is_ready);
    (load.run)(1);
    interrupt(child);
    let text = fs::read(file).expect("what strace wrote");
    // A call that was interrupted by another has two lines, its result is in the second.
    let calls = text.split(|byte| *byte == b'\n').filter(|line| {
        line.windows(3).any(|part| part == b" = ") && !line.ends_with(b"<unfinished ...>")
    });
    let calls = calls.count() as u64;
    let packed = zstd::bulk::compress(&text, 19).expect("text that is compressed");
    Stored { bytes: packed.len() as u64, calls }
}

/// A buffer of the kernel's tracer that is our own.
struct Instance(PathBuf);

/// Room for all entries of a load on one CPU, KiB.
const BUFFER_KIB: &str = "262144";

impl Instance {
    fn new() -> Instance {
        let place = format!("/sys/kernel/tracing/instances/bench-{}", std::process::id());
        fs::create_dir(&place).expect("an instance of the kernel's tracer");
        let instance = Instance(PathBuf::from(place));
        instance.set("buffer_size_kb", BUFFER_KIB);
        instance
    }

    fn set(&self, name: &str, value: &str) {
        let file = self.0.join(name);
        fs::write(&file, value).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    }

    fn cpus(&self) -> impl Iterator<Item = PathBuf> {
        let cpus = fs::read_dir(self.0.join("per_cpu")).expect("buffers by CPU").flatten();
        cpus.map(|entry| entry.path())
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        // A directory of the kernel's: what is in it goes with it.
        let _ = fs::remove_dir(&self.0);
    }
}

fn trace_pages(load: &Load<'_>) -> Stored {
    let instance = Instance::new();
    instance.set("events/raw_syscalls/enable", "1");
    (load.run)(TIMES);
    // Reading makes calls, too.
    instance.set("events/raw_syscalls/enable", "0");
    let mut stored = Stored { bytes: 0, calls: 0 };
    for cpu in instance.cpus() {
        let stats = fs::read_to_string(cpu.join("stats")).expect("how much there is");
        let entries = crate::machine::field(&stats, "entries").and_then(|text| text.parse().ok());
        stored.calls += entries.unwrap_or(0u64) / 2;
        stored.bytes += bytes_to_read(&cpu.join("trace_pipe_raw")).expect("pages to read");
    }
    stored
}

/// Reads all there is now.
fn bytes_to_read(file: &Path) -> io::Result<u64> {
    let mut pages = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(file)?;
    let (mut page, mut bytes) = (vec![0; 4 << 10], 0);
    loop {
        match pages.read(&mut page) {
            Ok(0) => return Ok(bytes),
            Ok(read) => bytes += read as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(bytes),
            Err(error) => return Err(error),
        }
    }
}

fn bytes_of(file: &Path) -> u64 {
    fs::metadata(file).expect("a file that was just written").len()
}
