//! What the fuzzer kept is tried again, all of it, in a moment; and no target is forgotten
//! where targets are listed again.

#[cfg(feature = "capture")]
use std::fs;
use std::{path::PathBuf, thread, time::Instant};

use recorder_fuzz::{
    corpus::{INPUTS_MAX, inputs, paths},
    run::{INPUT_TIME_MAX, tried},
    targets::target,
};
use recorder_tests::{memory::Counting, say};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The most bytes of all inputs together.
const BYTES_MAX: usize = 300 << 10;

fn package() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The folders of the corpus.
fn folders() -> Vec<PathBuf> {
    paths(&package().join("corpus")).into_iter().filter(|path| path.is_dir()).collect()
}

#[test]
fn what_was_kept_is_tried_again() {
    let (mut count, mut bytes, mut wrong) = (0, 0, Vec::new());
    let began = Instant::now();
    for folder in folders() {
        let name = folder.file_name().unwrap().to_str().unwrap().to_string();
        // Without the recording half there are fewer.
        let Some(target) = target(&name) else { continue };
        let inputs = inputs(&folder);
        if inputs.len() > INPUTS_MAX {
            wrong.push(format!("{name} has {} inputs, at most {INPUTS_MAX}", inputs.len()));
        }
        for (input, path) in inputs.into_iter().zip(paths(&folder)) {
            (count, bytes) = (count + 1, bytes + input.len());
            let began = Instant::now();
            if let Some(reason) = thread::spawn(move || tried(target, &input).1).join().unwrap() {
                wrong.push(format!("{}: {reason}", path.display()));
            }
            // Of a machine that does something else, too: the fuzzer counts better.
            if began.elapsed() > 10 * INPUT_TIME_MAX {
                wrong.push(format!("{}: takes {:?}", path.display(), began.elapsed()));
            }
        }
    }
    assert_eq!(wrong, Vec::<String>::new());
    say(&format!("{count} inputs of {bytes} bytes tried in {:?}\n", began.elapsed()));
    assert!(bytes <= BYTES_MAX, "the corpus has {bytes} bytes, at most {BYTES_MAX}");
    assert!(count > 0, "there is no corpus");
}

#[cfg(feature = "capture")]
fn names() -> Vec<&'static str> {
    let targets = recorder_fuzz::targets::TARGETS.iter().filter(|target| !target.is_canary);
    let mut names: Vec<&str> = targets.map(|target| target.name).collect();
    names.sort_unstable();
    names
}

/// A target without a corpus, or a corpus without a target.
#[cfg(feature = "capture")]
#[test]
fn every_target_has_a_corpus() {
    let mut found = Vec::new();
    for folder in folders() {
        assert!(fs::read_dir(&folder).unwrap().next().is_some(), "{} is empty", folder.display());
        found.push(folder.file_name().unwrap().to_str().unwrap().to_string());
    }
    assert_eq!(found, names());
}

/// Nobody builds them every day, so this is how one is not forgotten.
#[cfg(feature = "capture")]
#[test]
fn every_target_is_a_program_of_libfuzzer() {
    let package = package().join("cargo-fuzz");
    let manifest = fs::read_to_string(package.join("Cargo.toml")).unwrap();
    for name in names() {
        let path = format!("targets/{name}.rs");
        let program = fs::read_to_string(package.join(&path)).unwrap();
        assert!(program.contains(&format!("try_target!(\"{name}\")")), "{path}");
        let listed = format!("[[bin]]\nname = \"{name}\"\npath = \"{path}\"\n");
        assert!(manifest.contains(&listed), "{name} is not in the manifest");
    }
    assert_eq!(manifest.matches("[[bin]]").count(), names().len());
    assert_eq!(fs::read_dir(package.join("targets")).unwrap().count(), names().len());
}
