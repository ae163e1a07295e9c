//! System calls: the ordinary one, and every exception of its way.

use std::{
    ffi::{CStr, CString},
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
    ptr,
};

use recorder_tests::{
    Child, Ended, Pipe, RecorderProcess, TestDirectory, calls, errno, kind, last_deed, number,
    of_pid, one, position, text,
};
use serde_json::{Value, json};

/// A path nothing has.
pub(super) const NOWHERE: &CStr = c"/nonexistent/recorder-test";

/// Records a child that does `work`, and answers its events. The child must end
/// with 0.
#[track_caller]
pub(super) fn record(work: impl FnOnce() -> i32) -> Vec<Value> {
    let recorder = RecorderProcess::start();
    let pid = Child::fork(work).finish();
    let events = recorder.events_of(pid);
    assert!(!events.is_empty(), "the child was recorded");
    events
}

/// The only call of this name.
#[track_caller]
pub(super) fn call<'a>(events: &'a [Value], name: &str) -> &'a Value {
    one(events, name, |event| event["name"] == name)
}

#[test]
fn an_ordinary_call_has_arguments_result_and_duration() {
    let events = record(|| {
        // SAFETY: strings with their NUL.
        unsafe {
            let flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_NOFOLLOW;
            let fd = libc::openat(libc::AT_FDCWD, c"/etc/hostname".as_ptr(), flags);
            let refused = libc::openat(fd, NOWHERE.as_ptr(), libc::O_WRONLY | libc::O_CREAT, 0o640);
            i32::from(!(fd >= 0 && refused == -1))
        }
    });
    let opened = one(&events, "openat", |event| event["args"]["filename"] == "/etc/hostname");
    assert_eq!(opened["args"]["dfd"], "AT_FDCWD");
    let flags: Vec<&str> = text(&opened["args"]["flags"]).split('|').collect();
    assert_eq!(flags.len(), 3, "{opened}");
    for flag in ["O_RDONLY", "O_CLOEXEC", "O_NOFOLLOW"] {
        assert!(flags.contains(&flag), "{opened}");
    }
    assert!(number(&opened["dur_ns"]) > 0, "{opened}");
    for absent in ["errno", "no_entry", "no_return", "compat", "unfinished"] {
        assert_eq!(opened.get(absent), None, "{opened}");
    }
    let fd = &opened["ret"];
    let failed = one(&events, "openat that failed", |event| event["errno"] == "ENOENT");
    assert_eq!(failed["args"]["dfd"], *fd, "{failed}");
    assert_eq!(failed["args"]["filename"], "/nonexistent/recorder-test");
    assert_eq!(failed["args"]["flags"], "O_WRONLY|O_CREAT");
    assert_eq!((&failed["args"]["mode"], &failed["ret"]), (&json!("0640"), &json!(-2)));
    assert!(number(&failed["dur_ns"]) > 0, "{failed}");
}

#[test]
fn an_execve_that_succeeds_keeps_its_path() {
    let recorder = RecorderProcess::start();
    let mut child = Command::new("/bin/true").arg("word").spawn().expect("/bin/true");
    assert!(child.wait().expect("its end").success());
    let events = recorder.events_of(child.id().cast_signed());
    let exec = call(&events, "execve");
    assert_eq!((&exec["args"]["filename"], &exec["ret"]), (&json!("/bin/true"), &json!(0)));
    assert!(number(&exec["dur_ns"]) > 0, "{exec}");
    let program = one(&events, "exec", |event| event["kind"] == "process_exec");
    assert_eq!(program["args"], json!(["/bin/true", "word"]));
    assert_eq!(program["program"], "/bin/true");
}

