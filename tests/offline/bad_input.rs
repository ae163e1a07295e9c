//! Files that are damaged, cut, hostile or no snapshots at all: one clear line, the
//! right exit code, never a panic, and what is whole is still given.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead as _, BufReader},
    ops::ControlFlow,
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::Path,
    process::{Command, Stdio},
};

use recorder::{
    event::Kind,
    replay::replay,
    snapshot::{FORMAT_VERSION, SnapshotError, SnapshotReader, verify},
};
use recorder_tests::synth::{Made, Random, Synth};

use crate::{
    golden, program,
    scratch::{Scratch, rounds},
};

const COMMANDS: [&str; 4] = ["info", "replay", "state", "verify"];

fn run(command: &str, path: &Path) -> program::Ran {
    program::run([command, path.to_str().unwrap()])
}

/// Replays a file through the library and answers how many events it gave.
fn replayed(reader: &SnapshotReader) -> (u64, usize) {
    let mut last_ns = 0;
    let done = replay(reader, &|_| false, &mut |_| {}, &mut |event, _| {
        assert!(event.ts_ns >= last_ns, "{} after {last_ns}", event.ts_ns);
        last_ns = event.ts_ns;
        ControlFlow::Continue(())
    });
    (done.events, done.damage.len())
}

/// Whether checking the file finds nothing to say against it.
fn is_called_whole(path: &Path) -> bool {
    verify(path, &mut |_, _| {}).is_ok_and(|verdict| verdict.complaints.is_empty())
}

#[test]
fn what_is_no_snapshot_is_refused_in_one_line() {
    let scratch = Scratch::new();
    let sample = fs::read(golden::newest_sample()).unwrap();
    let text = b"a text that is long enough to have all the bytes of a header".as_slice();
    let mut newer = sample.clone();
    newer[12..16].copy_from_slice(&(FORMAT_VERSION + 1).to_le_bytes());
    let version = format!(
        "format version {}, this program reads up to {FORMAT_VERSION}: use a newer",
        FORMAT_VERSION + 1
    );
    let mut random = Random::new(7);
    let files: [(&str, &[u8], &str); 6] = [
        ("empty", b"", "empty"),
        ("short", &sample[..19], "short"),
        ("text", text, "does not begin"),
        ("random", &(0..5_000).map(|_| random.next_u64() as u8).collect::<Vec<_>>(), "not a"),
        ("header only in part", &sample[..200], "header"),
        ("newer", &newer, &version),
    ];
    for command in COMMANDS {
        for (name, bytes, word) in files {
            let ran = run(command, &scratch.file("file.kfr", bytes));
            ran.failed_with(65, &format!("{command} {name}"));
            assert!(ran.stderr.contains(word), "{command} {name}: {}", ran.stderr);
            assert_eq!(ran.stdout, "", "{command} {name}");
        }
        let ran = run(command, scratch.path());
        ran.failed_with(65, &format!("{command} of a directory"));
        assert!(ran.stderr.contains("directory"), "{}", ran.stderr);
        let ran = run(command, &scratch.path().join("nothing"));
        ran.failed_with(1, &format!("{command} of a missing file"));
        let ran = run(command, Path::new("/dev/zero"));
        ran.failed_with(65, &format!("{command} of a device"));
    }
}

/// Nobody writes into it: opening it must not wait for that.
#[test]
fn a_fifo_is_refused_at_once() {
    let scratch = Scratch::new();
    let fifo = scratch.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for command in COMMANDS {
        let mut limited = Command::new("timeout");
        limited.arg("20").arg(program::path()).arg(command).arg(&fifo);
        let ran = program::finished(limited.output().unwrap());
        ran.failed_with(65, command);
        assert!(ran.stderr.contains("regular file"), "{}", ran.stderr);
    }
}

#[test]
fn a_file_one_may_not_read_is_told_apart() {
    let scratch = Scratch::new();
    let file = scratch.file("file.kfr", b"x");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    // Nobody may come to the program where it was built, perhaps.
    let copy = scratch.path().join("recorder");
    fs::copy(program::path(), &copy).unwrap();
    let nobody = |arguments: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy);
        command.args(arguments).output()
    };
    if !nobody(&["--version"]).is_ok_and(|output| output.status.success()) {
        recorder_tests::skip("setpriv cannot become nobody here");
        return;
    }
    for command in COMMANDS {
        let ran = program::finished(nobody(&[command, file.to_str().unwrap()]).unwrap());
        ran.failed_with(77, command);
    }
}

