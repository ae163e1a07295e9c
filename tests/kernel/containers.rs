//! Containers, units and pods: who is in which control group, also when the group is no
//! more.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use recorder_tests::{
    Child, ControlGroup, Hierarchy, Pipe, RecorderProcess, Start, TestDirectory, kind, number,
    of_pid, one, run, skip, text, unpacked, wait_until,
};
use serde_json::{Value, json};

const ID: &str = "4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2";
const UID: &str = "2c48913c-b29f-11e7-9350-020968147796";

/// A hierarchy, or the test is skipped with the reason.
macro_rules! or_skip {
    ($hierarchy:expr) => {
        match $hierarchy {
            Ok(hierarchy) => hierarchy,
            Err(why) => return skip(&why),
        }
    };
}

/// A call nobody else makes, so that it is found again.
fn look(path: &std::ffi::CStr) {
    // SAFETY: a string with its NUL; it is not there.
    unsafe { libc::access(path.as_ptr(), libc::F_OK) };
}

#[track_caller]
fn call_on<'a>(events: &'a [Value], path: &str) -> &'a Value {
    one(events, path, |event| event["args"]["filename"] == path)
}

/// What an event says of container, pod and unit.
fn said(event: &Value) -> Value {
    let names = ["container_id", "container_runtime", "pod_uid", "pod_qos", "unit", "user_unit"];
    let known = names.iter().filter_map(|name| Some((*name, event.get(*name)?)));
    known
        .map(|(name, value)| (name.to_string(), value.clone()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

/// The promise: a container that was removed before the dump is named in every event of
/// its processes, with its runtime and its pod, and its program by its path.
#[test]
fn a_container_that_is_gone_is_named_in_full() {
    let Some(runc) = unpacked("runc").map(|home| home.join("usr/sbin/runc")) else {
        return skip("runc is not unpacked: run the tests by `cargo xtask test`");
    };
    let directory = TestDirectory::new();
    let group = format!("/kubepods/burstable/pod{UID}/crio-{ID}");
    bundle(directory.path(), &group);
    let recorder = RecorderProcess::start();
    let outcome = run(Command::new(&runc)
        .arg("--root")
        .arg(directory.join("state"))
        .args(["run", "--bundle"])
        .arg(directory.path())
        .arg(ID));
    remove_groups(&group);
    assert_eq!((outcome.code, outcome.text()), (Some(3), "known\n"), "{outcome:?}");
    let file = recorder.dump(&[]);
    let all = recorder.replay(&file, &[]);
    let whose = json!({
        "container_id": ID, "container_runtime": "cri-o", "pod_uid": UID, "pod_qos": "burstable",
    });
    let exec = one(&all, "exec of cat in the container", |event| {
        event["kind"] == "process_exec" && event["args"] == json!(["/bin/cat", "/etc/known"])
    });
    assert_eq!((&said(exec), &exec["program"]), (&whose, &json!("/bin/cat")));
    let open = call_on(&all, "/etc/known");
    assert_eq!((&said(open), &open["pid"], &open["comm"]), (&whose, &exec["pid"], &json!("cat")));
    let cat = of_pid(&all, number(&exec["pid"]) as i32);
    assert!(cat.len() > 10 && cat.iter().all(|event| said(event) == whose), "{cat:#?}");
    let shell = one(&all, "exec of sh in the container", |event| {
        event["kind"] == "process_exec" && event["program"] == "/bin/sh" && said(event) == whose
    });
    let shell_end = one(&all, "end of sh", |event| {
        event["kind"] == "process_exit" && event["tid"] == shell["pid"] && event["code"] == 3
    });
    assert_eq!(said(shell_end), whose);
    let host = one(&all, "exec of runc", |event| {
        event["kind"] == "process_exec"
            && event["args"][0] == runc.to_string_lossy().as_ref()
            && event["args"][1] == "--root"
    });
    assert_eq!(said(host).get("container_id"), None, "{host}");

    for arguments in [["--container", &ID[..12]], ["--pod", &UID[..8]]] {
        let chosen = recorder.replay(&file, &arguments);
        let expected = all
            .iter()
            .filter(|event| event["kind"] == "lost" || event.get("container_id").is_some());
        assert!(expected.eq(&chosen), "{arguments:?} chooses what is in the container");
    }
    assert_eq!(recorder.replay(&file, &["--container", "4fa6e0f0c679"]), [] as [Value; 0]);
    let lines = recorder.replay_text(&file, &["-e", "trace=process_exec"]);
    let short = &ID[..12];
    let line = format!("+++ exec \"/bin/cat\" [\"/bin/cat\", \"/etc/known\"] +++ in cri-o:{short}");
    assert!(lines.contains(&line), "{line}\n{lines}");
    let lines = recorder.replay_text(&file, &["--containers", "--path", "/etc/known"]);
    assert!(lines.contains(&format!("cat[{}]@{short} open", exec["pid"])), "{lines}");
}

/// What the Open Container Initiative calls a bundle: a root with a shell and `cat`, and
/// what to run in it.
fn bundle(directory: &Path, group: &str) {
    let root = directory.join("rootfs");
    for name in ["bin", "etc", "proc", "dev"] {
        fs::create_dir_all(root.join(name)).expect("a root");
    }
    fs::write(root.join("etc/known"), "known\n").expect("a file");
    for name in ["sh", "cat"] {
        let program = Path::new("/bin").join(name).canonicalize().expect("a program");
        fs::copy(&program, root.join("bin").join(name)).expect("a copy");
        // `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x...)`
        let listed = run(Command::new("ldd").arg(&program)).succeeded();
        for library in listed.text().split_whitespace().filter(|word| word.starts_with('/')) {
            let copy = root.join(library.trim_start_matches('/'));
            fs::create_dir_all(copy.parent().expect("a folder")).expect("a folder");
            fs::copy(library, copy).expect("a copy");
        }
    }
    let namespaces = ["pid", "mount", "ipc", "uts", "network"].map(|kind| json!({"type": kind}));
    let config = json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false, "user": {"uid": 0, "gid": 0}, "cwd": "/", "env": ["PATH=/bin"],
            "args": ["/bin/sh", "-c", "/bin/cat /etc/known; exit 3"],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": true},
        "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
        "linux": {"cgroupsPath": group, "namespaces": namespaces, "resources": {}},
    });
    fs::write(directory.join("config.json"), config.to_string()).expect("a configuration");
}

/// Removes what a runtime leaves: its own group it removes itself, those above it not.
fn remove_groups(path: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("mounts");
    let roots = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let (path, kind) = (words.next()?, words.next()?);
        kind.starts_with("cgroup").then(|| PathBuf::from(path))
    });
    for root in roots {
        for group in Path::new(path.trim_start_matches('/')).ancestors() {
            let directory = root.join(group);
            // What was there before is not empty.
            if group != Path::new("") && fs::remove_dir(&directory).is_err() && directory.is_dir() {
                let own = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
                assert_ne!(own, "", "{} is left behind", directory.display());
            }
        }
    }
}

