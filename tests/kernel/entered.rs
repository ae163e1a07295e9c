//! What the kernel overwrites is recorded as the program passed it, and beside it what the
//! kernel left there.

use std::{fs::File, mem::size_of, os::fd::AsRawFd as _, ptr};

use recorder_tests::{Child, Pipe, RecorderProcess, TestDirectory, calls, errno, number, one};
use serde_json::{Value, json};

/// Records a child that does `work`, which must end with 0, and answers its events.
#[track_caller]
fn record(work: impl FnOnce() -> i32) -> Vec<Value> {
    let recorder = RecorderProcess::start();
    let pid = Child::fork(work).finish();
    recorder.events_of(pid)
}

/// The arguments of calls of this name, in order.
fn all_args<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    calls(events, name).into_iter().map(|call| &call["args"]).collect()
}

/// The only call of this name.
#[track_caller]
fn call<'a>(events: &'a [Value], name: &str) -> &'a Value {
    one(events, name, |event| event["name"] == name)
}

fn seconds(sec: i64, nsec: i64) -> libc::timespec {
    libc::timespec { tv_sec: sec, tv_nsec: nsec }
}

fn shown(time: &libc::timespec) -> Value {
    json!({"tv_sec": time.tv_sec, "tv_nsec": time.tv_nsec})
}

/// Sets of descriptors as wide as the kernel takes them.
fn set(fds: &[i32]) -> [u64; 16] {
    let mut words = [0; 16];
    for fd in fds {
        words[*fd as usize / 64] |= 1 << (fd % 64);
    }
    words
}

/// Numbers a slot has room for: those of pipes are beyond where other tests have been.
const READER: i32 = 20;
const IDLE: i32 = 21;

/// Has a descriptor under another number, in a child.
fn take_as(fd: i32, number: i32) {
    // SAFETY: numbers; what had the second is not needed any more.
    assert_eq!(unsafe { libc::dup2(fd, number) }, number);
}

extern "C" fn nothing(_signal: i32) {}

/// A signal after a hundredth of a second.
fn signal_soon() {
    // SAFETY: an action is plain numbers; the handler only returns.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        libc::sigaction(libc::SIGALRM, &raw const action, ptr::null_mut());
        let mut timer: libc::itimerval = std::mem::zeroed();
        timer.it_value.tv_usec = 10_000;
        libc::setitimer(libc::ITIMER_REAL, &raw const timer, ptr::null_mut());
    }
}

