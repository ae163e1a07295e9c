//! `recorder trigger`: a door for whatever runs programs: event handlers of Nagios and
//! Icinga, `OnFailure=` of systemd, scripts.

use std::{io::Write as _, path::PathBuf};

use serde_json::{Map, Value, json};

use super::{
    Failure,
    dump::{client_failure, with_client},
    output::{printable, to_stdout},
};
use crate::config::SOCKET;

/// Prints the path the snapshot has or will have. What takes no snapshot is said on
/// standard error and is no failure.
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Arguments {
    /// The control socket
    #[arg(long, env = "RECORDER_SOCKET", hide_env = true, default_value = SOCKET, global = true)]
    socket: PathBuf,
    /// Who asks, a word of lower-case letters: a part of the file's name
    #[arg(long, default_value = "generic")]
    source: String,
    /// The name of the alert
    #[arg(long, default_value = "")]
    name: String,
    /// Why: kept in the file
    #[arg(long, default_value = "", required = true)]
    reason: String,
    /// Labels of the alert
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    label: Vec<(String, String)>,
    /// More words about it
    #[arg(long, value_name = "NAME=VALUE", value_parser = pair)]
    annotation: Vec<(String, String)>,
    /// The same alert again has the same key and takes no second snapshot
    #[arg(long)]
    key: Option<String>,
    #[command(subcommand)]
    handler: Option<Handler>,
}

#[derive(Debug, clap::Subcommand)]
enum Handler {
    /// The event handler of Nagios and Icinga: acts on hard problems
    Nagios(Nagios),
}

#[derive(Debug, clap::Args)]
struct Nagios {
    /// $SERVICESTATE$ or $HOSTSTATE$
    state: String,
    /// $SERVICESTATETYPE$ or $HOSTSTATETYPE$
    state_type: String,
    /// $SERVICEATTEMPT$ or $HOSTATTEMPT$
    attempt: u32,
    /// $HOSTNAME$
    host: String,
    /// $SERVICEDESC$
    service: Option<String>,
    /// What the check printed: $SERVICEOUTPUT$
    #[arg(long)]
    output: Option<String>,
    /// $SERVICEPROBLEMID$: the same problem takes no second snapshot
    #[arg(long)]
    problem: Option<String>,
    /// Already act at this attempt of a soft problem: closer to the fault
    #[arg(long, value_name = "N")]
    soft_attempt: Option<u32>,
    /// The states that are problems
    #[arg(long, value_name = "STATE", value_delimiter = ',', default_value = "CRITICAL,DOWN")]
    on: Vec<String>,
    /// Who asks
    #[arg(long, default_value = "nagios", hide_default_value = true)]
    source: String,
}

fn pair(word: &str) -> Result<(String, String), String> {
    let (name, value) = word.split_once('=').ok_or("write it as NAME=VALUE")?;
    Ok((name.to_string(), value.to_string()))
}

fn object(pairs: &[(String, String)]) -> Value {
    let pairs = pairs.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str())));
    Value::Object(pairs.collect::<Map<String, Value>>())
}

impl Arguments {
    fn body(&self) -> Value {
        let mut body = json!({
            "source": self.source,
            "name": self.name,
            "reason": self.reason,
            "labels": object(&self.label),
            "annotations": object(&self.annotation),
        });
        if let (Some(key), Some(fields)) = (&self.key, body.as_object_mut()) {
            fields.insert("key".to_string(), key.as_str().into());
        }
        body
    }
}

impl Nagios {
    /// Why it does not act.
    fn rests(&self) -> Option<String> {
        let is_problem = self.on.iter().any(|state| state.eq_ignore_ascii_case(&self.state));
        let is_hard = self.state_type.eq_ignore_ascii_case("HARD");
        let is_soft_enough = self.soft_attempt.is_some_and(|attempt| self.attempt >= attempt);
        if is_problem && (is_hard || is_soft_enough) {
            return None;
        }
        Some(format!("{} {} {}", self.state, self.state_type, self.attempt))
    }

