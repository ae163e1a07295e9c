#![doc = include_str!("../ARCHITECTURE.md")]

// In the order in which data goes: a module uses only what stands above it.
pub mod event;

pub mod loss;

pub mod clock;

pub mod json;

pub mod privacy;

pub mod trigger;

#[cfg(feature = "capture")]
pub mod config;

#[cfg(feature = "capture")]
pub mod probe;

#[cfg(feature = "capture")]
pub mod ring;

pub mod decode;

pub mod cgroup;

pub mod context;

pub mod window;

pub mod snapshot;

pub mod spool;

pub mod rollup;

pub mod replay;

pub mod filter;

pub mod export;

pub mod state;

#[cfg(feature = "capture")]
pub mod privilege;

#[cfg(feature = "capture")]
pub mod recorder;

#[cfg(feature = "capture")]
pub mod dispatch;

#[cfg(feature = "capture")]
pub mod control;

pub mod cli;