/// Where the frames of a file end, header first.
fn frame_ends(path: &Path) -> Vec<usize> {
    let reader = SnapshotReader::open(path).unwrap();
    let blocks = reader.blocks();
    let mut ends = vec![blocks[0].offset as usize];
    ends.extend(blocks.iter().map(|entry| (entry.offset + u64::from(entry.frame_bytes)) as usize));
    ends
}

#[test]
fn a_file_cut_at_any_byte_gives_the_whole_blocks_before() {
    let scratch = Scratch::new();
    let path = golden::newest_sample();
    let sample = fs::read(&path).unwrap();
    let ends = frame_ends(&path);
    let whole = SnapshotReader::open(&path).unwrap();
    let cut = scratch.file("cut.kfr", &sample);
    let file = OpenOptions::new().write(true).open(&cut).unwrap();
    for length in (0..sample.len()).rev() {
        file.set_len(length as u64).unwrap();
        let reader = match SnapshotReader::open(&cut) {
            Ok(reader) => reader,
            Err(error) => {
                assert!(length < ends[0], "cut at {length}: {error}");
                assert!(matches!(error, SnapshotError::NotASnapshot(..)), "{length}: {error}");
                continue;
            }
        };
        assert!(!reader.complaints().is_empty(), "cut at {length} and no complaint");
        let blocks = ends.iter().skip(1).filter(|end| **end <= length).count();
        assert_eq!(reader.blocks(), &whole.blocks()[..blocks], "cut at {length}");
        let recorded = reader.blocks().iter().filter(|entry| entry.meta.class.has_events());
        let events: u64 = recorded.map(|entry| u64::from(entry.meta.count)).sum();
        assert_eq!(replayed(&reader), (events, 0), "cut at {length}");
    }
}

#[test]
fn the_program_says_of_a_cut_file_what_it_has() {
    let scratch = Scratch::new();
    let path = golden::newest_sample();
    let sample = fs::read(&path).unwrap();
    let all = program::run(["replay", path.to_str().unwrap()]).stdout;
    let ends = frame_ends(&path);
    let mut lengths: Vec<usize> =
        ends.iter().flat_map(|end| [end - 1, *end, end + 1]).chain([sample.len() - 1]).collect();
    let mut random = Random::new(11);
    lengths.extend((0..rounds(20)).map(|_| random.below(sample.len() as u64) as usize));
    for length in lengths {
        let cut = scratch.file("cut.kfr", &sample[..length]);
        for command in COMMANDS {
            let ran = run(command, &cut);
            ran.failed_with(65, &format!("{command} of {length} bytes"));
            let has_header = length >= ends[0];
            assert_eq!(ran.stdout.is_empty(), !has_header, "{command} of {length} bytes");
            if command == "replay" && has_header {
                // Names may be missing with the context: times and calls are the same.
                let events = ran.stdout.lines().count();
                assert!(events <= all.lines().count(), "{length}: {}", ran.stdout);
            }
        }
    }
    let without_end = scratch.file("cut.kfr", &sample[..*ends.last().unwrap()]);
    assert_eq!(run("replay", &without_end).stdout, all, "all blocks are there");
}

#[test]
fn no_flipped_bit_is_called_whole() {
    let scratch = Scratch::new();
    let sample = fs::read(golden::newest_sample()).unwrap();
    let flipped = scratch.file("flipped.kfr", &sample);
    let file = OpenOptions::new().write(true).open(&flipped).unwrap();
    assert!(is_called_whole(&flipped));
    for (place, byte) in sample.iter().enumerate() {
        for bit in 0..8 {
            file.write_all_at(&[byte ^ 1 << bit], place as u64).unwrap();
            assert!(!is_called_whole(&flipped), "bit {bit} of byte {place} is called whole");
        }
        if let Ok(reader) = SnapshotReader::open(&flipped) {
            replayed(&reader);
        }
        file.write_all_at(&[*byte], place as u64).unwrap();
    }
}

#[test]
fn the_program_ends_with_65_for_a_flipped_bit() {
    let scratch = Scratch::new();
    let sample = fs::read(golden::newest_sample()).unwrap();
    let mut random = Random::new(13);
    for _ in 0..rounds(30) {
        let (place, bit) = (random.below(sample.len() as u64) as usize, random.below(8));
        let mut bytes = sample.clone();
        bytes[place] ^= 1 << bit;
        let file = scratch.file("flipped.kfr", &bytes);
        for command in ["replay", "verify"] {
            run(command, &file).failed_with(65, &format!("{command}, bit {bit} of byte {place}"));
        }
        let info = run("info", &file);
        if info.code != Some(0) {
            info.failed_with(65, &format!("info, bit {bit} of byte {place}"));
        }
    }
}

