//! The masker: what processes call their files and give to their programs.

use recorder::privacy::{Form, MARKER, Masker, Privacy, Rules};
use recorder_tests::{secrets::planted, synth::Random};

use crate::{met, mutate};

const WORDS: [&str; 44] = [
    "--password",
    "--token=",
    "-p",
    "-u",
    "mysql",
    "curl",
    "sh",
    "-c",
    "sudo",
    "docker",
    "exec",
    "login",
    "=",
    ":",
    "://",
    "@",
    "?",
    "&",
    "%3D",
    "\"",
    "'",
    "\\",
    " ",
    "\0",
    "***",
    "$",
    "(",
    "Authorization: ",
    "Bearer ",
    "password",
    "api_key",
    "secret",
    "ghp_",
    "AKIA",
    "eyJ",
    "SG.",
    "-----BEGIN PRIVATE KEY-----",
    "-----END",
    "@tcp(",
    "IDENTIFIED BY",
    "user:pass",
    "/etc/",
    "AbCdEf0123456789AbCdEf0123456789AbCdEf01",
    "\u{fffd}",
];

/// A command line with a secret on it.
pub fn make(random: &mut Random) -> Vec<u8> {
    let planted = planted(random.next_u64(), 40);
    let one = &planted[random.below(planted.len() as u64) as usize];
    one.arguments.iter().flat_map(|word| [word.as_bytes(), b"\0"].concat()).collect()
}

/// Changes it word by word.
pub fn mutate(random: &mut Random, text: &mut Vec<u8>) {
    mutate::text::mutate(random, text, &WORDS);
}

fn masked(masker: &mut Masker, bytes: &[u8], form: Form, is_cut: bool) -> Vec<u8> {
    let mut masked = bytes.to_vec();
    masker.mask_vec(&mut masked, form, is_cut);
    masked
}

#[track_caller]
fn same(again: &[u8], once: &[u8]) {
    let differs = again.iter().zip(once).position(|(a, b)| a != b);
    let at = differs.unwrap_or_default().saturating_sub(40);
    let near = |bytes: &[u8]| {
        String::from_utf8_lossy(bytes.get(at..).unwrap_or_default()).chars().take(80).collect()
    };
    let (again_near, once_near): (String, String) = (near(again), near(once));
    assert!(again == once, "masked again at {at}: {once_near:?} became {again_near:?}");
}

/// Whatever it is given, it ends; what it masked stays as it is; it neither grows much
/// nor takes an argument away; and a secret behind it is found.
pub fn privacy(input: &[u8]) {
    const SECRET: &[u8] = b"Zq7Secret-Zq7";
    let privacy = Privacy::new(Rules::default());
    let mut masker = privacy.masker();
    for is_cut in [false, true] {
        let once = masked(&mut masker, input, Form::Text, is_cut);
        assert!(once.len() <= input.len() * MARKER.len(), "{} of {}", once.len(), input.len());
        same(&masked(&mut masker, &once, Form::Text, is_cut), &once);
        let once = masked(&mut masker, input, Form::Arguments, is_cut);
        same(&masked(&mut masker, &once, Form::Arguments, is_cut), &once);
        let count = |bytes: &[u8]| bytes.iter().filter(|byte| **byte == 0).count();
        assert_eq!(count(&once), count(input), "as many arguments");
    }
    let mut behind = input.to_vec();
    behind.extend(b"\0--password=");
    behind.extend(SECRET);
    behind.push(0);
    let behind = masked(&mut masker, &behind, Form::Arguments, false);
    assert!(!behind.windows(SECRET.len()).any(|window| window == SECRET), "it is left");
    met(privacy.masked().by_kind.keys().cloned().collect::<Vec<_>>());
}
