//! Paths as runtimes and service managers make them, and what they say.
//!
//! `{A}`, `{B}` stand for ids of 64 digits, `{P}` for the uid of a pod, `{p}` for the same
//! as systemd's slices have it, `{S}` for the hash of a static pod.

use std::fmt::Write as _;

use super::{Attribution, Group, PATH_BYTES_MAX};

const A: &str = "4fa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2";
const B: &str = "dc679f8a8319c8cf7d38e1adf263bc08d23d7a0b6c1f3e0c7f1d4dba9c5e6f70";
const P: &str = "2c48913c-b29f-11e7-9350-020968147796";
const S: &str = "7ed4ad4e1b6c4d2ab0f8b8a0f1c3d9e5";

fn filled(text: &str) -> String {
    text.replace("{A}", A)
        .replace("{B}", B)
        .replace("{P}", P)
        .replace("{p}", &P.replace('-', "_"))
        .replace("{S}", S)
}

/// `runtime:id`, `pod:uid/class`, `unit:name`, `user:name`: what is known, in this order.
fn said(found: &Attribution) -> String {
    let mut text = String::new();
    let mut say = |what: &str, value: &[u8]| {
        let gap = if text.is_empty() { "" } else { " " };
        let _ = write!(text, "{gap}{what}:{}", String::from_utf8_lossy(value));
    };
    if let Some(container) = &found.container {
        say(container.runtime.unwrap_or("?"), &container.id);
    }
    if let Some(pod) = &found.pod {
        say("pod", &[pod.uid.as_slice(), b"/", pod.qos.as_bytes()].concat());
    }
    if let Some(unit) = &found.unit {
        say("unit", unit);
    }
    if let Some(unit) = &found.user_unit {
        say("user", unit);
    }
    text
}