/// Several bytes changed, moved or left out: also behind a whole header.
#[test]
fn random_damage_is_survived() {
    let scratch = Scratch::new();
    let sample = fs::read(golden::newest_sample()).unwrap();
    let header = frame_ends(&golden::newest_sample())[0] as u64;
    for seed in 0..rounds(500) {
        let mut random = Random::new(seed);
        let mut bytes = sample.clone();
        match random.below(4) {
            0 => {
                bytes.truncate(header as usize);
                bytes.extend(random.bytes(5_000));
            }
            1 => {
                let from = header + random.below(bytes.len() as u64 - header);
                bytes.drain(
                    from as usize..(from + random.below(50)).min(sample.len() as u64) as usize,
                );
            }
            2 => {
                let from = header + random.below(bytes.len() as u64 - header);
                let more = random.bytes(100);
                bytes.splice(from as usize..from as usize, more);
            }
            _ => {}
        }
        for _ in 0..=random.below(20) {
            let place = header + random.below((bytes.len() as u64).saturating_sub(header));
            if let Some(byte) = bytes.get_mut(place as usize) {
                *byte = byte.wrapping_add(1 + random.below(255) as u8);
            }
        }
        let path = scratch.file("damaged.kfr", &bytes);
        assert!(!is_called_whole(&path) || bytes == sample, "seed {seed} is called whole");
        if let Ok(reader) = SnapshotReader::open(&path) {
            replayed(&reader);
        }
    }
}

/// Changes bytes of the index and makes its checksum right again: index, seek
/// table and blocks must agree, not only have whole checksums.
#[test]
fn an_index_that_lies_is_noticed() {
    let scratch = Scratch::new();
    let path = golden::newest_sample();
    let sample = fs::read(&path).unwrap();
    let index = *frame_ends(&path).last().unwrap();
    let payload = index + 20;
    let bytes = u32::from_le_bytes(sample[index + 4..index + 8].try_into().unwrap()) as usize - 12;
    for place in 0..bytes {
        let mut lying = sample.clone();
        lying[payload + place] ^= 1;
        let crc = crc32c::crc32c(&lying[payload..payload + bytes]);
        lying[index + 16..index + 20].copy_from_slice(&crc.to_le_bytes());
        let path = scratch.file("lying.kfr", &lying);
        assert!(!is_called_whole(&path), "byte {place}");
    }
}

/// Whoever made the file chose its numbers and words.
#[test]
fn a_hostile_header_neither_stops_the_program_nor_reaches_the_terminal() {
    let scratch = Scratch::new();
    let evil = "\u{1b}]0;title\u{7}\nsecond line\u{202e}".to_string();
    let mut synth = Synth::sample();
    let header = &mut synth.header;
    header.host = evil.clone();
    header.kernel = evil.clone();
    header.boot_id = evil.clone();
    header.trigger.reason = evil.clone();
    header.trigger.labels = [(evil.clone(), evil.clone())].into();
    header.missing[0].what = evil.clone();
    header.missing[0].why = evil.clone();
    header.ledger.calls = std::mem::take(&mut header.ledger.calls)
        .into_values()
        .map(|call| (evil.clone(), call))
        .collect();
    header.ledger.lost = [(evil.clone(), u64::MAX), ("ring_full".to_string(), u64::MAX)].into();
    header.ledger.seen = u64::MAX;
    header.clock.wall_ns = i64::MAX;
    header.trigger.at_ns = u64::MAX;
    header.freeze_us = u64::MAX;
    let path = synth.write(scratch.path());
    for command in COMMANDS {
        let ran = run(command, &path);
        ran.succeeded(command);
        let is_harmless = |c: char| !c.is_control() || c == '\n';
        assert!(ran.stdout.chars().all(is_harmless), "{command}: {:?}", ran.stdout);
        assert!(!ran.stdout.contains('\u{202e}'), "{command}: {:?}", ran.stdout);
        assert!(!ran.stdout.contains("\nsecond"), "{command}: {:?}", ran.stdout);
    }
    program::run(["info", "--format", "json", path.to_str().unwrap()]).succeeded("json");
    synth.header.arch = evil;
    let path = synth.write(scratch.path());
    run("replay", &path).failed_with(65, "an unknown machine");
}

