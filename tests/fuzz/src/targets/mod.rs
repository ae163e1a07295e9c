//! The targets. Each is a function from bytes that panics where a parser does, or gives
//! what it must not.

pub mod canary;
#[cfg(feature = "capture")]
pub mod doors;
pub mod files;
pub mod groups;
#[cfg(feature = "capture")]
pub mod host;
pub mod privacy;
pub mod records;
pub mod recovery;
pub mod words;

use crate::{MEMORY_BYTES_MAX, Target, mutate};

/// The longest input, where a target does not say otherwise.
pub const BYTES_MAX: usize = 64 << 10;

/// What a message may take, however long it is: it has at most 65,536 values, and the
/// dearest are maps of one entry, for which the library takes 640 bytes each. One
/// message is taken apart at a time.
#[cfg(feature = "capture")]
const MESSAGE_MEMORY_BYTES_MAX: usize = 32 << 20;

const PLAIN: Target = Target {
    name: "",
    about: "",
    run: |_| {},
    make: |_| Vec::new(),
    mutate: mutate::bytes,
    smaller: |_| Vec::new(),
    mend: |_| {},
    bytes_max: BYTES_MAX,
    memory_bytes_max: MEMORY_BYTES_MAX,
    is_canary: false,
};

/// A canary that takes records.
const RECORD_CANARY: Target = Target {
    make: mutate::record::make,
    mutate: mutate::record::mutate,
    mend: mutate::record::mend,
    is_canary: true,
    ..PLAIN
};

