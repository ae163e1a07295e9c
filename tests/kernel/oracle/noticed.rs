//! An oracle that finds nothing must not be one that does not look.

use recorder_tests::strace;
use serde_json::{Value, json};

use super::{compare::Tally, recorded};

/// A shell that makes a file and is waited for, as strace prints it.
const TRACED: &str = r#"10 execve("\x2f\x61", ["\x61"], ["\x62"] /* 1 var */) = 0
10 openat(AT_FDCWD<\x2f>, "\x2f\xff", O_WRONLY|O_CREAT, 0600) = 3<\x2f\xff>
10 utimensat(3<\x2f\xff>, NULL, NULL, 0) = 0
10 fork() = 11
11 unlink("\x2f\x62") = -1 ENOENT (No such file or directory)
11 exit_group(3) = ?
11 +++ exited with 3 +++
10 fstat(3<\x2f\x61>, {st_mode=S_IFREG|0644, st_size=8192, st_atime=5 /* 1970 */}) = 0
10 rt_sigprocmask(SIG_BLOCK, ~[INT CHLD], [], 8) = 0
10 poll([{fd=3, events=POLLIN}, {fd=4, events=POLLIN}], 2, -1) = 1 ([{fd=4, revents=POLLIN}])
10 connect(3, {sa_family=AF_INET, sin_port=htons(80), sin_addr=inet_addr("\x31\x2e\x32\x2e\x33\x2e\x34")}, 16) = 0
10 read(3, "\x61", 10) = 1
10 exit_group(0) = ?
10 +++ exited with 0 +++
"#;

fn call(tid: i32, name: &str, args: &Value, ret: i64) -> Value {
    json!({"kind": "syscall", "tid": tid, "name": name, "args": args, "ret": ret})
}

fn exit(tid: i32, code: i32) -> Value {
    let mut call = call(tid, "exit_group", &json!({"error_code": code}), 0);
    call["no_return"] = json!(true);
    call["ret"] = json!(null);
    call
}

/// The same as the recorder tells it; strace is 9.
fn recorded_events() -> Vec<Value> {
    let end = |tid: i32, code: i32| json!({"kind": "process_exit", "tid": tid, "code": code, "signal": 0});
    let open = json!({"dfd": "AT_FDCWD", "dfd_file": "/", "filename": "/\u{fffd}", "filename_hex": "2fff", "flags": "O_CREAT|O_WRONLY", "mode": "0600"});
    let times =
        json!({"dfd": 3, "dfd_file": "/\u{fffd}", "filename": null, "utimes": null, "flags": "0"});
    let stat = json!({"st_mode": "S_IFREG|0644", "st_size": 8192, "st_atime": 5});
    let polled = json!([{"fd": 3, "events": "POLLIN", "revents": "0"}, {"fd": 4, "events": "POLLIN", "revents": "POLLIN"}]);
    let mut events = vec![
        json!({"kind": "process_fork", "tid": 9, "child_pid": 10, "child_tid": 10}),
        call(10, "getpid", &json!({}), 10),
        json!({"kind": "process_exec", "tid": 10, "old_tid": 10, "args": ["a"]}),
        call(10, "execve", &json!({"filename": "/a", "argv": "0x7f00", "envp": "0x7f08"}), 0),
        call(10, "openat", &open, 3),
        call(10, "utimensat", &times, 0),
        json!({"kind": "process_fork", "tid": 10, "child_pid": 11, "child_tid": 11}),
        call(10, "fork", &json!({}), 11),
        call(11, "unlink", &json!({"pathname": "/b"}), -2),
        exit(11, 3),
        end(11, 3),
        call(10, "fstat", &json!({"fd": 3, "fd_file": "/a", "statbuf": stat}), 0),
        call(
            10,
            "rt_sigprocmask",
            &json!({"how": "SIG_BLOCK", "nset": "~[CHLD INT]", "oset": "[]", "sigsetsize": 8}),
            0,
        ),
        call(10, "poll", &json!({"ufds": polled, "nfds": 2, "timeout_msecs": -1}), 1),
        call(10, "connect", &json!({"fd": 3, "uservaddr": "1.2.3.4:80", "addrlen": 16}), 0),
        call(10, "read", &json!({"fd": 3, "buf": "0x7f10", "count": 10}), 1),
        exit(10, 0),
        end(10, 0),
    ];
    events[8]["errno"] = json!("ENOENT");
    events
}

