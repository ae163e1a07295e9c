//! Filters against what their words say, and what is printed of any event.

use recorder::{
    context::{Processes, ThreadFacts},
    event::{
        Call, Kind,
        syscall::{self, Abi},
        wire,
    },
    export::{Exporter as _, JsonLines, Text},
    filter::{Filter, FilterWords},
    snapshot::Header,
};
use recorder_tests::{
    property::{met, seeds},
    synth::{Made, Random, Synth},
};

/// One filter in words, and what it means, said as simply as possible.
#[derive(Debug, Default)]
struct Wanted {
    calls: Vec<&'static str>,
    group: Option<&'static str>,
    pids: Vec<u32>,
    comms: Vec<&'static str>,
    path: Option<&'static str>,
    failed: bool,
    least_ns: Option<u64>,
    since_ns: u64,
    until_ns: u64,
}

impl Wanted {
    fn random(random: &mut Random) -> Wanted {
        let mut wanted = Wanted { until_ns: 1_000, ..Wanted::default() };
        for name in ["openat", "read", "tcp_state", "process_exit"] {
            if random.one_in(5) {
                wanted.calls.push(name);
            }
        }
        if random.one_in(4) {
            let groups = ["%file", "%process", "%net"];
            wanted.group = groups.get(random.below(3) as usize).copied();
        }
        if random.one_in(3) {
            wanted.pids = vec![random.below(6) as u32, random.below(12) as u32];
        }
        if random.one_in(3) {
            wanted.comms = vec!["even"];
        }
        if random.one_in(3) {
            let paths = ["/etc/", "/etc/hosts", "/etc"];
            wanted.path = paths.get(random.below(3) as usize).copied();
        }
        wanted.failed = random.one_in(4);
        wanted.least_ns = random.one_in(4).then(|| random.below(2_000));
        if random.one_in(3) {
            wanted.since_ns = random.below(500);
            wanted.until_ns = 500 + random.below(500);
        }
        wanted
    }

    fn words(&self) -> FilterWords {
        let names: Vec<&str> = self.calls.iter().copied().chain(self.group).collect();
        FilterWords {
            expressions: if names.is_empty() {
                Vec::new()
            } else {
                vec![format!("trace={}", names.join(","))]
            },
            pids: self.pids.clone(),
            comms: self.comms.iter().map(ToString::to_string).collect(),
            paths: self.path.iter().map(ToString::to_string).collect(),
            failed: self.failed,
            duration: self.least_ns.map(|ns| format!("{ns}ns")),
            since: Some(format!("+{}ns", self.since_ns)),
            until: Some(format!("+{}ns", self.until_ns)),
            ..FilterWords::default()
        }
    }

    fn passes(&self, made: &Made) -> bool {
        if made.kind == Kind::Lost {
            return made.numbers[2] >= self.since_ns && made.ts_ns <= self.until_ns;
        }
        let event = made.as_event();
        let call = Call::of(&event);
        let row = call.and_then(|call| syscall::lookup(call.abi(Abi::X86_64), call.nr()));
        let name =
            if call.is_some() { row.map(|row| row.name) } else { Some(made.kind.schema().name) };
        let in_group = self.group.is_some_and(|group| match row {
            Some(row) => row.groups.intersects(syscall::Groups::parse(group).unwrap()),
            None => {
                let prefix = if group == "%net" { "tcp" } else { "process" };
                let others = [Kind::OomKill, Kind::Cgroup, Kind::CgroupAttach];
                let other = others.contains(&made.kind) && group == "%process";
                let named = made.kind.schema().name.starts_with(prefix) || other;
                call.is_none() && group != "%file" && named
            }
        });
        let any = self.calls.is_empty() && self.group.is_none();
        let traced = any || in_group || name.is_some_and(|name| self.calls.contains(&name));
        let pid =
            self.pids.is_empty() || self.pids.iter().any(|p| [made.pid, made.tid].contains(p));
        let comm = self.comms.is_empty() || is_even(made);
        let failed = !self.failed || call.and_then(|call| call.errno()).is_some_and(|e| e < 512);
        let long = self
            .least_ns
            .is_none_or(|ns| call.and_then(|call| call.dur_ns()).is_some_and(|dur| dur >= ns));
        // A call that has not returned is part of all the time since its entry.
        let unfinished = call.filter(|_| event.has(wire::flag::UNFINISHED));
        let age_ns = unfinished.and_then(|call| call.dur_ns()).unwrap_or_default();
        let entered_ns = made.ts_ns.saturating_sub(age_ns);
        let time = made.ts_ns >= self.since_ns && entered_ns <= self.until_ns;
        let path = self.path.is_none_or(|path| {
            made.attached.iter().any(|(index, _, bytes)| {
                let index = usize::from(*index);
                let meaning = match (call, row) {
                    (Some(_), row) => row.and_then(|row| Some(row.args.get(index)?.meaning)),
                    (None, _) => {
                        made.kind.schema().attachments.get(index).map(|bytes| bytes.meaning)
                    }
                };
                let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
                meaning == Some(recorder::event::Meaning::Path)
                    && (text == path.as_bytes()
                        || path.ends_with('/') && text.starts_with(path.as_bytes()))
            })
        });
        traced && pid && comm && failed && long && time && path
    }
}

