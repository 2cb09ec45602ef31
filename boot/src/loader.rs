//! What a loader hands over, whichever loader it is.

use core::ops::Range;

use heapless::Vec;

/// Entries of the loader's memory map that are kept; QEMU passes fewer than ten, GRUB under UEFI some tens.
pub const MEMORY_MAP_MAX: usize = 128;

/// Boot modules whose extent is remembered. Only the first is used (the configuration).
pub const MODULES_MAX: usize = 8;

/// Longest command line kept, in bytes, without its terminating zero.
pub const CMDLINE_MAX: usize = 4096;

/// Type of ordinary memory in a memory map, for PVH (`hvm_memmap_table_entry.type`) as for Multiboot2; the other
/// values are those of E820.
pub const MEMORY_TYPE_RAM: u32 = 1;

/// Read access to physical memory, bounded to what is mapped.
pub trait PhysicalMemory {
    /// Fills `into` from the physical address `from`; `false` (with `into` unspecified) if any byte is out of reach.
    fn read(&self, from: u64, into: &mut [u8]) -> bool;
}

/// One entry of the loader's memory map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MapEntry {
    /// Physical extent, in bytes. Never inverted: an entry that wraps is cut at the top of the address space.
    pub range: (u64, u64),
    /// E820 type; [`MEMORY_TYPE_RAM`] is usable memory.
    pub kind: u32,
}

/// A boot module (QEMU: `-initrd`; GRUB: `module2`).
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Module {
    /// Physical address of its first byte.
    pub start: u64,
    /// Length in bytes.
    pub len: u64,
}

impl Module {
    /// Physical extent of the module; empty when the length is zero or wraps around.
    pub fn range(&self) -> Range<u64> {
        match self.start.checked_add(self.len) {
            Some(end) => self.start..end,
            None => self.start..self.start,
        }
    }
}

/// What the loader passed, copied out of its memory.
#[derive(Debug)]
pub struct Handover {
    /// The memory map as the loader gave it: unsorted, perhaps overlapping.
    pub memory_map: Vec<MapEntry, MEMORY_MAP_MAX>,
    /// Entries of the memory map that did not fit; if they are RAM, that memory is unused.
    pub memory_map_dropped: u32,
    /// The boot modules, in order.
    pub modules: Vec<Module, MODULES_MAX>,
    /// The command line without its terminating zero, cut at [`CMDLINE_MAX`].
    pub cmdline: Vec<u8, CMDLINE_MAX>,
    /// The ACPI root pointer, when the loader knows it.
    pub rsdp: Option<Rsdp>,
}

/// Bytes of an ACPI root pointer of revision 2; one of revision 0 has [`RSDP_OLD_LEN`] (ACPI 6.4, 5.2.5.3).
pub const RSDP_LEN: usize = 36;
/// Bytes of an ACPI root pointer of revision 0.
pub const RSDP_OLD_LEN: usize = 20;

/// The ACPI root pointer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rsdp {
    /// It is at this physical address.
    At(u64),
    /// This is it; an old one is filled up with zeros.
    Copy([u8; RSDP_LEN]),
}

/// The four bytes at `at`, which must be there.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

/// The eight bytes at `at`, which must be there.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
}

/// The zero-terminated string at `address`, which ends before `end` in any case, cut at [`CMDLINE_MAX`].
pub(crate) fn read_string(
    address: u64,
    end: u64,
    memory: &impl PhysicalMemory,
) -> Vec<u8, CMDLINE_MAX> {
    let mut line = Vec::new();
    let mut byte = [0];
    for at in address..end {
        if !memory.read(at, &mut byte) || byte[0] == 0 || line.push(byte[0]).is_err() {
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_that_wraps_is_empty() {
        assert!(
            Module {
                start: u64::MAX,
                len: 2
            }
            .range()
            .is_empty()
        );
    }
}

/// Memory for tests.
#[cfg(test)]
pub(crate) mod fake {
    use std::vec::Vec;

    /// Memory that starts at `base` and ends where its bytes end.
    pub struct Fake {
        pub base: u64,
        pub bytes: Vec<u8>,
    }

    impl super::PhysicalMemory for Fake {
        fn read(&self, from: u64, into: &mut [u8]) -> bool {
            let Some(at) = from
                .checked_sub(self.base)
                .and_then(|at| usize::try_from(at).ok())
            else {
                return false;
            };
            match at
                .checked_add(into.len())
                .and_then(|end| self.bytes.get(at..end))
            {
                Some(found) => {
                    into.copy_from_slice(found);
                    true
                }
                None => false,
            }
        }
    }
}
