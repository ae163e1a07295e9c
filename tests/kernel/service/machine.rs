//! A machine for one test: systemd as process 1 in namespaces of its own, on a root of
//! its own. `root.sh` makes it, and starts nothing before it has proved that nothing of
//! the host can be reached from there.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use recorder_tests::{Outcome, TestDirectory, has_program, run, wait_for, wait_until};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kernel/service/root.sh");

/// The file systems a machine may have. None of them is a disk.
const FILE_SYSTEMS: [&str; 6] = ["tmpfs", "overlay", "proc", "sysfs", "cgroup2", "devpts"];

/// What a machine is made and driven with.
const PROGRAMS: [&str; 6] = ["unshare", "nsenter", "setpriv", "pivot_root", "dpkg", "systemctl"];

/// A booted machine. Dropping it ends everything in it.
pub(super) struct Machine {
    unshare: Child,
    /// Its process 1, as the host numbers it.
    init: i32,
    directory: TestDirectory,
    /// A file the machine must not see.
    marker: PathBuf,
}

impl Machine {
    /// Why there can be none on this host.
    pub(super) fn is_impossible() -> Option<String> {
        if let Some(name) = PROGRAMS.iter().find(|name| !has_program(name)) {
            return Some(format!("there is no {name}"));
        }
        if !Path::new("/usr/lib/systemd/systemd").is_file() {
            return Some("there is no systemd".to_string());
        }
        let file_systems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
        let missing = ["overlay", "cgroup2"]
            .into_iter()
            .find(|kind| !file_systems.lines().any(|line| line.trim_end().ends_with(kind)));
        if let Some(kind) = missing {
            return Some(format!("this kernel has no {kind}"));
        }
        let merged = fs::symlink_metadata("/bin").is_ok_and(|bin| bin.is_symlink());
        (!merged).then(|| "/bin is not in /usr".to_string())
    }

    /// Boots one that has the package lying at `/recorder.deb`.
    pub(super) fn boot(package: &Path) -> Machine {
        let directory = TestDirectory::new();
        let marker = std::env::temp_dir().join(format!("recorder-marker-{}", std::process::id()));
        fs::write(&marker, "").expect("a marker");
        let unshare = enter(&directory, &marker, package);
        let mut machine = Machine { unshare, init: 0, directory, marker };
        machine.init = machine.wait_for_line("its process 1", |line| {
            line.strip_prefix("pid ").and_then(|pid| pid.parse().ok())
        });
        machine.wait_for_line("it to boot", |line| (line == "booting").then_some(()));
        machine.check();
        machine.wait_until_running();
        machine
    }

    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn wait_for_line<T>(&mut self, what: &str, found: impl Fn(&str) -> Option<T>) -> T {
        wait_for(what, || {
            if let Some(line) = self.log().lines().find_map(&found) {
                return Some(line);
            }
            let ended = self.unshare.try_wait().expect("unshare");
            assert!(ended.is_none(), "waiting for {what}, the machine ended:\n{}", self.log());
            None
        })
    }

    /// From outside: the root is not the host's, and no disk is mounted.
    fn check(&self) {
        let seen = self.path(self.marker.to_str().expect("UTF-8"));
        assert!(!seen.exists(), "the host's {} is in sight", self.marker.display());
        let mounts = format!("/proc/{}/mountinfo", self.init);
        for line in fs::read_to_string(mounts).expect("its mounts").lines() {
            let kind = line.split(" - ").nth(1).and_then(|rest| rest.split(' ').next());
            assert!(FILE_SYSTEMS.contains(&kind.unwrap_or_default()), "mounted: {line}");
        }
    }

    fn wait_until_running(&self) {
        let mut state = String::new();
        wait_until("systemd to be up", || {
            let asked = self.run(&["systemctl", "is-system-running"]);
            state = format!("{}{}", String::from_utf8_lossy(&asked.stdout), asked.stderr);
            state.trim() == "running"
        });
    }

    /// Its process 1, as the host numbers it.
    pub(super) fn init(&self) -> i32 {
        self.init
    }

