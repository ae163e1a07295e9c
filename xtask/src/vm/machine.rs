//! One run of qemu: boots, passes on what the machine prints, and judges it.
//!
//! Emulated, not with KVM: a build server rarely offers KVM to us, and where it
//! does, it may hang. Ending the process is pulling the plug, so nothing can be
//! left behind.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use crate::process;

/// Init prints this, and the kernel's release, when the tests begin.
pub(crate) const STARTED: &str = "recorder-vm: tests start on";

/// Init prints this, and the exit code of the tests, when they have ended.
pub(crate) const FINISHED: &str = "recorder-vm: tests ended with";

/// What stands between these two lines is a file, and is handed over instead of printed.
pub(crate) const FILE_BEGINS: &str = "recorder-vm: file begins";
/// The other one.
pub(crate) const FILE_ENDS: &str = "recorder-vm: file ends";

/// Lines of such a file: 300 KiB.
const FILE_LINES_MAX: usize = 4_096;

/// Emulation is about ten times slower than the machine it runs on.
pub(crate) const RUN_MAX: Duration = Duration::from_secs(30 * 60);

/// The longest a healthy machine is silent: one slow test.
pub(crate) const SILENCE_MAX: Duration = Duration::from_secs(5 * 60);

/// What the kernel prints when it is, or soon will be, broken. A test that
/// passes while this appears has not passed.
const BROKEN: &[&str] = &[
    "Kernel panic - not syncing",
    "BUG: ",
    "Oops: ",
    "WARNING: CPU: ",
    "general protection fault",
    "blocked for more than",
    "soft lockup",
];

/// Runs the machine that `command` starts until it is off, and judges it. Answers the
/// lines of a file it printed.
pub(crate) fn boot(command: &mut Command) -> Result<Vec<String>> {
    let start = Instant::now();
    let (machine, lines) = power_on(command)?;
    let mut verdict = Verdict::default();
    watch(&lines, &mut verdict)?;
    // Before the verdict: it must be gone whatever it said.
    drop(machine);
    let file = std::mem::take(&mut verdict.file);
    verdict.judge()?;
    println!("== {:.1} s in the machine", start.elapsed().as_secs_f64());
    Ok(file)
}

/// Starts the machine that `command` is. Answers what it prints, line by line.
pub(crate) fn power_on(command: &mut Command) -> Result<(Machine, mpsc::Receiver<String>)> {
    let line = process::shell_line(command);
    let mut child = command.spawn().with_context(|| format!("cannot start `{line}`"))?;
    let stdout = child.stdout.take().context("qemu has no standard output")?;
    Ok((Machine { child }, read_lines(stdout)))
}

/// A machine with this kernel and file system.
pub(crate) fn qemu(kernel: &Path, initramfs: &Path) -> Command {
    let mut command = Command::new("qemu-system-x86_64");
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "2G"])
        .args(["-nodefaults", "-display", "none", "-serial", "stdio", "-no-reboot"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        // A panic restarts at once, which `-no-reboot` turns into an end.
        .args(["-append", "console=ttyS0 panic=-1 quiet"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    command
}

/// Dropped, the plug is pulled.
pub(crate) struct Machine {
    child: Child,
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It has usually powered itself off.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_lines(stdout: ChildStdout) -> mpsc::Receiver<String> {
    let (lines, received) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).trim_end().to_owned();
            if lines.send(line).is_err() {
                return;
            }
        }
    });
    received
}

/// Prints what the machine prints until it is off.
fn watch(lines: &mpsc::Receiver<String>, verdict: &mut Verdict) -> Result<()> {
    let end = Instant::now() + RUN_MAX;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        match lines.recv_timeout(left.min(SILENCE_MAX)) {
            Ok(line) => {
                if !verdict.see(&line) {
                    println!("{line}");
                }
            }
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) if left <= SILENCE_MAX => {
                bail!("the machine was not done after {RUN_MAX:?}")
            }
            Err(RecvTimeoutError::Timeout) => {
                bail!("the machine hangs: it printed nothing for {SILENCE_MAX:?}")
            }
        }
    }
}

/// Whether the kernel says with this line that something is wrong with it.
pub(crate) fn is_broken(line: &str) -> bool {
    BROKEN.iter().any(|sign| line.contains(sign))
}

/// What is known from the lines so far.
#[derive(Default)]
struct Verdict {
    started: bool,
    broken: Option<String>,
    exit_code: Option<i32>,
    in_file: bool,
    file: Vec<String>,
}

impl Verdict {
    /// Takes a line into account. Answers whether it belongs to a file.
    fn see(&mut self, line: &str) -> bool {
        if line.contains(FILE_BEGINS) || line.contains(FILE_ENDS) {
            self.in_file = line.contains(FILE_BEGINS);
            return true;
        }
        if self.in_file {
            if self.file.len() < FILE_LINES_MAX {
                self.file.push(line.to_owned());
            }
            return true;
        }
        self.started |= line.contains(STARTED);
        if self.broken.is_none() && is_broken(line) {
            self.broken = Some(line.to_owned());
        }
        if let Some((_, code)) = line.split_once(FINISHED) {
            self.exit_code = code.trim().parse().ok();
        }
        false
    }

    fn judge(self) -> Result<()> {
        match (self.broken, self.exit_code) {
            (Some(line), _) => bail!("the kernel complained: {line}"),
            (None, Some(0)) => Ok(()),
            (None, Some(code)) => bail!("the tests ended with {code}"),
            (None, None) if self.started => bail!("the machine went off during the tests"),
            (None, None) => bail!("the machine went off before the tests"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(lines: &[&str]) -> String {
        let mut verdict = Verdict::default();
        for line in lines {
            verdict.see(line);
        }
        verdict.judge().map_or_else(|problem| problem.to_string(), |()| "passed".to_owned())
    }

    #[test]
    fn only_a_finished_run_on_a_whole_kernel_passes() {
        let start = format!("{STARTED} 6.1");
        let end = |code: i32| format!("{FINISHED} {code}");
        assert_eq!(judged(&[&start, &end(0)]), "passed");
        assert_eq!(judged(&[&start, &end(101)]), "the tests ended with 101");
        assert_eq!(judged(&[&start]), "the machine went off during the tests");
        assert_eq!(judged(&[]), "the machine went off before the tests");
        let bug = "[    1.0] BUG: sleeping function called";
        assert_eq!(judged(&[&start, bug, &end(0)]), format!("the kernel complained: {bug}"));
    }

    #[test]
    fn a_file_is_handed_over_and_not_judged() {
        let mut verdict = Verdict::default();
        for (line, is_file) in
            [("a", false), (FILE_BEGINS, true), ("BUG: ", true), (FILE_ENDS, true), ("b", false)]
        {
            assert_eq!(verdict.see(line), is_file, "{line}");
        }
        assert_eq!(
            (verdict.file.as_slice(), verdict.broken),
            (["BUG: ".to_owned()].as_slice(), None)
        );
    }

    #[test]
    fn a_machine_that_is_off_ends_the_watch() {
        let (lines, received) = mpsc::channel();
        lines.send(format!("{FINISHED} 0")).unwrap();
        drop(lines);
        let mut verdict = Verdict::default();
        watch(&received, &mut verdict).unwrap();
        assert_eq!(verdict.exit_code, Some(0));
    }
}