/// In both versions, and with both kinds of kernels.
#[test]
fn a_process_that_is_moved_by_hand_is_where_it_was_moved() {
    moved_by_hand(&RecorderProcess::start());
}

#[test]
fn a_process_that_is_moved_by_hand_is_where_it_was_moved_without_btf() {
    let Some(wrapper) = Start::hide_btf() else {
        return skip("there is no BTF to hide, or no unshare to hide it with");
    };
    let start = Start { wrapper: &wrapper, ..Start::default() };
    moved_by_hand(&RecorderProcess::start_in(TestDirectory::new(), &start));
}

fn moved_by_hand(recorder: &RecorderProcess) {
    let unified = or_skip!(Hierarchy::unified());
    let first = or_skip!(Hierarchy::named("recorder-test"));
    let unit = unified.make("/recordertest.slice/web.service");
    let container = first.make(&format!("/docker/{ID}"));
    let (unit_id, container_id) = (unit.id(), container.id());
    let (first_number, container_path) = (first.number(), format!("/docker/{ID}"));
    let child = Child::fork(|| {
        look(c"/nonexistent/before");
        let unit = unit.enter();
        look(c"/nonexistent/unit");
        let container = container.enter();
        look(c"/nonexistent/container");
        let thread = std::thread::spawn(|| look(c"/nonexistent/thread")).join();
        let grandchild = Child::fork(|| {
            look(c"/nonexistent/grandchild");
            0
        });
        i32::from(!unit || !container || thread.is_err() || grandchild.finish() == 0)
    });
    let pid = child.finish();
    unit.remove();
    container.remove();
    let file = recorder.dump(&[]);
    let all = recorder.replay(&file, &[]);
    let of = |path: &str| said(call_on(&all, path));
    let both = json!({
        "container_id": ID, "container_runtime": "docker", "unit": "web.service",
    });
    let before = of("/nonexistent/before");
    assert_eq!(before.get("container_id"), None);
    assert_eq!(of("/nonexistent/unit")["unit"], "web.service");
    for path in ["container", "thread", "grandchild"] {
        assert_eq!(of(&format!("/nonexistent/{path}")), both, "{path}");
    }
    let moves = kind(&all, "cgroup_attach");
    let moves: Vec<_> = moves.iter().filter(|event| event["moved_pid"] == pid).collect();
    let told: Vec<Value> = moves
        .iter()
        .map(|event| {
            json!([
                event["pid"],
                event["moved_tid"],
                event["hierarchy"],
                event["id"],
                event["path"]
            ])
        })
        .collect();
    assert_eq!(
        told,
        [
            json!([pid, pid, 0, unit_id, "/recordertest.slice/web.service"]),
            json!([pid, pid, first_number, container_id, container_path]),
        ]
    );
    for (id, path, hierarchy) in [
        (unit_id, "/recordertest.slice/web.service", 0),
        (container_id, container_path.as_str(), first_number),
    ] {
        for change in ["made", "removed"] {
            let event = one(&all, &format!("{path} {change}"), |event| {
                event["kind"] == "cgroup" && event["path"] == path && event["change"] == change
            });
            assert_eq!((&event["id"], &event["hierarchy"]), (&json!(id), &json!(hierarchy)));
        }
    }
    assert_eq!(recorder.info(&file)["ledger"]["closes"], true);
    let chosen = recorder.replay(&file, &["--unit", "web", "--path", "/nonexistent/thread"]);
    assert_eq!(chosen.len(), 1, "{chosen:#?}");
}

