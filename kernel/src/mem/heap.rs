//! The global allocator: linked_list_allocator, first fit, grown as needed.
//!
//! Allocating and freeing is O(n) in the number of holes, which is all right for its use: at boot, and at rare
//! reconfigurations. The steady state does not allocate.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU64, Ordering};

use boot::memory_map::PAGE_SIZE;
use linked_list_allocator::Heap;
use spin::Mutex;

/// The heap grows by at least this much, in bytes. Small: a page never used is never touched, but holes at the end
/// of the heap are lost to `take_region`.
const GROWTH_MIN: u64 = 256 << 10;

struct KernelHeap(Mutex<Heap>);

#[global_allocator]
static HEAP: KernelHeap = KernelHeap(Mutex::new(Heap::empty()));

/// Blocks handed out since boot.
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

/// How many blocks were handed out since boot, those that were given back again included.
pub fn allocations() -> u64 {
    ALLOCATIONS.load(Ordering::Relaxed)
}

/// Size and use in bytes.
pub fn usage() -> (usize, usize) {
    let heap = HEAP.0.lock();
    (heap.size(), heap.used())
}

/// Extends the heap so that `layout` is sure to fit.
fn grow(heap: &mut Heap, layout: Layout) -> bool {
    // Alignment may cost up to itself, and the allocator's own rounding a few words.
    let wanted = layout.size() as u64 + layout.align() as u64 + 64;
    let bytes = wanted.next_multiple_of(PAGE_SIZE).max(GROWTH_MIN);
    let added =
        super::grow_heap(bytes).or_else(|| super::grow_heap(wanted.next_multiple_of(PAGE_SIZE)));
    let Some(added) = added else { return false };
    let len = (added.end - added.start) as usize;
    // SAFETY: `grow_heap` hands out mapped RAM that nobody else has, each time the range after the previous one: it
    // always cuts from the bottom of the same region.
    unsafe {
        if heap.size() == 0 {
            heap.init(added.start as *mut u8, len);
        } else {
            heap.extend(len);
        }
    }
    true
}

/// Zeroes `len` bytes, writing only to pieces that are not zero already.
///
/// Most of RAM is zero when the machine starts, and the host gives a page of its own only to what is written: the rings
/// of sockets that no client ever uses then cost nothing. After a reset RAM holds what was there, hence the look.
///
/// # Safety
///
/// `start` is valid for `len` bytes of reads and writes. What they hold does not matter: any bit pattern is a `u8`, and
/// the memory is mapped RAM that Rust has no values in.
unsafe fn clear(start: *mut u8, len: usize) {
    const PIECE: usize = PAGE_SIZE as usize;
    let mut done = 0;
    while done < len {
        // Up to the next page boundary, so that one page is not written for the sake of its neighbour.
        let address = start as usize + done;
        let piece = (PIECE - address % PIECE).min(len - done);
        // SAFETY: inside the block.
        unsafe {
            let at = start.add(done);
            if !is_zero(at, piece) {
                ptr::write_bytes(at, 0, piece);
            }
        }
        done += piece;
    }
}

/// # Safety
///
/// `start` is valid for `len` bytes of reads.
unsafe fn is_zero(start: *const u8, len: usize) -> bool {
    let words = len / 8;
    // Volatile, since the compiler may take freshly allocated memory for undefined and the answer for any.
    // SAFETY: all inside the `len` bytes; `read_unaligned` has no volatile twin, so bytes are taken where not aligned.
    unsafe {
        if !(start as usize).is_multiple_of(8) {
            return (0..len).all(|at| ptr::read_volatile(start.add(at)) == 0);
        }
        let word = start.cast::<u64>();
        (0..words).all(|at| ptr::read_volatile(word.add(at)) == 0)
            && (words * 8..len).all(|at| ptr::read_volatile(start.add(at)) == 0)
    }
}

// SAFETY: every block comes from `Heap`, which hands out disjoint blocks of the layout asked for. The lock is never
// held across a panic's use of the allocator, since the panic handler does not allocate.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        let mut heap = self.0.lock();
        if let Ok(block) = heap.allocate_first_fit(layout) {
            return block.as_ptr();
        }
        if !grow(&mut heap, layout) {
            return ptr::null_mut();
        }
        heap.allocate_first_fit(layout)
            .map_or(ptr::null_mut(), NonNull::as_ptr)
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the same contract.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: `block` is ours and `layout.size()` long.
            unsafe { clear(block, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if let Some(block) = NonNull::new(block) {
            // SAFETY: the caller passes a block of this allocator with its layout.
            unsafe { self.0.lock().deallocate(block, layout) };
        }
    }
}
