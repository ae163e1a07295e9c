//! JSON, taken apart into tokens: no parser, so that what is damaged already can be
//! changed further.

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

/// A piece is not repeated so often that it comes to more.
const TOKENS_MAX: u64 = 8_000;

/// The tokens of a text: strings, numbers and words, and one for each sign.
fn tokens(text: &[u8]) -> Vec<Vec<u8>> {
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
        tokens.push(text[start..at].to_vec());
    }
    tokens
}

/// The end of the value that begins at a token.
fn value_end(tokens: &[Vec<u8>], start: usize) -> usize {
    let mut depth = 0usize;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.as_slice() {
            b"{" | b"[" => depth += 1,
            b"}" | b"]" => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Changes a text so that it mostly is JSON still.
pub fn mutate(random: &mut Random, text: &mut Vec<u8>) {
    let mut tokens = tokens(text);
    if tokens.is_empty() || tokens.len() as u64 > 2 * TOKENS_MAX || random.one_in(10) {
        return super::bytes(random, text);
    }
    let at = random.below(tokens.len() as u64) as usize;
    let end = value_end(&tokens, at);
    match random.below(9) {
        0 | 1 => drop(tokens.splice(at..end, [one_of(random, &WORDS).as_bytes().to_vec()])),
        2 => drop(tokens.splice(at..end, [one_of(random, &NUMBERS).as_bytes().to_vec()])),
        3 => drop(tokens.splice(at..end, [edge(random).to_string().into_bytes()])),
        4 => {
            // The same again, once or very often.
            let mut piece = vec![b",".to_vec()];
            piece.extend(tokens[at..end].iter().cloned());
            let most = if random.one_in(6) { 2_000 } else { 3 };
            let times = 1 + random.below(most).min(TOKENS_MAX / piece.len() as u64) as usize;
            let pieces: Vec<Vec<u8>> =
                piece.iter().cycle().take(piece.len() * times).cloned().collect();
            tokens.splice(end..end, pieces);
        }
        5 => {
            // Deeper and deeper.
            let deep = if random.one_in(6) { 4_000 } else { 1 };
            let (open, close): (&[u8], &[u8]) =
                if random.one_in(2) { (b"[", b"]") } else { (b"{\"a\":", b"}") };
            tokens.insert(end, close.repeat(deep));
            tokens.insert(at, open.repeat(deep));
        }
        6 => drop(tokens.drain(at..end)),
        7 => {
            let long = 1 << random.below(14);
            let filler = ["x", "\\u0001", "é", "\u{1f600}"];
            let word = format!("\"{}\"", one_of(random, &filler).repeat(long));
            tokens.splice(at..end, [word.into_bytes()]);
        }
        _ => {
            let other = random.below(tokens.len() as u64) as usize;
            tokens.swap(at, other);
        }
    }
    *text = tokens.concat();
}
