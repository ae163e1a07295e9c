//! What `strace -f -o FILE` wrote, as calls by thread: a second opinion on the
//! calls of a process.
//!
//! Invariant: every line is understood or refused with its number; nothing is
//! skipped but signals, which are no calls.

use std::collections::HashMap;

mod value;

pub use value::{Argument, Traced, value};

/// Arguments of strace under which its text has one meaning: strings are whole and
/// in hexadecimal, so that a quote or a bracket is never part of one; structures have
/// all their members and descriptors their files; only calls, signals and ends have
/// lines.
pub const ARGUMENTS: [&str; 7] =
    ["-f", "-v", "-y", "-s", "4096", "-xx", "--quiet=attach,personality"];

/// The name of a call strace could not ask for.
pub const NAMELESS: &str = "???";

/// Error numbers end here (`MAX_ERRNO`, include/linux/err.h).
const ERRNO_MAX: u64 = 4095;

/// A thread and its calls, in the order it made them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TracedThread {
    /// Its number; that of the leader after an exec of another thread.
    pub tid: i32,
    /// Its calls.
    pub calls: Vec<TracedCall>,
    /// How many of them the leader had made when another thread's exec ended it and
    /// took its number.
    pub superseded_after: Option<usize>,
    /// How it ended; `None` for a thread that became the leader by an exec.
    pub end: Option<TracedEnd>,
}

/// How a thread ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TracedEnd {
    /// By itself or with its process, with this code.
    Code(i64),
    /// By the signal with this name.
    Signal(String),
}

/// One call.
#[derive(Debug, PartialEq, Eq)]
pub struct TracedCall {
    /// Its name; `syscall_0x1c4` when strace is older than the call, [`NAMELESS`]
    /// when its thread was killed before strace could ask which call it is.
    pub name: String,
    /// Its arguments, as far as strace came to print them.
    pub args: Vec<Argument>,
    /// What it returned.
    pub result: TracedResult,
    /// What strace says about the result, without the brackets around it.
    pub note: String,
}

/// What a call returned.
#[derive(Debug, PartialEq, Eq)]
pub enum TracedResult {
    /// A number, a descriptor, an address.
    Value(i64),
    /// The name of an error, `ERESTARTSYS` and its like included.
    Error(String),
    /// strace did not see what it returned: it never does, or its thread was killed.
    Unseen,
}

/// Reads the whole file. Threads come in the order of their first line.
///
/// # Errors
/// Names the first line that is not understood.
pub fn parse(text: &str) -> Result<Vec<TracedThread>, String> {
    let mut reader = Reader::default();
    for (number, line) in (1..).zip(text.lines()) {
        reader.line(line).map_err(|why| format!("line {number}: {why}: {line}"))?;
    }
    reader.finish()
}

#[derive(Default)]
struct Reader {
    threads: Vec<TracedThread>,
    places: HashMap<i32, usize>,
    /// The beginnings of calls whose ends have not come yet, by thread.
    pending: HashMap<i32, String>,
}

impl Reader {
    fn line(&mut self, line: &str) -> Result<(), String> {
        let (tid, rest) = line.split_once(' ').ok_or("no thread")?;
        let tid = tid.parse().map_err(|_| "no thread")?;
        let rest = rest.trim_start();
        // A thread exists from its first line on, whatever that says.
        self.thread(tid);
        if rest.starts_with("--- ") {
            return Ok(());
        }
        if let Some(end) = rest.strip_prefix("+++ ") {
            return self.end(tid, end.trim_end_matches(" +++"));
        }
        let whole = match rest.strip_prefix("<... ") {
            Some(resumed) => {
                let (_, tail) = resumed.split_once(" resumed>").ok_or("resumes nothing")?;
                let head = self.pending.remove(&tid).ok_or("resumes a call that did not begin")?;
                head + tail
            }
            None => rest.to_string(),
        };
        if let Some(head) = whole.strip_suffix(" <unfinished ...>") {
            return match self.pending.insert(tid, head.to_string()) {
                None => Ok(()),
                Some(other) => Err(format!("a call within {other}")),
            };
        }
        self.call(tid, &whole)
    }

    fn end(&mut self, tid: i32, how: &str) -> Result<(), String> {
        if let Some(by) = how.strip_prefix("superseded by execve in pid ") {
            // The other thread is the leader from here on, with its number.
            let by: i32 = by.parse().map_err(|_| "superseded by no thread")?;
            self.flush(tid)?;
            let thread = self.thread(tid);
            thread.superseded_after = Some(thread.calls.len());
            let call = self.pending.remove(&by).ok_or("superseded by a thread in no call")?;
            self.pending.insert(tid, call);
            return Ok(());
        }
        self.flush(tid)?;
        let end = if let Some(code) = how.strip_prefix("exited with ") {
            TracedEnd::Code(code.parse().map_err(|_| "exited with no number")?)
        } else {
            let killed = how.strip_prefix("killed by ").ok_or("ends in an unknown way")?;
            TracedEnd::Signal(killed.split(' ').next().unwrap_or_default().to_string())
        };
        match self.thread(tid).end.replace(end) {
            None => Ok(()),
            Some(_) => Err("ends twice".to_string()),
        }
    }

