//! Builds the [`BootInfo`] that `kernel_main` receives.

use core::fmt;
use core::ops::Range;

use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegionKind, MemoryRegions, Optional};
use heapless::{String, Vec};
use spin::{Mutex, MutexGuard, Once};

use crate::loader::{
    CMDLINE_MAX, Handover, MEMORY_TYPE_RAM, MODULES_MAX, Module, PhysicalMemory, RSDP_LEN, Rsdp,
};
use crate::memory_map::{self, PAGE_SIZE, Regions};
use crate::{multiboot2, start_info};

/// Why the machine cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BootError {
    /// A PVH loader's tables are unusable.
    StartInfo(start_info::ParseError),
    /// A Multiboot2 loader's tables are unusable.
    Multiboot2(multiboot2::ParseError),
    /// Entered at Multiboot2's address without its magic number in EAX. Holds what was there.
    UnknownLoader(u32),
    /// The memory map has more fragments than [`memory_map::REGIONS_MAX`].
    FragmentedMemory,
    /// A boot module lies where the image or its stacks are; its first byte.
    ModuleOverlapsImage(u64),
    /// A boot module lies in page zero and there is no free memory to move it to; its length.
    NoRoomForModule(u64),
    /// The entry ran twice.
    Repeated,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartInfo(error) => error.fmt(f),
            Self::Multiboot2(error) => error.fmt(f),
            Self::UnknownLoader(magic) => {
                write!(f, "the loader's magic is {magic:#x}, not Multiboot2's")
            }
            Self::FragmentedMemory => write!(f, "memory map has too many fragments"),
            Self::ModuleOverlapsImage(start) => {
                write!(f, "boot module at {start:#x} overlaps the image")
            }
            Self::NoRoomForModule(len) => {
                write!(f, "no memory for a boot module of {len} bytes")
            }
            Self::Repeated => write!(f, "entered twice"),
        }
    }
}

/// Where the image and its stack lie.
#[derive(Clone, Debug)]
pub struct Image {
    /// Physical extent of everything the image occupies: sections, stacks and guard pages.
    pub extent: Range<u64>,
    /// The boot stack.
    pub stack: Range<u64>,
    /// Whole pages that no loader writes to, and that are to be kept for what a crash leaves for the next start.
    pub crash: Range<u64>,
}

/// What the loader passed beside the fields of [`BootInfo`].
#[derive(Debug)]
pub struct Booted {
    /// The kernel command line; bytes that are not UTF-8 end it.
    pub cmdline: String<CMDLINE_MAX>,
    /// RAM in the machine, in bytes.
    pub ram_bytes: u64,
    /// Entries of the loader's memory map that were ignored, because there are too many.
    pub memory_map_dropped: u32,
    /// Boot modules passed. The first is the ramdisk of [`BootInfo`], the others are unused.
    pub modules: usize,
    /// [`Image::crash`], if that is memory and nothing else lies there. It is in no usable region then.
    pub crash: Option<Range<u64>>,
}

/// Physical memory through the trampoline's identity mapping.
struct IdentityMapped;

/// What the trampoline maps.
const MAPPED_END: u64 = 1 << 32;

impl PhysicalMemory for IdentityMapped {
    fn read(&self, from: u64, into: &mut [u8]) -> bool {
        let end = from.checked_add(into.len() as u64);
        if end.is_none_or(|end| end > MAPPED_END) {
            return false;
        }
        // SAFETY: the trampoline identity-mapped the first 4 GiB and the range lies within. Reading absent memory or
        // a device window returns garbage, which the parsers cope with; `into` is an exclusive borrow, so the
        // loader's tables cannot be the same bytes. Not with a pointer of Rust's: address zero is a place like any
        // other for GRUB under UEFI.
        unsafe {
            core::arch::asm!(
                "rep movsb",
                inout("rsi") from => _,
                inout("rdi") into.as_mut_ptr() => _,
                inout("rcx") into.len() => _,
                options(nostack, preserves_flags),
            );
        }
        true
    }
}

