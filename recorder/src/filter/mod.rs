//! Which events are wanted. Several conditions of one kind mean or, different
//! kinds mean and. A loss always passes: an empty answer that could be a gap says
//! so.

mod time;

use std::fmt;

use crate::{
    clock::parse_duration_ns,
    context::Processes,
    event::{
        Attached, Call, Class, Event, Kind, Meaning,
        syscall::{self, Abi, Groups},
        wire,
    },
    snapshot::{BlockEntry, Header},
    window::codec::{BlockMeta, Present},
};

pub use time::parse_moment;

/// What the user wrote, checked by [`Filter::new`].
#[derive(Clone, Debug, Default)]
pub struct FilterWords {
    /// `trace=...`, names and groups, by comma.
    pub expressions: Vec<String>,
    /// Processes or threads.
    pub pids: Vec<u32>,
    /// Names of threads.
    pub comms: Vec<String>,
    /// Paths: whole, or everything below one that ends in a slash.
    pub paths: Vec<String>,
    /// Containers: the beginning of an id, or a whole name.
    pub containers: Vec<String>,
    /// Units, of the system's service manager or a user's.
    pub units: Vec<String>,
    /// Pods: the beginning of a uid.
    pub pods: Vec<String>,
    /// Only calls that failed.
    pub failed: bool,
    /// Only calls that lasted at least so long.
    pub duration: Option<String>,
    /// Nothing before.
    pub since: Option<String>,
    /// Nothing after.
    pub until: Option<String>,
}

/// Words that are no filter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError(String);

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FilterError {}

/// Which kinds and calls are wanted.
#[derive(Clone, Debug)]
struct Traced {
    kinds: [bool; wire::KINDS_MAX],
    calls: Vec<bool>,
    /// The bits of `calls` in the index: asked for every block.
    call_bits: u128,
}

impl Traced {
    /// Whether a block has nothing of what is wanted.
    fn rules_out(&self, meta: &BlockMeta) -> bool {
        let has_kind = |kind: &Kind| {
            let count = meta.kinds.get(*kind as usize).copied().unwrap_or_default();
            count > 0 && self.kinds.get(*kind as usize).copied().unwrap_or_default()
        };
        meta.present.calls & self.call_bits == 0 && !Kind::ALL.iter().any(has_kind)
    }
}

/// A checked filter for one file.
#[derive(Clone, Debug)]
pub struct Filter {
    traced: Option<Traced>,
    pids: Vec<u32>,
    comms: Vec<Vec<u8>>,
    paths: Vec<Vec<u8>>,
    containers: Vec<String>,
    units: Vec<String>,
    pods: Vec<String>,
    failed: bool,
    duration_ns: Option<u64>,
    since_ns: u64,
    until_ns: u64,
    native: Abi,
}

impl Filter {
    /// Checks the words against the file they are for: times are relative to it.
    pub fn new(words: &FilterWords, header: &Header, native: Abi) -> Result<Filter, FilterError> {
        let moment = |word: &Option<String>, otherwise| match word {
            Some(word) => parse_moment(word, header).map_err(FilterError),
            None => Ok(otherwise),
        };
        let duration_ns = match &words.duration {
            Some(word) => Some(parse_duration_ns(word).map_err(FilterError)?),
            None => None,
        };
        Ok(Filter {
            traced: traced(&words.expressions, native)?,
            pids: words.pids.clone(),
            comms: words.comms.iter().map(|comm| comm.clone().into_bytes()).collect(),
            paths: words.paths.iter().map(|path| path.clone().into_bytes()).collect(),
            containers: words.containers.clone(),
            units: words.units.clone(),
            pods: words.pods.clone(),
            failed: words.failed,
            duration_ns,
            since_ns: moment(&words.since, 0)?,
            until_ns: moment(&words.until, u64::MAX)?,
            native,
        })
    }