/// The target of a name.
pub fn target(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// Every target.
pub const TARGETS: &[Target] = &[
    Target {
        name: "record",
        about: "a record of the ring: decoded, printed, folded",
        run: records::record,
        make: mutate::record::make,
        mutate: mutate::record::mutate,
        mend: mutate::record::mend,
        memory_bytes_max: 8 << 20,
        ..PLAIN
    },
    Target {
        name: "block",
        about: "a block before compression: read, written again, compared",
        run: records::block,
        make: mutate::block::make,
        mutate: mutate::block::mutate,
        memory_bytes_max: 64 << 20,
        ..PLAIN
    },
    Target {
        name: "snapshot",
        about: "a file: header, index, trailer, blocks, counts, or what is left of it; info, verify",
        run: files::snapshot,
        make: mutate::snapshot::make,
        mutate: mutate::snapshot::mutate,
        smaller: mutate::snapshot::smaller,
        ..PLAIN
    },
    Target {
        name: "replay",
        about: "a file from end to end: merged, named, printed as text and JSON",
        run: files::replayed,
        make: mutate::snapshot::make,
        mutate: mutate::snapshot::mutate,
        smaller: mutate::snapshot::smaller,
        ..PLAIN
    },
    Target {
        name: "state",
        about: "the host of a file at its moments: processes, open files, sockets",
        run: files::state,
        make: mutate::snapshot::make,
        mutate: mutate::snapshot::mutate,
        smaller: mutate::snapshot::smaller,
        ..PLAIN
    },
    Target {
        name: "recover",
        about: "what is whole of a damaged file, which makes one that is whole",
        run: recovery::recovered,
        make: mutate::snapshot::make,
        mutate: mutate::snapshot::mutate,
        smaller: mutate::snapshot::smaller,
        ..PLAIN
    },
    Target {
        name: "spool",
        about: "the files of a spool, which make a snapshot that is whole",
        run: recovery::spooled,
        make: mutate::spool::make,
        mutate: mutate::spool::mutate,
        smaller: mutate::spool::smaller,
        ..PLAIN
    },
    Target {
        name: "scrub",
        about: "a file without its secrets, which is whole and has as many events",
        run: recovery::scrubbed,
        make: mutate::snapshot::make,
        mutate: mutate::snapshot::mutate,
        smaller: mutate::snapshot::smaller,
        ..PLAIN
    },
    Target {
        name: "cgroup",
        about: "paths of control groups: container, pod, unit",
        run: groups::groups,
        make: groups::make,
        mutate: groups::mutate,
        bytes_max: 24 << 10,
        memory_bytes_max: 2 << 20,
        ..PLAIN
    },
    Target {
        name: "filter",
        about: "the words of a filter, and what passes it",
        run: words::filter,
        make: words::make_filter,
        mutate: words::mutate_filter,
        bytes_max: 4 << 10,
        memory_bytes_max: 8 << 20,
        ..PLAIN
    },
    Target {
        name: "privacy",
        about: "strings and arguments: masked, and masked again",
        run: privacy::privacy,
        make: privacy::make,
        mutate: privacy::mutate,
        bytes_max: 16 << 10,
        memory_bytes_max: 4 << 20,
        ..PLAIN
    },
    Target {
        name: "words",
        about: "moments, durations, amounts",
        run: words::words,
        make: words::make_word,
        mutate: words::mutate_word,
        bytes_max: 1 << 10,
        memory_bytes_max: 1 << 20,
        ..PLAIN
    },
    #[cfg(feature = "capture")]
    Target {
        name: "config",
        about: "the configuration file, and its rules on a stream",
        run: host::config,
        make: host::make_config,
        mutate: host::mutate_config,
        memory_bytes_max: 64 << 20,
        ..PLAIN
    },
    #[cfg(feature = "capture")]
    Target {
        name: "proc",
        about: "what /proc says of a thread: stat, syscall, status, fdinfo, net",
        run: host::proc,
        make: host::make_proc,
        mutate: host::mutate_proc,
        bytes_max: 8 << 10,
        memory_bytes_max: 1 << 20,
        ..PLAIN
    },
    #[cfg(feature = "capture")]
    Target {
        name: "pressure",
        about: "what /proc/pressure says, judged by rules",
        run: host::pressure,
        make: host::make_pressure,
        mutate: host::mutate_pressure,
        bytes_max: 8 << 10,
        memory_bytes_max: 1 << 20,
        ..PLAIN
    },
    #[cfg(feature = "capture")]
    Target {
        name: "btf",
        about: "the kernel's types",
        run: host::btf,
        make: host::make_btf,
        mutate: host::mutate_btf,
        memory_bytes_max: 16 << 20,
        ..PLAIN
    },
    #[cfg(feature = "capture")]
    Target {
        name: "alertmanager",
        about: "a message of Alertmanager",
        run: doors::alertmanager,
        make: doors::make_alertmanager,
        mutate: mutate::json::mutate,
        smaller: mutate::json::smaller,
        memory_bytes_max: MESSAGE_MEMORY_BYTES_MAX,
        ..PLAIN
    },
    #[cfg(feature = "capture")]
    Target {
        name: "grafana",
        about: "a message of Grafana",
        run: doors::grafana,
        make: doors::make_grafana,
        mutate: mutate::json::mutate,
        smaller: mutate::json::smaller,
        memory_bytes_max: MESSAGE_MEMORY_BYTES_MAX,
        ..PLAIN
    },
    #[cfg(feature = "capture")]
    Target {
        name: "pagerduty",
        about: "a message of PagerDuty",
        run: doors::pagerduty,
        make: doors::make_pagerduty,
        mutate: mutate::json::mutate,
        smaller: mutate::json::smaller,
        memory_bytes_max: MESSAGE_MEMORY_BYTES_MAX,
        ..PLAIN
    },
    #[cfg(feature = "capture")]
    Target {
        name: "generic",
        about: "any JSON as a trigger",
        run: doors::generic,
        make: doors::make_generic,
        mutate: mutate::json::mutate,
        smaller: mutate::json::smaller,
        memory_bytes_max: MESSAGE_MEMORY_BYTES_MAX,
        ..PLAIN
    },
    #[cfg(feature = "capture")]
    Target {
        name: "signature",
        about: "tokens and signatures, by who does not know the secret",
        run: doors::signature,
        make: doors::make_signature,
        mutate: doors::mutate_signature,
        memory_bytes_max: 1 << 20,
        ..PLAIN
    },
    #[cfg(feature = "capture")]
    Target {
        name: "match",
        about: "patterns and names of hosts, against the simplest way to compare them",
        run: doors::matching,
        make: doors::make_matching,
        mutate: doors::mutate_matching,
        bytes_max: 3 << 10,
        memory_bytes_max: 8 << 20,
        ..PLAIN
    },
    #[cfg(feature = "capture")]
    Target {
        name: "control",
        about: "the other bodies of the control socket, both ways, and what is remembered",
        run: doors::control,
        make: doors::make_control,
        mutate: mutate::json::mutate,
        smaller: mutate::json::smaller,
        memory_bytes_max: MESSAGE_MEMORY_BYTES_MAX,
        ..PLAIN
    },
    Target {
        name: "canary-panic",
        about: "panics for a snapshot whose checksums are right and whose machine is not",
        run: canary::panics,
        make: mutate::snapshot::make,
        mutate: mutate::snapshot::mutate,
        smaller: mutate::snapshot::smaller,
        is_canary: true,
        ..PLAIN
    },
    Target {
        name: "canary-slow",
        about: "does not end for some records",
        run: canary::is_slow,
        ..RECORD_CANARY
    },
    Target {
        name: "canary-waits",
        about: "waits for nothing for some records",
        run: canary::waits,
        ..RECORD_CANARY
    },
    Target {
        name: "canary-threads",
        about: "has threads that take memory for some records",
        run: canary::threads_take_memory,
        ..RECORD_CANARY
    },
    Target {
        name: "canary-memory",
        about: "believes a length for some records",
        run: canary::takes_memory,
        ..RECORD_CANARY
    },
    Target {
        name: "canary-crash",
        about: "goes as deep as brackets do",
        run: canary::crashes,
        make: |_| b"{\"a\":[1,2,3]}".to_vec(),
        mutate: mutate::json::mutate,
        smaller: mutate::json::smaller,
        is_canary: true,
        ..PLAIN
    },
];
