//! A writer that is killed at any moment leaves whole files and marked leftovers,
//! nothing else.

use std::{
    env, fs,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use recorder::snapshot::{remove_leftovers, verify};
use recorder_tests::synth::{Random, Synth};

use crate::scratch::{Scratch, rounds};

/// Names the directory to the process that writes and is killed.
const CHILD: &str = "RECORDER_TEST_CRASH";

/// The longest a writer lives, should nobody kill it.
const CHILD_LIFE: Duration = Duration::from_secs(60);

/// Killed and waited for, however the test ends.
struct Writer(Child);

impl Writer {
    fn start(directory: &Path) -> Writer {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "crash::a_killed_writer_leaves_whole_files_or_none"]);
        command.env(CHILD, directory).stdout(Stdio::null()).stderr(Stdio::null());
        Writer(command.spawn().unwrap())
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn write_until_killed(directory: &Path) {
    let start = Instant::now();
    let mut synth = Synth::random(1, 2, 2_000);
    for number in 0u64.. {
        if start.elapsed() > CHILD_LIFE {
            return;
        }
        synth.header.boot_id = format!("{}-{number}", std::process::id());
        synth.write(directory);
    }
}

/// Waits until the writer has begun its first file.
fn wait_until_begun(directory: &Path) {
    let start = Instant::now();
    while fs::read_dir(directory).unwrap().next().is_none() {
        assert!(start.elapsed() < CHILD_LIFE, "no file was begun in {CHILD_LIFE:?}");
        thread::sleep(Duration::from_micros(200));
    }
}

/// Answers how many files are complete and how many are leftovers.
fn check(directory: &Path, seed: u64) -> (usize, usize) {
    let (mut complete, mut leftovers) = (0, 0);
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with('.') && !name.ends_with(".kfr") {
            leftovers += 1;
            continue;
        }
        assert!(name.ends_with(".kfr"), "seed {seed}: nobody writes {name}");
        let verdict = verify(&path, &mut |_, _| {}).expect(&name);
        assert!(verdict.complaints.is_empty(), "seed {seed}: {name}: {:?}", verdict.complaints);
        complete += 1;
    }
    (complete, leftovers)
}

#[test]
fn a_killed_writer_leaves_whole_files_or_none() {
    if let Some(directory) = env::var_os(CHILD) {
        write_until_killed(Path::new(&directory));
        return;
    }
    let (mut complete, mut leftovers) = (0, 0);
    for seed in 0..rounds(100) {
        let scratch = Scratch::new();
        let writer = Writer::start(scratch.path());
        wait_until_begun(scratch.path());
        // The moment of the kill is what is random here.
        thread::sleep(Duration::from_micros(Random::new(seed).below(15_000)));
        drop(writer);
        let found = check(scratch.path(), seed);
        assert!(found.1 <= 1, "seed {seed}: {} files were begun at once", found.1);
        assert_eq!(remove_leftovers(scratch.path()).unwrap(), found.1, "seed {seed}");
        assert_eq!(check(scratch.path(), seed), (found.0, 0), "seed {seed}");
        complete += found.0;
        leftovers += found.1;
    }
    println!("{complete} complete files, {leftovers} leftovers");
    assert!(complete > 0 && leftovers > 0, "{complete} complete, {leftovers} leftovers");
}
