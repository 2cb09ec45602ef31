//! The Multiboot2 information structure (Multiboot2 Specification 2.0, section 3.6), read defensively.
//!
//! GRUB leaves it in memory that its own map calls free, under UEFI perhaps in page zero. So everything is copied out.

use core::fmt;

use heapless::Vec;

use crate::loader::{
    Handover, MEMORY_MAP_MAX, MapEntry, Module, PhysicalMemory, RSDP_LEN, RSDP_OLD_LEN, Rsdp,
    read_string, u32_at, u64_at,
};

/// What EAX holds when a Multiboot2 loader enters.
pub const MAGIC: u32 = 0x36d7_6289;

/// A structure longer than this is taken for garbage, in bytes. GRUB's has a few KiB.
pub const INFORMATION_MAX: u32 = 1 << 20;

/// Types of tags.
mod tag {
    pub const END: u32 = 0;
    pub const COMMAND_LINE: u32 = 1;
    pub const MODULE: u32 = 3;
    pub const MEMORY_MAP: u32 = 6;
    pub const ACPI_OLD: u32 = 14;
    pub const ACPI_NEW: u32 = 15;
    pub const BOOT_SERVICES_RUN: u32 = 18;
}

/// Alignment of the structure and of every tag.
const ALIGNMENT: u64 = 8;
/// Type and size, with which every tag begins.
const TAG_HEADER: u32 = 8;
/// A memory map's tag up to its first entry, and the least size of an entry.
const MEMORY_MAP_HEADER: u32 = 16;
const MEMORY_MAP_ENTRY: u32 = 24;

/// Why an information structure cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ParseError {
    /// The structure lies outside reachable memory, or not on a multiple of eight. Holds the address.
    Unreachable(u64),
    /// The structure's size is less than an end tag needs or more than [`INFORMATION_MAX`].
    BadSize(u32),
    /// A tag is too short for its type or leaves the structure.
    BadTag {
        /// Its type.
        kind: u32,
        /// Its size, in bytes.
        size: u32,
    },
    /// The structure ends without an end tag.
    NoEnd,
    /// There is no memory map to work with.
    NoMemoryMap,
    /// UEFI's boot services still run: memory and devices are not ours.
    BootServicesRun,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreachable(address) => {
                write!(
                    f,
                    "Multiboot2 information at {address:#x} is outside reachable memory"
                )
            }
            Self::BadSize(size) => write!(f, "Multiboot2 information claims {size} bytes"),
            Self::BadTag { kind, size } => {
                write!(
                    f,
                    "Multiboot2 information has a tag of type {kind} with {size} bytes"
                )
            }
            Self::NoEnd => write!(f, "Multiboot2 information has no end tag"),
            Self::NoMemoryMap => write!(f, "Multiboot2 information has no memory map"),
            Self::BootServicesRun => {
                write!(f, "the loader left UEFI's boot services running")
            }
        }
    }
}

/// Reads the information structure at `address`.
///
/// Of a tag that may come once the first counts; tags of unknown types are passed over. Modules that do not fit are
/// left out. The memory map is required.
///
/// # Errors
/// See [`ParseError`].
pub fn parse(address: u64, memory: &impl PhysicalMemory) -> Result<Handover, ParseError> {
    let mut head = [0; 8];
    if !address.is_multiple_of(ALIGNMENT) || !memory.read(address, &mut head) {
        return Err(ParseError::Unreachable(address));
    }
    let size = u32_at(&head, 0);
    if !(8 + TAG_HEADER..=INFORMATION_MAX).contains(&size) {
        return Err(ParseError::BadSize(size));
    }
    let end = address
        .checked_add(u64::from(size))
        .ok_or(ParseError::Unreachable(address))?;
    let mut found = Found {
        handover: Handover {
            memory_map: Vec::new(),
            memory_map_dropped: 0,
            modules: Vec::new(),
            cmdline: Vec::new(),
            rsdp: None,
        },
        has_cmdline: false,
        has_new_rsdp: false,
    };
    let mut at = address + 8;
    loop {
        if end.saturating_sub(at) < u64::from(TAG_HEADER) {
            return Err(ParseError::NoEnd);
        }
        if !memory.read(at, &mut head) {
            return Err(ParseError::Unreachable(at));
        }
        let tag = Tag {
            at,
            kind: u32_at(&head, 0),
            size: u32_at(&head, 4),
        };
        if tag.size < TAG_HEADER || u64::from(tag.size) > end - at {
            return Err(tag.bad());
        }
        if tag.kind == tag::END {
            break;
        }
        found.take(tag, memory)?;
        at += u64::from(tag.size).next_multiple_of(ALIGNMENT);
    }
    if found.handover.memory_map.is_empty() {
        return Err(ParseError::NoMemoryMap);
    }
    Ok(found.handover)
}