    /// Whether no event of the block can pass, by what the index says of it.
    pub fn rules_out(&self, entry: &BlockEntry) -> bool {
        let meta = &entry.meta;
        if meta.class == Class::Unfinished {
            return false;
        }
        if meta.last_ns < self.since_ns || meta.first_ns > self.until_ns {
            return true;
        }
        // A loss passes whatever else is asked for.
        let count = |kind: Kind| meta.kinds.get(kind as usize).copied().unwrap_or_default();
        if count(Kind::Lost) > 0 {
            return false;
        }
        let threads = self.pids.iter().fold(0, |bits, pid| bits | Present::thread_bit(*pid));
        let no_thread = !self.pids.is_empty() && meta.present.threads & threads == 0;
        no_thread || self.traced.as_ref().is_some_and(|traced| traced.rules_out(meta))
    }

    /// Whether an event is wanted.
    pub fn passes(&self, event: &Event<'_>, processes: &Processes) -> bool {
        // A loss that reaches into the time that was asked for is part of it, and so
        // is a call that was running then and had not returned at the end.
        let (first_ns, last_ns) = match Call::of(event) {
            _ if event.kind == Kind::Lost => (event.ts_ns, event.number(2)),
            Some(call) if event.has(wire::flag::UNFINISHED) => {
                (event.ts_ns.saturating_sub(call.dur_ns().unwrap_or_default()), event.ts_ns)
            }
            _ => (event.ts_ns, event.ts_ns),
        };
        if last_ns < self.since_ns || first_ns > self.until_ns {
            return false;
        }
        if event.kind == Kind::Lost {
            return true;
        }
        self.passes_trace(event)
            && self.passes_thread(event, processes)
            && self.passes_call(event)
            && (self.paths.is_empty() || self.passes_path(event))
    }

    fn passes_trace(&self, event: &Event<'_>) -> bool {
        let Some(traced) = &self.traced else { return true };
        match Call::of(event) {
            Some(call) => {
                let index = wire::call_index(call.nr(), event.has(wire::flag::COMPAT));
                traced.calls.get(index as usize).copied().unwrap_or_default()
            }
            None => traced.kinds.get(event.kind as usize).copied().unwrap_or_default(),
        }
    }

    fn passes_thread(&self, event: &Event<'_>, processes: &Processes) -> bool {
        let pid = self.pids.is_empty()
            || self.pids.contains(&event.pid)
            || self.pids.contains(&event.tid);
        let comm = self.comms.is_empty()
            || (event.tid != 0 && self.comms.iter().any(|comm| comm == processes.comm_of(event)));
        pid && comm && self.passes_groups(event, processes)
    }

    fn passes_groups(&self, event: &Event<'_>, processes: &Processes) -> bool {
        if self.containers.is_empty() && self.units.is_empty() && self.pods.is_empty() {
            return true;
        }
        let Some(said) = processes.attribution_of(event.pid).filter(|_| event.tid != 0) else {
            return false;
        };
        let any = |wanted: &[String], fits: &dyn Fn(&[u8]) -> bool| {
            wanted.is_empty() || wanted.iter().any(|wanted| fits(wanted.as_bytes()))
        };
        let container = any(&self.containers, &|wanted| {
            said.container.as_ref().is_some_and(|container| container.answers_to(wanted))
        });
        let unit = any(&self.units, &|wanted| {
            [&said.unit, &said.user_unit]
                .into_iter()
                .flatten()
                .any(|unit| unit == wanted || unit.strip_suffix(b".service") == Some(wanted))
        });
        let pod = any(&self.pods, &|wanted| {
            said.pod.as_ref().is_some_and(|pod| pod.uid.starts_with(wanted))
        });
        container && unit && pod
    }

    fn passes_call(&self, event: &Event<'_>) -> bool {
        if !self.failed && self.duration_ns.is_none() {
            return true;
        }
        let Some(call) = Call::of(event) else { return false };
        // A call that a signal interrupts and the kernel may make again has not failed
        // for its program: ERESTARTSYS and its like are 512 and more.
        let failed = !self.failed || call.errno().is_some_and(|errno| errno < 512);
        let long =
            self.duration_ns.is_none_or(|least| call.dur_ns().is_some_and(|dur| dur >= least));
        failed && long
    }