#[test]
fn a_select_has_its_sets_and_its_time_as_they_were_passed() {
    let (ready, silent) = (Pipe::new(), Pipe::new());
    ready.tell();
    let (reader, idle, count) = (READER, IDLE, IDLE + 1);
    // Of descriptors from 64 on a slot has no room.
    let (far, far_count) = (200, 256);
    let events = record(move || {
        take_as(ready.reader, reader);
        take_as(silent.reader, idle);
        let five = seconds(5, 0);
        // SAFETY: sets as wide as their count, times where they are expected.
        unsafe {
            let select = |count: i32, fds: &[i32], time: &mut libc::timespec| {
                let mut fds = set(fds);
                let no_set = ptr::null_mut::<u64>();
                let to = fds.as_mut_ptr();
                let time = &raw mut *time;
                let mask = ptr::null::<u8>();
                libc::syscall(libc::SYS_pselect6, count, to, no_set, no_set, time, mask)
            };
            let found = select(count, &[reader, idle], &mut five.clone());
            let late = select(count, &[idle], &mut seconds(0, 1_000_000));
            let polled = select(count, &[reader, idle], &mut seconds(0, 0));
            if libc::dup2(reader, far) != far {
                return 2;
            }
            let of_many = select(far_count, &[idle, far], &mut five.clone());
            signal_soon();
            let interrupted = select(count, &[idle], &mut five.clone());
            let is_interrupted = errno() == libc::EINTR;
            libc::close(63);
            let no_fd = select(64, &[63], &mut five.clone());
            let results = (found, late, polled, of_many, interrupted, no_fd);
            i32::from(results != (1, 0, 1, 1, -1, -1) || !is_interrupted)
        }
    });
    let selects = calls(&events, "pselect6");
    let args: Vec<&Value> = selects.iter().map(|call| &call["args"]).collect();
    let both = json!([reader, idle]);
    let five = shown(&seconds(5, 0));
    // What was found, and four seconds and something.
    assert_eq!((&args[0]["inp"], &args[0]["inp_left"]), (&both, &json!([reader])), "{}", args[0]);
    assert_eq!((&args[0]["tsp"], &args[0]["tsp_left"]["tv_sec"]), (&five, &json!(4)));
    assert_eq!((&args[0]["outp"], args[0].get("outp_left")), (&Value::Null, None));
    // The time was up.
    assert_eq!((&args[1]["inp"], args[1].get("inp_left")), (&json!([idle]), None), "{}", args[1]);
    let short = shown(&seconds(0, 1_000_000));
    assert_eq!((&args[1]["tsp"], args[1].get("tsp_left")), (&short, None));
    // The kernel leaves a time of 0 alone.
    assert_eq!((&args[2]["inp"], &args[2]["inp_left"]), (&both, &json!([reader])), "{}", args[2]);
    let none = shown(&seconds(0, 0));
    assert_eq!((&args[2]["tsp"], args[2].get("tsp_left")), (&none, None));
    // Of the set the first 64, and that is said; of what was found all.
    assert_eq!((&args[3]["inp"], &args[3]["inp_cut"]), (&json!([idle]), &json!(true)));
    assert_eq!((&args[3]["inp_left"], args[3].get("inp_left_cut")), (&json!([far]), None));
    assert_eq!((&args[3]["tsp"], &args[3]["tsp_left"]["tv_sec"]), (&five, &json!(4)));
    // Interrupted: sets are as they were, the time is not.
    assert_eq!(selects[4]["errno"], "ERESTARTNOHAND", "{}", selects[4]);
    assert_eq!((&args[4]["inp"], args[4].get("inp_left")), (&json!([idle]), None), "{}", args[4]);
    assert_eq!((&args[4]["tsp"], &args[4]["tsp_left"]["tv_sec"]), (&five, &json!(4)));
    // Of a call that failed there is nothing to say, whatever the kernel wrote.
    assert_eq!((&args[5]["tsp"], args[5].get("tsp_left")), (&five, None), "{}", args[5]);
}

#[test]
fn times_are_as_they_were_passed_whatever_happens_to_their_memory() {
    let pipe = Pipe::new();
    pipe.tell();
    let reader = pipe.reader;
    let events = record(move || {
        // SAFETY: memory of our own; calls that read from it, and write where they may.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            // Nothing is behind the first page.
            let page = libc::mmap(ptr::null_mut(), 2 * 4096, access, kind, -1, 0);
            libc::munmap(page.cast::<u8>().add(4096).cast(), 4096);
            let constant = page.cast::<libc::timespec>();
            constant.write(seconds(7, 8));
            libc::mprotect(page, 4096, libc::PROT_READ);
            let end = page.cast::<u8>().add(4096 - 8);
            let mut wait = libc::pollfd { fd: reader, events: libc::POLLIN, revents: 0 };
            let mut ppoll = |time: *const libc::timespec| {
                libc::syscall(libc::SYS_ppoll, &raw mut wait, 1, time, 0, 8)
            };
            let unwritable = ppoll(constant);
            let mut five = seconds(5, 0);
            let written = ppoll(&raw mut five);
            let changed = five.tv_sec == 4;
            let endless = ppoll(ptr::null());
            let across = ppoll(end.cast());
            let is_fault = errno() == libc::EFAULT;
            // The usual way to sleep on.
            let mut nap = seconds(6, 0);
            signal_soon();
            let woken = libc::syscall(libc::SYS_nanosleep, &raw mut nap, &raw mut nap);
            let results = (unwritable, written, endless, across, woken);
            i32::from(results != (1, 1, 1, -1, -1) || !changed || !is_fault || nap.tv_sec != 5)
        }
    });
    let polls = all_args(&events, "ppoll");
    let time = |place: usize| (&polls[place]["tsp"], polls[place].get("tsp_left"));
    assert_eq!(time(0), (&shown(&seconds(7, 8)), None));
    let (passed, left) = time(1);
    assert_eq!((passed, &left.expect("a rest")["tv_sec"]), (&shown(&seconds(5, 0)), &json!(4)));
    assert_eq!(time(2), (&Value::Null, None));
    assert_eq!((&polls[3]["tsp"], &polls[3]["tsp_unreadable"]), (&Value::Null, &json!(true)));
    let slept = &call(&events, "nanosleep")["args"];
    assert_eq!(slept["rqtp"], shown(&seconds(6, 0)), "{slept}");
    assert_eq!(slept["rmtp"]["tv_sec"], json!(5), "{slept}");
}

