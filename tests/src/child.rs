//! Children that make exactly the calls a test wants to find again.

use std::{ffi::CStr, fs, io, panic::AssertUnwindSafe};

use crate::{LIMIT, wait_for, wait_until};

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// With an exit code.
    Code(i32),
    /// By a signal.
    Signal(i32),
}

/// A child made by fork(2): it runs code of the test, nothing is started before
/// or after. Dropping it kills it.
#[derive(Debug)]
pub struct Child {
    pid: i32,
    ended: Option<Ended>,
}

impl Child {
    /// Runs `work` in a new process; what it answers is the exit code. The tests run
    /// on one thread, so no lock of another one is left behind in the child.
    pub fn fork(work: impl FnOnce() -> i32) -> Child {
        // SAFETY: the child only runs `work` and `_exit`.
        match unsafe { libc::fork() } {
            -1 => panic!("fork: {}", io::Error::last_os_error()),
            0 => {
                let code = std::panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or(101);
                // SAFETY: ends the child; nothing of the parent is flushed twice.
                unsafe { libc::_exit(code) }
            }
            pid => Child { pid, ended: None },
        }
    }

    /// Its process.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Waits for its end.
    #[track_caller]
    pub fn wait(&mut self) -> Ended {
        let ended = wait_for(&format!("the end of child {}", self.pid), || self.try_wait());
        self.ended = Some(ended);
        ended
    }

    /// Waits for its end, which must be exit code 0.
    #[track_caller]
    pub fn finish(mut self) -> i32 {
        assert_eq!(self.wait(), Ended::Code(0), "the child does its work");
        self.pid
    }

    /// How it ended, when it has.
    pub fn ended(&mut self) -> Option<Ended> {
        self.ended = self.try_wait();
        self.ended
    }

    fn try_wait(&mut self) -> Option<Ended> {
        if self.ended.is_some() {
            return self.ended;
        }
        let mut status = 0;
        // SAFETY: our child, and `status` is writable.
        let answer = unsafe { libc::waitpid(self.pid, &raw mut status, libc::WNOHANG) };
        match answer {
            0 => None,
            _ if answer != self.pid => panic!("waitpid: {}", io::Error::last_os_error()),
            _ if libc::WIFSIGNALED(status) => Some(Ended::Signal(libc::WTERMSIG(status))),
            _ => Some(Ended::Code(libc::WEXITSTATUS(status))),
        }
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: i32) {
        // SAFETY: our child and not reaped, so the number is its own.
        assert_eq!(unsafe { libc::kill(self.pid, signal) }, 0, "a signal to the child");
    }

    /// Waits until its first thread sleeps in the call with this number.
    #[track_caller]
    pub fn wait_in_call(&self, nr: libc::c_long) {
        let path = format!("/proc/{}/syscall", self.pid);
        wait_until(&format!("child {} to be in call {nr}", self.pid), || {
            let now = fs::read_to_string(&path).unwrap_or_default();
            now.split_whitespace().next() == Some(nr.to_string().as_str())
        });
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.try_wait().is_none() {
            self.signal(libc::SIGKILL);
            // SAFETY: our child; killed, so this ends.
            unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
        }
    }
}

/// A pipe whose ends survive a fork, to tell one another that something is so.
#[derive(Clone, Copy, Debug)]
pub struct Pipe {
    /// The end that is read.
    pub reader: i32,
    /// The end that is written.
    pub writer: i32,
}

impl Pipe {
    /// A new one. The descriptors live as long as the test.
    pub fn new() -> Pipe {
        let mut ends = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) }, 0, "a pipe");
        Pipe { reader: ends[0], writer: ends[1] }
    }

    /// Says that it is so.
    pub fn tell(&self) {
        // SAFETY: one byte that is there.
        unsafe { libc::write(self.writer, b"x".as_ptr().cast(), 1) };
    }

    /// Waits until the other side said so.
    #[track_caller]
    pub fn wait(&self) {
        let mut poll = libc::pollfd { fd: self.reader, events: libc::POLLIN, revents: 0 };
        let mut byte = 0u8;
        // SAFETY: one descriptor, and room for one byte.
        unsafe {
            let ready = libc::poll(&raw mut poll, 1, LIMIT.as_millis() as i32);
            assert_eq!(ready, 1, "waited {} s for a word through a pipe", LIMIT.as_secs());
            libc::read(self.reader, (&raw mut byte).cast(), 1);
        }
    }
}

impl Default for Pipe {
    fn default() -> Pipe {
        Pipe::new()
    }
}

/// The error of the last call.
pub fn errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or_default()
}

/// Keeps the current thread on one CPU.
pub fn pin(cpu: usize) {
    // SAFETY: a set of CPUs is plain numbers, and as long as is said.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        let set_up = libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
        assert_eq!(set_up, 0, "a thread on CPU {cpu}: {}", io::Error::last_os_error());
    }
}

/// Gives the current thread another name, at most 15 bytes of it.
pub fn rename_thread(name: &CStr) {
    // SAFETY: a string with its NUL.
    unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
}

/// The number of the current thread.
pub fn this_thread() -> i32 {
    // SAFETY: only reads a number.
    unsafe { libc::gettid() }
}