/// By who made the group.
const KNOWN: &[(&str, &str)] = &[
    // Docker: its own driver, systemd, other parents, without root, in itself.
    ("/docker/{A}", "docker:{A}"),
    ("/docker/{A}/init", "docker:{A}"),
    ("/system.slice/docker-{A}.scope", "docker:{A}"),
    ("/system.slice/docker-{A}.scope/init.scope", "docker:{A} unit:init.scope"),
    ("/system.slice/docker-{A}.scope/system.slice/ssh.service", "docker:{A} unit:ssh.service"),
    ("/web.slice/web-front.slice/docker-{A}.scope", "docker:{A}"),
    ("/actions_job/{A}", "?:{A}"),
    (
        "/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{A}.scope",
        "docker:{A} unit:user@1000.service",
    ),
    ("/docker/{A}/docker/{B}", "docker:{B}"),
    ("/system.slice/docker-{A}.scope/docker/{B}", "docker:{B}"),
    ("/system.slice/docker-{A}.scope/system.slice/docker-{B}.scope", "docker:{B}"),
    ("/docker/buildkit/zq6y0v7s2xd0fdaq0xq5k3m9t", "buildkit:zq6y0v7s2xd0fdaq0xq5k3m9t"),
    ("/system.slice/docker.service", "unit:docker.service"),
    ("/system.slice/docker.service/docker/{A}", "docker:{A} unit:docker.service"),
    // containerd: alone, nerdctl, as it is told to by a kubelet that uses systemd.
    ("/system.slice/containerd.service", "unit:containerd.service"),
    ("/default/{A}", "?:{A}"),
    ("/k8s.io/{A}", "?:{A}"),
    ("/system.slice/nerdctl-{A}.scope", "containerd:{A}"),
    (
        "/system.slice/containerd.service/kubepods-burstable-pod{p}.slice:cri-containerd:{A}",
        "containerd:{A} pod:{P}/burstable unit:containerd.service",
    ),
    ("/kubepods-besteffort-pod{p}.slice:cri-containerd:{A}", "containerd:{A} pod:{P}/besteffort"),
    ("/system.slice:docker:{A}", "docker:{A}"),
    // Kubernetes, groups made by the file system: the path does not say by whom.
    ("/kubepods/burstable/pod{P}/{A}", "?:{A} pod:{P}/burstable"),
    ("/kubepods/besteffort/pod{P}/{A}", "?:{A} pod:{P}/besteffort"),
    ("/kubepods/pod{P}/{A}", "?:{A} pod:{P}/guaranteed"),
    ("/kubepods/burstable/pod{S}/{A}", "?:{A} pod:{S}/burstable"),
    ("/kubepods/burstable/pod{P}/crio-{A}", "cri-o:{A} pod:{P}/burstable"),
    ("/kubepods/burstable/pod{P}/crio-conmon-{A}", "pod:{P}/burstable"),
    ("/kubepods/burstable/pod{P}", "pod:{P}/burstable"),
    ("/kubepods/burstable", ""),
    ("/kubepods/burstable/pod{P}/{A}/docker/{B}", "docker:{B} pod:{P}/burstable"),
    // Kubernetes by systemd.
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{p}.slice/\
         cri-containerd-{A}.scope",
        "containerd:{A} pod:{P}/burstable",
    ),
    (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{p}.slice/\
         crio-{A}.scope",
        "cri-o:{A} pod:{P}/besteffort",
    ),
    (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{p}.slice/\
         crio-{A}.scope/container",
        "cri-o:{A} pod:{P}/besteffort",
    ),
    (
        "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{p}.slice/\
         crio-conmon-{A}.scope",
        "pod:{P}/besteffort unit:crio-conmon-{A}.scope",
    ),
    ("/kubepods.slice/kubepods-pod{p}.slice/docker-{A}.scope", "docker:{A} pod:{P}/guaranteed"),
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{S}.slice/\
         cri-containerd-{A}.scope",
        "containerd:{A} pod:{S}/burstable",
    ),
    (
        "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{p}.slice/\
         cri-containerd-{A}.scope/system.slice/nginx.service",
        "containerd:{A} pod:{P}/burstable unit:nginx.service",
    ),
    ("/system.slice/kubelet.service", "unit:kubelet.service"),
    ("/system.slice/k3s.service", "unit:k3s.service"),
    // A node that is itself a container.
    ("/docker/{A}/kubelet/kubepods/besteffort/pod{P}/{B}", "?:{B} pod:{P}/besteffort"),
    ("/docker/{A}/kubepods/burstable/pod{P}/{B}", "?:{B} pod:{P}/burstable"),
    (
        "/system.slice/docker-{A}.scope/kubelet.slice/kubelet-kubepods.slice/\
         kubelet-kubepods-burstable.slice/kubelet-kubepods-burstable-pod{p}.slice/\
         cri-containerd-{B}.scope",
        "containerd:{B} pod:{P}/burstable",
    ),
    (
        "/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/\
         kubelet-kubepods-besteffort-pod{p}.slice/cri-containerd-{A}.scope",
        "containerd:{A} pod:{P}/besteffort",
    ),
    (
        "/system.slice/docker-{A}.scope/system.slice/containerd.service",
        "docker:{A} unit:containerd.service",
    ),
    (
        "/system.slice/docker-{A}.scope/kubelet.slice/kubelet.service",
        "docker:{A} unit:kubelet.service",
    ),
    // Podman: with and without root, in pods, as a service, and who watches over them.
    ("/machine.slice/libpod-{A}.scope", "podman:{A}"),
    ("/machine.slice/libpod-{A}.scope/container", "podman:{A}"),
    (
        "/machine.slice/libpod-{A}.scope/container/system.slice/sshd.service",
        "podman:{A} unit:sshd.service",
    ),
    ("/machine.slice/libpod-conmon-{A}.scope", "unit:libpod-conmon-{A}.scope"),
    ("/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope", "podman:{A}"),
    ("/libpod_parent/libpod-{A}", "podman:{A}"),
    ("/libpod_parent/libpod-{A}/ctr", "podman:{A}"),
    ("/libpod_parent/conmon", ""),
    (
        "/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-{A}.scope/container",
        "podman:{A} unit:user@1000.service",
    ),
    (
        "/user.slice/user-1000.slice/user@1000.service/user.slice/\
         user-libpod_pod_{B}.slice/libpod-{A}.scope",
        "podman:{A} unit:user@1000.service",
    ),
    (
        "/user.slice/user-10000.slice/user@10000.service/user.slice/podman-239302.scope",
        "unit:user@10000.service user:podman-239302.scope",
    ),
    ("/system.slice/web.service/libpod-payload-{A}", "podman:{A} unit:web.service"),
    ("/system.slice/web.service/runtime", "unit:web.service"),
    (
        "/user.slice/user-1000.slice/user@1000.service/app.slice/web.service/\
         libpod-payload-{A}",
        "podman:{A} unit:user@1000.service user:web.service",
    ),
    // Low-level runtimes by hand: with systemd they say who they are, without not.
    ("/system.slice/runc-web.scope", "runc:web"),
    ("/system.slice/crun-web_1.scope", "crun:web_1"),
    ("/user.slice/youki-4711.scope", "youki:4711"),
    ("/user.slice/user-0.slice/session-3.scope/web", "unit:session-3.scope"),
    ("/web", ""),
    // LXC and those who use it.
    ("/lxc.payload.web", "lxc:web"),
    ("/lxc.payload.web/init.scope", "lxc:web unit:init.scope"),
    ("/lxc.payload.web/system.slice/nginx.service", "lxc:web unit:nginx.service"),
    ("/lxc.payload.web/.lxc", "lxc:web"),
    ("/lxc.payload/web", "lxc:web"),
    ("/lxc.monitor.web", ""),
    ("/lxc/web", "lxc:web"),
    ("/lxc/101/ns/system.slice/cron.service", "lxc:101 unit:cron.service"),
    ("/lxc/101/ns/init.scope", "lxc:101 unit:init.scope"),
    ("/lxc.monitor/101", ""),
    ("/lxc/web/docker/{A}", "docker:{A}"),
    ("/lxc.payload.web/system.slice/docker-{A}.scope", "docker:{A}"),
    ("/system.slice/snap.lxd.daemon.service", "unit:snap.lxd.daemon.service"),
    // systemd-nspawn, libvirt and others that tell systemd-machined.
    (
        "/machine.slice/systemd-nspawn@web.service/payload/system.slice/nginx.service",
        "systemd-nspawn:web unit:nginx.service",
    ),
    (
        "/machine.slice/systemd-nspawn@web.service/payload",
        "systemd-nspawn:web unit:systemd-nspawn@web.service",
    ),
    ("/machine.slice/systemd-nspawn@web.service/supervisor", "unit:systemd-nspawn@web.service"),
    (
        "/machine.slice/systemd-nspawn@web\\x2dfront.service/init.scope",
        "systemd-nspawn:web-front unit:init.scope",
    ),
    ("/machine.slice/machine-web.scope/payload", "systemd-machined:web"),
    (
        "/machine.slice/machine-qemu\\x2d3\\x2ddb\\x2d1.scope/libvirt/emulator",
        "libvirt:qemu-3-db-1",
    ),
    ("/machine.slice/machine-qemu\\x2d3\\x2ddb.scope/libvirt/vcpu0", "libvirt:qemu-3-db"),
    ("/machine.slice/machine-lxc\\x2d2211\\x2dweb.scope", "libvirt:lxc-2211-web"),
    ("/machine/qemu-1-db.libvirt-qemu/emulator", "libvirt:qemu-1-db"),
    ("/libvirt/qemu/db", "libvirt:db"),
    (
        "/machine.slice/machine-rkt\\x2d1d1f0c6c\\x2d0a75.scope/system.slice/etcd.service",
        "rkt:rkt-1d1f0c6c-0a75 unit:etcd.service",
    ),
    // Clouds and schedulers.
    ("/ecs/03752a671e744971a862edcee6195646/{A}", "ecs:{A}"),
    (
        "/ecs/03752a671e744971a862edcee6195646/03752a671e744971a862edcee6195646-4015103728",
        "ecs:03752a671e744971a862edcee6195646-4015103728",
    ),
    ("/ecs/prod/5a0d5ceddf6c44c1928d367a815d890f/{A}", "ecs:{A}"),
    ("/ecs/55091c13-b8cf-4801-b527-f4601742204d/{A}", "ecs:{A}"),
    (
        "/ecstasks.slice/ecstasks-5a0d5ceddf6c44c1928d367a815d890f.slice/docker-{A}.scope",
        "docker:{A}",
    ),
    (
        "/system.slice/garden.service/garden/70eb4ce5-a065-4401-6990-88ed",
        "garden:70eb4ce5-a065-4401-6990-88ed unit:garden.service",
    ),
    ("/garden/{P}", "garden:{P}"),
    ("/mesos/{P}", "mesos:{P}"),
    (
        "/hadoop-yarn/container_e17_1410901177871_0001_01_000005",
        "yarn:container_e17_1410901177871_0001_01_000005",
    ),
    ("/system.slice/slurmstepd.scope/job_42/step_0/user/task_0", "unit:slurmstepd.scope"),
    ("/kata_overhead/{A}", "kata:{A}"),
    ("/kubepods/burstable/pod{P}/kata_{A}", "kata:{A} pod:{P}/burstable"),
    // Units and sessions.
    ("/", ""),
    ("/init.scope", "unit:init.scope"),
    ("/system.slice/nginx.service", "unit:nginx.service"),
    ("/system.slice/nginx.service/worker", "unit:nginx.service"),
    ("/system.slice/system-getty.slice/getty@tty1.service", "unit:getty@tty1.service"),
    ("/system.slice/dev-hugepages.mount", "unit:dev-hugepages.mount"),
    ("/system.slice/docker.socket", "unit:docker.socket"),
    ("/system.slice/_cpu.service", "unit:cpu.service"),
    (
        "/system.slice/systemd-fsck@dev-disk-by\\x2dlabel-EFI.service",
        "unit:systemd-fsck@dev-disk-by\\x2dlabel-EFI.service",
    ),
    ("/user.slice/user-1000.slice/session-c2.scope", "unit:session-c2.scope"),
    (
        "/user.slice/user-1000.slice/user@1000.service/init.scope",
        "unit:user@1000.service user:init.scope",
    ),
    (
        "/user.slice/user-1000.slice/user@1000.service/app.slice/\
         app-flatpak-org.gimp.GIMP-4711.scope",
        "unit:user@1000.service user:app-flatpak-org.gimp.GIMP-4711.scope",
    ),
    (
        "/user.slice/user-1000.slice/user@1000.service/app.slice/\
         snap.firefox.firefox-1d1f0c6c-0a75-4b4e-9c55-5c1d1f0c6c0a.scope",
        "unit:user@1000.service \
         user:snap.firefox.firefox-1d1f0c6c-0a75-4b4e-9c55-5c1d1f0c6c0a.scope",
    ),
    (
        "/user.slice/user-1000.slice/user@1000.service/app.slice/app-org.gnome.Terminal.slice/\
         vte-spawn-f22f14d2-3d44-4304-9879-3fdd0df7b08e.scope",
        "unit:user@1000.service user:vte-spawn-f22f14d2-3d44-4304-9879-3fdd0df7b08e.scope",
    ),
    ("/user.slice", ""),
    ("/user", ""),
    // Looked at from another namespace, and of a group that is no more.
    ("/../docker-{A}.scope", "docker:{A}"),
    ("/../../pod{P}/{A}", "?:{A}"),
    ("/../../../system.slice/cron.service", "unit:cron.service"),
];

