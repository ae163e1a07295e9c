//! What calls point to: structures and lists, and every way in which reading them can go
//! wrong.

use std::{fs::File, os::fd::AsRawFd as _, ptr};

use recorder_tests::{Child, Pipe, RecorderProcess, TestDirectory, calls, errno, one, text};
use serde_json::{Value, json};

/// Records a child that does `work`, which must end with 0, and answers its events.
#[track_caller]
fn record(work: impl FnOnce() -> i32) -> Vec<Value> {
    let recorder = RecorderProcess::start();
    let pid = Child::fork(work).finish();
    recorder.events_of(pid)
}

/// The arguments of the only call of this name.
#[track_caller]
fn args<'a>(events: &'a [Value], name: &str) -> &'a Value {
    &one(events, name, |event| event["name"] == name)["args"]
}

/// The arguments of calls of this name, in order.
fn all_args<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    calls(events, name).into_iter().map(|call| &call["args"]).collect()
}

const PAGE: usize = 4096;

/// Two pages, of which the second is not there any more.
fn page_with_an_end() -> *mut u8 {
    // SAFETY: memory of our own, of which the second half is given back.
    unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let pages = libc::mmap(ptr::null_mut(), 2 * PAGE, access, kind, -1, 0).cast::<u8>();
        libc::munmap(pages.add(PAGE).cast(), PAGE);
        pages
    }
}

#[test]
fn what_the_kernel_wrote_is_shown_when_the_call_succeeded() {
    let directory = TestDirectory::new();
    let path = directory.join("file");
    std::fs::write(&path, [b'x'; 1234]).expect("a file");
    let file = File::open(&path).expect("the file");
    let fd = file.as_raw_fd();
    let events = record(|| {
        // SAFETY: room for what is asked for.
        unsafe {
            let mut status: libc::stat = std::mem::zeroed();
            let good = libc::syscall(libc::SYS_fstat, fd, &raw mut status);
            let bad = libc::syscall(libc::SYS_fstat, -1, &raw mut status);
            let mut pair = [0; 2];
            let piped = libc::syscall(libc::SYS_pipe2, pair.as_mut_ptr(), libc::O_CLOEXEC);
            i32::from((good, bad, piped) != (0, -1, 0))
        }
    });
    let stats = all_args(&events, "fstat");
    let shown = &stats[0]["statbuf"];
    assert_eq!((&shown["st_size"], &shown["st_nlink"]), (&json!(1234), &json!(1)), "{shown}");
    assert!(text(&shown["st_mode"]).starts_with("S_IFREG|0"), "{shown}");
    // Of a call that failed the memory holds what was there before.
    assert!(text(&stats[1]["statbuf"]).starts_with("0x"), "{}", stats[1]);
    let pair = args(&events, "pipe2");
    let ends = pair["fildes"].as_array().expect("two descriptors");
    assert_eq!((ends.len(), &pair["flags"]), (2, &json!("O_CLOEXEC")), "{pair}");
    assert_ne!(ends[0], ends[1]);
}

#[test]
fn lists_have_their_count_and_are_cut_at_their_bound() {
    let pipe = Pipe::new();
    let (reader, writer) = (pipe.reader, pipe.writer);
    let events = record(|| {
        let mut waits = [libc::pollfd { fd: writer, events: libc::POLLOUT, revents: 0 }; 40];
        waits[1] = libc::pollfd { fd: reader, events: libc::POLLIN, revents: 0 };
        let words: [&[u8]; 3] = [b"one", b"", b"three"];
        let vectors = words.map(|word| libc::iovec {
            iov_base: word.as_ptr().cast_mut().cast(),
            iov_len: word.len(),
        });
        // SAFETY: lists as long as they are said to be.
        unsafe {
            let few = libc::poll(waits.as_mut_ptr(), 2, 0);
            let many = libc::poll(waits.as_mut_ptr(), 40, 0);
            let written = libc::writev(writer, vectors.as_ptr(), 3);
            let empty = libc::writev(writer, vectors.as_ptr(), 0);
            i32::from((few, many, written, empty) != (1, 39, 8, 0))
        }
    });
    let polls = all_args(&events, "poll");
    let few = polls[0]["ufds"].as_array().expect("a list");
    assert_eq!(few[0], json!({"fd": writer, "events": "POLLOUT", "revents": "POLLOUT"}));
    assert_eq!(few[1], json!({"fd": reader, "events": "POLLIN", "revents": "0"}));
    assert_eq!((few.len(), polls[0].get("ufds_cut")), (2, None));
    // 256 bytes of it.
    let many = polls[1]["ufds"].as_array().expect("a list");
    assert_eq!((many.len(), &polls[1]["ufds_cut"]), (32, &json!(true)));
    let writes = all_args(&events, "writev");
    let lengths: Vec<&Value> =
        writes[0]["vec"].as_array().expect("a list").iter().map(|one| &one["iov_len"]).collect();
    assert_eq!(lengths, [3, 0, 5]);
    assert_eq!(writes[1]["vec"], json!([]));
}

