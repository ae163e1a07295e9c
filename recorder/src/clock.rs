//! The kernel's clock and the wall's, and durations as people write them.

use jiff::SignedDuration;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// `CLOCK_MONOTONIC` in nanoseconds: the clock every event carries.
pub fn monotonic_ns() -> u64 {
    nanoseconds(ClockId::Monotonic).unsigned_abs()
}

/// How long the host has been suspended since its boot: what `CLOCK_BOOTTIME` is
/// ahead of `CLOCK_MONOTONIC`.
pub fn suspended_ns() -> u64 {
    let boot = nanoseconds(ClockId::Boottime);
    u64::try_from(boot - nanoseconds(ClockId::Monotonic)).unwrap_or_default()
}

/// CPU time of this process since its start, nanoseconds.
pub fn own_cpu_ns() -> u64 {
    nanoseconds(ClockId::ProcessCPUTime).unsigned_abs()
}

fn nanoseconds(clock: ClockId) -> i64 {
    let time = clock_gettime(clock);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// One reading of both clocks: it serves a whole file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockAnchor {
    /// `CLOCK_MONOTONIC`, nanoseconds.
    pub monotonic_ns: u64,
    /// `CLOCK_REALTIME`, nanoseconds since 1970.
    pub wall_ns: i64,
}

impl ClockAnchor {
    /// Reads both clocks, the wall clock between two readings of the other.
    pub fn now() -> ClockAnchor {
        let before = monotonic_ns();
        let wall_ns = nanoseconds(ClockId::Realtime);
        let after = monotonic_ns();
        ClockAnchor { monotonic_ns: before + (after - before) / 2, wall_ns }
    }

    /// The wall time of the reading, whole seconds since 1970.
    pub fn wall_s(&self) -> i64 {
        self.wall_ns.div_euclid(1_000_000_000)
    }

    /// The wall time of a moment of the kernel's clock, nanoseconds since 1970.
    pub fn wall_ns(&self, monotonic_ns: u64) -> i64 {
        let offset = i128::from(monotonic_ns) - i128::from(self.monotonic_ns);
        let wall = i128::from(self.wall_ns) + offset;
        i64::try_from(wall).unwrap_or(if wall < 0 { i64::MIN } else { i64::MAX })
    }

    /// The moment of the kernel's clock at a wall time.
    pub fn monotonic_ns(&self, wall_ns: i64) -> u64 {
        let offset = i128::from(wall_ns) - i128::from(self.wall_ns);
        let moment = i128::from(self.monotonic_ns) + offset;
        u64::try_from(moment).unwrap_or(if moment < 0 { 0 } else { u64::MAX })
    }
}

/// `30s`, `5m`, `1h30m`, `250ms`, `10us`. Nanoseconds.
pub fn parse_duration_ns(word: &str) -> Result<u64, String> {
    let expected = || format!("`{word}` is not a duration: write it like 30s, 5m, 1h30m or 250ms");
    let duration: SignedDuration = word.trim().parse().map_err(|_| expected())?;
    u64::try_from(duration.as_nanos()).map_err(|_| expected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_go_there_and_back_and_never_overflow() {
        let anchor = ClockAnchor { monotonic_ns: 5_000, wall_ns: 1_700_000_000_000_000_000 };
        assert_eq!(anchor.wall_ns(4_000), 1_699_999_999_999_999_000);
        assert_eq!(anchor.monotonic_ns(anchor.wall_ns(4_000)), 4_000);
        assert_eq!(anchor.wall_ns(u64::MAX), i64::MAX);
        assert_eq!(anchor.monotonic_ns(i64::MIN), 0);
    }

    #[test]
    fn durations_as_people_write_them() {
        for word in ["", "5", "-5s", "5 parsecs", "s"] {
            assert!(parse_duration_ns(word).is_err(), "{word:?}");
        }
        assert_eq!(parse_duration_ns("1h30m"), Ok(5_400_000_000_000));
        assert_eq!(parse_duration_ns("250ms"), Ok(250_000_000));
    }
}