#[test]
fn an_execve_that_fails_has_path_and_error() {
    let events = record(|| {
        let argv = [NOWHERE.as_ptr(), ptr::null()];
        // SAFETY: strings and lists with their ends.
        unsafe {
            i32::from(libc::execve(NOWHERE.as_ptr(), argv.as_ptr(), argv[1..].as_ptr()) != -1)
        }
    });
    let exec = call(&events, "execve");
    assert_eq!(exec["args"]["filename"], "/nonexistent/recorder-test");
    assert_eq!((&exec["errno"], &exec["ret"]), (&json!("ENOENT"), &json!(-2)));
    assert_eq!(kind(&events, "process_exec").len(), 0);
}

/// The arguments of a program that could not be started are in memory still, and are
/// recorded as those of one that was: masked, cut at the same length, and marked.
#[test]
fn the_arguments_of_an_exec_that_fails_are_recorded() {
    let words = |words: &[&[u8]]| -> Vec<CString> {
        words.iter().map(|word| CString::new(*word).expect("no NUL")).collect()
    };
    let many: Vec<Vec<u8>> = (0..300).map(|place| format!("w{place}").into_bytes()).collect();
    let many: Vec<&[u8]> = many.iter().map(Vec::as_slice).collect();
    let long = [b'l'; 5000];
    let lists = [
        words(&[b"name", b"-z", b"", b"a \"b\"", b"--password=hunter2hunter2"]),
        words(&[b"name", b"\xff\xfe"]),
        words(&[]),
        words(&[b""]),
        words(&many),
        words(&[b"name", &long, b"more"]),
        // With its NUL as many bytes as are kept, and one more.
        words(&[&long[..4095]]),
        words(&[&long[..4096]]),
        words(&[&long[..4090], b"last"]),
        words(&[&long[..4090], b"last", b"more"]),
    ];
    let environment = words(&[b"SECRET=envmark-of-exec"]);
    let recorder = RecorderProcess::start();
    let child = Child::fork(|| {
        let end = |list: &[CString]| -> Vec<*const libc::c_char> {
            list.iter().map(|word| word.as_ptr()).chain([ptr::null()]).collect()
        };
        let variables = end(&environment);
        // SAFETY: strings and lists with their ends, or memory that is not there.
        unsafe {
            let mut failed = 0;
            for list in &lists {
                failed += libc::execve(NOWHERE.as_ptr(), end(list).as_ptr(), variables.as_ptr());
            }
            let execve = |argv: usize| {
                libc::syscall(libc::SYS_execve, NOWHERE.as_ptr(), argv, variables.as_ptr()) as i32
            };
            failed += execve(0);
            failed += execve(8);
            let wild = [lists[0][0].as_ptr(), 8 as *const libc::c_char, ptr::null()];
            failed += execve(wild.as_ptr() as usize);
            let argv = end(&lists[0]);
            let (argv, envp) = (argv.as_ptr(), variables.as_ptr());
            let at = libc::syscall(libc::SYS_execveat, -1, c"none".as_ptr(), argv, envp, 0) as i32;
            i32::from(failed + at != -14)
        }
    });
    let pid = child.finish();
    let file = recorder.dump(&[]);
    let of_child = ["--pid", &pid.to_string()];
    let events = recorder.replay(&file, &of_child);
    let execs: Vec<&Value> =
        calls(&events, "execve").into_iter().map(|call| &call["args"]).collect();
    let is_cut = |place: usize| execs[place].get("argv_cut").is_some();
    let masked = json!(["name", "-z", "", "a \"b\"", "--password=***"]);
    assert_eq!((&execs[0]["argv"], is_cut(0)), (&masked, false));
    assert_eq!(execs[1]["argv_hex"], json!(["6e616d65", "fffe"]), "{}", execs[1]);
    assert_eq!((&execs[2]["argv"], &execs[3]["argv"]), (&json!([]), &json!([""])));
    assert!(!is_cut(2) && !is_cut(3));
    let list = |place: usize| execs[place]["argv"].as_array().expect("a list");
    assert_eq!((list(4).len(), &list(4)[255], is_cut(4)), (256, &json!("w255"), true));
    let lengths =
        |place: usize| -> Vec<usize> { list(place).iter().map(|word| text(word).len()).collect() };
    assert_eq!((lengths(5), is_cut(5)), (vec![4, 4091], true));
    assert_eq!((lengths(6), is_cut(6)), (vec![4095], false));
    assert_eq!((lengths(7), is_cut(7)), (vec![4096], true));
    assert_eq!((lengths(8), is_cut(8)), (vec![4090, 4], false));
    assert_eq!((lengths(9), is_cut(9)), (vec![4090, 4], true));
    assert_eq!(execs[10]["argv"], "NULL", "{}", execs[10]);
    assert_eq!((&execs[11]["argv"], &execs[11]["argv_unreadable"]), (&Value::Null, &json!(true)));
    // What could be read is told, and that there was more.
    assert_eq!((&execs[12]["argv"], is_cut(12)), (&json!(["name"]), true));
    let at = call(&events, "execveat");
    assert_eq!((&at["args"]["argv"], &at["errno"]), (&masked, &json!("EBADF")), "{at}");
    let shown = recorder.replay_text(&file, &of_child);
    let expected = r#"execve("/nonexistent/recorder-test", ["name", "-z", "", "a \"b\"", "--password=***"], 0x"#;
    assert!(shown.contains(expected), "{shown}");
    assert!(!shown.contains("envmark-of-exec") && !shown.contains("hunter2"), "{shown}");
}