#[test]
fn offsets_are_told_before_and_after() {
    let directory = TestDirectory::new();
    std::fs::write(directory.join("from"), [b'x'; 1234]).expect("a file");
    let from = File::open(directory.join("from")).expect("the file");
    let to = File::create(directory.join("to")).expect("a file");
    let pipe = Pipe::new();
    let (from, to, writer) = (from.as_raw_fd(), to.as_raw_fd(), pipe.writer);
    let events = record(move || {
        // SAFETY: offsets where they are expected.
        unsafe {
            let (mut first, mut second) = (10i64, 3i64);
            let sent = libc::syscall(libc::SYS_sendfile, writer, from, &raw mut first, 100);
            let at = &raw mut first;
            let copied =
                libc::syscall(libc::SYS_copy_file_range, from, at, to, &raw mut second, 40, 0);
            let spliced = libc::syscall(libc::SYS_splice, from, at, writer, 0, 50, 0);
            let (mut end, no_offset) = (1234i64, ptr::null_mut::<i64>());
            let none = libc::syscall(libc::SYS_sendfile, writer, from, &raw mut end, 100);
            let current = libc::syscall(libc::SYS_sendfile, writer, from, no_offset, 1);
            i32::from(
                (sent, copied, spliced, none, current, first, second)
                    != (100, 40, 50, 0, 1, 200, 43),
            )
        }
    });
    let sent = all_args(&events, "sendfile");
    let offsets: Vec<_> =
        sent.iter().map(|args| (&args["offset"], args.get("offset_left"))).collect();
    assert_eq!(
        offsets,
        [(&json!(10), Some(&json!(110))), (&json!(1234), None), (&Value::Null, None)]
    );
    let copied = &call(&events, "copy_file_range")["args"];
    assert_eq!((&copied["off_in"], &copied["off_in_left"]), (&json!(110), &json!(150)));
    assert_eq!((&copied["off_out"], &copied["off_out_left"]), (&json!(3), &json!(43)));
    let spliced = &call(&events, "splice")["args"];
    assert_eq!((&spliced["off_in"], &spliced["off_in_left"]), (&json!(150), &json!(200)));
    assert_eq!((&spliced["off_out"], spliced.get("off_out_left")), (&Value::Null, None));
}

