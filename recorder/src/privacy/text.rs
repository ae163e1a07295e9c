//! Secrets in one string: assignments, headers, JSON, URLs and what stands behind a
//! telling word.

use std::ops::Range;

use memchr::{memchr, memchr_iter, memchr2_iter, memmem};

use super::{
    Secret,
    names::{NAME_BYTES_MAX, Place, is_one_of, same, telling},
    shapes,
    spans::{Piece, Spans, is_masked},
};

/// How far the end of a value is looked for; what has none by then is masked to the end
/// of the string.
const VALUE_BYTES_MAX: usize = 1024;

/// How the credentials of a header begin; the word stays.
const SCHEMES: &[&str] = &[
    "basic",
    "bearer",
    "digest",
    "token",
    "negotiate",
    "ntlm",
    "apikey",
    "api-key",
    "key",
    "hawk",
    "aws4-hmac-sha256",
    "splunk",
    "geniekey",
    "sso-key",
    "pat",
    "jwt",
    "oauth",
    "sharedkey",
    "sharedaccesssignature",
    "ghtoken",
    "dpop",
    "private",
];

/// Values that are no secret whatever they are called.
const PLAIN_VALUES: &[&str] = &[
    "true",
    "false",
    "yes",
    "no",
    "on",
    "off",
    "none",
    "null",
    "nil",
    "undefined",
    "str",
    "string",
    "bytes",
    "optional",
    "required",
    "-",
];

/// Where files of secrets lie: a value that begins like this names one.
const DIRECTORIES: &[&str] = &[
    "etc", "run", "var", "usr", "opt", "root", "tmp", "dev", "proc", "srv", "mnt", "data", "app",
    "secrets", "vault", "certs", "keys", "config", "home", "Users",
];

/// How files of keys end.
const FILES: &[&[u8]] =
    &[b".pem", b".key", b".crt", b".json", b".txt", b".p12", b".jks", b".yaml", b".yml"];

/// Finds every secret of a piece.
pub(super) fn find(piece: &Piece<'_>, words: &[Vec<u8>], spans: &mut Spans) {
    shapes::find(piece, spans);
    // What stands in a value that is masked anyway is not looked at: a string of nothing
    // but names would take time by the square of its length.
    let mut covered = 0;
    for at in memchr2_iter(b'=', b':', piece.bytes) {
        if at < covered {
            continue;
        }
        if piece.bytes.get(at..at + 3) == Some(b"://") {
            url(piece, at, spans);
        } else if let Some(end) = assignment(piece, Sign { at, bytes: 1 }, words, spans) {
            covered = end;
        }
    }
    if memchr(b'%', piece.bytes).is_some() {
        for at in memmem::find_iter(piece.bytes, b"%3") {
            if matches!(piece.bytes.get(at + 2), Some(b'D' | b'd' | b'A' | b'a')) {
                assignment(piece, Sign { at, bytes: 3 }, words, spans);
            }
        }
    }
    for at in memchr2_iter(b'\'', b'"', piece.bytes) {
        literal(piece, at, words, spans);
    }
    for at in memchr_iter(b' ', piece.bytes) {
        scheme(piece, at, spans);
    }
    if memchr(b'@', piece.bytes).is_some() {
        data_source(piece, spans);
    }
}

/// An equals sign, a colon, or one of them with a percent sign.
#[derive(Clone, Copy)]
struct Sign {
    at: usize,
    bytes: usize,
}

/// The name before a sign.
struct Name<'b> {
    name: &'b [u8],
    /// Where it begins.
    start: usize,
    /// The byte before it.
    before: Option<u8>,
    /// It stands in quotation marks.
    is_quoted: bool,
    /// Blanks are between it and the sign.
    is_apart: bool,
}

fn is_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.')
}

fn is_quote(byte: Option<u8>) -> bool {
    matches!(byte, Some(b'"' | b'\''))
}

