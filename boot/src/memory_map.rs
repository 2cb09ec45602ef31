//! From the loader's memory map to the regions the kernel may use.
//!
//! The loader's map tells what is RAM, not what is free: the image, its stacks and the boot modules lie in RAM
//! too. Here they are cut out, so that no allocator can ever hand out the configuration that has yet to be read.

use core::ops::Range;

use bootloader_api::info::{MemoryRegion, MemoryRegionKind};
use heapless::Vec;

use crate::loader::{MEMORY_TYPE_RAM, MapEntry};

/// Most regions in the finished map.
pub const REGIONS_MAX: usize = 256;

/// Memory below this belongs to the firmware (interrupt vectors, BIOS data, the loader's tables) and stays unused.
pub const LOW_MEMORY_END: u64 = 0x10_0000;

/// End of the identity mapping: the lower half of a 48-bit virtual address space.
pub const IDENTITY_END: u64 = 1 << 47;

/// Granularity of the usable regions.
pub const PAGE_SIZE: u64 = 4096;

/// The regions of a finished map: usable ones sorted and disjoint, then the reserved ones.
pub type Regions = Vec<MemoryRegion, REGIONS_MAX>;

/// The map has more fragments than [`REGIONS_MAX`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooManyRegions;

/// A set of disjoint page ranges, in no order.
struct Free(Vec<Range<u64>, REGIONS_MAX>);

