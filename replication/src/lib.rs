#![no_std]
#![forbid(unsafe_code)]
//! Palisade's replication engine: peer protocol, lineage, the sans-IO state machine.
//!
//! Start at [`engine::Engine`] and [`api`].

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod activity;
pub mod api;
pub mod buf;
pub mod crc32c;
pub mod engine;
pub mod latency;
pub mod lineage;
pub mod mutation;
pub mod ondisk;
pub mod secure;
pub mod wire;