/// Reads what the loader left at the physical address `tables` and builds the boot information. `magic` tells the
/// loaders apart: 0 for PVH, [`multiboot2::MAGIC`].
///
/// To be called once, from the code that [`entry!`](crate::entry) enters, on the trampoline's page tables.
///
/// # Errors
/// See [`BootError`].
pub fn start(
    tables: u64,
    magic: u32,
    image: &Image,
) -> Result<(&'static mut BootInfo, &'static Booted), BootError> {
    static REGIONS: Mutex<Regions> = Mutex::new(Vec::new());
    static INFO: Mutex<Option<BootInfo>> = Mutex::new(None);
    static BOOTED: Once<Booted> = Once::new();
    static RSDP: Once<[u8; RSDP_LEN]> = Once::new();

    let mut parsed = match magic {
        0 => start_info::parse(tables, &IdentityMapped).map_err(BootError::StartInfo)?,
        multiboot2::MAGIC => {
            multiboot2::parse(tables, &IdentityMapped).map_err(BootError::Multiboot2)?
        }
        other => return Err(BootError::UnknownLoader(other)),
    };
    let regions = MutexGuard::leak(REGIONS.try_lock().ok_or(BootError::Repeated)?);
    *regions = regions_of(&parsed, image)?;
    if let Some(Move { from, to }) = leave_page_zero(&mut parsed, regions)? {
        *regions = regions_of(&parsed, image)?;
        // SAFETY: the range lies in free memory below 4 GiB, which the trampoline mapped; the regions were made anew
        // without it, so that it has no other user.
        let into = unsafe { core::slice::from_raw_parts_mut(to as *mut u8, from.len as usize) };
        if !IdentityMapped.read(from.start, into) {
            return Err(BootError::NoRoomForModule(from.len));
        }
    }
    if let Some(Rsdp::Copy(copy)) = parsed.rsdp {
        let kept: &'static [u8; RSDP_LEN] = RSDP.call_once(|| copy);
        parsed.rsdp = Some(Rsdp::At(&raw const *kept as u64));
    }
    let slot = MutexGuard::leak(INFO.try_lock().ok_or(BootError::Repeated)?);
    let info = slot.insert(describe(&parsed, image, regions));
    let booted = BOOTED.call_once(|| extras(&parsed, image));
    Ok((info, booted))
}

fn regions_of(parsed: &Handover, image: &Image) -> Result<Regions, BootError> {
    let overlaps = |range: &Range<u64>| {
        range.start < image.extent.end && image.extent.start < range.end && !range.is_empty()
    };
    let mut reserved: Vec<Range<u64>, { MODULES_MAX + 2 }> = Vec::new();
    // Capacity: two more than the modules can be.
    let _ = reserved.push(image.extent.clone());
    if let Some(range) = crash_region(parsed, image) {
        let _ = reserved.push(range);
    }
    for module in &parsed.modules {
        let range = module.range();
        if overlaps(&range) {
            return Err(BootError::ModuleOverlapsImage(range.start));
        }
        let _ = reserved.push(range);
    }
    memory_map::build(&parsed.memory_map, &reserved).map_err(|_| BootError::FragmentedMemory)
}

/// Where a crash can leave something: all of it is RAM, and no module lies there.
fn crash_region(parsed: &Handover, image: &Image) -> Option<Range<u64>> {
    let wanted = &image.crash;
    let meets = |range: &Range<u64>| range.start < wanted.end && wanted.start < range.end;
    let mut modules = parsed.modules.iter().map(Module::range);
    let mut map = parsed.memory_map.iter();
    let ram = map.any(|entry| {
        entry.kind == MEMORY_TYPE_RAM
            && entry.range.0 <= wanted.start
            && wanted.end <= entry.range.1
    });
    let mut map = parsed.memory_map.iter();
    let other =
        map.any(|entry| entry.kind != MEMORY_TYPE_RAM && meets(&(entry.range.0..entry.range.1)));
    (ram && !other && !modules.any(|module| meets(&module))).then(|| wanted.clone())
}

/// A module that has to be copied.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct Move {
    /// Where the loader put it.
    from: Module,
    /// Physical address of its new place, in free memory.
    to: u64,
}