#[test]
fn memory_that_cannot_be_read_is_marked_and_never_made_up() {
    let events = record(|| {
        let page = page_with_an_end();
        // SAFETY: calls that fail for want of memory to read.
        unsafe {
            // The second half of the structure is not there.
            let across = page.add(PAGE - 8);
            let slept = libc::syscall(libc::SYS_nanosleep, across, 0);
            let wild = libc::syscall(libc::SYS_clock_nanosleep, libc::CLOCK_MONOTONIC, 0, 8, 0);
            let acted = libc::syscall(libc::SYS_rt_sigaction, libc::SIGUSR1, across, 0, 8);
            let is_fault = errno() == libc::EFAULT;
            i32::from(!((slept, wild, acted) == (-1, -1, -1) && is_fault))
        }
    });
    for (name, arg) in [("nanosleep", "rqtp"), ("clock_nanosleep", "rqtp"), ("rt_sigaction", "act")]
    {
        let args = args(&events, name);
        assert_eq!(args[arg], Value::Null, "{args}");
        assert_eq!(args[format!("{arg}_unreadable")], json!(true), "{args}");
    }
    // No address was given.
    let slept = args(&events, "nanosleep");
    assert_eq!((&slept["rmtp"], slept.get("rmtp_unreadable")), (&Value::Null, None));
}

#[test]
fn an_argument_says_what_the_others_are() {
    let directory = TestDirectory::new();
    let file = File::create(directory.join("file")).expect("a file");
    let fd = file.as_raw_fd();
    let events = record(|| {
        // SAFETY: structures as the calls want them; the words behind are garbage.
        unsafe {
            let garbage = 0x1234_5678_usize;
            libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFD, garbage);
            libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFD, libc::FD_CLOEXEC);
            libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFL, libc::O_APPEND);
            let mut lock: libc::flock = std::mem::zeroed();
            (lock.l_type, lock.l_len) = (libc::F_WRLCK as i16, 7);
            let locked = libc::syscall(libc::SYS_fcntl, fd, libc::F_SETLK, &raw const lock);
            libc::prctl(libc::PR_SET_NAME, c"renamed".as_ptr());
            let word = 5u32;
            let wakes = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
            libc::syscall(libc::SYS_futex, &raw const word, wakes, 1, garbage, garbage, garbage);
            let unknown = libc::syscall(libc::SYS_ioctl, fd, 0x4123_5501_u32, garbage);
            i32::from((locked, unknown) != (0, -1))
        }
    });
    let controls = all_args(&events, "fcntl");
    let by_command =
        |command: &str| *controls.iter().find(|args| args["cmd"] == command).expect(command);
    assert_eq!(by_command("F_GETFD").get("arg"), None);
    assert_eq!(by_command("F_SETFD")["arg"], "FD_CLOEXEC");
    assert_eq!(by_command("F_SETFL")["arg"], "O_RDONLY|O_APPEND");
    let lock = &by_command("F_SETLK")["arg"];
    assert_eq!(
        (&lock["l_type"], &lock["l_whence"], &lock["l_len"]),
        (&json!("F_WRLCK"), &json!("SEEK_SET"), &json!(7))
    );
    assert_eq!(args(&events, "prctl")["arg2"], "renamed");
    let futexes = all_args(&events, "futex");
    let woken = futexes.iter().find(|args| text(&args["op"]).starts_with("FUTEX_WAKE"));
    let woken = woken.expect("the futex").as_object().expect("an object");
    assert_eq!(woken.keys().filter(|name| !name.contains('_')).count(), 3, "{woken:?}");
    let request = args(&events, "ioctl");
    assert_eq!(request["cmd"], "_IOC(_IOC_WRITE, 0x55, 0x1, 0x123)");
    assert_eq!(request["arg"], "0x12345678");
}