    fn passes_path(&self, event: &Event<'_>) -> bool {
        let call = Call::of(event);
        let row = call.and_then(|call| syscall::lookup(call.abi(self.native), call.nr()));
        event.attached().iter().any(|attached| {
            let meaning = match row {
                Some(row) => {
                    let values = call.map(|call| call.args()).unwrap_or_default();
                    row.args_of(values).get(usize::from(attached.index)).map(|arg| arg.meaning)
                }
                None => {
                    let schema = event.kind.schema().attachments;
                    schema.get(usize::from(attached.index)).map(|bytes| bytes.meaning)
                }
            };
            meaning == Some(Meaning::Path)
                && self.paths.iter().any(|path| path_matches(path, attached))
        })
    }
}

fn path_matches(wanted: &[u8], attached: &Attached<'_>) -> bool {
    let path = attached.text();
    path == wanted || (wanted.ends_with(b"/") && path.starts_with(wanted))
}

/// Kinds that belong to a group.
fn kinds_of(group: Groups) -> &'static [Kind] {
    if group == Groups::PROCESS {
        &[
            Kind::ProcessFork,
            Kind::ProcessExec,
            Kind::ProcessExit,
            Kind::ProcessRename,
            Kind::ProcessReap,
            Kind::Cgroup,
            Kind::CgroupAttach,
            Kind::OomKill,
        ]
    } else if group == Groups::MEMORY {
        &[Kind::OomKill]
    } else if group == Groups::NETWORK {
        &[Kind::TcpState, Kind::TcpRetransmit, Kind::TcpResetSent, Kind::TcpResetReceived]
    } else {
        &[]
    }
}

fn traced(expressions: &[String], native: Abi) -> Result<Option<Traced>, FilterError> {
    if expressions.is_empty() {
        return Ok(None);
    }
    let mut traced = Traced {
        kinds: [false; wire::KINDS_MAX],
        calls: vec![false; wire::CALLS_MAX as usize],
        call_bits: 0,
    };
    for expression in expressions {
        let names = expression.strip_prefix("trace=").unwrap_or(expression);
        for name in names.split(',') {
            traced.add(name.trim(), native)?;
        }
    }
    let wanted = (0..).zip(&traced.calls).filter(|(_, wanted)| **wanted);
    traced.call_bits = wanted.fold(0, |bits, (index, _)| bits | Present::call_bit(index));
    Ok(Some(traced))
}

impl Traced {
    fn add(&mut self, name: &str, native: Abi) -> Result<(), FilterError> {
        if name == "all" {
            self.kinds.fill(true);
            self.calls.fill(true);
            return Ok(());
        }
        let group = Groups::parse(name);
        let kinds = Kind::ALL.iter().filter(|kind| kind.schema().name == name);
        let mut found = group.is_some();
        for kind in kinds.chain(group.map(kinds_of).unwrap_or_default()) {
            if let Some(wanted) = self.kinds.get_mut(*kind as usize) {
                *wanted = true;
                found = true;
            }
            if *kind == Kind::Syscall {
                self.calls.fill(true);
            }
        }
        found |= syscall::by_name(name).is_some();
        for (abi, compat) in [(Some(native), false), (native.compat(), true)] {
            let Some(abi) = abi else { continue };
            for nr in 0..i64::from(wire::CALLS_COMPAT) {
                let row = syscall::lookup(abi, nr);
                let wanted = match (row, group) {
                    (Some(row), Some(group)) => row.groups.intersects(group),
                    (Some(row), None) => row.name == name,
                    (None, _) => false,
                };
                let index = wire::call_index(nr, compat) as usize;
                if let Some(call) = self.calls.get_mut(index).filter(|_| wanted) {
                    *call = true;
                    found = true;
                }
            }
        }
        if found {
            return Ok(());
        }
        Err(FilterError(format!(
            "-e trace={name}: there is no call, kind of event or group of this name; groups are \
             %file, %net, %process, %desc, %signal and %memory"
        )))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(words: FilterWords) -> Filter {
        Filter::new(&words, &Header::default(), Abi::X86_64).unwrap()
    }

    fn call(nr: u64, ret: i64, dur_ns: u64) -> Event<'static> {
        let mut event = Event::new(Kind::Syscall, 500);
        (event.pid, event.tid) = (7, 8);
        for number in [nr, ret.cast_unsigned(), dur_ns] {
            event.push_number(number);
        }
        event
    }

