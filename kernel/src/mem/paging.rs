//! The page tables: identity mapping, built once, extended on demand, never shrunk.

use core::ops::Range;

use boot::memory_map::PAGE_SIZE;
use spin::Mutex;
use x86_64::registers::control::{Cr3, Cr3Flags, Efer, EferFlags};
use x86_64::structures::paging::mapper::{MapToError, MapperFlush};
use x86_64::structures::paging::{
    FrameAllocator, Mapper, OffsetPageTable, PageSize, PageTable, PageTableFlags, PhysFrame,
    Size1GiB, Size2MiB, Size4KiB,
};
use x86_64::{PhysAddr, VirtAddr};

use crate::arch::cpu;

/// What a mapping is for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Access {
    /// Executable, not writable.
    Code,
    /// Neither writable nor executable.
    ReadOnly,
    /// Writable, not executable.
    Ram,
    /// Writable, not executable, uncached.
    Device,
}

impl Access {
    fn flags(self, no_execute: bool) -> PageTableFlags {
        let flags = match self {
            Self::Code => return PageTableFlags::PRESENT,
            Self::ReadOnly => PageTableFlags::PRESENT,
            Self::Ram => PageTableFlags::PRESENT | PageTableFlags::WRITABLE,
            Self::Device => {
                PageTableFlags::PRESENT
                    | PageTableFlags::WRITABLE
                    | PageTableFlags::NO_CACHE
                    | PageTableFlags::WRITE_THROUGH
            }
        };
        if no_execute {
            flags | PageTableFlags::NO_EXECUTE
        } else {
            flags
        }
    }
}

struct Tables {
    root: u64,
    no_execute: bool,
    gigabyte_pages: bool,
}

static TABLES: Mutex<Option<Tables>> = Mutex::new(None);

/// Page table frames come from free memory that the trampoline, too, has mapped: the first tables are filled while its
/// tables are active.
struct Frames;

const TRAMPOLINE_MAPPED_END: u64 = 1 << 32;

fn take_frame() -> Option<u64> {
    super::take_top(PAGE_SIZE, TRAMPOLINE_MAPPED_END)
}

// SAFETY: `take_frame` hands out every frame at most once, and only frames of free RAM.
unsafe impl FrameAllocator<Size4KiB> for Frames {
    fn allocate_frame(&mut self) -> Option<PhysFrame> {
        Some(PhysFrame::containing_address(PhysAddr::new(take_frame()?)))
    }
}

/// Starts new, empty tables. Those of the trampoline stay active until [`activate`].
pub fn init() {
    let no_execute = cpu::has_no_execute();
    if no_execute {
        // SAFETY: the processor has the feature; no page table so far has bit 63 set.
        unsafe { Efer::update(|flags| flags.insert(EferFlags::NO_EXECUTE_ENABLE)) };
    }
    let Some(root) = take_frame() else {
        crate::panic::fatal(format_args!("no memory for page tables"));
    };
    // SAFETY: the frame is free RAM below 4 GiB, which the trampoline mapped.
    unsafe { (root as *mut PageTable).write(PageTable::new()) };
    *TABLES.lock() = Some(Tables {
        root,
        no_execute,
        gigabyte_pages: cpu::has_gigabyte_pages(),
    });
}

/// Makes the tables the active ones.
///
/// # Safety
/// All that is in use, this code and its stack included, must be mapped in them.
pub unsafe fn activate() {
    if let Some(tables) = &*TABLES.lock() {
        let frame = PhysFrame::containing_address(PhysAddr::new(tables.root));
        // SAFETY: passed on to the caller.
        unsafe { Cr3::write(frame, Cr3Flags::empty()) };
    }
}

/// Maps whole pages at their own address. Pages that are mapped already stay as they are, so asking twice is fine.
/// `false` when memory for page tables runs out; part of the range may be mapped then.
pub fn map(range: Range<u64>, access: Access) -> bool {
    let guard = TABLES.lock();
    let Some(tables) = &*guard else { return false };
    let flags = access.flags(tables.no_execute);
    // SAFETY: all page tables lie in identity-mapped RAM, and the lock makes this the only reference to them.
    let mut mapper =
        unsafe { OffsetPageTable::new(&mut *(tables.root as *mut PageTable), VirtAddr::zero()) };
    let mut at = range.start;
    while at < range.end {
        let fits = |size| at.is_multiple_of(size) && range.end - at >= size;
        let step = if tables.gigabyte_pages
            && fits(Size1GiB::SIZE)
            && put::<Size1GiB>(&mut mapper, at, flags).is_ok()
        {
            Size1GiB::SIZE
        } else if fits(Size2MiB::SIZE) && put::<Size2MiB>(&mut mapper, at, flags).is_ok() {
            Size2MiB::SIZE
        } else if put::<Size4KiB>(&mut mapper, at, flags).is_ok() {
            Size4KiB::SIZE
        } else {
            return false;
        };
        at += step;
    }
    true
}

