//! Records this machine for a moment and shows what a snapshot holds.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};

use crate::{process, setup, workspace};

/// How long the recorder may take to load its programs. It needs about a second;
/// a slow verifier on a small machine has been seen to need twenty.
const READY_MAX: Duration = Duration::from_secs(60);

/// What is recorded: one call that works and one that fails.
const WORKLOAD: &str = "cat /etc/hostname; ls /nonexistent";

/// Runs the demonstration.
pub(crate) fn run() -> Result<()> {
    if !process::is_root() {
        bail!("recording the kernel needs root: run `cargo xtask demo` as root");
    }
    setup::run(&setup::Options::default())?;
    let mut build = process::cargo();
    build.current_dir(workspace::root()).args(["build", "--release", "-p", "recorder"]);
    println!("\n$ {}", process::shell_line(&build));
    process::run(&mut build)?;

    let recorder = workspace::target_dir()?.join("release/recorder");
    let folder = env::temp_dir().join(format!("recorder-demo-{}", std::process::id()));
    fs::DirBuilder::new()
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    show(&recorder, &folder)
}

fn show(recorder: &Path, folder: &Path) -> Result<()> {
    let socket = folder.join("control.sock");
    let daemon = Daemon::start(recorder, &socket, folder)?;

    // The second half fails on purpose, and so does the shell with it.
    let mut workload = Command::new("sh");
    // In another language `ls` looks for its messages in a hundred places.
    workload
        .env("LC_ALL", "C")
        // Cargo sets it for what it runs: the replay would be full of the search.
        .env_remove("LD_LIBRARY_PATH")
        .args(["-c", WORKLOAD]);
    println!("\n$ {}", process::shell_line(&workload));
    workload.status().context("cannot start sh")?;

    let mut dump = Command::new(recorder);
    dump.arg("dump").arg("--socket").arg(&socket);
    println!("\n$ {}", typed(&dump));
    let said = process::capture(&mut dump)?;
    print!("{said}");
    let snapshot = PathBuf::from(said.trim_end());

    let mut info = Command::new(recorder);
    info.arg("info").arg(&snapshot);
    let mut replay = Command::new(recorder);
    replay.arg("replay").arg(&snapshot);
    replay.args(["-e", "trace=%process,%file", "--comm", "cat", "--comm", "ls"]);
    for command in [&mut info, &mut replay] {
        println!("\n$ {}", typed(command));
        process::run(command)?;
    }
    daemon.stop()?;

    println!("\nThe snapshot is {}", snapshot.display());
    println!("The program is  {}", recorder.display());
    println!("Next: `recorder replay FILE --failed`, `recorder replay FILE --format jsonl`,");
    println!("or `recorder record` in one terminal and `recorder dump` in another.");
    Ok(())
}

/// A recorder that runs until it is stopped; dropped, it is killed, so that a
/// failed demonstration leaves nothing behind.
struct Daemon {
    child: Child,
}

impl Daemon {
    fn start(recorder: &Path, socket: &Path, snapshots: &Path) -> Result<Self> {
        let mut command = Command::new(recorder);
        command.arg("record").arg("--socket").arg(socket).arg("--snapshots").arg(snapshots);
        println!("\n$ {} &", typed(&command));
        let child = command
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", recorder.display()))?;
        let mut daemon = Self { child };
        daemon.wait_until_recording()?;
        Ok(daemon)
    }

    fn wait_until_recording(&mut self) -> Result<()> {
        let stdout = self.child.stdout.take().context("the recorder has no standard output")?;
        let (ready, is_ready) = mpsc::channel();
        // The thread goes on reading: a full pipe would block the recorder.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                println!("{line}");
                if line.starts_with("recording") {
                    let _ = ready.send(());
                }
            }
        });
        match is_ready.recv_timeout(READY_MAX) {
            Ok(()) => Ok(()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("the recorder did not say that it is recording within {READY_MAX:?}")
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = self.child.wait().context("cannot wait for the recorder")?;
                bail!("the recorder ended before it was recording ({status})")
            }
        }
    }

    fn stop(mut self) -> Result<()> {
        let pid = self.child.id();
        println!("\n$ kill -TERM {pid}");
        process::run(Command::new("sh").args(["-c", &format!("kill -TERM {pid}")]))?;
        let status = self.child.wait().context("cannot wait for the recorder")?;
        if !status.success() {
            bail!("the recorder did not end cleanly ({status})");
        }
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // Already gone after `stop`, and then both calls do nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The command as a user would type it with `recorder` on the PATH.
fn typed(command: &Command) -> String {
    let line = process::shell_line(command);
    let program = command.get_program().to_string_lossy();
    line.replacen(&*program, "recorder", 1)
}
