//! Finding the machine's disks and NICs and bringing them up.

use alloc::vec::Vec;

use drivers::blk::BlkOptions;
use drivers::mmio::{self, MmioVirtio};
use drivers::net::NetOptions;
use drivers::pci::{MsiMessage, Pci, PciVirtio, PortCam};
use drivers::port::MachineIo;
use drivers::transport::AnyTransport;
use drivers::{DeviceType, Transport};

use super::{disks, nic, signals};
use crate::dma::KernelHal;
use crate::irq;
use crate::platform::Platform;
use crate::time;

/// MSI-X table entries: one for all queues of a device, one for its configuration.
const QUEUES: u16 = 0;
const CONFIGURATION: u16 = 1;
/// Time for a disk to tell its serial number, in microseconds.
const IDENTIFY: u64 = 2_000_000;

/// What was found, in the order of discovery.
#[derive(Default)]
pub struct Devices {
    /// Disks, with their serial numbers read.
    pub disks: Vec<disks::Driver>,
    /// NICs.
    pub nics: Vec<nic::Driver>,
}

/// Memory for a NIC's rings.
#[derive(Clone, Copy)]
pub struct NicMemory {
    /// Bytes to receive into.
    pub rx_bytes: usize,
    /// Bytes to send from.
    pub tx_bytes: usize,
}

/// Looks for virtio devices on PCI and on the command line. One that cannot be used is reported and left alone.
pub fn discover(platform: &Platform, memory: NicMemory) -> Devices {
    let mut devices = Devices::default();
    // SAFETY: the kernel has port privilege, and this is the only user of PCI's configuration ports.
    let mut pci = Pci::new(PortCam::new(unsafe { MachineIo::new() }));
    for (address, kind) in pci.virtio_functions() {
        if !matches!(kind, DeviceType::Block | DeviceType::Network) {
            continue;
        }
        match PciVirtio::open::<KernelHal, _>(&mut pci, address) {
            Ok(function) => devices.add_pci(function, memory),
            Err(error) => log::error!("{kind:?} device at {address}: {error}"),
        }
    }
    for device in mmio::devices(platform.cmdline.as_str()) {
        let device = match device {
            Ok(device) => device,
            Err(error) => {
                log::error!("command line: virtio_mmio.device: {error}");
                continue;
            }
        };
        // SAFETY: the machine monitor announced the device on the command line, once.
        match unsafe { MmioVirtio::open::<KernelHal>(&device) } {
            Ok(opened) => devices.add_mmio(opened, memory),
            // QEMU announces slots that have no device.
            Err(error) => log::debug!("virtio-mmio slot at {:#x}: {error}", device.base),
        }
    }
    devices
}

impl Devices {
    fn add_pci(&mut self, mut function: PciVirtio, memory: NicMemory) {
        let address = function.address();
        if function.msix_entries() <= CONFIGURATION {
            log::error!(
                "device at {address} has no MSI-X with two entries or more (QEMU: do not set vectors=0)"
            );
            return;
        }
        for (entry, handler) in [
            (QUEUES, signals::on_queue as irq::Handler),
            (CONFIGURATION, signals::on_configuration),
        ] {
            let Some(vector) = irq::allocate_vector(handler, 0) else {
                log::error!("device at {address} is left alone: all interrupt vectors are taken");
                return;
            };
            let (message_address, data) = irq::msi_message(vector);
            function.set_msix(
                entry,
                MsiMessage {
                    address: message_address,
                    data,
                },
            );
        }
        self.add(
            AnyTransport::Pci(function),
            Some((QUEUES, CONFIGURATION)),
            memory,
        );
    }

    fn add_mmio(&mut self, device: MmioVirtio, memory: NicMemory) {
        if !matches!(
            device.device_type(),
            DeviceType::Block | DeviceType::Network
        ) {
            return;
        }
        let gsi = device.irq();
        let Some(vector) = irq::allocate_vector(signals::on_line, 0) else {
            log::error!(
                "virtio-mmio device on line {gsi} is left alone: all interrupt vectors are taken"
            );
            return;
        };
        if let Err(error) = irq::route_ioapic(gsi, vector) {
            log::error!("virtio-mmio device on line {gsi} is left alone: {error:?}");
            return;
        }
        self.add(AnyTransport::Mmio(device), None, memory);
    }

    fn add(&mut self, transport: AnyTransport, vectors: Option<(u16, u16)>, memory: NicMemory) {
        let queues = vectors.map(|(queues, _)| queues);
        let configuration = vectors.map(|(_, configuration)| configuration);
        let kind = transport.device_type();
        if kind == DeviceType::Block {
            let options = BlkOptions {
                queue_vector: queues,
                config_vector: configuration,
                ..BlkOptions::default()
            };
            match disks::Driver::new(transport, options) {
                Ok(disk) => self.add_disk(disk),
                Err(error) => log::error!("disk {}: {error}", self.disks.len()),
            }
        } else {
            let options = NetOptions {
                rx_bytes: memory.rx_bytes,
                tx_bytes: memory.tx_bytes,
                rx_vector: queues,
                tx_vector: queues,
                config_vector: configuration,
                ..NetOptions::default()
            };
            match nic::Driver::new(transport, options) {
                Ok(nic) => self.nics.push(nic),
                Err(error) => log::error!("nic {}: {error}", self.nics.len()),
            }
        }
    }

    fn add_disk(&mut self, mut disk: disks::Driver) {
        let until = time::now_micros() + IDENTIFY;
        if let Err(error) = disk.identify(|| time::now_micros() < until) {
            log::warn!(
                "disk {} does not tell its serial number: {error}",
                self.disks.len()
            );
        }
        self.disks.push(disk);
    }
}