    /// A path of the machine, seen from here.
    pub(super) fn path(&self, path: &str) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.init));
        root.join(path.trim_start_matches('/'))
    }

    /// Runs a program in it, as root.
    pub(super) fn run(&self, words: &[&str]) -> Outcome {
        run(self.command().args(words))
    }

    /// Runs a program in it as this user, who is nobody, and in this group.
    pub(super) fn run_as(&self, user: u32, group: u32, words: &[&str]) -> Outcome {
        let mut command = self.command();
        command.arg("setpriv").arg(format!("--reuid={user}")).arg(format!("--regid={group}"));
        run(command.args(["--clear-groups", "--inh-caps=-all"]).args(words))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.init.to_string()).args(["--all", "env", "-i"]);
        command.args(["PATH=/usr/sbin:/usr/bin", "LC_ALL=C.UTF-8", "SYSTEMD_PAGER="]);
        command
    }

    /// Standard output of a program that must end well, without the last line end.
    #[track_caller]
    pub(super) fn said(&self, words: &[&str]) -> String {
        let outcome = self.run(words);
        assert_eq!(outcome.code, Some(0), "{words:?}: {outcome:?}\n{}", self.journal());
        outcome.text().trim_end().to_string()
    }

    /// A property of a unit.
    #[track_caller]
    pub(super) fn property(&self, unit: &str, name: &str) -> String {
        self.said(&["systemctl", "show", "--value", "--property", name, unit])
    }

    /// The main process of a unit, as the host numbers it: in `/proc` of the host it is
    /// seen as it is, and not through the eyes of the machine.
    #[track_caller]
    pub(super) fn main_process(&self, unit: &str) -> i32 {
        let inside = self.property(unit, "MainPID");
        assert_ne!(inside, "0", "{unit} has a main process:\n{}", self.journal());
        let spaces = fs::read_link(format!("/proc/{}/ns/pid", self.init)).expect("its namespace");
        let entries = fs::read_dir("/proc").expect("/proc").flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let mut found = numbers.filter(|pid| {
            let is_there =
                fs::read_link(format!("/proc/{pid}/ns/pid")).ok() == Some(spaces.clone());
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            let number = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
            is_there && number.and_then(|line| line.split_whitespace().last()) == Some(&*inside)
        });
        found.next().expect("the main process is still there")
    }

    /// What everything in it wrote.
    pub(super) fn journal(&self) -> String {
        let outcome = self.run(&["journalctl", "--no-pager", "--output=short-monotonic"]);
        String::from_utf8_lossy(&outcome.stdout).into_owned()
    }
}

/// Starts `root.sh` in new namespaces. Whatever becomes of the test, it ends with it.
fn enter(directory: &TestDirectory, marker: &Path, package: &Path) -> Child {
    let log = fs::File::create(directory.join("log")).expect("a log");
    Command::new("setpriv")
        .args(["--pdeathsig", "KILL", "unshare", "--mount", "--propagation", "private"])
        .args(["--pid", "--fork", "--kill-child", "--net", "--ipc", "--uts", "sh", SCRIPT])
        .arg("cgroup")
        .args([directory.path(), marker, package])
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a descriptor"))
        .stderr(log)
        .spawn()
        .expect("setpriv")
}

/// Removes the control groups of a machine that is gone; they are only names now.
fn remove_groups(directory: &TestDirectory) {
    let remove = "mount -t cgroup2 none \"$1\" && find \"$1/$2\" -depth -type d -exec rmdir {} +";
    let name = directory.path().file_name().unwrap_or_default();
    let _ = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "sh", "-c", remove, "sh"])
        .args([directory.join("cgroup").as_os_str(), name])
        .status();
}

/// The guard of `root.sh`: what is in sight of the machine here is a file of `/usr`, which
/// it has from the host by intent.
#[test]
fn a_machine_that_sees_a_file_it_must_not_see_is_not_booted() {
    if let Some(why) = Machine::is_impossible() {
        recorder_tests::skip(&why);
        return;
    }
    let directory = TestDirectory::new();
    let mut refused = enter(&directory, Path::new("/usr/bin/env"), Path::new("/usr/bin/env"));
    let ended = wait_for("it to refuse", || refused.try_wait().expect("unshare"));
    let log = fs::read_to_string(directory.join("log")).expect("a log");
    remove_groups(&directory);
    assert!(!ended.success() && !log.contains("booting"), "{log}");
    assert!(log.contains("refused: a file of the host is in sight: /usr/bin/env"), "{log}");
}

impl Drop for Machine {
    fn drop(&mut self) {
        if std::thread::panicking() && self.init != 0 {
            println!("the machine said:\n{}\n{}", self.log(), self.journal());
        }
        if self.init != 0 {
            // SAFETY: process 1 of the machine; unshare waits for it, so the number is
            // its own. Everything in its namespace ends with it.
            unsafe { libc::kill(self.init, libc::SIGKILL) };
        } else {
            let _ = self.unshare.kill();
        }
        let _ = self.unshare.wait();
        let _ = fs::remove_file(&self.marker);
        remove_groups(&self.directory);
    }
}
