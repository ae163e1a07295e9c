//! Secrets that are known by their shape, wherever they stand: issuers give their
//! tokens a beginning by which a leak can be found.
//!
//! The lengths are the least ones: issuers have made tokens longer, never shorter.

use memchr::memmem;

use super::{
    Secret,
    spans::{Piece, Spans},
};

/// Which bytes a token is made of behind its beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// Letters and digits.
    Alnum,
    /// Capital letters and digits.
    Capital,
    /// Digits and the letters to `f`.
    Hex,
    /// Letters, digits, `-` and `_`: base64 for URLs.
    Url,
    /// The same and dots, at least one of them.
    Dotted,
    /// The same and dots and `~`.
    Azure,
}

impl Body {
    fn has(self, byte: u8) -> bool {
        match self {
            Body::Alnum => byte.is_ascii_alphanumeric(),
            Body::Capital => byte.is_ascii_uppercase() || byte.is_ascii_digit(),
            Body::Hex => byte.is_ascii_hexdigit(),
            Body::Url => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'),
            Body::Dotted => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'),
            Body::Azure => {
                byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~')
            }
        }
    }
}

/// A token's beginning, what follows it, and how much of that at least.
struct Shape {
    begins: &'static str,
    body: Body,
    bytes_min: usize,
    /// Small and large letters and digits must all be among it: names of things begin
    /// like this too.
    is_random: bool,
    secret: Secret,
}

const fn shape(begins: &'static str, body: Body, bytes_min: usize, secret: Secret) -> Shape {
    Shape { begins, body, bytes_min, is_random: false, secret }
}

const fn random(begins: &'static str, body: Body, bytes_min: usize, secret: Secret) -> Shape {
    Shape { begins, body, bytes_min, is_random: true, secret }
}

