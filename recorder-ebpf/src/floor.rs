//! What programs on the entry and exit of every call cost, rung by rung: the
//! bench attaches two of these at a time and measures, to say how much of the
//! recorder's cost is the kernel's price for any program, and which part of a
//! record costs the rest. Not part of the recorder.
//!
//! Each rung does what the one below it does and one thing more:
//!
//! - `empty`: nothing. The floor.
//! - `clock`: both read the clock.
//! - `slot`: entry keeps time, number and arguments in the thread's task storage,
//!   exit takes them.
//! - `record`: exit also puts the smallest record of a call into a BPF ring.

#![no_std]
#![no_main]

#[expect(dead_code, unused_imports, reason = "the rungs only take the arguments of native calls")]
mod registers;
mod storage;

use aya_ebpf::{
    Global,
    bindings::BPF_RB_NO_WAKEUP,
    btf_maps::RingBuf,
    helpers::generated::{
        bpf_get_current_pid_tgid, bpf_get_current_task_btf, bpf_ktime_get_ns, bpf_task_storage_get,
    },
    macros::{btf_map, btf_tracepoint},
    programs::BtfTracePointContext,
};
use recorder_ebpf::{
    schema::{Kind, record},
    wire::{Header, Slot, slot_state},
};
use registers::{CallRegisters as _, PtRegs};
use storage::TaskStorage;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

/// The process whose calls are put into the ring: the one that measures, which
/// also empties it.
#[unsafe(no_mangle)]
static MEASURED_PID: Global<u32> = Global::new(0);

#[btf_map]
static SLOTS: TaskStorage<Slot> = TaskStorage::new();

/// Room for 32,768 of the records of `getppid`.
#[btf_map]
static RING: RingBuf<record::Syscall, { 2 << 20 }> = RingBuf::new();

#[btf_tracepoint(function = "sys_enter")]
fn empty_enter(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sys_exit")]
fn empty_exit(_ctx: BtfTracePointContext) -> i32 {
    0
}

#[btf_tracepoint(function = "sys_enter")]
fn clock_enter(_ctx: BtfTracePointContext) -> i32 {
    now_ns();
    0
}

#[btf_tracepoint(function = "sys_exit")]
fn clock_exit(_ctx: BtfTracePointContext) -> i32 {
    now_ns();
    0
}

#[btf_tracepoint(function = "sys_enter")]
fn slot_enter(ctx: BtfTracePointContext) -> i32 {
    enter(&ctx);
    0
}

#[btf_tracepoint(function = "sys_exit")]
fn slot_exit(_ctx: BtfTracePointContext) -> i32 {
    let Some(slot) = slot(false) else { return 0 };
    let now = now_ns();
    // SAFETY: the slot belongs to the current thread, which is here.
    unsafe {
        (*slot).state = slot_state::EMPTY;
        (*slot).entry_ns = now.wrapping_sub((*slot).entry_ns);
    }
    0
}

#[btf_tracepoint(function = "sys_enter")]
fn record_enter(ctx: BtfTracePointContext) -> i32 {
    enter(&ctx);
    0
}

#[btf_tracepoint(function = "sys_exit")]
fn record_exit(ctx: BtfTracePointContext) -> i32 {
    let Some(slot) = slot(false) else { return 0 };
    let now = now_ns();
    // SAFETY: the helper only reads two numbers.
    let thread = unsafe { bpf_get_current_pid_tgid() };
    let ret: i64 = ctx.arg(1);
    // SAFETY: the slot belongs to the current thread, which is here.
    let record = unsafe {
        (*slot).state = slot_state::EMPTY;
        record::Syscall {
            header: Header {
                bytes: size_of::<record::Syscall>() as u16,
                kind: Kind::Syscall as u8,
                args: 0,
                flags: 0,
                attachments: 0,
                reserved: 0,
                seq: 0,
                skipped: 0,
                ts_ns: now,
                pid: (thread >> 32) as u32,
                tid: thread as u32,
            },
            nr: (*slot).nr,
            ret,
            dur_ns: now.wrapping_sub((*slot).entry_ns),
        }
    };
    if record.header.pid == MEASURED_PID.load() {
        // A full ring shows at the reader: it counts.
        let _ = RING.output(&record, u64::from(BPF_RB_NO_WAKEUP));
    }
    0
}

/// Keeps what entry sees.
#[inline(always)]
fn enter(ctx: &BtfTracePointContext) {
    let Some(slot) = slot(true) else { return };
    let regs: *const PtRegs = ctx.arg(0);
    let nr: i64 = ctx.arg(1);
    // SAFETY: the slot belongs to the current thread, which is here; the verifier
    // checks each load of its registers against BTF.
    unsafe {
        (*slot).entry_ns = now_ns();
        (*slot).nr = nr;
        (*slot).args = (*regs).args(false);
        (*slot).state = slot_state::IN_CALL;
    }
}

/// The slot of the current thread; made when `create`.
#[inline(always)]
fn slot(create: bool) -> Option<*mut Slot> {
    let map = (&raw const SLOTS).cast_mut().cast();
    // SAFETY: the current task is alive; the map is a task storage map.
    let slot = unsafe {
        let task = bpf_get_current_task_btf();
        bpf_task_storage_get(map, task, core::ptr::null_mut(), u64::from(create))
    };
    if slot.is_null() { None } else { Some(slot.cast()) }
}

#[inline(always)]
fn now_ns() -> u64 {
    // SAFETY: the helper only reads the clock.
    unsafe { bpf_ktime_get_ns() }
}

/// Never reached: a panic that could be reached would be a loop that the
/// verifier refuses to load.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
