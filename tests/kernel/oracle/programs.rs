//! What the oracle runs: ordinary programs, each in a new directory with the same
//! few files.

use std::{
    ffi::OsStr,
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener},
    os::unix::{ffi::OsStrExt as _, fs::symlink},
    path::Path,
    process::{Command, Stdio},
};

use recorder_tests::{strace, wait_for};

/// Where the programs come from. Not the PATH of the test: what stands there first
/// may be a script that looks for the program, and is another one.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin:/applets";

/// A program and how it is run.
pub(super) struct Program {
    /// What it is called in what the test prints.
    pub(super) name: &'static str,
    /// The programs it needs beside the first word of the command.
    needs: &'static [&'static str],
    /// `{url}` is a server's on the loopback interface.
    command: &'static [&'static str],
    /// The exit code of the real program; applets of a virtual machine may differ.
    code: i64,
}

const fn program(
    name: &'static str,
    needs: &'static [&'static str],
    command: &'static [&'static str],
    code: i64,
) -> Program {
    Program { name, needs, command, code }
}

/// A thread that waits while another one ends the process, one that becomes another
/// program, children by fork and by vfork, and a signal with a handler.
const PYTHON: &str = r#"
import os, signal, subprocess, threading, time
def work(number):
    for round in range(20):
        try: os.stat("nothing/%d/%d" % (number, round))
        except OSError: pass
        time.sleep(0)
threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
subprocess.run(["cat", "words.txt"], stdout=subprocess.DEVNULL, check=True)
child = os.fork()
if child == 0:
    threading.Thread(target=lambda: os.execv("/bin/cat", ["cat", "words.txt"])).start()
    time.sleep(60)
os.waitpid(child, 0)
child = os.fork()
if child == 0:
    threading.Thread(target=lambda: os._exit(0)).start()
    time.sleep(60)
os.waitpid(child, 0)
signal.signal(signal.SIGALRM, lambda number, frame: None)
signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
time.sleep(0.05)
signal.setitimer(signal.ITIMER_REAL, 0)
child = os.fork()
if child == 0: signal.pause()
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"#;

const PERL: &str = r#"
open(my $in, "<", "words.txt") or die; my @lines = <$in>; close $in;
mkdir "made"; open(my $out, ">", "made/out") or die; print $out sort @lines; close $out;
rename "made/out", "made/renamed"; link "made/renamed", "made/hard"; symlink "hard", "made/soft";
my $pid = fork; if ($pid == 0) { exec "cat", "made/soft"; } waitpid $pid, 0;
my $word = `echo hello`; unlink glob "made/*"; rmdir "made"; exit($word eq "hello\n" ? 0 : 1);
"#;

const SHELL: &str = r#"
sort words.txt | uniq -c | sort -rn | head -n 3
( cd sub && ls | wc -l ) & (sleep 0.01; exit 3) || echo "$?"; wait
for f in *.txt; do [ -r "$f" ] && cat "$f" > /dev/null; done; x=$(cat words.txt); cd nothing
trap 'echo caught' USR1; kill -USR1 $$; umask 027; umask; true
"#;

const BASH: &str = r#"
diff <(sort words.txt) <(sort other.txt) > /dev/null; shopt -s nullglob
mapfile -t lines < words.txt; while read -r line; do printf '%s\n' "$line"; done <<< "${lines[@]}"
coproc cat; echo word >&"${COPROC[1]}"; read -r back <&"${COPROC[0]}"; kill "$COPROC_PID"
wait; sleep 60 & kill -KILL $!; wait $!; exec 5<> words.txt; exec 5>&-; [[ $back == word ]]
"#;

/// Processes that are killed wherever they happen to be.
const KILLS: &str = "for i in {1..30}; do sleep 60 & kill -KILL $!; wait $!; done; true";

const GIT: &str = r#"
set -e; git init -q . ; git config user.name n; git config user.email n@example.org
git config commit.gpgsign false; git config gc.auto 0; git config maintenance.auto false
git add words.txt sub; git commit -q -m first; git mv words.txt moved.txt
git commit -q -m second; git log --oneline | cat; git status --short
"#;

