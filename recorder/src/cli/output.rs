//! Standard output and progress: a closed pipe is a quiet end, and a bar appears
//! only where somebody looks.

use std::{
    io::{self, BufWriter, IsTerminal as _, StdoutLock, Write},
    path::Path,
};

use indicatif::{ProgressBar, ProgressStyle};

use super::{Exit, Failure};

/// Buffered standard output.
pub(super) type Out = BufWriter<StdoutLock<'static>>;

/// Runs `write` on standard output. A closed pipe ends it without an error.
pub(super) fn to_stdout(write: impl FnOnce(&mut Out) -> io::Result<()>) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(64 * 1024, io::stdout().lock());
    match write(&mut out).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
            // What is buffered would be tried again at the end, with a panic.
            let (_inner, _unwritten) = out.into_parts();
            Ok(())
        }
        Err(error) => {
            Err(Failure::new(Exit::Failed, format!("cannot write to standard output: {error}")))
        }
        Ok(()) => Ok(()),
    }
}

/// Where a file goes and what it is called there.
pub(super) fn directory_and_name(path: &Path) -> Result<(&Path, &str), Failure> {
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(|| {
        Failure::new(Exit::Usage, format!("{} is no name of a file", path.display()))
    })?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok((directory, name))
}

/// A bar over bytes on standard error; hidden where that is no terminal, or where
/// standard output is one and would be torn.
pub(super) fn progress(bytes: u64, output_scrolls: bool) -> ProgressBar {
    if !io::stderr().is_terminal() || (output_scrolls && io::stdout().is_terminal()) {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(bytes);
    if let Ok(style) =
        ProgressStyle::with_template("{bar:30} {percent:>3} % {bytes}/{total_bytes}, {eta} left")
    {
        bar.set_style(style);
    }
    bar
}

/// Words of a file or an alert on one line, without what a terminal would obey:
/// controls, and what turns the direction of text round.
pub(super) fn printable(text: &str) -> String {
    let is_obeyed = |c: char| {
        c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_obeyed(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// `1,234,567`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `12.3 MiB`.
pub(super) fn bytes(number: u64) -> String {
    let units = [(30, "GiB"), (20, "MiB"), (10, "KiB")];
    match units.iter().find(|(shift, _)| number >> shift > 0) {
        Some((shift, unit)) => format!("{:.1} {unit}", number as f64 / f64::from(1u32 << shift)),
        None => format!("{number} B"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_stay_on_their_line() {
        assert_eq!(printable("a \"ä\"\n\u{1b}[0m\u{202e}"), "a \"ä\"\\n\\u{1b}[0m\\u{202e}");
    }

    #[test]
    fn numbers_are_grouped_and_bytes_have_units() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(256 << 20), "256.0 MiB");
    }
}
