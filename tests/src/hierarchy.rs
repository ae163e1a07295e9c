//! Hierarchies of control groups, and groups with names of a test's choice.

use std::{
    ffi::CString,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{TestDirectory, wait_until};

/// A hierarchy; unmounted when it is dropped, if it was mounted for this test.
#[derive(Debug)]
pub struct Hierarchy {
    root: PathBuf,
    /// Controllers or name as `/proc/PID/cgroup` has them.
    controllers: String,
    mounted: Option<TestDirectory>,
}

impl Hierarchy {
    /// Version 2. Where this machine has none: why.
    pub fn unified() -> Result<Hierarchy, String> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let root = mounts.lines().find_map(|line| {
            let mut words = line.split(' ').skip(1);
            let (path, kind) = (words.next()?, words.next()?);
            (kind == "cgroup2").then(|| PathBuf::from(path))
        });
        match root {
            Some(root) => Ok(Hierarchy { root, controllers: String::new(), mounted: None }),
            None => Hierarchy::mount("cgroup2", "", String::new()),
        }
    }

    /// A new one of version 1 with this name and without controllers.
    pub fn named(name: &str) -> Result<Hierarchy, String> {
        Hierarchy::mount("cgroup", &format!("none,name={name}"), format!("name={name}"))
    }

    fn mount(kind: &str, options: &str, controllers: String) -> Result<Hierarchy, String> {
        let directory = TestDirectory::new();
        let root = directory.path().to_path_buf();
        let text = |text: &[u8]| CString::new(text).map_err(|error| error.to_string());
        let path = text(root.as_os_str().as_encoded_bytes())?;
        let (kind, options) = (text(kind.as_bytes())?, text(options.as_bytes())?);
        // SAFETY: strings with their NUL.
        let done = unsafe {
            libc::mount(kind.as_ptr(), path.as_ptr(), kind.as_ptr(), 0, options.as_ptr().cast())
        };
        if done != 0 {
            return Err(format!("{kind:?} is not mounted: {}", io::Error::last_os_error()));
        }
        Ok(Hierarchy { root, controllers, mounted: Some(directory) })
    }

    /// Its number, as `/proc/PID/cgroup` and the events have it.
    #[track_caller]
    pub fn number(&self) -> u64 {
        let own = fs::read_to_string("/proc/self/cgroup").expect("groups of this process");
        let number = own.lines().find_map(|line| {
            let mut parts = line.split(':');
            let (number, controllers) = (parts.next()?, parts.next()?);
            (controllers == self.controllers).then(|| number.parse().ok())?
        });
        number.expect("a line of this hierarchy")
    }

    /// Makes a group and those above it that are not there.
    #[track_caller]
    pub fn make(&self, path: &str) -> ControlGroup {
        let mut directories = Vec::new();
        let mut directory = self.root.clone();
        for name in path.split('/').filter(|name| !name.is_empty()) {
            directory.push(name);
            match fs::create_dir(&directory) {
                Ok(()) => directories.push(directory.clone()),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => panic!("mkdir {}: {error}", directory.display()),
            }
        }
        ControlGroup { directory, directories }
    }
}

impl Drop for Hierarchy {
    fn drop(&mut self) {
        // Before the directory goes: it must be empty by then.
        let Some(directory) = &self.mounted else { return };
        if let Ok(path) = CString::new(directory.path().as_os_str().as_encoded_bytes()) {
            // SAFETY: a string with its NUL.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// A group; removed when it is dropped, with those above it that were made for it.
#[derive(Debug)]
pub struct ControlGroup {
    directory: PathBuf,
    /// Those that were made, the outermost first.
    directories: Vec<PathBuf>,
}

impl ControlGroup {
    /// Where it is.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Its id.
    #[track_caller]
    pub fn id(&self) -> u64 {
        fs::metadata(&self.directory).expect("a group").ino()
    }

    /// Moves the current process into it. Answers whether it is in.
    pub fn enter(&self) -> bool {
        fs::write(self.directory.join("cgroup.procs"), "0").is_ok()
    }

    /// Removes it, once everybody has left.
    pub fn remove(self) {}
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        for directory in self.directories.iter().rev() {
            if std::thread::panicking() {
                // Gone or not, the failure is another one.
                let _ = fs::remove_dir(directory);
            } else {
                // What died in it leaves it a moment later.
                wait_until("a group to be empty", || fs::remove_dir(directory).is_ok());
            }
        }
    }
}
