//! Secrets in a list of arguments: what follows a telling option, what the short options
//! of known programs take, and command lines within an argument.

use std::ops::Range;

use memchr::{memchr, memrchr};

use super::{
    Secret,
    names::{Place, is_one_of, same, telling},
    programs::{CONTAINERS, PROGRAMS, Program, STARTERS, Takes},
    shapes::looks_random,
    spans::{Piece, Spans},
    text,
};

/// Command lines within command lines that are looked into: `ssh host "su -c '...'"`.
const DEPTH_MAX: u8 = 3;

/// Programs of one name at the most, see [`PROGRAMS`].
const SAME_NAME_MAX: usize = 3;

/// Finds every secret in arguments that each end with a NUL.
pub(super) fn find(list: &Piece<'_>, words: &[Vec<u8>], spans: &mut Spans) {
    let mut line = Line::new(words, 0);
    let mut from = 0;
    while from < list.bytes.len() {
        let rest = list.bytes.get(from..).unwrap_or_default();
        let end = from + memchr(0, rest).unwrap_or(rest.len());
        let mut argument = list.part(from..end);
        argument.is_path = false;
        from = end + 1;
        if line.word(&argument, from >= list.bytes.len(), spans) {
            continue;
        }
        argument.is_line = line.is_command(&argument);
        text::find(&argument, words, spans);
        if argument.is_line {
            command_line(&argument, words, 1, spans);
        }
    }
}

/// Looks at the words of a command line: the assignments in it were found already.
fn command_line(piece: &Piece<'_>, words: &[Vec<u8>], depth: u8, spans: &mut Spans) {
    let mut line = Line::new(words, depth);
    let mut at = 0;
    while let Some(found) = next_word(piece.bytes, at) {
        at = found.next;
        if found.is_end {
            line = Line::new(words, depth);
            continue;
        }
        let word = piece.part(found.range);
        let is_last = next_word(piece.bytes, at).is_none_or(|next| next.is_end);
        if !line.word(&word, is_last, spans) && depth < DEPTH_MAX && line.is_command(&word) {
            command_line(&word, words, depth + 1, spans);
        }
    }
}

/// A word of a command line, or what ends a command.
struct Word {
    /// Without quotation marks around all of it.
    range: Range<usize>,
    next: usize,
    is_end: bool,
}

fn next_word(bytes: &[u8], mut at: usize) -> Option<Word> {
    while matches!(bytes.get(at), Some(b' ' | b'\t')) {
        at += 1;
    }
    let ends = |byte: u8| matches!(byte, b'|' | b';' | b'&' | b'(' | b')' | b'`' | b'\n' | b'\r');
    let first = *bytes.get(at)?;
    if ends(first) {
        return Some(Word { range: at..at + 1, next: at + 1, is_end: true });
    }
    let start = at;
    let mut quote = None;
    while let Some(byte) = bytes.get(at).copied() {
        match quote {
            Some(open) if byte == open => quote = None,
            Some(_) => at += usize::from(byte == b'\\'),
            None if matches!(byte, b'"' | b'\'') => quote = Some(byte),
            None if byte == b'\\' => at += 1,
            None if matches!(byte, b' ' | b'\t') || ends(byte) => break,
            None => {}
        }
        at += 1;
    }
    let end = at.min(bytes.len());
    let word = bytes.get(start..end).unwrap_or_default();
    let range = match word {
        [b'"' | b'\'', inner @ .., last] if word.first() == Some(last) && !inner.contains(last) => {
            start + 1..end - 1
        }
        _ => start..end,
    };
    Some(Word { range, next: end, is_end: false })
}

/// What the next word is.
#[derive(Clone, Copy)]
struct Expected {
    takes: Takes,
    secret: Secret,
    /// Words before it.
    skip: u8,
    /// Nobody said that this option takes one: another option is none.
    is_guess: bool,
}

/// Where in a command one is.
struct Line<'w> {
    words: &'w [Vec<u8>],
    depth: u8,
    /// No word of the program yet.
    is_first: bool,
    /// Further words may name another program.
    starts_others: bool,
    /// A program that starts others behind `exec`.
    is_container: bool,
    programs: [Option<&'static Program>; SAME_NAME_MAX],
    /// The word was there that a program needs, by its place.
    is_met: [bool; SAME_NAME_MAX],
    expected: Option<Expected>,
    /// The last argument is one.
    last: bool,
    /// The word was `-c` or its like, and the one before it.
    is_script: [bool; 2],
}

