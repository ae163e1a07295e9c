//! Processes, as ps prints them.

use std::{
    collections::HashMap,
    io::{self, Write},
};

use serde::ser::SerializeMap as _;

use super::{HostState, Object, printable, write_object, write_table};
use crate::{
    clock::ClockAnchor,
    context::{OpenFile, ThreadFacts},
    export::{put_attribution, put_bytes, put_list, rfc3339},
};

const DAY_NS: i64 = 86_400_000_000_000;

impl HostState {
    pub(super) fn write_processes(
        &self,
        clock: ClockAnchor,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let threads = self.thread_counts();
        // On a host without containers it would be an empty column.
        let has_containers = self.leaders().any(|(pid, _)| self.container(pid).is_some());
        // The same: of those that go on nobody knows whether they run or sleep.
        let has_ended = self.leaders().any(|(_, facts)| facts.has_ended);
        let rows: Vec<Vec<String>> = self
            .leaders()
            .map(|(pid, facts)| {
                let mark = if self.processes.is_uncertain(facts) { "?" } else { "" };
                let uid = facts.credentials.map(|who| who.euid.to_string());
                let mut row = vec![
                    uid.unwrap_or_else(|| "-".to_string()),
                    format!("{pid}{mark}"),
                    facts.ppid.to_string(),
                    facts.session.to_string(),
                    threads.get(&pid).copied().unwrap_or(1).to_string(),
                    self.started(facts, clock),
                ];
                if has_ended {
                    row.push(state(facts, self.processes.is_zombie(pid)).to_string());
                }
                if has_containers {
                    row.push(self.container(pid).unwrap_or_else(|| "-".to_string()));
                }
                row.push(command_line(facts));
                row
            })
            .collect();
        let mut head = vec!["UID", "PID", "PPID", "SID", "THREADS", "STARTED"];
        head.extend(has_ended.then_some("STAT"));
        head.extend(has_containers.then_some("CONTAINER"));
        head.push("COMMAND");
        write_table(&head, &rows, out)
    }

    /// The container of a process as people write it.
    fn container(&self, pid: u32) -> Option<String> {
        let container = self.processes.attribution_of(pid)?.container.as_ref()?;
        let mark = if self.processes.is_attribution_uncertain(pid) { "?" } else { "" };
        Some(format!("{}{mark}", printable(container.short_id())))
    }

    pub(super) fn write_processes_json(
        &self,
        clock: ClockAnchor,
        out: &mut dyn Write,
    ) -> io::Result<()> {
        let threads = self.thread_counts();
        for (pid, facts) in self.leaders() {
            let count = threads.get(&pid).copied().unwrap_or(1);
            write_object(out, |object| self.process(pid, facts, count, clock, object))?;
        }
        Ok(())
    }

    fn process(
        &self,
        pid: u32,
        facts: &ThreadFacts,
        threads: u32,
        clock: ClockAnchor,
        object: &mut Object<'_, '_>,
    ) -> Result<(), serde_json::Error> {
        object.serialize_entry("pid", &pid)?;
        object.serialize_entry("ppid", &facts.ppid)?;
        object.serialize_entry("session", &facts.session)?;
        object.serialize_entry("threads", &threads)?;
        put_bytes(object, "comm", &facts.comm, false)?;
        if facts.has_ended {
            // With more than one thread it is its leader that has ended.
            object.serialize_entry("state", "zombie")?;
        }
        if facts.start_ns != 0 {
            object.serialize_entry("start", &rfc3339(clock.wall_ns(facts.start_ns)))?;
            object.serialize_entry("start_ns", &facts.start_ns.to_string())?;
        }
        if let Some(who) = facts.credentials {
            for (name, id) in
                [("uid", who.uid), ("gid", who.gid), ("euid", who.euid), ("egid", who.egid)]
            {
                object.serialize_entry(name, &id)?;
            }
        }
        if !facts.program.is_empty() {
            put_bytes(object, "program", &facts.program, false)?;
        }
        if !facts.args.is_empty() {
            put_list(object, "args", &facts.words(), false)?;
        }
        if let Some(directory) = self.processes.directory(pid).and_then(OpenFile::file) {
            put_bytes(object, "directory", &directory.name(), false)?;
        }
        if let Some(said) = self.processes.attribution_of(pid) {
            put_attribution(object, said)?;
            if self.processes.is_attribution_uncertain(pid) {
                object.serialize_entry("container_uncertain", &true)?;
            }
        }
        if self.processes.is_uncertain(facts) {
            object.serialize_entry("uncertain", &true)?;
        }
        Ok(())
    }

    fn thread_counts(&self) -> HashMap<u32, u32> {
        let mut counts = HashMap::new();
        // A leader that ended before its threads is counted as ps counts it.
        for (_, facts) in self.processes.iter() {
            *counts.entry(facts.pid).or_default() += 1;
        }
        counts
    }

    /// The time of day when it is not long ago, else the day.
    fn started(&self, facts: &ThreadFacts, clock: ClockAnchor) -> String {
        if facts.start_ns == 0 {
            return "-".to_string();
        }
        let text = rfc3339(clock.wall_ns(facts.start_ns));
        let age_ns = clock.wall_ns(self.at_ns) - clock.wall_ns(facts.start_ns);
        let part = if age_ns < DAY_NS { text.get(11..19) } else { text.get(..10) };
        part.unwrap_or("-").to_string()
    }
}

/// What `ps` says of a process whose leader has ended, with others of its threads or not.
fn state(facts: &ThreadFacts, is_zombie: bool) -> &'static str {
    match (facts.has_ended, is_zombie) {
        (true, true) => "Z",
        (true, false) => "Zl",
        _ => "-",
    }
}

/// The arguments, or the name in brackets where there are none, as ps does: what has ended
/// has no memory, and so no arguments.
fn command_line(facts: &ThreadFacts) -> String {
    if facts.has_ended {
        return format!("[{}] <defunct>", printable(&facts.comm));
    }
    if facts.args.is_empty() {
        return format!("[{}]", printable(&facts.comm));
    }
    let words: Vec<String> = facts.words().into_iter().map(printable).collect();
    words.join(" ")
}