/// One call of the 32-bit table.
///
/// # Safety
/// As for the call.
#[cfg(target_arch = "x86_64")]
unsafe fn call_32(nr: u32, args: [u32; 5]) -> i32 {
    let [first, second, third, fourth, fifth] = args;
    let answer: u32;
    // SAFETY: the caller vouches for the call; what lies below the stack pointer is left
    // alone, and rbx is given back.
    unsafe {
        std::arch::asm!("xchg rbx, {first:r}", "int 0x80", "mov rbx, {first:r}",
            first = inout(reg) u64::from(first) => _,
            inlateout("eax") nr => answer, in("ecx") second, in("edx") third, in("esi") fourth,
            in("edi") fifth, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
    answer.cast_signed()
}

/// Structures and pointers of 32-bit programs are narrower.
#[cfg(target_arch = "x86_64")]
#[test]
fn a_32_bit_program_passes_times_offsets_words_and_capabilities() {
    let directory = TestDirectory::new();
    std::fs::write(directory.join("from"), [b'x'; 1234]).expect("a file");
    let from = File::open(directory.join("from")).expect("the file");
    let pipe = Pipe::new();
    pipe.tell();
    let (from, reader, writer) = (from.as_raw_fd(), READER, pipe.writer);
    let recorder = RecorderProcess::start();
    let mut child = Child::fork(move || {
        take_as(pipe.reader, reader);
        // SAFETY: memory in the lowest 4 GiB, and in it what the calls expect.
        unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
            let page = libc::mmap(ptr::null_mut(), 4096, access, kind, -1, 0).cast::<u32>();
            let at = |word: usize| page.add(word) as usize as u32;
            let put = |word: usize, words: &[u32]| {
                ptr::copy_nonoverlapping(words.as_ptr(), page.add(word), words.len());
                at(word)
            };
            // _newselect, sendfile, execve, capget: arch/x86/entry/syscalls/syscall_32.tbl.
            let set = put(0, &[1 << reader, 0]);
            let time = put(4, &[5, 0]);
            let found = call_32(142, [reader as u32 + 1, set, 0, 0, time]);
            let offset = put(8, &[20, 0xffff_ffff]);
            let sent = call_32(187, [writer as u32, from as u32, offset, 30, 0]);
            let words = put(16, &[u32::from_le_bytes(*b"/no\0"), u32::from_le_bytes(*b"-z\0\0")]);
            let list = put(24, &[words, words + 4, 0]);
            let failed = call_32(11, [words, list, 0, 0, 0]);
            let header = put(32, &[0x2008_0522, 0]);
            let told = call_32(184, [header, at(40), 0, 0, 0]);
            i32::from((found, sent, failed, told) != (1, 30, -libc::ENOENT, 0))
        }
    });
    if child.wait() == recorder_tests::Ended::Signal(libc::SIGSEGV) {
        recorder_tests::skip("this kernel has no 32-bit calls");
        return;
    }
    let events = recorder.events_of(child.finish());
    let of = |name: &str| {
        &one(&events, name, |event| event["name"] == name && event["compat"] == true)["args"]
    };
    let select = of("_newselect");
    assert_eq!((&select["inp"], &select["inp_left"]), (&json!([reader]), &json!([reader])));
    assert_eq!(select["tvp"], json!({"tv_sec": 5, "tv_usec": 0}));
    assert_eq!(select["tvp_left"]["tv_sec"], 4, "{select}");
    let sent = of("sendfile");
    assert_eq!((&sent["offset"], &sent["offset_left"]), (&json!(20), &json!(50)));
    assert_eq!(of("execve")["argv"], json!(["/no", "-z"]));
    let told = of("capget");
    assert_eq!(told["header"]["version"], "_LINUX_CAPABILITY_VERSION_3", "{told}");
    assert!(told["dataptr"]["permitted"].is_string(), "{told}");
}

/// `struct __user_cap_header_struct` and twice `struct __user_cap_data_struct`.
type Header = [u32; 2];
type Sets = [u32; 6];

#[test]
fn capabilities_have_both_halves_where_their_version_has() {
    const VERSIONS: [u32; 3] = [0x1998_0330, 0x2007_1026, 0x2008_0522];
    const { assert!(size_of::<Header>() == 8 && size_of::<Sets>() == 24) };
    let events = record(|| {
        // SAFETY: room for what each version writes.
        unsafe {
            let mut results = Vec::new();
            for version in VERSIONS {
                let (mut header, mut sets): (Header, Sets) = ([version, 0], [0; 6]);
                let told = libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr());
                results.push(told);
            }
            // CAP_KILL, and CAP_BPF (39), CAP_PERFMON (38), CAP_CHECKPOINT_RESTORE (40): as
            // many as anybody may have, as effective as one may make them, which is not at all.
            let header: Header = [VERSIONS[2], 0];
            let sets: Sets = [0, 1 << 5, 0, 0, 0b111 << 6, 1 << 31];
            let set = libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr());
            // A program asks for the version the kernel likes best.
            let mut header: Header = [0, 0];
            let asked = libc::syscall(libc::SYS_capget, header.as_mut_ptr(), 0);
            let answered = header[0] == VERSIONS[2];
            let mut header: Header = [7, 0];
            let refused = libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr());
            let is_bad = results != [0, 0, 0] || asked != 0 || refused != -1 || !answered;
            // Who may not have them is refused, which is all the same here.
            i32::from(is_bad || set > 0)
        }
    });
    let told = all_args(&events, "capget");
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").expect("a number");
    let last: u32 = last.trim().parse().expect("a number");
    let status = std::fs::read_to_string("/proc/self/status").expect("the status");
    let line = status.lines().find_map(|line| line.strip_prefix("CapPrm:")).expect("a set");
    let held = u64::from_str_radix(line.trim(), 16).expect("a set");
    for (place, width) in [(0, 32), (1, 64), (2, 64)] {
        let sets = &told[place]["dataptr"];
        let named = recorder_tests::text(&sets["permitted"]).split('|').filter(|name| *name != "0");
        let known = (0..=last).filter(|bit| *bit < width && held >> bit & 1 != 0);
        assert_eq!(named.count(), known.count(), "{sets}");
        let has_upper = recorder_tests::text(&sets["permitted"]).contains("1<<CAP_BPF");
        assert_eq!(has_upper, width == 64 && held >> 39 & 1 != 0, "{sets}");
    }
    assert_eq!(told[0]["header"]["version"], "_LINUX_CAPABILITY_VERSION_1");
    // What was asked, and not what the kernel answered there.
    let asked = &told[3];
    assert!(!asked["header"]["version"].to_string().contains("VERSION_3"), "{asked}");
    assert_eq!(asked["dataptr"], Value::Null, "{asked}");

    let set = all_args(&events, "capset");
    assert_eq!(
        set[0]["data"],
        json!({
            "effective": "0",
            "permitted": "1<<CAP_KILL|1<<CAP_PERFMON|1<<CAP_BPF|1<<CAP_CHECKPOINT_RESTORE",
            "inheritable": "0x8000000000000000",
        })
    );
    // Nobody looked at what a version that is none does not tell.
    assert!(recorder_tests::text(&set[1]["data"]).starts_with("0x"), "{}", set[1]);
    assert!(number(&calls(&events, "capset")[0]["dur_ns"]) > 0);
}

/// A dump reads what a call waits for while it waits.
#[test]
fn a_select_that_has_not_returned_shows_what_it_was_passed() {
    let recorder = RecorderProcess::start();
    let pipe = Pipe::new();
    let reader = READER;
    let child = Child::fork(move || {
        take_as(pipe.reader, reader);
        let mut fds = set(&[reader]);
        let mut time = seconds(600, 0);
        let no_set = ptr::null_mut::<u64>();
        // SAFETY: a set as wide as its count.
        unsafe {
            let to = fds.as_mut_ptr();
            let time = &raw mut time;
            let (count, mask) = (reader + 1, ptr::null::<u8>());
            let found = libc::syscall(libc::SYS_pselect6, count, to, no_set, no_set, time, mask);
            i32::from(found != 1)
        }
    });
    child.wait_in_call(libc::SYS_pselect6);
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &["--pid", &child.pid().to_string()]);
    let waiting = one(&events, "pselect6", |event| event["name"] == "pselect6");
    assert_eq!(waiting["unfinished"], true);
    assert_eq!(waiting["args"]["inp"], json!([reader]), "{waiting}");
    assert_eq!(waiting["args"]["tsp"], shown(&seconds(600, 0)), "{waiting}");
    pipe.tell();
    child.finish();
}
