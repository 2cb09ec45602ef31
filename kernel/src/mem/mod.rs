//! Memory: what there is, what is mapped, and who gets it.
//!
//! Virtual addresses equal physical ones throughout, so an address of a buffer is the address a device needs. Mapped
//! are: the image with the permissions of its sections, RAM that is free at boot, the boot module (read-only), and
//! device windows once somebody asks ([`map_mmio`]). Not mapped are page zero, the guard pages under the stacks and
//! everything else, so that a wild pointer faults.
//!
//! Free RAM is never cleared or touched before it is used: on the host, untouched memory costs nothing. The heap grows
//! upward from the bottom of one region as it needs; [`take_region`] cuts from the top of the largest.

mod emulator;
mod heap;
pub mod layout;
mod paging;

use core::ops::Range;
use core::ptr::NonNull;

use boot::loader::PhysicalMemory;
use boot::memory_map::{IDENTITY_END, PAGE_SIZE};
use bootloader_api::BootInfo;
use bootloader_api::info::MemoryRegionKind;
use heapless::Vec;
use spin::Mutex;

pub use emulator::enlarge_translation_cache;
pub use heap::allocations;

use paging::Access;

const REGIONS_MAX: usize = boot::memory_map::REGIONS_MAX;

/// The region for the heap is the first with this much, in bytes: low memory, not the scraps below the image.
const HEAP_REGION_MIN: u64 = 8 << 20;

struct Memory {
    /// RAM that was free at boot; for telling RAM from device windows.
    ram: Vec<Range<u64>, REGIONS_MAX>,
    /// What is left of it.
    free: Vec<Range<u64>, REGIONS_MAX>,
    /// Index in `free` of the region that the heap grows into.
    heap: usize,
}

static MEMORY: Mutex<Memory> = Mutex::new(Memory {
    ram: Vec::new(),
    free: Vec::new(),
    heap: 0,
});

/// How memory stands, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Stats {
    /// Free at boot, after image and boot module.
    pub total_bytes: u64,
    /// Neither heap nor taken by [`take_region`].
    pub free_bytes: u64,
    /// Size of the heap so far. It grows while there is free memory beside it.
    pub heap_bytes: usize,
    /// Heap in use.
    pub heap_used_bytes: usize,
}

fn sum(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|range| range.end - range.start).sum()
}

/// How memory stands.
pub fn stats() -> Stats {
    let (heap_bytes, heap_used_bytes) = heap::usage();
    let memory = MEMORY.lock();
    Stats {
        total_bytes: sum(&memory.ram),
        free_bytes: sum(&memory.free),
        heap_bytes,
        heap_used_bytes,
    }
}

/// Takes stock of memory and switches to the kernel's own page tables, with `also` mapped as RAM. The heap works
/// afterwards.
pub fn init(info: &BootInfo, also: Option<Range<u64>>) {
    let usable = info
        .memory_regions
        .iter()
        .filter(|region| region.kind == MemoryRegionKind::Usable);
    let ranges: Vec<_, REGIONS_MAX> = usable.map(|region| region.start..region.end).collect();
    {
        let mut memory = MEMORY.lock();
        memory.ram = ranges.clone();
        memory.free = ranges;
        let by_size = |range: &&Range<u64>| range.end - range.start;
        let big_enough = memory
            .free
            .iter()
            .position(|range| range.end - range.start >= HEAP_REGION_MIN);
        let largest = memory.free.iter().max_by_key(by_size).cloned();
        memory.heap = match (big_enough, largest) {
            (Some(index), _) => index,
            (None, Some(largest)) => memory
                .free
                .iter()
                .position(|range| *range == largest)
                .unwrap_or(0),
            (None, None) => crate::panic::fatal(format_args!("no usable memory")),
        };
    }
    paging::init();
    let ram = MEMORY.lock().ram.clone();
    for range in ram {
        map_or_stop(range, Access::Ram);
    }
    for (range, access) in layout::sections() {
        map_or_stop(range, access);
    }
    if let Some(range) = also {
        map_or_stop(range, Access::Ram);
    }
    if let Some(start) = info.ramdisk_addr.into_option() {
        map_or_stop(pages(start, info.ramdisk_len), Access::ReadOnly);
    }
    // SAFETY: everything in use is mapped by now, at the same addresses: image and stacks through `sections`; boot
    // information and command line are statics in the image.
    unsafe { paging::activate() };
}

