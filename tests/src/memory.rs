//! How much memory a piece of work takes at its peak, on its own thread. For a program
//! whose allocator is [`Counting`].

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    ptr,
};

/// The largest piece of memory given out: nothing here needs more, and a machine gives
/// more than it has before it says no.
const PIECE_BYTES_MAX: usize = 1 << 30;

/// The system's allocator, counting what each thread holds.
#[derive(Clone, Copy, Debug)]
pub struct Counting;

thread_local! {
    static NOW: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// What others freed here that was not counted must not look like a peak.
fn note(now: usize) {
    if now < usize::MAX / 2 {
        PEAK.set(PEAK.get().max(now));
    }
}

// SAFETY: every call goes to the system's allocator as it came, or answers that there
// is no memory; counting touches two cells of the thread, which need neither memory
// nor a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > PIECE_BYTES_MAX {
            return ptr::null_mut();
        }
        NOW.set(NOW.get().wrapping_add(layout.size()));
        note(NOW.get());
        // SAFETY: the caller's promise about `layout` is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.set(NOW.get().wrapping_sub(layout.size()));
        // SAFETY: it came from the system's allocator with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > PIECE_BYTES_MAX {
            return ptr::null_mut();
        }
        NOW.set(NOW.get().wrapping_add(layout.size()));
        note(NOW.get());
        // SAFETY: the caller's promise about `layout` is the same.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, bytes: usize) -> *mut u8 {
        if bytes > PIECE_BYTES_MAX {
            return ptr::null_mut();
        }
        // Old and new may be there at once.
        let now = NOW.get();
        note(now.wrapping_add(bytes));
        NOW.set(now.wrapping_sub(layout.size()).wrapping_add(bytes));
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