#[test]
fn times_at_the_edge_of_the_clock_are_replayed_in_order() {
    let scratch = Scratch::new();
    let mut synth = Synth::sample();
    synth.header.clock.monotonic_ns = u64::MAX;
    for (place, ts_ns) in [u64::MAX - 1, u64::MAX, u64::MAX].into_iter().enumerate() {
        synth.events.push(Made::call(ts_ns, place as u16 % 2, 101, 39, 101, &[u64::MAX]));
    }
    synth.unfinished[0].ts_ns = u64::MAX;
    let path = synth.write(scratch.path());
    let reader = SnapshotReader::open(&path).unwrap();
    assert!(replayed(&reader).0 > 3);
    for format in ["text", "jsonl"] {
        program::run(["replay", "--format", format, path.to_str().unwrap()]).succeeded(format);
    }
}

/// A process's words are as long as the file says: what is kept of each is bounded,
/// or forks would multiply them.
#[test]
fn long_words_are_not_kept_once_for_every_child() {
    let scratch = Scratch::new();
    let mut synth = Synth::sample();
    let long = vec![b'x'; 1 << 20];
    let at = synth.header.clock.monotonic_ns;
    synth.events = vec![
        Made::new(Kind::ProcessExec, at, 0, 500, &[500, 1]).with(0, &long).with(1, &long),
        Made::new(Kind::ProcessRename, at, 0, 500, &[]).with(0, &long),
    ];
    for child in 0..1_000 {
        synth.events.push(Made::new(
            Kind::ProcessFork,
            at,
            0,
            500,
            &[1_000 + child, 1_000 + child],
        ));
    }
    let path = synth.write(scratch.path());
    let reader = SnapshotReader::open(&path).unwrap();
    let mut bytes_max = 0;
    replay(&reader, &|_| false, &mut |_| {}, &mut |_, processes| {
        bytes_max = bytes_max.max(processes.bytes());
        ControlFlow::Continue(())
    });
    assert!(bytes_max < 16 << 20, "{bytes_max} bytes");
}

#[test]
fn a_closed_pipe_is_a_quiet_end() {
    let scratch = Scratch::new();
    let path = Synth::random(3, 2, 20_000).write(scratch.path());
    for format in ["text", "jsonl"] {
        let mut command = program::command();
        command.args(["replay", "--format", format]).arg(&path);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ran = program::finished(child.wait_with_output().unwrap());
        ran.succeeded(format);
        assert!(!line.is_empty());
    }
}

#[test]
fn an_output_that_takes_nothing_is_a_failure() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    for command in COMMANDS {
        let mut run = program::command();
        run.arg(command).arg(golden::newest_sample()).stdout(full.try_clone().unwrap());
        program::finished(run.output().unwrap()).failed_with(1, command);
    }
}

