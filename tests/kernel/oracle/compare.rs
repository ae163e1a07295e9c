//! Call by call: what strace says and what the recorder says.

use std::{fmt, iter::Peekable};

use recorder::event::{Meaning, syscall};
use recorder_tests::{
    strace::{NAMELESS, TracedArg, TracedCall, TracedEnd, TracedResult, TracedThread},
    text,
};
use serde_json::Value;

use super::recorded::RecordedThread;

/// Where the two may differ, and both are right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exception {
    BeforeTheProgram,
    KilledInACall,
    KilledAtAnEntry,
    KilledUnseen,
    KilledWhileAsked,
    NewerThanStrace,
}

/// Every exception and its reason.
pub(super) const EXCEPTIONS: &[(Exception, &str)] = &[
    (
        Exception::BeforeTheProgram,
        "strace makes a child and lets it stop before it becomes the program; it does not print what the child did until then",
    ),
    (
        Exception::KilledInACall,
        "the last call of a thread that was killed in it: the kernel records the return, but no longer stops for the tracer",
    ),
    (
        Exception::KilledAtAnEntry,
        "a thread killed while it stopped at an entry: the kernel gives the call up, which returns ENOSYS without having been entered",
    ),
    (
        Exception::KilledUnseen,
        "a thread killed before it could stop at an entry: the same, and the tracer does not even see the entry",
    ),
    (
        Exception::KilledWhileAsked,
        "a thread killed while strace asked what it does: strace prints ???, an address for a string, or what the thread it asked before was doing",
    ),
    (Exception::NewerThanStrace, "a call strace is too old for: it prints the number"),
];

/// Strings that strace prints and the recorder does not read: buffers with a length,
/// whose contents are not recorded.
const BUFFERS: &[(&str, usize)] = &[
    ("fgetxattr", 2),
    ("fsetxattr", 2),
    ("getcwd", 0),
    ("getrandom", 0),
    ("getxattr", 2),
    ("lgetxattr", 2),
    ("lsetxattr", 2),
    ("pread64", 1),
    ("pwrite64", 1),
    ("read", 1),
    ("readlink", 1),
    ("readlinkat", 2),
    ("recvfrom", 1),
    ("sendto", 1),
    ("setxattr", 2),
    ("write", 1),
];

/// The most differences that are told in full.
const DIFFERENCES_MAX: usize = 20;

/// What was compared.
#[derive(Default)]
pub(super) struct Tally {
    pub(super) programs: u64,
    pub(super) threads: u64,
    pub(super) calls: u64,
    pub(super) failed: u64,
    pub(super) strings: u64,
    pub(super) ends: u64,
    used: [u64; EXCEPTIONS.len()],
    differences: Vec<String>,
}

impl Tally {
    fn except(&mut self, exception: Exception) {
        let place = EXCEPTIONS.iter().position(|(known, _)| *known == exception);
        self.used[place.expect("every exception is in the list")] += 1;
    }

    /// Everything that was compared, one line each.
    pub(super) fn summary(&self) -> String {
        let Tally { programs, threads, calls, failed, strings, ends, .. } = self;
        let mut lines = format!(
            "oracle: {programs} programs, {threads} threads, {calls} calls ({failed} failed), \
             {strings} strings, {ends} ends; {} differences\n",
            self.differences.len()
        );
        for ((exception, reason), used) in EXCEPTIONS.iter().zip(self.used) {
            lines += &format!("oracle: {used:>6} times {exception:?}: {reason}\n");
        }
        lines
    }

    /// The differences, the first ones in full.
    pub(super) fn differences(&self) -> Option<String> {
        let first = self.differences.iter().take(DIFFERENCES_MAX).cloned();
        (!self.differences.is_empty()).then(|| first.collect::<Vec<_>>().join("\n"))
    }

    /// Compares all threads of a program.
    pub(super) fn program(
        &mut self,
        name: &str,
        traced: &[TracedThread],
        recorded: &[RecordedThread],
    ) {
        self.programs += 1;
        for (place, thread) in traced.iter().enumerate() {
            let found: Vec<_> = recorded.iter().filter(|found| found.tid == thread.tid).collect();
            let [found] = found[..] else {
                let message =
                    format!("{name}: thread {} is there {} times", thread.tid, found.len());
                self.differences.push(message);
                continue;
            };
            self.threads += 1;
            // The first thread is the child of strace itself.
            let skipped = if place == 0 { found.before_exec } else { 0 };
            (0..skipped).for_each(|_| self.except(Exception::BeforeTheProgram));
            if let Err(why) = self.thread(thread, found, skipped, traced) {
                self.differences.push(format!("{name}: thread {}: {why}", thread.tid));
            }
        }
        for thread in recorded {
            if traced.iter().all(|found| found.tid != thread.tid) {
                self.differences.push(format!("{name}: strace knows no thread {}", thread.tid));
            }
        }
    }