/// Makes a child that begins in the group of this directory: clone3(2).
fn fork_into(group: &ControlGroup, work: impl FnOnce()) -> Result<i32, i32> {
    use std::os::fd::AsRawFd as _;
    /// `CLONE_INTO_CGROUP`, include/uapi/linux/sched.h; 5.7.
    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;
    let directory = fs::File::open(group.directory()).expect("a directory");
    // SAFETY: plain numbers.
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = CLONE_INTO_CGROUP;
    arguments.exit_signal = libc::SIGCHLD as u64;
    arguments.cgroup = directory.as_raw_fd() as u64;
    let size = size_of::<libc::clone_args>();
    // SAFETY: a child with memory of its own, like fork(2) makes; it only works and ends.
    match unsafe { libc::syscall(libc::SYS_clone3, &raw const arguments, size) } {
        -1 => Err(recorder_tests::errno()),
        0 => {
            work();
            // SAFETY: ends the child; nothing of the parent is flushed twice.
            unsafe { libc::_exit(0) }
        }
        pid => Ok(pid as i32),
    }
}

/// Nobody is moved: only the child's own group tells.
#[test]
fn a_child_that_begins_in_another_group_is_there() {
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        return skip("without BTF a child is taken to be where its maker is");
    }
    let unified = or_skip!(Hierarchy::unified());
    let early = unified.make(&format!("/recordertest.slice/docker-{ID}.scope"));
    let recorder = RecorderProcess::start();
    let late = unified.make("/recordertest.slice/late.service");
    for (group, path) in [(&early, c"/nonexistent/early"), (&late, c"/nonexistent/late")] {
        match fork_into(group, || look(path)) {
            // SAFETY: our child.
            Ok(pid) => wait_until("the child to end", || unsafe {
                libc::waitpid(pid, std::ptr::null_mut(), libc::WNOHANG) == pid
            }),
            Err(error) => panic!("clone3 into a group: errno {error}"),
        }
    }
    // The first one made what is above both.
    late.remove();
    early.remove();
    let file = recorder.dump(&[]);
    let all = recorder.replay(&file, &[]);
    let early = said(call_on(&all, "/nonexistent/early"));
    assert_eq!(early["container_id"], ID, "a group from before the recording");
    let late = call_on(&all, "/nonexistent/late");
    assert_eq!(said(late)["unit"], "late.service", "a group made meanwhile");
    let fork = one(&all, "fork of the child", |event| {
        event["kind"] == "process_fork" && event["child_pid"] == late["pid"]
    });
    assert!(!text(&fork["shares"]).contains("control_group"), "{fork}");
    let moves = kind(&all, "cgroup_attach");
    assert!(moves.iter().all(|event| event["moved_pid"] != late["pid"]), "{moves:#?}");
}

/// What is older than the window is in its left edge, and what is older than the
/// recording was read from `/proc`.
#[test]
fn who_was_there_before_the_recording_or_the_window_is_named() {
    let unified = or_skip!(Hierarchy::unified());
    let first = or_skip!(Hierarchy::named("recorder-test"));
    let (unit, container) =
        (unified.make("/recordertest.slice/web.service"), first.make(&format!("/lxc/{ID}/ns")));
    let (ready, go) = (Pipe::new(), Pipe::new());
    let mut early = Child::fork(|| {
        let is_in = unit.enter() && container.enter();
        ready.tell();
        go.wait();
        look(c"/nonexistent/early");
        i32::from(!is_in)
    });
    ready.wait();
    let recorder = RecorderProcess::start_with(&["--window", "1s"]);
    let go_late = Pipe::new();
    let late = Child::fork(|| {
        let is_in = unit.enter() && container.enter();
        ready.tell();
        go_late.wait();
        look(c"/nonexistent/late");
        i32::from(!is_in)
    });
    ready.wait();
    // Until its beginning has left the window: what happens meanwhile makes blocks.
    wait_until("the fork to be evicted", || {
        look(c"/nonexistent/meanwhile");
        let file = recorder.dump(&[]);
        let found = recorder.replay(&file, &["-e", "trace=process_fork,cgroup_attach"]);
        found
            .iter()
            .all(|event| event["child_pid"] != late.pid() && event["moved_pid"] != late.pid())
    });
    go.tell();
    go_late.tell();
    assert_eq!(early.wait(), recorder_tests::Ended::Code(0));
    late.finish();
    unit.remove();
    container.remove();
    let file = recorder.dump(&[]);
    let all = recorder.replay(&file, &[]);
    for path in ["/nonexistent/early", "/nonexistent/late"] {
        let expected =
            json!({"container_id": ID, "container_runtime": "lxc", "unit": "web.service"});
        assert_eq!(said(call_on(&all, path)), expected, "{path}");
    }
}