/// Those that begin with the same byte one after the other, see [`FIRST`].
const SHAPES: &[Shape] = &[
    shape("AKIA", Body::Capital, 16, Secret::Aws),
    shape("ASIA", Body::Capital, 16, Secret::Aws),
    shape("ABIA", Body::Capital, 16, Secret::Aws),
    shape("ACCA", Body::Capital, 16, Secret::Aws),
    shape("AIza", Body::Url, 30, Secret::Google),
    shape("AGE-SECRET-KEY-1", Body::Capital, 20, Secret::Age),
    shape("AGE-PLUGIN-", Body::Url, 20, Secret::Age),
    shape("ATATT3", Body::Url, 40, Secret::OtherToken),
    shape("GOCSPX-", Body::Url, 20, Secret::Google),
    shape("HRKU-", Body::Url, 30, Secret::Heroku),
    shape("SG.", Body::Dotted, 32, Secret::Sendgrid),
    shape("dop_v1_", Body::Hex, 32, Secret::Digitalocean),
    shape("doo_v1_", Body::Hex, 32, Secret::Digitalocean),
    shape("dor_v1_", Body::Hex, 32, Secret::Digitalocean),
    shape("dapi", Body::Hex, 32, Secret::OtherToken),
    shape("dckr_pat_", Body::Url, 20, Secret::OtherToken),
    shape("ghp_", Body::Alnum, 30, Secret::Github),
    shape("gho_", Body::Alnum, 30, Secret::Github),
    shape("ghu_", Body::Alnum, 30, Secret::Github),
    shape("ghs_", Body::Dotted, 30, Secret::Github),
    shape("ghr_", Body::Alnum, 30, Secret::Github),
    shape("github_pat_", Body::Url, 22, Secret::Github),
    shape("glpat-", Body::Dotted, 20, Secret::Gitlab),
    shape("gldt-", Body::Dotted, 20, Secret::Gitlab),
    shape("glrt-", Body::Dotted, 20, Secret::Gitlab),
    shape("glptt-", Body::Dotted, 20, Secret::Gitlab),
    shape("glcbt-", Body::Dotted, 20, Secret::Gitlab),
    shape("glsoat-", Body::Dotted, 20, Secret::Gitlab),
    shape("gloas-", Body::Dotted, 20, Secret::Gitlab),
    random("gsk_", Body::Alnum, 40, Secret::OtherToken),
    shape("glsa_", Body::Url, 32, Secret::OtherToken),
    shape("hvs.", Body::Url, 20, Secret::Vault),
    shape("hvb.", Body::Url, 20, Secret::Vault),
    shape("hvr.", Body::Url, 20, Secret::Vault),
    random("hf_", Body::Alnum, 30, Secret::OtherToken),
    shape("lin_api_", Body::Alnum, 30, Secret::OtherToken),
    shape("npm_", Body::Alnum, 30, Secret::Npm),
    shape("nfp_", Body::Alnum, 36, Secret::OtherToken),
    shape("pypi-AgE", Body::Url, 16, Secret::Pypi),
    random("pypi-", Body::Url, 32, Secret::Pypi),
    shape("pscale_pw_", Body::Url, 30, Secret::OtherToken),
    shape("pscale_tkn_", Body::Url, 30, Secret::OtherToken),
    shape("rk_live_", Body::Alnum, 16, Secret::Stripe),
    shape("rk_test_", Body::Alnum, 16, Secret::Stripe),
    shape("rubygems_", Body::Hex, 40, Secret::OtherToken),
    shape("sk_live_", Body::Alnum, 16, Secret::Stripe),
    shape("sk_test_", Body::Alnum, 16, Secret::Stripe),
    random("s.", Body::Alnum, 24, Secret::Vault),
    shape("sk-ant-", Body::Url, 20, Secret::OtherToken),
    shape("sk-proj-", Body::Url, 20, Secret::OtherToken),
    random("sk-", Body::Alnum, 40, Secret::OtherToken),
    shape("shpat_", Body::Hex, 32, Secret::OtherToken),
    shape("shpss_", Body::Hex, 32, Secret::OtherToken),
    shape("shpca_", Body::Hex, 32, Secret::OtherToken),
    shape("sntrys_", Body::Url, 40, Secret::OtherToken),
    shape("tskey-", Body::Url, 20, Secret::OtherToken),
    random("whsec_", Body::Alnum, 16, Secret::Stripe),
    shape("xoxb-", Body::Url, 16, Secret::Slack),
    shape("xoxp-", Body::Url, 16, Secret::Slack),
    shape("xoxa-", Body::Url, 16, Secret::Slack),
    shape("xoxr-", Body::Url, 16, Secret::Slack),
    shape("xoxs-", Body::Url, 16, Secret::Slack),
    shape("xoxc-", Body::Url, 16, Secret::Slack),
    shape("xoxe.", Body::Url, 20, Secret::Slack),
    shape("xapp-", Body::Url, 16, Secret::Slack),
    shape("xkeysib-", Body::Hex, 40, Secret::OtherToken),
    shape("ya29.", Body::Url, 20, Secret::Google),
];

/// The least a shape of [`SHAPES`] has of bytes that are letters, digits, `-` or `_` one
/// after the other: whatever has no such run holds none.
pub(super) const RUN_BYTES_MIN: usize = 20;

/// Whether there is a run of [`RUN_BYTES_MIN`] letters, digits, `-` and `_`. Looks at
/// every twentieth byte of what has none.
pub(super) fn has_long_run(bytes: &[u8]) -> bool {
    let in_run = |place: usize| bytes.get(place).is_some_and(|byte| Body::Url.has(*byte));
    // All before `from` is known not to belong to a run that goes on.
    let mut from = 0;
    while from + RUN_BYTES_MIN <= bytes.len() {
        let probe = from + RUN_BYTES_MIN - 1;
        let mut back = probe;
        while in_run(back) {
            if back == from {
                return true;
            }
            back -= 1;
        }
        from = back + 1;
    }
    false
}

/// For each byte where in [`SHAPES`] those are that begin with it, and where they end.
const FIRST: [(u8, u8); 256] = {
    let mut first = [(0, 0); 256];
    let mut place = 0;
    while place < SHAPES.len() {
        let byte = SHAPES[place].begins.as_bytes()[0] as usize;
        if first[byte].1 == 0 {
            first[byte].0 = place as u8;
        }
        assert!(first[byte].1 == 0 || first[byte].1 as usize == place, "one after the other");
        place += 1;
        first[byte].1 = place as u8;
    }
    first
};

/// Tokens whose body is not of one kind of bytes.
const OTHERS: [u8; 2] = [b'e', b'S'];

