//! A kernel-event flight recorder.
pub mod event;
