#![doc = include_str!("../ARCHITECTURE.md")]

// In the order in which data goes: a module uses only what stands above it.
pub mod cli;
pub mod clock;
#[cfg(feature = "capture")]
pub mod config;
pub mod context;
#[cfg(feature = "capture")]
pub mod control;
pub mod decode;
pub mod event;
pub mod export;
pub mod filter;
pub mod loss;
#[cfg(feature = "capture")]
pub mod probe;
#[cfg(feature = "capture")]
pub mod recorder;
pub mod replay;
#[cfg(feature = "capture")]
pub mod ring;
pub mod snapshot;
pub mod window;