/// The oracle's programs.
pub(super) const PROGRAMS: &[Program] = &[
    program("cat", &[], &["cat", "words.txt", "other.txt", "nothing.txt"], 1),
    program("ls", &[], &["ls", "-lR", "."], 0),
    program("cp", &[], &["cp", "-a", "sub", "copy"], 0),
    program("mv", &[], &["mv", "words.txt", "sub", "moved"], 1),
    program("mv over", &[], &["mv", "-f", "words.txt", "other.txt"], 0),
    program("rm", &[], &["rm", "-r", "sub", "words.txt"], 0),
    program("ln", &[], &["ln", "words.txt", "hard.txt"], 0),
    program("ln -s", &[], &["ln", "-s", "sub/deep", "soft"], 0),
    program("mkdir", &[], &["mkdir", "-p", "a/b/c", "sub/deep/d"], 0),
    program("rmdir", &[], &["rmdir", "sub/empty", "sub"], 1),
    program("touch", &[], &["touch", "words.txt", "new.txt"], 0),
    program("stat", &[], &["stat", "words.txt", "sub/link"], 0),
    program("chmod", &[], &["chmod", "-R", "u+x", "sub"], 0),
    program("readlink", &[], &["readlink", "-f", "sub/link"], 0),
    program("sort", &[], &["sort", "-u", "words.txt", "other.txt"], 0),
    program("wc", &[], &["wc", "words.txt", "other.txt"], 0),
    program("du", &[], &["du", "-a", "."], 0),
    program("dd", &[], &["dd", "if=words.txt", "of=copy.bin", "bs=7", "count=20"], 0),
    program("timeout", &["sleep"], &["timeout", "0.05", "sleep", "60"], 124),
    program("find", &["cat"], &["find", ".", "-name", "*.txt", "-exec", "cat", "{}", "+"], 0),
    program("grep", &[], &["grep", "-r", "leaf", "."], 0),
    program("tar", &["gzip"], &["tar", "-czf", "sub.tgz", "sub", "words.txt"], 0),
    program("gzip", &[], &["gzip", "-k", "words.txt"], 0),
    program("sed", &[], &["sed", "-i", "s/a/b/", "words.txt"], 0),
    program("awk", &[], &["awk", r#"{ print $1 | "sort" }"#, "words.txt"], 0),
    program("diff", &[], &["diff", "-r", "sub", "sub/deep"], 1),
    program(
        "xargs",
        &["sh", "cat"],
        &["sh", "-c", "seq 12 | xargs -P 3 -n 2 sh -c 'cat words.txt > out.$0'"],
        0,
    ),
    program("sh", &["sort", "uniq", "head"], &["sh", "-c", SHELL], 0),
    program("bash", &["diff", "sort"], &["bash", "-c", BASH], 0),
    program("bash that kills", &["sleep"], &["bash", "-c", KILLS], 0),
    program(
        "unshare",
        &["sh", "mount", "umount"],
        &["unshare", "-m", "sh", "-c", "mount -t tmpfs none sub && umount sub"],
        0,
    ),
    program("perl", &["sh"], &["perl", "-e", PERL], 0),
    program("python3", &["cat"], &["python3", "-c", PYTHON], 0),
    program("git", &["sh"], &["sh", "-c", GIT], 0),
    program("gcc", &[], &["gcc", "-O1", "-o", "hello", "hello.c"], 0),
    program("curl", &[], &["curl", "-sS", "-o", "got.txt", "{url}"], 0),
    program("openssl", &[], &["openssl", "dgst", "-sha256", "words.txt"], 0),
    program(
        "sqlite3",
        &[],
        &[
            "sqlite3",
            "data.db",
            "create table t(a); insert into t values (1), (2); select sum(a) from t;",
        ],
        0,
    ),
];

impl Program {
    /// The first program it needs that is not there.
    pub(super) fn missing(&self) -> Option<&'static str> {
        let mut needed = self.needs.iter().chain(self.command.first());
        let there =
            |name: &str| PATH.split(':').any(|folder| Path::new(folder).join(name).exists());
        needed.find(|name| !there(name)).copied()
    }

    /// Runs it under strace in `directory`, which is made, and answers the process
    /// strace was and what it wrote.
    pub(super) fn run(&self, directory: &Path) -> (i32, String) {
        prepare(directory);
        let log = directory.with_extension("strace");
        let server = self.command.contains(&"{url}").then(serve);
        let words = self.command.iter().map(|word| match server {
            Some(port) if *word == "{url}" => format!("http://127.0.0.1:{port}/words"),
            _ => word.to_string(),
        });
        let mut command = Command::new("strace");
        command.args(strace::ARGUMENTS).arg("-o").arg(&log).arg("--").args(words);
        command.current_dir(directory).env_clear().env("PATH", PATH).env("HOME", directory);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        command.stderr(fs::File::create(directory.with_extension("said")).expect("a file"));
        let mut tracer = command.spawn().expect("strace");
        let ended = wait_for(self.name, || tracer.try_wait().ok().flatten());
        let code = ended.code().map(i64::from);
        let said = || fs::read_to_string(directory.with_extension("said")).unwrap_or_default();
        // The applets of a virtual machine do not take every option.
        let is_real = std::env::var_os("RECORDER_VM").is_none();
        assert!(!is_real || code == Some(self.code), "{}: {ended}: {}", self.name, said());
        (tracer.id().cast_signed(), fs::read_to_string(log).expect("what strace wrote"))
    }
}

/// The files every program finds.
fn prepare(directory: &Path) {
    let write = |name: &OsStr, text: &str| {
        fs::write(directory.join(name), text).expect("a file for the programs");
    };
    fs::create_dir_all(directory.join("sub/deep")).expect("directories for the programs");
    fs::create_dir(directory.join("sub/empty")).expect("a directory for the programs");
    let words = ["pear", "apple", "fig", "apple", "quince"].map(|word| format!("{word} 1\n"));
    write("words.txt".as_ref(), &words.concat().repeat(40));
    write("other.txt".as_ref(), "apple 2\nmelon 3\n");
    write("sub/deep/leaf.txt".as_ref(), "a leaf\n");
    write("sub/ümläut.txt".as_ref(), "not all is ASCII\n");
    write(OsStr::from_bytes(b"sub/not-\xff\xfe-text.txt"), "not all is UTF-8\n");
    write(
        "hello.c".as_ref(),
        "#include <stdio.h>\nint main(void) { puts(\"hello\"); return 0; }\n",
    );
    symlink("../words.txt", directory.join("sub/link")).expect("a link for the programs");
}

/// A server that answers one request. Answers its port.
fn serve() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let port = listener.local_addr().expect("its address").port();
    std::thread::spawn(move || {
        let (mut client, _) = listener.accept().expect("a client");
        let mut request = [0; 1024];
        // Whatever it asks for.
        let _ = client.read(&mut request);
        let _ = client.write_all(b"HTTP/1.0 200 OK\r\nContent-Length: 6\r\n\r\nwords\n");
        let _ = client.shutdown(Shutdown::Write);
    });
    port
}
