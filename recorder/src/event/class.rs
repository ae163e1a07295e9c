//! Classes of events: what is kept longest when memory runs out.

use super::{
    Call, Event, Kind,
    syscall::{self, Abi, Effect},
    wire::ATTACHMENT_FILES,
};

/// `EBADF`: there was no such descriptor.
pub(crate) const EBADF: i32 = 9;

/// `F_SETFD`, include/uapi/asm-generic/fcntl.h.
pub(crate) const F_SETFD: u64 = 2;

/// `FIONCLEX`, `FIOCLEX`: include/uapi/asm-generic/ioctls.h, the same on all architectures.
pub(crate) const FIONCLEX: u64 = 0x5450;
pub(crate) const FIOCLEX: u64 = 0x5451;

/// Blocks are kept and evicted by class. The number is part of the file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// Forks, execs, exits, losses, and every call that creates, moves or destroys
    /// descriptors, directories or credentials, or takes note of an end: what names and
    /// state follow from.
    State = 0,
    /// Signals, kills for want of memory, connections, slow calls, failures: what one
    /// looks for first.
    Precious = 1,
    /// The rest.
    Bulk = 2,
    /// Processes as they were at the window's left edge.
    Context = 3,
    /// Calls that had not returned at the freeze.
    Unfinished = 4,
    /// Counts of the last hour: no events.
    Rollup = 5,
}

/// A call that lasted longer is precious.
const SLOW_NS: u64 = 100_000_000;

/// `EAGAIN`, `EINTR`, `ETIMEDOUT`, `EINPROGRESS`, and the four that a signal makes of
/// a call that waits (`ERESTARTSYS` and its like): failures that are daily life.
pub const ORDINARY_FAILURES: [i32; 8] = [11, 4, 110, 115, 512, 513, 514, 516];

impl Class {
    /// The classes events fall into while they are recorded.
    pub const RECORDED: [Class; 3] = [Class::State, Class::Precious, Class::Bulk];

    /// The class with this number.
    pub fn from_number(number: u8) -> Option<Class> {
        match number {
            0 => Some(Class::State),
            1 => Some(Class::Precious),
            2 => Some(Class::Bulk),
            3 => Some(Class::Context),
            4 => Some(Class::Unfinished),
            5 => Some(Class::Rollup),
            _ => None,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Class::State => "state",
            Class::Precious => "precious",
            Class::Bulk => "bulk",
            Class::Context => "context",
            Class::Unfinished => "unfinished",
            Class::Rollup => "rollup",
        }
    }

    /// Whether blocks of it hold what happened in the window, or was happening at its end:
    /// the others are no events.
    pub fn has_events(self) -> bool {
        !matches!(self, Class::Context | Class::Rollup)
    }

    /// The class of an event recorded in ABI `native`.
    pub fn of(event: &Event<'_>, native: Abi) -> Class {
        match event.kind {
            Kind::Syscall => Self::of_call(event, native),
            Kind::ProcessFork
            | Kind::ProcessExec
            | Kind::ProcessExit
            | Kind::ProcessRename
            | Kind::ProcessReap
            | Kind::Cgroup
            | Kind::CgroupAttach
            | Kind::TcpState
            | Kind::Lost => Class::State,
            Kind::TcpRetransmit | Kind::TcpResetSent | Kind::TcpResetReceived | Kind::OomKill => {
                Class::Precious
            }
            Kind::Process | Kind::Descriptor | Kind::Cut => Class::Context,
            Kind::Rollup => Class::Rollup,
        }
    }

    fn of_call(event: &Event<'_>, native: Abi) -> Class {
        let Some(call) = Call::of(event) else { return Class::Bulk };
        if changes_state(event, call, call.abi(native)) {
            return Class::State;
        }
        let is_ordinary = call.returned() && Class::is_ordinary(call.errno(), call.dur_ns());
        if is_ordinary { Class::Bulk } else { Class::Precious }
    }

    /// Whether a call that returned ended as calls do all day. Another one with the same
    /// arguments and the same error, or none as well, that is ordinary too has the same class.
    #[inline]
    pub fn is_ordinary(errno: Option<i32>, dur_ns: Option<u64>) -> bool {
        errno.is_none_or(|errno| ORDINARY_FAILURES.contains(&errno))
            && dur_ns.is_none_or(|dur_ns| dur_ns <= SLOW_NS)
    }
}

/// Whether descriptors, directories or credentials may differ after a call.
fn changes_state(event: &Event<'_>, call: Call<'_, '_>, abi: Abi) -> bool {
    let arg = |place: usize| call.args().get(place).copied().unwrap_or_default();
    // A socket that begins to connect has failed, but has its address.
    if event.attached().iter().any(|attached| attached.index >= ATTACHMENT_FILES) {
        return true;
    }
    let (effect, changes) = syscall::on_state(abi, call.nr());
    match effect {
        // Whatever else went wrong, the descriptor is gone.
        Effect::Close => call.returned() && call.errno() != Some(EBADF),
        Effect::Fcntl => call.errno().is_none() && arg(1) == F_SETFD,
        Effect::Ioctl => call.errno().is_none() && [FIOCLEX, FIONCLEX].contains(&arg(1)),
        // Also one that found nobody, which differs by its result alone: of calls that are
        // the same but for that the class must be the same.
        Effect::Wait | Effect::WaitId => call.errno().is_none(),
        _ => changes && call.errno().is_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class_of(nr: u64, ret: i64, dur_ns: u64) -> Class {
        let mut event = Event::new(Kind::Syscall, 1);
        for number in [nr, ret.cast_unsigned(), dur_ns] {
            event.push_number(number);
        }
        Class::of(&event, Abi::X86_64)
    }

    #[test]
    fn what_one_looks_for_first_is_precious_and_daily_life_is_bulk() {
        assert_eq!(class_of(0, 10, 100), Class::Bulk, "a read");
        assert_eq!(class_of(0, -11, 100), Class::Bulk, "EAGAIN");
        assert_eq!(class_of(0, -5, 100), Class::Precious, "EIO");
        assert_eq!(class_of(0, 10, 200_000_000), Class::Precious, "a slow read");
        assert_eq!(class_of(257, 3, 100), Class::State, "an openat");
        assert_eq!(class_of(61, 3, 100), Class::State, "a wait4 that takes note of an end");
        assert_eq!(class_of(61, -10, 100), Class::Precious, "a wait4 without children");
        assert_eq!(class_of(257, -2, 100), Class::Precious, "an openat that fails");
    }

    /// Every wait that a signal interrupted was precious.
    #[test]
    fn a_call_that_is_made_again_has_not_failed() {
        for errno in [512, 513, 514, 516] {
            assert_eq!(class_of(0, -errno, 100), Class::Bulk, "{errno}");
        }
    }

    #[test]
    fn every_class_has_its_number() {
        for number in 0..=u8::MAX {
            if let Some(class) = Class::from_number(number) {
                assert_eq!(class as u8, number);
            }
        }
        assert_eq!(Class::from_number(6), None);
    }
}