#[test]
fn a_message_shows_its_address_vectors_and_descriptors() {
    let pipe = Pipe::new();
    let sent = pipe.reader;
    let events = record(|| {
        let mut pair = [0; 2];
        let mut word = *b"word";
        let mut vector = libc::iovec { iov_base: word.as_mut_ptr().cast(), iov_len: 4 };
        let mut control = [0u64; 4];
        // SAFETY: a message as sendmsg(2) wants it, and room for one.
        unsafe {
            libc::socketpair(libc::AF_UNIX, libc::SOCK_DGRAM, 0, pair.as_mut_ptr());
            let mut message: libc::msghdr = std::mem::zeroed();
            (message.msg_iov, message.msg_iovlen) = (&raw mut vector, 1);
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            let head = libc::CMSG_FIRSTHDR(&raw const message);
            (*head).cmsg_level = libc::SOL_SOCKET;
            (*head).cmsg_type = libc::SCM_RIGHTS;
            (*head).cmsg_len = libc::CMSG_LEN(4) as _;
            libc::CMSG_DATA(head).cast::<i32>().write_unaligned(sent);
            let given = libc::sendmsg(pair[0], &raw const message, 0);
            message.msg_controllen = libc::CMSG_SPACE(4) as _;
            let got = libc::recvmsg(pair[1], &raw mut message, libc::MSG_CMSG_CLOEXEC);
            let mut length = 4;
            let mut kind = 0;
            libc::getsockopt(
                pair[0],
                libc::SOL_SOCKET,
                libc::SO_TYPE,
                (&raw mut kind).cast(),
                &raw mut length,
            );
            let on = 1;
            libc::setsockopt(
                pair[0],
                libc::SOL_SOCKET,
                libc::SO_PASSCRED,
                (&raw const on).cast(),
                4,
            );
            i32::from((given, got) != (4, 4))
        }
    });
    let made = args(&events, "socketpair");
    assert_eq!(made["usockvec"].as_array().map(Vec::len), Some(2), "{made}");
    let message = &args(&events, "sendmsg")["msg"];
    assert_eq!(message["msg_iov"][0]["iov_len"], 4, "{message}");
    let control = &message["msg_control"][0];
    assert_eq!(
        (&control["cmsg_level"], &control["cmsg_type"], &control["cmsg_data"]),
        (&json!("SOL_SOCKET"), &json!("SCM_RIGHTS"), &json!([sent])),
        "{message}"
    );
    assert_eq!(message["msg_name"], "NULL", "{message}");
    let got = &args(&events, "recvmsg")["msg"];
    let descriptor = got["msg_control"][0]["cmsg_data"][0].as_i64().expect("a descriptor");
    assert!(descriptor > 2 && descriptor != i64::from(sent), "{got}");
    assert_eq!(got["msg_flags"], "MSG_CMSG_CLOEXEC", "{got}");
    let asked = args(&events, "getsockopt");
    assert_eq!(
        (&asked["optname"], &asked["optval"], &asked["optlen"]),
        (&json!("SO_TYPE"), &json!(2), &json!(4))
    );
    let set = args(&events, "setsockopt");
    assert_eq!((&set["optname"], &set["optval"]), (&json!("SO_PASSCRED"), &json!(1)));
}

#[test]
fn ends_signals_and_times_are_in_words() {
    let events = record(|| {
        // SAFETY: calls with room for what they write.
        unsafe {
            let ended = libc::fork();
            if ended == 0 {
                libc::_exit(7);
            }
            let mut status = 0;
            libc::wait4(ended, &raw mut status, 0, ptr::null_mut());
            let killed = libc::fork();
            if killed == 0 {
                libc::pause();
            }
            libc::kill(killed, libc::SIGKILL);
            libc::wait4(killed, &raw mut status, 0, ptr::null_mut());
            let nobody = libc::wait4(-1, &raw mut status, libc::WNOHANG, ptr::null_mut());
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, libc::SIGUSR1);
            libc::sigaddset(&raw mut set, libc::SIGTERM);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, ptr::null_mut());
            let nap = libc::timespec { tv_sec: 0, tv_nsec: 1_000 };
            libc::nanosleep(&raw const nap, ptr::null_mut());
            let limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            libc::setrlimit(libc::RLIMIT_CORE, &raw const limit);
            i32::from(nobody != -1)
        }
    });
    let waits = all_args(&events, "wait4");
    assert_eq!(waits[0]["stat_addr"], "{WIFEXITED(s) && WEXITSTATUS(s) == 7}");
    assert_eq!(waits[1]["stat_addr"], "{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}");
    assert!(text(&waits[2]["stat_addr"]).starts_with("0x"), "{}", waits[2]);
    let masks = all_args(&events, "rt_sigprocmask");
    assert!(masks.iter().any(|args| args["nset"] == "[USR1 TERM]"), "{masks:?}");
    let naps = all_args(&events, "clock_nanosleep");
    let naps = naps.into_iter().chain(all_args(&events, "nanosleep"));
    let expected = json!({"tv_sec": 0, "tv_nsec": 1000});
    assert!(naps.into_iter().any(|args| args["rqtp"] == expected));
    let limits = all_args(&events, "prlimit64");
    assert!(limits.iter().any(|args| args["new_rlim"]["rlim_cur"] == "0"), "{limits:?}");
}

/// What a call that waits was given is read while it waits.
#[test]
fn a_call_that_has_not_returned_shows_what_it_waits_for() {
    let recorder = RecorderProcess::start();
    let pipe = Pipe::new();
    let reader = pipe.reader;
    let child = Child::fork(move || {
        let mut wait = libc::pollfd { fd: reader, events: libc::POLLIN, revents: 0 };
        // SAFETY: a list of one.
        unsafe { i32::from(libc::poll(&raw mut wait, 1, -1) != 1) }
    });
    child.wait_in_call(libc::SYS_poll);
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &["--pid", &child.pid().to_string()]);
    let waiting = one(&events, "poll", |event| event["name"] == "poll");
    assert_eq!(waiting["unfinished"], true);
    let expected = json!([{"fd": reader, "events": "POLLIN", "revents": "0"}]);
    assert_eq!(waiting["args"]["ufds"], expected, "{waiting}");
    pipe.tell();
    child.finish();
}
