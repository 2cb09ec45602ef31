//! A virtio function on PCI: virtio-drivers' transport, with doorbell addresses computed once and
//! MSI-X (virtio 1.2 §4.1).

use alloc::vec::Vec;
use virtio_drivers::{
    Hal,
    transport::{
        Transport,
        pci::{
            PciTransport, VIRTIO_PCI_CAP_COMMON_CFG, VIRTIO_PCI_CAP_NOTIFY_CFG,
            bus::{ConfigurationAccess, DeviceFunction, PCI_CAP_ID_VNDR},
        },
    },
};

use super::{BarRange, Mapping, MsiMessage, Pci, PciError, msix::MsixTable};
use crate::transport::{
    DeviceTransport, Doorbell, InitError, MmioDoorbell, forward_transport, wrapped,
};

/// Most capabilities that fit in configuration space (192 bytes of 4); a longer list is a loop.
const CAPABILITIES_MAX: usize = 48;
/// Offsets in `struct virtio_pci_common_cfg` (§4.1.4.3).
const CONFIG_MSIX_VECTOR: usize = 16;
const QUEUE_SELECT: usize = 22;
const QUEUE_MSIX_VECTOR: usize = 26;
const QUEUE_NOTIFY_OFF: usize = 30;
const COMMON_BYTES: usize = 56;
/// What a vector register reads when the device could not take the vector.
const NO_VECTOR: u16 = 0xffff;

/// An open virtio function. Dropping it resets the device.
#[derive(Debug)]
pub struct PciVirtio {
    transport: PciTransport,
    address: DeviceFunction,
    common: Mapping,
    notify: Mapping,
    notify_multiplier: u32,
    msix: Option<MsixTable>,
}

// SAFETY: the mappings are registers, used through `&mut self` alone, from wherever that is.
unsafe impl Send for PciVirtio {}

impl PciVirtio {
    /// Opens the function at `at`: enables memory access, bus mastering and MSI-X (all entries
    /// masked), and maps its registers.
    ///
    /// # Errors
    /// [`PciError`], for a function without modern virtio or with unassigned or lying BARs.
    pub fn open<H: Hal, C: ConfigurationAccess + Clone>(
        pci: &mut Pci<C>,
        at: DeviceFunction,
    ) -> Result<Self, PciError> {
        let mut common = None;
        let mut notify = None;
        let mut notify_multiplier = 0;
        let capabilities: Vec<_> = pci
            .root
            .capabilities(at)
            .take(CAPABILITIES_MAX + 1)
            .collect();
        // virtio-drivers would follow it for ever.
        if capabilities.len() > CAPABILITIES_MAX {
            return Err(PciError::EndlessCapabilities);
        }
        for capability in capabilities {
            if capability.id != PCI_CAP_ID_VNDR || capability.offset > 0xff - 20 {
                continue;
            }
            let word = |offset: u8| pci.config.read_word(at, capability.offset + offset);
            let range = BarRange {
                bar: word(4) as u8,
                offset: word(8),
                length: word(12),
            };
            let multiplier = word(16);
            let kind = (capability.private_header >> 8) as u8;
            if !(1..=4).contains(&kind) {
                continue;
            }
            // Checked here for all that virtio-drivers is going to use: it trusts them.
            let mapping = pci.map::<H>(at, range)?;
            match kind {
                VIRTIO_PCI_CAP_COMMON_CFG if common.is_none() => common = Some(mapping),
                VIRTIO_PCI_CAP_NOTIFY_CFG if notify.is_none() => {
                    notify = Some(mapping);
                    notify_multiplier = multiplier;
                }
                _ => {}
            }
        }
        let missing = |kind| PciError::MissingCapability { kind };
        let common = common
            .filter(|mapping| mapping.bytes >= COMMON_BYTES)
            .ok_or(missing(VIRTIO_PCI_CAP_COMMON_CFG))?;
        let notify = notify.ok_or(missing(VIRTIO_PCI_CAP_NOTIFY_CFG))?;
        pci.enable(at, true);
        let transport = PciTransport::new::<H, C>(&mut pci.root, at).map_err(PciError::Virtio)?;
        let msix = MsixTable::open::<H, C>(pci, at)?;
        Ok(Self {
            transport,
            address: at,
            common,
            notify,
            notify_multiplier,
            msix,
        })
    }

    /// Where the function is.
    #[must_use]
    pub fn address(&self) -> DeviceFunction {
        self.address
    }

    /// Entries of the MSI-X table; 0 without MSI-X.
    #[must_use]
    pub fn msix_entries(&self) -> u16 {
        self.msix.as_ref().map_or(0, MsixTable::entries)
    }

    /// Programs and unmasks an MSI-X entry. `false`: no such entry.
    pub fn set_msix(&mut self, entry: u16, message: MsiMessage) -> bool {
        self.msix
            .as_mut()
            .is_some_and(|msix| msix.set(entry, message))
    }

    fn read_common(&self, offset: usize) -> u16 {
        debug_assert!(offset + 2 <= COMMON_BYTES, "beyond the structure");
        // SAFETY: within the mapped structure, whose start is aligned to 4 bytes. The transport
        // has a pointer to it as well, but both only do volatile accesses, one at a time:
        // registers are selected anew before each use, under `&mut self`.
        unsafe { self.common.start.add(offset).cast::<u16>().read_volatile() }
    }

    fn write_common(&mut self, offset: usize, value: u16) {
        debug_assert!(offset + 2 <= COMMON_BYTES, "beyond the structure");
        // SAFETY: as in `read_common`.
        unsafe {
            self.common
                .start
                .add(offset)
                .cast::<u16>()
                .write_volatile(value);
        }
    }

    /// Writes a vector register and reads back whether the device took it (§4.1.4.3.2).
    fn set_vector(&mut self, register: usize, vector: u16) -> bool {
        if vector >= self.msix_entries() {
            return false;
        }
        self.write_common(register, vector);
        self.read_common(register) != NO_VECTOR
    }
}

impl DeviceTransport for PciVirtio {
    type Bell = MmioDoorbell;

    fn doorbell(&mut self, queue: u16) -> Result<MmioDoorbell, InitError> {
        self.write_common(QUEUE_SELECT, queue);
        let offset =
            usize::from(self.read_common(QUEUE_NOTIFY_OFF)) * self.notify_multiplier as usize;
        if offset + 2 > self.notify.bytes || !offset.is_multiple_of(2) {
            return Err(InitError::BadDoorbell { queue });
        }
        // SAFETY: checked to be inside the mapped notification region and aligned to 2 bytes;
        // mappings of BARs stay for good.
        Ok(unsafe { MmioDoorbell::new(self.notify.start.add(offset), queue, false) })
    }

    fn set_queue_vector(&mut self, queue: u16, vector: u16) -> bool {
        self.write_common(QUEUE_SELECT, queue);
        self.set_vector(QUEUE_MSIX_VECTOR, vector)
    }

    fn set_config_vector(&mut self, vector: u16) -> bool {
        self.set_vector(CONFIG_MSIX_VECTOR, vector)
    }
}

impl Transport for PciVirtio {
    forward_transport!(wrapped);

    fn notify(&mut self, queue: u16) {
        if let Ok(bell) = self.doorbell(queue) {
            bell.ring();
        }
    }
    fn read_config_generation(&self) -> u32 {
        self.transport.read_config_generation()
    }
}
