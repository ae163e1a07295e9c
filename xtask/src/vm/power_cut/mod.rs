//! Power cuts: whether what was promised before one is there after it.
//!
//! A machine records, takes snapshots one after the other, and prints the path of each as
//! soon as `recorder dump` does. Its disk is ours ([`disk`], by way of [`nbd`]): it has a
//! write cache, and makes durable what was written before a flush, nothing else. Between two
//! requests that chance chooses the power goes: of what was not flushed nothing, all, any
//! writes, or the first sectors of some are on the disk that is left. Every path that was
//! printed by then must lead to a whole snapshot, every other snapshot that is there by its
//! name must be whole, and the spool must give one ([`check`]).
//!
//! The disk is stopped while it is copied, and the machine goes on; so one start gives
//! several cuts. The last of them is real: the machine ends, and the next one starts with
//! that disk. So the guest's own kernel repairs its file system, the recorder finds its spool,
//! and what was promised before earlier cuts is still asked for. Every second start is cut
//! once and early, most often while the recorder makes a snapshot of that spool.
//!
//! Whether any of this would be found is tried with `--canary`: then the machine also promises
//! copies that nobody made durable, is cut soon after such a promise, and a run in which none
//! of them is lost fails.
//!
//! What this does not show: disks that lie about flushes, and those that give back wrong
//! data. A write that was sent before a flush and not waited for counts as flushed.
//! A seed makes the choices; what the machine writes meanwhile it does not.

use std::{
    env, fs, io,
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

use super::{add_program, build_recorder, initramfs::Initramfs, kernel::Kernel, locate, machine};
use crate::{packages::Apt, process, programs, setup, workspace};

mod check;
mod disk;
mod nbd;
mod random;

use check::Verdict;
use disk::{Cache, Disk};
use random::Random;

/// XFS makes none that is smaller than 300 MiB.
const DISK_BYTES: u64 = 512 << 20;

/// Cuts while one machine runs.
const CUTS_PER_START: usize = 5;

/// Starts with one disk: the snapshots of all of them stay on it. The last is not an early one.
const STARTS_PER_DISK: usize = 5;

/// How often a machine is started that fails before the recorder runs: an emulated kernel
/// that changes its own code now and then meets itself half changed.
const STARTS_MAX: usize = 3;

/// A cut comes at most so many writes and flushes after the last one, and half of them wait
/// for the next flush; a snapshot takes some twenty requests.
const REQUESTS_MAX: u64 = 200;

/// An early one comes at most so many after the machine began to use its disk.
const EARLY_REQUESTS_MAX: u64 = 80;

/// A cut comes so soon after the promise of a canary: before somebody else flushes it.
const CANARY_REQUESTS_MAX: u64 = 4;

/// Where the machine has the disk.
const MOUNTED: &str = "/disk";

/// The machine prints this, and the path of a snapshot that is durable.
const PRINTED: &str = "recorder-vm: snapshot ";

/// It prints this instead when there is no snapshot.
const FAILED: &str = "recorder-vm: no snapshot";

/// What is needed to reach the disk.
const DRIVERS: &[&str] = &["virtio_pci", "virtio_blk"];

/// What is kept of what a machine says, for the case that it fails.
const LINES_MAX: usize = 1_000;

/// A file system under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum FileSystem {
    /// The one of most distributions.
    Ext4,
    /// The one of the others.
    Xfs,
}

impl FileSystem {
    const ALL: [FileSystem; 2] = [FileSystem::Ext4, FileSystem::Xfs];

    /// As the kernel calls it.
    fn name(self) -> &'static str {
        match self {
            FileSystem::Ext4 => "ext4",
            FileSystem::Xfs => "xfs",
        }
    }

    /// Makes an image with an empty one.
    fn make(self, image: &Path) -> Result<()> {
        let file = fs::File::create(image);
        file.and_then(|file| file.set_len(DISK_BYTES))
            .with_context(|| format!("cannot create {}", image.display()))?;
        let mut command = Command::new(format!("mkfs.{}", self.name()));
        process::run(command.arg("-q").arg(image))
    }
}

/// What is wanted.
pub(crate) struct Order {
    /// On each file system.
    pub(crate) cuts: usize,
    pub(crate) seed: u64,
    /// One, or all.
    pub(crate) file_system: Option<FileSystem>,
    /// They take turns.
    pub(crate) kernels: Vec<&'static Kernel>,
    /// Whether the machine promises what it must lose.
    pub(crate) canary: bool,
}