    /// A call that began and whose end will not come.
    fn flush(&mut self, tid: i32) -> Result<(), String> {
        match self.pending.remove(&tid) {
            Some(head) => self.call(tid, &head),
            None => Ok(()),
        }
    }

    fn call(&mut self, tid: i32, text: &str) -> Result<(), String> {
        let call = parse_call(text)?;
        self.thread(tid).calls.push(call);
        Ok(())
    }

    fn thread(&mut self, tid: i32) -> &mut TracedThread {
        let next = self.threads.len();
        let place = *self.places.entry(tid).or_insert(next);
        if place == next {
            self.threads.push(TracedThread { tid, ..TracedThread::default() });
        }
        &mut self.threads[place]
    }

    fn finish(mut self) -> Result<Vec<TracedThread>, String> {
        let left: Vec<i32> = self.pending.keys().copied().collect();
        for tid in left {
            self.flush(tid).map_err(|why| format!("the last call of {tid}: {why}"))?;
        }
        Ok(self.threads)
    }
}

/// `name(arguments) = result`, or its beginning.
fn parse_call(text: &str) -> Result<TracedCall, String> {
    let (name, rest) = text.split_once('(').ok_or("no call")?;
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if name.is_empty() || name != NAMELESS && !name.chars().all(word) {
        return Err(format!("no name of a call: {name:?}"));
    }
    let (args, after) = value::arguments(rest)?;
    let (mut result, mut note) = (TracedResult::Unseen, String::new());
    if let Some(after) = after {
        let text = after.trim_start().strip_prefix("= ").ok_or("no result")?;
        result = parse_result(text)?;
        // Of an error it is what the error means.
        if !matches!(result, TracedResult::Error(_))
            && let Some((_, said)) = text.split_once(" (")
        {
            note = said.strip_suffix(')').unwrap_or(said).to_string();
        }
    }
    Ok(TracedCall { name: name.to_string(), args, result, note })
}