fn name_before(bytes: &[u8], sign: Sign) -> Option<Name<'_>> {
    let before = |end: usize| end.checked_sub(1).and_then(|place| bytes.get(place)).copied();
    let mut end = sign.at;
    if bytes.get(sign.at) == Some(&b'=') && matches!(before(end), Some(b':' | b'+' | b'?' | b'=')) {
        end -= 1;
    }
    let apart = bytes.get(..end)?.iter().rev().take(4).take_while(|byte| **byte == b' ').count();
    end -= apart;
    let is_quoted = is_quote(before(end));
    if is_quoted {
        end -= 1;
        end -= usize::from(before(end) == Some(b'\\'));
    } else if before(end) == Some(b']') {
        end -= 1;
        end -= usize::from(is_quote(before(end)));
    }
    let name = bytes.get(..end)?.iter().rev().take(NAME_BYTES_MAX);
    let start = end - name.take_while(|byte| is_name(**byte)).count();
    let name = bytes.get(start..end).filter(|name| !name.is_empty())?;
    Some(Name { name, start, before: before(start), is_quoted, is_apart: apart > 0 })
}

/// `name=value`, `name: value`, `"name": "value"`. Answers where a value ends that is
/// a secret.
fn assignment(
    piece: &Piece<'_>,
    sign: Sign,
    words: &[Vec<u8>],
    spans: &mut Spans,
) -> Option<usize> {
    let bytes = piece.bytes;
    let name = name_before(bytes, sign)?;
    let at = sign.at + sign.bytes;
    let is_colon = bytes.get(sign.at) == Some(&b':');
    if is_colon && (bytes.get(at) == Some(&b':') || name.before == Some(b':')) {
        // A path of modules.
        return None;
    }
    let before = bytes.get(..name.start).unwrap_or_default();
    let is_query = matches!(name.before, Some(b'?' | b'&' | b'#' | b';'))
        && (memchr(b'/', before).is_some() || memchr(b'?', before).is_some())
        || before.ends_with(b"%26")
        || before.ends_with(b"%3F")
        || before.ends_with(b"%3f");
    let place = if is_query { Place::Query } else { Place::Assignment };
    let secret = telling(name.name, place, words)?;
    let value = value(piece, at, &name, Kind { secret, is_colon, is_query })?;
    let said = bytes.get(value.clone()).unwrap_or_default();
    if is_plain(said, secret, piece.is_line || name.is_apart) {
        return None;
    }
    let end = value.end;
    spans.add(piece, value, secret);
    Some(end)
}

/// What decides how far a value goes.
#[derive(Clone, Copy)]
struct Kind {
    secret: Secret,
    is_colon: bool,
    is_query: bool,
}

/// The value that begins at `at`, without its quotation marks.
fn value(piece: &Piece<'_>, mut at: usize, name: &Name<'_>, kind: Kind) -> Option<Range<usize>> {
    let bytes = piece.bytes;
    let is_whole = !piece.is_line && !kind.is_query && !name.is_quoted && starts_piece(bytes, name);
    if is_whole && !kind.is_colon && !name.is_apart {
        at += usize::from(bytes.get(at) == Some(&b'='));
        return Some(at..end_of_argument(bytes, at));
    }
    while matches!(bytes.get(at), Some(b'=' | b'>')) {
        at += 1;
    }
    if kind.is_colon || name.is_apart || name.is_quoted {
        let blanks = bytes.get(at..)?.iter().take(8).take_while(|byte| **byte == b' ');
        at += blanks.count();
    }
    let first = bytes.get(at).copied()?;
    if is_quote(Some(first)) {
        if kind.is_colon && !name.is_quoted && name.before == Some(first) {
            // A prompt: `"Password: "`.
            return None;
        }
        let end = closing(bytes, at + 1, first);
        return Some(at + 1..end);
    }
    if first == b'\\' && is_quote(bytes.get(at + 1).copied()) {
        let rest = bytes.get(at + 2..)?;
        let end = memmem::find(rest, bytes.get(at..at + 2)?).unwrap_or(rest.len());
        return Some(at + 2..at + 2 + end);
    }
    if matches!(kind.secret, Secret::Authorization | Secret::Session) && !kind.is_query {
        let line = at..end_of_line(bytes, at, name.before);
        return Some(behind_scheme(bytes, line));
    }
    if kind.is_colon && is_whole {
        return Some(behind_scheme(bytes, at..end_of_line(bytes, at, None)));
    }
    Some(at..end_of_value(piece, at, kind))
}

