//! Argument by argument, down to the members of structures: what strace prints and what
//! the recorder's JSON has.

use std::collections::BTreeSet;

use recorder::event::{Meaning, syscall};
use recorder_tests::strace::{self, Argument, Traced, TracedCall, TracedResult};
use serde_json::Value;

/// Names strace gives to arguments it prints in an order of its own, and the kernel's.
const NAMED: &[(&str, &str, &str)] = &[
    ("clone", "child_stack", "newsp"),
    ("clone", "flags", "clone_flags"),
    ("clone", "parent_tid", "parent_tidptr"),
];

/// One name of strace for what the kernel's headers call by several, and the other way.
const NAMES: &[(&str, &str)] =
    &[("STATX_ALL", "STATX_BASIC_STATS|STATX_BTIME"), ("RTMIN", "RT_0"), ("SIGRTMIN", "SIGRT_0")];

/// Members that are not recorded: the times of files, and what `statx` has behind them.
/// They are most of the bytes that differ from file to file.
const UNRECORDED_MEMBERS: [&str; 15] = [
    "st_atime",
    "st_atime_nsec",
    "st_mtime",
    "st_mtime_nsec",
    "st_ctime",
    "st_ctime_nsec",
    "stx_atime",
    "stx_btime",
    "stx_ctime",
    "stx_mtime",
    "stx_rdev_major",
    "stx_rdev_minor",
    "stx_dev_major",
    "stx_dev_minor",
    "stx_mnt_id",
];

/// Suffixes of what stands beside a value in JSON.
const TWINS: [&str; 6] = ["_hex", "_cut", "_unreadable", "_file", "_full", "_left"];

/// Something the two do not say alike.
#[derive(Clone, Debug)]
pub(super) struct Difference {
    /// Where: `statx.buffer.stx_mask`, `read.fd<file>`.
    pub(super) place: String,
    /// What strace says.
    pub(super) traced: String,
    /// What the recorder says.
    pub(super) recorded: String,
    /// Whether the call failed, or never came to an end.
    pub(super) failed: bool,
}

/// What came of comparing the arguments of a call.
#[derive(Default)]
pub(super) struct Compared {
    /// Arguments both have.
    pub(super) arguments: u64,
    /// Numbers, names and strings in them.
    pub(super) values: u64,
    /// Descriptors whose files were compared.
    pub(super) files: u64,
    /// Members of structures that the recorder does not keep.
    pub(super) unrecorded: u64,
    /// Strings up to a NUL among the values.
    pub(super) strings: u64,
    /// Those arguments in which something differs, with the first thing that does.
    pub(super) differences: Vec<Difference>,
    /// Files of descriptors that differ.
    pub(super) other_files: Vec<Difference>,
}

/// Compares the arguments of a call whose names are the same.
pub(super) fn compare(traced: &TracedCall, recorded: &Value) -> Compared {
    compare_some(traced, recorded, |_| true)
}

/// Compares the strings of a call alone: those up to a NUL, of which our table knows, and
/// whatever strace prints as a string.
pub(super) fn compare_strings(traced: &TracedCall, recorded: &Value) -> Compared {
    let row = syscall::by_name(&traced.name);
    let is_string = |place: usize| {
        let arg = row.and_then(|row| row.args.get(place));
        arg.is_some_and(|arg| matches!(arg.meaning, Meaning::Path | Meaning::Text))
            || matches!(traced.args.get(place), Some((_, Traced::Text(..))))
    };
    compare_some(traced, recorded, is_string)
}

