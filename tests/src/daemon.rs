//! The program under test, started the way a person starts it.

use std::{
    ffi::OsStr,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
};

use serde_json::Value;

use crate::{LIMIT, TestDirectory, http::Server, wait_for};

/// The recorder: `RECORDER_BIN`, or the one built next to this test.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("RECORDER_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().expect("the path of this test");
    let built = test.ancestors().nth(2).map(|profile| profile.join("recorder"));
    match built {
        Some(path) if path.is_file() => path,
        _ => panic!("no recorder beside {}: build it, or set RECORDER_BIN", test.display()),
    }
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Outcome {
    /// Standard output as text.
    #[track_caller]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.stdout).expect("text on standard output")
    }

    /// It ended well.
    #[track_caller]
    pub fn succeeded(self) -> Outcome {
        assert_eq!(self.code, Some(0), "{self:?}");
        self
    }

    /// It ended with `code`, one line on standard error that has each of `words`,
    /// and nothing on standard output.
    #[track_caller]
    pub fn failed_with(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stderr.lines().count(), 1, "one line, not:\n{}", self.stderr);
        assert_eq!(self.stdout, b"", "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "{word:?} is missing: {}", self.stderr);
        }
    }
}

/// Runs a program to its end.
#[track_caller]
pub fn run(command: &mut Command) -> Outcome {
    let output = command.stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    Outcome {
        code: output.status.code(),
        signal: output.status.signal(),
        stdout: output.stdout,
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// How a recorder is started.
#[derive(Debug, Default)]
pub struct Start<'a> {
    /// More arguments of `record`.
    pub arguments: &'a [&'a str],
    /// What the recorder is started by, such as `unshare -m`.
    pub wrapper: &'a [&'a str],
    /// What stands in its configuration.
    pub config: &'a str,
}

/// Hides the kernel's BTF from a program, so that it sees an older kernel. Without
/// BTF the formats in tracefs are all there is; a machine without it recorded calls
/// and nothing else.
const HIDE_BTF: &str = "mount -t tmpfs none /sys/kernel/btf \
    && { [ -d /sys/kernel/tracing/events ] \
         || mount -t tracefs none /sys/kernel/tracing; } && exec \"$@\"";

impl Start<'_> {
    /// What starts a program that sees no BTF; `None` where there is none to hide, or
    /// nothing to hide it with.
    pub fn hide_btf() -> Option<[&'static str; 6]> {
        let can = Path::new("/sys/kernel/btf/vmlinux").exists() && crate::has_program("unshare");
        can.then_some(["unshare", "-m", "sh", "-c", HIDE_BTF, "sh"])
    }
}

/// A recorder that records. Dropping it kills it and removes its directory.
#[derive(Debug)]
pub struct RecorderProcess {
    process: std::process::Child,
    directory: TestDirectory,
    /// Lines of standard output.
    lines: Receiver<String>,
    said: String,
}

impl RecorderProcess {
    /// With defaults, in a new directory.
    pub fn start() -> RecorderProcess {
        RecorderProcess::start_with(&[])
    }

    /// With more arguments, in a new directory.
    pub fn start_with(arguments: &[&str]) -> RecorderProcess {
        let start = Start { arguments, ..Start::default() };
        RecorderProcess::start_in(TestDirectory::new(), &start)
    }