/// Whether small and large letters and digits are among it.
pub(super) fn looks_random(bytes: &[u8]) -> bool {
    bytes.iter().any(u8::is_ascii_digit)
        && bytes.iter().any(u8::is_ascii_lowercase)
        && bytes.iter().any(u8::is_ascii_uppercase)
}

/// Finds everything of a known shape.
pub(super) fn find(piece: &Piece<'_>, spans: &mut Spans) {
    let bytes = piece.bytes;
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let (start, end) = FIRST.get(usize::from(*byte)).copied().unwrap_or_default();
        let shapes = SHAPES.get(usize::from(start)..usize::from(end)).unwrap_or_default();
        let begins = !shapes.is_empty() || OTHERS.contains(byte);
        let token = if begins && begins_word(bytes, at) { token(piece, at, shapes) } else { None };
        match token {
            Some((end, secret)) => {
                spans.add(piece, at..end, secret);
                at = end;
            }
            None => at += 1,
        }
    }
    // A byte is found faster than a word, and most strings have not even that.
    let has = |byte| memchr::memchr(byte, bytes).is_some();
    if has(b' ') && has(b'-') {
        private_keys(piece, spans);
    }
    if has(b'~') {
        azure(piece, spans);
    }
    if bytes.len() > WEBHOOK_BYTES_MIN && has(b'k') && has(b'/') {
        webhooks(piece, spans);
    }
    telegram(piece, spans);
}

/// The least bytes of an address of [`webhooks`].
const WEBHOOK_BYTES_MIN: usize = 30;

/// Whether a word can begin here: not within a word, but behind `%3D` and `\n`.
fn begins_word(bytes: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|place| bytes.get(place)).copied();
    match before(1) {
        None => true,
        Some(byte) if !byte.is_ascii_alphanumeric() => true,
        Some(b'n' | b't' | b'r') if before(2) == Some(b'\\') => true,
        Some(byte) => {
            before(3) == Some(b'%')
                && byte.is_ascii_hexdigit()
                && before(2).is_some_and(|byte| byte.is_ascii_digit())
        }
    }
}