fn compare_some(
    traced: &TracedCall,
    recorded: &Value,
    is_wanted: impl Fn(usize) -> bool,
) -> Compared {
    let mut compared = Compared::default();
    let call = traced.name.as_str();
    let args = &recorded["args"];
    let names = names_of(call, args);
    let mut met = BTreeSet::new();
    for (place, (given, value)) in after_the_call(traced).iter().enumerate() {
        let alias = NAMED.iter().find(|(of, name, _)| *of == call && *name == given.as_str());
        let name = match alias {
            Some((_, _, name)) => *name,
            None if !given.is_empty() => given.as_str(),
            None => names.get(place).copied().unwrap_or_default(),
        };
        met.insert(name.to_string());
        if !is_wanted(place) {
            continue;
        }
        let mut walk = Walk { compared: &mut compared, differs: None };
        walk.member(&format!("{call}.{name}"), value, args, name);
        let differs = walk.differs;
        compared.arguments += 1;
        compared.differences.extend(differs);
    }
    // What the recorder has beyond that.
    let is_whole = traced.result != TracedResult::Unseen && is_wanted(usize::MAX);
    let keys = args.as_object().into_iter().flat_map(|args| args.keys());
    for key in keys.filter(|key| is_whole && !is_twin(key, args)) {
        if !met.contains(key) {
            compared.arguments += 1;
            compared.differences.push(Difference {
                place: format!("{call}.{key}"),
                traced: "nothing".to_string(),
                recorded: args[key].to_string(),
                failed: false,
            });
        }
    }
    if !matches!(traced.result, TracedResult::Value(_)) {
        compared.differences.iter_mut().for_each(|difference| difference.failed = true);
    }
    compared
}

/// The names of the arguments in their order: JSON has none. Of the forms of a call it is
/// the one these names belong to.
fn names_of(call: &str, args: &Value) -> Vec<&'static str> {
    let Some(row) = syscall::by_name(call) else { return Vec::new() };
    let has = |arg: &&syscall::Arg| args.get(arg.name).is_some();
    let forms = row.forms.iter().flat_map(|forms| forms.rows.iter().map(|form| form.args));
    let candidates = forms.chain([row.args]);
    let best = candidates.max_by_key(|candidate| {
        let present = candidate.iter().filter(has).count();
        (present, std::cmp::Reverse(candidate.len()))
    });
    let best = best.unwrap_or(row.args);
    best.iter().map(|arg| arg.name).collect()
}

/// The arguments as they were after the call, when the recorder reads them: strace prints
/// what `poll` answered behind the result. What `select` was given the recorder reads before.
fn after_the_call(call: &TracedCall) -> Vec<Argument> {
    let mut args = call.args.clone();
    // What waits for bits has no second address, and strace leaves it out.
    let waits = |value: &Traced| matches!(value, Traced::Word(word) if word.starts_with("FUTEX_WAIT_BITSET"));
    if call.name == "futex" && args.len() == 5 && waits(&args[1].1) {
        args.insert(4, (String::new(), Traced::Null));
    }
    if !matches!(call.result, TracedResult::Value(_)) {
        return args;
    }
    match call.name.as_str() {
        "poll" | "ppoll" => {
            let answers = strace::value(
                call.note
                    .split_once("], ")
                    .map_or(call.note.as_str(), |(list, _)| &call.note[..list.len() + 1]),
            );
            let answers = match answers {
                Ok(Traced::List(answers)) => answers,
                _ => Vec::new(),
            };
            if let Some((_, Traced::List(asked))) = args.first_mut() {
                asked.iter_mut().for_each(|asked| answer_poll(asked, &answers));
            }
        }
        _ => {}
    }
    args
}

/// Adds what was answered to what was asked for one descriptor.
fn answer_poll(asked: &mut Traced, answers: &[Traced]) {
    let Traced::Structure(members) = asked else { return };
    let number_of = |members: &[Argument]| match members.first() {
        Some((_, Traced::Word(word) | Traced::Descriptor(word, _))) => word.clone(),
        _ => String::new(),
    };
    let fd = number_of(members);
    let answer = answers.iter().find_map(|answer| match answer {
        Traced::Structure(answer) if number_of(answer) == fd => answer.get(1).cloned(),
        _ => None,
    });
    let nothing = ("revents".to_string(), Traced::Word("0".to_string()));
    members.push(answer.unwrap_or(nothing));
}

/// On the way through one argument.
struct Walk<'c> {
    compared: &'c mut Compared,
    differs: Option<Difference>,
}

