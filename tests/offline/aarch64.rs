//! A file that an aarch64 kernel was recorded into, read wherever the tests run.
//!
//! `cargo xtask vm --aarch64 tests/golden/v2/aarch64.kfr` records it anew, in an emulated
//! machine; `xtask/src/vm/workload.sh` is what ran there. The texts beside it are read in
//! review; what the tests say themselves holds for every recording of that workload, so
//! that no blessing gets past it.

use std::{collections::BTreeSet, path::PathBuf, sync::LazyLock};

use recorder_tests::{kind, one, position, text};
use serde_json::{Value, json};

use crate::{
    golden::{compare, folder, printed_of},
    program,
};

const DOCKER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CONTAINERD: &str = "fedcba9876543210fedcba9876543210fedcba9876543210fedcba9876543210";
const POD: &str = "8f3c2d1e-0b4a-4c6d-9e8f-a1b2c3d4e5f6";

fn file() -> PathBuf {
    folder().join("v2/aarch64.kfr")
}

fn printed(arguments: &[&str]) -> String {
    printed_of(&file(), arguments)
}

/// Everything in it.
fn events() -> &'static [Value] {
    static EVENTS: LazyLock<Vec<Value>> = LazyLock::new(|| objects(&["replay"]));
    &EVENTS
}

fn objects(arguments: &[&str]) -> Vec<Value> {
    let lines = printed(&[arguments, &["--format", "jsonl"]].concat());
    lines.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn exec<'a>(events: &'a [Value], args: &[&str]) -> &'a Value {
    one(events, &format!("exec of {args:?}"), |event| {
        event["kind"] == "process_exec" && event["args"] == json!(args)
    })
}

/// What the client of the server writes.
fn hello() -> &'static Value {
    one(events(), "write to the server", |event| {
        event["name"] == "write"
            && event["args"]["fd_file"].as_str().is_some_and(|file| file.starts_with("TCP 127"))
    })
}

#[test]
fn it_is_printed_as_it_always_was() {
    compare("v2/aarch64-verify.txt", &printed(&["verify"]));
    compare("v2/aarch64-info.txt", &printed(&["info"]));
    compare("v2/aarch64-calls.txt", &printed(&["replay", "--comm", "perl,worker"]));
    let processes = ["replay", "-e", "trace=%process", "--containers"];
    compare("v2/aarch64-processes.txt", &printed(&processes));
    compare("v2/aarch64-network.txt", &printed(&["replay", "-e", "trace=%net"]));
    let structures = ["-e", "trace=openat2,epoll_ctl,recvmsg,clone,rt_sigaction,semtimedop"];
    let files = ["-e", "trace=newfstatat,openat", "--path", "/tmp/perl/"];
    let lines = [&structures[..], &files].map(|filters| {
        printed(&[&["replay", "--comm", "perl", "--format", "jsonl"], filters].concat())
    });
    compare("v2/aarch64-calls.jsonl", &lines.concat());
    let recvmsg = one(events(), "recvmsg", |event| event["name"] == "recvmsg");
    for (what, event) in [("ps", recvmsg), ("files", recvmsg), ("sockets", hello())] {
        let state = printed(&["state", what, "--at", text(&event["ts"])]);
        compare(&format!("v2/aarch64-state-{what}.txt"), &state);
    }
}