extern "C" fn nothing(_signal: i32) {}

/// Installs a handler that does nothing.
fn handle(signal: i32, flags: i32) {
    // SAFETY: an action is plain numbers; the handler only returns.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        action.sa_flags = flags;
        libc::sigaction(signal, &raw const action, ptr::null_mut());
    }
}

#[test]
fn rt_sigreturn_has_its_name_and_no_arguments() {
    let events = record(|| {
        handle(libc::SIGUSR1, 0);
        // SAFETY: a signal to ourselves.
        unsafe { libc::raise(libc::SIGUSR1) }
    });
    let sigreturn = call(&events, "rt_sigreturn");
    assert_eq!(sigreturn["args"], json!({}), "{sigreturn}");
    assert_eq!(sigreturn.get("no_entry"), None, "{sigreturn}");
}

#[test]
fn exit_and_exit_group_are_recorded_without_result() {
    let recorder = RecorderProcess::start();
    // SAFETY: ends the only thread of the child.
    let mut alone = Child::fork(|| unsafe { libc::syscall(libc::SYS_exit, 3) as i32 });
    let mut group = Child::fork(|| 7);
    assert_eq!((alone.wait(), group.wait()), (Ended::Code(3), Ended::Code(7)));
    let file = recorder.dump(&[]);
    for (child, name, code) in [(&alone, "exit", 3), (&group, "exit_group", 7)] {
        let events = recorder.replay(&file, &["--pid", &child.pid().to_string()]);
        let exit = call(&events, name);
        assert_eq!(exit["args"]["error_code"], code, "{exit}");
        assert_eq!((exit.get("ret"), &exit["no_return"]), (None, &json!(true)), "{exit}");
        let ended = one(&events, "end", |event| event["kind"] == "process_exit");
        assert_eq!((&ended["code"], &ended["signal"]), (&json!(code), &json!(0)));
        assert_eq!(last_deed(&events), Some(ended), "the end comes last");
    }
}

/// The calls that make a thread.
const MAKE_THREADS: [&str; 4] = ["clone", "clone3", "fork", "vfork"];

