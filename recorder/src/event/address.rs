//! Socket addresses as the kernel lays them out.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{FlagSet, names, syscall::Abi};

/// `AF_UNIX`, `AF_INET`, `AF_INET6`, `AF_NETLINK`: include/linux/socket.h.
pub(crate) const AF_UNIX: u16 = 1;
pub(crate) const AF_INET: u16 = 2;
pub(crate) const AF_INET6: u16 = 10;

/// Whether sockets of a family have addresses and ports.
pub(crate) fn is_inet(family: u16) -> bool {
    matches!(family, AF_INET | AF_INET6)
}
pub(crate) const AF_NETLINK: u16 = 16;

/// An IPv4 or IPv6 address and its port.
pub(crate) fn inet(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?);
    match u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?) {
        AF_INET => {
            let address: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some((Ipv4Addr::from(address), port).into())
        }
        AF_INET6 => {
            let address: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some((Ipv6Addr::from(address), port).into())
        }
        _ => None,
    }
}

/// `10.0.0.1:443`, `[::1]:80`, `unix:/run/x`, `unix:@abstract`, `netlink:0`; other
/// families by name with their bytes; `None` for no address at all. Bytes, because
/// the path of a Unix socket may be no UTF-8.
pub(crate) fn show(bytes: &[u8]) -> Option<Vec<u8>> {
    let family = u16::from_ne_bytes(bytes.get(..2)?.try_into().ok()?);
    match family {
        AF_INET | AF_INET6 => Some(inet(bytes)?.to_string().into_bytes()),
        AF_UNIX => Some(unix(bytes.get(2..)?)),
        AF_NETLINK => {
            let port = u32::from_ne_bytes(bytes.get(4..8)?.try_into().ok()?);
            Some(format!("netlink:{port}").into_bytes())
        }
        _ => {
            let mut text = String::new();
            names::write_flags(FlagSet::AddressFamily, u64::from(family), Abi::X86_64, &mut text);
            text.push(':');
            for byte in bytes.get(2..)? {
                let _ = write!(text, "{byte:02x}");
            }
            Some(text.into_bytes())
        }
    }
}

/// An abstract name begins with a NUL and may hold any byte: NULs at its end are
/// padding to most programs, and are left out.
fn unix(path: &[u8]) -> Vec<u8> {
    match path.split_first() {
        Some((0, name)) if name.iter().any(|byte| *byte != 0) => {
            let end = name.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
            let name = name.get(..end).unwrap_or_default();
            let name = name.iter().map(|byte| if *byte == 0 { b'@' } else { *byte });
            b"unix:@".iter().copied().chain(name).collect()
        }
        Some((0, _)) | None => b"unix:".to_vec(),
        Some(_) => {
            let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
            [b"unix:", path.get(..end).unwrap_or_default()].concat()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_shown_as_people_write_them() {
        let show =
            |bytes: &[u8]| show(bytes).map(|text| String::from_utf8_lossy(&text).into_owned());
        let inet = [2, 0, 0x1f, 0x90, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0];
        assert_eq!(show(&inet).as_deref(), Some("127.0.0.1:8080"));
        let mut inet6 = vec![10, 0, 0, 80, 0, 0, 0, 0];
        inet6.extend(Ipv6Addr::LOCALHOST.octets());
        inet6.extend([0; 4]);
        assert_eq!(show(&inet6).as_deref(), Some("[::1]:80"));
        assert_eq!(show(b"\x01\0/run/x\0junk").as_deref(), Some("unix:/run/x"));
        assert_eq!(show(b"\x01\0\0name\0\0").as_deref(), Some("unix:@name"));
        assert_eq!(show(b"\x01\0").as_deref(), Some("unix:"));
        assert_eq!(show(&[16, 0, 0, 0, 7, 0, 0, 0]).as_deref(), Some("netlink:7"));
        for length in 0..8 {
            let _ = show(&inet[..length]);
            assert_eq!(show(&inet6[..length]), None);
        }
    }
}