/// Whether the name is the first thing of its argument, dashes aside.
fn starts_piece(bytes: &[u8], name: &Name<'_>) -> bool {
    name.start == 0 || bytes.get(..name.start).is_some_and(|all| all.iter().all(|b| *b == b'-'))
}

/// To the end of the argument, but not beyond `&next=`: the body of a form, a list of
/// settings. A secret may hold any byte.
fn end_of_argument(bytes: &[u8], at: usize) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let ends = |place: usize| {
        let after = rest.get(place + 1..).unwrap_or_default();
        let name = after.iter().take_while(|byte| is_name(**byte) || **byte == b' ').count();
        let begins = after.first().is_some_and(u8::is_ascii_alphabetic);
        begins && name >= 2 && after.get(name) == Some(&b'=')
    };
    let mut places = memchr::memchr3_iter(b'&', b';', b',', rest);
    places.find(|place| ends(*place)).map_or(bytes.len(), |place| at + place)
}

fn end_of_line(bytes: &[u8], at: usize, opener: Option<u8>) -> usize {
    let rest = bytes.get(at..).unwrap_or_default();
    let near = rest.get(..rest.len().min(VALUE_BYTES_MAX)).unwrap_or_default();
    let ends = |byte: &u8| {
        matches!(byte, b'\n' | b'\r')
            || (is_quote(opener) && Some(*byte) == opener)
            || (opener.is_some() && !is_quote(opener) && matches!(byte, b'"' | b'\''))
    };
    at + near.iter().position(ends).unwrap_or(rest.len())
}

/// The closing quotation mark, or the end.
fn closing(bytes: &[u8], from: usize, quote: u8) -> usize {
    let rest = bytes.get(from..).unwrap_or_default();
    let mut places = memchr_iter(quote, rest);
    let is_escaped = |place: usize| {
        rest.get(..place).unwrap_or_default().iter().rev().take_while(|b| **b == b'\\').count() % 2
            == 1
    };
    let end = places.find(|place| !is_escaped(*place));
    from + end.unwrap_or(rest.len())
}

fn end_of_value(piece: &Piece<'_>, at: usize, kind: Kind) -> usize {
    let bytes = piece.bytes;
    let rest = bytes.get(at..).unwrap_or_default();
    let ends = |place: usize, byte: u8| match byte {
        b' ' | b'\t' => place == 0 || rest.get(place - 1) != Some(&b'\\'),
        b'\n' | b'\r' | b'"' | b'\'' | b'<' | b'>' | b'`' | b'&' | b'#' => true,
        b'%' => rest.get(place..place + 3) == Some(b"%26"),
        b'\\' => is_quote(rest.get(place + 1).copied()),
        b';' | b',' | b'|' | b'(' | b')' | b'}' | b']' | b'?' => !kind.is_query,
        b'/' => piece.is_path && !kind.is_query,
        _ => false,
    };
    let near = rest.iter().take(VALUE_BYTES_MAX).enumerate();
    let end = near.into_iter().position(|(place, byte)| ends(place, *byte));
    at + end.unwrap_or(rest.len())
}

