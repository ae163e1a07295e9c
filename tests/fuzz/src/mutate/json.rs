//! JSON, taken apart into tokens: no parser, so that what is damaged already can be
//! changed further.

use std::ops::Range;

use recorder_tests::synth::Random;

use super::{edge, one_of};

/// Words that a text or a name may be replaced by.
const WORDS: [&str; 18] = [
    "\"\"",
    "\"\\u0000\"",
    "\"../../etc/x\"",
    "\"a\\nb\\u001b[2J\"",
    "\"\\ud800\"",
    "\"\u{202e}\u{feff}\"",
    "\"{host}\"",
    "\"db-1.example:9100\"",
    "\"[::1]:80\"",
    "\"resolved\"",
    "\"firing\"",
    "\"4\"",
    "\"2026-11-23T02:26:24Z\"",
    "\"t-30s\"",
    "null",
    "true",
    "{}",
    "[]",
];

/// Numbers no reader likes.
const NUMBERS: [&str; 8] =
    ["0", "-1", "-0.0", "1e400", "18446744073709551615", "9007199254740993", "1e-7", "1.5"];

/// A piece is not repeated so often that it comes to more bytes.
const REPEATED_BYTES_MAX: usize = 64 << 10;

/// Values left out at the most, one after the other.
const SMALLER_MAX: usize = 400;

/// Where the tokens of a text are: strings, numbers and words, and one for each sign.
fn tokens(text: &[u8]) -> Vec<Range<usize>> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let start = at;
        match text[at] {
            b'"' => {
                at += 1;
                while at < text.len() && text[at] != b'"' {
                    at += if text[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            byte if byte.is_ascii_alphanumeric() || byte == b'-' => {
                let is_part = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-.".contains(byte);
                at += text[at..].iter().take_while(|byte| is_part(byte)).count();
            }
            _ => at += 1,
        }
        at = at.min(text.len());
        tokens.push(start..at);
    }
    tokens
}

/// The token behind the value that begins at one.
fn value_end(text: &[u8], tokens: &[Range<usize>], start: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match text[token.start] {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// The text without one of its values, and what separates it from the next.
pub fn smaller(text: &[u8]) -> Vec<Vec<u8>> {
    let tokens = tokens(text);
    let is = |at: usize, sign: u8| tokens.get(at).is_some_and(|token| text[token.start] == sign);
    let mut smaller = Vec::new();
    for at in 0..tokens.len().min(SMALLER_MAX) {
        let mut end = value_end(text, &tokens, at);
        // A name goes with its value, and with the comma behind.
        if is(end, b':') {
            end = value_end(text, &tokens, end + 1);
        }
        end += usize::from(is(end, b','));
        if end - at > 1 {
            smaller.push([&text[..tokens[at].start], &text[tokens[end - 1].end..]].concat());
        }
    }
    smaller.sort_by_key(Vec::len);
    smaller
}

/// Changes a text so that it mostly is JSON still.
pub fn mutate(random: &mut Random, text: &mut Vec<u8>) {
    let tokens = tokens(text);
    if tokens.is_empty() || random.one_in(10) {
        return super::bytes(random, text);
    }
    let first = random.below(tokens.len() as u64) as usize;
    let last = value_end(text, &tokens, first) - 1;
    let value = tokens[first].start..tokens[last].end;
    let instead = match random.below(9) {
        0 | 1 => one_of(random, &WORDS).to_string(),
        2 => one_of(random, &NUMBERS).to_string(),
        3 => edge(random).to_string(),
        4 => return again(random, text, value),
        5 => {
            // Deeper and deeper.
            let deep = if random.one_in(6) { 4_000 } else { 1 };
            let (open, close): (&[u8], &[u8]) =
                if random.one_in(2) { (b"[", b"]") } else { (b"{\"a\":", b"}") };
            let inner = text[value.clone()].to_vec();
            text.splice(value, [open.repeat(deep), inner, close.repeat(deep)].concat());
            return;
        }
        6 => String::new(),
        7 => {
            let long = 1 << random.below(14);
            let filler = ["x", "\\u0001", "é", "\u{1f600}"];
            format!("\"{}\"", one_of(random, &filler).repeat(long))
        }
        _ => {
            let other = &tokens[random.below(tokens.len() as u64) as usize];
            String::from_utf8_lossy(&text[other.clone()]).into_owned()
        }
    };
    text.splice(value, instead.into_bytes());
}

/// The same value again, or one that costs more than it says: once or very often.
fn again(random: &mut Random, text: &mut Vec<u8>, value: Range<usize>) {
    let own = text[value.clone()].to_vec();
    let small = one_of(random, &["{}", "[]", "0", "\"\"", "{\"\":0}", "\"a\":{}"]);
    let piece = if random.one_in(2) { own } else { small.as_bytes().to_vec() };
    let piece = [b",", piece.as_slice()].concat();
    let most = if random.one_in(12) { 20_000 } else { 3 };
    let times = 1 + random.below(most).min((REPEATED_BYTES_MAX / piece.len()) as u64);
    text.splice(value.end..value.end, piece.repeat(times as usize));
}