#[test]
fn the_machine_and_its_books_are_known() {
    assert!(printed(&["verify"]).contains(": whole, "));
    let info: Value = serde_json::from_str(&printed(&["info", "--format", "json"])).unwrap();
    assert_eq!(info["format_version"], 2);
    assert_eq!((&info["host"], &info["arch"]), (&json!("recorder-arm64"), &json!("aarch64")));
    assert!(text(&info["kernel"]).ends_with("-cloud-arm64"), "{}", info["kernel"]);
    assert_eq!(info["trigger"]["reason"], "recorded by hand");
    assert_eq!((&info["ledger"]["closes"], &info["ledger"]["lost"]), (&json!(true), &json!({})));
    assert_eq!(info["privacy"]["masked"], json!({"password": 1, "url_password": 1}));
    // Counted when it was recorded, and again here.
    for (name, count) in info["events"].as_object().unwrap() {
        let unfinished = |event: &&&Value| event["unfinished"] == true;
        let found = kind(events(), name);
        let finished = found.len() - found.iter().filter(unfinished).count();
        assert!([found.len(), finished].contains(&(count.as_u64().unwrap() as usize)), "{name}");
    }
    let first = printed(&["replay"]);
    assert!(first.starts_with("# recorder-arm64 Linux "), "{first}");
}

/// Numbers mean other calls here, and many calls of x86-64 are not there.
#[test]
fn calls_have_the_names_of_their_architecture() {
    let names: BTreeSet<&str> =
        kind(events(), "syscall").into_iter().map(|event| text(&event["name"])).collect();
    for absent in [
        "open",
        "creat",
        "stat",
        "lstat",
        "access",
        "pipe",
        "dup2",
        "fork",
        "vfork",
        "rename",
        "mkdir",
        "rmdir",
        "link",
        "unlink",
        "symlink",
        "readlink",
        "chmod",
        "chown",
        "mknod",
        "select",
        "poll",
        "epoll_create",
        "epoll_wait",
        "eventfd",
        "getdents",
        "pause",
        "arch_prctl",
        "getpgrp",
    ] {
        assert!(!names.contains(absent), "{absent} does not exist on aarch64");
    }
    for there in ["openat", "newfstatat", "faccessat", "mkdirat", "mknodat", "getdents64", "brk"] {
        assert!(names.contains(there), "{there} was called");
    }
    let unknown: Vec<_> = names.iter().filter(|name| name.starts_with("syscall_")).collect();
    assert_eq!(unknown, [&"syscall_9999"]);
}

