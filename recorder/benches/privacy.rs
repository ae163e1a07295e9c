//! What masking costs on the ingest thread: nanoseconds for each string, by what it is.
//!
//! `cargo bench --package recorder --no-default-features --bench privacy`. Medians; the
//! cost of walking over the strings is taken off.

use std::{hint::black_box, time::Instant};

use recorder::{
    event::{Attached, Event, Kind, syscall::Abi},
    privacy::{Form, Masker, Privacy, Rules},
};

const STRINGS: usize = 100_000;
const ROUNDS: usize = 21;

const PATHS: &[&[u8]] = &[
    b"/etc/ld.so.cache",
    b"/lib/x86_64-linux-gnu/libc.so.6",
    b"/usr/lib/python3/dist-packages/apt/__init__.py",
    b"/proc/self/status",
    b"target/debug/deps/libserde_json-0123456789abcdef.rmeta",
    b"/sys/fs/cgroup/system.slice/nginx.service/memory.events",
    b"../include/linux/compiler_types.h",
    b"/var/www/html/index.html",
];

const LISTS: &[&[u8]] = &[
    b"cat\0/etc/hostname\0",
    b"/usr/lib/gcc/x86_64-linux-gnu/13/cc1\0-quiet\0-imultiarch\0x86_64-linux-gnu\0main.c\0-dumpbase\0main.c\0-mtune=generic\0-march=x86-64\0-O2\0-o\0/tmp/ccAbCdEf.s\0",
    b"sh\0-c\0for f in *.log; do gzip -9 $f; done\0",
    b"git\0log\0--oneline\0-n\x0020\0--author=bob@example.org\0",
];

const SECRETS: &[&[u8]] = &[
    b"mysql\0-uapp\0-phunter2\0shop\0",
    b"curl\0-H\0Authorization: Bearer abcdefghijklmnop0123\0https://example.org/\0",
];

fn timed(strings: &[&[u8]], mut work: impl FnMut(&[u8])) -> f64 {
    let began = Instant::now();
    for place in 0..STRINGS {
        let Some(string) = strings.get(place % strings.len()) else { continue };
        work(black_box(string));
    }
    began.elapsed().as_nanos() as f64 / STRINGS as f64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn times(mut work: impl FnMut() -> f64) -> f64 {
    median((0..ROUNDS).map(|_| work()).collect())
}

fn event(masker: &mut Masker, bytes: &[u8], attaches: bool) {
    let mut event = Event::new(Kind::Syscall, 1);
    for number in [257, 3, 1_000, 0, 0, 0, 0] {
        event.push_number(number);
    }
    if attaches {
        event.attach(Attached { index: 1, flags: 0, bytes });
    }
    black_box(masker.event(&event, Abi::X86_64));
}

fn main() {
    let mut masker = Privacy::new(Rules::default()).masker();
    let walk = times(|| timed(PATHS, |_| {}));
    let mut said = |what: &str, strings: &[&[u8]], form| {
        let mask = |string: &[u8]| {
            black_box(masker.mask(string, form, false));
        };
        let mut mask = mask;
        let ns = times(|| timed(strings, &mut mask)) - walk;
        println!("{what:<34}{ns:8.1} ns");
    };
    println!("{STRINGS} strings, medians of {ROUNDS} rounds");
    said("a path without a secret", PATHS, Form::Text);
    said("arguments without a secret", LISTS, Form::Arguments);
    said("arguments with a secret", SECRETS, Form::Arguments);
    for (what, attaches) in [("a call without a string", false), ("a call with a path", true)] {
        let ns = times(|| timed(PATHS, |path| event(&mut masker, path, attaches))) - walk;
        println!("{what:<34}{ns:8.1} ns");
    }
}
