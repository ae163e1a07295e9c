#![doc = include_str!("../ARCHITECTURE.md")]

// In the order in which data goes: a module uses only what stands above it.
pub mod clock;
pub mod context;
pub mod decode;
pub mod event;
pub mod export;
pub mod filter;
pub mod loss;
pub mod replay;
pub mod snapshot;
pub mod window;
