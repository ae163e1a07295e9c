//! What an actor does.

use std::{ffi::CStr, ptr, sync::atomic::Ordering};

use super::{Actor, DEPTH_MAX, EXCHANGE, STEPS_MAX, reap, rest};

/// Users without rights.
const USERS: u64 = 3;
const FIRST_USER: u32 = 60_000;

/// Descriptors in one message, at the most. The recorder sees eight.
const PASSED_MAX: usize = 6;

/// `struct sockaddr_un`: the path begins behind the family.
const UNIX_PATH_AT: usize = 2;

/// Room for the path of a new file.
const PATH_BYTES: usize = 200;

impl Actor<'_> {
    /// One thing, whichever.
    pub(super) fn step(&mut self) {
        self.stage.shared.steps.fetch_add(1, Ordering::Relaxed);
        match self.random.below(100) {
            0..16 => self.open(),
            16..19 => self.create(),
            19 => self.create_directory(),
            20..34 => self.close(),
            34..46 => self.copy(),
            46..50 => self.close_many(),
            50..55 => self.pair(),
            55..60 => self.tcp(),
            60..63 => self.udp(),
            63..67 => self.unix(),
            67..73 => self.pass(),
            73..79 => self.anonymous(),
            79..83 => self.mark(),
            83..86 => self.move_on(),
            86..88 => self.change_user(),
            88 => self.be_alone(),
            89 => self.rename(),
            90..95 => self.give_birth(),
            95..97 => self.start_program(),
            97 if self.depth > 0 => {
                // SAFETY: no arguments.
                unsafe { libc::setsid() };
            }
            _ => reap(),
        }
        let pause = self.random.below(8_000_000) as i64;
        rest(pause);
    }

    /// By a whole path, from where one is, from a directory.
    fn open(&mut self) {
        let (files, names) = (&self.stage.files, &self.stage.names);
        let flags = self.flag(libc::O_CLOEXEC);
        // SAFETY: strings with their end.
        unsafe {
            match self.random.below(3) {
                0 => {
                    libc::open(self.any(files).as_ptr(), flags);
                }
                1 => {
                    libc::open(self.any(names).as_ptr(), flags);
                }
                _ => {
                    let kind = libc::O_DIRECTORY | self.flag(libc::O_PATH);
                    let directory = libc::open(self.any(&self.stage.directories).as_ptr(), kind);
                    libc::openat(directory, self.any(names).as_ptr(), flags);
                    if self.rarely() {
                        libc::close(directory);
                    }
                }
            }
        }
    }

    /// The path of a file nobody has made yet.
    fn new_path(&mut self) -> [u8; PATH_BYTES] {
        let mut path = [0; PATH_BYTES];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            path[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&self.stage.scratch);
        self.made += 1;
        // SAFETY: no arguments.
        let tid = unsafe { libc::gettid() };
        for number in [u64::from(tid.cast_unsigned()), self.made, self.random.below(1 << 30)] {
            let mut digits = [b'.'; 11];
            let mut rest = number;
            for digit in digits[1..].iter_mut().rev() {
                *digit = b'0' + (rest % 10) as u8;
                rest /= 10;
            }
            put(&digits);
        }
        path
    }

    /// A file that is new, or has another name already, or none.
    fn create(&mut self) {
        let path = self.new_path();
        let name = path.as_ptr().cast();
        let flags = libc::O_CREAT | libc::O_RDWR | self.flag(libc::O_CLOEXEC);
        // SAFETY: the path has its end.
        unsafe {
            libc::open(name, flags, 0o644);
            match self.random.below(4) {
                0 | 1 => {
                    libc::unlink(name);
                }
                2 => {
                    libc::rename(name, self.new_path().as_ptr().cast());
                }
                _ => {}
            }
        }
    }

    /// A directory with a file in it, where this thread may be, and which has another name
    /// soon, or none.
    fn create_directory(&mut self) {
        let (path, other) = (self.new_path(), self.new_path());
        let (name, other) = (path.as_ptr().cast(), other.as_ptr().cast());
        let new = libc::O_CREAT | libc::O_RDWR;
        // SAFETY: the paths have their ends.
        unsafe {
            libc::mkdir(name, 0o755);
            let directory = libc::open(name, libc::O_DIRECTORY);
            libc::openat(directory, c"below".as_ptr(), new, 0o644);
            if self.rarely() {
                libc::fchdir(directory);
            }
            match self.random.below(3) {
                0 => {
                    libc::unlinkat(directory, c"below".as_ptr(), 0);
                    libc::rmdir(name);
                }
                1 => {
                    libc::rename(name, other);
                    libc::renameat(directory, c"below".as_ptr(), directory, c"beside".as_ptr());
                }
                _ => {}
            }
        }
    }

    fn close(&mut self) {
        for _ in 0..1 + self.random.below(4) {
            // SAFETY: a number; nothing here owns a descriptor.
            unsafe { libc::close(self.fd()) };
        }
    }

    fn copy(&mut self) {
        let (from, to) = (self.fd(), self.fd());
        let lowest = self.fd();
        // SAFETY: numbers.
        unsafe {
            match self.random.below(5) {
                0 => libc::dup(from),
                1 => libc::dup2(from, to),
                2 => libc::dup3(from, to, self.flag(libc::O_CLOEXEC)),
                3 => libc::fcntl(from, libc::F_DUPFD, lowest),
                _ => libc::fcntl(from, libc::F_DUPFD_CLOEXEC, lowest),
            };
        }
    }

    fn close_many(&mut self) {
        let first = self.fd().cast_unsigned();
        let last = if self.rarely() { 899 } else { first + self.random.below(12) as u32 };
        let flags = [0, 0, libc::CLOSE_RANGE_CLOEXEC, libc::CLOSE_RANGE_UNSHARE];
        let flags = flags[self.random.below(4) as usize];
        // SAFETY: numbers.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    }

    fn pair(&mut self) {
        let mut pair = [0; 2];
        let kinds = [libc::SOCK_STREAM, libc::SOCK_DGRAM, libc::SOCK_SEQPACKET];
        let kind = kinds[self.random.below(3) as usize];
        // SAFETY: room for two descriptors.
        unsafe {
            if self.random.below(2) == 0 {
                libc::pipe2(pair.as_mut_ptr(), self.flag(libc::O_CLOEXEC));
            } else {
                let kind = kind | self.flag(libc::SOCK_CLOEXEC);
                libc::socketpair(libc::AF_UNIX, kind, 0, pair.as_mut_ptr());
            }
        }
    }

    /// A server and its client, of which some stay.
    fn tcp(&mut self) {
        let mut address = loopback();
        let mut length = size_of::<libc::sockaddr_in>() as u32;
        let kind = libc::SOCK_STREAM | self.flag(libc::SOCK_CLOEXEC);
        let (own, other) = (kind | libc::SOCK_NONBLOCK, kind | self.flag(libc::SOCK_NONBLOCK));
        // SAFETY: an address as long as is said.
        unsafe {
            let server = libc::socket(libc::AF_INET, own, 0);
            libc::bind(server, (&raw const address).cast(), length);
            libc::listen(server, 8);
            let named = libc::getsockname(server, (&raw mut address).cast(), &raw mut length);
            if named != 0 || address.sin_port == 0 || self.rarely() {
                return;
            }
            let client = libc::socket(libc::AF_INET, other, 0);
            libc::connect(client, (&raw const address).cast(), length);
            let accepted =
                libc::accept4(server, ptr::null_mut(), ptr::null_mut(), libc::SOCK_NONBLOCK);
            match self.random.below(6) {
                0 => {
                    libc::shutdown(client, libc::SHUT_WR);
                }
                1 => {
                    libc::close(accepted);
                }
                2 | 3 => {
                    libc::close(client);
                    libc::close(accepted);
                }
                _ => {}
            }
            if self.random.below(2) == 0 {
                libc::close(server);
            }
        }
    }

    fn udp(&mut self) {
        let mut address = loopback();
        let mut length = size_of::<libc::sockaddr_in>() as u32;
        let kind = libc::SOCK_DGRAM | self.flag(libc::SOCK_CLOEXEC);
        // SAFETY: an address as long as is said.
        unsafe {
            let server = libc::socket(libc::AF_INET, kind, 0);
            libc::bind(server, (&raw const address).cast(), length);
            libc::getsockname(server, (&raw mut address).cast(), &raw mut length);
            let client = libc::socket(libc::AF_INET, kind, 0);
            if self.random.below(2) == 0 {
                libc::connect(client, (&raw const address).cast(), length);
            }
        }
    }

    /// A server with a path or a name of its own, and its client.
    fn unix(&mut self) {
        // SAFETY: all zeroes are an address.
        let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
        address.sun_family = libc::AF_UNIX as u16;
        let path = self.new_path();
        let name = CStr::from_bytes_until_nul(&path).unwrap_or_default().to_bytes();
        let abstractly = usize::from(self.random.below(2) == 0);
        for (to, from) in address.sun_path[abstractly..].iter_mut().zip(name) {
            *to = *from as libc::c_char;
        }
        let length = (UNIX_PATH_AT + abstractly + name.len()).min(size_of::<libc::sockaddr_un>());
        let length = length as u32;
        let kind = libc::SOCK_STREAM | libc::SOCK_NONBLOCK | self.flag(libc::SOCK_CLOEXEC);
        // SAFETY: an address as long as is said.
        unsafe {
            let server = libc::socket(libc::AF_UNIX, kind, 0);
            libc::bind(server, (&raw const address).cast(), length);
            libc::listen(server, 4);
            let client = libc::socket(libc::AF_UNIX, kind, 0);
            libc::connect(client, (&raw const address).cast(), length);
            if self.random.below(3) > 0 {
                libc::accept4(
                    server,
                    ptr::null_mut(),
                    ptr::null_mut(),
                    self.flag(libc::SOCK_CLOEXEC),
                );
            }
            if self.rarely() {
                libc::close(server);
            }
        }
    }

    /// Some descriptors over a socket, to oneself or to whoever comes first.
    fn pass(&mut self) {
        let mut pair = EXCHANGE;
        let own = self.random.below(2) == 0;
        let count = 1 + self.random.below(PASSED_MAX as u64) as usize;
        let count = if self.rarely() { count } else { 1 };
        let mut fds = [0; PASSED_MAX];
        // SAFETY: room for two descriptors, and strings with their end.
        unsafe {
            if own {
                libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr());
            }
            for fd in &mut fds[..count] {
                *fd = libc::open(self.any(&self.stage.files).as_ptr(), libc::O_RDONLY);
            }
        }
        let close_on_exec = self.flag(libc::MSG_CMSG_CLOEXEC);
        let mut message = Message::default();
        message.send(pair[0], &fds[..count]);
        message.receive(pair[1], libc::MSG_DONTWAIT | close_on_exec);
        for fd in fds[..count].iter().chain(pair.iter().filter(|_| own)) {
            // SAFETY: a number.
            unsafe { libc::close(*fd) };
        }
    }

    fn anonymous(&mut self) {
        let close_on_exec = self.flag(libc::O_CLOEXEC);
        // SAFETY: plain calls; a string with its end, and a set of signals.
        unsafe {
            match self.random.below(7) {
                0 => libc::memfd_create(c"of memory".as_ptr(), self.flag(1) as u32),
                1 => libc::eventfd(0, close_on_exec),
                2 => libc::epoll_create1(close_on_exec),
                3 => libc::timerfd_create(libc::CLOCK_MONOTONIC, close_on_exec),
                4 => libc::inotify_init1(close_on_exec),
                5 => {
                    let mut signals: libc::sigset_t = std::mem::zeroed();
                    libc::sigemptyset(&raw mut signals);
                    libc::signalfd(-1, &raw const signals, close_on_exec)
                }
                _ => libc::syscall(libc::SYS_pidfd_open, libc::getpid(), 0) as i32,
            };
        }
    }

    fn mark(&mut self) {
        let fd = self.fd();
        // SAFETY: numbers.
        unsafe {
            match self.random.below(3) {
                0 => libc::fcntl(fd, libc::F_SETFD, self.flag(libc::FD_CLOEXEC)),
                1 => libc::ioctl(fd, libc::FIOCLEX),
                _ => libc::ioctl(fd, libc::FIONCLEX),
            };
        }
    }

    /// Elsewhere by a path, by a name, by a descriptor.
    fn move_on(&mut self) {
        let directories = &self.stage.directories;
        // SAFETY: strings with their end.
        unsafe {
            match self.random.below(3) {
                0 => {
                    libc::chdir(self.any(directories).as_ptr());
                }
                1 => {
                    libc::chdir(c"..".as_ptr());
                }
                _ => {
                    let to = libc::open(self.any(directories).as_ptr(), libc::O_RDONLY);
                    libc::fchdir(to);
                    libc::close(to);
                }
            }
        }
    }

    /// Of this thread alone: the C library would ask all others.
    fn change_user(&mut self) {
        let user = match self.random.below(USERS + 2) as u32 {
            user @ 0..3 => FIRST_USER + user,
            _ => 0,
        };
        // SAFETY: numbers; it stays root in secret, to become it again.
        unsafe { libc::syscall(libc::SYS_setresuid, -1, user, 0) };
    }

    /// Takes tables of its own.
    fn be_alone(&mut self) {
        let flags = [libc::CLONE_FILES, libc::CLONE_FS, libc::CLONE_FILES | libc::CLONE_FS];
        let flags = flags[self.random.below(3) as usize];
        // SAFETY: a number.
        unsafe { libc::unshare(flags) };
    }

    fn rename(&mut self) {
        let names = [c"one", c"two", c"a longer name (x) y"];
        let name = names[self.random.below(3) as usize];
        // SAFETY: a string with its end.
        unsafe { libc::prctl(libc::PR_SET_NAME, name.as_ptr()) };
    }

    /// A process that shares tables with this one, or has copies.
    fn give_birth(&mut self) {
        if self.depth >= DEPTH_MAX || self.random.below(2) == 0 {
            return;
        }
        let choices = [
            0,
            0,
            libc::CLONE_FILES,
            libc::CLONE_FS,
            libc::CLONE_FILES | libc::CLONE_FS,
            libc::CLONE_PARENT,
        ];
        let flags = choices[self.random.below(6) as usize] | libc::SIGCHLD;
        let seed = self.random.next_u64();
        // SAFETY: like fork: the child has a copy of this memory, and takes no more of it;
        // it never comes back.
        let child = unsafe { libc::syscall(libc::SYS_clone, i64::from(flags), 0, 0, 0, 0) };
        if child != 0 {
            return;
        }
        let mut own = Actor { random: recorder_tests::synth::Random::new(seed), ..*self };
        own.depth += 1;
        own.steps(STEPS_MAX);
        if own.random.below(3) == 0 {
            own.become_program();
        }
        // SAFETY: ends the child.
        unsafe { libc::syscall(libc::SYS_exit_group, 0) };
    }

    pub(super) fn become_program(&mut self) {
        let program = self.any(&self.stage.programs).as_ptr();
        let words = [program, ptr::null()];
        // SAFETY: lists with their ends.
        unsafe { libc::execve(program, words.as_ptr(), words[1..].as_ptr()) };
    }

    /// The way the C library starts programs: this thread waits until the child is one.
    fn start_program(&mut self) {
        let program = self.any(&self.stage.programs).as_ptr();
        let words = [program.cast_mut(), ptr::null_mut()];
        let mut pid = 0;
        let (actions, attributes) = (ptr::null(), ptr::null());
        // SAFETY: lists with their ends.
        unsafe {
            libc::posix_spawn(
                &raw mut pid,
                program,
                actions,
                attributes,
                words.as_ptr(),
                words[1..].as_ptr(),
            );
        }
    }
}