fn map_or_stop(range: Range<u64>, access: Access) {
    if !paging::map(range.clone(), access) {
        crate::panic::fatal(format_args!(
            "cannot map {range:#x?}: out of memory for page tables"
        ));
    }
}

/// The whole pages that `len` bytes at `start` touch.
fn pages(start: u64, len: u64) -> Range<u64> {
    let end = start.saturating_add(len).min(IDENTITY_END);
    start - start % PAGE_SIZE..end.next_multiple_of(PAGE_SIZE)
}

/// Cuts `bytes` (whole pages) from the top of the largest free region that ends at or below `limit`.
fn take_top(bytes: u64, limit: u64) -> Option<u64> {
    let mut memory = MEMORY.lock();
    let eligible = memory.free.iter_mut().filter(|region| region.end <= limit);
    let region = eligible.max_by_key(|region| region.end - region.start)?;
    let start = region
        .end
        .checked_sub(bytes)
        .filter(|start| *start >= region.start)?;
    region.end = start;
    Some(start)
}

/// Takes a physically contiguous region of at least `bytes` bytes for good, for DMA or any large table.
///
/// It starts on a page, its physical address is its virtual one, and its content is arbitrary: whatever a previous
/// boot left there. `None` if no free region is large enough, or for zero bytes.
pub fn take_region(bytes: usize) -> Option<&'static mut [u8]> {
    if bytes == 0 {
        return None;
    }
    let rounded = (bytes as u64).checked_next_multiple_of(PAGE_SIZE)?;
    let start = take_top(rounded, IDENTITY_END)?;
    // SAFETY: the region was free, is mapped writable, and is now out of the free list for good, so nobody else has
    // it. Any byte value is valid for `u8`.
    Some(unsafe { core::slice::from_raw_parts_mut(start as *mut u8, bytes) })
}

/// Gives the heap `bytes` more at its end; the new range.
fn grow_heap(bytes: u64) -> Option<Range<u64>> {
    let mut memory = MEMORY.lock();
    let index = memory.heap;
    let region = memory.free.get_mut(index)?;
    let start = region.start;
    let end = start.checked_add(bytes)?;
    if end > region.end {
        return None;
    }
    region.start = end;
    Some(start..end)
}

/// Maps a device window uncached, at the same address. `None` where the window overlaps RAM or lies beyond the
/// identity mapping (128 TiB), or when page tables cannot be had.
pub fn map_mmio(physical: u64, len: usize) -> Option<NonNull<u8>> {
    let end = physical
        .checked_add(len as u64)
        .filter(|end| *end <= IDENTITY_END)?;
    let overlaps = MEMORY
        .lock()
        .ram
        .iter()
        .any(|ram| physical < ram.end && ram.start < end);
    if overlaps || len == 0 || !paging::map(pages(physical, len as u64), Access::Device) {
        return None;
    }
    NonNull::new(physical as *mut u8)
}

/// Firmware tables, mapped read-only as they are read.
pub struct Firmware;

impl PhysicalMemory for Firmware {
    fn read(&self, from: u64, into: &mut [u8]) -> bool {
        let end = from.checked_add(into.len() as u64);
        if from < PAGE_SIZE || end.is_none_or(|end| end > IDENTITY_END) {
            return false;
        }
        if !paging::map(pages(from, into.len() as u64), Access::ReadOnly) {
            return false;
        }
        // SAFETY: the range is mapped. It belongs to the firmware, or to nothing, and then reads as all ones.
        unsafe { core::ptr::copy_nonoverlapping(from as *const u8, into.as_mut_ptr(), into.len()) };
        true
    }
}