/// fork, clone of a thread, and vfork (which a shell and `Command` use).
#[test]
fn the_first_return_of_a_child_is_no_call() {
    let recorder = RecorderProcess::start();
    let child_returns = |status: &Value| number(&status["ledger"]["filtered_by"]["child_return"]);
    let before = child_returns(&recorder.status());
    let forked = Child::fork(|| i32::from(std::thread::spawn(|| ()).join().is_err())).finish();
    let mut spawned = Command::new("/bin/true").spawn().expect("/bin/true");
    assert!(spawned.wait().expect("its end").success());
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &[]);
    for name in MAKE_THREADS {
        for made in calls(&events, name) {
            assert_ne!(made["ret"], 0, "{made}");
        }
    }
    let ours = std::process::id();
    for child in [forked, spawned.id().cast_signed()] {
        let made = one(&events, "call that made the child", |event| {
            event["pid"] == ours && event["ret"] == child && event["name"] != "wait4"
        });
        assert!(MAKE_THREADS.contains(&text(&made["name"])), "{made}");
        let first = of_pid(&events, child).into_iter().next().expect("events of the child");
        assert_eq!(first.get("no_entry"), None, "{first}");
    }
    // The child, its thread, and the program.
    let after = child_returns(&recorder.info(&file));
    assert!(after >= before + 3, "{before} and then {after}");
}

/// Lets calls with number `nr` end as `how` says (`SECCOMP_RET_*`).
pub(super) fn refuse(nr: libc::c_long, how: u32) -> bool {
    const LOAD_NR: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(LOAD_NR, 0, 0, 0),
        step(IF_EQUAL, 0, 1, nr as u32),
        step(RETURN, 0, 0, how),
        step(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a filter of four steps.
    unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
            && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
    }
}

#[test]
fn a_call_seccomp_refuses_has_name_error_and_no_entry() {
    let events = record(|| {
        // SAFETY: calls that only read, or fail.
        unsafe {
            let how = libc::SECCOMP_RET_ERRNO | libc::EACCES as u32;
            let ready = refuse(libc::SYS_sethostname, how);
            let refused = libc::sethostname(c"x".as_ptr(), 1) == -1 && errno() == libc::EACCES;
            i32::from(!(ready && refused))
        }
    });
    let refused = call(&events, "sethostname");
    assert_eq!((&refused["errno"], &refused["no_entry"]), (&json!("EACCES"), &json!(true)));
    assert_eq!(refused.get("dur_ns"), None, "{refused}");
    assert_eq!(refused["args"]["len"], 1, "arguments come from the registers: {refused}");
}

#[test]
fn a_call_a_signal_interrupts_says_so_and_is_made_again() {
    let recorder = RecorderProcess::start();
    let pipe = Pipe::new();
    let child = Child::fork(|| {
        handle(libc::SIGUSR1, libc::SA_RESTART);
        let mut byte = 0u8;
        // SAFETY: room for one byte.
        unsafe { i32::from(libc::read(pipe.reader, (&raw mut byte).cast(), 1) != 1) }
    });
    child.wait_in_call(libc::SYS_read);
    child.signal(libc::SIGUSR1);
    // The handler has run when the child is in the call again.
    let pid = child.pid().to_string();
    recorder_tests::wait_until("the interrupted call in a snapshot", || {
        let file = recorder.dump(&[]);
        !calls(&recorder.replay(&file, &["--pid", &pid]), "rt_sigreturn").is_empty()
    });
    child.wait_in_call(libc::SYS_read);
    pipe.tell();
    let events = recorder.events_of(child.finish());
    let reads = calls(&events, "read");
    let said: Vec<_> = reads.iter().map(|read| (&read["ret"], read.get("errno"))).collect();
    assert_eq!(said, [(&json!(-512), Some(&json!("ERESTARTSYS"))), (&json!(1), None)]);
    assert_eq!(reads[0]["args"], reads[1]["args"]);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_call_is_marked_and_named_by_its_own_table() {
    let recorder = RecorderProcess::start();
    let mut child = Child::fork(|| {
        let answer: u32;
        // SAFETY: number 20 of 32-bit calls is getpid, which changes nothing.
        unsafe {
            std::arch::asm!("int 0x80", inlateout("eax") 20u32 => answer,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _);
        }
        i32::from(answer != std::process::id())
    });
    if child.wait() == Ended::Signal(libc::SIGSEGV) {
        recorder_tests::skip("this kernel has no 32-bit calls");
        return;
    }
    assert_eq!(child.wait(), Ended::Code(0));
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &["--pid", &child.pid().to_string()]);
    let getpid = one(&events, "32-bit call", |event| event["compat"] == true);
    assert_eq!((&getpid["name"], &getpid["ret"]), (&json!("getpid"), &json!(child.pid())));
    assert_eq!((&getpid["args"], getpid.get("errno")), (&json!({}), None), "{getpid}");
    assert!(number(&getpid["dur_ns"]) > 0, "{getpid}");
    // As a 64-bit call, 20 is writev.
    assert_eq!(calls(&events, "writev").len(), 0);
    assert_eq!(recorder.info(&file)["ledger"]["calls"]["getpid@32"]["seen"], 1);
}