fn loopback() -> libc::sockaddr_in {
    // SAFETY: all zeroes are an address.
    let mut address: libc::sockaddr_in = unsafe { std::mem::zeroed() };
    address.sin_family = libc::AF_INET as u16;
    address.sin_addr.s_addr = u32::from_be_bytes([127, 0, 0, 1]).to_be();
    address
}

/// A message of one byte and some descriptors.
#[derive(Default)]
struct Message {
    byte: [u8; 1],
    control: [u64; 16],
}

impl Message {
    fn send(&mut self, socket: i32, fds: &[i32]) {
        let bytes = size_of_val(fds);
        let mut part = libc::iovec { iov_base: self.byte.as_mut_ptr().cast(), iov_len: 1 };
        // SAFETY: all zeroes are a message; the control buffer has room for sixteen
        // descriptors, and everything it points to lives until the call returns.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
            message.msg_control = self.control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(bytes as u32) as usize;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(bytes as u32) as usize;
            let data = libc::CMSG_DATA(head).cast::<i32>();
            ptr::copy_nonoverlapping(fds.as_ptr(), data, fds.len());
            libc::sendmsg(socket, &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL);
        }
    }

    fn receive(&mut self, socket: i32, flags: i32) {
        let mut part = libc::iovec { iov_base: self.byte.as_mut_ptr().cast(), iov_len: 1 };
        // SAFETY: all zeroes are a message, and everything it points to lives until the
        // call returns.
        unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (&raw mut part, 1);
            message.msg_control = self.control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&self.control);
            libc::recvmsg(socket, &raw mut message, flags);
        }
    }
}
