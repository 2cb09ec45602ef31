//! The MSI-X table of a function (PCI Local Bus 3.0, §6.8.2).

use virtio_drivers::{
    Hal,
    transport::pci::bus::{ConfigurationAccess, DeviceFunction},
};

use super::{BarRange, Mapping, Pci, PciError};

const CAP_ID: u8 = 0x11;
/// Bits of the message control word, which is the upper half of the capability's first word.
const ENABLE: u32 = 1 << 31;
const FUNCTION_MASK: u32 = 1 << 30;
const ENTRY_BYTES: u32 = 16;
const MASKED: u32 = 1;

/// The write that a function does in place of pulling an interrupt line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsiMessage {
    /// Where to: a local APIC's address.
    pub address: u64,
    /// What: the vector, mostly.
    pub data: u32,
}

/// The table, mapped, with MSI-X enabled and all entries masked at first.
#[derive(Debug)]
pub(super) struct MsixTable {
    table: Mapping,
    entries: u16,
}

// SAFETY: the mapping is used through `&mut self` alone, from wherever that is.
unsafe impl Send for MsixTable {}

impl MsixTable {
    /// Finds the capability in a list that was checked to end, maps the table, masks its entries and enables MSI-X. `None`: the
    /// function has none.
    pub(super) fn open<H: Hal, C: ConfigurationAccess + Clone>(
        pci: &mut Pci<C>,
        at: DeviceFunction,
    ) -> Result<Option<Self>, PciError> {
        let Some(capability) = pci.root.capabilities(at).find(|c| c.id == CAP_ID) else {
            return Ok(None);
        };
        let entries = (capability.private_header & 0x7ff) + 1;
        let place = pci.config.read_word(at, capability.offset.wrapping_add(4));
        let table = pci.map::<H>(
            at,
            BarRange {
                bar: (place & 7) as u8,
                offset: place & !7,
                length: u32::from(entries) * ENTRY_BYTES,
            },
        )?;
        pci.enable(at, false);
        let mut msix = Self { table, entries };
        for entry in 0..entries {
            msix.write(entry, 3, MASKED);
        }
        let control = pci.config.read_word(at, capability.offset);
        pci.config
            .write_word(at, capability.offset, (control | ENABLE) & !FUNCTION_MASK);
        Ok(Some(msix))
    }

    pub(super) fn entries(&self) -> u16 {
        self.entries
    }

    /// Programs and unmasks an entry. `false`: no such entry.
    pub(super) fn set(&mut self, entry: u16, message: MsiMessage) -> bool {
        if entry >= self.entries {
            return false;
        }
        self.write(entry, 3, MASKED);
        self.write(entry, 0, message.address as u32);
        self.write(entry, 1, (message.address >> 32) as u32);
        self.write(entry, 2, message.data);
        self.write(entry, 3, 0);
        true
    }

    fn write(&mut self, entry: u16, word: usize, value: u32) {
        let at = usize::from(entry) * ENTRY_BYTES as usize + 4 * word;
        debug_assert!(at + 4 <= self.table.bytes, "entry beyond the table");
        // SAFETY: `entry` is within the table and the table within its mapping, which is aligned
        // to 4 bytes: BARs to 16, and the table's offset is a multiple of 8.
        unsafe { self.table.start.add(at).cast::<u32>().write_volatile(value) }
    }
}