impl<'w> Line<'w> {
    fn new(words: &'w [Vec<u8>], depth: u8) -> Line<'w> {
        Line {
            words,
            depth,
            is_first: true,
            starts_others: false,
            is_container: false,
            programs: [None; SAME_NAME_MAX],
            is_met: [false; SAME_NAME_MAX],
            expected: None,
            last: false,
            is_script: [false; 2],
        }
    }

    /// Takes the next word. Answers whether all of it is known to be a secret.
    fn word(&mut self, word: &Piece<'_>, is_last: bool, spans: &mut Spans) -> bool {
        let bytes = word.bytes;
        if let Some(expected) = self.expected.take() {
            if expected.skip > 0 {
                self.expected = Some(Expected { skip: expected.skip - 1, ..expected });
            } else if self.take(word, expected, spans) {
                return expected.takes == Takes::Next;
            }
        }
        if is_last && self.last && !bytes.starts_with(b"-") {
            spans.add(word, 0..bytes.len(), Secret::Password);
            return true;
        }
        let is_option = bytes.first() == Some(&b'-') && bytes.len() > 1;
        let is_script = is_option
            && !bytes.starts_with(b"--")
            && bytes.len() <= 5
            && matches!(bytes.last(), Some(b'c' | b'e'));
        self.is_script = [is_script, self.is_script[0]];
        self.meet(bytes);
        if self.names_program(bytes, is_option) {
            return false;
        }
        let knows = self.known(word, spans);
        if !knows && self.expected.is_none() {
            self.guess(bytes, is_option);
        }
        false
    }

    /// The word that was expected: masks what is secret of it. Answers whether it was
    /// the one.
    fn take(&self, word: &Piece<'_>, expected: Expected, spans: &mut Spans) -> bool {
        let bytes = word.bytes;
        let is_line = self.depth > 0;
        // A password may begin with a dash; options look less random.
        let is_option = || bytes.starts_with(b"-") && !(bytes.len() >= 8 && looks_random(bytes));
        if expected.is_guess && (is_option() || text::is_plain(bytes, expected.secret, is_line)) {
            return false;
        }
        if is_line && bytes.first() == Some(&b'$') {
            return true;
        }
        if let Some(range) = part(expected.takes, bytes) {
            spans.add(word, range, expected.secret);
        }
        true
    }

    fn meet(&mut self, bytes: &[u8]) {
        for (met, program) in self.is_met.iter_mut().zip(self.programs.iter().flatten()) {
            *met |= same(bytes, program.needs);
        }
        if self.is_container && (same(bytes, "exec") || same(bytes, "shell")) {
            self.starts_others = true;
        }
    }

    /// Whether the word names the program, or the next one.
    fn names_program(&mut self, bytes: &[u8], is_option: bool) -> bool {
        // `NAME=value program`
        let is_assigned = memchr(b'=', bytes).is_some();
        if is_option || is_assigned || !(self.is_first || self.starts_others) {
            return false;
        }
        let name = bytes.get(memrchr(b'/', bytes).map_or(0, |place| place + 1)..);
        let name = name.unwrap_or_default();
        let mut found = [None; SAME_NAME_MAX];
        let matching = PROGRAMS.iter().filter(|program| program.is_called(name));
        for (place, program) in found.iter_mut().zip(matching) {
            *place = Some(program);
        }
        let is_starter = is_one_of(name, STARTERS);
        let is_container = is_one_of(name, CONTAINERS);
        if self.is_first || is_starter || is_container || found.iter().any(Option::is_some) {
            self.is_first = false;
            self.starts_others = is_starter;
            self.is_container = is_container;
            self.is_met = found.map(|program| program.is_some_and(|one| one.needs.is_empty()));
            self.programs = found;
            // `wpa_passphrase` is its own word.
            self.expect_words(bytes);
            return true;
        }
        false
    }

    fn expect_words(&mut self, bytes: &[u8]) {
        let programs = self.programs.iter().flatten().zip(self.is_met);
        for (program, _) in programs.filter(|(_, is_met)| *is_met) {
            for (option, takes) in program.options {
                let Takes::Word(skip) = *takes else { continue };
                if same(bytes, option) && self.expected.is_none_or(|other| other.skip > skip) {
                    let secret = Secret::Password;
                    self.expected =
                        Some(Expected { takes: Takes::Next, secret, skip, is_guess: false });
                }
            }
        }
    }

    /// What the options of the program say.
    fn known(&mut self, word: &Piece<'_>, spans: &mut Spans) -> bool {
        self.expect_words(word.bytes);
        let programs = self.programs.iter().flatten().zip(self.is_met);
        for (program, _) in programs.filter(|(_, is_met)| *is_met) {
            for (option, takes) in program.options {
                match takes {
                    Takes::Word(_) => {}
                    Takes::Last => {
                        self.last |= is_flag(word.bytes, option);
                    }
                    _ => {
                        let secret = Secret::Password;
                        if is_next(word.bytes, option, *takes) {
                            let takes = if *takes == Takes::Value { Takes::Next } else { *takes };
                            self.expected =
                                Some(Expected { takes, secret, skip: 0, is_guess: false });
                            return true;
                        }
                        if let Some(range) = attached(word.bytes, option, *takes) {
                            let value = word.bytes.get(range.clone()).unwrap_or_default();
                            if self.depth == 0 || value.first() != Some(&b'$') {
                                spans.add(word, range, secret);
                            }
                            return true;
                        }
                    }
                }
            }
        }
        false
    }

    /// An option or a key with a telling name: the next word is its value.
    fn guess(&mut self, bytes: &[u8], is_option: bool) {
        if memchr(b'=', bytes).is_some() {
            return;
        }
        let name = bytes.get(bytes.iter().take_while(|byte| **byte == b'-').count()..);
        let name = name.unwrap_or_default();
        let is_key = !is_option
            && name.len() <= 80
            && name.iter().any(|byte| matches!(byte, b'_' | b'.' | b':'))
            && name.iter().all(|b| b.is_ascii_alphanumeric() || b"_.:-/".contains(b))
            && memchr(b'/', name).is_none_or(|_| name.starts_with(b"//"));
        // `-pass 1` is ffmpeg's, and one letter is too little.
        let is_named = is_option && name.len() >= 4 && (bytes.starts_with(b"--") || name.len() > 4);
        if !is_key && !is_named {
            return;
        }
        if let Some(secret) = telling(name, Place::Option, self.words) {
            self.expected = Some(Expected { takes: Takes::Next, secret, skip: 0, is_guess: true });
        }
    }

    /// Whether an argument is a command line, or a text of more than one word.
    fn is_command(&self, argument: &Piece<'_>) -> bool {
        let bytes = argument.bytes;
        if !bytes.iter().any(|byte| matches!(byte, b' ' | b'\t' | b'\n')) {
            return false;
        }
        let dashes = bytes.iter().take_while(|byte| **byte == b'-').count();
        let rest = bytes.get(dashes..).unwrap_or_default();
        let is_name =
            |byte: &&u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
        let name = rest.iter().take_while(is_name).count();
        let is_assigned = matches!(rest.get(name), Some(b'=' | b':'));
        // A value may have blanks: `PASSWORD=three short words`.
        let [_, follows_script] = self.is_script;
        follows_script
            || !is_assigned
            || telling(rest.get(..name).unwrap_or_default(), Place::Assignment, self.words)
                .is_none()
    }
}

/// Which part of a value is the secret.
fn part(takes: Takes, value: &[u8]) -> Option<Range<usize>> {
    let behind = |byte: u8| memchr(byte, value).map(|place| place + 1..value.len());
    match takes {
        Takes::Pair if value.windows(3).any(|three| three == b"://") => None,
        Takes::Pair => behind(b':'),
        Takes::Proxy => {
            let at = memrchr(b'@', value)?;
            let user = value.get(..at)?;
            let is_url = user.windows(3).any(|three| three == b"://");
            memchr(b':', user).filter(|_| !is_url).map(|colon| colon + 1..at)
        }
        Takes::Percent => behind(b'%'),
        Takes::Comma => behind(b','),
        Takes::Named => behind(b'='),
        Takes::Source => value.starts_with(b"pass:").then_some(5..value.len()),
        _ => Some(0..value.len()),
    }
}

/// Whether the option stands alone, and its value comes next. Short options may come
/// together: `-sSu user:password`.
fn is_next(word: &[u8], option: &str, takes: Takes) -> bool {
    if takes == Takes::Attached {
        return false;
    }
    word == option.as_bytes() || (option.len() == 2 && is_cluster(word, option))
}

/// Several short options, this one last.
fn is_cluster(word: &[u8], option: &str) -> bool {
    let [b'-', flags @ ..] = word else { return false };
    (2..=6).contains(&flags.len())
        && flags.iter().all(u8::is_ascii_alphabetic)
        && flags.last() == option.as_bytes().last()
        && flags.iter().filter(|flag| Some(*flag) == option.as_bytes().last()).count() == 1
}

fn is_flag(word: &[u8], option: &str) -> bool {
    let letter = option.as_bytes().last();
    match word {
        [b'-', flags @ ..] if flags.iter().all(u8::is_ascii_alphabetic) => {
            flags.len() <= 6 && flags.iter().any(|flag| Some(flag) == letter)
        }
        _ => false,
    }
}

/// The secret that is written behind the option: `-psecret`, `--user=name:secret`.
fn attached(word: &[u8], option: &str, takes: Takes) -> Option<Range<usize>> {
    let mut value = word.strip_prefix(option.as_bytes())?;
    if option.starts_with("--") || option.len() > 3 {
        value = value.strip_prefix(b"=")?;
    } else if takes == Takes::Next {
        return None;
    }
    if value.is_empty() {
        return None;
    }
    let start = word.len() - value.len();
    part(takes, value).map(|range| start + range.start..start + range.end)
}
