//! The kernel programs. One file per subject in [`probes`]; [`maps`] holds every
//! map and global, [`emit`] is the only way into a [`ring`], [`registers`] the only
//! place that knows how an architecture passes arguments.
//!
//! The same sources give two objects. With the feature `btf`: typed tracepoints,
//! task storage, a task iterator. Without: raw and classic tracepoints and an
//! array by thread id, for kernels that carry no BTF.

#![no_std]
#![no_main]
// One BPF instruction each: an atomic add (`core` has none for a target without
// compare-and-swap) and an AND the compiler must not remove.
#![feature(core_intrinsics, asm_experimental_arch)]
#![expect(internal_features, reason = "core::sync::atomic has no fetch_add on this target")]

mod emit;
mod maps;
mod probes;
mod registers;
mod ring;
#[cfg(feature = "btf")]
mod storage;

/// The helpers `bpf_probe_read_*` and `bpf_ktime_get_ns` are for programs under
/// a licence compatible with the GPL.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// Never reached: a panic that could be reached would be a loop that the
/// verifier refuses to load.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