/// Whether the thread of an event has the name "even": threads of even numbers have it,
/// unless the event brings a name of its own.
fn is_even(made: &Made) -> bool {
    let brings_name = matches!(made.kind, Kind::ProcessExit | Kind::ProcessReap | Kind::OomKill);
    let own = made.attached.iter().find(|(index, ..)| brings_name && *index == 0);
    let own = own.and_then(|(_, _, bytes)| bytes.split(|byte| *byte == 0).next());
    match own.filter(|name| !name.is_empty()) {
        Some(name) => made.tid != 0 && name == b"even",
        None => made.tid.is_multiple_of(2),
    }
}

#[test]
fn a_filter_means_what_its_words_say() {
    let mut processes = Processes::default();
    for tid in (0..20).step_by(2) {
        processes.insert(tid, ThreadFacts { comm: b"even".to_vec(), ..ThreadFacts::default() });
    }
    let mut passed = 0;
    for seed in seeds(400) {
        let mut random = Random::new(seed);
        let wanted = Wanted::random(&mut random);
        let filter = Filter::new(&wanted.words(), &Header::default(), Abi::X86_64).unwrap();
        for _ in 0..200 {
            let ts_ns = random.below(1_000);
            let mut made = Made::random(&mut random, ts_ns, 1);
            if made.kind == Kind::Syscall && random.one_in(2) {
                made.numbers[0] = if random.one_in(2) { 257 } else { 0 };
            }
            if random.one_in(8) {
                made.attached = vec![(0, 0, b"even\0\0".to_vec())];
            }
            let passes = filter.passes(&made.as_event(), &processes);
            assert_eq!(passes, wanted.passes(&made), "seed {seed}: {wanted:?} {made:?}");
            passed += u64::from(passes);
        }
    }
    met(passed, 1_000, "events passed anything");
}

#[test]
fn any_event_can_be_printed() {
    let header = Synth::sample().header;
    let mut processes = Processes::default();
    for seed in seeds(10_000) {
        let mut random = Random::new(seed);
        let ts_ns = random.number();
        let made = Made::random(&mut random, ts_ns, 2);
        let native = if random.one_in(2) { Abi::X86_64 } else { Abi::Aarch64 };
        let event = made.as_event();
        let mut text = Vec::new();
        Text::new(header.clock, native, random.one_in(2))
            .event(&event, &processes, &mut text)
            .unwrap();
        let text = String::from_utf8(text).unwrap_or_else(|_| panic!("seed {seed}: {made:?}"));
        let (line, end) = text.split_at(text.len() - 1);
        assert!(end == "\n" && !line.contains(char::is_control), "seed {seed}: {text:?}");
        let mut json = Vec::new();
        JsonLines::new(header.clock, native).event(&event, &processes, &mut json).unwrap();
        let object: serde_json::Value = serde_json::from_slice(&json).unwrap();
        assert_eq!(object["ts_ns"], ts_ns.to_string(), "seed {seed}");
        processes.apply(&event, native);
    }
}
