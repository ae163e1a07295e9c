//! Moments as people write them.

use jiff::{Timestamp, civil, tz::TimeZone};

use crate::{clock::parse_duration_ns, snapshot::Header};

/// A moment of the kernel's clock, from one of:
/// `t-30s`, `t+1s` (from the trigger), `now`, `-5m`, `5m ago` (from the end), `+2s` (from
/// the start), `20%` (of the window), `@1700000000.5`, `14:03`, `14:03:07.250` (UTC, on the
/// day the file ends), RFC 3339.
pub fn parse_moment(word: &str, header: &Header) -> Result<u64, String> {
    let word = word.trim();
    let window = &header.window;
    let from = |start_ns: u64, rest: &str| {
        let (sign, amount) = rest.split_at_checked(1).ok_or_else(|| expected(word))?;
        let amount = parse_duration_ns(amount).map_err(|_| expected(word))?;
        match sign {
            "-" => Ok(start_ns.saturating_sub(amount)),
            "+" => Ok(start_ns.saturating_add(amount)),
            _ => Err(expected(word)),
        }
    };
    if word == "t" {
        return Ok(header.trigger.at_ns);
    }
    if word == "now" {
        return Ok(window.end_ns);
    }
    if let Some(amount) = word.strip_suffix("ago") {
        let amount = parse_duration_ns(amount.trim_end()).map_err(|_| expected(word))?;
        return Ok(window.end_ns.saturating_sub(amount));
    }
    if let Some(part) = word.strip_suffix('%') {
        return part_of_window(part, header).ok_or_else(|| expected(word));
    }
    if word.starts_with("t-") || word.starts_with("t+") {
        return from(header.trigger.at_ns, word.get(1..).unwrap_or_default());
    }
    if word.starts_with('-') {
        return from(window.end_ns, word);
    }
    if word.starts_with('+') {
        return from(window.start_ns, word);
    }
    wall_ns(word, header).map(|wall| header.clock.monotonic_ns(wall)).ok_or_else(|| expected(word))
}

/// `part` percent of the way from the start of the window to its end.
fn part_of_window(part: &str, header: &Header) -> Option<u64> {
    let percent: f64 = part.trim_end().parse().ok()?;
    if !(0.0..=100.0).contains(&percent) {
        return None;
    }
    let span_ns = header.window.end_ns.saturating_sub(header.window.start_ns);
    Some(header.window.start_ns.saturating_add((span_ns as f64 * percent / 100.0) as u64))
}

fn expected(word: &str) -> String {
    format!(
        "`{word}` is not a moment: write it like t-30s (before the trigger), -1m (before the \
         end), 20%, 14:03:07, @1700000000 or 2026-11-23T02:26:24Z"
    )
}

fn wall_ns(word: &str, header: &Header) -> Option<i64> {
    let nanoseconds = |stamp: Timestamp| i64::try_from(stamp.as_nanosecond()).ok();
    if let Some(epoch) = word.strip_prefix('@') {
        let (seconds, fraction) = epoch.split_once('.').unwrap_or((epoch, ""));
        let seconds: i64 = seconds.parse().ok()?;
        if fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let fraction: i64 = format!("{fraction:0<9}").parse().ok()?;
        return seconds.checked_mul(1_000_000_000)?.checked_add(fraction);
    }
    if let Ok(stamp) = word.parse::<Timestamp>() {
        return nanoseconds(stamp);
    }
    if let Ok(moment) = word.parse::<civil::DateTime>() {
        return nanoseconds(moment.to_zoned(TimeZone::UTC).ok()?.timestamp());
    }
    let time: civil::Time = word.parse().ok()?;
    let end = Timestamp::from_nanosecond(i128::from(header.clock.wall_ns(header.window.end_ns)));
    let day = end.ok()?.to_zoned(TimeZone::UTC).date();
    nanoseconds(day.to_datetime(time).to_zoned(TimeZone::UTC).ok()?.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::ClockAnchor;

    fn header() -> Header {
        let wall_ns = 1_795_400_784_000_000_000;
        // 2026-11-23T02:26:24Z at 1,000 s of the kernel's clock.
        let clock = ClockAnchor { monotonic_ns: 1_000_000_000_000, wall_ns };
        let mut header = Header { clock, ..Header::default() };
        header.window.start_ns = 700_000_000_000;
        header.window.end_ns = 1_000_000_000_000;
        header.trigger.at_ns = 990_000_000_000;
        header
    }

    #[test]
    fn moments_are_understood() {
        let seconds = |word: &str| parse_moment(word, &header()).map(|ns| ns / 1_000_000_000);
        assert_eq!(seconds("t-30s"), Ok(960));
        assert_eq!(seconds("t"), Ok(990));
        assert_eq!(seconds("-1m"), Ok(940));
        assert_eq!(seconds("+2s"), Ok(702));
        assert_eq!(seconds("02:26:14"), Ok(990));
        assert_eq!(seconds("2026-11-23T02:26:14Z"), Ok(990));
        assert_eq!(seconds("2026-11-23 02:26:14"), Ok(990));
        assert_eq!(seconds("@1795400774"), Ok(990));
        assert_eq!(seconds("@1795400774.5"), Ok(990));
        assert_eq!(seconds("-1000h"), Ok(0));
        assert_eq!(seconds("now"), Ok(1_000));
        assert_eq!(seconds("5m ago"), Ok(700));
        assert_eq!(seconds("20%"), Ok(760));
        assert_eq!(seconds("0.5 %"), Ok(701));
        // 24 seconds before the end.
        assert_eq!(seconds("02:26"), Ok(976));
    }

    #[test]
    fn what_is_not_a_moment_is_refused() {
        for word in [
            "ago",
            "5 ago",
            "%",
            "101%",
            "-1%",
            "NaN%",
            "",
            "t-",
            "t*3s",
            "-",
            "+",
            "yesterday",
            "@",
            "@x",
            "25:00:00",
            "t-5",
        ] {
            assert!(parse_moment(word, &header()).is_err(), "{word:?}");
        }
    }
}
