#![no_std]
#![forbid(unsafe_code)]
//! Who may become Primary, and what must be known first.
//!
//! [`Record`] is what a node must still know about fencing after a power cut. [`may_promote`] is the rule of promotion
//! that the replication engine asks, for the only policy that it knows so far, [`Policy::DontCare`].

mod promotion;
mod record;

pub use promotion::{Denial, DiskGrade, Facts, PeerView, Policy, may_promote};
pub use record::{EPISODE_MAX, Episode, Grantors, Own, RECORD_LEN, Record, RecordError};

#[cfg(test)]
extern crate std;
