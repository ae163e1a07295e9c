//! Calls of our own making, for windows larger than a load fills in short time.

use std::{ffi::CString, os::fd::IntoRawFd as _, thread::sleep, time::Duration};

use recorder_tests::{Child, synth::Random};

/// Turns of the server's loop before its process rests.
const TURNS: usize = 512;

/// Calls of one turn, on average: eight, and four more in every eighth.
const FILES_EVERY: usize = 8;

/// A process that makes the calls of a server, as many as it can between rests of
/// `rest`, until it is dropped.
pub(crate) fn like_a_server(rest: Duration) -> Child {
    let files = ["/etc/passwd", "/etc/hosts", "/etc/hostname", "/etc/absent", "/etc/group"];
    let files: Vec<CString> = files.iter().filter_map(|name| CString::new(*name).ok()).collect();
    Child::fork(move || {
        end_with_the_bench();
        let Some(pipe) = Pipe::new() else { return 1 };
        // SAFETY: a call without arguments.
        let epoll = unsafe { libc::epoll_create1(0) };
        loop {
            for turn in 0..TURNS {
                pipe.turn(epoll);
                if turn.is_multiple_of(FILES_EVERY)
                    && let Some(file) = files.get(turn / FILES_EVERY % files.len())
                {
                    open_and_close(file);
                }
            }
            // The rate is what the caller asks for.
            sleep(rest);
        }
    })
}

/// A process that asks for files whose long names nobody has ever used, without a
/// rest, until it is dropped: nothing of that can be compressed.
pub(crate) fn long_new_paths(seed: u64) -> Child {
    Child::fork(move || {
        end_with_the_bench();
        let mut random = Random::new(seed);
        let mut path = b"/tmp".to_vec();
        loop {
            path.truncate(4);
            // Below the longest a path may be, in parts as long as a name may be.
            while path.len() < 3_900 {
                path.push(b'/');
                path.extend((0..200).map(|_| b'a' + (random.next_u64() % 26) as u8));
            }
            path.push(0);
            // SAFETY: a string that ends with a NUL.
            unsafe { libc::access(path.as_ptr().cast(), libc::F_OK) };
        }
    })
}

/// Whatever happens to the bench, nothing of it goes on making calls.
fn end_with_the_bench() {
    // SAFETY: takes a number and keeps it.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

fn open_and_close(file: &CString) {
    let mut buffer = [0u8; 256];
    // SAFETY: a string that ends with a NUL; room for what is read.
    unsafe {
        let descriptor = libc::open(file.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC);
        if descriptor >= 0 {
            libc::read(descriptor, buffer.as_mut_ptr().cast(), buffer.len());
            libc::lseek(descriptor, 0, libc::SEEK_SET);
            libc::close(descriptor);
        }
    }
}

/// Two ends of a connection within the process.
struct Pipe {
    ends: [i32; 2],
}

impl Pipe {
    fn new() -> Option<Pipe> {
        let (one, other) = std::os::unix::net::UnixStream::pair().ok()?;
        other.set_nonblocking(true).ok()?;
        Some(Pipe { ends: [one.into_raw_fd(), other.into_raw_fd()] })
    }

    /// A request and its answer, and the calls around them.
    fn turn(&self, epoll: i32) {
        let [client, server] = self.ends;
        let mut buffer = [0u8; 128];
        let bytes = buffer.as_mut_ptr().cast::<libc::c_void>();
        // SAFETY: descriptors of this process, and room for what is said.
        unsafe {
            let mut events: [libc::epoll_event; 4] = std::mem::zeroed();
            libc::write(client, bytes, 64);
            libc::epoll_wait(epoll, events.as_mut_ptr(), 4, 0);
            libc::recv(server, bytes, 128, 0);
            // Empty by now: the failure most servers make most.
            libc::recv(server, bytes, 128, 0);
            libc::send(server, bytes, 100, 0);
            libc::read(client, bytes, 128);
            libc::getppid();
        }
    }
}
