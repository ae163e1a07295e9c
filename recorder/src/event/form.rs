//! Calls that are many calls: an argument says what the others mean, and how many there
//! are. `fcntl(fd, F_GETFL)` has two arguments, `fcntl(fd, F_SETLK, {...})` three.
//!
//! This is the one place where that is decided: what the kernel programs read, text,
//! JSON and filters follow from it. What is not in a table has the arguments of the
//! call's row.

use recorder_ebpf::schema::{Choice, FlagSet, Layout, Meaning};

use super::syscall::Arg;

#[path = "form_table.rs"]
mod table;

pub use table::{
    ARCH_PRCTL, BPF, FCNTL, FCNTL64, FSCONFIG, FUTEX, FUTEX_TIME64, GETSOCKOPT, IOCTL, PRCTL,
    SECCOMP, SETSOCKOPT,
};

/// Every request of `ioctl(2)` that has a name.
pub(super) use table::REQUESTS;

/// The forms of a call.
#[derive(Debug)]
pub struct Forms {
    /// The argument that tells them apart.
    pub arg: u8,
    /// Whether only its low seven bits do.
    pub low: bool,
    /// The forms.
    pub rows: &'static [Form],
}

/// One form.
#[derive(Debug)]
pub struct Form {
    /// Values of the argument that tells.
    pub values: &'static [u32],
    /// The arguments.
    pub args: &'static [Arg],
}

impl Forms {
    /// The part of the argument that tells forms apart.
    pub fn key(&self, values: &[u64]) -> u32 {
        let value = values.get(usize::from(self.arg)).copied().unwrap_or_default() as u32;
        if self.low { value & 0x7f } else { value }
    }

    /// The form a call with these arguments has.
    pub fn find(&self, values: &[u64]) -> Option<&'static Form> {
        let key = self.key(values);
        self.rows.iter().find(|row| row.values.contains(&key))
    }
}

/// What an argument means that two others decide.
pub fn chosen(choice: Choice, values: &[u64]) -> Meaning {
    let value = |place: usize| values.get(place).copied().unwrap_or_default() as u32;
    match choice {
        Choice::SocketOption => Meaning::Flags(options_of(value(1))),
        Choice::Protocol => match value(0) {
            // AF_INET, AF_INET6; AF_NETLINK; AF_PACKET.
            2 | 10 => Meaning::Flags(FlagSet::InetProtocol),
            16 => Meaning::Flags(FlagSet::NetlinkProtocol),
            17 => Meaning::Hex,
            _ => Meaning::Int,
        },
    }
}

/// The options of a level of sockets.
fn options_of(level: u32) -> FlagSet {
    match level {
        0 => FlagSet::IpOption,
        1 => FlagSet::SocketOption,
        6 => FlagSet::TcpOption,
        17 => FlagSet::UdpOption,
        41 => FlagSet::Ipv6Option,
        263 => FlagSet::PacketOption,
        270 => FlagSet::NetlinkOption,
        _ => FlagSet::OtherOption,
    }
}

/// What lies in the value of an option of a socket with so many bytes.
pub fn socket_layout(values: &[u64], bytes: usize) -> Layout {
    let value = |place: usize| values.get(place).copied().unwrap_or_default() as u32;
    table::socket_value(value(1), value(2)).unwrap_or(match bytes {
        4 => Layout::IntValue,
        _ => Layout::Raw,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_decides_what_the_others_are() {
        let args = |values: &[u64]| FCNTL.find(values).map(|form| form.args.len());
        assert_eq!(args(&[3, 1, 0xdead]), Some(2), "F_GETFD");
        assert_eq!(args(&[3, 4, 0x800]), Some(3), "F_SETFL");
        assert_eq!(args(&[3, 9999, 0]), None);
        // Only the lower half counts, as for the kernel.
        assert_eq!(args(&[3, 0xffff_ffff_0000_0001, 0]), Some(2));
        // FUTEX_WAKE | FUTEX_PRIVATE_FLAG takes no time.
        assert_eq!(FUTEX.find(&[0x1000, 0x81, 1]).map(|form| form.args.len()), Some(3));
        assert_eq!(FUTEX.find(&[0x1000, 0x189]).map(|form| form.args.len()), Some(6));
        assert!(FCNTL.find(&[]).is_some(), "no value is 0, which is F_DUPFD");
    }

    #[test]
    fn no_value_has_two_forms_and_none_is_empty() {
        let all = [
            FCNTL,
            FCNTL64,
            IOCTL,
            PRCTL,
            ARCH_PRCTL,
            FUTEX,
            FUTEX_TIME64,
            BPF,
            SECCOMP,
            FSCONFIG,
            SETSOCKOPT,
            GETSOCKOPT,
        ];
        for forms in all {
            let mut values: Vec<u32> =
                forms.rows.iter().flat_map(|row| row.values).copied().collect();
            let count = values.len();
            values.sort_unstable();
            values.dedup();
            assert_eq!(values.len(), count);
            for row in forms.rows {
                assert!(row.args.len() > usize::from(forms.arg), "{row:?}");
            }
        }
    }

    #[test]
    fn options_have_the_names_of_their_level() {
        let option = |level: u64| chosen(Choice::SocketOption, &[3, level, 2]);
        assert_eq!(option(1), Meaning::Flags(FlagSet::SocketOption));
        assert_eq!(option(6), Meaning::Flags(FlagSet::TcpOption));
        assert_eq!(option(99), Meaning::Flags(FlagSet::OtherOption));
        assert_eq!(socket_layout(&[3, 1, 13], 8), Layout::Linger);
        assert_eq!(socket_layout(&[3, 99, 1], 4), Layout::IntValue);
        assert_eq!(socket_layout(&[3, 99, 1], 5), Layout::Raw);
    }
}