/// Credentials without the word that says which they are.
fn behind_scheme(bytes: &[u8], line: Range<usize>) -> Range<usize> {
    let said = bytes.get(line.clone()).unwrap_or_default();
    let Some(blank) = memchr(b' ', said) else { return line };
    if !said.get(..blank).is_some_and(|word| is_one_of(word, SCHEMES)) {
        return line;
    }
    let blanks = said.iter().skip(blank).take_while(|byte| **byte == b' ').count();
    line.start + blank + blanks..line.end
}

/// Whether a value is none, is masked, says where the secret is, or in a command line
/// which variable has it.
pub(super) fn is_plain(value: &[u8], secret: Secret, is_line: bool) -> bool {
    if value.is_empty() || is_masked(value) || is_one_of(value, PLAIN_VALUES) {
        return true;
    }
    if is_line && is_reference(value) {
        return true;
    }
    // `docker build --secret id=x,src=y` names a file.
    if secret == Secret::Secret && value.starts_with(b"id=") {
        return true;
    }
    let is_key = !matches!(secret, Secret::Password);
    if is_key && FILES.iter().any(|end| value.ends_with(end)) {
        return true;
    }
    is_path(value)
}

/// Whether it is a path from the root or from here.
fn is_path(value: &[u8]) -> bool {
    if [&b"~/"[..], b"./", b"../"].iter().any(|here| value.starts_with(here)) {
        return true;
    }
    let first = value.strip_prefix(b"/").and_then(|rest| rest.get(..memchr(b'/', rest)?));
    first.is_some_and(|first| DIRECTORIES.iter().any(|name| first == name.as_bytes()))
}

/// `$NAME`, `${NAME}`, `$(command)`, `{{ name }}`, `name.of(a.call)`.
fn is_reference(value: &[u8]) -> bool {
    match value {
        [b'$', b'(' | b'{', ..] | [b'{', b'{', ..] | [b'`', ..] => true,
        [b'$', name @ ..] => name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_'),
        _ => {
            let name = value.iter().take_while(|byte| is_name(**byte)).count();
            matches!(value.get(name), Some(b'(' | b'[')) && name > 0
        }
    }
}

/// `scheme://user:password@host`. `at` is the colon.
fn url(piece: &Piece<'_>, at: usize, spans: &mut Spans) {
    let bytes = piece.bytes;
    let start = at + 3;
    let rest = bytes.get(start..).unwrap_or_default();
    let rest = rest.get(..rest.len().min(VALUE_BYTES_MAX)).unwrap_or_default();
    let is_end = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\n' | b'"' | b'\'' | b'<' | b'>');
    let word = rest.get(..rest.iter().position(is_end).unwrap_or(rest.len())).unwrap_or_default();
    let is_cut = piece.is_cut && word.len() == rest.len();
    let authority = word.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#'));
    let authority = word.get(..authority.unwrap_or(word.len())).unwrap_or_default();
    let at_sign = memchr::memrchr(b'@', authority).or_else(|| unescaped(word, authority));
    let Some(end) =
        at_sign.or_else(|| (is_cut && authority.len() == word.len()).then_some(word.len()))
    else {
        return;
    };
    let user = word.get(..end).unwrap_or_default();
    match memchr(b':', user) {
        Some(colon) => {
            let value = user.get(colon + 1..).unwrap_or_default();
            let is_port = at_sign.is_none() && value.iter().all(u8::is_ascii_digit);
            let is_plain = user.starts_with(b"[") || (piece.is_line && is_reference(value));
            if !is_port && !is_plain {
                spans.add(piece, start + colon + 1..start + end, Secret::UrlPassword);
            }
        }
        // A token in the place of the user.
        None if at_sign.is_some() && user.len() >= 16 && shapes::looks_random(user) => {
            spans.add(piece, start..start + end, Secret::UrlPassword);
        }
        None => {}
    }
}

