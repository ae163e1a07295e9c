//! The ring of a CPU: memory that the recorder has mapped where the kernel can do that,
//! a BPF ring buffer elsewhere. Nothing here counts; see [`crate::emit`].

#[cfg(not(feature = "btf"))]
mod buffer;
#[cfg(feature = "btf")]
mod mapped;

#[cfg(not(feature = "btf"))]
pub(crate) use buffer::Ring;
#[cfg(feature = "btf")]
pub(crate) use mapped::{Reserved, Ring};

/// What is put into a ring, and what follows from that.
#[derive(Clone, Copy)]
pub(crate) enum Offer {
    /// A system call. Under overload they are lost first: a lost end or exec would give
    /// its number's next events to a wrong program.
    Call,
    /// Any other event.
    Event,
    /// What was lost before; another record follows, which wakes the reader if need be.
    Loss,
    /// The mark of a cut: the reader waits for it.
    Mark,
}
