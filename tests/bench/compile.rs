//! A build: many short processes, each of which looks for many files.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use recorder_tests::{
    TestDirectory,
    figures::{Section, target},
    run,
    synth::Random,
};

use crate::{
    load::{self, Load},
    plan::Plan,
    quiet::Quiet,
};

/// Folders of headers; each is searched until the header is found.
const FOLDERS: u64 = 8;

/// Headers of all folders.
const HEADERS: u64 = 64;

/// Sources; a run compiles as many as fit its time, over and over.
const SOURCES: usize = 32;

/// Measures it.
pub(crate) fn measure(plan: &Plan, directory: &TestDirectory, quiet: &mut Quiet) -> Section {
    let tree = Tree::generate(directory.join("tree"));
    let files = SOURCES as f64 / 4.0;
    let count = (tree.compile(files as usize) * plan.load.as_secs_f64()).max(files) as usize;
    let mut run = || tree.compile(count);
    let mut load = Load {
        key: "compile",
        title: "compile, gcc on a generated tree",
        unit: "files/s",
        run: &mut run,
        density: target::DENSITY_COMPILE,
    };
    load::measure(&mut load, plan, directory, quiet)
}

/// Sources that are the same in every run.
pub(crate) struct Tree {
    place: PathBuf,
}

impl Tree {
    pub(crate) fn generate(place: PathBuf) -> Tree {
        let mut random = Random::new(1);
        for folder in 0..FOLDERS {
            fs::create_dir_all(place.join(format!("include{folder}"))).expect("a folder");
        }
        for header in 0..HEADERS {
            let folder = place.join(format!("include{}", header % FOLDERS));
            fs::write(folder.join(format!("part{header}.h")), header_text(header))
                .expect("a header");
        }
        for source in 0..SOURCES {
            let text = source_text(source, &mut random);
            fs::write(place.join(format!("source{source}.c")), text).expect("a source");
        }
        Tree { place }
    }

    /// Compiles `count` files, as many at a time as there are CPUs; answers how many
    /// a second.
    pub(crate) fn compile(&self, count: usize) -> f64 {
        let (next, began) = (AtomicUsize::new(0), Instant::now());
        let worker = |number: usize| {
            let object = self.place.join(format!("object{number}.o"));
            loop {
                let file = next.fetch_add(1, Ordering::Relaxed);
                if file >= count {
                    return;
                }
                run(&mut self.compiler(file % SOURCES, &object)).succeeded();
            }
        };
        let cpus = thread::available_parallelism().map_or(1, std::num::NonZero::get);
        thread::scope(|scope| {
            for number in 0..cpus {
                scope.spawn(move || worker(number));
            }
        });
        count as f64 / began.elapsed().as_secs_f64()
    }

    fn compiler(&self, source: usize, object: &Path) -> Command {
        let mut command = Command::new("gcc");
        command.args(["-O1", "-c", "-o"]).arg(object);
        for folder in 0..FOLDERS {
            command.arg("-I").arg(self.place.join(format!("include{folder}")));
        }
        command.arg(self.place.join(format!("source{source}.c")));
        command
    }
}

fn header_text(number: u64) -> String {
    let mut text = format!("#ifndef PART{number}\n#define PART{number}\n");
    // A chain, as headers have them.
    if number + 9 < HEADERS {
        let _ = writeln!(text, "#include \"part{}.h\"", number + 9);
    }
    for member in 0..20 {
        let _ =
            writeln!(text, "struct part{number}_{member} {{ int a; long b[{}]; }};", member + 1);
    }
    text + "#endif\n"
}

fn source_text(number: usize, random: &mut Random) -> String {
    let mut text = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n".to_string();
    for _ in 0..12 {
        let _ = writeln!(text, "#include \"part{}.h\"", random.below(HEADERS));
    }
    for function in 0..10 {
        let (step, bits) = (random.below(1_000) + 1, random.below(31));
        let _ = writeln!(
            text,
            "int f{number}_{function}(int n) {{\n  int sum = 0;\n  \
             for (int i = 0; i < n; i += {step}) sum ^= (i * {step}) >> {bits};\n  \
             return sum + (n > {step} ? printf(\"%d\", n) : 0);\n}}"
        );
    }
    text
}