/// The `@` of a URL whose password holds a `/` or a `?` as it is: what would be the port
/// is no number then.
fn unescaped(word: &[u8], authority: &[u8]) -> Option<usize> {
    let colon = memchr(b':', authority)?;
    let port = authority.get(colon + 1..)?;
    let is_port = port.iter().all(u8::is_ascii_digit) || authority.starts_with(b"[");
    // Multiple hosts: `kafka://a:9092,b:9092/`.
    let is_list = memchr(b',', port).is_some();
    if is_port || is_list { None } else { memchr::memrchr(b'@', word) }
}

/// A name and a quoted string: `PASSWORD 'x'`, `IDENTIFIED BY 'x'`, `password("x")`.
fn literal(piece: &Piece<'_>, at: usize, words: &[Vec<u8>], spans: &mut Spans) {
    let bytes = piece.bytes;
    let Some(quote) = bytes.get(at).copied() else { return };
    let before = bytes.get(..at).unwrap_or_default();
    let apart = before.iter().rev().take_while(|byte| matches!(byte, b' ' | b'(')).count();
    let end = at - apart;
    let word = |end: usize| {
        let rev = before.get(..end).unwrap_or_default().iter().rev().take(NAME_BYTES_MAX);
        let start = end - rev.take_while(|byte| is_name(**byte)).count();
        (start, before.get(start..end).unwrap_or_default())
    };
    let (start, last) = word(end);
    let is_telling = apart > 0
        && if same(last, "by") || same(last, "as") {
            let blanks = before.get(..start).unwrap_or_default().iter().rev();
            let end = start - blanks.take_while(|byte| **byte == b' ').count();
            same(word(end).1, "identified")
        } else {
            // An option has a value of its own, see `arguments`.
            !last.starts_with(b"-") && telling(last, Place::Assignment, words).is_some()
        };
    if is_telling && !last.is_empty() {
        let value = at + 1..closing(bytes, at + 1, quote);
        let said = bytes.get(value.clone()).unwrap_or_default();
        if !is_plain(said, Secret::Password, piece.is_line) {
            spans.add(piece, value, Secret::Password);
        }
    }
}

/// `Bearer x` and `Basic x` wherever they stand. `at` is the blank.
fn scheme(piece: &Piece<'_>, at: usize, spans: &mut Spans) {
    let before = piece.bytes.get(..at).unwrap_or_default();
    let ends = |word: &str| {
        let from = before.len().checked_sub(word.len());
        from.is_some_and(|from| {
            before.get(from..).is_some_and(|end| same(end, word))
                && (from == 0 || before.get(from - 1).is_none_or(|b| !b.is_ascii_alphanumeric()))
        })
    };
    if !ends("bearer") && !ends("basic") {
        return;
    }
    let rest = piece.bytes.get(at + 1..).unwrap_or_default();
    let is_token = |byte: &&u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'-' | b'_' | b'.' | b'~' | b'+' | b'/' | b'=')
    };
    let length = rest.iter().take_while(is_token).count();
    let value = rest.get(..length).unwrap_or_default();
    let has_two = value.iter().any(u8::is_ascii_uppercase) || value.iter().any(u8::is_ascii_digit);
    if length >= 8 && has_two {
        spans.add(piece, at + 1..at + 1 + length, Secret::Authorization);
    }
}

/// `user:password@tcp(host:3306)/name`: how Go names a database.
fn data_source(piece: &Piece<'_>, spans: &mut Spans) {
    for network in [&b"@tcp("[..], b"@unix(", b"@tcp6("] {
        let Some(at) = memmem::find(piece.bytes, network) else { continue };
        let before = piece.bytes.get(..at).unwrap_or_default();
        let is_end = |byte: &u8| matches!(byte, b' ' | b'"' | b'\'' | b'=' | b'/');
        let start = before.iter().rposition(is_end).map_or(0, |place| place + 1);
        let user = before.get(start..).unwrap_or_default();
        if let Some(colon) = memchr(b':', user) {
            spans.add(piece, start + colon + 1..at, Secret::UrlPassword);
        }
    }
}