/// A tag that lies within the structure.
#[derive(Clone, Copy)]
struct Tag {
    at: u64,
    kind: u32,
    size: u32,
}

impl Tag {
    fn bad(self) -> ParseError {
        ParseError::BadTag {
            kind: self.kind,
            size: self.size,
        }
    }

    /// An error unless it has `size` bytes.
    fn needs(self, size: u32) -> Result<(), ParseError> {
        if self.size < size {
            return Err(self.bad());
        }
        Ok(())
    }

    /// The bytes at `offset`.
    fn read<const N: usize>(
        self,
        offset: u32,
        memory: &impl PhysicalMemory,
    ) -> Result<[u8; N], ParseError> {
        let (mut raw, at) = ([0; N], self.at + u64::from(offset));
        if !memory.read(at, &mut raw) {
            return Err(ParseError::Unreachable(at));
        }
        Ok(raw)
    }
}

struct Found {
    handover: Handover,
    has_cmdline: bool,
    has_new_rsdp: bool,
}

impl Found {
    fn take(&mut self, tag: Tag, memory: &impl PhysicalMemory) -> Result<(), ParseError> {
        match tag.kind {
            tag::COMMAND_LINE if !self.has_cmdline => {
                self.has_cmdline = true;
                self.handover.cmdline = read_string(
                    tag.at + u64::from(TAG_HEADER),
                    tag.at + u64::from(tag.size),
                    memory,
                );
            }
            tag::MODULE => {
                tag.needs(16)?;
                let raw: [u8; 8] = tag.read(TAG_HEADER, memory)?;
                let (start, end) = (u64::from(u32_at(&raw, 0)), u64::from(u32_at(&raw, 4)));
                // Those beyond the capacity are of no use anyway.
                let _ = self.handover.modules.push(Module {
                    start,
                    len: end.saturating_sub(start),
                });
            }
            tag::MEMORY_MAP if self.handover.memory_map.is_empty() => {
                self.read_memory_map(tag, memory)?;
            }
            tag::ACPI_OLD if self.handover.rsdp.is_none() => {
                tag.needs(TAG_HEADER + RSDP_OLD_LEN as u32)?;
                let mut copy = [0; RSDP_LEN];
                let old: [u8; RSDP_OLD_LEN] = tag.read(TAG_HEADER, memory)?;
                copy[..RSDP_OLD_LEN].copy_from_slice(&old);
                self.handover.rsdp = Some(Rsdp::Copy(copy));
            }
            // Preferred: the old form leads to 32-bit tables alone.
            tag::ACPI_NEW if !self.has_new_rsdp => {
                tag.needs(TAG_HEADER + RSDP_LEN as u32)?;
                self.has_new_rsdp = true;
                self.handover.rsdp = Some(Rsdp::Copy(tag.read(TAG_HEADER, memory)?));
            }
            tag::BOOT_SERVICES_RUN => return Err(ParseError::BootServicesRun),
            _ => {}
        }
        Ok(())
    }

