#![forbid(unsafe_code)]
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test's tool fails the test by panicking"
)]
//! QEMU system tests with real clients (host only).
//!
//! [`Pair`] drives `./run-qemu.sh`, as a person would; [`Machine`] is one node under a QEMU of the
//! test's own making, for what the script never does: broken configurations, odd devices, a fake
//! peer. [`nbd::Client`] speaks NBD byte by byte, for what no proper client would send.
//!
//! Every test has its own directory and its own ports, waits with a bound, and ends everything it
//! started when it goes out of scope.

pub mod console;
pub mod forgetful;
pub mod load;
pub mod machine;
pub mod nbd;
pub mod pair;
pub mod peer;
pub mod tools;
pub mod web;

pub use machine::Machine;
pub use pair::{Node, Pair};