    #[test]
    fn conditions_of_one_kind_mean_or_and_of_different_kinds_and() {
        let processes = Processes::default();
        let words = FilterWords {
            expressions: vec!["trace=openat,close".to_string()],
            pids: vec![1, 8],
            failed: true,
            ..FilterWords::default()
        };
        let filter = filter(words);
        assert!(filter.passes(&call(257, -2, 0), &processes));
        assert!(filter.passes(&call(3, -9, 0), &processes));
        assert!(!filter.passes(&call(0, -9, 0), &processes), "read is not traced");
        assert!(!filter.passes(&call(3, 0, 0), &processes), "it did not fail");
        let mut other = call(3, -9, 0);
        (other.pid, other.tid) = (2, 3);
        assert!(!filter.passes(&other, &processes), "another process");
    }

    #[test]
    fn groups_paths_and_durations() {
        let processes = Processes::default();
        let path = FilterWords { paths: vec!["/etc/".to_string()], ..FilterWords::default() };
        let mut open = call(257, 3, 0);
        open.attach(Attached { index: 1, flags: 0, bytes: b"/etc/hosts" });
        assert!(filter(path.clone()).passes(&open, &processes));
        assert!(!filter(path).passes(&call(257, 3, 0), &processes));
        let group =
            FilterWords { expressions: vec!["trace=%net".to_string()], ..FilterWords::default() };
        assert!(filter(group.clone()).passes(&call(42, 0, 0), &processes), "connect");
        assert!(filter(group.clone()).passes(&Event::new(Kind::TcpState, 1), &processes));
        assert!(!filter(group).passes(&open, &processes));
        let slow = FilterWords { duration: Some("1ms".to_string()), ..FilterWords::default() };
        assert!(filter(slow.clone()).passes(&call(0, 0, 1_000_000), &processes));
        assert!(!filter(slow).passes(&call(0, 0, 999_999), &processes));
    }

    /// The unfinished calls have the time of the freeze, a moment after the trigger:
    /// `--until t` hid just what one looks for.
    #[test]
    fn a_call_that_was_running_then_passes() {
        let processes = Processes::default();
        let mut unfinished = call(0, 0, 300);
        unfinished.flags = wire::flag::UNFINISHED;
        let mut filter = filter(FilterWords::default());
        filter.until_ns = 400;
        assert!(filter.passes(&unfinished, &processes), "entered at 200");
        assert!(!filter.passes(&call(0, 0, 300), &processes), "returned at 500");
        filter.until_ns = 199;
        assert!(!filter.passes(&unfinished, &processes), "not yet entered");
    }

    #[test]
    fn a_loss_passes_every_condition_but_time() {
        let processes = Processes::default();
        let mut lost = Event::new(Kind::Lost, 500);
        for number in [1, 10, 600] {
            lost.push_number(number);
        }
        let words =
            FilterWords { failed: true, comms: vec!["x".to_string()], ..FilterWords::default() };
        assert!(filter(words).passes(&lost, &processes));
    }

    #[test]
    fn words_that_are_no_filter_are_refused_with_what_would_be() {
        for expression in ["trace=opnat", "trace=%nothing", "trace="] {
            let words =
                FilterWords { expressions: vec![expression.to_string()], ..FilterWords::default() };
            let error = Filter::new(&words, &Header::default(), Abi::X86_64).unwrap_err();
            assert!(error.to_string().contains("%file"), "{error}");
        }
    }
}
