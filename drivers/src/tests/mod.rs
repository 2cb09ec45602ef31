//! The drivers against fake devices.

mod blk;
mod lost_doorbell;
mod malicious;
mod net;
mod pci;
mod virtq;