impl Walk<'_> {
    fn differ(&mut self, place: &str, traced: &Traced, recorded: &Value) {
        if self.differs.is_none() {
            self.differs = Some(Difference {
                place: place.to_string(),
                traced: format!("{traced:?}"),
                recorded: recorded.to_string(),
                failed: false,
            });
        }
    }

    fn judge(&mut self, same: bool, place: &str, traced: &Traced, recorded: &Value) {
        self.compared.values += 1;
        if !same {
            self.differ(place, traced, recorded);
        }
    }

    /// An argument or a member, which may have twins beside it.
    fn member(&mut self, place: &str, traced: &Traced, holder: &Value, name: &str) {
        let Some(found) = holder.get(name) else {
            let nothing = Value::String("nothing".to_string());
            return self.judge(false, place, traced, &nothing);
        };
        let twin = |suffix: &str| holder.get(format!("{name}{suffix}"));
        match traced {
            Traced::Text(bytes, cut) => {
                let same = twin("_cut").is_some() == *cut
                    && match (twin("_hex"), found) {
                        (Some(hex), _) => hex.as_str().map(bytes_of).as_ref() == Some(bytes),
                        (None, Value::String(text)) => text.as_bytes() == bytes,
                        _ => false,
                    };
                self.compared.strings += 1;
                self.judge(same, place, traced, found);
            }
            Traced::Descriptor(_, file) => {
                self.tree(place, traced, found);
                self.file(place, file, twin("_file"));
            }
            // Of a list the recorder keeps so many bytes, and says so.
            Traced::List(items) if twin("_cut").is_some() && found.is_array() => {
                let list = found.as_array().map(Vec::as_slice).unwrap_or_default();
                self.list(place, &items[..items.len().min(list.len())], list);
            }
            // Before and after, where that is not the same.
            Traced::Change(from, to) if twin("_left").is_some() => {
                self.tree(place, from, found);
                self.tree(&format!("{place}<left>"), to, twin("_left").unwrap_or_default());
            }
            // An address in the place of a string: neither could read it.
            Traced::Word(word) if word.starts_with("0x") && twin("_unreadable").is_some() => {
                self.judge(true, place, traced, found);
            }
            _ => self.tree(place, traced, found),
        }
    }

    /// What is behind a descriptor.
    fn file(&mut self, place: &str, file: &[u8], found: Option<&Value>) {
        // What is in a list or a structure has nothing beside it.
        if found.is_none() && place.contains(['[', '.']) && place.matches('.').count() > 1 {
            return;
        }
        self.compared.files += 1;
        let file = String::from_utf8_lossy(file);
        let recorded = found.and_then(Value::as_str).unwrap_or("nothing");
        if recorded != file {
            self.compared.other_files.push(Difference {
                place: format!("{place}<file>"),
                traced: file.into_owned(),
                recorded: recorded.to_string(),
                failed: false,
            });
        }
    }

    fn tree(&mut self, place: &str, traced: &Traced, found: &Value) {
        match (traced, found) {
            (Traced::Null, _) => {
                let same = found.is_null() || found == "NULL" || found == 0;
                self.judge(same, place, traced, found);
            }
            (Traced::Word(word) | Traced::Descriptor(word, _), _) => {
                self.judge(is_same_word(word, found), place, traced, found);
            }
            (Traced::Text(bytes, _), Value::String(text)) => {
                let same = String::from_utf8_lossy(bytes) == *text;
                self.judge(same, place, traced, found);
            }
            (Traced::Structure(members), Value::String(text)) => {
                let same = address(members).as_ref() == Some(text);
                self.judge(same, place, traced, found);
            }
            (Traced::Structure(members), Value::Object(_)) => {
                self.structure(place, members, found);
            }
            (Traced::List(items), Value::Array(list)) => self.list(place, items, list),
            // A structure of one member is that member to one of them.
            (Traced::Structure(members), Value::Array(_)) if members.len() == 1 => {
                self.tree(place, &members[0].1, found);
            }
            (Traced::List(items), Value::Object(members))
                if items.len() == 1
                    && members.len() == 1
                    && !matches!(items[0], Traced::Structure(_)) =>
            {
                members.values().for_each(|found| self.tree(place, &items[0], found));
            }
            (Traced::Either(names), _) => {
                let same = names.iter().any(|name| match name {
                    Traced::Word(word) => is_same_word(word, found),
                    _ => false,
                });
                self.judge(same, place, traced, found);
            }
            // A single value behind a pointer.
            (Traced::List(items), _) if items.len() == 1 && !is_list(found) => {
                self.tree(place, &items[0], found);
            }
            (Traced::List(_) | Traced::Not(_), Value::String(text)) => {
                let same = strace::value(text).is_ok_and(|found| is_same_set(traced, &found));
                self.judge(same, place, traced, found);
            }
            (Traced::Change(from, to), _) => self.tree(place, &changed(from, to), found),
            _ => self.judge(false, place, traced, found),
        }
    }

    fn structure(&mut self, place: &str, members: &[Argument], found: &Value) {
        for (name, value) in members {
            match value {
                Traced::More => {}
                _ if UNRECORDED_MEMBERS.contains(&name.as_str()) && found.get(name).is_none() => {
                    self.compared.unrecorded += 1;
                }
                // What a call is made of: `inet_pton(...)`.
                _ if name.is_empty() => self.differ(place, value, found),
                _ => self.member(&format!("{place}.{name}"), value, found, name),
            }
        }
    }

    fn list(&mut self, place: &str, items: &[Traced], list: &[Value]) {
        if place == "execve.argv" && is_script(items, list) {
            let all = Traced::List(items.to_vec());
            return self.differ(&format!("{place}[script]"), &all, &Value::Array(list.to_vec()));
        }
        let is_open = items.last() == Some(&Traced::More);
        let items = if is_open { &items[..items.len() - 1] } else { items };
        for (traced, found) in items.iter().zip(list) {
            self.tree(&format!("{place}[]"), traced, found);
        }
        if items.len() > list.len() || items.len() < list.len() && !is_open {
            let all = Traced::List(items.to_vec());
            self.differ(&format!("{place}[count]"), &all, &Value::Array(list.to_vec()));
        }
    }
}