fn differences(events: &[Value]) -> Option<String> {
    differences_from(TRACED, events)
}

fn differences_from(traced: &str, events: &[Value]) -> Option<String> {
    let traced = strace::parse(traced).expect("what strace prints");
    let mut tally = Tally::default();
    tally.program(("sh", false), &traced, &recorded::threads(events, 9, 10));
    tally.differences()
}

#[track_caller]
fn noticed(change: fn(&mut Vec<Value>), word: &str) {
    let mut events = recorded_events();
    change(&mut events);
    let differences = differences(&events).unwrap_or_default();
    assert!(differences.contains(word), "{word}: {differences:?}");
}

#[test]
fn the_oracle_notices_every_kind_of_difference() {
    assert_eq!(differences(&recorded_events()), None);
    // A name, an order, a call too few and one too many.
    noticed(|events| events[7]["name"] = json!("vfork"), "the name");
    noticed(|events| events.swap(4, 5), "the name");
    noticed(|events| drop(events.remove(5)), "the name");
    noticed(|events| drop(events.remove(9)), "is missing");
    noticed(|events| events.insert(11, events[5].clone()), "the name");
    noticed(|events| events.insert(17, events[5].clone()), "no such call");
    // Threads.
    noticed(|events| drop(events.remove(6)), "there 0 times");
    let fork = |events: &mut Vec<Value>| {
        events.insert(7, json!({"kind": "process_fork", "tid": 10, "child_tid": 12}));
    };
    noticed(fork, "no such thread");
    // Results and ends.
    noticed(|events| events[4]["ret"] = json!(4), "the result");
    noticed(|events| events[8]["errno"] = json!("EPERM"), "the result");
    noticed(|events| events[8]["errno"] = json!(null), "the result");
    noticed(|events| events[9]["no_return"] = json!(false), "the result");
    noticed(|events| events[10]["code"] = json!(0), "the end");
    noticed(|events| drop(events.remove(17)), "no end");
}

#[test]
fn the_oracle_notices_every_kind_of_argument() {
    // Strings.
    noticed(|events| events[8]["args"]["pathname"] = json!("/c"), "unlink.pathname");
    noticed(|events| events[8]["args"]["pathname_cut"] = json!(true), "unlink.pathname");
    noticed(|events| events[8]["args"] = json!({}), "unlink.");
    noticed(|events| events[4]["args"]["filename_hex"] = json!("2ffe"), "openat.filename");
    noticed(|events| events[5]["args"]["filename"] = json!("0x7f"), "utimensat.filename");
    noticed(|events| events[2]["args"] = json!(["b"]), "execve.argv");
    noticed(|events| events[2]["args"] = json!(["a", "b"]), "execve.argv[count]");
    noticed(|events| events[2]["args"] = json!(null), "execve.argv");
    // Numbers, names of bits, and arguments that are not there.
    noticed(|events| events[4]["args"]["flags"] = json!("O_WRONLY"), "openat.flags");
    noticed(|events| events[4]["args"]["flags"] = json!("O_WRONLY|0x40"), "openat.flags");
    noticed(|events| events[4]["args"]["mode"] = json!("0644"), "openat.mode");
    noticed(|events| events[13]["args"]["timeout_msecs"] = json!(1), "poll.timeout_msecs");
    noticed(|events| events[8]["args"]["more"] = json!(1), "unlink.more");
    // Members, lists, sets and addresses.
    noticed(|events| events[11]["args"]["statbuf"]["st_size"] = json!(9), "fstat.statbuf.st_size");
    noticed(|events| events[11]["args"]["statbuf"] = json!({}), "fstat.statbuf.st_mode");
    noticed(|events| events[11]["args"]["statbuf"] = json!("0x7f"), "fstat.statbuf");
    noticed(|events| events[12]["args"]["nset"] = json!("[CHLD INT]"), "rt_sigprocmask.nset");
    noticed(|events| events[12]["args"]["nset"] = json!("~[CHLD]"), "rt_sigprocmask.nset");
    noticed(|events| events[13]["args"]["ufds"][0]["revents"] = json!("POLLIN"), "revents");
    noticed(|events| events[13]["args"]["ufds"] = json!([]), "poll.ufds[count]");
    noticed(|events| events[14]["args"]["uservaddr"] = json!("1.2.3.4:81"), "connect.uservaddr");
    // What a descriptor is.
    noticed(|events| events[11]["args"]["fd_file"] = json!("/b"), "fstat.fd<file>");
    noticed(|events| events[4]["args"]["dfd_file"] = json!(null), "openat.dfd<file>");
    // Data is nothing the recorder keeps, but its address is.
    noticed(|events| events[15]["args"]["buf"] = json!(null), "read.buf");
}

