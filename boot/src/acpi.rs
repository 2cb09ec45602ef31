//! The few facts needed from the ACPI tables: IO-APICs, and how to power off and reset.
//!
//! No AML is interpreted. Offsets are those of the ACPI specification 6.4, sections 5.2.5 (RSDP) to 5.2.12 (MADT).

use heapless::Vec;

use crate::loader::PhysicalMemory;

/// IO-APICs that are kept.
pub const IOAPICS_MAX: usize = 4;

/// A table longer than this is taken for garbage.
const TABLE_LEN_MAX: u32 = 1 << 20;
/// Tables looked at in the root table.
const TABLES_MAX: u32 = 64;
const HEADER_LEN: u32 = 36;

/// An IO-APIC of the MADT.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u64,
    /// Global system interrupt of its first input.
    pub first_gsi: u32,
}

/// A register given by a generic address structure.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Register {
    /// In memory space, at this physical address.
    Memory(u64),
    /// In port space.
    Port(u16),
}

/// How the firmware wants to be told to power off.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PowerOff {
    /// Write this 16-bit value to the PM1a control register, a port.
    Pm1a {
        /// The port.
        port: u16,
        /// Sleep type of S5 and the sleep-enable bit.
        value: u16,
    },
    /// Hardware-reduced ACPI: write this byte to the sleep control register.
    SleepControl {
        /// The register.
        register: Register,
        /// Sleep type of S5 and the sleep-enable bit.
        value: u8,
    },
}

/// What the tables say. Everything is empty without tables.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Acpi {
    /// The IO-APICs.
    pub ioapics: Vec<IoApic, IOAPICS_MAX>,
    /// How to power off.
    pub power_off: Option<PowerOff>,
    /// Register and value that reset the machine.
    pub reset: Option<(Register, u8)>,
}

/// Reads the tables that the root pointer at `rsdp` leads to. Tables that make no sense are passed over.
pub fn read(rsdp: u64, memory: &impl PhysicalMemory) -> Acpi {
    let mut acpi = Acpi::default();
    let mut root = [0; 36];
    if !memory.read(rsdp, &mut root[..20]) || &root[..8] != b"RSD PTR " {
        return acpi;
    }
    let extended = root[15] >= 2 && memory.read(rsdp, &mut root);
    let (table, entry_len) = match le(&root, 24, 8) {
        xsdt if extended && xsdt != 0 => (xsdt, 8),
        _ => (le(&root, 16, 4), 4),
    };
    let Some(len) = table_len(
        table,
        if entry_len == 8 { b"XSDT" } else { b"RSDT" },
        memory,
    ) else {
        return acpi;
    };
    let count = ((len - HEADER_LEN) / entry_len).min(TABLES_MAX);
    for index in 0..count {
        let mut raw = [0; 8];
        let entry = &mut raw[..entry_len as usize];
        if !memory.read(table + u64::from(HEADER_LEN + index * entry_len), entry) {
            break;
        }
        let address = u64::from_le_bytes(raw);
        if let Some(len) = table_len(address, b"APIC", memory) {
            read_madt(address, len, memory, &mut acpi);
        } else if let Some(len) = table_len(address, b"FACP", memory) {
            read_fadt(address, len, memory, &mut acpi);
        }
    }
    acpi
}

/// Searches the BIOS area for the root pointer (ACPI 6.4, 5.2.5.1), for loaders that do not pass it.
pub fn find_rsdp(memory: &impl PhysicalMemory) -> Option<u64> {
    (0xe_0000..0x10_0000_u64).step_by(16).find(|&address| {
        let mut root = [0; 20];
        memory.read(address, &mut root) && &root[..8] == b"RSD PTR " && sum(&root) == 0
    })
}

fn sum(bytes: &[u8]) -> u8 {
    bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
}

/// The `len` bytes at `at`, little-endian; zero if they are not there.
fn le(bytes: &[u8], at: usize, len: usize) -> u64 {
    let mut raw = [0; 8];
    if let Some(found) = bytes.get(at..at + len) {
        raw[..len].copy_from_slice(found);
    }
    u64::from_le_bytes(raw)
}

/// The length of the table at `address` if it bears the signature and its length is plausible.
fn table_len(address: u64, signature: &[u8; 4], memory: &impl PhysicalMemory) -> Option<u32> {
    let mut header = [0; 8];
    if address == 0
        || address.checked_add(u64::from(TABLE_LEN_MAX)).is_none()
        || !memory.read(address, &mut header)
    {
        return None;
    }
    let len = le(&header, 4, 4) as u32;
    (header[..4] == *signature && (HEADER_LEN..=TABLE_LEN_MAX).contains(&len)).then_some(len)
}