/// What follows the equals sign: a number and perhaps what it means, `-1 ENAME
/// (text)`, `? ENAME (text)`, `? <unavailable>`, or `?`.
fn parse_result(text: &str) -> Result<TracedResult, String> {
    let mut words = text.split_whitespace();
    let first = words.next().ok_or("no result")?;
    let second = words.next().unwrap_or_default();
    if (first == "?" || first == "-1") && second.starts_with('E') {
        return Ok(TracedResult::Error(second.to_string()));
    }
    // A descriptor has its file behind it.
    let first = first.split_once('<').map_or(first, |(number, _)| number);
    if first == "?" {
        return Ok(TracedResult::Unseen);
    }
    if first == "-1" && second == "(errno" {
        let number = words.next().unwrap_or_default().trim_end_matches(')');
        // Of a thread killed meanwhile strace gets no registers, and prints as the
        // error what it got instead.
        return match number.parse() {
            Ok(1..=ERRNO_MAX) => Ok(TracedResult::Error(number.to_string())),
            Ok(_) => Ok(TracedResult::Unseen),
            Err(_) => Err(format!("the error {number:?} is no number")),
        };
    }
    let value = if let Some(digits) = first.strip_prefix("0x") {
        u64::from_str_radix(digits, 16).map(u64::cast_signed)
    } else if first.len() > 1 && first.starts_with('0') {
        i64::from_str_radix(first, 8)
    } else {
        // What rt_sigreturn gives back is whatever the register held, without a sign.
        first.parse().or_else(|_| first.parse().map(u64::cast_signed))
    };
    value.map(TracedResult::Value).map_err(|_| format!("the result {first:?} is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(text: &str) -> TracedCall {
        parse_call(text).unwrap()
    }

    fn word(text: &str) -> Argument {
        (String::new(), Traced::Word(text.to_string()))
    }

    #[test]
    fn a_call_has_arguments_a_result_and_what_it_means() {
        let made = call(r#"open("\x2f", O_RDONLY) = 3<\x2f>"#);
        let path = (String::new(), Traced::Text(b"/".to_vec(), false));
        let expected = [path, word("O_RDONLY")];
        assert_eq!((made.name.as_str(), &made.args[..]), ("open", &expected[..]));
        assert_eq!((made.result, made.note), (TracedResult::Value(3), String::new()));
        let made = call("poll([{fd=5, events=POLLIN}], 1, 0) = 1 ([{fd=5, revents=POLLIN}])");
        assert_eq!(made.note, "[{fd=5, revents=POLLIN}]");
        assert_eq!(call("getpid()                 = 7").args, []);
    }

    #[test]
    fn results_are_numbers_of_three_bases_errors_or_nothing() {
        let result = |text: &str| call(&format!("f() = {text}")).result;
        let error = |name: &str| TracedResult::Error(name.to_string());
        assert_eq!(result("0"), TracedResult::Value(0));
        assert_eq!(result("0 (Timeout)"), TracedResult::Value(0));
        assert_eq!(result("1 ([{fd=5, revents=0x1}])"), TracedResult::Value(1));
        assert_eq!(result("0x1 (flags 0x1)"), TracedResult::Value(1));
        assert_eq!(result("0xffffffffff600000"), TracedResult::Value(-0x00a0_0000));
        assert_eq!(result("022"), TracedResult::Value(0o22));
        assert_eq!(result("-1"), TracedResult::Value(-1));
        assert_eq!(result("18446744073709551615"), TracedResult::Value(-1));
        assert_eq!(result("-1 ENOENT (No such file or directory)"), error("ENOENT"));
        assert_eq!(result("-1 (errno 530)"), error("530"));
        assert_eq!(result("? ERESTARTSYS (To be restarted)"), error("ERESTARTSYS"));
        assert_eq!(result("?"), TracedResult::Unseen);
        assert_eq!(result("? <unavailable>"), TracedResult::Unseen);
        assert_eq!(result("-1 (errno 18446744073709551554)"), TracedResult::Unseen);
        assert_eq!(call("read(0, ").result, TracedResult::Unseen);
        assert_eq!(call("read(0, ").args, [word("0")]);
    }

    #[test]
    fn a_call_other_threads_interrupt_is_put_together() {
        let log = "\
10 wait4(11,  <unfinished ...>
11 exit_group(3)                     = ?
11 +++ exited with 3 +++
10 <... wait4 resumed>[{WIFEXITED(s) && WEXITSTATUS(s) == 3}], 0, NULL) = 11
10 --- SIGCHLD {si_signo=17} ---
10 futex(0x10, 0, 1, NULL <unfinished ...>
10 +++ killed by SIGSEGV (core dumped) +++
";
        let threads = parse(log).unwrap();
        let calls = |place: usize| -> Vec<(&str, usize, &TracedResult)> {
            let calls = threads[place].calls.iter();
            calls.map(|call| (call.name.as_str(), call.args.len(), &call.result)).collect()
        };
        assert_eq!(threads.iter().map(|thread| thread.tid).collect::<Vec<_>>(), [10, 11]);
        let (wait4, futex) = (TracedResult::Value(11), TracedResult::Unseen);
        assert_eq!(calls(0), [("wait4", 4, &wait4), ("futex", 4, &futex)]);
        assert_eq!(calls(1), [("exit_group", 1, &TracedResult::Unseen)]);
        assert_eq!(threads[0].end, Some(TracedEnd::Signal("SIGSEGV".to_string())));
        assert_eq!(threads[1].end, Some(TracedEnd::Code(3)));
    }

    /// As strace prints it: the number of the leader, the call of the other thread.
    #[test]
    fn an_exec_of_another_thread_goes_on_as_the_leader() {
        let log = "\
10 futex(0x10, 0, 1, NULL <unfinished ...>
12 execve(\"\\x2f\\x78\", [\"\\x78\"], 0x7f /* 35 vars */ <unfinished ...>
10 <... futex resumed>)              = ?
10 +++ superseded by execve in pid 12 +++
10 <... execve resumed>)             = 0
10 +++ exited with 0 +++
";
        let threads = parse(log).unwrap();
        let names: Vec<_> = threads[0].calls.iter().map(|call| call.name.as_str()).collect();
        assert_eq!((&names[..], threads[0].superseded_after), (&["futex", "execve"][..], Some(1)));
        let path = (String::new(), Traced::Text(b"/x".to_vec(), false));
        assert_eq!(threads[0].calls[1].args[0], path);
        assert_eq!((threads[1].tid, threads[1].calls.len(), &threads[1].end), (12, 0, &None));
    }

    /// As strace prints a thread that was killed while it stopped at an entry.
    #[test]
    fn a_call_strace_could_not_ask_for_has_no_name() {
        let log = "\
10 ???( <unfinished ...>
10 <... ??? resumed>)                = ?
10 +++ killed by SIGKILL +++
";
        let threads = parse(log).unwrap();
        let nameless = TracedCall {
            name: NAMELESS.to_string(),
            args: vec![],
            result: TracedResult::Unseen,
            note: String::new(),
        };
        assert_eq!(threads[0].calls, [nameless]);
        assert!(parse("10 ??() = 0").is_err());
    }

    #[test]
    fn a_line_that_is_not_understood_is_named() {
        for line in [
            "",
            "x read(0) = 0",
            "10 <... read resumed>) = 0",
            "10 read(0) = many",
            "10 read(0) = -1 (errno many)",
            "10 read(0 = 0]) = 0",
            "10 read(\"\\x4\") = 0",
            "10 read(\"plain\") = 0",
            "10 read(\"\\x41) = 0",
            "10 read(0) 0",
            "10 [ Process PID=10 runs in 32 bit mode. ]",
            "10 +++ vanished +++",
            "10 +++ superseded by execve in pid 12 +++",
        ] {
            let error = parse(&format!("10 getpid() = 10\n{line}\n")).unwrap_err();
            assert!(error.starts_with("line 2: "), "{line:?}: {error}");
        }
        let within = "10 read(0,  <unfinished ...>\n10 write(1,  <unfinished ...>\n";
        assert!(parse(within).unwrap_err().contains("a call within read"));
    }
}
