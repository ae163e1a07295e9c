//! The program that is run when a snapshot is finished: an upload, a note in a chat.
//!
//! It gets its words one by one and no shell. One runs at a time; it cannot delay a
//! snapshot, and one that hangs is ended.

use std::{
    io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use super::metrics::Metrics;
use crate::{config::trigger::Hook, trigger::Trigger};

/// Finished snapshots that may wait for their hook.
pub(super) const WAITING_MAX: usize = 16;

/// How often a running hook is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A finished snapshot, and what is run for it.
pub(super) struct Job {
    pub(super) hook: Hook,
    pub(super) path: PathBuf,
    pub(super) trigger: Trigger,
}

/// Runs jobs until nobody sends any more.
pub(super) fn run(jobs: &Receiver<Job>, metrics: &Metrics) {
    while let Ok(job) = jobs.recv() {
        let path = job.path.display();
        let result = match job.run() {
            Ok(Ended::Code(0)) => "ok",
            Ok(Ended::Code(code)) => {
                tracing::error!("the hook for {path} ended with code {code}");
                "failed"
            }
            Ok(Ended::Signal(signal)) => {
                tracing::error!("the hook for {path} was ended by signal {signal}");
                "failed"
            }
            Ok(Ended::TooLong) => {
                let seconds = job.hook.timeout_ns / 1_000_000_000;
                tracing::error!("the hook for {path} took longer than {seconds} s and was ended");
                "timeout"
            }
            Err(error) => {
                let program = job.hook.command.first().map(String::as_str).unwrap_or_default();
                tracing::error!("the hook for {path} cannot be run: {program}: {error}");
                "failed"
            }
        };
        metrics.hooks.with_label_values(&[result]).inc();
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    Code(i32),
    Signal(i32),
    TooLong,
}

impl Job {
    fn run(&self) -> io::Result<Ended> {
        let mut words = self.hook.command.iter().map(|word| filled(word, &self.path));
        let program = words.next().ok_or(io::ErrorKind::InvalidInput)?;
        let mut child = Command::new(program)
            .args(words)
            .env("RECORDER_SNAPSHOT", &self.path)
            .env("RECORDER_SOURCE", plain(&self.trigger.source))
            .env("RECORDER_NAME", plain(&self.trigger.name))
            .env("RECORDER_REASON", plain(&self.trigger.reason))
            // These speak of the recorder, not of its children.
            .env_remove("NOTIFY_SOCKET")
            .env_remove("LISTEN_FDS")
            .env_remove("LISTEN_PID")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // A group of its own, so that what it started ends with it.
            .process_group(0)
            .spawn()?;
        let ended = wait(&mut child, Duration::from_nanos(self.hook.timeout_ns))?;
        Ok(match ended {
            None => Ended::TooLong,
            Some(status) => {
                use std::os::unix::process::ExitStatusExt as _;
                status
                    .code()
                    .map_or_else(|| Ended::Signal(status.signal().unwrap_or_default()), Ended::Code)
            }
        })
    }
}

/// Waits for a child, and ends it with all it started when it takes too long.
fn wait(child: &mut Child, timeout: Duration) -> io::Result<Option<ExitStatus>> {
    let began = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if began.elapsed() >= timeout {
            let group = rustix::process::Pid::from_child(child);
            // Not reaped yet, so the number is still its own.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// `{path}` and `{name}` in a word of the configuration. What an alert said is never
/// put there: it is in the environment.
fn filled(word: &str, path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    word.replace("{path}", &path.to_string_lossy()).replace("{name}", &name)
}

/// The environment takes no NUL.
fn plain(words: &str) -> String {
    words.replace('\0', "\u{fffd}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(command: &[&str], timeout: Duration) -> Job {
        Job {
            hook: Hook {
                command: command.iter().map(|word| (*word).to_string()).collect(),
                timeout_ns: timeout.as_nanos() as u64,
                writable: Vec::new(),
            },
            path: PathBuf::from("/d/a b.kfr"),
            trigger: Trigger::new("generic", "it\0 is; $(slow)"),
        }
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn words_are_words_and_not_a_shell_line() {
        let check = "[ \"$1\" = '/d/a b.kfr' ] && [ \"$2\" = 'a b.kfr;x' ] \
                     && [ \"$RECORDER_SNAPSHOT\" = '/d/a b.kfr' ] \
                     && [ \"$RECORDER_SOURCE\" = generic ]";
        let job = job(&["/bin/sh", "-c", check, "sh", "{path}", "{name};x"], LONG);
        assert_eq!(job.run().unwrap(), Ended::Code(0));
    }

    #[test]
    fn how_it_ends_is_told() {
        assert_eq!(job(&["/bin/sh", "-c", "exit 3"], LONG).run().unwrap(), Ended::Code(3));
        assert_eq!(job(&["/bin/sh", "-c", "kill -9 $$"], LONG).run().unwrap(), Ended::Signal(9));
        assert!(job(&["/nonexistent/hook"], LONG).run().is_err());
        assert!(job(&[], LONG).run().is_err());
    }

    #[test]
    fn one_that_hangs_is_ended_with_what_it_started() {
        let marker = std::env::temp_dir().join(format!("recorder-hook-{}", std::process::id()));
        let script = format!("sleep 1000 & echo $! > {}; wait", marker.display());
        let job = job(&["/bin/sh", "-c", &script], Duration::from_millis(500));
        assert_eq!(job.run().unwrap(), Ended::TooLong);
        let pid = std::fs::read_to_string(&marker).unwrap_or_default();
        std::fs::remove_file(&marker).unwrap();
        // The group is killed at once, but each of it dies in its own time: the test
        // looked before its child had.
        let path = format!("/proc/{}/stat", pid.trim());
        let is_ended = || std::fs::read_to_string(&path).map_or(true, |stat| stat.contains(") Z "));
        let began = Instant::now();
        while !is_ended() {
            assert!(began.elapsed() < LONG, "its child {pid} is ended too");
            std::thread::sleep(LOOK_EVERY);
        }
    }
}