    fn read_memory_map(
        &mut self,
        tag: Tag,
        memory: &impl PhysicalMemory,
    ) -> Result<(), ParseError> {
        tag.needs(MEMORY_MAP_HEADER)?;
        let entry_size = u32_at(&tag.read::<4>(TAG_HEADER, memory)?, 0);
        if entry_size < MEMORY_MAP_ENTRY {
            return Err(tag.bad());
        }
        let count = (tag.size - MEMORY_MAP_HEADER) / entry_size;
        let kept = count.min(MEMORY_MAP_MAX as u32);
        for index in 0..kept {
            // No overflow: the product is less than the tag's size.
            let raw: [u8; MEMORY_MAP_ENTRY as usize] =
                tag.read(MEMORY_MAP_HEADER + index * entry_size, memory)?;
            let start = u64_at(&raw, 0);
            // Capacity: no more than MEMORY_MAP_MAX are kept.
            let _ = self.handover.memory_map.push(MapEntry {
                range: (start, start.saturating_add(u64_at(&raw, 8))),
                kind: u32_at(&raw, 16),
            });
        }
        self.handover.memory_map_dropped = count - kept;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::fake::Fake;
    use crate::loader::{CMDLINE_MAX, MODULES_MAX};
    use proptest::prelude::*;
    use std::vec::Vec as StdVec;

    const BASE: u64 = 0x1_0000;

    /// The bytes of a tag, padded.
    fn tag(kind: u32, body: &[u8]) -> StdVec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend_from_slice(&(8 + body.len() as u32).to_le_bytes());
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn information(tags: &[StdVec<u8>]) -> Fake {
        let body = tags.concat();
        let mut bytes = (8 + body.len() as u32).to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend(body);
        Fake { base: BASE, bytes }
    }

    fn map(entry_size: u32, entries: &[(u64, u64, u32)]) -> StdVec<u8> {
        let mut body = entry_size.to_le_bytes().to_vec();
        body.extend_from_slice(&[0; 4]);
        for (start, len, kind) in entries {
            let begun = body.len();
            body.extend_from_slice(&start.to_le_bytes());
            body.extend_from_slice(&len.to_le_bytes());
            body.extend_from_slice(&kind.to_le_bytes());
            body.resize(begun + entry_size as usize, 0);
        }
        tag(6, &body)
    }

    fn module(start: u32, end: u32) -> StdVec<u8> {
        let raw = [start.to_le_bytes(), end.to_le_bytes()].concat();
        tag(3, &[raw.as_slice(), b"/palisade/node.toml\0"].concat())
    }

    fn end() -> StdVec<u8> {
        tag(0, &[])
    }

    fn usual_map() -> StdVec<u8> {
        map(24, &[(0, 0x9_fc00, 1), (0x10_0000, 0x1ff_0000, 1)])
    }

    /// As GRUB orders it, with a tag that is of no interest (its own name).
    fn sample() -> Fake {
        information(&[
            tag(1, b"panic=exit test=boot\0"),
            tag(2, b"GRUB 2.06\0"),
            module(0x1f0_0000, 0x1f0_02bc),
            usual_map(),
            tag(14, &[1; 20]),
            tag(15, &[2; 36]),
            end(),
        ])
    }

    #[test]
    fn reads_what_grub_passes() {
        let fake = sample();
        let found = parse(BASE, &fake).unwrap();
        assert_eq!(
            found.memory_map[1],
            MapEntry {
                range: (0x10_0000, 0x20f_0000),
                kind: 1
            }
        );
        assert_eq!(
            found.modules.as_slice(),
            &[Module {
                start: 0x1f0_0000,
                len: 0x2bc
            }]
        );
        assert_eq!(found.cmdline.as_slice(), b"panic=exit test=boot");
        assert_eq!(found.rsdp, Some(Rsdp::Copy([2; 36])));
    }

    #[test]
    fn the_new_root_pointer_wins_in_either_order_and_the_old_one_does() {
        let (old, new) = (tag(14, &[1; 20]), tag(15, &[2; 36]));
        let rsdp = |tags: &[StdVec<u8>]| parse(BASE, &information(tags)).unwrap().rsdp;
        let wanted = Some(Rsdp::Copy([2; 36]));
        assert_eq!(
            rsdp(&[usual_map(), old.clone(), new.clone(), end()]),
            wanted
        );
        assert_eq!(rsdp(&[usual_map(), new, old.clone(), end()]), wanted);
        let mut padded = [0; 36];
        padded[..20].fill(1);
        assert_eq!(rsdp(&[usual_map(), old, end()]), Some(Rsdp::Copy(padded)));
    }

    #[test]
    fn larger_map_entries_are_read_by_their_own_size() {
        let fake = information(&[map(40, &[(0, 1, 2), (0x10_0000, 0x1000, 1)]), end()]);
        let found = parse(BASE, &fake).unwrap();
        assert_eq!(found.memory_map.len(), 2);
        assert_eq!(found.memory_map[1].range, (0x10_0000, 0x10_1000));
    }

    #[test]
    fn refuses_what_cannot_be_trusted() {
        let of = |tags: &[StdVec<u8>]| parse(BASE, &information(tags)).unwrap_err();
        let bad = |kind, size| ParseError::BadTag { kind, size };
        assert_eq!(of(&[end()]), ParseError::NoMemoryMap);
        assert_eq!(of(&[map(24, &[]), end()]), ParseError::NoMemoryMap);
        assert_eq!(of(&[usual_map()]), ParseError::NoEnd);
        assert_eq!(of(&[map(16, &[(0, 1, 1)]), end()]), bad(6, 32));
        assert_eq!(of(&[map(0, &[]), end()]), bad(6, 16));
        assert_eq!(of(&[tag(6, &[24, 0, 0, 0]), end()]), bad(6, 12));
        assert_eq!(of(&[usual_map(), tag(3, &[0; 4]), end()]), bad(3, 12));
        assert_eq!(of(&[usual_map(), tag(14, &[0; 19]), end()]), bad(14, 27));
        assert_eq!(of(&[usual_map(), tag(15, &[0; 20]), end()]), bad(15, 28));
        assert_eq!(
            of(&[usual_map(), tag(18, &[]), end()]),
            ParseError::BootServicesRun
        );
        for size in [0_u32, 7, 0x1000] {
            let mut fake = sample();
            fake.bytes[12..16].copy_from_slice(&size.to_le_bytes());
            assert_eq!(parse(BASE, &fake).unwrap_err(), bad(1, size));
        }
        for size in [0, 15, INFORMATION_MAX + 1] {
            let mut fake = sample();
            fake.bytes[..4].copy_from_slice(&size.to_le_bytes());
            assert_eq!(parse(BASE, &fake).unwrap_err(), ParseError::BadSize(size));
        }
        for address in [8, BASE + 4, u64::MAX - 7] {
            let error = parse(address, &sample()).unwrap_err();
            assert_eq!(error, ParseError::Unreachable(address));
        }
        let mut cut = sample();
        cut.bytes.truncate(0x80);
        assert!(matches!(
            parse(BASE, &cut).unwrap_err(),
            ParseError::Unreachable(_)
        ));
    }

    #[test]
    fn too_much_of_anything_is_bounded() {
        let entries: StdVec<_> = (0..MEMORY_MAP_MAX as u64 + 36)
            .map(|index| (index << 20, 0x1000, 1))
            .collect();
        let mut tags = std::vec![map(24, &entries), tag(1, &[b'x'; 3 * CMDLINE_MAX])];
        tags.resize(MODULES_MAX + 5, module(0x20_0000, 0x20_0001));
        tags.push(end());
        let found = parse(BASE, &information(&tags)).unwrap();
        assert_eq!(
            (found.memory_map.len(), found.memory_map_dropped),
            (MEMORY_MAP_MAX, 36)
        );
        assert_eq!(found.cmdline.len(), CMDLINE_MAX);
        assert_eq!(found.modules.len(), MODULES_MAX);
    }

    #[test]
    fn the_first_of_repeated_tags_counts_and_a_string_ends_with_its_tag() {
        let first = map(24, &[(0x10_0000, 0x1000, 1)]);
        let fake = information(&[
            tag(1, b"first"),
            tag(1, b"second\0"),
            first,
            usual_map(),
            end(),
        ]);
        let found = parse(BASE, &fake).unwrap();
        assert_eq!(found.cmdline.as_slice(), b"first");
        assert_eq!(found.memory_map.len(), 1);
    }

    #[test]
    fn inverted_modules_are_empty_and_a_map_that_wraps_is_cut() {
        let fake = information(&[module(0x2000, 0x1000), map(24, &[(1, u64::MAX, 1)]), end()]);
        let found = parse(BASE, &fake).unwrap();
        assert!(found.modules[0].range().is_empty());
        assert_eq!(found.memory_map[0].range, (1, u64::MAX));
    }

    /// Tags of interesting types with bodies of any length and content.
    fn any_tags() -> impl Strategy<Value = StdVec<StdVec<u8>>> {
        let kind = prop_oneof![0_u32..22, any::<u32>()];
        let body = prop::collection::vec(any::<u8>(), 0..80);
        prop::collection::vec(
            (kind, body).prop_map(|(kind, body)| tag(kind, &body)),
            0..12,
        )
    }

    fn check(fake: &Fake) -> Result<(), TestCaseError> {
        if let Ok(found) = parse(BASE, fake) {
            prop_assert!(!found.memory_map.is_empty());
            prop_assert!(
                found
                    .memory_map
                    .iter()
                    .all(|entry| entry.range.0 <= entry.range.1)
            );
            prop_assert!(
                found
                    .modules
                    .iter()
                    .all(|module| module.range().end < 1 << 32)
            );
            prop_assert!(!found.cmdline.contains(&0));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            check(&Fake { base: BASE, bytes })?;
        }

        #[test]
        fn survives_any_tags(mut tags in any_tags(), usual in any::<bool>()) {
            if usual {
                tags.insert(0, usual_map());
            }
            tags.push(end());
            check(&information(&tags))?;
        }

        #[test]
        fn survives_flipped_bytes(flips in prop::collection::vec((0_usize..0x140, any::<u8>()), 0..24), cut in 0_usize..0x140) {
            let mut fake = sample();
            for (at, value) in flips {
                if let Some(byte) = fake.bytes.get_mut(at) {
                    *byte = value;
                }
            }
            fake.bytes.truncate(cut.max(4));
            check(&fake)?;
        }
    }
}
