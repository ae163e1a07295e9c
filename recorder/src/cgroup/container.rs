//! Containers and pods.

use super::{is_hex, is_uuid, unit::unescape};

/// A container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Its id, or its name where its runtime knows it by that.
    pub id: Vec<u8>,
    /// Whose it is; not known where the path has the id alone.
    pub runtime: Option<&'static str>,
}

/// A pod of Kubernetes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Its uid; that of a static pod is a hash.
    pub uid: Vec<u8>,
    /// `guaranteed`, `burstable` or `besteffort`.
    pub qos: &'static str,
}

/// Hexadecimal digits of the ids that the tools of the Open Container Initiative give.
const ID_DIGITS: usize = 64;

/// Digits of such an id that people use.
const ID_DIGITS_SHORT: usize = 12;

/// What stands before such an id in the name of a group, with a dash in between, with
/// `.scope` behind it or without: systemd makes scopes, the file system plain groups.
const BEFORE_IDS: &[(&[u8], &str)] = &[
    (b"docker", "docker"),
    (b"cri-containerd", "containerd"),
    (b"containerd", "containerd"),
    (b"nerdctl", "containerd"),
    (b"crio", "cri-o"),
    (b"libpod", "podman"),
    (b"libpod-payload", "podman"),
];

/// Low-level runtimes, started by hand, make a scope with whatever id they are given.
const BEFORE_NAMES: &[(&[u8], &str)] = &[(b"runc", "runc"), (b"crun", "crun"), (b"youki", "youki")];

impl Container {
    /// The container whose group is the name at `place`, if it is one's.
    pub(super) fn of(names: &[&[u8]], place: usize) -> Option<Container> {
        let name = *names.get(place)?;
        Container::of_three_parts(name)
            .or_else(|| Container::of_prefix(name))
            .or_else(|| Container::of_parent(names, place))
            .or_else(|| Container::of_machine(names, place))
            // An id and nothing else.
            .or_else(|| is_hex(name, ID_DIGITS).then(|| Container::new(name, None)))
    }

    fn new(id: &[u8], runtime: Option<&'static str>) -> Container {
        Container { id: id.to_vec(), runtime }
    }

    /// Whether `wanted` means this one: its name, or the beginning of its id.
    pub fn answers_to(&self, wanted: &[u8]) -> bool {
        let is_beginning = is_hex(&self.id, ID_DIGITS) && self.id.starts_with(wanted);
        self.id == wanted || (is_beginning && !wanted.is_empty())
    }

    /// The id as people write it.
    pub fn short_id(&self) -> &[u8] {
        if is_hex(&self.id, ID_DIGITS) {
            self.id.get(..ID_DIGITS_SHORT).unwrap_or_default()
        } else {
            &self.id
        }
    }

    /// `SLICE:PREFIX:ID`, what is meant for systemd and was given to the file system.
    fn of_three_parts(name: &[u8]) -> Option<Container> {
        let mut parts = name.splitn(3, |byte| *byte == b':');
        let (_, before, id) = (parts.next()?, parts.next()?, parts.next()?);
        let known = BEFORE_IDS.iter().chain(BEFORE_NAMES).find(|(known, _)| *known == before)?;
        is_name(id).then(|| Container::new(id, Some(known.1)))
    }

    fn of_prefix(name: &[u8]) -> Option<Container> {
        let scope = name.strip_suffix(b".scope");
        let base = scope.unwrap_or(name);
        let rest = |before: &[u8]| base.strip_prefix(before)?.strip_prefix(b"-");
        let by_id = BEFORE_IDS.iter().find_map(|(before, runtime)| {
            let id = rest(before).filter(|id| is_hex(id, ID_DIGITS))?;
            Some(Container::new(id, Some(runtime)))
        });
        by_id
            .or_else(|| {
                scope?;
                BEFORE_NAMES.iter().find_map(|(before, runtime)| {
                    let id = rest(before).filter(|id| is_name(id))?;
                    Some(Container::new(id, Some(runtime)))
                })
            })
            .or_else(|| {
                let id = base.strip_prefix(b"kata_").filter(|id| is_hex(id, ID_DIGITS))?;
                Some(Container::new(id, Some("kata")))
            })
            .or_else(|| {
                let id = name.strip_prefix(b"lxc.payload.").filter(|id| !id.is_empty())?;
                Some(Container::new(id, Some("lxc")))
            })
    }

    /// The name says nothing, those above it do.
    fn of_parent(names: &[&[u8]], place: usize) -> Option<Container> {
        let name = *names.get(place)?;
        let above = names.get(..place)?;
        let parent = *above.last()?;
        let grandparent = above.len().checked_sub(2).and_then(|place| above.get(place)).copied();
        let is_id = is_hex(name, ID_DIGITS);
        // A task of Fargate: its id and a number.
        let is_fargate = || {
            let (task, number) = name.split_at_checked(32)?;
            let number = number.strip_prefix(b"-")?;
            let is_number = !number.is_empty() && number.iter().all(u8::is_ascii_digit);
            (is_hex(task, 32) && is_number).then_some(())
        };
        let is_plain = is_name(name) && !name.ends_with(b".slice") && !name.ends_with(b".service");
        let runtime = match parent {
            b"docker" if is_id => "docker",
            b"buildkit" if is_build(name) => "buildkit",
            b"kata_overhead" if is_id => "kata",
            b"qemu" | b"lxc" if grandparent == Some(b"libvirt") && is_plain => "libvirt",
            b"lxc" | b"lxc.payload" if is_plain => "lxc",
            b"garden" if is_garden(name) => "garden",
            b"mesos" if is_uuid(name) => "mesos",
            b"hadoop-yarn" if name.starts_with(b"container_") => "yarn",
            _ if above.first() == Some(&b"ecs".as_slice())
                && above.len() > 1
                && (is_id || is_fargate().is_some()) =>
            {
                "ecs"
            }
            _ => return None,
        };
        Some(Container::new(name, Some(runtime)))
    }

