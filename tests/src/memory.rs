//! How much memory a piece of work takes at its peak, on its own thread or on all of the
//! process. For a program whose allocator is [`Counting`].

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ptr,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

/// The largest piece of memory given out: nothing here needs more, and a machine gives
/// more than it has before it says no.
const PIECE_BYTES_MAX: usize = 1 << 30;

/// The system's allocator, counting what each thread holds, and all together.
#[derive(Clone, Copy, Debug)]
pub struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

static ALL_NOW: AtomicUsize = AtomicUsize::new(0);
static ALL_PEAK: AtomicUsize = AtomicUsize::new(0);

/// Takes so many bytes more into account.
fn took(bytes: usize) {
    let now = NOW.get().wrapping_add(bytes);
    NOW.set(now);
    // What others freed here that was not counted must not look like a peak.
    if now < usize::MAX / 2 {
        PEAK.set(PEAK.get().max(now));
    }
    let all = ALL_NOW.fetch_add(bytes, Relaxed).wrapping_add(bytes);
    if all < usize::MAX / 2 {
        ALL_PEAK.fetch_max(all, Relaxed);
    }
}

/// Takes so many bytes less into account.
fn gave(bytes: usize) {
    NOW.set(NOW.get().wrapping_sub(bytes));
    ALL_NOW.fetch_sub(bytes, Relaxed);
}

// SAFETY: every call goes to the system's allocator as it came, or answers that there
// is no memory; counting touches two cells of the thread, which need neither memory
// nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > PIECE_BYTES_MAX {
            return ptr::null_mut();
        }
        took(layout.size());
        // SAFETY: the caller's promise about `layout` is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: it came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > PIECE_BYTES_MAX {
            return ptr::null_mut();
        }
        took(layout.size());
        // SAFETY: the caller's promise about `layout` is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if bytes > PIECE_BYTES_MAX {
            return ptr::null_mut();
        }
        // Old and new may be there at once.
        took(bytes);
        gave(layout.size());
        // SAFETY: it came from the system's allocator with this layout, and the caller's
        // promise about `bytes` is the same.
        unsafe { System.realloc(pointer, layout, bytes) }
    }
}

/// Runs `work` and answers the most bytes it held at once.
pub fn peak_of<T>(work: impl FnOnce() -> T) -> (usize, T) {
    NOW.set(0);
    PEAK.set(0);
    let done = work();
    (PEAK.get(), done)
}

/// The same of all threads together: for a process in which nothing else is done
/// meanwhile, and for work that starts threads of its own.
pub fn peak_of_process<T>(work: impl FnOnce() -> T) -> (usize, T) {
    let before = ALL_NOW.load(Relaxed);
    ALL_PEAK.store(before, Relaxed);
    let done = work();
    (ALL_PEAK.load(Relaxed).saturating_sub(before), done)
}