/// Nearly right, and not.
const NOTHING: &[&str] = &[
    "",
    "//",
    "/docker",
    "/docker/",
    "/docker/4fa6e0f0c678",
    "/docker/4FA6E0F0C6786287E131C3852C58A2E01CC697A68231826813597E4994F1D6E2",
    "/docker/zfa6e0f0c6786287e131c3852c58a2e01cc697a68231826813597e4994f1d6e2",
    "/podium/4fa6",
    "/pod2c48913c-b29f-11e7-9350-020968147796",
    "/kubepods/podx/web",
    "/kubepods-burstable-pod.slice",
    "/kubepods-burstable-pod2c48913c.slice",
    "/kubepods-urgent-pod2c48913c_b29f_11e7_9350_020968147796.slice",
    "/lxc",
    "/lxc.payload.",
    "/lxc.payload",
    "/machine-web.scope.d",
    "/machine.slice",
    "/ecs",
    "/ecs/task",
    "/ecs/task/03752a671e744971a862edcee6195646-",
    "/garden/web",
    "/mesos/web",
    "/.service",
    "/@.service",
    "/a b.service",
    "/\u{1b}[2J.service",
    "/:::",
    "/x:docker:",
    "/..",
    "/../..",
    "/process_api/08ae02b1db5ebe51a39fc1009064ca2c",
];