/// What a cut left.
struct Cut {
    seed: u64,
    image: PathBuf,
    /// What had been promised by then.
    printed: Vec<String>,
    /// Whether this start had promised something already: then its spool is written.
    is_recording: bool,
    /// Earlier recordings that ended on this disk with a cut.
    recordings: usize,
    cache: Cache,
}

/// What must be on a disk.
#[derive(Clone, Default)]
struct Promised {
    /// The paths of snapshots.
    printed: Vec<String>,
    /// Recordings that ended with a cut, of each of which the next start makes a snapshot.
    recordings: usize,
}

/// Cuts the power as often as wanted, and fails when a disk does not have what it must.
pub(crate) fn run(order: &Order) -> Result<()> {
    if !process::is_root() {
        bail!("looking at the disk of a machine means mounting it: run this as root");
    }
    setup::run(&setup::Options { vm: true, ..setup::Options::default() })?;
    setup::install_programs(Apt::find().as_ref(), programs::VM_POWER_CUT)?;
    let vm = workspace::target_dir()?.join("vm");
    let stage =
        Stage { recorder: build_recorder()?, folder: vm.join("power-cut"), kernels_folder: vm };
    fs::create_dir_all(&stage.folder)
        .with_context(|| format!("cannot create {}", stage.folder.display()))?;

    let mut random = Random::new(order.seed);
    let mut total = Total::default();
    let wanted = FileSystem::ALL.iter().filter(|one| order.file_system.is_none_or(|x| x == **one));
    let mut done = Ok(());
    for file_system in wanted {
        done = done.and_then(|()| stage.cut_on(*file_system, order, &mut random, &mut total));
    }
    total.print(order.seed);
    done.and_then(|()| total.judge(order))
}

/// What all machines share.
struct Stage {
    recorder: PathBuf,
    folder: PathBuf,
    kernels_folder: PathBuf,
}

impl Stage {
    fn cut_on(
        &self,
        file_system: FileSystem,
        order: &Order,
        random: &mut Random,
        total: &mut Total,
    ) -> Result<()> {
        let image = self.folder.join("disk");
        let mut promised = Promised::default();
        let (mut start, mut done) = (0, 0);
        for kernel in order.kernels.iter().cycle() {
            if done == order.cuts {
                return Ok(());
            }
            if start % STARTS_PER_DISK == 0 {
                promised = Promised::default();
                file_system.make(&image)?;
            }
            let is_early = start % STARTS_PER_DISK % 2 == 1;
            let wanted = if is_early { 1 } else { CUTS_PER_START.min(order.cuts - done) };
            let began = Instant::now();
            let script = init_script(file_system, order.canary);
            let vmlinuz = kernel.fetch(&self.kernels_folder)?;
            let initramfs = self.folder.join("initramfs");
            fs::write(&initramfs, self.content(file_system, &script, &vmlinuz)?.archive())
                .with_context(|| format!("cannot write {}", initramfs.display()))?;
            let seed = random.next_u64();
            let mut cuts = None;
            for left in (0..STARTS_MAX).rev() {
                let wanted = (wanted, is_early, order.canary);
                let plug = self.plug(&image, wanted, Random::new(seed), promised.clone())?;
                cuts = run_machine(machine::qemu(&vmlinuz, &initramfs), plug, left > 0)?;
                if cuts.is_some() {
                    break;
                }
            }
            let cuts = cuts.context("the machine did not come up")?;
            println!(
                "== start {} with a disk of {}, kernel {}: {wanted} cuts in {:.0} s",
                start % STARTS_PER_DISK + 1,
                file_system.name(),
                kernel.version,
                began.elapsed().as_secs_f64(),
            );
            let last = cuts.last().context("the machine ended without a power cut")?;
            disk::copy(&last.image, &image)?;
            promised = Promised {
                printed: last.printed.clone(),
                recordings: last.recordings + usize::from(last.is_recording),
            };
            for cut in &cuts {
                done += 1;
                let verdict = check::check(cut, &self.recorder, &self.folder)?;
                let name = format!("{} {done}/{}", file_system.name(), order.cuts);
                total.take(&name, cut, &verdict);
            }
            start += 1;
        }
        bail!("no kernel was chosen")
    }

    /// A disk that begins as `image`, with what was promised of it.
    fn plug(
        &self,
        image: &Path,
        (wanted, is_early, canary): (usize, bool, bool),
        mut random: Random,
        promised: Promised,
    ) -> Result<Plug> {
        Ok(Plug {
            disk: Disk::open(image, &self.folder)?,
            folder: self.folder.clone(),
            earlier: promised.printed.len(),
            promised,
            next: is_early.then(|| Moment::choose(EARLY_REQUESTS_MAX, &mut random)),
            random,
            wanted,
            canary,
            cuts: Vec::new(),
            failure: None,
        })
    }

