//! Tests of the server against an engine and a network in memory.
//!
//! `bad_input` has a test for every row of reference/nbd.md's table; `negotiation` every option;
//! `transfer` what requests do; `memory` the bounds; `lifecycle` roles, limits, eviction; `acks`
//! when acknowledgements wait; `fuzz` delivery in pieces and garbage.

mod acks;
mod bad_input;
mod fuzz;
mod lifecycle;
mod memory;
mod mock;
mod negotiation;
mod snapshots;
mod transfer;
mod wire;