/// What `workload.pl` and the programs around it did, argument for argument.
#[test]
fn calls_are_decoded_as_they_were_made() {
    let all = printed(&["replay"]);
    for expected in [
        // Names of the C library that are other calls.
        r#"mkdirat(AT_FDCWD, "/tmp/perl", 0750) = 0 "#,
        r#"fchmodat(AT_FDCWD, "/tmp/perl/a", 0640) = 0 "#,
        r#"fchownat(AT_FDCWD, "/tmp/perl/a", 1, 2, 0) = 0 "#,
        r#"utimensat(AT_FDCWD, "/tmp/perl/a", [{tv_sec=1, tv_nsec=0}, {tv_sec=2, tv_nsec=0}], 0) = 0 "#,
        r#"linkat(AT_FDCWD, "/tmp/perl/a", AT_FDCWD, "/tmp/perl/b", 0) = 0 "#,
        r#"symlinkat("a", AT_FDCWD, "/tmp/perl/c") = 0 "#,
        r#"renameat(AT_FDCWD, "/tmp/perl/b", AT_FDCWD, "/tmp/perl/d") = 0 "#,
        r#"renameat2(AT_FDCWD, "/tmp/link", AT_FDCWD, "/tmp/moved", RENAME_NOREPLACE) = 0 "#,
        r#"mkdirat(AT_FDCWD</sys/fs>, "cgroup", 0777) = -1 EEXIST (File exists) "#,
        r#"mknodat(AT_FDCWD, "/tmp/fifo", S_IFIFO|0666, makedev(0x0, 0x0)) = 0 "#,
        "umask(0) = 022 ",
        // Bits of `open` that x86-64 has elsewhere.
        r#"openat(AT_FDCWD, "/tmp/perl", O_RDONLY|O_DIRECTORY|O_NOFOLLOW|O_CLOEXEC) = 4</tmp/perl> "#,
        r#"openat(AT_FDCWD, "/tmp/perl", O_RDWR|O_TMPFILE|O_CLOEXEC, 0600) = 5</tmp/perl/#"#,
        r#"openat(AT_FDCWD, "/tmp/perl/a", O_RDONLY|O_DIRECT|O_LARGEFILE|O_CLOEXEC) = -1 EINVAL "#,
        r#"openat(AT_FDCWD, "/etc/hosts", O_RDONLY|O_NOFOLLOW|O_DIRECT) = -1 EINVAL "#,
        "fcntl(3</tmp/perl/a>, F_GETFL) = 0x20002 (O_RDWR|O_LARGEFILE) ",
        r#"openat2(AT_FDCWD, "/etc", {flags=O_RDONLY|O_DIRECTORY|O_CLOEXEC|O_PATH, mode=0, resolve=RESOLVE_NO_SYMLINKS}, 24) = 6</etc> "#,
        r#"openat(AT_FDCWD</etc>, "./hosts", O_RDONLY) = 3</etc/hosts> "#,
        // Structures that lie otherwise.
        "st_mode=S_IFREG|0640, st_nlink=2, st_uid=1, st_gid=2, st_rdev=makedev(0x0, 0x0), st_size=3, st_blksize=4096, st_blocks=8}, AT_SYMLINK_NOFOLLOW) = 0 ",
        "EPOLL_CTL_ADD, 8<pipe:[",
        "{events=EPOLLIN, data={u32=4242, u64=4242}}) = 0 ",
        ", [{events=EPOLLIN, data={u32=4242, u64=4242}}], 2, 1000, NULL, 8) = 1 ",
        "fcntl(3</tmp/perl/a>, F_SETLK, {l_type=F_WRLCK, l_whence=SEEK_SET, l_start=0, l_len=10, l_pid=0}) = 0 ",
        "rt_sigaction(SIGCHLD, {sa_handler=0x",
        ", sa_flags=SA_RESTART, sa_mask=[]}, NULL, 8) = 0 ",
        // Memory, and a protection of its own.
        "mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0xffff",
        ", 4096, PROT_READ|PROT_EXEC|PROT_BTI) = 0 ",
        "brk(NULL) = 0x",
        // Descriptors.
        "pipe2([8, 9], O_CLOEXEC) = 0 ",
        ">, 0</dev/console>, 0) = 0<pipe:[",
        r#"memfd_create("scratch", MFD_CLOEXEC|MFD_ALLOW_SEALING) = 7</memfd:scratch (deleted)> "#,
        "eventfd2(1, EFD_NONBLOCK|EFD_CLOEXEC) = 11<anon_inode:[eventfd]> ",
        "timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK|TFD_CLOEXEC) = 12<anon_inode:[timerfd]> ",
        "timerfd_settime(12<anon_inode:[timerfd]>, 0, {it_interval={tv_sec=0, tv_nsec=0}, it_value={tv_sec=1, tv_nsec=500000000}}, NULL) = 0 ",
        "socketpair(AF_UNIX, SOCK_STREAM|SOCK_CLOEXEC, 0, [13, 14]) = 0 ",
        "msg_control=[{cmsg_len=20, cmsg_level=SOL_SOCKET, cmsg_type=SCM_RIGHTS, cmsg_data=[3]}], msg_controllen=24, msg_flags=0}, MSG_NOSIGNAL) = 5 ",
        "cmsg_data=[15]}], msg_controllen=24, msg_flags=MSG_CMSG_CLOEXEC}, MSG_CMSG_CLOEXEC) = 5 ",
        ">, SOL_SOCKET, SO_BROADCAST, [1], 4) = 0 ",
        ", [::1]:53, 28) = 0 ",
        // Between processes.
        "semget(0x0, 1, IPC_CREAT|0600) = ",
        ", [{sem_num=0, sem_op=1, sem_flg=IPC_NOWAIT}], 1, NULL) = 0 ",
        "clone(CLONE_CHILD_CLEARTID|CLONE_CHILD_SETTID|SIGCHLD, NULL, NULL, NULL, 0xffff",
        "clone(CLONE_VM|CLONE_VFORK|SIGCHLD, 0xffff",
        ", [{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = ",
        ", [{WIFSIGNALED(s) && WTERMSIG(s) == SIGKILL}], 0, NULL) = ",
        ", [{WIFSIGNALED(s) && WTERMSIG(s) == SIGTERM}], WNOHANG, NULL) = ",
        "timer_settime(0, 0, {it_interval={tv_sec=0, tv_nsec=0}, it_value={tv_sec=0, tv_nsec=100000000}}, NULL) = 0 ",
        "+++ killed by SIGINT +++",
        "+++ exited with 124 +++",
        r#"prctl(PR_SET_NAME, "worker") = 0 "#,
        "syscall_9999(0x1, 0x2, ",
        "setgroups(1, [2]) = 0 ",
        "setresgid(-1, 2, -1) = 0 ",
        "setresuid(-1, 1, -1) = 0 ",
        // What had not returned.
        r#"openat(AT_FDCWD, "/tmp/fifo", O_RDONLY <unfinished ...> <"#,
        "clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=3600, tv_nsec=0}, 0x",
    ] {
        assert!(all.contains(expected), "nobody said {expected}");
    }
    assert!(!all.contains("sa_restorer"), "no program here has one of its own");
    assert!(!all.contains("<unreadable>") && !all.contains("[LOST "), "all was read");
}

