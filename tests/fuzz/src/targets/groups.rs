//! Paths of control groups: whoever may make a group calls it what they like.

use recorder::{
    cgroup::{Attribution, Group},
    context::Processes,
    event::{Attached, Event, Kind, syscall::Abi},
};
use recorder_tests::synth::Random;

use crate::{met, mutate};

const ID: &str = "4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2";

const UID: &str = "2c48913c-b29f-11e7-9350-020968147796";

const WORDS: [&str; 40] = [
    ID,
    UID,
    "0::/",
    "1:name=systemd:/",
    "4:memory,cpu:/",
    "\n",
    "/",
    "/..",
    "docker",
    "docker-",
    "cri-containerd-",
    "crio-",
    "libpod-",
    "runc-",
    ":cri-containerd:",
    "/kubepods",
    "kubepods-burstable-pod",
    "-besteffort-pod",
    "/pod",
    ".slice",
    ".scope",
    ".service",
    "user-1000.slice",
    "user@1000.service",
    "app.slice",
    "machine.slice/machine-",
    "\\x2d",
    "\\x",
    "\\x5c\\x",
    "lxc.payload.",
    "lxc",
    "ecs/",
    "garden/",
    "mesos/",
    "_",
    "-",
    "@",
    ":",
    " (deleted)",
    "\u{1b}[2J",
];

/// What `/proc/PID/cgroup` says of a process in a container, a unit, or both.
pub fn make(random: &mut Random) -> Vec<u8> {
    let under = UID.replace('-', "_");
    let paths = [
        format!("/docker/{ID}"),
        format!("/system.slice/docker-{ID}.scope"),
        format!("/kubepods/burstable/pod{UID}/{ID}"),
        format!("/kubepods.slice/kubepods-pod{under}.slice/cri-containerd-{ID}.scope"),
        format!("/kubepods/pod{UID}/crio-{ID}"),
        "/user.slice/user-1000.slice/user@1000.service/app.slice/a\\x2db.service".to_string(),
        "/lxc.payload.web/system.slice/nginx.service".to_string(),
        "/machine.slice/machine-a\\x2db.scope".to_string(),
        "/".to_string(),
    ];
    let mut text = String::new();
    for hierarchy in ["0:", "1:name=systemd", "4:memory", "9:cpu,cpuacct"] {
        if hierarchy == "0:" || random.one_in(3) {
            let path = &paths[random.below(paths.len() as u64) as usize];
            text += &format!("{hierarchy}:{path}\n");
        }
    }
    text.into_bytes()
}

/// Changes it word by word.
pub fn mutate(random: &mut Random, text: &mut Vec<u8>) {
    mutate::text::mutate(random, text, &WORDS);
}

/// What a path says is taken from it, and stays what it says when it was kept.
pub fn groups(input: &[u8]) {
    let lines = || input.split(|byte| *byte == b'\n').filter_map(Group::parse);
    for group in lines() {
        let said = Attribution::of_path(group.path);
        shape_of(&said);
        // Escapes become one byte, nothing becomes more.
        for word in words_of(&said) {
            assert!(!word.is_empty() && word.len() <= group.path.len());
            assert!(!word.contains(&b'/') || group.path.contains(&b'\\'));
        }
        if let Some(container) = &said.container {
            assert!(
                container.answers_to(&container.id)
                    && container.id.starts_with(container.short_id())
            );
        }
    }
    let all = Attribution::of_groups(lines());
    met(("all", all.is_empty(), lines().count().min(4)));
    kept(input);
}

fn words_of(said: &Attribution) -> Vec<&[u8]> {
    let container = said.container.iter().map(|container| container.id.as_slice());
    let pod = said.pod.iter().map(|pod| pod.uid.as_slice());
    let units = said.unit.iter().chain(&said.user_unit).map(Vec::as_slice);
    container.chain(pod).chain(units).collect()
}

fn shape_of(said: &Attribution) {
    let Attribution { container, pod, unit, user_unit, .. } = said;
    met((
        container.as_ref().map(|container| (container.runtime, container.id.len().min(65))),
        pod.as_ref().map(|pod| pod.qos),
        unit.is_some(),
        user_unit.is_some(),
    ));
}

/// A process with these groups, as an event and back.
fn kept(input: &[u8]) {
    let with = |text: &[u8]| {
        let mut event = Event::new(Kind::Process, 5);
        (event.pid, event.tid) = (7, 7);
        event.attach(Attached { index: 4, flags: 0, bytes: text });
        let mut processes = Processes::default();
        processes.apply(&event, Abi::X86_64);
        processes
    };
    let processes = with(input);
    let Some(membership) = processes.groups().of_process(7) else { return };
    let again = with(membership.text());
    let said = |processes: &Processes| processes.attribution_of(7).cloned();
    assert_eq!(said(&again), said(&processes), "what was kept says the same");
    met(("kept", membership.groups().count().min(8)));
}