#[test]
fn wrong_arguments_are_a_usage_error_with_the_remedy() {
    let sample = golden::newest_sample();
    let sample = sample.to_str().unwrap();
    let wrong: [(&[&str], &str); 14] = [
        (&["replay", sample, "--format", "nonsense"], "jsonl"),
        (&["info", sample, "--format", "nonsense"], "json"),
        (&["replay", sample, "-e", "trace=opnat"], "%file"),
        (&["replay", sample, "-e", "trace=%nothing"], "%file"),
        (&["replay", sample, "--since", "yesterday"], "t-30s"),
        (&["replay", sample, "--until", "25:00:00"], "t-30s"),
        (&["replay", sample, "--duration", "5"], "250ms"),
        (&["replay", sample, "--pid", "cat"], "--pid"),
        (&["state", sample, "nothing"], "sockets"),
        (&["state", sample, "--at", "yesterday"], "t-30s"),
        (&["state", sample, "--at", "1h ago"], "outside of what the snapshot knows"),
        (&["replay"], "<FILE>"),
        (&["reply", sample], "replay"),
        (&[], "Usage"),
    ];
    for (arguments, remedy) in wrong {
        let ran = program::run(arguments);
        assert_eq!(ran.code, Some(2), "{arguments:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(remedy), "{arguments:?}: {}", ran.stderr);
        assert!(!ran.stderr.contains("panicked"), "{arguments:?}: {}", ran.stderr);
        assert_eq!(ran.stdout, "", "{arguments:?}");
    }
}

/// A program that may take 256 MiB and two seconds of a CPU, as few as there are.
fn bounded(words: &[&str]) -> std::process::Output {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(recorder_tests::binary());
    command.args(words).stdin(Stdio::null());
    let limit = |resource, most: u64| {
        let limits = libc::rlimit { rlim_cur: most, rlim_max: most };
        // SAFETY: a whole structure; the call only changes the child.
        match unsafe { libc::setrlimit(resource, &raw const limits) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: between fork and exec nothing but two calls.
    unsafe {
        command.pre_exec(move || {
            limit(libc::RLIMIT_DATA, 256 << 20)?;
            limit(libc::RLIMIT_CPU, 2)
        });
    }
    command.output().unwrap()
}

/// Files that claim much more than they are: none of them costs more than it is.
#[test]
fn bombs_are_refused_in_little_time_and_memory() {
    const BYTES: usize = 1 << 20;
    let scratch = Scratch::new();
    let sample = fs::read(golden::newest_sample()).unwrap();
    let ends = frame_ends(&golden::newest_sample());
    let header = &sample[..ends[0]];
    let behind_header = |rest: &[u8]| [header, rest].concat();
    // A frame of zstd: magic, a descriptor with eight bytes of size, a window, the size.
    let zstd_head = |bytes: u64| {
        let mut head = 0xFD2F_B528u32.to_le_bytes().to_vec();
        head.extend([0xC0, 0x58]);
        head.extend(bytes.to_le_bytes());
        head
    };
    let run_length = |last: bool| {
        let block = u32::from(last) | 1 << 1 | (128 << 10) << 3;
        let mut bytes = block.to_le_bytes()[..3].to_vec();
        bytes.push(b'x');
        bytes
    };
    let terabyte = [zstd_head(1 << 40), run_length(true)].concat();
    let mut long = zstd_head(32 << 30);
    while long.len() < BYTES {
        long.extend(run_length(false));
    }
    long.extend(run_length(true));
    let empty_skippable = [0x184D_2A5Fu32.to_le_bytes(), 0u32.to_le_bytes()].concat();
    // Single segment, one byte of size, an empty raw block that is the last.
    let empty_zstd = [&0xFD2F_B528u32.to_le_bytes()[..], &[0x20, 0, 1, 0, 0]].concat();
    let only_magic = 0xFD2F_B528u32.to_le_bytes();
    let table = |frames: u32| {
        let mut end = frames.to_le_bytes().to_vec();
        end.push(0);
        end.extend(0x8F92_EAB1u32.to_le_bytes());
        end
    };
    // The index of the sample, each entry of which points at the first block again.
    let mut back = sample.clone();
    let index = *ends.last().unwrap();
    let length = u32::from_le_bytes(back[index + 4..index + 8].try_into().unwrap()) as usize;
    let payload = index + 20..index + 8 + length;
    let second = (ends[1] as u64).to_le_bytes();
    let place = back[payload.clone()].windows(8).position(|word| word == second).unwrap();
    back[payload.start + place..][..8].copy_from_slice(&(ends[0] as u64).to_le_bytes());
    let checksum = crc32c::crc32c(&back[payload]);
    back[index + 16..index + 20].copy_from_slice(&checksum.to_le_bytes());
    let bombs = [
        ("terabyte", behind_header(&terabyte)),
        ("long", behind_header(&long)),
        ("skippable", behind_header(&empty_skippable.repeat(BYTES / 8))),
        ("empty", behind_header(&empty_zstd.repeat(BYTES / 9))),
        ("magic", behind_header(&only_magic.repeat(BYTES / 4))),
        ("table", [behind_header(&only_magic.repeat(BYTES / 4)), table(u32::MAX)].concat()),
        ("back", back),
    ];
    for (name, bytes) in bombs {
        let path = scratch.file(&format!("{name}.kfr"), &bytes);
        let path = path.to_str().unwrap();
        for command in ["info", "replay", "state", "verify"] {
            let ran = bounded(&[command, path]);
            let said = String::from_utf8_lossy(&ran.stderr);
            assert_eq!(ran.status.code(), Some(65), "{command} {name}: {said} {:?}", ran.status);
        }
        let saved = scratch.path().join("saved.kfr");
        let ran = bounded(&["recover", path, "-o", saved.to_str().unwrap(), "--force"]);
        let said = String::from_utf8_lossy(&ran.stderr);
        assert!(matches!(ran.status.code(), Some(0 | 65)), "recover {name}: {said}");
        assert_eq!(ran.status.code() == Some(0), name == "back", "recover {name}: {said}");
    }
}