    /// What registered itself with systemd-machined: containers of systemd, virtual
    /// machines and containers of libvirt, others.
    fn of_machine(names: &[&[u8]], place: usize) -> Option<Container> {
        let name = *names.get(place)?;
        let parent = place.checked_sub(1).and_then(|place| names.get(place)).copied();
        if parent == Some(b"machine.slice") {
            if let Some(name) = middle(name, b"systemd-nspawn@", b".service") {
                // The one who watches over it is beside what it runs.
                let is_outside = names.get(place + 1) == Some(&b"supervisor".as_slice());
                return (!is_outside)
                    .then(|| Container::new(&unescape(name), Some("systemd-nspawn")));
            }
            let name = unescape(middle(name, b"machine-", b".scope")?);
            let is_libvirt = |kind: &[u8]| name.strip_prefix(kind).is_some_and(is_numbered);
            let runtime = if is_libvirt(b"qemu-") || is_libvirt(b"lxc-") {
                "libvirt"
            } else if name.starts_with(b"rkt-") {
                "rkt"
            } else {
                "systemd-machined"
            };
            return Some(Container::new(&name, Some(runtime)));
        }
        if parent.is_some_and(|parent| parent == b"machine" || parent.ends_with(b".partition")) {
            let suffixes = [b".libvirt-qemu".as_slice(), b".libvirt-lxc"];
            let name = suffixes.iter().find_map(|suffix| name.strip_suffix(*suffix))?;
            return is_name(name).then(|| Container::new(name, Some("libvirt")));
        }
        None
    }
}

impl Pod {
    /// The pod whose group is the name at `place`, if it is one's.
    pub(super) fn of(names: &[&[u8]], place: usize) -> Option<Pod> {
        let name = *names.get(place)?;
        let slice = name.split(|byte| *byte == b':').next().unwrap_or(name);
        if let Some(slice) = slice.strip_suffix(b".slice") {
            // kubepods-burstable-pod<uid>.slice, with something before it where the
            // kubelet is not at the root.
            let classes = position(slice, b"kubepods")? + b"kubepods".len();
            let (class, uid) = split_once(slice.get(classes..)?, b"-pod")?;
            let uid: Vec<u8> =
                uid.iter().map(|byte| if *byte == b'_' { b'-' } else { *byte }).collect();
            let qos = match class {
                b"" => "guaranteed",
                b"-burstable" => "burstable",
                b"-besteffort" => "besteffort",
                _ => return None,
            };
            return is_uid(&uid).then_some(Pod { uid, qos });
        }
        let uid = name.strip_prefix(b"pod").filter(|uid| is_uid(uid))?;
        let above = names.get(..place)?;
        let class = *above.last()?;
        let parent = match class {
            b"burstable" | b"besteffort" => above.len().checked_sub(2).and_then(|p| above.get(p)),
            _ => above.last(),
        };
        let qos = match class {
            b"burstable" => "burstable",
            b"besteffort" => "besteffort",
            _ => "guaranteed",
        };
        parent?.ends_with(b"kubepods").then(|| Pod { uid: uid.to_vec(), qos })
    }
}

/// What a runtime takes for a name or an id.
fn is_name(text: &[u8]) -> bool {
    let is_fine = |byte: &u8| byte.is_ascii_alphanumeric() || b"+-_.@\\".contains(byte);
    !text.is_empty() && text.iter().all(is_fine)
}

/// `3-NAME`: libvirt numbers what it starts.
fn is_numbered(text: &[u8]) -> bool {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && text.get(digits) == Some(&b'-')
}

/// BuildKit gives 25 letters and digits.
fn is_build(text: &[u8]) -> bool {
    text.len() == 25 && text.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())
}

/// Garden gives a UUID, or one whose last part is short.
fn is_garden(text: &[u8]) -> bool {
    let parts: Vec<&[u8]> = text.split(|byte| *byte == b'-').collect();
    let is_short = parts.len() == 5
        && parts.iter().zip([8, 4, 4, 4, 4]).all(|(part, digits)| is_hex(part, digits));
    is_short || is_uuid(text)
}

/// A UUID, or the hash that stands for it in a static pod.
fn is_uid(text: &[u8]) -> bool {
    is_uuid(text) || is_hex(text, 32)
}

fn middle<'a>(text: &'a [u8], before: &[u8], behind: &[u8]) -> Option<&'a [u8]> {
    let middle = text.strip_prefix(before)?.strip_suffix(behind)?;
    (!middle.is_empty()).then_some(middle)
}

fn position(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn split_once<'a>(text: &'a [u8], part: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let place = position(text, part)?;
    Some((text.get(..place)?, text.get(place + part.len()..)?))
}