/// The token that begins here, which is of one of these shapes: where it ends.
fn token(piece: &Piece<'_>, at: usize, shapes: &[Shape]) -> Option<(usize, Secret)> {
    let rest = piece.bytes.get(at..)?;
    if rest.starts_with(b"eyJ") {
        return jwt(piece, rest).map(|length| (at + length, Secret::Jwt));
    }
    if rest.starts_with(b"SK") {
        let body = rest.get(2..)?;
        let hex = body.iter().take_while(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let ends = body.get(32).is_none_or(|byte| !byte.is_ascii_alphanumeric());
        if hex.count() == 32 && ends {
            return Some((at + 34, Secret::Twilio));
        }
    }
    for shape in shapes {
        let Some(body) = rest.strip_prefix(shape.begins.as_bytes()) else { continue };
        let length = body.iter().take_while(|byte| shape.body.has(**byte)).count();
        let is_cut = piece.is_cut && length == body.len() && length > 0;
        let body = body.get(..length).unwrap_or_default();
        if (length >= shape.bytes_min || is_cut) && (!shape.is_random || looks_random(body)) {
            return Some((at + shape.begins.len() + length, shape.secret));
        }
    }
    None
}

/// `header.claims.signature`, all base64 for URLs; the header begins `{"`. An empty
/// signature is one.
fn jwt(piece: &Piece<'_>, rest: &[u8]) -> Option<usize> {
    let part = |from: usize| {
        let rest = rest.get(from..).unwrap_or_default();
        rest.iter().take_while(|byte| Body::Url.has(**byte)).count()
    };
    let header = part(0);
    if header < 6 {
        return None;
    }
    let claims = if rest.get(header) == Some(&b'.') { part(header + 1) } else { 0 };
    let is_cut = piece.is_cut && header + 1 + claims >= rest.len();
    if !is_cut && (header < 10 || claims < 4) {
        return None;
    }
    Some(rest.iter().take_while(|byte| Body::Dotted.has(**byte)).count())
}

/// What stands between the lines that begin and end a private key. A key that ends
/// before its last line is masked to the end.
fn private_keys(piece: &Piece<'_>, spans: &mut Spans) {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let mut from = 0;
    while let Some(found) = piece.bytes.get(from..).and_then(|rest| memmem::find(rest, BEGIN)) {
        let label = from + found + BEGIN.len();
        from = label;
        let Some(dashes) = piece.bytes.get(label..).and_then(|rest| memmem::find(rest, b"-----"))
        else {
            return;
        };
        let name = piece.bytes.get(label..label + dashes).unwrap_or_default();
        if name.len() > 40 || memmem::find(name, b"PRIVATE KEY").is_none() {
            continue;
        }
        let body = label + dashes + 5;
        let rest = piece.bytes.get(body..).unwrap_or_default();
        let end = memmem::find(rest, b"-----END").unwrap_or(rest.len());
        spans.add(piece, body..body + end, Secret::PrivateKey);
        from = body + end;
    }
}

/// A client secret of Azure: three bytes, a digit, `Q~`, and 31 to 34 more.
fn azure(piece: &Piece<'_>, spans: &mut Spans) {
    for found in memmem::find_iter(piece.bytes, b"Q~") {
        let Some(start) = found.checked_sub(4) else { continue };
        let head = piece.bytes.get(start..found).unwrap_or_default();
        let body = piece.bytes.get(found + 2..).unwrap_or_default();
        let length = body.iter().take(64).take_while(|byte| Body::Azure.has(**byte)).count();
        let is_cut = piece.is_cut && length == body.len();
        if head.iter().all(|byte| Body::Azure.has(*byte)) && (length >= 31 || is_cut) {
            spans.add(piece, start..found + 2 + length, Secret::Azure);
        }
    }
}

/// Addresses that are a secret by themselves: whoever has them may post.
fn webhooks(piece: &Piece<'_>, spans: &mut Spans) {
    const PLACES: [&[u8]; 4] = [
        b"hooks.slack.com/services/",
        b"hooks.slack.com/workflows/",
        b"/api/webhooks/",
        b"webhook.office.com/webhookb2/",
    ];
    if memmem::find(piece.bytes, b"hook").is_none() {
        return;
    }
    for place in PLACES {
        for found in memmem::find_iter(piece.bytes, place) {
            let start = found + place.len();
            let rest = piece.bytes.get(start..).unwrap_or_default();
            let length = rest
                .iter()
                .take_while(|byte| Body::Dotted.has(**byte) || matches!(byte, b'/' | b'@'))
                .count();
            if length >= 16 {
                spans.add(piece, start..start + length, Secret::Webhook);
            }
        }
    }
}

/// A bot's token of Telegram: its number, a colon, 35 bytes. Stands in the path of a URL.
fn telegram(piece: &Piece<'_>, spans: &mut Spans) {
    for colon in memchr::memchr_iter(b':', piece.bytes) {
        let before = piece.bytes.get(..colon).unwrap_or_default();
        let digits = before.iter().rev().take(16).take_while(|byte| byte.is_ascii_digit()).count();
        let body = piece.bytes.get(colon + 1..).unwrap_or_default();
        let length = body.iter().take_while(|byte| Body::Url.has(**byte)).count();
        let token = body.get(..length).unwrap_or_default();
        if (8..=12).contains(&digits) && (30..=40).contains(&length) && looks_random(token) {
            spans.add(piece, colon - digits..colon + 1 + length, Secret::OtherToken);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_is_found_wherever_it_lies() {
        let run = "a1-B_".repeat(4);
        for before in 0..45 {
            for after in 0..25 {
                let text = format!("{}{run}{}", "ab/".repeat(before), "/c.".repeat(after));
                assert!(has_long_run(text.as_bytes()), "{text}");
                let shorter = text.replace(&run, &run[1..]);
                assert!(!has_long_run(shorter.as_bytes()), "{shorter}");
            }
        }
        assert!(!has_long_run(b""));
        assert!(!has_long_run(b"/usr/lib/x86_64-linux-gnu/libc.so.6"));
    }

    #[test]
    fn every_shape_has_a_run_that_the_quick_look_sees() {
        for shape in SHAPES {
            let own = shape.begins.rsplit('.').next().unwrap().len();
            // A body with dots has one long part at least: see the tests of the module.
            assert!(own + shape.bytes_min >= RUN_BYTES_MIN, "{}", shape.begins);
        }
    }
}
