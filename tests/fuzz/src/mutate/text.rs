//! Texts of words: filters, settings, what `/proc` says.

use recorder_tests::synth::Random;

use super::{edge, one_of};

/// A text is not made longer than about this.
const BYTES_MAX: u64 = 16 << 10;

/// Changes a text whose words may be any of `words`.
pub fn mutate(random: &mut Random, text: &mut Vec<u8>, words: &[&str]) {
    let is_border = |byte: &u8| byte.is_ascii_whitespace() || b"=,:\"'[](){}<>|/.".contains(byte);
    match random.below(6) {
        0 | 1 => {
            let at = super::place(random, text);
            let word = one_of(random, words).as_bytes().to_vec();
            text.splice(at..at, word);
        }
        2 => {
            // A word for a word.
            let at = super::place(random, text);
            let start = text[..at].iter().rposition(is_border).map_or(0, |place| place + 1);
            let end = text[at..].iter().position(is_border).map_or(text.len(), |place| at + place);
            let word = one_of(random, words).as_bytes().to_vec();
            text.splice(start..end, word);
        }
        3 => {
            // A number for a number.
            let Some(start) = text.iter().position(u8::is_ascii_digit) else { return };
            let end = text[start..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            let number = edge(random).to_string().into_bytes();
            text.splice(start..start + end, number);
        }
        4 => {
            // A line, or all of it, again.
            let most = if random.one_in(8) { 300 } else { 2 };
            let times = random.below(most).min(BYTES_MAX / (text.len() as u64 + 1));
            *text = text.repeat(1 + times as usize);
        }
        _ => super::bytes(random, text),
    }
}
