#![no_std]
#![forbid(unsafe_code)]
//! Fencing policy and episodes: pure state machines.