    fn thread(
        &mut self,
        traced: &TracedThread,
        recorded: &RecordedThread,
        skipped: usize,
        program: &[TracedThread],
    ) -> Result<(), String> {
        let mut calls = recorded.calls.iter().skip(skipped).peekable();
        // Where the thread was killed: at its end, and where another one's exec ended it.
        let killed = [traced.superseded_after, Some(traced.calls.len())];
        for (place, expected) in traced.calls.iter().enumerate() {
            if traced.superseded_after == Some(place) {
                self.unseen(&mut calls);
            }
            let Some(call) = calls.next() else {
                return Err(format!("call {place} is missing: {expected:?}"));
            };
            let is_killed = killed.contains(&Some(place + 1));
            let pair = Pair { traced: expected, recorded: call, is_killed, program };
            let agreed = pair.compare().map_err(|why| {
                let from = place.saturating_sub(3);
                let before = traced.calls[from..place].iter().map(|call| &call.name);
                let before: Vec<_> = before.collect();
                format!("call {place}, {why}\n  {pair}\n  after {before:?}")
            })?;
            self.calls += 1;
            self.failed += u64::from(matches!(expected.result, TracedResult::Error(_)));
            self.strings += agreed.strings;
            agreed.exceptions.into_iter().for_each(|exception| self.except(exception));
        }
        self.unseen(&mut calls);
        if let Some(call) = calls.next() {
            return Err(format!("strace knows no such call: {call}"));
        }
        self.end(traced, recorded)
    }

    /// A call of a killed thread that strace does not know, if there is one.
    fn unseen<'a>(&mut self, calls: &mut Peekable<impl Iterator<Item = &'a Value>>) {
        if calls.next_if(|call| given_up(call)).is_some() {
            self.except(Exception::KilledUnseen);
        }
    }

    fn end(&mut self, traced: &TracedThread, recorded: &RecordedThread) -> Result<(), String> {
        let Some(expected) = &traced.end else { return Ok(()) };
        self.ends += 1;
        let Some(end) = &recorded.end else { return Err("it has no end".to_string()) };
        let same = match expected {
            TracedEnd::Code(code) => end["code"] == *code && end["signal"] == 0,
            TracedEnd::Signal(signal) => end["signal"] == signal.as_str(),
        };
        if same { Ok(()) } else { Err(format!("the end: strace {expected:?}, recorder {end}")) }
    }
}

/// What two accounts of a call agreed on.
#[derive(Default)]
struct Agreed {
    strings: u64,
    exceptions: Vec<Exception>,
}

/// Two accounts of one call.
struct Pair<'a> {
    traced: &'a TracedCall,
    recorded: &'a Value,
    /// Whether it is the last call of a thread, which may have been killed in it.
    is_killed: bool,
    /// All threads of the program.
    program: &'a [TracedThread],
}

impl fmt::Display for Pair<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "strace: {:?}\n  recorder: {}", self.traced, self.recorded)
    }
}