    /// In this directory: its socket is `socket`, its snapshots lie in `snapshots`.
    #[track_caller]
    pub fn start_in(directory: TestDirectory, start: &Start<'_>) -> RecorderProcess {
        let mut command = record_command(&directory, start);
        let log = fs::File::create(directory.join("log")).expect("a log file");
        let process = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn();
        let mut process = process.unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = process.stdout.take().expect("its standard output");
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                // The test may be over.
                let _ = sender.send(line);
            }
        });
        let said = String::new();
        let mut recorder = RecorderProcess { process, directory, lines, said };
        match recorder.lines.recv_timeout(LIMIT) {
            Ok(line) if line.starts_with("recording") => recorder.said = line,
            other => panic!("no line `recording`: {other:?}; it said:\n{}", recorder.log()),
        }
        recorder
    }

    /// What a recorder that cannot start says.
    #[track_caller]
    pub fn refused(directory: &TestDirectory, start: &Start<'_>) -> Outcome {
        run(&mut record_command(directory, start))
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.process.id().cast_signed()
    }

    /// The line it printed when it began.
    pub fn said(&self) -> &str {
        &self.said
    }

    /// What it wrote on standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Its directory.
    pub fn directory(&self) -> &TestDirectory {
        &self.directory
    }

    /// Where its snapshots lie.
    pub fn snapshots(&self) -> PathBuf {
        self.directory.join("snapshots")
    }

    /// With this in its configuration, in a new directory.
    #[track_caller]
    pub fn start_configured(config: &str) -> RecorderProcess {
        let start = Start { config, ..Start::default() };
        RecorderProcess::start_in(TestDirectory::new(), &start)
    }

    /// Its control socket.
    pub fn socket(&self) -> Server {
        Server::unix(&self.directory.join("socket"))
    }

    /// Its address, where it listens on one.
    #[track_caller]
    pub fn tcp(&self) -> Server {
        let (_, rest) = self.said.split_once(", listen ").expect("it listens");
        let address = rest.split(',').next().unwrap_or_default().trim();
        Server::Tcp(address.parse().expect("an address"))
    }

    /// The finished snapshots, sorted by name.
    pub fn files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.snapshots()).expect("the snapshot directory").flatten();
        let mut files: Vec<PathBuf> = entries
            .map(|entry| entry.path())
            .filter(|path| path.extension() == Some("kfr".as_ref()))
            .collect();
        files.sort();
        files
    }

    /// A command of the program that talks to this recorder.
    pub fn command(&self, verb: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(binary());
        command.arg(verb).arg("--socket").arg(self.directory.join("socket")).args(arguments);
        command
    }

    /// Takes a snapshot, which must succeed, and answers its path.
    #[track_caller]
    pub fn dump(&self, arguments: &[&str]) -> PathBuf {
        let outcome = run(&mut self.command("dump", arguments)).succeeded();
        let path = outcome.text().strip_suffix('\n').expect("a path and a line end");
        assert!(!path.contains('\n'), "a path and nothing else: {path}");
        PathBuf::from(path)
    }

    /// The events of a snapshot.
    #[track_caller]
    pub fn replay(&self, file: &Path, arguments: &[&str]) -> Vec<Value> {
        self.replay_some(file, arguments, |_| true)
    }

    /// The events whose line is wanted: to parse a million takes much longer than to look
    /// at their lines.
    #[track_caller]
    pub fn replay_some(
        &self,
        file: &Path,
        arguments: &[&str],
        is_wanted: impl Fn(&str) -> bool,
    ) -> Vec<Value> {
        let outcome = replay_command(file, arguments, "jsonl").succeeded();
        let lines = outcome.text().lines().filter(|line| is_wanted(line));
        lines.map(|line| serde_json::from_str(line).expect("one JSON object per line")).collect()
    }

    /// The text of a snapshot.
    #[track_caller]
    pub fn replay_text(&self, file: &Path, arguments: &[&str]) -> String {
        replay_command(file, arguments, "text").succeeded().text().to_string()
    }

    /// Takes a snapshot and answers the events of a process and its threads.
    #[track_caller]
    pub fn events_of(&self, pid: i32) -> Vec<Value> {
        let file = self.dump(&[]);
        self.replay(&file, &["--pid", &pid.to_string()])
    }

    /// What `info` says of a snapshot.
    #[track_caller]
    pub fn info(&self, file: &Path) -> Value {
        let mut command = Command::new(binary());
        let outcome = run(command.arg("info").arg(file).args(["--format", "json"])).succeeded();
        serde_json::from_slice(&outcome.stdout).expect("JSON")
    }

    /// What `status` says.
    #[track_caller]
    pub fn status(&self) -> Value {
        let outcome = run(&mut self.command("status", &["--format", "json"])).succeeded();
        serde_json::from_slice(&outcome.stdout).expect("JSON")
    }

    /// Sends a signal.
    #[track_caller]
    pub fn signal(&self, signal: i32) {
        // SAFETY: the process is our child and not reaped, so the number is its own.
        assert_eq!(unsafe { libc::kill(self.pid(), signal) }, 0, "a signal to the recorder");
    }

    /// Waits for its end: exit code, or minus the signal.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let status = wait_for("the recorder to end", || self.process.try_wait().ok().flatten());
        status.code().unwrap_or_else(|| -status.signal().unwrap_or_default())
    }

    /// Ends it like an operator does; it must end well.
    #[track_caller]
    pub fn stop(mut self) -> TestDirectory {
        self.signal(libc::SIGTERM);
        let code = self.wait();
        assert_eq!(code, 0, "SIGTERM ends it with 0; it said:\n{}", self.log());
        std::mem::take(&mut self.directory)
    }

    /// Ends it without a word and answers its directory.
    #[track_caller]
    pub fn kill(mut self) -> TestDirectory {
        self.signal(libc::SIGKILL);
        assert_eq!(self.wait(), -libc::SIGKILL);
        std::mem::take(&mut self.directory)
    }
}

impl Drop for RecorderProcess {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            println!("the recorder said:\n{}", self.log());
        }
    }
}

fn record_command(directory: &TestDirectory, start: &Start<'_>) -> Command {
    let program = binary();
    let mut words: Vec<&OsStr> = start.wrapper.iter().map(OsStr::new).collect();
    words.extend([program.as_os_str(), OsStr::new("record")]);
    let (first, rest) = words.split_first().expect("at least two words");
    let mut command = Command::new(first);
    command.args(rest).arg("--socket").arg(directory.join("socket"));
    command.arg("--snapshots").arg(directory.join("snapshots")).args(start.arguments);
    // No configuration of this host has a say.
    let config = directory.join("recorder.toml");
    fs::write(&config, start.config).expect("a configuration");
    command.arg("--config").arg(config).env_remove("RECORDER_SOCKET");
    command
}

#[track_caller]
fn replay_command(file: &Path, arguments: &[&str], format: &str) -> Outcome {
    run(Command::new(binary()).arg("replay").arg(file).args(["--format", format]).args(arguments))
}
