//! DMA memory on the heap. Addresses are the process's own, and every access of the fake devices
//! is checked against what was allocated.

use core::{ptr::NonNull, slice};
use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    collections::BTreeMap,
    sync::Mutex,
};
use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

/// Start and length of all regions allocated now.
static REGIONS: Mutex<BTreeMap<usize, usize>> = Mutex::new(BTreeMap::new());

/// Heap memory as DMA memory.
#[derive(Debug)]
pub struct FakeHal;

fn layout(pages: usize) -> Layout {
    Layout::from_size_align(pages * PAGE_SIZE, PAGE_SIZE).unwrap()
}

// SAFETY: allocations are zeroed, page-aligned and exclusive; MMIO addresses in tests are heap
// memory that the test keeps.
unsafe impl Hal for FakeHal {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // SAFETY: the size is not zero.
        let ptr = NonNull::new(unsafe { alloc_zeroed(layout(pages)) }).unwrap();
        let start = ptr.as_ptr() as usize;
        REGIONS.lock().unwrap().insert(start, pages * PAGE_SIZE);
        (start as PhysAddr, ptr)
    }

    unsafe fn dma_dealloc(paddr: PhysAddr, vaddr: NonNull<u8>, pages: usize) -> i32 {
        assert_eq!(paddr, vaddr.as_ptr() as PhysAddr);
        let length = REGIONS.lock().unwrap().remove(&(paddr as usize));
        assert_eq!(
            length,
            Some(pages * PAGE_SIZE),
            "freed other than allocated"
        );
        // SAFETY: allocated above with the same layout.
        unsafe { dealloc(vaddr.as_ptr(), layout(pages)) };
        0
    }

    unsafe fn mmio_phys_to_virt(paddr: PhysAddr, _size: usize) -> NonNull<u8> {
        NonNull::new(paddr as *mut u8).unwrap()
    }

    unsafe fn share(_: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        unreachable!("these drivers hand out addresses of their own")
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {
        unreachable!("these drivers hand out addresses of their own")
    }
}

/// The pointer behind a device address; the whole range must be DMA memory.
pub fn device_ptr(paddr: PhysAddr, len: usize) -> *mut u8 {
    let start = paddr as usize;
    let regions = REGIONS.lock().unwrap();
    let (&base, &length) = regions
        .range(..=start)
        .next_back()
        .expect("address before all DMA memory");
    assert!(
        start + len <= base + length,
        "device access at {start:#x}+{len} is outside DMA memory"
    );
    start as *mut u8
}

/// What a device reads from DMA memory.
pub fn device_read(paddr: PhysAddr, len: usize) -> std::vec::Vec<u8> {
    let ptr = device_ptr(paddr, len);
    // SAFETY: checked to be DMA memory, and the driver leaves it alone while the device has it.
    unsafe { slice::from_raw_parts(ptr, len) }.to_vec()
}

/// What a device writes to DMA memory.
pub fn device_write(paddr: PhysAddr, bytes: &[u8]) {
    let ptr = device_ptr(paddr, bytes.len());
    // SAFETY: as for `device_read`.
    unsafe { slice::from_raw_parts_mut(ptr, bytes.len()) }.copy_from_slice(bytes);
}

/// A payload buffer of the test.
pub struct DmaBuf {
    paddr: PhysAddr,
    vaddr: NonNull<u8>,
    pages: usize,
}

impl DmaBuf {
    /// Zeroed memory of at least `bytes`.
    pub fn new(bytes: usize) -> Self {
        let pages = bytes.div_ceil(PAGE_SIZE).max(1);
        let (paddr, vaddr) = FakeHal::dma_alloc(pages, BufferDirection::Both);
        Self {
            paddr,
            vaddr,
            pages,
        }
    }

    pub fn paddr(&self) -> PhysAddr {
        self.paddr
    }

    pub fn bytes(&mut self) -> &mut [u8] {
        // SAFETY: allocated with this length, and used while no request is in flight.
        unsafe { slice::from_raw_parts_mut(self.vaddr.as_ptr(), self.pages * PAGE_SIZE) }
    }
}

impl Drop for DmaBuf {
    fn drop(&mut self) {
        // SAFETY: the values of the allocation, once.
        unsafe { FakeHal::dma_dealloc(self.paddr, self.vaddr, self.pages) };
    }
}
