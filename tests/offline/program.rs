//! The program `recorder`, as a user would run it.

use std::{
    env,
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// What a run of the program came to.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The program, beside this test's own file unless `RECORDER_BIN` names it.
pub(crate) fn path() -> PathBuf {
    let path = env::var_os("RECORDER_BIN").map(PathBuf::from).unwrap_or_else(|| {
        let own = env::current_exe().unwrap();
        own.parent().and_then(Path::parent).unwrap().join("recorder")
    });
    assert!(
        path.is_file(),
        "{} is not there: build it with `cargo build -p recorder --no-default-features`",
        path.display()
    );
    path
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(path());
    command.env_remove("COLUMNS").env_remove("RUST_LOG");
    command
}

pub(crate) fn run<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Ran {
    finished(command().args(arguments).output().unwrap())
}

pub(crate) fn finished(output: Output) -> Ran {
    Ran {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).expect("standard output is UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("standard error is UTF-8"),
    }
}

impl Ran {
    /// Asserts the exit code, and one line on standard error that is no panic.
    pub(crate) fn failed_with(&self, code: i32, what: &str) {
        let Ran { stderr, .. } = self;
        assert_eq!(self.code, Some(code), "{what}: {stderr}");
        assert!(!stderr.contains("panicked"), "{what}: {stderr}");
        assert_eq!(stderr.lines().count(), 1, "{what}: not one line: {stderr}");
        assert!(stderr.starts_with("recorder: "), "{what}: {stderr}");
    }

    /// Asserts that it went well without a word on standard error.
    pub(crate) fn succeeded(&self, what: &str) {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{what}");
    }
}
