//! The PVH start information (Xen `public/arch-x86/hvm/start_info.h`), read defensively.

use core::fmt;
use core::ops::Range;

use heapless::Vec;

/// `hvm_start_info.magic`: the bytes "xEn3" with bit 7 of the E set.
pub const MAGIC: u32 = 0x336e_c578;

/// Entries of the loader's memory map that are kept; QEMU passes fewer than ten.
pub const MEMORY_MAP_MAX: usize = 64;

/// Boot modules whose extent is remembered. Only the first is used (the configuration).
pub const MODULES_MAX: usize = 8;

/// Longest command line kept, in bytes, without its terminating zero.
pub const CMDLINE_MAX: usize = 4096;

/// `hvm_memmap_table_entry.type` of ordinary memory; the other values are those of E820.
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

/// A boot module (`-initrd`).
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
pub struct StartInfo {
    /// The memory map as the loader gave it: unsorted, perhaps overlapping.
    pub memory_map: Vec<MapEntry, MEMORY_MAP_MAX>,
    /// Entries of the memory map that did not fit; if they are RAM, that memory is unused.
    pub memory_map_dropped: u32,
    /// The boot modules, in order.
    pub modules: Vec<Module, MODULES_MAX>,
    /// The command line without its terminating zero, cut at [`CMDLINE_MAX`].
    pub cmdline: Vec<u8, CMDLINE_MAX>,
    /// Physical address of the ACPI RSDP, when the loader knows one.
    pub rsdp: Option<u64>,
}

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

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut raw = [0; 4];
    raw.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(raw)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut raw = [0; 8];
    raw.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(raw)
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
pub fn parse(address: u64, memory: &impl PhysicalMemory) -> Result<StartInfo, ParseError> {
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
    Ok(StartInfo {
        memory_map,
        memory_map_dropped,
        modules: read_modules(u64_at(&head, 16), module_count, memory),
        cmdline: read_cmdline(u64_at(&head, 24), memory),
        rsdp: (rsdp != 0).then_some(rsdp),
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
    let mut line = Vec::new();
    if address == 0 {
        return line;
    }
    let mut byte = [0];
    let mut at = address;
    while memory.read(at, &mut byte) && byte[0] != 0 {
        if line.push(byte[0]).is_err() {
            break;
        }
        at = at.wrapping_add(1);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec as StdVec;

    /// Memory that starts at `base` and ends where its bytes end.
    struct Fake {
        base: u64,
        bytes: StdVec<u8>,
    }

    impl PhysicalMemory for Fake {
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
        assert_eq!(info.rsdp, Some(0xf_5b20));
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
        fake.bytes[48..52].copy_from_slice(&100_u32.to_le_bytes());
        fake.bytes.resize(0x4000, 0);
        let info = parse(BASE, &fake).unwrap();
        assert_eq!(
            (info.memory_map.len(), info.memory_map_dropped),
            (MEMORY_MAP_MAX, 36)
        );
    }

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