impl Pair<'_> {
    fn compare(&self) -> Result<Agreed, String> {
        let mut agreed = Agreed::default();
        match self.compare_into(&mut agreed) {
            Err(_) if self.is_stale() => {
                Ok(Agreed { strings: 0, exceptions: vec![Exception::KilledWhileAsked] })
            }
            compared => compared.map(|()| agreed),
        }
    }

    fn compare_into(&self, agreed: &mut Agreed) -> Result<(), String> {
        self.name(agreed)?;
        self.strings(agreed)?;
        self.result(agreed)
    }

    fn name(&self, agreed: &mut Agreed) -> Result<(), String> {
        let same = match self.traced.name.strip_prefix("syscall_0x") {
            Some(digits) => {
                agreed.exceptions.push(Exception::NewerThanStrace);
                i64::from_str_radix(digits, 16)
                    .is_ok_and(|nr| self.is_number(nr, self.found_name()))
            }
            None => self.traced.name == self.found_name(),
        };
        if same { Ok(()) } else { Err("the name".to_string()) }
    }

    fn result(&self, agreed: &mut Agreed) -> Result<(), String> {
        let (found, errno) = (self.recorded, self.recorded["errno"].as_str());
        let same = match &self.traced.result {
            TracedResult::Value(value) => errno.is_none() && signed(&found["ret"]) == Some(*value),
            TracedResult::Error(name) => errno == Some(name),
            TracedResult::Unseen if found["no_return"] == true => true,
            TracedResult::Unseen if self.is_killed && given_up(found) => {
                agreed.exceptions.push(Exception::KilledAtAnEntry);
                true
            }
            TracedResult::Unseen if self.is_killed => {
                agreed.exceptions.push(Exception::KilledInACall);
                found["unfinished"] != true && !found["ret"].is_null()
            }
            TracedResult::Unseen => false,
        };
        if same { Ok(()) } else { Err("the result".to_string()) }
    }

    fn strings(&self, agreed: &mut Agreed) -> Result<(), String> {
        let name = self.found_name();
        let row = syscall::by_name(name);
        for (place, expected) in self.traced.args.iter().enumerate() {
            let arg = row.and_then(|row| row.args.get(place));
            let is_read =
                arg.is_some_and(|arg| matches!(arg.meaning, Meaning::Path | Meaning::Text));
            let Some(arg) = arg.filter(|_| is_read) else {
                let is_string = matches!(expected, TracedArg::Text(..));
                if is_string && !BUFFERS.contains(&(name, place)) {
                    return Err(format!("argument {place}, which strace knows as a string"));
                }
                continue;
            };
            let found = Found::of(&self.recorded["args"], arg.name);
            let same = match expected {
                TracedArg::Text(bytes, cut) => found == Found::Text(bytes.clone(), *cut),
                TracedArg::Null => found == Found::Null,
                TracedArg::Other(_) => found == Found::Unreadable,
            };
            if !same {
                return Err(format!("the string {}, which is {found:?}", arg.name));
            }
            agreed.strings += u64::from(matches!(expected, TracedArg::Text(..)));
        }
        Ok(())
    }

    /// Whether strace asked a thread that was just killed: it gets no answer, and
    /// prints what is left of the one before.
    fn is_stale(&self) -> bool {
        let mut others = self.program.iter().flat_map(|thread| &thread.calls);
        match &self.traced.result {
            _ if !self.is_killed => false,
            // At an entry.
            TracedResult::Unseen if given_up(self.recorded) => {
                let is_unread = || {
                    let mut args = self.traced.args.iter();
                    args.any(|arg| matches!(arg, TracedArg::Other(text) if text.starts_with("0x")))
                };
                self.traced.name == NAMELESS
                    || self.traced.name == self.found_name() && is_unread()
                    || others.any(|other| {
                        !std::ptr::eq(other, self.traced)
                            && other.name == self.traced.name
                            && other.args.starts_with(&self.traced.args)
                    })
            }
            // At an exit: the number of a call is taken for a result.
            TracedResult::Value(value) => others.any(|other| self.is_number(*value, &other.name)),
            TracedResult::Unseen | TracedResult::Error(_) => false,
        }
    }

    /// What the recorder calls it.
    fn found_name(&self) -> &str {
        text(&self.recorded["name"])
    }

    /// Whether call `nr` of this ABI has this name.
    fn is_number(&self, nr: i64, name: &str) -> bool {
        let native = syscall::Abi::native(std::env::consts::ARCH);
        let is_compat = self.recorded["compat"] == true;
        let abi = if is_compat { native.and_then(syscall::Abi::compat) } else { native };
        abi.is_some_and(|abi| syscall::name(abi, nr) == name)
    }
}

/// A call the kernel gave up because its thread was killed at the entry.
fn given_up(call: &Value) -> bool {
    call["no_entry"] == true && call["errno"] == "ENOSYS"
}

/// A number that may be too long for JSON.
fn signed(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

/// What the recorder has of a string.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    Text(Vec<u8>, bool),
    Null,
    Unreadable,
    Nothing,
}

impl Found {
    fn of(args: &Value, name: &str) -> Found {
        let twin = |suffix: &str| args.get(format!("{name}_{suffix}"));
        let cut = twin("cut").is_some();
        match (args.get(name), twin("hex")) {
            (_, Some(hex)) => Found::Text(bytes(text(hex)), cut),
            (Some(Value::String(text)), None) => Found::Text(text.clone().into_bytes(), cut),
            (Some(Value::Null), None) if twin("unreadable").is_some() => Found::Unreadable,
            (Some(Value::Null), None) => Found::Null,
            _ => Found::Nothing,
        }
    }
}

/// The bytes behind hexadecimal digits.
fn bytes(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair.expect("ASCII"), 16).expect("digits")).collect()
}
