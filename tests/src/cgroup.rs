//! A control group with a limit on memory, in which the kernel really runs out of it.

use std::{
    ffi::CString,
    fs, io,
    path::{Path, PathBuf},
};

use crate::{TestDirectory, wait_until};

/// A control group for processes that may not have more memory than it allows.
/// Dropping it removes it; by then they must have ended.
#[derive(Debug)]
pub struct MemoryGroup {
    path: PathBuf,
    /// Where the hierarchy was mounted for this test, when nobody had.
    mounted: Option<TestDirectory>,
}

impl MemoryGroup {
    /// A new group. Where this machine has no controller for memory: why.
    pub fn new(limit_bytes: u64) -> Result<MemoryGroup, String> {
        let (root, mounted) = match mounted_hierarchy() {
            Some(root) => (root, None),
            None => {
                let directory = TestDirectory::new();
                mount(directory.path())?;
                (directory.path().to_path_buf(), Some(directory))
            }
        };
        let path = root.join(format!("recorder-test-{}", std::process::id()));
        let group = MemoryGroup { path, mounted };
        let cannot = |what: &str, error: io::Error| {
            format!("no group with a limit on memory in {}: {what}: {error}", root.display())
        };
        let unified = root.join("cgroup.controllers").exists();
        if unified {
            fs::write(root.join("cgroup.subtree_control"), "+memory")
                .map_err(|error| cannot("memory is not delegated", error))?;
        }
        fs::create_dir(&group.path).map_err(|error| cannot("mkdir", error))?;
        let limit = limit_bytes.to_string();
        let (file, swap, swap_limit) = if unified {
            ("memory.max", "memory.swap.max", "0")
        } else {
            ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", limit.as_str())
        };
        fs::write(group.path.join(file), &limit).map_err(|error| cannot(file, error))?;
        // A kernel without swap has no limit for it either.
        let _ = fs::write(group.path.join(swap), swap_limit);
        Ok(group)
    }

    /// Moves the current process into the group. Answers whether it is in.
    pub fn enter(&self) -> bool {
        fs::write(self.path.join("cgroup.procs"), "0").is_ok()
    }
}

impl Drop for MemoryGroup {
    fn drop(&mut self) {
        if self.path.is_dir() && !std::thread::panicking() {
            // What died in it leaves it a moment later.
            wait_until("the group to be empty", || fs::remove_dir(&self.path).is_ok());
        }
        if let Some(directory) = &self.mounted {
            let Ok(path) = CString::new(directory.path().as_os_str().as_encoded_bytes()) else {
                return;
            };
            // SAFETY: a string with its NUL.
            unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
        }
    }
}

/// Where a hierarchy with the controller for memory is mounted: the first version's,
/// or the second's where it has it.
fn mounted_hierarchy() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (path, kind, options) = (Path::new(words.next()?), words.next()?, words.next()?);
        let has_memory = match kind {
            "cgroup" => options.split(',').any(|option| option == "memory"),
            "cgroup2" => controls_memory(path),
            _ => false,
        };
        has_memory.then(|| path.to_path_buf())
    })
}

fn controls_memory(root: &Path) -> bool {
    let controllers = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    controllers.split_whitespace().any(|name| name == "memory")
}

/// Mounts the second version's hierarchy.
fn mount(directory: &Path) -> Result<(), String> {
    let path = CString::new(directory.as_os_str().as_encoded_bytes())
        .map_err(|error| format!("a path with a NUL: {error}"))?;
    let kind = c"cgroup2".as_ptr();
    // SAFETY: strings with their NUL.
    let done = unsafe { libc::mount(kind, path.as_ptr(), kind, 0, std::ptr::null()) };
    if done != 0 {
        return Err(format!("cgroup2 cannot be mounted: {}", io::Error::last_os_error()));
    }
    if controls_memory(directory) {
        return Ok(());
    }
    // SAFETY: a string with its NUL.
    unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) };
    Err("this kernel has no controller for memory".to_string())
}

/// Takes this many bytes of memory and writes to each page of it.
pub fn take_memory(bytes: usize) {
    /// The smallest page there is.
    const PAGE_BYTES: usize = 4096;
    let (protection, flags) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: new memory of our own, written within its length.
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0);
        assert_ne!(memory, libc::MAP_FAILED, "mmap: {}", io::Error::last_os_error());
        for at in (0..bytes).step_by(PAGE_BYTES) {
            memory.cast::<u8>().add(at).write_volatile(1);
        }
    }
}
