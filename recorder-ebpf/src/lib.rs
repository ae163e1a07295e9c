//! What crosses from the kernel to user space, and nothing else.
//!
//! [`schema`] names every kind of event and every field, once. [`wire`] is how a
//! record lies in the ring. Both are `no_std` and compiled twice: for the BPF
//! target, where the programs in `main.rs` write records, and for the host,
//! where the recorder reads them.
//!
//! Invariant: nothing here depends on a host library, allocates, or panics.

#![cfg_attr(target_arch = "bpf", no_std)]
#![cfg_attr(not(target_arch = "bpf"), forbid(unsafe_code))]

pub mod schema;
pub mod wire;
