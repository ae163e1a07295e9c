use super::*;
use crate::{context::ThreadFacts, event::syscall::Abi};

fn thread(kind: Kind, ts_ns: u64, pid: u32, tid: u32, numbers: &[u64]) -> Event<'static> {
    let mut event = Event::new(kind, ts_ns);
    (event.pid, event.tid) = (pid, tid);
    for number in numbers {
        event.push_number(*number);
    }
    event
}

/// By the kernel without types: what is shared and the child's group are not known.
fn fork(ts_ns: u64, parent: u32, child: u32) -> Event<'static> {
    let child = u64::from(child);
    thread(Kind::ProcessFork, ts_ns, parent, parent, &[child, child])
}

fn fork_into(ts_ns: u64, parent: u32, child: u32, id: u64, stays: bool) -> Event<'static> {
    let mut fork = fork(ts_ns, parent, child);
    fork.push_number(u64::from(if stays { shared::CONTROL_GROUP } else { 0 }));
    fork.push_number(id);
    fork
}

fn moved(ts_ns: u64, pid: u32, tid: u32, hierarchy: u64, path: &'static str) -> Event<'static> {
    let numbers = [u64::from(pid), u64::from(tid), hierarchy, 1_000 + hierarchy];
    let mut event = thread(Kind::CgroupAttach, ts_ns, 1, 1, &numbers);
    event.attach(Attached { index: 0, flags: 0, bytes: path.as_bytes() });
    event
}

fn changed(ts_ns: u64, change: u32, id: u64, path: &'static str) -> Event<'static> {
    let mut event = thread(Kind::Cgroup, ts_ns, 1, 1, &[0, u64::from(change), id]);
    event.attach(Attached { index: 0, flags: 0, bytes: path.as_bytes() });
    event
}

fn text(processes: &Processes, pid: u32) -> String {
    let groups = processes.groups().of_process(pid);
    groups.map_or_else(
        || "-".to_string(),
        |groups| String::from_utf8_lossy(groups.text()).replace('\n', " ").trim_end().to_string(),
    )
}

fn seeded() -> Processes {
    let mut processes = Processes::default();
    for line in [b"4:memory:/".as_slice(), b"9:name=systemd:/"] {
        processes.groups.learn_hierarchy(Group::parse(line).expect("a line"));
    }
    processes.insert(1, ThreadFacts { pid: 1, as_of_ns: 10, ..ThreadFacts::default() });
    processes.groups.seed(1, b"9:name=systemd:/init.scope\n4:memory:/\n0::/\n", 10);
    processes
}

#[test]
fn a_child_is_where_its_maker_is_until_it_is_moved() {
    let mut processes = seeded();
    assert_eq!(text(&processes, 1), "0::/ 9:name=systemd:/init.scope");
    processes.apply(&fork(20, 1, 2), Abi::X86_64);
    assert_eq!(text(&processes, 2), text(&processes, 1));
    processes.apply(&moved(30, 2, 2, 4, "/docker/a"), Abi::X86_64);
    processes.apply(&moved(31, 2, 2, 9, "/"), Abi::X86_64);
    assert_eq!(text(&processes, 2), "0::/ 4:memory:/docker/a");
    assert_eq!(text(&processes, 1), "0::/ 9:name=systemd:/init.scope");
    processes.apply(&moved(29, 2, 2, 4, "/older"), Abi::X86_64);
    assert_eq!(text(&processes, 2), "0::/ 4:memory:/docker/a");
    // A hierarchy nobody told of keeps its number.
    processes.apply(&moved(32, 2, 2, 77, "/x"), Abi::X86_64);
    assert_eq!(text(&processes, 2), "0::/ 4:memory:/docker/a 77::/x");
}

/// `clone3` with `CLONE_INTO_CGROUP` moves nobody: only the child's own id tells.
#[test]
fn a_child_that_begins_elsewhere_is_there() {
    let mut processes = seeded();
    processes.apply(&changed(20, group_change::MADE, 50, "/system.slice/web.service"), Abi::X86_64);
    processes.apply(&fork_into(30, 1, 2, 50, false), Abi::X86_64);
    assert_eq!(text(&processes, 2), "0::/system.slice/web.service 9:name=systemd:/init.scope");
    processes.apply(&fork_into(31, 2, 3, 50, true), Abi::X86_64);
    assert_eq!(text(&processes, 3), text(&processes, 2));
    // A group nobody has seen: where it was is not where it is.
    processes.apply(&fork_into(32, 2, 4, 51, false), Abi::X86_64);
    assert_eq!(text(&processes, 4), "9:name=systemd:/init.scope");
    // Who stays in a group that is known by its path alone tells its id.
    processes.apply(&fork_into(33, 1, 5, 1, true), Abi::X86_64);
    processes.apply(&fork_into(34, 2, 6, 1, false), Abi::X86_64);
    assert_eq!(text(&processes, 6), "0::/ 9:name=systemd:/init.scope");
    // A group that is gone keeps its name where somebody was in it.
    processes
        .apply(&changed(40, group_change::REMOVED, 50, "/system.slice/web.service"), Abi::X86_64);
    assert_eq!(
        processes.groups().of_process(3).map(|groups| groups.attribution().unit.clone()),
        Some(Some(b"web.service".to_vec()))
    );
    processes.apply(&fork_into(41, 1, 7, 50, false), Abi::X86_64);
    assert_eq!(text(&processes, 7), "9:name=systemd:/init.scope");
}

#[test]
fn a_thread_that_is_moved_alone_moves_nobody_else() {
    let mut processes = seeded();
    processes.apply(&fork(20, 1, 2), Abi::X86_64);
    processes.apply(&thread(Kind::ProcessFork, 21, 2, 2, &[2, 3]), Abi::X86_64);
    let before = text(&processes, 2);
    processes.apply(&moved(30, 2, 3, 4, "/alone"), Abi::X86_64);
    // The same from a kernel that gives a number and nothing else.
    processes.apply(&moved(31, 3, 3, 4, "/alone"), Abi::X86_64);
    assert_eq!((text(&processes, 2), text(&processes, 3)), (before, "-".to_string()));
    processes.apply(&moved(32, 2, 2, 4, "/all"), Abi::X86_64);
    let thread = thread(Kind::Syscall, 33, 2, 3, &[]);
    assert_eq!(text(&processes, 2), "0::/ 4:memory:/all 9:name=systemd:/init.scope");
    assert!(processes.attribution_of(thread.pid).is_some());
}

#[test]
fn threads_that_outlive_their_leader_are_where_it_was() {
    let mut processes = seeded();
    processes.apply(&fork(20, 1, 2), Abi::X86_64);
    processes.apply(&thread(Kind::ProcessFork, 21, 2, 2, &[2, 3]), Abi::X86_64);
    processes.apply(&moved(22, 2, 2, 4, "/docker/a"), Abi::X86_64);
    let where_it_was = text(&processes, 2);
    processes.apply(&thread(Kind::ProcessExit, 30, 2, 2, &[0, 0]), Abi::X86_64);
    assert_eq!(text(&processes, 2), where_it_was);
    // As a file has it, too.
    let mut again = Processes::default();
    for event in processes.to_events() {
        again.apply(&event, Abi::X86_64);
    }
    assert_eq!(text(&again, 2), where_it_was);
    // The thread calls exec and takes the leader's place.
    processes.apply(&thread(Kind::ProcessExec, 50, 2, 2, &[3, 0]), Abi::X86_64);
    assert_eq!(text(&processes, 2), where_it_was);
    processes.apply(&thread(Kind::ProcessExit, 60, 2, 2, &[0, 0]), Abi::X86_64);
    assert_eq!(text(&processes, 2), "-");
    again.apply(&thread(Kind::ProcessExit, 60, 2, 3, &[0, 0]), Abi::X86_64);
    assert_eq!(text(&again, 2), "-");
}

/// What `/proc` said while events were on their way.
#[test]
fn a_fact_newer_than_an_event_wins() {
    let mut processes = seeded();
    processes.groups.seed(5, b"0::/now\n", 100);
    processes.apply(&moved(99, 5, 5, 0, "/before"), Abi::X86_64);
    processes.apply(&fork(98, 1, 5), Abi::X86_64);
    processes.apply(&thread(Kind::ProcessExit, 97, 5, 5, &[0, 0]), Abi::X86_64);
    assert_eq!(text(&processes, 5), "0::/now");
    processes.apply(&moved(102, 5, 5, 0, "/later"), Abi::X86_64);
    assert_eq!(text(&processes, 5), "0::/later");
}

#[test]
fn as_events_and_back_is_the_same() {
    let mut processes = seeded();
    processes.apply(&changed(20, group_change::MADE, 50, "/a"), Abi::X86_64);
    for pid in 2..50 {
        processes.apply(&fork_into(30, 1, pid, 50, pid % 2 == 0), Abi::X86_64);
    }
    let mut again = Processes::default();
    for event in processes.to_events() {
        again.apply(&event, Abi::X86_64);
    }
    for pid in 2..50 {
        assert_eq!(text(&again, pid), text(&processes, pid));
    }
    assert_eq!(again.groups().controllers(9), b"name=systemd");
    again.apply(&fork_into(99, 2, 60, 50, false), Abi::X86_64);
    assert_eq!(text(&again, 60), "0::/a 9:name=systemd:/init.scope");
    let threads: u64 = again.iter().map(|(_, facts)| facts.bytes()).sum();
    assert_eq!(again.bytes() - again.groups().bytes(), threads);
}

/// Millions of processes, groups that come and go, paths as long as there are: what
/// nobody is in any more takes no room for long, and the bound holds.
#[test]
fn tables_are_as_large_as_what_is_alive_and_never_above_their_bound() {
    let mut processes = seeded();
    processes.set_bytes_max(4 << 20);
    for round in 0..200_000u64 {
        let (pid, ts_ns) = (100 + round as u32, 1_000 + round * 10);
        let path = format!("/g{round}");
        let mut made = thread(Kind::Cgroup, ts_ns, 1, 1, &[0, 1, round + 100]);
        made.attach(Attached { index: 0, flags: 0, bytes: path.as_bytes() });
        processes.apply(&made, Abi::X86_64);
        processes.apply(&fork_into(ts_ns + 1, 1, pid, round + 100, false), Abi::X86_64);
        assert!(text(&processes, pid).starts_with(&format!("0::{path} ")), "{round}");
        processes.apply(&thread(Kind::ProcessExit, ts_ns + 2, pid, pid, &[0, 0]), Abi::X86_64);
        processes.apply(&changed(ts_ns + 3, group_change::REMOVED, round + 100, "/"), Abi::X86_64);
    }
    assert!(processes.groups().bytes() < 1 << 20, "{}", processes.groups().bytes());
    assert_eq!((processes.len(), processes.cut()), (1, 0));
    let long = format!("/{}", "x".repeat(1_000));
    for pid in 1..20_000 {
        let path = format!("{long}{pid}");
        processes.groups.seed(pid, format!("0::{path}\n").as_bytes(), u64::MAX / 2);
        processes.groups.learn_path(1_000_000 + u64::from(pid), path.as_bytes(), 1);
        assert!(processes.groups().bytes() <= 1 << 20);
    }
    assert!(processes.cut() > 1_000);
    processes.set_bytes_max(4_000);
    assert!(processes.bytes() <= 4_000, "{}", processes.bytes());
    processes.set_bytes_max(0);
    assert_eq!(processes.groups().bytes(), 0);
}

#[test]
fn any_text_is_survived() {
    let mut processes = seeded();
    let whole = [b"0::/x\n".as_slice(), &b"4:memory:/y\n".repeat(10_000)].concat();
    for text in [
        b"".as_slice(),
        b"\n\n\n",
        b"0::",
        b"0::/\xff\xfe",
        b"4294967296:memory:/x",
        b"-1::/x",
        b"0::relative",
        &b"x".repeat(1 << 20),
        &whole,
    ] {
        processes.groups.seed(7, text, 1_000);
        let groups = processes.groups().of_process(7).expect("a process");
        assert!(groups.text().len() <= TEXT_BYTES_MAX);
        let _ = groups.attribution();
    }
    assert_eq!(text(&processes, 7), "0::/x 4:memory:/y");
    let long = [b"0::/".as_slice(), &b"y".repeat(TEXT_BYTES_MAX), b"\n"].concat();
    processes.groups.seed(7, &long, 1_001);
    assert_eq!(text(&processes, 7), "", "half a path is none");
}

/// A move that was lost leaves everybody where they may not be any more.
#[test]
fn what_a_loss_makes_doubtful_is_marked_until_it_is_learnt_anew() {
    let mut processes = seeded();
    processes.apply(&moved(20, 1, 1, 4, "/docker/a"), Abi::X86_64);
    let event = thread(Kind::Syscall, 60, 1, 1, &[]);
    assert!(!processes.is_attribution_uncertain(event.pid));
    for (process_events, is_uncertain) in [(0, false), (1, true)] {
        let lost = thread(Kind::Lost, 30, 0, 0, &[1, 5, 40, process_events]);
        processes.apply(&lost, Abi::X86_64);
        assert_eq!(processes.is_attribution_uncertain(event.pid), is_uncertain);
    }
    processes.apply(&moved(50, 1, 1, 4, "/docker/b"), Abi::X86_64);
    assert!(!processes.is_attribution_uncertain(event.pid));
}
