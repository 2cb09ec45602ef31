//! The device side of virtio in the same process: memory, transport, queue, a disk and a NIC, so
//! that host tests run the true drivers on true rings.

mod disk;
mod hal;
mod nic;
mod queue;
mod transport;

pub use disk::{Applied, FakeDisk, disk_config};
pub use hal::{DmaBuf, FakeHal};
pub use nic::{FakeNic, nic_config};
pub use queue::DeviceQueue;
pub use transport::{FakeBell, FakeTransport, Shared};