#[test]
fn an_exec_of_another_thread_is_attributed_to_the_new_program() {
    let recorder = RecorderProcess::start();
    let said = Pipe::new();
    let mut child = Child::fork(|| {
        let spawned = std::thread::spawn(move || {
            said.tell();
            let error = Command::new("/bin/cat").arg("/etc/hostname").stdout(Stdio::null()).exec();
            error.raw_os_error()
        });
        // SAFETY: waits for an end by somebody else.
        unsafe { libc::pause() };
        i32::from(spawned.join().is_ok())
    });
    assert_eq!(child.wait(), Ended::Code(0), "cat ends well");
    let pid = child.pid();
    let events = recorder.events_of(pid);
    let program = one(&events, "exec", |event| event["kind"] == "process_exec");
    let (tid, old_tid) = (&program["tid"], &program["old_tid"]);
    assert_eq!(tid, pid, "the thread becomes the leader");
    assert_ne!(old_tid, pid);
    let exec = call(&events, "execve");
    assert_eq!(exec["tid"], pid, "{exec}");
    assert_eq!((&exec["args"]["filename"], &exec["ret"]), (&json!("/bin/cat"), &json!(0)));
    assert!(number(&exec["dur_ns"]) > 0, "{exec}");
    // The old leader was killed in its call, which says so and not what it returned.
    let paused = call(&events, "pause");
    assert_eq!(paused["errno"], "ERESTARTNOHAND", "{paused}");
    let at = position(&events, "exec", |event| event["kind"] == "process_exec");
    let after = &events[at + 1..];
    assert!(after.iter().all(|event| event["tid"] == pid), "no event of the old thread");
    assert!(after.iter().all(|event| event.get("no_entry").is_none()), "{after:#?}");
    let opened = one(after, "openat of cat", |event| event["args"]["filename"] == "/etc/hostname");
    assert_eq!(opened["comm"], "cat");
}

#[test]
fn calls_no_table_has_keep_their_number() {
    let events = record(|| {
        // SAFETY: the kernel has no such calls.
        unsafe {
            let answers = [libc::syscall(-1, 1, 2, 3), libc::syscall(9999, 4, 5, 6)];
            i32::from(answers != [-1, -1])
        }
    });
    for (name, first) in [("syscall_-1", 1), ("syscall_9999", 4)] {
        let unknown = call(&events, name);
        assert_eq!((&unknown["errno"], &unknown["ret"]), (&json!("ENOSYS"), &json!(-38)));
        assert_eq!(recorder_tests::word(&unknown["args"]["arg0"]), first, "{unknown}");
    }
}

/// A kill lets the call return before the thread ends: the record says that the
/// call was interrupted, not that it waits for ever.
#[test]
fn a_call_the_thread_is_killed_in_appears_once_before_the_end() {
    let recorder = RecorderProcess::start();
    let pipe = Pipe::new();
    let mut child = Child::fork(|| {
        let mut byte = 0u8;
        // SAFETY: room for one byte.
        unsafe { libc::read(pipe.reader, (&raw mut byte).cast(), 1) as i32 }
    });
    child.wait_in_call(libc::SYS_read);
    child.signal(libc::SIGKILL);
    assert_eq!(child.wait(), Ended::Signal(libc::SIGKILL));
    let events = recorder.events_of(child.pid());
    let killed = call(&events, "read");
    let said = (&killed["errno"], killed.get("unfinished"));
    assert_eq!(said, (&json!("ERESTARTSYS"), None), "{killed}");
    assert_eq!(killed["args"]["fd"], pipe.reader, "{killed}");
    assert!(number(&killed["dur_ns"]) > 0, "{killed}");
    let end = last_deed(&events).expect("an end");
    assert_eq!((&end["kind"], &end["signal"]), (&json!("process_exit"), &json!("SIGKILL")));
}

