#![no_std]
#![forbid(unsafe_code)]
//! Which blocks of a volume differ from the peer's, and how they are brought in sync.
//!
//! Pure state machines: no clock, no I/O, and no allocation after construction (but for
//! [`Bitmap::grow`]). `docs/RESYNC.md` tells how they work together.
//!
//! | what | answers |
//! |---|---|
//! | [`Bitmap`] | which blocks differ, or may |
//! | [`codec`] | how the peer hears of them |
//! | [`Scheduler`] | which run of blocks is next |
//! | [`controller`] | how many runs, how fast |
//! | [`Order`] | which volumes, and why the others wait |
//! | [`Progress`] | how far, how fast, how long |
//! | [`Verify`] | whether blocks that should be equal are |
//! | [`digest`] | whether two blocks are equal, without sending them |
//! | [`snapshot`] | which blocks were copied aside before a resync overwrote them |

extern crate alloc;
#[cfg(test)]
extern crate std;

/// Microseconds since any fixed moment, or between two.
pub type Micros = u64;

mod bitmap;
pub mod codec;
pub mod controller;
pub mod digest;
mod order;
mod progress;
mod ranges;
mod scheduler;
pub mod snapshot;
mod verify;

pub use bitmap::{BLOCK, Bitmap, GrowError, PAGE_BITS_BYTES, PAGE_COVERS, PAGE_WORDS, Run};
pub use order::{Need, Order, OrderError, WaitReason};
pub use progress::{Progress, ProgressReport};
pub use ranges::RangeList;
pub use scheduler::{MAX_RUN, Scheduler};
pub use verify::{Side, VERIFY_IN_FLIGHT, VERIFY_RANGES, Verify, VerifyOptions};
