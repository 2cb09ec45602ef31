#![no_std]
#![forbid(unsafe_code)]
//! Bitmap, resync scheduler and verify: pure state machines.