fn read_madt(address: u64, len: u32, memory: &impl PhysicalMemory, acpi: &mut Acpi) {
    let mut at = HEADER_LEN + 8;
    while at + 2 <= len {
        let mut entry = [0; 12];
        if !memory.read(address + u64::from(at), &mut entry[..2]) || entry[1] < 2 {
            return;
        }
        let entry_len = u32::from(entry[1]);
        // Type 1 is an IO-APIC: identifier, reserved, address (4), first interrupt (4).
        if entry[0] == 1 && entry_len >= 12 && memory.read(address + u64::from(at), &mut entry) {
            let ioapic = IoApic {
                address: le(&entry, 4, 4),
                first_gsi: le(&entry, 8, 4) as u32,
            };
            if acpi.ioapics.push(ioapic).is_err() {
                return;
            }
        }
        at += entry_len;
    }
}

/// A generic address structure (ACPI 6.4, 5.2.3.2).
fn register(fadt: &[u8], at: usize) -> Option<Register> {
    let address = le(fadt, at + 4, 8);
    match fadt.get(at)? {
        0 if address != 0 => Some(Register::Memory(address)),
        1 if address != 0 => u16::try_from(address).ok().map(Register::Port),
        _ => None,
    }
}

fn read_fadt(address: u64, len: u32, memory: &impl PhysicalMemory, acpi: &mut Acpi) {
    const RESET_SUPPORTED: u64 = 1 << 10;
    const HARDWARE_REDUCED: u64 = 1 << 20;
    let mut raw = [0; 276];
    let present = raw.len().min(len as usize);
    let fadt = &mut raw[..present];
    if !memory.read(address, fadt) {
        return;
    }
    let flags = le(fadt, 112, 4);
    if flags & RESET_SUPPORTED != 0 {
        acpi.reset = register(fadt, 116).map(|reset| (reset, le(fadt, 128, 1) as u8));
    }
    let dsdt = match le(fadt, 140, 8) {
        0 => le(fadt, 40, 4),
        dsdt => dsdt,
    };
    let Some(sleep_type) = sleep_type_s5(dsdt, memory) else {
        return;
    };
    acpi.power_off = if flags & HARDWARE_REDUCED != 0 {
        register(fadt, 244).map(|register| PowerOff::SleepControl {
            register,
            value: sleep_type << 2 | 1 << 5,
        })
    } else {
        let port = match register(fadt, 172) {
            Some(Register::Port(port)) => port,
            _ => le(fadt, 64, 4) as u16,
        };
        let value = u16::from(sleep_type) << 10 | 1 << 13;
        (port != 0).then_some(PowerOff::Pm1a { port, value })
    };
}

