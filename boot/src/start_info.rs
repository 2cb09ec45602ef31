//! The PVH start information (Xen `public/arch-x86/hvm/start_info.h`), read defensively.

use core::fmt;

use heapless::Vec;

use crate::loader::{
    CMDLINE_MAX, Handover, MEMORY_MAP_MAX, MODULES_MAX, MapEntry, Module, PhysicalMemory, Rsdp,
    read_string, u32_at, u64_at,
};

/// `hvm_start_info.magic`: the bytes "xEn3" with bit 7 of the E set.
pub const MAGIC: u32 = 0x336e_c578;

/// Why a start information cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ParseError {
    /// The structure, or a table that it needs, lies outside reachable memory. Holds the address.
    Unreachable(u64),
    /// The magic number is not [`MAGIC`]: the image was not entered by a PVH loader. Holds what was found.
    BadMagic(u32),
    /// Version 0 of the structure, or an empty table: there is no memory map to work with.
    NoMemoryMap,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(address) => {
                write!(f, "PVH table at {address:#x} is outside reachable memory")
            }
            Self::BadMagic(found) => write!(
                f,
                "PVH start info has magic {found:#x}, expected {MAGIC:#x}"
            ),
            Self::NoMemoryMap => write!(f, "PVH start info has no memory map (loader too old)"),
        }
    }
}

/// Size of `hvm_start_info` version 0 (no memory map) and version 1.
const START_INFO_V0: usize = 40;
const START_INFO_V1: usize = 56;
/// Size of `hvm_modlist_entry`, and of `hvm_memmap_table_entry`.
const MODULE_ENTRY: u64 = 32;
const MEMORY_MAP_ENTRY: u64 = 24;

/// Reads the start information at `address`.
///
/// Tables that are merely nice to have (modules, command line) are left empty where they cannot be read; the
/// memory map is required.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(address: u64, memory: &impl PhysicalMemory) -> Result<Handover, ParseError> {
    let mut head = [0; START_INFO_V1];
    if !memory.read(address, &mut head[..START_INFO_V0]) {
        return Err(ParseError::Unreachable(address));
    }
    let magic = u32_at(&head, 0);
    if magic != MAGIC {
        return Err(ParseError::BadMagic(magic));
    }
    if u32_at(&head, 4) == 0 {
        return Err(ParseError::NoMemoryMap);
    }
    if !memory.read(address, &mut head) {
        return Err(ParseError::Unreachable(address));
    }
    let module_count = u32_at(&head, 12);
    let rsdp = u64_at(&head, 32);
    let (memory_map, memory_map_dropped) =
        read_memory_map(u64_at(&head, 40), u32_at(&head, 48), memory)?;
    Ok(Handover {
        memory_map,
        memory_map_dropped,
        modules: read_modules(u64_at(&head, 16), module_count, memory),
        cmdline: read_cmdline(u64_at(&head, 24), memory),
        rsdp: (rsdp != 0).then_some(Rsdp::At(rsdp)),
    })
}

type Map = Vec<MapEntry, MEMORY_MAP_MAX>;

fn read_memory_map(
    address: u64,
    count: u32,
    memory: &impl PhysicalMemory,
) -> Result<(Map, u32), ParseError> {
    let mut map = Map::new();
    if address == 0 || count == 0 {
        return Err(ParseError::NoMemoryMap);
    }
    let kept = count.min(MEMORY_MAP_MAX as u32);
    for index in 0..kept {
        let at = address.saturating_add(u64::from(index) * MEMORY_MAP_ENTRY);
        let mut raw = [0; MEMORY_MAP_ENTRY as usize];
        if !memory.read(at, &mut raw) {
            return Err(ParseError::Unreachable(at));
        }
        let start = u64_at(&raw, 0);
        let entry = MapEntry {
            range: (start, start.saturating_add(u64_at(&raw, 8))),
            kind: u32_at(&raw, 16),
        };
        if map.push(entry).is_err() {
            break;
        }
    }
    Ok((map, count - kept))
}

fn read_modules(
    address: u64,
    count: u32,
    memory: &impl PhysicalMemory,
) -> Vec<Module, MODULES_MAX> {
    let mut modules = Vec::new();
    if address == 0 {
        return modules;
    }
    for index in 0..count.min(MODULES_MAX as u32) {
        let mut raw = [0; MODULE_ENTRY as usize];
        if !memory.read(
            address.saturating_add(u64::from(index) * MODULE_ENTRY),
            &mut raw,
        ) {
            break;
        }
        if modules
            .push(Module {
                start: u64_at(&raw, 0),
                len: u64_at(&raw, 8),
            })
            .is_err()
        {
            break;
        }
    }
    modules
}

