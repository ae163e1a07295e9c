//! Call by call: what strace says and what the recorder says.

use std::{collections::BTreeMap, fmt, iter::Peekable};

use recorder::event::syscall;
use recorder_tests::{
    strace::{NAMELESS, Traced, TracedCall, TracedEnd, TracedResult, TracedThread},
    text,
};
use serde_json::Value;

use super::{
    arguments::{self, Compared, Difference},
    explained::{self, REASONS, Reason},
    recorded::RecordedThread,
};

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
    (
        Exception::NewerThanStrace,
        "a call strace does not know: it prints the number, and all arguments as numbers",
    ),
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
    pub(super) compat: u64,
    pub(super) ends: u64,
    pub(super) arguments: Arguments,
    used: [u64; EXCEPTIONS.len()],
    differences: Vec<String>,
}

/// What was compared of arguments.
#[derive(Default)]
pub(super) struct Arguments {
    pub(super) all: u64,
    pub(super) differ: u64,
    unrecorded: u64,
    unrecorded_members: u64,
    values: u64,
    strings: u64,
    files: u64,
    explained: [u64; REASONS.len()],
    /// What differs, by place: how often, and one of them.
    places: BTreeMap<String, (u64, Option<Reason>, Difference)>,
}

impl Arguments {
    fn add(&mut self, compared: Compared) {
        self.all += compared.arguments;
        self.values += compared.values;
        self.strings += compared.strings;
        self.files += compared.files;
        self.unrecorded_members += compared.unrecorded;
        for difference in &compared.differences {
            match explained::reason(difference) {
                Some(reason) if explained::is_unrecorded(reason) => self.unrecorded += 1,
                _ => self.differ += 1,
            }
        }
        for difference in compared.differences.into_iter().chain(compared.other_files) {
            let reason = explained::reason(&difference);
            if let Some(place) = REASONS.iter().position(|(known, _)| reason == Some(*known)) {
                self.explained[place] += 1;
            }
            let key = format!("{} {reason:?}", difference.place);
            self.places.entry(key).or_insert((0, reason, difference)).0 += 1;
        }
    }

    /// Of those that are recorded the share on which both agree, in percent.
    pub(super) fn agreed_percent(&self) -> f64 {
        let recorded = self.all - self.unrecorded;
        100.0 * (recorded - self.differ) as f64 / recorded.max(1) as f64
    }

    /// Every place where something differs, the most frequent ones first.
    pub(super) fn places(&self, are_explained: bool) -> Vec<String> {
        let places = self.places.values();
        let mut places: Vec<_> =
            places.filter(|(_, reason, _)| reason.is_some() == are_explained).collect();
        places.sort_by_key(|(count, ..)| std::cmp::Reverse(*count));
        let line = |(count, reason, difference): &(u64, Option<Reason>, Difference)| {
            let Difference { place, traced, recorded, .. } = difference;
            let reason = reason.map(|reason| format!(", {reason:?}")).unwrap_or_default();
            format!(
                "{count} times {place}{reason}\n  strace:   {traced:.400}\n  recorder: {recorded:.400}"
            )
        };
        places.into_iter().map(line).collect()
    }
}

impl Tally {
    fn except(&mut self, exception: Exception) {
        let place = EXCEPTIONS.iter().position(|(known, _)| *known == exception);
        self.used[place.expect("every exception is in the list")] += 1;
    }

    /// Everything that was compared, one line each.
    pub(super) fn summary(&self) -> String {
        let Tally { programs, threads, calls, failed, compat, ends, arguments, .. } = self;
        let mut lines = format!(
            "oracle: {programs} programs, {threads} threads, {calls} calls ({failed} failed, {compat} of 32 bits), \
             {ends} ends; {} differences\n\
             oracle: {} arguments, {} of them not recorded; of the others {} differ, {:.3} % agree; \
             in them {} values, {} strings, {} files, and {} times and devices of files that are not recorded\n",
            self.differences.len(),
            arguments.all,
            arguments.unrecorded,
            arguments.differ,
            arguments.agreed_percent(),
            arguments.values,
            arguments.strings,
            arguments.files,
            arguments.unrecorded_members,
        );
        for ((reason, words), times) in REASONS.iter().zip(arguments.explained) {
            lines += &format!("oracle: {times:>6} times {reason:?}: {words}\n");
        }
        for ((exception, reason), used) in EXCEPTIONS.iter().zip(self.used) {
            lines += &format!("oracle: {used:>6} times {exception:?}: {reason}\n");
        }
        lines
    }

    /// The differences, the first ones in full, and every place in an argument where
    /// something differs that has no reason.
    pub(super) fn differences(&self) -> Option<String> {
        let mut found: Vec<_> = self.differences.iter().take(DIFFERENCES_MAX).cloned().collect();
        found.extend(self.arguments.places(false));
        (!found.is_empty()).then(|| found.join("\n"))
    }

