//! `recorder check`: the plugin of Nagios and Icinga, by the Monitoring Plugins'
//! guidelines: one line, exit code 0 to 3.

use std::{fmt, io::Write as _, path::PathBuf, process::ExitCode, str::FromStr, time::Duration};

use super::dump::with_client;
use crate::{
    clock::parse_duration_ns,
    config::SOCKET,
    control::{CANARY_AGE_MAX, ClientError, Status},
};

#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The control socket
    #[arg(long, env = "RECORDER_SOCKET", hide_env = true, default_value = SOCKET)]
    socket: PathBuf,
    /// Warn when the seconds of the window are outside of RANGE
    ///
    /// A window is as long as the recorder has run: it is compared as soon as it could
    /// have been filled. Ranges are those of Nagios: 10 is 0 to 10, 10: at least 10,
    /// ~:10 at most 10, 10:20 between, @10:20 not between.
    #[arg(short, long, value_name = "RANGE", default_value = "240:")]
    warning: Range,
    /// Critical when they are outside of RANGE
    #[arg(short, long, value_name = "RANGE", default_value = "120:")]
    critical: Range,
    /// Warn when the events lost in the window are outside of RANGE
    #[arg(long, value_name = "RANGE", default_value = "0")]
    lost_warning: Range,
    /// Critical when they are outside of RANGE
    #[arg(long, value_name = "RANGE", default_value = "~:")]
    lost_critical: Range,
    /// Unknown when there is no answer for so long
    #[arg(short, long, value_name = "TIME", default_value = "10s", value_parser = seconds)]
    timeout: Duration,
    /// Also print class by class
    #[arg(short, long)]
    verbose: bool,
}

fn seconds(word: &str) -> Result<Duration, String> {
    // Nagios says 10 and means seconds.
    let plain = word.parse::<u64>().map(Duration::from_secs).ok();
    plain.map_or_else(|| parse_duration_ns(word).map(Duration::from_nanos), Ok)
}

/// What a check ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
enum State {
    Ok = 0,
    Warning = 1,
    Critical = 2,
    Unknown = 3,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Ok => "OK",
            State::Warning => "WARNING",
            State::Critical => "CRITICAL",
            State::Unknown => "UNKNOWN",
        })
    }
}

/// A range of Nagios: an alert is raised outside of it, or inside with `@`.
#[derive(Clone, Debug, PartialEq)]
struct Range {
    word: String,
    from: f64,
    to: f64,
    inside: bool,
}

impl FromStr for Range {
    type Err = String;

    fn from_str(word: &str) -> Result<Range, String> {
        let wrong =
            || format!("`{word}` is no range: write it like 10, 10:, ~:10, 10:20 or @10:20");
        let rest = word.strip_prefix('@').unwrap_or(word);
        let number = |digits: &str| digits.parse::<f64>().ok().filter(|number| number.is_finite());
        let (from, to) = match rest.split_once(':') {
            None => (0.0, number(rest).ok_or_else(wrong)?),
            Some((from, to)) => {
                let from = match from {
                    "~" => f64::NEG_INFINITY,
                    "" => 0.0,
                    digits => number(digits).ok_or_else(wrong)?,
                };
                let to = match to {
                    "" => f64::INFINITY,
                    digits => number(digits).ok_or_else(wrong)?,
                };
                (from, to)
            }
        };
        if from > to {
            return Err(wrong());
        }
        Ok(Range { word: word.to_string(), from, to, inside: word.starts_with('@') })
    }
}

impl Range {
    fn alerts(&self, value: f64) -> bool {
        (self.from..=self.to).contains(&value) == self.inside
    }
}

/// Prints the line; whatever goes wrong is a state of the check and no failure.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let asked = with_client(&arguments.socket, async |client| {
        tokio::time::timeout(arguments.timeout, client.status()).await
    });
    let (state, line) = match asked {
        Ok(Ok(Ok(status))) => judge(arguments, &status),
        Ok(Ok(Err(ClientError::Refused(problem)))) if problem.status == 503 => {
            (State::Critical, problem.detail)
        }
        Ok(Ok(Err(error))) => (State::Unknown, error.to_string()),
        Ok(Err(_)) => {
            (State::Unknown, format!("no answer within {} s", arguments.timeout.as_secs_f64()))
        }
        // A recorder that does not run is what the check is for.
        Err(failure) if failure.is_no_daemon() => (State::Critical, failure.to_string()),
        Err(failure) => (State::Unknown, failure.to_string()),
    };
    let mut out = std::io::stdout().lock();
    // Whoever closed standard output reads the exit code.
    let _ = writeln!(out, "RECORDER {state} - {line}");
    ExitCode::from(state as u8)
}