#[test]
fn known_paths_say_what_their_makers_mean() {
    assert!(KNOWN.len() >= 60);
    let mut wrong = Vec::new();
    for (path, expected) in KNOWN {
        let (path, expected) = (filled(path), filled(expected));
        let found = said(&Attribution::of_path(path.as_bytes()));
        if found != expected {
            wrong.push(format!("{path}\n  says  {found}\n  meant {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_a_path_does_not_say_is_not_guessed() {
    for path in NOTHING {
        assert_eq!(said(&Attribution::of_path(path.as_bytes())), "", "{path}");
    }
}

/// Anybody who may make a group may call it anything the kernel allows.
#[test]
fn any_bytes_are_a_path() {
    let known: Vec<String> = KNOWN.iter().map(|(path, _)| filled(path)).collect();
    for path in &known {
        for end in 0..=path.len() {
            let _ = Attribution::of_path(&path.as_bytes()[..end]);
            let _ = Attribution::of_path(&path.as_bytes()[end..]);
        }
        for place in 0..path.len() {
            let mut changed = path.clone().into_bytes();
            changed[place] = 0xff;
            let _ = Attribution::of_path(&changed);
        }
    }
    let long = [b"/docker/".as_slice(), A.as_bytes(), &b"/a".repeat(1 << 20)].concat();
    assert_eq!(said(&Attribution::of_path(&long)), filled("docker:{A}"));
    let deep = format!("{}/docker/{A}", "/a".repeat(PATH_BYTES_MAX));
    assert_eq!(said(&Attribution::of_path(deep.as_bytes())), "");
    let name = b"/system.slice/docker-\xff\\x2.scope\\x".as_slice();
    assert_eq!(said(&Attribution::of_path(name)), "");
    let machine = b"/machine.slice/machine-\\x\\x2\\xzz\\x+a\\x2d\xff.scope";
    let found = Attribution::of_path(machine).container.expect("a machine");
    assert_eq!(found.id, b"\\x\\x2\\xzz\\x+a-\xff");
}

/// What `/proc/PID/cgroup` had on such hosts, and what all lines together say.
#[test]
fn the_hierarchies_of_a_process_are_asked_in_order() {
    let cases: &[(&str, &str)] = &[
        // Version 2 alone.
        ("0::/system.slice/docker-{A}.scope", "docker:{A}"),
        // Version 1, Docker without systemd: the second version still has who started it.
        (
            "12:pids:/docker/{A}\n5:memory:/docker/{A}\n1:name=systemd:/docker/{A}\n\
             0::/system.slice/containerd.service",
            "docker:{A} unit:containerd.service",
        ),
        // Both managed by systemd.
        (
            "4:memory:/system.slice/nginx.service\n1:name=systemd:/system.slice/nginx.service\n\
             0::/system.slice/nginx.service",
            "unit:nginx.service",
        ),
        // A session that a runtime without systemd was started from.
        (
            "9:name=systemd:/user.slice/user-0.slice/session-1.scope\n8:pids:/kubepods/pod{P}/{A}\
             \n4:memory:/kubepods/pod{P}/{A}\n0::/user.slice/user-0.slice/session-1.scope",
            "?:{A} pod:{P}/guaranteed unit:session-1.scope",
        ),
        // Two controllers that do not agree: the one that is asked first.
        ("7:cpuset:/docker/{A}\n4:memory:/docker/{B}\n0::/", "docker:{B}"),
        // A hierarchy without a name, and lines that are none.
        ("40::/lxc/web\nx\n::\n1:2\n-1:memory:/docker/{A}\n0::/", "lxc:web"),
        // Only one of them says something.
        ("9:name=systemd:/\n8:pids:/\n4:memory:/docker/{A} (deleted)\n0::/", "docker:{A}"),
        ("", ""),
    ];
    for (lines, expected) in cases {
        let lines = filled(lines);
        let groups = lines.lines().filter_map(|line| Group::parse(line.as_bytes()));
        assert_eq!(said(&Attribution::of_groups(groups)), filled(expected), "{lines}");
    }
}