/// Whether the kernel put an interpreter in the place of the name of a script, and kept
/// the words behind it.
fn is_script(items: &[Traced], list: &[Value]) -> bool {
    let Some((_, words)) = items.split_first() else { return false };
    let Some(front) = list.len().checked_sub(words.len()).filter(|front| *front > 1) else {
        return false;
    };
    let is_path = list[0].as_str().is_some_and(|word| word.starts_with('/'));
    let same = |(word, found): (&Traced, &Value)| match word {
        Traced::Text(bytes, false) => *found == *String::from_utf8_lossy(bytes),
        _ => false,
    };
    is_path && words.iter().zip(&list[front..]).all(same)
}

/// Whether a string of JSON is a list: a set of signals.
fn is_list(found: &Value) -> bool {
    found.as_str().is_some_and(|text| text.starts_with(['[', '~']))
}

/// What it was, with the members that the kernel changed.
fn changed(from: &Traced, to: &Traced) -> Traced {
    let (Traced::Structure(from), Traced::Structure(to)) = (from, to) else { return to.clone() };
    let mut all = from.clone();
    for (name, value) in to {
        match all.iter_mut().find(|(known, _)| known == name) {
            Some((_, place)) => *place = value.clone(),
            None => all.push((name.clone(), value.clone())),
        }
    }
    Traced::Structure(all)
}

/// A number in any base, `8192*1024` among them.
fn integer(word: &str) -> Option<i128> {
    if let Some((one, other)) = word.split_once('*') {
        return integer(one)?.checked_mul(integer(other)?);
    }
    let (sign, digits) = word.strip_prefix('-').map_or((1, word), |digits| (-1, digits));
    let number = if let Some(digits) = digits.strip_prefix("0x") {
        u64::from_str_radix(digits, 16).ok()
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(digits, 8).ok()
    } else {
        digits.parse().ok()
    };
    Some(sign * i128::from(number?))
}

/// Whether two numbers are the same bits; one in hexadecimal may be an `int` to the other.
fn is_same_number(word: &str, one: i128, other: i128) -> bool {
    let bits = if word.starts_with("0x") && (-(1 << 31)..0).contains(&other) { 32 } else { 64 };
    (one - other) % (1 << bits) == 0
}

/// Names, without order, and the bits without a name.
#[derive(PartialEq, Eq)]
struct Words {
    names: BTreeSet<String>,
    bits: i128,
}

impl Words {
    fn of(text: &str) -> Words {
        let mut words = Words { names: BTreeSet::new(), bits: 0 };
        text.split('|').for_each(|word| words.add(word));
        words
    }

