#![no_std]
#![forbid(unsafe_code)]
//! Who may become Primary, and what must be known first.
//!
//! A pure rule over facts that the replication engine collects. The only policy so far is
//! [`Policy::DontCare`]; episodes and the arbiter come with fencing proper.

mod promotion;

pub use promotion::{Denial, DiskGrade, Facts, PeerView, Policy, may_promote};
