//! The floor: programs on the same hooks that do less than the recorder.

use std::path::Path;

use aya::{
    Btf, Ebpf, EbpfLoader,
    maps::{MapData, RingBuf},
    programs::{BtfTracePoint, tp_btf::BtfTracePointLinkId},
};

/// Two programs that are attached together.
pub(crate) struct Rung {
    /// Its name in JSON.
    pub(crate) key: &'static str,
    /// Its name for people.
    pub(crate) label: &'static str,
    /// The program on `sys_enter`.
    pub(crate) enter: &'static str,
    /// The program on `sys_exit`.
    pub(crate) exit: &'static str,
}

/// In the order of what they do, see `recorder-ebpf/src/floor.rs`.
pub(crate) const RUNGS: [Rung; 4] = [
    Rung { key: "empty", label: "two empty programs", enter: "empty_enter", exit: "empty_exit" },
    Rung { key: "clock", label: "+ both read the clock", enter: "clock_enter", exit: "clock_exit" },
    Rung { key: "slot", label: "+ task storage", enter: "slot_enter", exit: "slot_exit" },
    Rung { key: "record", label: "+ BPF ring", enter: "record_enter", exit: "record_exit" },
];

/// The place of the floor in [`RUNGS`].
pub(crate) const EMPTY: usize = 0;

/// The place of the two that read the clock.
pub(crate) const CLOCK: usize = 1;

/// The loaded programs; each rung is attached and detached many times.
pub(crate) struct Floor {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
}

/// What is attached.
pub(crate) struct Attached {
    links: [(&'static str, BtfTracePointLinkId); 2],
}

impl Floor {
    /// Loads the object at `path`.
    pub(crate) fn load(path: &Path) -> Floor {
        let btf = Btf::from_sys_fs().expect("the kernel's BTF, which the floor's programs need");
        let mut loader = EbpfLoader::new();
        loader.allow_unsupported_maps();
        let pid = std::process::id();
        loader.override_global("MEASURED_PID", &pid, true);
        let loaded = loader.load_file(path);
        let mut ebpf = loaded.unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
        for rung in &RUNGS {
            for (name, tracepoint) in [(rung.enter, "sys_enter"), (rung.exit, "sys_exit")] {
                let loaded = program(&mut ebpf, name).load(tracepoint, &btf);
                loaded.unwrap_or_else(|error| panic!("loading {name}: {error:?}"));
            }
        }
        let ring = ebpf.take_map("RING").expect("the map RING");
        let ring = RingBuf::try_from(ring).expect("a ring");
        Floor { ebpf, ring }
    }

    /// Attaches the programs of a rung.
    pub(crate) fn attach(&mut self, rung: &Rung) -> Attached {
        let mut attach = |name: &'static str| {
            let attached = program(&mut self.ebpf, name).attach();
            (name, attached.unwrap_or_else(|error| panic!("attaching {name}: {error:?}")))
        };
        Attached { links: [attach(rung.enter), attach(rung.exit)] }
    }

    /// Detaches them.
    pub(crate) fn detach(&mut self, attached: Attached) {
        for (name, link) in attached.links {
            let detached = program(&mut self.ebpf, name).detach(link);
            detached.unwrap_or_else(|error| panic!("detaching {name}: {error:?}"));
        }
    }

    /// Empties the ring; answers how many records were in it.
    pub(crate) fn drain(&mut self) -> u64 {
        let mut records = 0;
        while self.ring.next().is_some() {
            records += 1;
        }
        records
    }
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &str) -> &'a mut BtfTracePoint {
    let program = ebpf.program_mut(name).unwrap_or_else(|| panic!("the object has no {name}"));
    program.try_into().expect("a program on a BTF tracepoint")
}