#[test]
fn a_path_that_cannot_be_read_is_marked() {
    let events = record(|| {
        const PAGE: usize = 4096;
        // SAFETY: two pages of our own, the second is given back; the path fills the
        // end of the first and has no NUL there.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            let pages = libc::mmap(ptr::null_mut(), 2 * PAGE, access, kind, -1, 0).cast::<u8>();
            libc::munmap(pages.add(PAGE).cast(), PAGE);
            let path = pages.add(PAGE - 8);
            path.copy_from(b"/tmp/abc".as_ptr(), 8);
            let across = libc::unlink(path.cast()) == -1 && errno() == libc::EFAULT;
            let wild = libc::rmdir(8 as *const _) == -1 && errno() == libc::EFAULT;
            i32::from(!(across && wild))
        }
    });
    for name in ["unlink", "rmdir"] {
        let refused = call(&events, name);
        assert_eq!(refused["errno"], "EFAULT");
        let args = &refused["args"];
        assert_eq!((&args["pathname"], &args["pathname_unreadable"]), (&json!(null), &json!(true)));
    }
}

/// `touch` sets the times of a descriptor and gives no path: that was shown as a
/// path that could not be read, as if something were missing.
#[test]
fn a_string_that_is_not_given_is_null_and_not_unreadable() {
    let recorder = RecorderProcess::start();
    let child = Child::fork(|| {
        // SAFETY: strings with their NUL, and none where none is needed.
        unsafe {
            let fd = libc::memfd_create(c"memory".as_ptr(), libc::MFD_CLOEXEC);
            let set = libc::syscall(libc::SYS_utimensat, fd, 0, 0, 0) == 0;
            let nowhere = libc::mount(ptr::null(), NOWHERE.as_ptr(), ptr::null(), 0, ptr::null());
            let named = libc::unlink(c"NULL".as_ptr()) == -1;
            i32::from(!(set && nowhere == -1 && named))
        }
    });
    let pid = child.finish().to_string();
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &["--pid", &pid]);
    let has_null = |name: &str, arg: &str| {
        let args = &call(&events, name)["args"];
        assert_eq!(args.get(arg), Some(&Value::Null), "{args}");
        assert_eq!(args.get(format!("{arg}_unreadable")), None, "{args}");
    };
    has_null("utimensat", "filename");
    has_null("mount", "dev_name");
    has_null("mount", "type");
    assert_eq!(call(&events, "unlink")["args"]["pathname"], "NULL", "a path of that name");
    let lines = recorder.replay_text(&file, &["--pid", &pid, "-e", "trace=mount,unlink"]);
    assert!(
        lines.contains("mount(NULL, \"/nonexistent/recorder-test\", NULL, 0, NULL)"),
        "{lines}"
    );
    assert!(lines.contains("unlink(\"NULL\"</"), "a path that begins where it is: {lines}");
}

#[test]
fn two_paths_of_4095_bytes_are_whole() {
    let long = |letter: char| {
        let part: String = std::iter::repeat_n(letter, 254).chain(['/']).collect();
        let mut path: String = "/".chars().chain(part.chars().cycle()).take(4095).collect();
        path.replace_range(4094.., "z");
        path
    };
    let (from, to) = (long('a'), long('b'));
    let names = [&from, &to].map(|path| CString::new(path.as_str()).expect("no NUL"));
    let events = record(|| {
        let (here, flags) = (libc::AT_FDCWD, libc::RENAME_NOREPLACE);
        // SAFETY: strings with their NUL.
        let answer = unsafe {
            libc::syscall(
                libc::SYS_renameat2,
                here,
                names[0].as_ptr(),
                here,
                names[1].as_ptr(),
                flags,
            )
        };
        i32::from(answer != -1)
    });
    let rename = call(&events, "renameat2");
    assert_eq!(rename["errno"], "ENOENT");
    assert_eq!(
        (text(&rename["args"]["oldname"]), text(&rename["args"]["newname"])),
        (&*from, &*to)
    );
    assert_eq!(rename["args"]["flags"], "RENAME_NOREPLACE");
    for cut in ["oldname_cut", "newname_cut"] {
        assert_eq!(rename["args"].get(cut), None);
    }
}