fn read_cmdline(address: u64, memory: &impl PhysicalMemory) -> Vec<u8, CMDLINE_MAX> {
    if address == 0 {
        return Vec::new();
    }
    read_string(address, u64::MAX, memory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::fake::Fake;
    use proptest::prelude::*;

    const BASE: u64 = 0x6000;

    /// A well-formed image: header at 0, map at 0x100, modules at 0x200, command line at 0x300.
    fn sample() -> Fake {
        let mut bytes = std::vec![0; 0x400];
        let mut put = |at: usize, raw: &[u8]| bytes[at..at + raw.len()].copy_from_slice(raw);
        put(0, &MAGIC.to_le_bytes());
        put(4, &1_u32.to_le_bytes());
        put(12, &1_u32.to_le_bytes());
        put(16, &(BASE + 0x200).to_le_bytes());
        put(24, &(BASE + 0x300).to_le_bytes());
        put(32, &0xf_5b20_u64.to_le_bytes());
        put(40, &(BASE + 0x100).to_le_bytes());
        put(48, &2_u32.to_le_bytes());
        put(0x100, &0_u64.to_le_bytes());
        put(0x108, &0x9_fc00_u64.to_le_bytes());
        put(0x110, &1_u32.to_le_bytes());
        put(0x118, &0x10_0000_u64.to_le_bytes());
        put(0x120, &0x1ff_0000_u64.to_le_bytes());
        put(0x128, &1_u32.to_le_bytes());
        put(0x200, &0x1f0_0000_u64.to_le_bytes());
        put(0x208, &700_u64.to_le_bytes());
        put(0x300, b"panic=exit test=boot\0");
        Fake { base: BASE, bytes }
    }

    #[test]
    fn reads_what_qemu_passes() {
        let info = parse(BASE, &sample()).unwrap();
        assert_eq!(info.memory_map.len(), 2);
        assert_eq!(
            info.memory_map[1],
            MapEntry {
                range: (0x10_0000, 0x20f_0000),
                kind: 1
            }
        );
        assert_eq!(
            info.modules.as_slice(),
            &[Module {
                start: 0x1f0_0000,
                len: 700
            }]
        );
        assert_eq!(info.cmdline.as_slice(), b"panic=exit test=boot");
        assert_eq!(info.rsdp, Some(Rsdp::At(0xf_5b20)));
    }

    #[test]
    fn refuses_wrong_magic_old_version_and_missing_map() {
        let mut fake = sample();
        fake.bytes[0] ^= 1;
        assert_eq!(
            parse(BASE, &fake).unwrap_err(),
            ParseError::BadMagic(MAGIC ^ 1)
        );
        let mut fake = sample();
        fake.bytes[4] = 0;
        assert_eq!(parse(BASE, &fake).unwrap_err(), ParseError::NoMemoryMap);
        let mut fake = sample();
        fake.bytes[48] = 0;
        assert_eq!(parse(BASE, &fake).unwrap_err(), ParseError::NoMemoryMap);
        assert_eq!(parse(1, &sample()).unwrap_err(), ParseError::Unreachable(1));
    }

    #[test]
    fn an_unreachable_map_is_an_error_but_unreachable_extras_are_not() {
        let mut fake = sample();
        fake.bytes[40..48].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(
            parse(BASE, &fake).unwrap_err(),
            ParseError::Unreachable(u64::MAX)
        );
        let mut fake = sample();
        fake.bytes[16..24].copy_from_slice(&u64::MAX.to_le_bytes());
        fake.bytes[24..32].copy_from_slice(&u64::MAX.to_le_bytes());
        let info = parse(BASE, &fake).unwrap();
        assert!(info.modules.is_empty() && info.cmdline.is_empty());
    }

    #[test]
    fn a_command_line_without_end_is_cut() {
        let mut fake = sample();
        fake.bytes.truncate(0x300);
        fake.bytes.resize(0x300 + 3 * CMDLINE_MAX, b'x');
        assert_eq!(parse(BASE, &fake).unwrap().cmdline.len(), CMDLINE_MAX);
    }

    #[test]
    fn a_map_that_wraps_is_cut_and_a_long_one_is_counted() {
        let mut fake = sample();
        fake.bytes[0x120..0x128].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(parse(BASE, &fake).unwrap().memory_map[1].range.1, u64::MAX);
        let mut fake = sample();
        fake.bytes[48..52].copy_from_slice(&(MEMORY_MAP_MAX as u32 + 36).to_le_bytes());
        fake.bytes.resize(0x4000, 0);
        let info = parse(BASE, &fake).unwrap();
        assert_eq!(
            (info.memory_map.len(), info.memory_map_dropped),
            (MEMORY_MAP_MAX, 36)
        );
    }

    proptest! {
        #[test]
        fn never_panics(flips in prop::collection::vec((0_usize..0x400, any::<u8>()), 0..24), cut in 0_usize..0x400) {
            let mut fake = sample();
            for (at, value) in flips {
                fake.bytes[at] = value;
            }
            fake.bytes.truncate(cut.max(4));
            let _ = parse(BASE, &fake);
        }
    }
}
