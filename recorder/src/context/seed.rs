//! The first state: every thread that `/proc` shows.

use std::fs;

use super::{ARGS_BYTES_MAX, COMM_LENGTH_MAX, Processes, THREADS_MAX, ThreadFacts};
use crate::{clock, probe::numbers_in};

/// Nanoseconds of a tick of `/proc/PID/stat`: `USER_HZ` is 100 on every
/// architecture we run on (include/asm-generic/param.h).
const TICK_NS: u64 = 10_000_000;

/// Reads every thread. A thread that ends half way is left out or has less:
/// its exit is among the events.
pub fn scan() -> Processes {
    let mut processes = Processes::default();
    // `/proc` counts from the boot with suspends, events without.
    let suspended_ns = clock::suspended_ns();
    for pid in numbers_in("/proc") {
        let directory = format!("/proc/{pid}");
        let program = fs::read_link(format!("{directory}/exe"))
            .map(|path| path.into_os_string().into_encoded_bytes())
            .unwrap_or_default();
        let mut args = fs::read(format!("{directory}/cmdline")).unwrap_or_default();
        args.truncate(ARGS_BYTES_MAX);
        for tid in numbers_in(&format!("{directory}/task")) {
            if processes.len() >= THREADS_MAX {
                return processes;
            }
            let as_of_ns = clock::monotonic_ns();
            let stat = fs::read(format!("{directory}/task/{tid}/stat")).unwrap_or_default();
            let Some((comm, ppid, ticks)) = parse_stat(&stat) else { continue };
            processes.insert(
                tid,
                ThreadFacts {
                    pid,
                    ppid,
                    start_ns: ticks.saturating_mul(TICK_NS).saturating_sub(suspended_ns),
                    as_of_ns,
                    comm: comm.to_vec(),
                    program: if tid == pid { program.clone() } else { Vec::new() },
                    args: if tid == pid { args.clone() } else { Vec::new() },
                },
            );
        }
    }
    processes
}

/// Name, parent and start time from `/proc/PID/stat` (proc_pid_stat(5)). The name
/// may hold blanks and brackets: it ends at the last one.
pub fn parse_stat(stat: &[u8]) -> Option<(&[u8], u32, u64)> {
    let open = stat.iter().position(|byte| *byte == b'(')?;
    let close = stat.iter().rposition(|byte| *byte == b')')?;
    let comm = stat.get(open + 1..close)?;
    let comm = comm.get(..comm.len().min(COMM_LENGTH_MAX))?;
    let rest = std::str::from_utf8(stat.get(close + 1..)?).ok()?;
    let mut fields = rest.split_whitespace();
    let ppid = fields.nth(1)?.parse().ok()?;
    // Field 22 counted from 1; the state is field 3.
    let ticks = fields.nth(17)?.parse().ok()?;
    Some((comm, ppid, ticks))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_and_blanks_is_read_whole() {
        let stat = b"42 (a) (b c) S 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 12345 0 0";
        assert_eq!(parse_stat(stat), Some((&b"a) (b c"[..], 7, 12345)));
        for damaged in [&b""[..], b"42", b"42 (x", b"42 (x) S", b")(", b"42 (x) S 7 \xff"] {
            assert_eq!(parse_stat(damaged), None);
        }
    }

    #[test]
    fn this_process_is_found_with_its_program() {
        let processes = scan();
        let own = processes.get(std::process::id()).expect("this process is in /proc");
        assert!(!own.comm.is_empty() && !own.program.is_empty() && own.start_ns > 0);
    }
}