/// Forgets all translations that the processor keeps.
pub fn flush() {
    let (root, flags) = Cr3::read();
    // SAFETY: these are the tables that are active.
    unsafe { Cr3::write(root, flags) };
}

/// Many pages, read-only, with one frame of zeroes behind them all. They lie above the identity mapping.
pub struct Window(());

/// The entry of the root table that the window takes: the first of the upper half of addresses.
const WINDOW_ENTRY: usize = 256;
const WINDOW_START: u64 = 0xffff_8000_0000_0000;

impl Window {
    /// How many pages it has at most: what one entry of the root table spans.
    pub const PAGES_MAX: u64 = 1 << 27;

    /// Opens the window, which takes four frames for good. `None`: no memory.
    ///
    /// # Panics
    /// It is open already.
    pub fn open() -> Option<Self> {
        let guard = TABLES.lock();
        let tables = guard.as_ref()?;
        let mut below = take_frame()?;
        // SAFETY: the frame is free RAM, identity-mapped, and nobody else's.
        unsafe { core::ptr::write_bytes(below as *mut u8, 0, PAGE_SIZE as usize) };
        // The table of each level has the one table below in all its entries.
        for _ in 0..3 {
            let mut table = PageTable::new();
            for entry in table.iter_mut() {
                entry.set_addr(PhysAddr::new(below), PageTableFlags::PRESENT);
            }
            below = take_frame()?;
            // SAFETY: as above.
            unsafe { (below as *mut PageTable).write(table) };
        }
        // SAFETY: the root table lies in identity-mapped RAM, and the lock makes this the only reference to it.
        let root = unsafe { &mut *(tables.root as *mut PageTable) };
        let entry = &mut root[WINDOW_ENTRY];
        assert!(entry.is_unused(), "the window is open already");
        entry.set_addr(PhysAddr::new(below), PageTableFlags::PRESENT);
        Some(Self(()))
    }

    /// Reads from the first `pages` pages.
    pub fn read(&self, pages: u64) {
        for page in 0..pages.min(Self::PAGES_MAX) {
            let at = (WINDOW_START + page * PAGE_SIZE) as *const u8;
            // SAFETY: the page is mapped as long as `self` lives, and nothing writes to the frame behind it.
            unsafe { at.read_volatile() };
        }
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        if let Some(tables) = &*TABLES.lock() {
            // SAFETY: as in `open`. Nothing refers to the pages that go.
            let root = unsafe { &mut *(tables.root as *mut PageTable) };
            root[WINDOW_ENTRY].set_unused();
        }
        flush();
    }
}

/// Why a page of this size cannot be put there: something smaller is in the way, or memory ran out.
struct Refused;

fn put<S: PageSize + core::fmt::Debug>(
    mapper: &mut OffsetPageTable<'static>,
    at: u64,
    flags: PageTableFlags,
) -> Result<(), Refused>
where
    OffsetPageTable<'static>: Mapper<S>,
{
    let frame = PhysFrame::<S>::containing_address(PhysAddr::new(at));
    // SAFETY: identity mapping: a page is only ever mapped to the memory of its own address, so no two pages alias.
    // `map_mmio` and the sections of the image see to it that flags fit the content.
    match unsafe { mapper.identity_map(frame, flags, &mut Frames) } {
        Ok(flush) => {
            // The page was not present before, and processors do not cache that.
            MapperFlush::ignore(flush);
            Ok(())
        }
        Err(MapToError::ParentEntryHugePage) => Ok(()),
        Err(MapToError::PageAlreadyMapped(_)) if S::SIZE == Size4KiB::SIZE => Ok(()),
        Err(MapToError::PageAlreadyMapped(_) | MapToError::FrameAllocationFailed) => Err(Refused),
    }
}