/// Gives the module that is used another place if it begins in page zero, where nothing may be mapped: the last pages
/// of the last free region that holds it. What has to be copied then; the regions must be made anew.
fn leave_page_zero(parsed: &mut Handover, regions: &Regions) -> Result<Option<Move>, BootError> {
    let Some(module) = parsed
        .modules
        .first_mut()
        .filter(|module| module.start < PAGE_SIZE && !module.range().is_empty())
    else {
        return Ok(None);
    };
    let from = *module;
    let room = from.range().end.next_multiple_of(PAGE_SIZE);
    let to = regions
        .iter()
        .filter(|region| region.kind == MemoryRegionKind::Usable && region.end <= MAPPED_END)
        .rfind(|region| region.end - region.start >= room)
        .ok_or(BootError::NoRoomForModule(module.len))?
        .end
        - room;
    module.start = to;
    Ok(Some(Move { from, to }))
}

fn describe(parsed: &Handover, image: &Image, regions: &'static mut Regions) -> BootInfo {
    let mut info = BootInfo::new(MemoryRegions::from(regions.as_mut_slice()));
    info.physical_memory_offset = Optional::Some(0);
    info.rsdp_addr = match parsed.rsdp {
        Some(Rsdp::At(address)) => Optional::Some(address),
        Some(Rsdp::Copy(_)) | None => Optional::None,
    };
    if let Some(module) = parsed
        .modules
        .first()
        .filter(|module| !module.range().is_empty())
    {
        info.ramdisk_addr = Optional::Some(module.start);
        info.ramdisk_len = module.len;
    }
    info.kernel_addr = image.extent.start;
    info.kernel_len = image.extent.end - image.extent.start;
    info.kernel_stack_bottom = image.stack.start;
    info.kernel_stack_len = image.stack.end - image.stack.start;
    info
}

