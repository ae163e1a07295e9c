//! Names of threads, as they are now, and patterns for them.

use hashbrown::HashMap;

use crate::event::wire::COMM_BYTES;

/// Threads whose name is remembered at the most. A host at its default `threads-max`
/// has fewer.
pub(super) const NAMES_MAX: usize = 262_144;

/// Bytes of a remembered name at the worst: the table has twice the room it needs
/// just after it grew, and seven of eight places are used.
const BYTES_PER_NAME: usize = 2 * 8 * (size_of::<(u32, Comm)>() + 1) / 7;

/// The part of all memory that names may take.
const SHARE_OF_MEMORY: u64 = 16;

/// The name of a thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Comm([u8; COMM_BYTES]);

impl Comm {
    /// The bytes up to the first NUL, as many as the kernel keeps; `None` when that is
    /// nothing.
    pub(super) fn new(bytes: &[u8]) -> Option<Comm> {
        let mut comm = [0; COMM_BYTES];
        let kept = bytes.iter().take(COMM_BYTES - 1).take_while(|byte| **byte != 0);
        for (place, byte) in comm.iter_mut().zip(kept) {
            *place = *byte;
        }
        (comm[0] != 0).then_some(Comm(comm))
    }

    /// The name.
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    /// The name for people: what is no text, or could be taken for more than text, is
    /// shown as an escape.
    pub(super) fn to_text(self) -> String {
        self.as_bytes()
            .utf8_chunks()
            .flat_map(|chunk| {
                let valid = chunk.valid().chars().map(|c| {
                    if c.is_control() || turns_text(c) {
                        c.escape_default().to_string()
                    } else {
                        c.to_string()
                    }
                });
                let invalid = chunk.invalid().iter().map(|byte| format!("\\x{byte:02x}"));
                valid.chain(invalid).collect::<Vec<_>>()
            })
            .collect()
    }
}

