#![no_std]
//! virtio-blk and virtio-net drivers, their PCI and MMIO transports, and a 16550 UART.
//!
//! The crate works on virtio-drivers' [`Hal`] (memory) and [`Transport`] (registers) but has its
//! own split virtqueue and device drivers: those of the library keep few requests in flight and
//! lack discard, mergeable buffers and offloads, and its queue can lose a doorbell
//! ([`virtq`] says how ours does not).
//!
//! The way of a device, from finding it to I/O:
//!
//! 1. [`pci::Pci::virtio_functions`] or [`mmio::devices`] find it, [`pci::PciVirtio`] or
//!    [`mmio::MmioVirtio`] open it; [`transport::AnyTransport`] holds either.
//! 2. [`blk::Blk::new`] or [`net::Net::new`] negotiate features and allocate everything.
//! 3. Steady state: `submit`/`transmit`, one `kick` for a batch, `poll`/`receive`; before
//!    sleeping, `arm`, and go on polling when that says something is already there.
//!
//! Drivers are plain structs for one core: no locks, and nothing allocated after construction.
//! Devices are not trusted: what they write is checked against the driver's own records, and a
//! device that breaks the rules is reset and reported, not believed.

extern crate alloc;
#[cfg(test)]
extern crate std;

pub mod blk;
mod dma;
#[cfg(test)]
mod fake;
pub mod mmio;
pub mod net;
pub mod pci;
pub mod port;
#[cfg(test)]
mod tests;
pub mod transport;
pub mod uart;
pub mod virtq;

pub use virtio_drivers::{
    BufferDirection, Hal, PhysAddr,
    transport::{DeviceType, InterruptStatus, Transport},
};