    /// The file system the machine begins with.
    fn content(&self, file_system: FileSystem, script: &str, vmlinuz: &Path) -> Result<Initramfs> {
        let home = vmlinuz.ancestors().nth(2).context("the kernel has no package")?;
        let drivers: Vec<&str> = DRIVERS.iter().copied().chain([file_system.name()]).collect();
        let modules = super::modules::load_order(home, &drivers)?;
        let mut content = Initramfs::default();
        for (number, module) in (10..).zip(modules) {
            // The shell sorts by name.
            content.add(&format!("/modules/{number}-{}.ko", module.name), 0o644, module.data);
        }
        content.add("/init", 0o755, script.as_bytes().to_vec());
        content.add("/etc/recorder.toml", 0o644, CONFIGURATION.as_bytes().to_vec());
        content.add("/etc/hosts", 0o644, b"127.0.0.1 localhost\n".to_vec());
        add_program(&mut content, "/bin/recorder", &self.recorder)?;
        add_program(&mut content, "/bin/busybox", &locate("busybox")?)?;
        Ok(content)
    }
}

/// Runs a machine until it was cut as often as wanted. Answers nothing when it failed before
/// the recorder was started, and `may_try_again`.
fn run_machine(qemu: Command, plug: Plug, may_try_again: bool) -> Result<Option<Vec<Cut>>> {
    let plug = Arc::new(Mutex::new(plug));
    // The path of a socket is short, that of the target folder may not be.
    let socket = env::temp_dir().join(format!("recorder-power-cut-{}", std::process::id()));
    // One of an earlier machine.
    let _ = fs::remove_file(&socket);
    let listener = UnixListener::bind(&socket)
        .with_context(|| format!("cannot listen on {}", socket.display()))?;
    let server = thread::spawn({
        let plug = Arc::clone(&plug);
        move || serve(&listener, &plug)
    });
    let (machine, lines) = machine::power_on(&mut with_disk(qemu, &socket))?;
    let mut said = Vec::new();
    let watched = watch(&lines, &plug, &mut said);
    drop(machine);
    // Nobody misses it.
    let _ = fs::remove_file(&socket);
    if let Err(problem) = watched {
        said.iter().for_each(|line| println!("  {line}"));
        if may_try_again && !said.iter().any(|line| line.contains(machine::STARTED)) {
            println!("  {problem:#}; it is started again");
            return Ok(None);
        }
        return Err(problem);
    }
    if server.join().is_err() {
        bail!("the disk broke");
    }
    Ok(Some(std::mem::take(&mut locked(&plug).cuts)))
}

/// Every snapshot stays.
const CONFIGURATION: &str = "[keep]\ncount_max = 100000\nfree_percent_min = 1\n";

/// Promises, after each snapshot, a copy that nobody made durable.
const CANARY: &str = r#"cp "$file" "$file.copy.kfr"; file=$file.copy.kfr"#;

/// What the names of these copies end with.
const CANARY_ENDING: &str = ".copy.kfr";

