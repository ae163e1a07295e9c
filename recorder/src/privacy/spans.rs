//! What was found in a string, and the string without it.

use std::ops::Range;

use super::Secret;

/// What stands in the place of a secret. Always the same, so that it does not even say
/// how long the secret was.
pub const MARKER: &[u8] = b"***";

/// A part of a string that is looked at: an argument of a list, a word of a line.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'b> {
    pub(super) bytes: &'b [u8],
    /// Where it begins in the whole.
    pub(super) base: usize,
    /// The whole was cut where this piece ends: a secret may have lost its end.
    pub(super) is_cut: bool,
    /// It is a command line within an argument: `sh -c "..."`.
    pub(super) is_line: bool,
    /// It is a path: what lies between two `/` stands alone.
    pub(super) is_path: bool,
}

impl<'b> Piece<'b> {
    /// A whole string.
    pub(super) fn whole(bytes: &'b [u8], is_cut: bool) -> Piece<'b> {
        let is_path = bytes.first() == Some(&b'/');
        Piece { bytes, base: 0, is_cut, is_line: false, is_path }
    }

    /// A part of it.
    pub(super) fn part(&self, range: Range<usize>) -> Piece<'b> {
        let is_cut = self.is_cut && range.end == self.bytes.len();
        let base = self.base + range.start;
        let bytes = self.bytes.get(range).unwrap_or_default();
        Piece { bytes, base, is_cut, ..*self }
    }
}

/// What was found, in the order in which it was.
#[derive(Debug, Default)]
pub(super) struct Spans {
    found: Vec<(Range<usize>, Secret)>,
}

impl Spans {
    pub(super) fn clear(&mut self) {
        self.found.clear();
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// A secret in a piece. What is masked already is none.
    pub(super) fn add(&mut self, piece: &Piece<'_>, range: Range<usize>, secret: Secret) {
        let found = piece.bytes.get(range.clone()).unwrap_or_default();
        if !found.is_empty() && !is_masked(found) {
            self.found.push((piece.base + range.start..piece.base + range.end, secret));
        }
    }

    /// Secrets that overlap become one, of the kind that begins first, and of those the
    /// longest. Calls `count` for each that is left.
    pub(super) fn settle(&mut self, mut count: impl FnMut(Secret)) {
        self.found.sort_by_key(|(range, _)| (range.start, std::cmp::Reverse(range.end)));
        self.found.dedup_by(|(later, _), (earlier, _)| {
            let overlaps = later.start < earlier.end;
            if overlaps {
                earlier.end = earlier.end.max(later.end);
            }
            overlaps
        });
        self.found.iter().for_each(|(_, secret)| count(*secret));
    }

    /// Makes of each secret all of the string it is in, up to the next NUL.
    pub(super) fn widen(&mut self, bytes: &[u8]) {
        for (range, _) in &mut self.found {
            let before = bytes.get(..range.start).unwrap_or_default();
            let after = bytes.get(range.end..).unwrap_or_default();
            range.start = memchr::memrchr(0, before).map_or(0, |place| place + 1);
            range.end = memchr::memchr(0, after).map_or(bytes.len(), |place| range.end + place);
        }
        self.found.dedup_by(|(later, _), (earlier, _)| later.start < earlier.end);
    }

    /// The bytes with [`MARKER`] in the place of each secret, behind what is in `out`.
    pub(super) fn write(&self, bytes: &[u8], out: &mut Vec<u8>) {
        let mut from = 0;
        for (range, _) in &self.found {
            out.extend_from_slice(bytes.get(from..range.start).unwrap_or_default());
            out.extend_from_slice(MARKER);
            from = range.end;
        }
        out.extend_from_slice(bytes.get(from..).unwrap_or_default());
    }
}

/// Whether it is what is left of a secret.
pub(super) fn is_masked(value: &[u8]) -> bool {
    value.len() >= MARKER.len() && value.iter().all(|byte| *byte == b'*')
}