    fn body(&self) -> Value {
        let service = self.service.as_deref().unwrap_or("host");
        let output = self.output.as_deref().unwrap_or_default();
        let mut body = json!({
            "source": self.source,
            "name": service,
            "reason": format!("{service} on {} is {}: {output}", self.host, self.state)
                .trim_end_matches(": "),
            "labels": {
                "host": self.host,
                "service": service,
                "state": self.state,
                "state_type": self.state_type,
                "attempt": self.attempt,
            },
        });
        // 0 is no problem: the macro of an object without one.
        let problem = self.problem.as_deref().filter(|problem| !matches!(*problem, "" | "0"));
        if let (Some(problem), Some(fields)) = (problem, body.as_object_mut()) {
            fields.insert("key".into(), format!("{}/{service}/{problem}", self.host).into());
        }
        body
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let body = match &arguments.handler {
        Some(Handler::Nagios(nagios)) => {
            if let Some(state) = nagios.rests() {
                eprintln!("recorder: no snapshot: {}", printable(&state));
                return Ok(());
            }
            nagios.body()
        }
        None => arguments.body(),
    };
    let answer = with_client(&arguments.socket, async |client| client.trigger(&body).await)?
        .map_err(client_failure)?;
    if let Some(why) = answer.ignored {
        eprintln!("recorder: no snapshot: {}", printable(&why));
    }
    match answer.path {
        Some(path) => to_stdout(|out| writeln!(out, "{path}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn nagios(words: &[&str]) -> Nagios {
        let words = ["trigger", "nagios"].iter().chain(words);
        match Line::try_parse_from(words).unwrap().arguments.handler {
            Some(Handler::Nagios(nagios)) => nagios,
            None => panic!("no handler"),
        }
    }

    #[test]
    fn a_handler_acts_on_hard_problems_or_soft_ones_when_told() {
        let acts = |words: &[&str]| nagios(words).rests().is_none();
        assert!(acts(&["CRITICAL", "HARD", "3", "db-1", "disk"]));
        assert!(acts(&["DOWN", "HARD", "1", "db-1"]));
        assert!(!acts(&["CRITICAL", "SOFT", "2", "db-1", "disk"]));
        assert!(acts(&["CRITICAL", "SOFT", "2", "db-1", "disk", "--soft-attempt", "2"]));
        assert!(!acts(&["CRITICAL", "SOFT", "1", "db-1", "disk", "--soft-attempt", "2"]));
        for state in ["OK", "UP", "WARNING", "UNKNOWN", ""] {
            assert!(!acts(&[state, "HARD", "3", "db-1", "disk"]), "{state}");
        }
        assert!(acts(&["WARNING", "HARD", "3", "db-1", "disk", "--on", "WARNING,CRITICAL"]));
    }

    #[test]
    fn what_a_handler_says() {
        let handler = nagios(&[
            "CRITICAL",
            "HARD",
            "3",
            "db-1",
            "disk",
            "--output",
            "full: 99 %",
            "--problem",
            "17",
        ]);
        let body = handler.body();
        assert_eq!(body["reason"], "disk on db-1 is CRITICAL: full: 99 %");
        assert_eq!(body["labels"]["host"], "db-1");
        assert_eq!(body["key"], "db-1/disk/17");
        let host = nagios(&["DOWN", "HARD", "1", "db-1", "--problem", "0"]).body();
        assert_eq!(host["reason"], "host on db-1 is DOWN");
        assert!(host.get("key").is_none());
    }

    #[test]
    fn words_on_the_command_line() {
        let words = ["trigger", "--reason", "r", "--label", "a=b=c", "--key", "k"];
        let body = Line::try_parse_from(words).unwrap().arguments.body();
        assert_eq!((&body["labels"]["a"], &body["key"]), (&json!("b=c"), &json!("k")));
        assert!(Line::try_parse_from(["trigger", "--reason", "r", "--label", "a"]).is_err());
        assert!(Line::try_parse_from(["trigger"]).is_err(), "a trigger has a reason");
    }
}