#[test]
fn processes_are_known_with_containers_that_are_gone() {
    let events = events();
    let plain = one(events, "cat in the unit", |event| {
        event["args"] == json!(["cat", "/etc/hostname"]) && event["unit"] == "web.service"
    });
    assert_eq!((&plain["comm"], &plain["program"]), (&json!("cat"), &json!("/bin/cat")));
    assert_eq!((&plain["uid"], &plain["container_id"]), (&json!(0), &Value::Null));

    let contained = one(events, "cat in the container", |event| {
        event["args"] == json!(["cat", "/etc/hostname"]) && event["container_id"] == DOCKER
    });
    assert_eq!(contained["container_runtime"], "docker");
    let read = position(events, "its file, opened", |event| {
        event["pid"] == contained["pid"] && event["ret_file"] == "/etc/hostname"
    });
    assert_eq!(events[read]["container_id"], DOCKER);
    let removed = position(events, "removal of its group", |event| {
        event["kind"] == "cgroup"
            && event["change"] == "removed"
            && event["path"].as_str().is_some_and(|path| path.contains(DOCKER))
    });
    assert!(read < removed);

    let waiting = exec(events, &["cat", "/tmp/fifo"]);
    assert_eq!(waiting["container_id"], CONTAINERD);
    assert_eq!((&waiting["pod_uid"], &waiting["pod_qos"]), (&json!(POD), &json!("burstable")));
    assert_eq!((&waiting["uid"], &waiting["gid"]), (&json!(65534), &json!(65534)));
    let waits = one(events, "its call", |event| {
        event["pid"] == waiting["pid"] && event["unfinished"] == true
    });
    assert_eq!(
        (&waits["name"], &waits["args"]["filename"]),
        (&json!("openat"), &json!("/tmp/fifo"))
    );
    assert_eq!((&waits["comm"], &waits["pod_uid"]), (&json!("cat"), &json!(POD)));
    let by_pod = objects(&["replay", "--pod", "8f3c2d1e"]);
    assert!(by_pod.iter().all(|event| event["pid"] == waiting["pid"]), "and nobody else");

    // Each process that began ended, or is there at the end.
    let there = objects(&["state", "ps"]);
    for fork in kind(events, "process_fork") {
        let pid = &fork["child_pid"];
        let ended = kind(events, "process_exit").iter().any(|exit| exit["pid"] == *pid);
        let stays = there.iter().any(|process| process["pid"] == *pid);
        assert!(ended != stays, "{fork}");
    }
    let masked = ["cat", "https://bob:***@example.org/", "--password=***"];
    assert_eq!(exec(events, &masked)["comm"], "cat");
    let raw = program::run(["replay", "--format", "jsonl", file().to_str().unwrap()]);
    assert!(!raw.stdout.contains("correct-horse") && !raw.stdout.contains("battery-staple"));
}