    fn add(&mut self, word: &str) {
        let known = NAMES.iter().find(|(name, _)| *name == word);
        if let Some((_, names)) = known {
            names.split('|').for_each(|word| self.add(word));
        } else if let Some(operation) =
            word.strip_suffix("_PRIVATE").filter(|_| word.starts_with("FUTEX_"))
        {
            self.names.extend([operation.to_string(), "FUTEX_PRIVATE_FLAG".to_string()]);
        } else if let Some(number) = integer(word) {
            self.bits |= number;
        } else {
            self.names.insert(word.to_string());
        }
    }
}

fn is_same_word(word: &str, found: &Value) -> bool {
    match found {
        Value::Number(number) => {
            let number = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
            integer(word).zip(number).is_some_and(|(one, other)| is_same_number(word, one, other))
        }
        Value::String(text) => {
            let numbers = integer(word).zip(integer(text));
            text == word
                || numbers.is_some_and(|(one, other)| is_same_number(word, one, other))
                || is_same_call(word, text)
                || Words::of(word) == Words::of(text)
        }
        _ => false,
    }
}

/// Whether two words are the same with other numbers in brackets: `makedev(0, 0x6)`.
fn is_same_call(one: &str, other: &str) -> bool {
    let parts = |text: &str| {
        let (name, inside) = text.strip_suffix(')')?.split_once('(')?;
        let numbers = inside.split(", ").map(integer).collect::<Option<Vec<_>>>()?;
        Some((name.to_string(), numbers))
    };
    parts(one).is_some_and(|one| parts(other) == Some(one))
}

/// Whether two lists of words are the same without their order.
fn is_same_set(one: &Traced, other: &Traced) -> bool {
    let words = |set: &Traced| match set {
        Traced::List(items) | Traced::Not(items) => {
            let words = items.iter().map(|item| format!("{item:?}"));
            words.flat_map(|word| Words::of(&word).names).collect::<BTreeSet<_>>()
        }
        _ => BTreeSet::new(),
    };
    matches!(one, Traced::Not(_)) == matches!(other, Traced::Not(_)) && words(one) == words(other)
}

/// A socket address as the recorder writes it.
fn address(members: &[Argument]) -> Option<String> {
    let member =
        |wanted: &str| members.iter().find(|(name, _)| name == wanted).map(|(_, value)| value);
    let word = |wanted: &str| match member(wanted) {
        Some(Traced::Word(word)) => Some(word.as_str()),
        _ => None,
    };
    let inside = |word: &str| Some(word.split_once('(')?.1.strip_suffix(')')?.to_string());
    let host = |word: &str| quoted(word.split_once('"')?.1.split_once('"')?.0);
    match word("sa_family")? {
        "AF_UNIX" => match member("sun_path") {
            Some(Traced::Text(bytes, _)) => match bytes.split_first() {
                Some((0, name)) => Some(format!("unix:@{}", String::from_utf8_lossy(name))),
                _ => Some(format!("unix:{}", String::from_utf8_lossy(bytes))),
            },
            _ => Some("unix:".to_string()),
        },
        "AF_INET" => Some(format!("{}:{}", host(word("sin_addr")?)?, inside(word("sin_port")?)?)),
        "AF_INET6" => {
            // strace prints what makes the address, and no name before it.
            let made = members.iter().find_map(|(_, value)| match value {
                Traced::Word(word) if word.starts_with("inet_pton") => Some(word),
                _ => None,
            })?;
            Some(format!("[{}]:{}", host(made)?, inside(word("sin6_port")?)?))
        }
        "AF_NETLINK" => Some(format!("netlink:{}", integer(word("nl_pid")?)? & 0xffff_ffff)),
        _ => None,
    }
}

/// What stands in quotes, in hexadecimal or as it is.
fn quoted(text: &str) -> Option<String> {
    match strace::value(&format!("\"{text}\"")) {
        Ok(Traced::Text(bytes, _)) => String::from_utf8(bytes).ok(),
        _ => Some(text.to_string()),
    }
}

/// The bytes behind hexadecimal digits.
fn bytes_of(hex: &str) -> Vec<u8> {
    let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).ok());
    pairs.map(|pair| u8::from_str_radix(pair.expect("ASCII"), 16).expect("digits")).collect()
}

/// Whether a key of JSON stands beside another one.
fn is_twin(key: &str, args: &Value) -> bool {
    let base = TWINS.iter().find_map(|suffix| key.strip_suffix(suffix));
    base.is_some_and(|base| args.get(base).is_some())
}
