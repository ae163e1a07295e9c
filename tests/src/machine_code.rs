//! Programs of a few instructions, without a compiler: nothing runs before them, they
//! need no library, and are there on every machine of an architecture we record.

/// Calls a program makes one after the other: number and first argument. The last one
/// must not return.
pub fn program(calls: &[(libc::c_long, u32)]) -> Vec<u8> {
    let code: Vec<u8> = calls.iter().flat_map(|(nr, arg)| instructions(*nr as u32, *arg)).collect();
    elf(&code)
}

/// Where the file lies in memory: `ld`'s own choice on x86-64.
const BASE: u64 = 0x40_0000;
/// `struct elf64_hdr` and one `struct elf64_phdr` (include/uapi/linux/elf.h).
const HEADERS_BYTES: u64 = 64 + 56;

/// A static executable of one segment.
fn elf(code: &[u8]) -> Vec<u8> {
    const MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };
    let bytes = HEADERS_BYTES + code.len() as u64;
    let header = [
        // An executable for this machine, version 1.
        (2, 2),
        (u64::from(MACHINE), 2),
        (1, 4),
        // Its entry, its program header behind this header, no sections, no flags.
        (BASE + HEADERS_BYTES, 8),
        (64, 8),
        (0, 8),
        (0, 4),
        // How long the headers are and how many there are.
        (64, 2),
        (56, 2),
        (1, 2),
        (0, 6),
    ];
    // The whole file is loaded at its place, readable and executable.
    let segment =
        [(1, 4), (5, 4), (0, 8), (BASE, 8), (BASE, 8), (bytes, 8), (bytes, 8), (0x1000, 8)];
    // Magic, 64 bits, little endian, version 1.
    let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    for (value, length) in header.into_iter().chain(segment) {
        file.extend(&u64::to_le_bytes(value)[..length]);
    }
    file.extend(code);
    file
}

/// `mov eax, nr; mov edi, arg; syscall`.
#[cfg(target_arch = "x86_64")]
fn instructions(nr: u32, arg: u32) -> Vec<u8> {
    [&[0xb8], &nr.to_le_bytes()[..], &[0xbf], &arg.to_le_bytes(), &[0x0f, 0x05]].concat()
}

/// `movz w8, nr; movz w0, arg; movk w0, arg >> 16, lsl 16; svc 0`.
#[cfg(target_arch = "aarch64")]
fn instructions(nr: u32, arg: u32) -> Vec<u8> {
    let words = [
        0x5280_0008 | (nr & 0xffff) << 5,
        0x5280_0000 | (arg & 0xffff) << 5,
        0x72a0_0000 | (arg >> 16) << 5,
        0xd400_0001,
    ];
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _, process::Command};

    use super::*;
    use crate::TestDirectory;

    #[test]
    fn a_program_of_two_calls_runs_and_ends_with_its_code() {
        let directory = TestDirectory::new();
        let path = directory.join("two-calls");
        fs::write(&path, program(&[(libc::SYS_getpid, 0), (libc::SYS_exit_group, 42)])).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(Command::new(&path).status().unwrap().code(), Some(42));
    }
}
