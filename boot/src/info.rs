//! Builds the [`BootInfo`] that `kernel_main` receives.

use core::fmt;
use core::ops::Range;

use bootloader_api::BootInfo;
use bootloader_api::info::{MemoryRegions, Optional};
use heapless::{String, Vec};
use spin::{Mutex, MutexGuard, Once};

use crate::memory_map::{self, Regions};
use crate::start_info::{self, CMDLINE_MAX, ParseError, PhysicalMemory, StartInfo};

/// Why the machine cannot be used.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum BootError {
    /// The loader's tables are unusable.
    StartInfo(ParseError),
    /// The memory map has more fragments than [`memory_map::REGIONS_MAX`].
    FragmentedMemory,
    /// A boot module lies where the image or its stacks are; its first byte.
    ModuleOverlapsImage(u64),
    /// The entry ran twice.
    Repeated,
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StartInfo(error) => error.fmt(f),
            Self::FragmentedMemory => write!(f, "memory map has too many fragments"),
            Self::ModuleOverlapsImage(start) => {
                write!(f, "boot module at {start:#x} overlaps the image")
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
}

/// Physical memory through the trampoline's identity mapping.
struct IdentityMapped;

/// What the trampoline maps.
const MAPPED_END: u64 = 1 << 32;

impl PhysicalMemory for IdentityMapped {
    fn read(&self, from: u64, into: &mut [u8]) -> bool {
        let end = from.checked_add(into.len() as u64);
        if from == 0 || end.is_none_or(|end| end > MAPPED_END) {
            return false;
        }
        // SAFETY: the trampoline identity-mapped the first 4 GiB and the range lies within. Reading absent memory or
        // a device window returns garbage under PVH hypervisors, which the parser copes with; `into` is an exclusive
        // borrow, so the loader's tables cannot be the same bytes.
        unsafe { core::ptr::copy_nonoverlapping(from as *const u8, into.as_mut_ptr(), into.len()) };
        true
    }
}

/// Reads the start information at the physical address `start_info` and builds the boot information.
///
/// To be called once, from the code that [`pvh_entry!`](crate::pvh_entry) enters, on the trampoline's page tables.
///
/// # Errors
/// See [`BootError`].
pub fn start(
    start_info: u64,
    image: &Image,
) -> Result<(&'static mut BootInfo, &'static Booted), BootError> {
    static REGIONS: Mutex<Regions> = Mutex::new(Vec::new());
    static INFO: Mutex<Option<BootInfo>> = Mutex::new(None);
    static BOOTED: Once<Booted> = Once::new();

    let parsed = start_info::parse(start_info, &IdentityMapped).map_err(BootError::StartInfo)?;
    let regions = MutexGuard::leak(REGIONS.try_lock().ok_or(BootError::Repeated)?);
    *regions = regions_of(&parsed, image)?;
    let slot = MutexGuard::leak(INFO.try_lock().ok_or(BootError::Repeated)?);
    let info = slot.insert(describe(&parsed, image, regions));
    let booted = BOOTED.call_once(|| extras(&parsed));
    Ok((info, booted))
}

fn regions_of(parsed: &StartInfo, image: &Image) -> Result<Regions, BootError> {
    let mut reserved: Vec<Range<u64>, { start_info::MODULES_MAX + 1 }> = Vec::new();
    // Capacity: one more than the modules can be.
    let _ = reserved.push(image.extent.clone());
    for module in &parsed.modules {
        let range = module.range();
        if range.start < image.extent.end && image.extent.start < range.end && !range.is_empty() {
            return Err(BootError::ModuleOverlapsImage(range.start));
        }
        let _ = reserved.push(range);
    }
    memory_map::build(&parsed.memory_map, &reserved).map_err(|_| BootError::FragmentedMemory)
}

fn describe(parsed: &StartInfo, image: &Image, regions: &'static mut Regions) -> BootInfo {
    let mut info = BootInfo::new(MemoryRegions::from(regions.as_mut_slice()));
    info.physical_memory_offset = Optional::Some(0);
    info.rsdp_addr = parsed.rsdp.into();
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

fn extras(parsed: &StartInfo) -> Booted {
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
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::start_info::{MapEntry, Module};
    use bootloader_api::info::MemoryRegionKind;

    fn parsed() -> StartInfo {
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
        StartInfo {
            memory_map,
            memory_map_dropped: 0,
            modules,
            cmdline,
            rsdp: Some(0xe_0000),
        }
    }

    const IMAGE: Image = Image {
        extent: 0x20_0000..0x40_0000,
        stack: 0x30_0000..0x34_0000,
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
            0x1f0_0000 - 0x20_0000 - 0x1000
        );
        assert_eq!(extras(&parsed).cmdline.as_str(), "panic=exit ");
        assert_eq!(extras(&parsed).ram_bytes, 0x1f0_0000);
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
    fn unreachable_addresses_are_not_read() {
        let mut byte = [0];
        assert!(!IdentityMapped.read(0, &mut byte));
        assert!(!IdentityMapped.read(MAPPED_END, &mut byte));
        assert!(!IdentityMapped.read(u64::MAX, &mut byte));
    }
}
