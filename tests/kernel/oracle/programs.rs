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

use recorder_tests::{free_address, strace, wait_for};

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
    /// Whether it takes seconds, and runs in a full run only.
    pub(super) is_long: bool,
    /// Whether it makes calls whose arguments mean nothing but where they are strings.
    pub(super) is_made_up: bool,
}

impl Program {
    const fn long(self) -> Program {
        Program { is_long: true, ..self }
    }

    const fn made_up(self) -> Program {
        Program { is_made_up: true, ..self }
    }
}

const fn program(
    name: &'static str,
    needs: &'static [&'static str],
    command: &'static [&'static str],
    code: i64,
) -> Program {
    Program { name, needs, command, code, is_long: false, is_made_up: false }
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

/// Calls that ordinary programs seldom make.
const RARE: &str = include_str!("rare.c");

/// What it ends with when it has called every number.
const LAST_WORD: i64 = 77;

/// A server of two processes, its client, and files that `sendfile` sends.
const NGINX: &str = r#"
echo "daemon off; worker_processes 1; user root; pid nginx.pid; error_log error.log;
events {} http { access_log access.log; sendfile on;
server { listen 127.0.0.1:$PORT; root .; } }" > nginx.conf
nginx -p . -c nginx.conf -e error.log &
until curl -s -o got.txt "http://127.0.0.1:$PORT/words.txt"; do sleep 0.02; done
curl -s -o got.txt "http://127.0.0.1:$PORT/nothing"; kill -QUIT $!; wait $!
"#;

/// A server of several threads, and a child that writes its data.
const REDIS: &str = r#"
redis-server --port "$PORT" --bind 127.0.0.1 --save '' --dir . > redis.log &
until redis-cli -p "$PORT" ping | grep -q PONG; do sleep 0.02; done
redis-cli -p "$PORT" set key value; redis-cli -p "$PORT" get key
redis-cli -p "$PORT" bgsave; redis-cli -p "$PORT" shutdown nosave; wait $!
"#;

/// A server of many processes that share memory, and that will not run as root.
const POSTGRES: &str = r#"
chmod 777 .; mkdir -m 700 base; chown 65534:65534 base
exec setpriv --reuid=65534 --regid=65534 --clear-groups sh -ec '
PATH=$(ls -d /usr/lib/postgresql/*/bin | tail -n 1):$PATH
initdb -N -A trust -U oracle -D base
pg_ctl -D base -w -l server.log -o "-k $PWD -c listen_addresses=127.0.0.1 -p $PORT" start
psql -h 127.0.0.1 -p "$PORT" -U oracle -c "create table t (a int); insert into t values (1)" postgres
psql -h "$PWD" -p "$PORT" -U oracle -c "select count(*) from t" postgres
pg_ctl -D base -w -m fast stop'
"#;

const JAVA: &str = r#"
echo 'public class Hello { public static void main(String[] words) throws Exception {
Thread thread = new Thread(() -> System.out.println("thread")); thread.start(); thread.join();
} }' > Hello.java; exec java -Xint Hello.java
"#;

const NODE: &str = r#"
require("fs").readFile("words.txt", (error, data) => console.log(data.length));
require("net").createServer().listen(0, "127.0.0.1", function () { this.close(); });
console.log(require("child_process").execSync("cat other.txt").length);
"#;

const KEYS: &str = r#"
set -e; ssh-keygen -q -t ed25519 -N '' -f key; ssh-keygen -l -f key.pub
ssh -F none -o BatchMode=yes -p 1 127.0.0.1 true || test $? = 255
"#;

const FILES: &str = r#"
set -e; mkfifo pipe; (cat pipe > piped.txt) & echo words > pipe; wait
head -c 10 words.txt | tee teed.txt | tail -n 1; split -l 50 words.txt part.; cut -d' ' -f1 part.aa
tr a-z A-Z < words.txt | tac | od -c | tail -n 1; paste words.txt other.txt | comm other.txt other.txt
install -m 600 words.txt installed; truncate -s 1M sparse; cp --sparse=always sparse holes
mktemp -d ./tmp.XXXXXX; sync -d words.txt; sha256sum words.txt | base64; cmp words.txt installed
"#;

/// Shared memory, semaphores, a queue; only its own are removed.
const IPC: &str = r#"
set -e; ipcrm -m $(ipcmk -M 4096 | sed 's/.* //'); ipcrm -s $(ipcmk -S 2 | sed 's/.* //')
ipcrm -q $(ipcmk -Q | sed 's/.* //')
"#;

const SYSTEM: &str = r#"
df . ; date; uname -a; nproc; id; env; nice -n 5 true; who; uptime; free; tty
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
    program("gcc", &[], &["gcc", "-O1", "-o", "rare", "rare.c"], 0),
    program("rare calls", &["gcc"], &["sh", "-c", "gcc -O1 -no-pie -o rare rare.c && ./rare"], 0)
        .made_up(),
    program(
        "every number",
        &["gcc"],
        &["sh", "-c", "gcc -O1 -no-pie -o rare rare.c && ./rare all"],
        LAST_WORD,
    )
    .made_up(),
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
    program("nginx", &["nginx", "curl"], &["sh", "-c", NGINX], 0),
    program("redis", &["redis-server", "redis-cli"], &["sh", "-c", REDIS], 0),
    program("postgres", &["setpriv", "psql"], &["sh", "-c", POSTGRES], 0).long(),
    program("java", &["java"], &["sh", "-c", JAVA], 0),
    program("node", &["sh"], &["node", "-e", NODE], 0),
    program("ssh-keygen", &["ssh-keygen", "ssh"], &["sh", "-c", KEYS], 0),
    program("files", &["tee", "split", "od"], &["sh", "-c", FILES], 0),
    program("system", &["df", "uptime"], &["sh", "-c", SYSTEM], 1),
    program("head", &[], &["head", "-n", "2", "words.txt", "other.txt"], 0),
    program("tail", &[], &["tail", "-n", "2", "words.txt"], 0),
    program("sha256sum", &[], &["sha256sum", "words.txt", "other.txt"], 0),
    program("df", &[], &["df", "-a"], 0),
    program("id", &[], &["id"], 0),
    program("date", &[], &["date", "-r", "words.txt"], 0),
    program("env", &["cat"], &["env", "-i", "cat", "words.txt"], 0),
    program("tee", &[], &["tee", "teed.txt"], 0),
    program("split", &[], &["split", "-l", "9", "words.txt"], 0),
    program("install", &[], &["install", "-D", "-m", "640", "words.txt", "a/b/words"], 0),
    program("truncate", &[], &["truncate", "-s", "1M", "sparse"], 0),
    program("mkfifo", &[], &["mkfifo", "-m", "600", "pipe"], 0),
    program("mknod", &[], &["mknod", "null", "c", "1", "3"], 0),
    program("nice", &["true"], &["nice", "-n", "5", "true"], 0),
    program("nohup", &["true"], &["nohup", "true"], 0),
    program("setsid", &["true"], &["setsid", "-w", "true"], 0),
    program("flock", &["true"], &["flock", "-x", "words.txt", "true"], 0),
    program("chroot", &["true"], &["chroot", "/", "true"], 0),
    program("ps", &[], &["ps", "-ef"], 0),
    program("ip", &[], &["ip", "-o", "addr", "show", "lo"], 0),
    program("ss", &[], &["ss", "-tln"], 0),
    program("ping", &[], &["ping", "-c", "1", "-W", "1", "127.0.0.1"], 0),
    program("wget", &[], &["wget", "-q", "-O", "got.txt", "{url}"], 0),
    program("make", &[], &["make", "-n", "-f", "/dev/null", "nothing"], 2),
    program("ld", &[], &["ld", "-r", "-o", "all.o", "/usr/lib/x86_64-linux-gnu/crt1.o"], 0),
    program("xz", &[], &["xz", "-T", "2", "-k", "words.txt"], 0),
    program("zstd", &[], &["zstd", "-q", "-T2", "words.txt"], 0),
    program("bzip2", &[], &["bzip2", "-k", "words.txt"], 0),
    program("jq", &[], &["jq", "-n", "[1, 2] | add"], 0),
    program("gpg", &[], &["gpg", "--homedir", ".", "--print-md", "SHA256", "words.txt"], 0),
    program("tclsh", &[], &["tclsh", "/dev/null"], 0),
    program("vim", &[], &["vim", "-u", "NONE", "-es", "-c", "r words.txt", "-c", "wq! new"], 0),
    program("gdb", &[], &["gdb", "-nx", "-batch", "-ex", "print 1"], 0),
    program("ldd", &["cat"], &["ldd", "/bin/cat"], 0),
    program("setpriv", &["true"], &["setpriv", "--reuid=65534", "--clear-groups", "true"], 0),
    program("taskset", &["true"], &["taskset", "1", "true"], 0),
    program("chrt", &["true"], &["chrt", "-b", "0", "true"], 0),
    program("prlimit", &["true"], &["prlimit", "--nofile=512:1024", "true"], 0),
    program("ionice", &["true"], &["ionice", "-c", "3", "true"], 0),
    program("script", &["true"], &["script", "-q", "-c", "true", "typescript"], 0),
    program("ipcs", &[], &["ipcs"], 0),
    program("ipcmk", &["ipcrm", "sed"], &["sh", "-c", IPC], 0),
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
        command.env("PORT", free_address().port().to_string());
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
    write("rare.c".as_ref(), RARE);
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