    /// Compares all threads of a program; of calls whose arguments are made up only the
    /// strings.
    pub(super) fn program(
        &mut self,
        (name, is_made_up): (&str, bool),
        traced: &[TracedThread],
        recorded: &[RecordedThread],
    ) {
        self.programs += 1;
        for (place, thread) in traced.iter().enumerate() {
            let found: Vec<_> = recorded.iter().filter(|found| found.tid == thread.tid).collect();
            let [found] = found[..] else {
                self.differ(name, thread.tid, &format!("it is there {} times", found.len()));
                continue;
            };
            self.threads += 1;
            // The first thread is the child of strace itself.
            let skipped = if place == 0 { found.before_exec } else { 0 };
            (0..skipped).for_each(|_| self.except(Exception::BeforeTheProgram));
            if let Err(why) = self.thread((name, is_made_up), thread, found, skipped, traced) {
                self.differ(name, thread.tid, &why);
            }
        }
        for thread in recorded {
            if traced.iter().all(|found| found.tid != thread.tid) {
                self.differ(name, thread.tid, "strace knows no such thread");
            }
        }
    }

    fn differ(&mut self, program: &str, tid: i32, why: &str) {
        self.differences.push(format!("{program}: thread {tid}: {why}"));
    }

    fn thread(
        &mut self,
        (name, is_made_up): (&str, bool),
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
            let pair = Pair { traced: expected, recorded: call, is_killed, is_made_up, program };
            self.calls += 1;
            self.compat += u64::from(call["compat"] == true);
            match pair.compare() {
                Ok(agreed) => {
                    self.failed += u64::from(matches!(expected.result, TracedResult::Error(_)));
                    self.arguments.add(agreed.arguments);
                    agreed.exceptions.into_iter().for_each(|exception| self.except(exception));
                }
                // Of two that are not the same call, the rest would not be either.
                Err(why) if !pair.is_same_name() => {
                    let from = place.saturating_sub(3);
                    let before = traced.calls[from..place].iter().map(|call| &call.name);
                    let before: Vec<_> = before.collect();
                    return Err(format!("call {place}, {why}\n  {pair}\n  after {before:?}"));
                }
                Err(why) => {
                    self.differ(name, traced.tid, &format!("call {place}, {why}\n  {pair}"));
                }
            }
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
    arguments: Compared,
    exceptions: Vec<Exception>,
}

/// Two accounts of one call.
struct Pair<'a> {
    traced: &'a TracedCall,
    recorded: &'a Value,
    /// Whether it is the last call of a thread, which may have been killed in it.
    is_killed: bool,
    /// Whether its arguments mean nothing.
    is_made_up: bool,
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
                let exceptions = vec![Exception::KilledWhileAsked];
                Ok(Agreed { exceptions, ..Agreed::default() })
            }
            compared => compared.map(|()| agreed),
        }
    }

    fn compare_into(&self, agreed: &mut Agreed) -> Result<(), String> {
        if !self.is_same_name() {
            return Err("the name".to_string());
        }
        if self.number().is_some() {
            agreed.exceptions.push(Exception::NewerThanStrace);
        } else {
            agreed.arguments = match self.is_made_up {
                true => arguments::compare_strings(self.traced, self.recorded),
                false => arguments::compare(self.traced, self.recorded),
            };
            let mut differences = agreed.arguments.differences.iter();
            if self.is_killed && differences.any(|found| explained::reason(found).is_none()) {
                return Err("the arguments".to_string());
            }
        }
        self.result(agreed)
    }

    /// The number of a call strace has no name for.
    fn number(&self) -> Option<i64> {
        i64::from_str_radix(self.traced.name.strip_prefix("syscall_0x")?, 16).ok()
    }

    fn is_same_name(&self) -> bool {
        match self.number() {
            Some(nr) => self.is_number(nr, self.found_name()),
            None => self.traced.name == self.found_name(),
        }
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
                    args.any(|(_, arg)| matches!(arg, Traced::Word(word) if word.starts_with("0x")))
                };
                self.traced.name == NAMELESS
                    || self.traced.name == self.found_name() && is_unread()
                    || others.any(|other| {
                        !std::ptr::eq(other, self.traced)
                            && (other.name == self.traced.name
                                && other.args.starts_with(&self.traced.args)
                                || self.is_named_by(&other.result))
                    })
            }
            // At an exit: the number of a call is taken for a result, or for an error.
            TracedResult::Unseen if let Some(nr) = self.number_as_error() => {
                others.any(|other| self.is_number(nr, &other.name))
            }
            TracedResult::Value(value) => others.any(|other| self.is_number(*value, &other.name)),
            TracedResult::Unseen | TracedResult::Error(_) => false,
        }
    }

    /// The number of a call in place of an error: errors are negative, so strace prints
    /// `errno 18446744073709551554` for 62.
    fn number_as_error(&self) -> Option<i64> {
        let errno: u64 = self.traced.note.strip_prefix("errno ")?.parse().ok()?;
        Some(errno.wrapping_neg().cast_signed()).filter(|nr| *nr > 0)
    }

    /// Whether the name strace gives it is another call's result, taken for a number. Both
    /// lie at the same place of what the kernel answers (`struct ptrace_syscall_info`,
    /// include/uapi/linux/ptrace.h, Linux 6.18): after a call that returned 0 a thread that
    /// was killed seems to read.
    fn is_named_by(&self, result: &TracedResult) -> bool {
        match result {
            TracedResult::Value(value) => self.is_number(*value, &self.traced.name),
            TracedResult::Error(_) | TracedResult::Unseen => false,
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
