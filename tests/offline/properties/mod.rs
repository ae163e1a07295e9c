//! What must hold for any events and any bytes, said by models that are as simple as
//! can be. Each case has a seed, every failure names it, and `RECORDER_TEST_SEED`
//! tries it again.

mod codec;
mod decoder;
mod filter;
#[cfg(feature = "capture")]
mod ledger;
mod snapshot;
mod window;