#[test]
fn the_state_at_a_moment_is_what_it_was() {
    let events = events();
    let recvmsg = one(events, "recvmsg", |event| event["name"] == "recvmsg");
    let perl = &recvmsg["pid"];
    let at = |what, event: &Value| objects(&["state", what, "--at", text(&event["ts"])]);
    let process = |rows: &[Value]| rows.iter().find(|row| row["pid"] == *perl).cloned();
    let running = process(&at("ps", recvmsg)).expect("it runs");
    assert_eq!(running["args"], json!(["perl", "/workload.pl"]));
    assert_eq!((&running["uid"], &running["directory"]), (&json!(0), &json!("/etc")));
    assert_eq!(process(&objects(&["state", "ps"])), None, "it has ended");

    // Number 15 came through a socket.
    let names = |rows: &[Value]| -> Vec<(Value, String)> {
        let own = rows.iter().filter(|row| row["pid"] == *perl);
        own.map(|row| (row["fd"].clone(), text(&row["file"]).to_owned())).collect()
    };
    let files = names(&at("files", recvmsg));
    let named = |fd: Value| {
        let found = files.iter().find(|(number, _)| *number == fd);
        found.unwrap_or_else(|| panic!("{fd} of {files:?}")).1.as_str()
    };
    assert_eq!(named(json!("cwd")), "/etc");
    assert_eq!(named(json!(0)), "/dev/console");
    assert_eq!(named(json!(3)), "/tmp/perl/a");
    assert_eq!(named(json!(4)), "/tmp/perl");
    assert_eq!(named(json!(6)), "/etc");
    assert_eq!(named(json!(7)), "/memfd:scratch (deleted)");
    assert_eq!(named(json!(15)), "/tmp/perl/a");
    assert!(named(json!(8)).starts_with("pipe:[") && named(json!(8)) == named(json!(9)));
    let sent = one(events, "sendmsg", |event| event["name"] == "sendmsg" && event["pid"] == *perl);
    let before = names(&at("files", sent));
    assert!(before.iter().all(|(fd, _)| *fd != 15), "not yet: {before:?}");

    let listen = one(events, "listen", |event| event["name"] == "listen");
    assert!(at("sockets", listen).iter().any(|row| row["local"] == "[::]:8080"));
    let connect = one(events, "connect", |event| {
        event["name"] == "connect" && event["args"]["uservaddr"] == "127.0.0.1:8080"
    });
    assert_eq!((&connect["comm"], &connect["ret"]), (&json!("nc"), &json!(0)));
    let sockets = at("sockets", hello());
    let client = one(&sockets, "the client", |row| row["remote"] == "127.0.0.1:8080");
    assert_eq!((&client["protocol"], &client["owners"][0]["fd"]), (&json!("TCP"), &json!(3)));
    let heard = one(events, "read of the server", |event| {
        event["name"] == "read"
            && event["ret"] == 6
            && event["args"]["fd_file"].as_str().is_some_and(|file| file.starts_with("TCPv6 "))
    });
    let sockets = at("sockets", heard);
    let server = one(&sockets, "the server", |row| row["local"] == "[::ffff:127.0.0.1]:8080");
    let client_port = text(&client["local"]).strip_prefix("127.0.0.1:").unwrap();
    assert!(text(&server["remote"]).ends_with(client_port), "{server}");
    assert!(sockets.iter().all(|row| row["local"] != "[::]:8080"), "it takes one and is done");

    // Older than the recording.
    let sleeper = objects(&["state", "files"]);
    let stdin = |row: &&Value| row["comm"] == "sleep" && row["fd"] == 0;
    assert_eq!(sleeper.iter().find(stdin).unwrap()["file"], "/etc/hosts");
}
