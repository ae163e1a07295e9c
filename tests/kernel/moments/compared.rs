//! What the host showed and what a snapshot says, held against one another.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{Debug, Write as _},
};

use serde_json::Value;

use super::observed::{Descriptor, Moment, Owner, Process, Socket};

/// Differences of one sort that are printed.
const PRINTED_MAX: usize = 12;

/// What was compared, of one sort.
#[derive(Default)]
pub(super) struct Tally {
    compared: u64,
    agreed: u64,
    differences: Vec<String>,
}

impl Tally {
    fn take<K: Ord + Debug, V: PartialEq + Debug>(
        &mut self,
        at_ns: u64,
        shown: &BTreeMap<K, V>,
        said: &BTreeMap<K, V>,
    ) {
        let keys: BTreeSet<&K> = shown.keys().chain(said.keys()).collect();
        for key in keys {
            let (shown, said) = (shown.get(key), said.get(key));
            self.compared += 1;
            if shown == said {
                self.agreed += 1;
            } else {
                let word = |value: Option<&V>| {
                    value.map_or("nothing".to_string(), |value| format!("{value:?}"))
                };
                self.differences.push(format!(
                    "at {at_ns} {key:?}: the host shows {}, the snapshot says {}",
                    word(shown),
                    word(said)
                ));
            }
        }
    }

    pub(super) fn percent(&self) -> f64 {
        100.0 * self.agreed as f64 / self.compared.max(1) as f64
    }

    pub(super) fn compared(&self) -> u64 {
        self.compared
    }
}

/// Everything that was compared.
#[derive(Default)]
pub(super) struct Tallies {
    /// Of the processes, those that had ended.
    pub(super) zombies: u64,
    pub(super) processes: Tally,
    /// Number and name.
    pub(super) descriptors: Tally,
    pub(super) close_on_exec: Tally,
    pub(super) directories: Tally,
    /// Both ends of TCP and UDP sockets.
    pub(super) ends: Tally,
    /// Name and peer of Unix sockets.
    pub(super) unix: Tally,
    pub(super) states: Tally,
}

impl Tallies {
    /// `run` are all processes the run ever had: one that is said to live and does not is a
    /// difference.
    pub(super) fn take(&mut self, moment: &Moment, run: &BTreeSet<i32>, said: &Said) {
        let at_ns = moment.at_ns;
        let of_interest = |pid: i32| run.contains(&pid) || moment.processes.contains_key(&pid);
        let mut processes = kept(&said.processes, |pid| of_interest(*pid));
        processes.retain(|_, process| moment.holds(process));
        let zombies = moment.processes.values().filter(|process| process.is_zombie);
        self.zombies += zombies.count() as u64;
        self.processes.take(at_ns, &moment.processes, &processes);
        let has_tables: BTreeSet<i32> =
            moment.descriptors.keys().map(|((pid, _), _)| *pid).collect();
        let told = |pid: i32| run.contains(&pid) || has_tables.contains(&pid);
        let descriptors = kept(&said.descriptors, |((pid, _), _)| told(*pid));
        let names = |all| map(all, |it: &Descriptor| it.0.clone());
        self.descriptors.take(at_ns, &names(&moment.descriptors), &names(&descriptors));
        // Of those that both have; the others are counted already.
        let both = kept(&descriptors, |key| moment.descriptors.contains_key(key));
        let shown = kept(&moment.descriptors, |key| both.contains_key(key));
        self.close_on_exec.take(at_ns, &map(&shown, |it| it.1), &map(&both, |it| it.1));
        let directories = kept(&said.directories, |(pid, _)| told(*pid));
        self.directories.take(at_ns, &moment.directories, &directories);
        let sockets = kept(&said.sockets, |inode| moment.sockets.contains_key(inode));
        let ends = |all: &BTreeMap<u64, Socket>, unix: bool| {
            let all = all.iter().filter(|(_, it)| it.protocol.starts_with("UNIX") == unix);
            all.map(|(inode, it)| (*inode, [&it.protocol, &it.local, &it.remote].map(Clone::clone)))
                .collect::<BTreeMap<_, _>>()
        };
        self.ends.take(at_ns, &ends(&moment.sockets, false), &ends(&sockets, false));
        self.unix.take(at_ns, &ends(&moment.sockets, true), &ends(&sockets, true));
        self.states.take(
            at_ns,
            &map(&moment.sockets, |it| it.state.clone()),
            &map(&sockets, |it| it.state.clone()),
        );
    }

