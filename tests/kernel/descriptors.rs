//! What a program has open, whoever opened it and however: as `/proc` shows it.

use std::{
    collections::BTreeMap,
    ffi::CString,
    fs::{self, File},
    net::{TcpListener, TcpStream},
    os::{
        fd::AsRawFd as _,
        unix::{fs::symlink, net::UnixStream},
    },
    path::Path,
    process::{Command, Stdio},
};

use recorder_tests::{Child, Pipe, RecorderProcess, TestDirectory, binary, run};
use serde_json::Value;

/// What `recorder state` prints, row by row.
#[track_caller]
pub(crate) fn state_of(file: &Path, arguments: &[&str]) -> Vec<Value> {
    let mut command = Command::new(binary());
    let command = command.arg("state").arg(file).args(arguments).args(["--format", "jsonl"]);
    let outcome = run(command).succeeded();
    outcome.text().lines().map(|line| serde_json::from_str(line).expect("a JSON object")).collect()
}

/// What `/proc` says a process has open.
fn by_proc(pid: i32) -> BTreeMap<i64, String> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).expect("its descriptors").flatten();
    let names = entries.filter_map(|entry| {
        let fd: i64 = entry.file_name().to_str()?.parse().ok()?;
        Some((fd, fs::read_link(entry.path()).ok()?.to_str()?.to_string()))
    });
    names.collect()
}

/// What a snapshot says.
fn by_snapshot(rows: &[Value], pid: i32) -> BTreeMap<i64, String> {
    let own = rows.iter().filter(|row| row["pid"] == pid && row["fd"].is_number());
    own.filter_map(|row| Some((row["fd"].as_i64()?, row["file"].as_str()?.to_string()))).collect()
}

/// Sends a descriptor over a socket and receives it at the other end.
fn pass(from: &UnixStream, to: &UnixStream, file: &File) -> i32 {
    let mut byte = [b'x'];
    let mut buffer = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: 1 };
    let mut control = [0u64; 8];
    // SAFETY: all zeroes are a message; the control buffer has room for one descriptor,
    // and everything it points to lives until the calls return.
    unsafe {
        let mut message: libc::msghdr = std::mem::zeroed();
        (message.msg_iov, message.msg_iovlen) = (&raw mut buffer, 1);
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as usize;
        let head = libc::CMSG_FIRSTHDR(&raw const message);
        (*head).cmsg_level = libc::SOL_SOCKET;
        (*head).cmsg_type = libc::SCM_RIGHTS;
        (*head).cmsg_len = libc::CMSG_LEN(4) as usize;
        libc::CMSG_DATA(head).cast::<i32>().write_unaligned(file.as_raw_fd());
        assert_eq!(libc::sendmsg(from.as_raw_fd(), &raw const message, 0), 1);
        libc::CMSG_DATA(head).cast::<i32>().write_unaligned(-1);
        assert_eq!(libc::recvmsg(to.as_raw_fd(), &raw mut message, 0), 1);
        libc::CMSG_DATA(head).cast::<i32>().read_unaligned()
    }
}

/// Every way to a descriptor that ordinary programs take. The recorder is started between
/// the first half and the second.
#[test]
fn what_is_open_is_named_as_proc_names_it() {
    let directory = TestDirectory::new();
    let scratch = directory.path().canonicalize().unwrap().join(["deep"; 12].join("/"));
    fs::create_dir_all(&scratch).unwrap();
    let (file, link) = (scratch.join("file"), scratch.join("link"));
    fs::write(&file, b"").unwrap();
    symlink(&file, &link).unwrap();
    let (said, go_on) = (Pipe::new(), Pipe::new());
    let child = Child::fork(move || {
        std::env::set_current_dir(&scratch).unwrap();
        let before = (
            File::open("link").unwrap(),
            TcpListener::bind("127.0.0.1:0").unwrap(),
            UnixStream::pair().unwrap(),
            std::io::pipe().unwrap(),
        );
        said.tell();
        go_on.wait();
        let by_link = File::open("link").unwrap();
        let copied = by_link.try_clone().unwrap();
        let connected = TcpStream::connect(before.1.local_addr().unwrap()).unwrap();
        let accepted = before.1.accept().unwrap();
        let passed = pass(&before.2.0, &before.2.1, &by_link);
        let name = CString::new("of memory").unwrap();
        // SAFETY: plain calls that make descriptors, which the end of the process closes.
        let made = unsafe {
            [
                libc::memfd_create(name.as_ptr(), 0),
                libc::eventfd(0, libc::EFD_CLOEXEC),
                libc::epoll_create1(0),
                libc::timerfd_create(libc::CLOCK_MONOTONIC, 0),
                libc::socket(libc::AF_NETLINK, libc::SOCK_RAW, 0),
            ]
        };
        assert!(made.iter().all(|fd| *fd > 2));
        let pair = std::io::pipe().unwrap();
        drop(File::open("/etc/hostname").unwrap());
        let gone = File::create("gone").unwrap();
        std::env::set_current_dir("..").unwrap();
        said.tell();
        go_on.wait();
        drop((before, copied, connected, accepted, pair, gone));
        assert!(passed > 2);
        0
    });
    said.wait();
    let recorder = RecorderProcess::start();
    go_on.tell();
    said.wait();
    let pid = child.pid();
    let expected = by_proc(pid);
    let rows = state_of(&recorder.dump(&[]), &["files"]);
    assert_eq!(by_snapshot(&rows, pid), expected);
    let working = rows.iter().find(|row| row["pid"] == pid && row["fd"] == "cwd").unwrap();
    let cwd = fs::read_link(format!("/proc/{pid}/cwd")).unwrap();
    assert_eq!(working["file"], cwd.to_str().unwrap());
    let sockets: Vec<&Value> = rows.iter().filter(|row| row["pid"] == pid).collect();
    let ends = sockets.iter().filter(|row| {
        row["socket"].as_str().is_some_and(|name| name.starts_with("TCP ") && name.contains("->"))
    });
    assert_eq!(ends.count(), 2, "the connection has two ends here");
    go_on.tell();
    child.finish();
}

/// A process started, its file opened, and all of it gone before the dump.
#[test]
fn the_dead_keep_their_names_and_their_paths() {
    let recorder = RecorderProcess::start();
    let top = TestDirectory::new();
    let directory = top.path().canonicalize().unwrap().join("gone");
    fs::create_dir(&directory).unwrap();
    fs::write(directory.join("data"), b"x").unwrap();
    // Into a file it would copy without reading.
    let mut cat = Command::new("/bin/cat");
    let mut cat = cat.arg("data").current_dir(&directory).stdout(Stdio::null()).spawn().unwrap();
    let pid = cat.id();
    assert!(cat.wait().unwrap().success());
    fs::remove_dir_all(&directory).unwrap();
    let file = recorder.dump(&[]);
    let events = recorder.replay(&file, &["--pid", &pid.to_string()]);
    let open = events.iter().find(|event| event["args"]["filename"] == "data").unwrap();
    let path = directory.join("data");
    let path = path.to_str().unwrap();
    assert_eq!(open["args"]["filename_full"], path, "{open}");
    assert_eq!(open["ret_file"], path, "{open}");
    let reads = |event: &&Value| event["name"] == "read" && event["args"]["fd_file"] == path;
    assert!(events.iter().any(|event| reads(&event)), "{events:#?}");
    let text = recorder.replay_text(&file, &["--pid", &pid.to_string(), "-e", "trace=openat"]);
    let line = format!("openat(AT_FDCWD<{}>, \"data\"", directory.display());
    assert!(text.contains(&line) && text.contains(&format!("<{path}>")), "{text}");
}