fn judge(arguments: &Arguments, status: &Status) -> (State, String) {
    let health = &status.health;
    let span_s = health.window.span_s;
    let lost = health.lost_in_window as f64;
    // One that started a minute ago cannot have more.
    let could_be_full = status.uptime_s >= health.window.asked_s;
    let mut state = State::Ok;
    let mut raise = |to: State, when: bool| {
        if when {
            state = state.max(to);
        }
    };
    raise(State::Warning, could_be_full && arguments.warning.alerts(span_s));
    raise(State::Critical, could_be_full && arguments.critical.alerts(span_s));
    raise(State::Warning, arguments.lost_warning.alerts(lost));
    raise(State::Critical, arguments.lost_critical.alerts(lost));
    raise(State::Critical, !health.recording || !health.ledger.closes);
    let canary_s = health.canary_age_ms.map_or(f64::INFINITY, |age_ms| age_ms as f64 / 1e3);
    raise(State::Critical, canary_s > CANARY_AGE_MAX.as_secs_f64());
    let mut said = vec![format!("window {span_s:.0}s of {:.0}s", health.window.asked_s)];
    said.push(format!("{} lost", health.lost_in_window));
    if !health.recording {
        said.push("not recording yet".to_string());
    } else if canary_s > CANARY_AGE_MAX.as_secs_f64() {
        said.push(format!("nothing of our own came through for {canary_s:.0}s"));
    }
    if !health.ledger.closes {
        said.push("the books do not close".to_string());
    }
    let mib = |bytes: u64| bytes >> 20;
    let perf = format!(
        "window={span_s:.0}s;{};{} lost={};{};{} rss={}MB;;{} age={:.0}s",
        arguments.warning.word,
        arguments.critical.word,
        health.lost_in_window,
        arguments.lost_warning.word,
        arguments.lost_critical.word,
        mib(status.resident_bytes),
        mib(health.memory.limit) + 64,
        status.uptime_s,
    );
    let mut line = format!("{} | {perf}", said.join(", "));
    if arguments.verbose {
        for class in &health.window.classes {
            line += &format!("\n{}: {:.0} s, {} events", class.class, class.span_s, class.events);
        }
    }
    (state, line)
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::{
        loss::Ledger,
        recorder::{Health, WindowHealth},
    };

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(words: &[&str]) -> Arguments {
        Line::try_parse_from(["check"].iter().chain(words)).unwrap().arguments
    }

    #[test]
    fn ranges_are_those_of_nagios() {
        let alerts = |range: &str, value: f64| range.parse::<Range>().unwrap().alerts(value);
        assert!(!alerts("10", 10.0) && alerts("10", 10.5) && alerts("10", -1.0));
        assert!(!alerts("10:", 10.0) && alerts("10:", 9.0));
        assert!(!alerts("~:10", -5.0) && alerts("~:10", 11.0));
        assert!(!alerts("10:20", 15.0) && alerts("10:20", 21.0));
        assert!(alerts("@10:20", 15.0) && !alerts("@10:20", 21.0));
        assert!(!alerts("~:", 1e300));
        for wrong in ["", ":x", "x", "20:10", "1:2:3", "nan", "@", "inf"] {
            assert!(wrong.parse::<Range>().is_err(), "{wrong}");
        }
    }

    fn status(span_s: f64, lost: u64) -> Status {
        let ledger = Ledger { closes: true, ..Ledger::default() };
        let window = WindowHealth { span_s, asked_s: 300.0, ..WindowHealth::default() };
        let health = Health {
            recording: true,
            canary_age_ms: Some(900),
            lost_in_window: lost,
            window,
            ledger,
            ..Health::default()
        };
        Status { health, uptime_s: 1000.0, ..Status::default() }
    }

    #[test]
    fn what_is_wrong_is_told_by_state_and_line() {
        let state = |words: &[&str], status: &Status| judge(&arguments(words), status).0;
        let (ok, line) = judge(&arguments(&[]), &status(300.0, 0));
        assert_eq!(ok, State::Ok);
        assert!(line.starts_with("window 300s of 300s, 0 lost | window=300s;240:;120: lost=0;"));
        assert_eq!(state(&[], &status(200.0, 0)), State::Warning);
        assert_eq!(state(&[], &status(100.0, 0)), State::Critical);
        assert_eq!(state(&[], &status(300.0, 1)), State::Warning);
        assert_eq!(state(&["--lost-critical", "0"], &status(300.0, 1)), State::Critical);
        let young = Status { uptime_s: 20.0, ..status(20.0, 0) };
        assert_eq!(state(&[], &young), State::Ok, "it cannot have more");
        let changes: [fn(&mut Status); 4] = [
            |status| status.health.recording = false,
            |status| status.health.ledger.closes = false,
            |status| status.health.canary_age_ms = Some(60_000),
            |status| status.health.canary_age_ms = None,
        ];
        for change in changes {
            let mut broken = status(300.0, 0);
            change(&mut broken);
            assert_eq!(state(&[], &broken), State::Critical);
        }
    }
}
