//! How long calls took: counts by powers of two.

/// Buckets: the last is for two seconds and more.
const BUCKETS: usize = 32;

/// A histogram. Bucket `b` counts durations from `2^b` to below `2^(b+1)` nanoseconds, the
/// first those of 0 too, the last all that are longer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies([u32; BUCKETS]);

impl Latencies {
    /// The most bytes it takes: a number and a count of 32 bits for each bucket.
    pub const BYTES_MAX: usize = BUCKETS * 6;

    /// Counts a duration.
    pub fn add(&mut self, dur_ns: u64) {
        let bucket = (dur_ns | 1).ilog2() as usize;
        if let Some(count) = self.0.get_mut(bucket.min(BUCKETS - 1)) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds all of another one.
    pub fn merge(&mut self, other: &Latencies) {
        for (count, more) in self.0.iter_mut().zip(other.0) {
            *count = count.saturating_add(more);
        }
    }

    /// Buckets that are not empty, one after the other: a byte with its number, then its
    /// count in bytes of seven bits, the lowest first, the eighth set on all but the last.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (bucket, count) in (0u8..).zip(self.0).filter(|(_, count)| *count > 0) {
            bytes.push(bucket);
            let mut rest = count;
            while rest >= 0x80 {
                bytes.push(rest as u8 | 0x80);
                rest >>= 7;
            }
            bytes.push(rest as u8);
        }
        bytes
    }

    /// The same back; what makes no sense is left out.
    pub fn from_bytes(bytes: &[u8]) -> Latencies {
        let mut latencies = Latencies::default();
        let mut rest = bytes.iter();
        while let Some(bucket) = rest.next() {
            let (mut count, mut shift) = (0u32, 0u32);
            for byte in rest.by_ref() {
                count |= u32::from(byte & 0x7f).checked_shl(shift).unwrap_or_default();
                shift += 7;
                if byte & 0x80 == 0 || shift >= 35 {
                    break;
                }
            }
            if let Some(slot) = latencies.0.get_mut(usize::from(*bucket)) {
                *slot = slot.saturating_add(count);
            }
        }
        latencies
    }

    /// The duration, nanoseconds, that so many of a thousand did not reach, rounded up to a
    /// power of two; `None` of nothing.
    pub fn below_ns(&self, per_mille: u64) -> Option<u64> {
        let total: u64 = self.0.iter().map(|count| u64::from(*count)).sum();
        let wanted = (total * per_mille).div_ceil(1000).max(1);
        let mut seen = 0;
        for (bucket, count) in self.0.iter().enumerate() {
            seen += u64::from(*count);
            if total > 0 && seen >= wanted {
                return Some(2 << bucket);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_counted_and_come_back() {
        let mut latencies = Latencies::default();
        assert_eq!(latencies.below_ns(500), None);
        for dur_ns in [0, 1, 2, 3, 1_000, 1_000_000, u64::MAX] {
            (0..200).for_each(|_| latencies.add(dur_ns));
        }
        let bytes = latencies.to_bytes();
        assert_eq!(bytes.len(), 5 * 3);
        assert_eq!(Latencies::from_bytes(&bytes), latencies);
        assert_eq!(latencies.below_ns(1), Some(2));
        assert_eq!(latencies.below_ns(500), Some(4));
        assert_eq!(latencies.below_ns(1000), Some(2 << 31));
        let mut twice = latencies.clone();
        twice.merge(&latencies);
        assert_eq!(twice.below_ns(500), Some(4));
    }

    #[test]
    fn any_bytes_are_survived() {
        for length in 0..40 {
            for byte in [0, 1, 31, 32, 0x7f, 0x80, 0xff] {
                let _ = Latencies::from_bytes(&vec![byte; length]);
            }
        }
    }
}
