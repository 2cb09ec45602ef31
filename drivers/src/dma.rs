//! Owned DMA memory.

use core::{marker::PhantomData, ptr::NonNull};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

use crate::transport::InitError;

/// Zeroed, physically contiguous, page-aligned memory that is given back when dropped.
#[derive(Debug)]
pub(crate) struct Dma<H: Hal> {
    paddr: PhysAddr,
    vaddr: NonNull<u8>,
    bytes: usize,
    hal: PhantomData<H>,
}

// SAFETY: the region is owned by this value alone; where it is used does not matter.
unsafe impl<H: Hal> Send for Dma<H> {}

impl<H: Hal> Dma<H> {
    /// At least `bytes` of memory, rounded up to whole pages.
    pub(crate) fn new(bytes: usize) -> Result<Self, InitError> {
        let pages = bytes.div_ceil(PAGE_SIZE).max(1);
        let (paddr, vaddr) = H::dma_alloc(pages, BufferDirection::Both);
        if paddr == 0 {
            return Err(InitError::OutOfMemory {
                bytes: pages * PAGE_SIZE,
            });
        }
        Ok(Self {
            paddr,
            vaddr,
            bytes: pages * PAGE_SIZE,
            hal: PhantomData,
        })
    }

    /// The device's address of the byte at `offset`.
    pub(crate) fn paddr(&self, offset: usize) -> PhysAddr {
        debug_assert!(offset < self.bytes, "offset beyond the region");
        self.paddr + offset as PhysAddr
    }

    /// The driver's pointer to `size` bytes at `offset`; panics when they are not inside.
    pub(crate) fn ptr(&self, offset: usize, size: usize) -> *mut u8 {
        assert!(
            offset <= self.bytes && size <= self.bytes - offset,
            "range beyond the DMA region"
        );
        // SAFETY: the assertion keeps the result within the allocation.
        unsafe { self.vaddr.as_ptr().add(offset) }
    }

    /// Stores `value` at `offset`, which must suit its alignment.
    pub(crate) fn write<T: Copy>(&self, offset: usize, value: T) {
        let ptr = self.ptr(offset, size_of::<T>()).cast::<T>();
        assert!(ptr.is_aligned(), "misaligned DMA access");
        // SAFETY: `ptr` is inside the region and aligned; volatile because a device may read it.
        unsafe { ptr.write_volatile(value) }
    }

    /// Loads the value at `offset`, which must suit its alignment. `T` must be made of plain
    /// integers, so that whatever a device left there is a value of it.
    pub(crate) fn read<T: Copy + zerocopy::FromBytes>(&self, offset: usize) -> T {
        let ptr = self.ptr(offset, size_of::<T>()).cast::<T>();
        assert!(ptr.is_aligned(), "misaligned DMA access");
        // SAFETY: `ptr` is inside the region and aligned, any bytes are a `T`, and the memory
        // was initialised (zeroed) on allocation; volatile because a device may write it.
        unsafe { ptr.read_volatile() }
    }
}

impl<H: Hal> Drop for Dma<H> {
    fn drop(&mut self) {
        // SAFETY: these are the values that `dma_alloc` returned, and this runs once.
        let status = unsafe { H::dma_dealloc(self.paddr, self.vaddr, self.bytes / PAGE_SIZE) };
        debug_assert_eq!(status, 0, "the Hal refused its own memory");
    }
}
