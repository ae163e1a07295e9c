//! Task storage: a value for each thread that dies with it. aya-ebpf has no type
//! for it.

use core::ptr;

/// A task storage map. Needs Linux 5.11.
#[repr(C)]
pub(crate) struct TaskStorage<T> {
    r#type: *const [i32; 29], // BPF_MAP_TYPE_TASK_STORAGE
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; 1], // BPF_F_NO_PREALLOC
}

impl<T> TaskStorage<T> {
    /// The definition of a map.
    pub(crate) const fn new() -> TaskStorage<T> {
        TaskStorage {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            map_flags: ptr::null(),
        }
    }
}

// SAFETY: the fields are placeholders that only the loader reads; the kernel
// hands out the values.
unsafe impl<T> Sync for TaskStorage<T> {}
