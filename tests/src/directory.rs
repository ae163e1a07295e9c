//! A directory that is gone when the test is over.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A new directory below the one for temporary files.
#[derive(Debug)]
pub struct TestDirectory(PathBuf);

impl TestDirectory {
    /// Makes it; everybody may enter, as tests run programs without rights.
    pub fn new() -> TestDirectory {
        use std::os::unix::fs::PermissionsExt as _;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("recorder-test-{}-{number}", std::process::id());
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a directory for the test");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its permissions");
        TestDirectory(path)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A path below it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Default for TestDirectory {
    fn default() -> TestDirectory {
        TestDirectory::new()
    }
}

impl Drop for TestDirectory {
    fn drop(&mut self) {
        // What cannot be removed is left to whoever cleans the directory for
        // temporary files.
        let _ = fs::remove_dir_all(&self.0);
    }
}
