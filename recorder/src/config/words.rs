//! Values as people write them in the file and on the command line.

use std::path::PathBuf;

use serde::Deserialize;

use crate::{
    clock::parse_duration_ns,
    event::{capture::DataKept, wire::MEMORY_BYTES_MAX},
};

/// A duration such as `30s` or `5m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Duration {
    /// Nanoseconds.
    pub(super) ns: u64,
}

impl TryFrom<String> for Duration {
    type Error = String;

    fn try_from(word: String) -> Result<Duration, String> {
        parse_duration_ns(&word).map(|ns| Duration { ns })
    }
}

/// An amount such as `256MiB`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Amount {
    /// Bytes.
    pub(super) bytes: u64,
}

impl TryFrom<String> for Amount {
    type Error = String;

    fn try_from(word: String) -> Result<Amount, String> {
        parse_bytes(&word).map(|bytes| Amount { bytes })
    }
}

/// The path of a file that only its owner and its group may read.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct SecretFile {
    /// Where it is.
    pub(super) path: PathBuf,
}

/// `256MiB`, `1GiB`, `500MB`, `1048576`.
pub fn parse_bytes(word: &str) -> Result<u64, String> {
    let word = word.trim();
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = word.split_at_checked(digits).unwrap_or_default();
    let factor: Option<u64> = match unit.trim() {
        "" | "B" => Some(1),
        "K" | "KiB" => Some(1 << 10),
        "M" | "MiB" => Some(1 << 20),
        "G" | "GiB" => Some(1 << 30),
        "kB" | "KB" => Some(1_000),
        "MB" => Some(1_000_000),
        "GB" => Some(1_000_000_000),
        _ => None,
    };
    let number: Option<u64> = number.parse().ok();
    number
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .ok_or_else(|| format!("`{word}` is not an amount of bytes: write it like 256MiB or 1GiB"))
}

/// `64`, or `file=0,network=64`: bytes kept of the data of one call.
pub(super) fn parse_snaplen(word: &str) -> Result<DataKept, String> {
    let wrong = || {
        format!(
            "snaplen is `{word}`: write a number of bytes up to {MEMORY_BYTES_MAX}, or for each \
             class like file=0,network=64"
        )
    };
    let bytes = |number: &str| {
        let bytes: u16 = number.trim().parse().ok()?;
        (usize::from(bytes) <= MEMORY_BYTES_MAX).then_some(bytes)
    };
    if !word.contains('=') {
        let bytes = bytes(word).ok_or_else(wrong)?;
        return Ok(DataKept { file_bytes: bytes, network_bytes: bytes });
    }
    let mut kept = DataKept::default();
    for part in word.split(',') {
        let (class, number) = part.split_once('=').ok_or_else(wrong)?;
        let bytes = bytes(number).ok_or_else(wrong)?;
        match class.trim() {
            "file" => kept.file_bytes = bytes,
            "network" => kept.network_bytes = bytes,
            _ => return Err(wrong()),
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_data_by_class() {
        let kept = |file_bytes, network_bytes| Ok(DataKept { file_bytes, network_bytes });
        assert_eq!(parse_snaplen("0"), kept(0, 0));
        assert_eq!(parse_snaplen("64"), kept(64, 64));
        assert_eq!(parse_snaplen("network=128"), kept(0, 128));
        assert_eq!(parse_snaplen("file=4095, network=64"), kept(4095, 64));
        for wrong in ["", "x", "4096", "-1", "file", "file=", "disk=3", "file=1,"] {
            assert!(parse_snaplen(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn amounts_of_memory() {
        assert_eq!(parse_bytes("256MiB"), Ok(256 << 20));
        assert_eq!(parse_bytes("1GiB"), Ok(1 << 30));
        assert_eq!(parse_bytes("500MB"), Ok(500_000_000));
        assert_eq!(parse_bytes("4096"), Ok(4096));
        for word in ["", "MiB", "-1", "1.5GiB", "12 parsecs", "99999999999GiB"] {
            assert!(parse_bytes(word).is_err(), "{word:?}");
        }
    }
}