/// Whether a letter turns the direction of the text round it.
fn turns_text(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Name by thread, of those that live.
#[derive(Debug)]
pub(super) struct Names {
    threads: HashMap<u32, Comm>,
    most: usize,
    left_out: u64,
}

impl Names {
    pub(super) fn new() -> Names {
        Names { threads: HashMap::new(), most: NAMES_MAX, left_out: 0 }
    }

    /// Bounds them to their share of `memory_bytes`.
    pub(super) fn bound(&mut self, memory_bytes: u64) {
        let share = memory_bytes / SHARE_OF_MEMORY / BYTES_PER_NAME as u64;
        self.most = usize::try_from(share).unwrap_or(NAMES_MAX).min(NAMES_MAX);
    }

    pub(super) fn get(&self, tid: u32) -> Option<Comm> {
        self.threads.get(&tid).copied()
    }

    /// Remembers a name. When there are too many a new thread stays without one, which
    /// is counted: no rule with a command can then be about it.
    pub(super) fn set(&mut self, tid: u32, comm: Comm) {
        if let Some(known) = self.threads.get_mut(&tid) {
            *known = comm;
        } else if self.threads.len() < self.most {
            self.threads.insert(tid, comm);
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn forget(&mut self, tid: u32) {
        self.threads.remove(&tid);
    }

    pub(super) fn len(&self) -> usize {
        self.threads.len()
    }

    pub(super) fn left_out(&self) -> u64 {
        self.left_out
    }

    pub(super) fn bytes(&self) -> usize {
        self.threads.allocation_size()
    }
}

/// A pattern for names: `*` is any letters, `?` is one.
#[derive(Clone, Debug)]
pub(super) struct Pattern(Vec<u8>);

impl Pattern {
    /// The kernel cuts names, so the literal front of a pattern is cut like one.
    pub(super) fn new(text: &str) -> Pattern {
        let bytes = text.as_bytes();
        let front = bytes.iter().position(|byte| matches!(byte, b'*' | b'?'));
        let front = front.unwrap_or(bytes.len());
        let kept = if front >= COMM_BYTES { COMM_BYTES - 1 } else { bytes.len() };
        Pattern(bytes.iter().take(kept).copied().collect())
    }

    /// Whether it takes any name, even one that is not known.
    pub(super) fn takes_all(&self) -> bool {
        self.0.iter().all(|byte| *byte == b'*')
    }

    /// Whether it takes this name.
    pub(super) fn takes(&self, name: &[u8]) -> bool {
        let (mut at, mut name_at) = (0, 0);
        // Behind the last `*`: there, and how much of the name it has taken.
        let mut star: Option<(usize, usize)> = None;
        while let Some(letter) = name.get(name_at) {
            match self.0.get(at) {
                Some(b'*') => {
                    at += 1;
                    star = Some((at, name_at));
                }
                Some(wanted) if *wanted == b'?' || wanted == letter => {
                    at += 1;
                    name_at += 1;
                }
                _ => {
                    // The last `*` takes one letter more.
                    let Some((behind, taken)) = star else { return false };
                    star = Some((behind, taken + 1));
                    (at, name_at) = (behind, taken + 1);
                }
            }
        }
        self.0.iter().skip(at).all(|byte| *byte == b'*')
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plainest way to say what a pattern means.
    fn takes(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((b'*', rest)) => (0..=name.len()).any(|taken| takes(rest, &name[taken..])),
            Some((b'?', rest)) => !name.is_empty() && takes(rest, &name[1..]),
            Some((letter, rest)) => name.first() == Some(letter) && takes(rest, &name[1..]),
        }
    }

    #[test]
    fn patterns_take_what_they_say() {
        let mut names = vec![Vec::new()];
        for length in 0..5 {
            let longer: Vec<Vec<u8>> =
                names.iter().filter(|n| n.len() == length).cloned().collect();
            names.extend(longer.iter().flat_map(|n| b"ab".map(|l| [n.clone(), vec![l]].concat())));
        }
        let mut patterns = vec![Vec::new()];
        for length in 0..4 {
            let longer: Vec<Vec<u8>> =
                patterns.iter().filter(|p| p.len() == length).cloned().collect();
            patterns
                .extend(longer.iter().flat_map(|p| b"ab*?".map(|l| [p.clone(), vec![l]].concat())));
        }
        for pattern in &patterns {
            let made = Pattern::new(std::str::from_utf8(pattern).unwrap());
            for name in &names {
                assert_eq!(made.takes(name), takes(pattern, name), "{pattern:?} {name:?}");
            }
        }
        assert_eq!((names.len(), patterns.len()), (63, 341));
    }

    #[test]
    fn a_name_the_kernel_cut_is_taken_by_its_front() {
        let long = Pattern::new("kube-controller-manager");
        assert!(long.takes(b"kube-controller") && !long.takes(b"kube-controlle"));
        assert!(Pattern::new("kube-controller-m*").takes(b"kube-controller"));
        assert!(Pattern::new("kube-*").takes(b"kube-controller"));
        assert!(!Pattern::new("*-worker").takes(b"systemd-journal"), "it has no literal front");
        assert!(Pattern::new("**").takes_all() && !Pattern::new("*?").takes_all());
    }

    #[test]
    fn names_are_cut_like_the_kernels_and_shown_without_harm() {
        assert_eq!(Comm::new(b""), None);
        assert_eq!(Comm::new(b"\0x"), None);
        let text = |bytes| Comm::new(bytes).unwrap().to_text();
        assert_eq!(text(b"nginx\0junk"), "nginx");
        assert_eq!(text(b"0123456789abcdefgh"), "0123456789abcde");
        assert_eq!(text(b"a\x1b[2J\xffb"), "a\\u{1b}[2J\\xffb");
        assert_eq!(text("a\u{202e}b".as_bytes()), "a\\u{202e}b");
    }

    #[test]
    fn too_many_names_are_left_out_and_counted() {
        let mut names = Names::new();
        names.bound(SHARE_OF_MEMORY * BYTES_PER_NAME as u64 * 3);
        let comm = |text: &str| Comm::new(text.as_bytes()).unwrap();
        for tid in 1..=5 {
            names.set(tid, comm("a"));
        }
        assert_eq!((names.len(), names.left_out(), names.get(4)), (3, 2, None));
        names.set(1, comm("b"));
        assert_eq!((names.get(1), names.left_out()), (Some(comm("b")), 2), "it has its place");
        names.forget(2);
        names.set(6, comm("c"));
        assert_eq!((names.get(6), names.left_out()), (Some(comm("c")), 2));
        names.bound(u64::MAX);
        assert_eq!(names.most, NAMES_MAX);
    }

    #[test]
    fn a_name_never_takes_more_than_is_reckoned() {
        let mut names = Names::new();
        for tid in 1..=20_000u32 {
            names.set(tid, Comm::new(b"x").unwrap());
            let most = (tid as usize).max(16) * BYTES_PER_NAME + 64;
            assert!(names.bytes() <= most, "{tid}: {} of {most}", names.bytes());
        }
    }
}