/// Finds `Name (_S5, Package {type, ...})` in the DSDT by its bytes, and returns the type.
fn sleep_type_s5(dsdt: u64, memory: &impl PhysicalMemory) -> Option<u8> {
    const NAME_AND_PACKAGE: &[u8] = b"_S5_\x12";
    /// Name, package opcode, package length (up to 4), element count, constant prefix, constant.
    const LONGEST: usize = 12;
    const CHUNK: u32 = 512;
    let len = table_len(dsdt, b"DSDT", memory)?;
    for chunk in (HEADER_LEN..len).step_by((CHUNK - LONGEST as u32) as usize) {
        let mut raw = [0; CHUNK as usize];
        let present = CHUNK.min(len - chunk) as usize;
        let bytes = &mut raw[..present];
        if !memory.read(dsdt + u64::from(chunk), bytes) {
            return None;
        }
        let Some(at) = bytes
            .windows(5)
            .position(|window| window == NAME_AND_PACKAGE)
        else {
            continue;
        };
        // The two upper bits of the first length byte tell how many follow it.
        let package = bytes.get(at + 5..)?;
        let elements = package.get(2 + usize::from(package.first()? >> 6)..)?;
        return match elements {
            [0x0a, value, ..] => Some(value & 7),
            [value @ (0 | 1), ..] => Some(*value),
            _ => None,
        };
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec as StdVec;

    struct Fake(StdVec<u8>);

    /// Tests place the tables in the BIOS area.
    const BASE: u64 = 0xe_0000;

    impl PhysicalMemory for Fake {
        fn read(&self, from: u64, into: &mut [u8]) -> bool {
            let Some(at) = from
                .checked_sub(BASE)
                .and_then(|at| usize::try_from(at).ok())
            else {
                return false;
            };
            match at
                .checked_add(into.len())
                .and_then(|end| self.0.get(at..end))
            {
                Some(found) => {
                    into.copy_from_slice(found);
                    true
                }
                None => false,
            }
        }
    }

    impl Fake {
        fn put(&mut self, at: usize, raw: &[u8]) {
            self.0[at..at + raw.len()].copy_from_slice(raw);
        }

        fn table(&mut self, at: usize, signature: &[u8; 4], len: u32) {
            self.put(at, signature);
            self.put(at + 4, &len.to_le_bytes());
        }
    }

    /// Root pointer at 0x40, RSDT at 0x100, MADT at 0x200, FADT at 0x300, DSDT at 0x500.
    fn sample() -> Fake {
        let mut fake = Fake(std::vec![0; 0x1000]);
        fake.put(0x40, b"RSD PTR ");
        fake.put(0x50, &(BASE as u32 + 0x100).to_le_bytes());
        let checksum = 0_u8.wrapping_sub(sum(&fake.0[0x40..0x54]));
        fake.put(0x48, &[checksum]);
        fake.table(0x100, b"RSDT", HEADER_LEN + 8);
        fake.put(0x124, &(BASE as u32 + 0x200).to_le_bytes());
        fake.put(0x128, &(BASE as u32 + 0x300).to_le_bytes());
        fake.table(0x200, b"APIC", HEADER_LEN + 8 + 8 + 12);
        fake.put(0x22c, &[0, 8, 0, 0, 1, 0, 0, 0]);
        fake.put(0x234, &[1, 12, 0, 0, 0, 0, 0xc0, 0xfe, 24, 0, 0, 0]);
        fake.table(0x300, b"FACP", 244);
        fake.put(0x300 + 40, &(BASE as u32 + 0x500).to_le_bytes());
        fake.put(0x300 + 64, &0x604_u32.to_le_bytes());
        fake.put(0x300 + 112, &(1_u32 << 10).to_le_bytes());
        fake.put(
            0x300 + 116,
            &[1, 8, 0, 0, 0xf9, 0x0c, 0, 0, 0, 0, 0, 0, 0x0f],
        );
        fake.table(0x500, b"DSDT", 0x400);
        fake.put(0x500 + 0x215, b"\x08_S5_\x12\x06\x04\x0a\x05\x00\x00\x00");
        fake
    }

    #[test]
    fn reads_interrupt_controllers_power_off_and_reset() {
        let fake = sample();
        assert_eq!(find_rsdp(&fake), Some(BASE + 0x40));
        let acpi = read(BASE + 0x40, &fake);
        assert_eq!(
            acpi.ioapics.as_slice(),
            &[IoApic {
                address: 0xfec0_0000,
                first_gsi: 24
            }]
        );
        assert_eq!(
            acpi.power_off,
            Some(PowerOff::Pm1a {
                port: 0x604,
                value: 5 << 10 | 1 << 13
            })
        );
        assert_eq!(acpi.reset, Some((Register::Port(0xcf9), 0x0f)));
    }

    #[test]
    fn hardware_reduced_acpi_powers_off_by_sleep_control() {
        let mut fake = sample();
        fake.put(0x304, &268_u32.to_le_bytes());
        fake.put(0x300 + 112, &(1_u32 << 20).to_le_bytes());
        fake.put(0x300 + 244, &[0, 8, 0, 0, 0, 0x20, 0xea, 0xfe, 0, 0, 0, 0]);
        let expected = PowerOff::SleepControl {
            register: Register::Memory(0xfeea_2000),
            value: 5 << 2 | 1 << 5,
        };
        assert_eq!(read(BASE + 0x40, &fake).power_off, Some(expected));
    }

    #[test]
    fn s5_across_a_chunk_boundary_and_absent() {
        for at in 0x1e0..0x218 {
            let mut fake = sample();
            fake.put(0x500 + 0x215, &[0; 16]);
            fake.put(0x500 + at, b"_S5_\x12\x06\x04\x01\x01\x00\x00");
            assert_eq!(sleep_type_s5(BASE + 0x500, &fake), Some(1), "at {at:#x}");
        }
        let mut fake = sample();
        fake.put(0x500 + 0x215, &[0; 16]);
        assert_eq!(read(BASE + 0x40, &fake).power_off, None);
    }

    #[test]
    fn no_tables_no_facts() {
        assert_eq!(read(0, &sample()), Acpi::default());
        assert_eq!(find_rsdp(&Fake(std::vec![0; 0x2_0000])), None);
    }

    proptest! {
        #[test]
        fn never_panics(flips in prop::collection::vec((0_usize..0xa00, any::<u8>()), 0..40), cut in 0_usize..0x1000) {
            let mut fake = sample();
            for (at, value) in flips {
                fake.0[at] = value;
            }
            fake.0.truncate(cut);
            let _ = read(BASE + 0x40, &fake);
        }
    }
}
