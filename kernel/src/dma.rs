//! The machine as virtio-drivers wants to see it.

use alloc::alloc::{alloc_zeroed, dealloc};
use core::alloc::Layout;
use core::ptr::NonNull;

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::mem;

/// `Hal` over the identity mapping: an address is the same for the processor and for devices.
pub struct KernelHal;

/// Layout of `pages` whole pages. `None` for no pages at all or absurdly many.
fn layout(pages: usize) -> Option<Layout> {
    let bytes = pages.checked_mul(PAGE_SIZE).filter(|bytes| *bytes > 0)?;
    Layout::from_size_align(bytes, PAGE_SIZE).ok()
}

// SAFETY: `dma_alloc` returns zeroed heap blocks, which are page-aligned, contiguous (the heap lies in one region of
// identity-mapped RAM) and not aliased until `dma_dealloc`. `mmio_phys_to_virt` maps the window for good.
unsafe impl Hal for KernelHal {
    fn dma_alloc(pages: usize, _direction: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // A physical address of zero is how failure is told.
        let failed = (0, NonNull::dangling());
        let Some(layout) = layout(pages) else {
            return failed;
        };
        // SAFETY: the layout's size is not zero.
        match NonNull::new(unsafe { alloc_zeroed(layout) }) {
            Some(block) => (block.as_ptr() as PhysAddr, block),
            None => failed,
        }
    }

    unsafe fn dma_dealloc(_paddr: PhysAddr, vaddr: NonNull<u8>, pages: usize) -> i32 {
        let Some(layout) = layout(pages) else {
            return -1;
        };
        // SAFETY: the caller returns a block of `dma_alloc` with the same number of pages, hence the same layout.
        unsafe { dealloc(vaddr.as_ptr(), layout) };
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, size: usize) -> NonNull<u8> {
        match mem::map_mmio(paddr, size) {
            Some(window) => window,
            // The interface leaves no way to fail. A device whose registers lie in RAM is a machine out of order.
            None => crate::panic::fatal(format_args!(
                "device window at {paddr:#x} of {size} bytes cannot be mapped"
            )),
        }
    }

    unsafe fn share(buffer: NonNull<[u8]>, _direction: BufferDirection) -> PhysAddr {
        buffer.cast::<u8>().as_ptr() as PhysAddr
    }

    unsafe fn unshare(_paddr: PhysAddr, _buffer: NonNull<[u8]>, _direction: BufferDirection) {}
}