impl Free {
    fn remove(&mut self, cut: Range<u64>) -> Result<(), TooManyRegions> {
        let mut index = 0;
        while index < self.0.len() {
            let have = self.0[index].clone();
            if cut.end <= have.start || have.end <= cut.start || cut.is_empty() {
                index += 1;
                continue;
            }
            let _ = self.0.swap_remove(index);
            // The pieces go to the back; they no longer meet the cut, so passing over them again is harmless.
            for piece in [
                have.start..cut.start.min(have.end),
                cut.end.max(have.start)..have.end,
            ] {
                if !piece.is_empty() {
                    self.0.push(piece).map_err(|_| TooManyRegions)?;
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, range: Range<u64>) -> Result<(), TooManyRegions> {
        // Removing first keeps the set disjoint when the loader lists memory twice.
        self.remove(range.clone())?;
        if !range.is_empty() {
            self.0.push(range).map_err(|_| TooManyRegions)?;
        }
        Ok(())
    }
}

fn page_up(address: u64) -> u64 {
    address
        .checked_next_multiple_of(PAGE_SIZE)
        .unwrap_or(u64::MAX - (PAGE_SIZE - 1))
}

fn page_down(address: u64) -> u64 {
    address - address % PAGE_SIZE
}

/// Builds the kernel's memory map.
///
/// Usable memory is shrunk to whole pages; whatever is `reserved`, or listed by the loader as anything but RAM, is
/// grown to whole pages and wins over usable memory that overlaps it.
///
/// # Errors
/// [`TooManyRegions`] if the result does not fit.
pub fn build(loader: &[MapEntry], reserved: &[Range<u64>]) -> Result<Regions, TooManyRegions> {
    let mut free = Free(Vec::new());
    for entry in loader.iter().filter(|entry| entry.kind == MEMORY_TYPE_RAM) {
        let start = page_up(entry.range.0).max(LOW_MEMORY_END);
        free.add(start..page_down(entry.range.1).min(IDENTITY_END))?;
    }
    for entry in loader
        .iter()
        .filter(|entry| entry.kind != MEMORY_TYPE_RAM && entry.range.0 < entry.range.1)
    {
        free.remove(page_down(entry.range.0)..page_up(entry.range.1))?;
    }
    for range in reserved.iter().filter(|range| !range.is_empty()) {
        free.remove(page_down(range.start)..page_up(range.end))?;
    }
    free.0.sort_unstable_by_key(|range| range.start);

    let mut regions = Regions::new();
    let mut push = |start, end, kind| {
        regions
            .push(MemoryRegion { start, end, kind })
            .map_err(|_| TooManyRegions)
    };
    let mut pending: Option<Range<u64>> = None;
    for range in free.0 {
        match &mut pending {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => {
                if let Some(last) = pending.replace(range) {
                    push(last.start, last.end, MemoryRegionKind::Usable)?;
                }
            }
        }
    }
    if let Some(last) = pending {
        push(last.start, last.end, MemoryRegionKind::Usable)?;
    }
    for entry in loader
        .iter()
        .filter(|entry| entry.kind != MEMORY_TYPE_RAM && entry.range.0 < entry.range.1)
    {
        push(
            entry.range.0,
            entry.range.1,
            MemoryRegionKind::UnknownBios(entry.kind),
        )?;
    }
    for range in reserved.iter().filter(|range| !range.is_empty()) {
        push(range.start, range.end, MemoryRegionKind::Bootloader)?;
    }
    Ok(regions)
}

/// Bytes of RAM that the loader's map lists, overlaps counted once; `None` if it is too fragmented to tell.
pub fn ram_bytes(loader: &[MapEntry]) -> Option<u64> {
    let mut all = Free(Vec::new());
    for entry in loader.iter().filter(|entry| entry.kind == MEMORY_TYPE_RAM) {
        all.add(entry.range.0..entry.range.1).ok()?;
    }
    Some(all.0.iter().map(|range| range.end - range.start).sum())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec as StdVec;

    fn ram(start: u64, end: u64) -> MapEntry {
        MapEntry {
            range: (start, end),
            kind: MEMORY_TYPE_RAM,
        }
    }

    fn usable(regions: &Regions) -> StdVec<(u64, u64)> {
        regions
            .iter()
            .filter(|region| region.kind == MemoryRegionKind::Usable)
            .map(|region| (region.start, region.end))
            .collect()
    }

    #[test]
    fn image_and_module_are_cut_out() {
        let map = [
            ram(0, 0x9_fc00),
            MapEntry {
                range: (0xf_0000, 0x10_0000),
                kind: 2,
            },
            ram(0x10_0000, 0x200_0000),
        ];
        let built = build(&map, &[0x20_0000..0x38_1234, 0x1f0_0000..0x1f0_02bc]).unwrap();
        assert_eq!(
            usable(&built),
            [
                (0x10_0000, 0x20_0000),
                (0x38_2000, 0x1f0_0000),
                (0x1f0_1000, 0x200_0000)
            ]
        );
        assert_eq!(ram_bytes(&map), Some(0x9_fc00 + 0x1f0_0000));
    }

    #[test]
    fn overlapping_and_adjacent_memory_is_merged_and_reserved_wins() {
        let map = [
            ram(0x10_0000, 0x30_0000),
            ram(0x20_0000, 0x40_0000),
            MapEntry {
                range: (0x3f_f001, 0x3f_f002),
                kind: 2,
            },
        ];
        assert_eq!(usable(&build(&map, &[]).unwrap()), [(0x10_0000, 0x3f_f000)]);
        assert_eq!(ram_bytes(&map), Some(0x30_0000));
    }

    #[test]
    fn memory_above_four_gib_and_beyond_the_identity_mapping() {
        let map = [
            ram(0x1_0000_0000, 0x4_4000_0000),
            ram(IDENTITY_END - 0x1000, u64::MAX),
        ];
        let built = build(&map, &[]).unwrap();
        assert_eq!(
            usable(&built),
            [
                (0x1_0000_0000, 0x4_4000_0000),
                (IDENTITY_END - 0x1000, IDENTITY_END)
            ]
        );
    }

    #[test]
    fn a_shredded_map_is_refused() {
        let map = [ram(0x10_0000, 0x1000_0000)];
        let holes: StdVec<_> = (0..REGIONS_MAX as u64)
            .map(|i| 0x20_0000 + i * 0x2000..0x20_1000 + i * 0x2000)
            .collect();
        assert_eq!(build(&map, &holes).unwrap_err(), TooManyRegions);
    }

    proptest! {
        /// Against a page-by-page model: a page is usable iff wholly in RAM, above 1 MiB, and touched by nothing else.
        #[test]
        fn agrees_with_the_page_model(
            entries in prop::collection::vec((0_u64..0x400, 0_u64..0x200, 1_u32..3), 0..8),
            cuts in prop::collection::vec((0_u64..0x400, 0_u64..0x80), 0..6),
        ) {
            const UNIT: u64 = 0x800; // half a page, so that edges are unaligned
            let map: StdVec<_> = entries
                .iter()
                .map(|&(at, len, kind)| MapEntry {
                    range: (LOW_MEMORY_END - 0x8000 + at * UNIT, LOW_MEMORY_END - 0x8000 + (at + len) * UNIT),
                    kind,
                })
                .collect();
            let cuts: StdVec<_> =
                cuts.iter().map(|&(at, len)| LOW_MEMORY_END + at * UNIT..LOW_MEMORY_END + (at + len) * UNIT).collect();
            let built = usable(&build(&map, &cuts).unwrap());
            for pair in built.windows(2) {
                prop_assert!(pair[0].1 < pair[1].0);
            }
            for page in (LOW_MEMORY_END - 0x8000..LOW_MEMORY_END + 0x800 * UNIT).step_by(PAGE_SIZE as usize) {
                let meets = |start: u64, end: u64| start < end && start < page + PAGE_SIZE && page < end;
                // Whole pages of one entry only: a page stitched from two entries is left out, on both sides.
                let whole = map.iter().any(|e| e.kind == 1 && e.range.0 <= page && page + PAGE_SIZE <= e.range.1);
                let blocked = map.iter().any(|e| e.kind != 1 && meets(e.range.0, e.range.1))
                    || cuts.iter().any(|c| meets(c.start, c.end));
                let expected = page >= LOW_MEMORY_END && whole && !blocked;
                prop_assert_eq!(built.iter().any(|&(s, e)| s <= page && page < e), expected);
            }
        }
    }
}
