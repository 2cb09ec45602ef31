#![no_std]
#![forbid(unsafe_code)]
//! Who may become Primary, and what must be known first (docs/FENCING.md).
//!
//! Pure state machines, without I/O, clock or allocation: [`Fencer`] is a node's fence worker and management
//! endpoint, [`arbiter::Arbiter`] the third vote. [`Record`] is what a node must still know after a power cut,
//! [`Request`] and [`Answer`] what they say to each other. [`notifier::Notifier`] tells the arbiter what handlers may want
//! to act on. [`Bidding`] and [`Promoter`] are the two sides of a promotion that the arbiter's administrator asks for. [`may_promote`] is the rule of promotion without a fence,
//! which is all that the replication engine asks so far.

pub mod arbiter;
pub mod datagram;
mod event;
mod fencer;
mod message;
pub mod notifier;
mod promote;
mod promotion;
mod record;

pub use event::Event;
pub use fencer::{Fencer, Status, api};
pub use message::{Answer, Name, Party, Refusal, Request, Standing};
pub use promote::{Bidding, Ended, Promoter, Promoting, Step, Withheld};
pub use promotion::{Denial, DiskGrade, Facts, PeerView, Policy, may_promote};
pub use record::{EPISODE_MAX, Episode, Grantors, Own, RECORD_LEN, Record, RecordError};

#[cfg(test)]
extern crate std;