/// Redis removed what its child was just writing to disk: strace read the name when `fsync`
/// began, the recorder when it returned.
#[test]
fn a_file_that_is_removed_during_a_call_is_explained() {
    let with = |file: &str| {
        let mut events = recorded_events();
        let known = events[11]["args"]["fd_file"].as_str().expect("a path").to_string();
        events[11]["args"]["fd_file"] = json!(file.replace("KNOWN", &known));
        differences(&events)
    };
    assert_eq!(with("KNOWN (deleted)"), None);
    assert!(with("/b (deleted)").unwrap_or_default().contains("fstat.fd<file>"));
}

/// A thread of redis was killed when it was about to wait, while strace asked what it does;
/// of the thread it had asked before, strace knew a result of 0, which is the number of
/// `read`.
#[test]
fn a_result_that_strace_takes_for_a_number_is_explained() {
    let traced = |result| {
        TRACED
            .replace("11 exit_group(3) = ?\n", "11 read(0</dev/null>, <unfinished ...>\n")
            .replace(
                "10 rt_sigprocmask(SIG_BLOCK, ~[INT CHLD], [], 8) = 0",
                &format!("10 rt_sigprocmask(SIG_BLOCK, ~[INT CHLD], [], 8) = {result}"),
            )
    };
    let mut events = recorded_events();
    events[9] = call(11, "futex", &json!({"uaddr": "0x7f00"}), -38);
    events[9]["errno"] = json!("ENOSYS");
    events[9]["no_entry"] = json!(true);
    assert_eq!(differences_from(&traced("0"), &events), None);
    // Without such a result it is a difference, and so it is of a call that was entered.
    let nothing_is_0 = traced("0").replace(" = 0\n", " = 7\n");
    let differences = differences_from(&nothing_is_0, &events).unwrap_or_default();
    assert!(differences.contains("call 1, the name"), "{differences}");
    events[9]["no_entry"] = json!(false);
    let differences = differences_from(&traced("0"), &events).unwrap_or_default();
    assert!(differences.contains("call 1, the name"), "{differences}");
}

/// A shell killed its child, which was about to return: strace took the number of `kill`,
/// which the shell was in, for the child's error, and read nothing more of the child.
#[test]
fn a_number_that_strace_takes_for_an_error_is_explained() {
    let traced = |name| {
        let stat = "11 fstat(3, 0x7f) = -1 (errno 18446744073709551554)\n";
        let kill = format!("10 {name}(11, SIGKILL) = 0\n10 exit_group(0) = ?\n");
        let traced = TRACED.replace("11 exit_group(3) = ?\n", stat);
        traced.replace("10 exit_group(0) = ?\n", &kill)
    };
    let mut events = recorded_events();
    events[9] = call(11, "fstat", &json!({"fd": 3, "statbuf": {"st_size": 5}}), 0);
    let mut killing = |name| {
        let killed = call(10, name, &json!({"pid": 11, "sig": "SIGKILL"}), 0);
        if events.len() == 18 {
            events.insert(16, killed);
        } else {
            events[16] = killed;
        }
        differences_from(&traced(name), &events)
    };
    assert_eq!(killing("kill"), None);
    // Where nothing has that number it is a difference.
    assert!(killing("tkill").unwrap_or_default().contains("call 1, the arguments"));
}