    pub(super) fn summary(&self, title: &str) -> String {
        let mut text = format!("{title}, {} times a zombie\n", self.zombies);
        let all = [
            ("processes", &self.processes),
            ("descriptors", &self.descriptors),
            ("close on exec", &self.close_on_exec),
            ("directories", &self.directories),
            ("ends of TCP and UDP", &self.ends),
            ("Unix sockets", &self.unix),
            ("states of sockets", &self.states),
        ];
        for (name, tally) in all {
            let _ = writeln!(
                text,
                "{name:20} {:>8} of {:>8} agree, {:.3} %",
                tally.agreed,
                tally.compared,
                tally.percent()
            );
            for difference in tally.differences.iter().take(PRINTED_MAX) {
                let _ = writeln!(text, "    {difference}");
            }
        }
        text
    }
}

fn kept<K: Ord + Clone, V: Clone>(
    of: &BTreeMap<K, V>,
    keeps: impl Fn(&K) -> bool,
) -> BTreeMap<K, V> {
    of.iter()
        .filter(|(key, _)| keeps(key))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect()
}

fn map<K: Ord + Clone, V, W>(of: &BTreeMap<K, V>, change: impl Fn(&V) -> W) -> BTreeMap<K, W> {
    of.iter().map(|(key, value)| (key.clone(), change(value))).collect()
}

/// What `recorder state` says of a moment.
#[derive(Default)]
pub(super) struct Said {
    processes: BTreeMap<i32, Process>,
    descriptors: BTreeMap<(Owner, i32), Descriptor>,
    directories: BTreeMap<Owner, String>,
    sockets: BTreeMap<u64, Socket>,
}

impl Said {
    /// From the rows of `ps`, `files` and `sockets`.
    pub(super) fn new(ps: &[Value], files: &[Value], sockets: &[Value]) -> Said {
        let mut said = Said::default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        for row in ps {
            let number = |name: &str| row[name].as_u64().unwrap_or(u64::MAX);
            let process = Process {
                ppid: number("ppid"),
                session: number("session"),
                threads: number("threads"),
                euid: number("euid"),
                is_zombie: row["state"] == "zombie",
                comm: text(&row["comm"]),
            };
            said.processes.insert(pid_of(row), process);
        }
        for row in files {
            let tid = row["tid"].as_i64().map_or(pid_of(row), |tid| tid as i32);
            let owner = (pid_of(row), tid);
            let name = text(&row["file"]);
            match row["fd"].as_i64() {
                Some(fd) => {
                    let close_on_exec = row["close_on_exec"].as_bool().expect("a mark");
                    let twice = said.descriptors.insert((owner, fd as i32), (name, close_on_exec));
                    assert_eq!(twice, None, "a descriptor has one row: {row}");
                }
                None => {
                    assert_eq!(said.directories.insert(owner, name), None, "one directory: {row}");
                }
            }
        }
        for row in sockets {
            let inode = row["inode"].as_u64().expect("an inode");
            let unix =
                row["protocol"].as_str().is_some_and(|protocol| protocol.starts_with("UNIX"));
            let peer = row["peer_inode"].as_u64().map(|inode| inode.to_string());
            let remote = if unix { peer.unwrap_or_default() } else { text(&row["remote"]) };
            let socket = Socket {
                protocol: text(&row["protocol"]).trim_end_matches("v6").to_string(),
                state: text(&row["state"]),
                local: text(&row["local"]),
                remote,
            };
            said.sockets.insert(inode, socket);
        }
        said
    }
}

fn pid_of(row: &Value) -> i32 {
    row["pid"].as_i64().expect("a process") as i32
}