#[test]
fn a_longer_path_is_marked_as_cut() {
    let path = CString::new("/x".repeat(2500)).expect("no NUL");
    // SAFETY: a string with its NUL.
    let events = record(|| i32::from(unsafe { libc::chdir(path.as_ptr()) } != -1));
    let refused = call(&events, "chdir");
    assert_eq!(
        (&refused["errno"], &refused["args"]["filename_cut"]),
        (&json!("ENAMETOOLONG"), &json!(true))
    );
    assert_eq!(text(&refused["args"]["filename"]), &"/x".repeat(2500)[..4095]);
}

/// IPv4, IPv6, Unix and abstract addresses, given and got.
#[test]
fn socket_addresses_are_decoded() {
    use std::{
        net::{TcpListener, TcpStream, UdpSocket},
        os::{linux::net::SocketAddrExt as _, unix::net},
    };
    let directory = TestDirectory::new();
    let path = directory.join("listener");
    let name = format!("recorder-test-{}", std::process::id());
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    let has_ipv6 = TcpListener::bind("[::1]:0").is_ok();
    let target = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    let target_port = target.local_addr().expect("its address").port();
    let (path_there, name_there) = (path.clone(), name.clone());
    let events = record(move || {
        let work = || -> std::io::Result<()> {
            let stream = TcpStream::connect(("127.0.0.1", port))?;
            let (accepted, peer) = listener.accept()?;
            assert_eq!(stream.local_addr()?, peer);
            drop(accepted);
            UdpSocket::bind("127.0.0.1:0")?.send_to(b"word", ("127.0.0.1", target_port))?;
            if has_ipv6 {
                TcpListener::bind("[::1]:0")?;
            }
            let unix = net::UnixListener::bind(&path_there)?;
            net::UnixStream::connect(&path_there)?;
            drop(unix);
            let address = net::SocketAddr::from_abstract_name(name_there)?;
            let hidden = net::UnixListener::bind_addr(&address)?;
            net::UnixStream::connect_addr(&address)?;
            drop(hidden);
            Ok(())
        };
        i32::from(work().is_err())
    });
    let given = |call: &str, arg: &str, address: &str| {
        one(&events, &format!("{call} to {address}"), |event| {
            event["name"] == call && event["args"][arg] == address
        })
        .clone()
    };
    let connected = given("connect", "uservaddr", &format!("127.0.0.1:{port}"));
    assert_eq!((&connected["ret"], &connected["args"]["addrlen"]), (&json!(0), &json!(16)));
    given("bind", "umyaddr", "127.0.0.1:0");
    let sent = given("sendto", "addr", &format!("127.0.0.1:{target_port}"));
    assert_eq!(sent["ret"], 4);
    for (call, arg) in [("bind", "umyaddr"), ("connect", "uservaddr")] {
        given(call, arg, &format!("unix:{}", path.display()));
        given(call, arg, &format!("unix:@{name}"));
    }
    let accepted = call(&events, "accept4");
    let peer = text(&accepted["args"]["upeer_sockaddr"]);
    assert!(peer.starts_with("127.0.0.1:") && !peer.ends_with(&format!(":{port}")), "{accepted}");
    if has_ipv6 {
        given("bind", "umyaddr", "[::1]:0");
    } else {
        recorder_tests::skip("no IPv6 here: its addresses");
    }
}