fn extras(parsed: &Handover, image: &Image) -> Booted {
    let valid = match core::str::from_utf8(&parsed.cmdline) {
        Ok(line) => line,
        // The prefix up to the offending byte is valid by definition of `valid_up_to`.
        Err(error) => {
            core::str::from_utf8(&parsed.cmdline[..error.valid_up_to()]).unwrap_or_default()
        }
    };
    Booted {
        cmdline: String::try_from(valid).unwrap_or_default(),
        ram_bytes: memory_map::ram_bytes(&parsed.memory_map).unwrap_or(0),
        memory_map_dropped: parsed.memory_map_dropped,
        modules: parsed.modules.len(),
        crash: crash_region(parsed, image),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::loader::MapEntry;

    fn parsed() -> Handover {
        let mut memory_map = Vec::new();
        memory_map
            .push(MapEntry {
                range: (0x10_0000, 0x200_0000),
                kind: 1,
            })
            .unwrap();
        let mut modules = Vec::new();
        modules
            .push(Module {
                start: 0x1f0_0000,
                len: 0x123,
            })
            .unwrap();
        let cmdline = Vec::from_slice(b"panic=exit \xff junk").unwrap();
        Handover {
            memory_map,
            memory_map_dropped: 0,
            modules,
            cmdline,
            rsdp: Some(Rsdp::At(0xe_0000)),
        }
    }

    const IMAGE: Image = Image {
        extent: 0x20_0000..0x40_0000,
        stack: 0x30_0000..0x34_0000,
        crash: 0x40_0000..0x40_4000,
    };

    #[test]
    fn boot_info_carries_module_rsdp_and_free_memory() {
        let parsed = parsed();
        let regions =
            std::boxed::Box::leak(std::boxed::Box::new(regions_of(&parsed, &IMAGE).unwrap()));
        let info = describe(&parsed, &IMAGE, regions);
        assert_eq!(info.ramdisk_addr.into_option(), Some(0x1f0_0000));
        assert_eq!(info.ramdisk_len, 0x123);
        assert_eq!(info.rsdp_addr.into_option(), Some(0xe_0000));
        let usable = info
            .memory_regions
            .iter()
            .filter(|region| region.kind == MemoryRegionKind::Usable);
        assert_eq!(
            usable.map(|region| region.end - region.start).sum::<u64>(),
            0x1f0_0000 - 0x20_0000 - 0x1000 - 0x4000
        );
        let extras = extras(&parsed, &IMAGE);
        assert_eq!(extras.cmdline.as_str(), "panic=exit ");
        assert_eq!(extras.ram_bytes, 0x1f0_0000);
    }

    #[test]
    fn what_a_crash_leaves_has_a_place_unless_something_else_lies_there() {
        let free = |parsed: &Handover| {
            let regions = regions_of(parsed, &IMAGE).unwrap();
            let mut usable = regions
                .iter()
                .filter(|region| region.kind == MemoryRegionKind::Usable);
            usable.all(|region| region.end <= IMAGE.crash.start || region.start >= IMAGE.crash.end)
        };
        let place = |parsed: &Handover| extras(parsed, &IMAGE).crash;
        let mut parsed = parsed();
        assert_eq!(place(&parsed), Some(IMAGE.crash));
        assert!(free(&parsed));
        parsed.modules[0].start = IMAGE.crash.end - 1;
        assert_eq!(place(&parsed), None);
        parsed.modules[0].start = IMAGE.crash.end;
        assert_eq!(place(&parsed), Some(IMAGE.crash));
        let rom = MapEntry {
            range: (IMAGE.crash.start + 0x1000, IMAGE.crash.start + 0x1001),
            kind: 2,
        };
        parsed.memory_map.push(rom).unwrap();
        assert_eq!(place(&parsed), None);
        parsed.memory_map.pop();
        parsed.memory_map[0].range.1 = IMAGE.crash.end - 1;
        assert_eq!(place(&parsed), None);
    }

    #[test]
    fn a_module_inside_the_image_is_refused() {
        let mut parsed = parsed();
        parsed.modules[0].start = 0x3f_ffff;
        assert_eq!(
            regions_of(&parsed, &IMAGE).unwrap_err(),
            BootError::ModuleOverlapsImage(0x3f_ffff)
        );
        parsed.modules[0] = Module {
            start: 0x30_0000,
            len: 0,
        };
        assert!(regions_of(&parsed, &IMAGE).is_ok());
    }

    #[test]
    fn a_module_in_page_zero_is_moved_to_free_memory() {
        let mut parsed = parsed();
        assert_eq!(
            leave_page_zero(&mut parsed, &regions_of(&parsed_at_zero(), &IMAGE).unwrap()),
            Ok(None)
        );
        let mut parsed = parsed_at_zero();
        let regions = regions_of(&parsed, &IMAGE).unwrap();
        assert_eq!(
            leave_page_zero(&mut parsed, &regions),
            Ok(Some(Move {
                from: parsed_at_zero().modules[0],
                to: 0x1ff_e000
            }))
        );
        assert_eq!(parsed.modules[0].start, 0x1ff_e000);
        let regions = regions_of(&parsed, &IMAGE).unwrap();
        assert!(
            regions
                .iter()
                .all(|region| region.kind != MemoryRegionKind::Usable || region.end <= 0x1ff_e000)
        );
    }

    #[test]
    fn a_module_in_page_zero_that_fits_nowhere_is_refused() {
        let mut parsed = parsed_at_zero();
        parsed.modules[0].len = 0x200_0000;
        let regions = memory_map::build(&parsed.memory_map, &[IMAGE.extent]).unwrap();
        assert_eq!(
            leave_page_zero(&mut parsed, &regions),
            Err(BootError::NoRoomForModule(0x200_0000))
        );
        // Memory that the trampoline has not mapped does not help.
        parsed.memory_map[0].range = (MAPPED_END, MAPPED_END + 0x800_0000);
        let regions = memory_map::build(&parsed.memory_map, &[]).unwrap();
        assert!(leave_page_zero(&mut parsed, &regions).is_err());
    }

    fn parsed_at_zero() -> Handover {
        let mut parsed = parsed();
        parsed.modules[0] = Module {
            start: 0x10,
            len: 0x1224,
        };
        parsed
    }

    #[test]
    fn a_loader_that_is_neither_is_refused() {
        assert_eq!(
            start(0x1000, 0x2bad_b002, &IMAGE).unwrap_err(),
            BootError::UnknownLoader(0x2bad_b002)
        );
    }

    #[test]
    fn unreachable_addresses_are_not_read() {
        let mut byte = [0];
        assert!(!IdentityMapped.read(MAPPED_END, &mut byte));
        assert!(!IdentityMapped.read(u64::MAX, &mut byte));
    }
}