/// The first process: it records a small load on the disk, and takes snapshots. Not before
/// the spool is written: of the seconds before nothing is promised. What is written reaches
/// the disk soon, and long before anybody flushes it.
fn init_script(file_system: FileSystem, canary: bool) -> String {
    format!(
        r#"#!/bin/busybox sh
/bin/busybox mkdir -p /applets /proc /sys /dev /tmp /run {MOUNTED}
/bin/busybox --install -s /applets
export PATH=/bin:/applets RECORDER_SOCKET=/run/socket RECORDER_LOG=warn NO_COLOR=1
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
mount -t tracefs tracefs /sys/kernel/tracing
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname recorder-vm
ulimit -l unlimited
echo 20 > /proc/sys/vm/dirty_writeback_centisecs
echo 20 > /proc/sys/vm/dirty_expire_centisecs
for module in /modules/*; do insmod $module; done
mount -t {name} /dev/vda {MOUNTED} || poweroff -f
echo "{started} $(uname -r)"
recorder record --config /etc/recorder.toml --memory 64MiB \
  --snapshots {MOUNTED}/snapshots --spool {MOUNTED}/spool --spool-size 16MiB &
while ! recorder status --format json 2> /dev/null | grep -q '"written_bytes": [1-9]'; do
  sleep 0.2
done
while true; do
  dd if=/dev/zero of=/dev/null bs=1 count=4000
  dd if=/dev/zero of={MOUNTED}/load bs=4096 count=32
  ls -lR /sys/kernel /nonexistent
done > /dev/null 2>&1 &
while true; do
  if ! file=$(recorder dump --since 2s); then echo "{FAILED}"; fi
  echo "{PRINTED}$file"
  {canary}
  sleep 0.$((RANDOM % 10))
done
"#,
        name = file_system.name(),
        started = machine::STARTED,
        canary = if canary { format!("{CANARY}; echo \"{PRINTED}$file\"") } else { "true".into() },
    )
}

/// A machine with our disk.
fn with_disk(mut qemu: Command, socket: &Path) -> Command {
    let path = socket.to_string_lossy().replace(',', ",,");
    qemu.arg("-blockdev")
        .arg(format!("driver=nbd,node-name=disk,server.type=unix,server.path={path}"))
        .args(["-device", "virtio-blk-pci,drive=disk,write-cache=on"]);
    qemu
}

/// When the next cut comes.
struct Moment {
    requests_left: u64,
    /// Not before there is something to flush, and somebody wants to.
    at_flush: bool,
}

impl Moment {
    fn choose(requests_max: u64, random: &mut Random) -> Moment {
        Moment { requests_left: random.below(requests_max), at_flush: random.below(2) == 0 }
    }
}

/// Between the machine and the disk: whoever holds it holds up both.
struct Plug {
    disk: Disk,
    random: Random,
    folder: PathBuf,
    promised: Promised,
    /// How many paths were printed before this start.
    earlier: usize,
    /// None before the first path, but for an early cut.
    next: Option<Moment>,
    wanted: usize,
    canary: bool,
    cuts: Vec<Cut>,
    failure: Option<anyhow::Error>,
}

impl Plug {
    fn is_done(&self) -> bool {
        self.cuts.len() == self.wanted || self.failure.is_some()
    }

    /// The machine said that this is durable.
    fn printed(&mut self, path: &str) {
        self.promised.printed.push(path.to_owned());
        let requests_max = if self.canary { CANARY_REQUESTS_MAX } else { REQUESTS_MAX };
        if self.next.is_none() && (!self.canary || path.ends_with(CANARY_ENDING)) {
            self.next = Some(Moment::choose(requests_max, &mut self.random));
        }
    }

    /// Cuts when it is time, before a request changes the disk.
    fn before_request(&mut self, is_flush: bool) {
        let is_done = self.is_done();
        let Some(next) = &mut self.next else { return };
        next.requests_left = next.requests_left.saturating_sub(1);
        let is_right = !next.at_flush || (is_flush && self.disk.has_unflushed());
        if is_done || next.requests_left > 0 || !is_right {
            return;
        }
        if let Err(failure) = self.cut() {
            self.failure = Some(failure);
        }
        let again = !self.canary;
        self.next = again.then(|| Moment::choose(REQUESTS_MAX, &mut self.random));
    }

    fn cut(&mut self) -> Result<()> {
        let seed = self.random.next_u64();
        let image = self.folder.join(format!("cut-{}", self.cuts.len() + 1));
        let cache = self.disk.cut(&image, &mut Random::new(seed))?;
        let Promised { printed, recordings } = self.promised.clone();
        let is_recording = printed.len() > self.earlier;
        self.cuts.push(Cut { seed, image, printed, is_recording, recordings, cache });
        Ok(())
    }
}

fn locked(plug: &Mutex<Plug>) -> MutexGuard<'_, Plug> {
    plug.lock().unwrap_or_else(PoisonError::into_inner)
}

impl nbd::Device for &Mutex<Plug> {
    fn bytes(&self) -> u64 {
        locked(self).disk.bytes()
    }

    fn read(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        locked(self).disk.read(buffer, offset)
    }

    fn write(&mut self, data: Vec<u8>, offset: u64) -> io::Result<()> {
        let mut plug = locked(self);
        plug.before_request(false);
        plug.disk.write(data, offset)
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut plug = locked(self);
        plug.before_request(true);
        plug.disk.flush()
    }
}

/// Serves the disk to one machine, until that is off.
fn serve(listener: &UnixListener, plug: &Mutex<Plug>) {
    let served = listener.accept().and_then(|(stream, _)| nbd::serve(&stream, &mut &*plug));
    if let Err(error) = served {
        let mut plug = locked(plug);
        // Once all cuts are made the machine is switched off in the middle of a request.
        if !plug.is_done() {
            plug.failure = Some(anyhow::Error::new(error).context("the disk cannot be served"));
        }
    }
}

/// Hears what the machine prints until it was cut as often as wanted.
fn watch(lines: &Receiver<String>, plug: &Mutex<Plug>, said: &mut Vec<String>) -> Result<()> {
    let end = Instant::now() + machine::RUN_MAX;
    let mut heard = Instant::now();
    loop {
        if locked(plug).is_done() {
            return locked(plug).failure.take().map_or(Ok(()), Err);
        }
        if Instant::now() > end {
            bail!("the machine was not done after {:?}", machine::RUN_MAX);
        }
        match lines.recv_timeout(Duration::from_millis(50)) {
            Ok(line) => {
                heard = Instant::now();
                if let Some((_, path)) = line.split_once(PRINTED) {
                    locked(plug).printed(path);
                } else if machine::is_broken(&line) || line.contains(FAILED) {
                    bail!("the machine said: {line}");
                } else if said.len() < LINES_MAX {
                    said.push(line);
                }
            }
            Err(RecvTimeoutError::Disconnected) => bail!("the machine went off by itself"),
            Err(RecvTimeoutError::Timeout) if heard.elapsed() > machine::SILENCE_MAX => {
                bail!("the machine hangs: it printed nothing for {:?}", machine::SILENCE_MAX)
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// What all cuts together showed.
#[derive(Default)]
struct Total {
    cuts: usize,
    with_losses: usize,
    looks: usize,
    damaged_spools: usize,
    behind_s_max: u64,
    events: u64,
    bad: usize,
}

impl Total {
    fn take(&mut self, name: &str, cut: &Cut, verdict: &Verdict) {
        let Cache { writes, lost } = cut.cache;
        let Verdict { more_files, unfinished, spool, problems } = verdict;
        let printed = cut.printed.len();
        self.cuts += 1;
        self.with_losses += usize::from(lost > 0);
        self.looks += printed;
        self.damaged_spools += usize::from(spool.is_damaged);
        self.behind_s_max = self.behind_s_max.max(spool.behind_s);
        self.events += spool.events;
        self.bad += usize::from(!problems.is_empty());
        let said = if problems.is_empty() { "all valid" } else { "NOT AS PROMISED" };
        println!(
            "{name}{}, seed {:016x}: {lost} of {writes} unflushed writes lost; {printed} dumps \
             printed, {said}; {more_files} more, {unfinished} unfinished; spool {}, {} events, to \
             {} s before the last dump",
            if cut.is_recording { "" } else { ", at its start" },
            cut.seed,
            if spool.is_damaged { "cut off" } else { "whole" },
            spool.events,
            spool.behind_s,
        );
        for problem in problems {
            println!("  {problem}");
        }
        // The images of the next start have the same names.
        if problems.is_empty() {
            let _ = fs::remove_file(&cut.image);
        } else {
            let kept = cut.image.with_file_name(format!("bad-{:016x}", cut.seed));
            println!("  {} is the disk", kept.display());
            let _ = fs::rename(&cut.image, kept);
        }
    }

    fn print(&self, seed: u64) {
        let Total { cuts, with_losses, looks, damaged_spools, behind_s_max, events, bad } = self;
        println!(
            "vm: {cuts} power cuts with seed {seed}, {with_losses} of which lost writes; printed \
             snapshots were looked at {looks} times; {events} events were saved from the spools, \
             {damaged_spools} of which were cut off, to at most {behind_s_max} s before the last \
             dump; {bad} cuts cost something that was promised"
        );
    }

    fn judge(&self, order: &Order) -> Result<()> {
        match (self.bad, order.canary) {
            (0, false) | (1.., true) => Ok(()),
            (0, true) => bail!("vm: copies that nobody made durable all survived: nothing was cut"),
            (bad, false) => {
                bail!("vm: {bad} of {} power cuts cost something that was promised", self.cuts)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_process_promises_snapshots_and_only_the_canary_what_is_none() {
        let promises =
            |script: &str| script.matches(r#"echo "recorder-vm: snapshot $file""#).count();
        let script = init_script(FileSystem::Xfs, false);
        assert!(script.contains("\nmount -t xfs /dev/vda /disk "), "{script}");
        assert_eq!(promises(&script), 1);
        assert_eq!(promises(&init_script(FileSystem::Ext4, true)), 2);
    }

    #[test]
    fn one_bad_cut_fails_the_run_and_none_fails_the_canary() {
        let judged = |bad, canary| {
            let order = Order { cuts: 3, seed: 7, file_system: None, kernels: Vec::new(), canary };
            Total { cuts: 3, bad, ..Total::default() }.judge(&order).is_ok()
        };
        assert!(judged(0, false) && !judged(1, false));
        assert!(judged(1, true) && !judged(0, true));
    }
}
