//! Payload memory: a fixed pool of 4 KiB-aligned pages handed out as contiguous buffers.
//!
//! The pool holds only bookkeeping (a binary buddy allocator over page indices). The bytes live
//! behind [`PoolMemory`]: DMA memory in the kernel, a plain vector in the simulator and in tests.
//! A [`Buf`] is at once the target of one copy from a socket, the DMA buffer of a disk request
//! and the source of the peer's copy, so no payload is copied twice. Nothing is allocated after
//! [`Pool::new`].

use alloc::{vec, vec::Vec};

/// Bytes in a page of the pool; every [`Buf`] starts on such a boundary.
pub const PAGE: u32 = 4096;
/// Number of buddy orders: buffers of 1, 2, 4, ... 32 pages.
const ORDERS: usize = 6;
/// The largest contiguous buffer, in bytes (128 KiB).
pub const MAX_BUF: u32 = PAGE << (ORDERS - 1);

const NIL: u32 = u32::MAX;
const ALLOCATED: u8 = 0x80;
const INNER: u8 = 0xff;

/// A handle to a contiguous run of pool pages. Deliberately neither `Clone` nor `Copy`: whoever
/// holds it owns the memory and must hand it on or give it back with [`Pool::free`]. Use
/// [`Buf::view`] for a borrowed description (a disk driver's or a socket's).
#[derive(Debug, PartialEq, Eq)]
pub struct Buf {
    page: u32,
    order: u8,
    len: u32,
}

/// A copyable description of a [`Buf`]'s place; valid while the owner keeps the `Buf`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BufView {
    /// Byte offset from the start of the pool's memory; a multiple of [`PAGE`].
    pub offset: usize,
    /// Valid bytes from there.
    pub len: u32,
}

impl Buf {
    /// Valid bytes (at most [`Buf::capacity`]).
    #[must_use]
    pub fn len(&self) -> u32 {
        self.len
    }

    /// Whether no byte is valid.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes that the run can hold.
    #[must_use]
    pub fn capacity(&self) -> u32 {
        PAGE << self.order
    }

    /// Sets the number of valid bytes; more than the capacity is cut to it.
    pub fn set_len(&mut self, len: u32) {
        self.len = len.min(self.capacity());
    }

    /// Where the bytes lie.
    #[must_use]
    pub fn view(&self) -> BufView {
        BufView {
            offset: self.page as usize * PAGE as usize,
            len: self.len,
        }
    }
}

/// Access to the bytes behind a pool.
pub trait PoolMemory {
    /// The bytes of `view`.
    fn bytes(&self, view: BufView) -> &[u8];
    /// The bytes of `view`, to be written.
    fn bytes_mut(&mut self, view: BufView) -> &mut [u8];
}

/// Pool memory in a plain vector, for the simulator and for tests.
#[derive(Debug)]
pub struct VecMemory(Vec<u8>);

impl VecMemory {
    /// Memory for a pool of `pages` pages, all zero.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        Self(vec![0; pages as usize * PAGE as usize])
    }
}

impl PoolMemory for VecMemory {
    fn bytes(&self, view: BufView) -> &[u8] {
        &self.0[view.offset..view.offset + view.len as usize]
    }
    fn bytes_mut(&mut self, view: BufView) -> &mut [u8] {
        &mut self.0[view.offset..view.offset + view.len as usize]
    }
}

/// A pool together with the bytes behind it: what the engine works on during a step.
pub struct Mem<'a> {
    pool: &'a mut Pool,
    bytes: &'a mut dyn PoolMemory,
}

impl<'a> Mem<'a> {
    /// `bytes` must be the memory that `pool` divides.
    pub fn new(pool: &'a mut Pool, bytes: &'a mut dyn PoolMemory) -> Self {
        Self { pool, bytes }
    }

    /// The valid bytes of a buffer.
    #[must_use]
    pub fn bytes(&self, buf: &Buf) -> &[u8] {
        self.bytes.bytes(buf.view())
    }

    /// The valid bytes of a buffer, to be written.
    pub fn bytes_mut(&mut self, buf: &Buf) -> &mut [u8] {
        self.bytes.bytes_mut(buf.view())
    }
}

impl core::ops::Deref for Mem<'_> {
    type Target = Pool;
    fn deref(&self) -> &Pool {
        self.pool
    }
}

impl core::ops::DerefMut for Mem<'_> {
    fn deref_mut(&mut self) -> &mut Pool {
        self.pool
    }
}

impl core::fmt::Debug for Mem<'_> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("Mem").field(&self.pool).finish()
    }
}

/// The allocator of pool pages: binary buddies, O(orders) for every call.
///
/// Writers reserve before they allocate: [`Pool::reserve`] promises bytes to a request whose
/// payload has not arrived yet, so that a request once admitted can always be received whole.
/// Reservations never touch the last eighth of the pool, which stays for reads, for the peer
/// link and for the resync.
#[derive(Debug)]
pub struct Pool {
    pages: u32,
    free_pages: u32,
    reserved_pages: u32,
    heads: [u32; ORDERS],
    next: Vec<u32>,
    prev: Vec<u32>,
    /// Per page: the order of the free block starting here, `ALLOCATED | order`, or `INNER`.
    state: Vec<u8>,
}

impl Pool {
    /// What each page takes of the heap in [`Pool::new`], in bytes.
    pub const BYTES_PER_PAGE: usize = 2 * size_of::<u32>() + size_of::<u8>();

    /// A pool of `pages` pages, all free.
    #[must_use]
    pub fn new(pages: u32) -> Self {
        let n = pages as usize;
        let mut pool = Self {
            pages,
            free_pages: 0,
            reserved_pages: 0,
            heads: [NIL; ORDERS],
            next: vec![NIL; n],
            prev: vec![NIL; n],
            state: vec![INNER; n],
        };
        let mut page = 0;
        while page < pages {
            let mut order = ORDERS - 1;
            while page % (1 << order) != 0 || page + (1 << order) > pages {
                order -= 1;
            }
            pool.push_free(page, order);
            pool.free_pages += 1 << order;
            page += 1 << order;
        }
        pool
    }

    /// Bytes in the whole pool.
    #[must_use]
    pub fn total_bytes(&self) -> u64 {
        u64::from(self.pages) * u64::from(PAGE)
    }

    /// Bytes not allocated (reserved ones included).
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        u64::from(self.free_pages) * u64::from(PAGE)
    }

    /// The largest single reservation that can ever succeed, in bytes.
    #[must_use]
    pub fn max_reservation(&self) -> u64 {
        u64::from(self.pages - self.pages / 8) * u64::from(PAGE)
    }

    /// Promises room for `bytes` (rounded up to whole pages). Answers `false`, changing nothing,
    /// when what is free beyond earlier promises and the last eighth does not suffice.
    pub fn reserve(&mut self, bytes: u64) -> bool {
        let Ok(need) = u32::try_from(bytes.div_ceil(u64::from(PAGE))) else {
            return false;
        };
        let kept = self.reserved_pages + self.pages / 8;
        if self.free_pages < kept || self.free_pages - kept < need {
            return false;
        }
        self.reserved_pages += need;
        true
    }

    /// Gives back `bytes` of an unused promise.
    pub fn unreserve(&mut self, bytes: u64) {
        let pages = u32::try_from(bytes.div_ceil(u64::from(PAGE))).unwrap_or(u32::MAX);
        debug_assert!(
            pages <= self.reserved_pages,
            "more given back than reserved"
        );
        self.reserved_pages = self.reserved_pages.saturating_sub(pages);
    }

    /// Takes a buffer out of an earlier promise: the largest free run of at most `bytes` (rounded
    /// up to a page) and at most [`MAX_BUF`]. The promise shrinks by the run's pages. The
    /// buffer's length is the smaller of `bytes` and its capacity.
    ///
    /// `None` only when nothing was promised.
    pub fn alloc_reserved(&mut self, bytes: u32) -> Option<Buf> {
        if self.reserved_pages == 0 {
            return None;
        }
        let buf = self.take_largest(bytes)?;
        let pages = buf.capacity() / PAGE;
        debug_assert!(pages <= self.reserved_pages, "allocated beyond the promise");
        self.reserved_pages = self.reserved_pages.saturating_sub(pages);
        Some(buf)
    }

    /// A contiguous buffer for exactly `bytes` (1 to [`MAX_BUF`]) from what is not promised, or
    /// `None` when there is no such run now.
    pub fn alloc(&mut self, bytes: u32) -> Option<Buf> {
        let order = Self::order_for(bytes)?;
        if self.free_pages < self.reserved_pages + (1 << order) {
            return None;
        }
        self.take(order, bytes)
    }

    /// A buffer of up to `bytes` from what is not promised: the largest free run that is not
    /// larger than needed. The length is the smaller of `bytes` and the capacity.
    pub fn alloc_up_to(&mut self, bytes: u32) -> Option<Buf> {
        let unpromised = self.free_pages.checked_sub(self.reserved_pages)?;
        if unpromised == 0 {
            return None;
        }
        self.take_largest(bytes.min(unpromised.saturating_mul(PAGE)))
    }

    /// Gives a buffer back.
    pub fn free(&mut self, buf: Buf) {
        let mut page = buf.page;
        let mut order = usize::from(buf.order);
        assert_eq!(
            self.state[page as usize],
            ALLOCATED | buf.order,
            "a buffer that this pool did not hand out"
        );
        self.free_pages += 1 << order;
        self.state[page as usize] = INNER;
        while order + 1 < ORDERS {
            let buddy = page ^ (1 << order);
            if buddy >= self.pages || self.state[buddy as usize] != order as u8 {
                break;
            }
            self.unlink(buddy, order);
            self.state[buddy as usize] = INNER;
            page = page.min(buddy);
            order += 1;
        }
        self.push_free(page, order);
    }

    fn order_for(bytes: u32) -> Option<usize> {
        if bytes == 0 || bytes > MAX_BUF {
            return None;
        }
        Some(bytes.div_ceil(PAGE).next_power_of_two().trailing_zeros() as usize)
    }

    /// The largest free run whose capacity does not exceed `bytes` rounded up to a page, so that
    /// no page is wasted on a request's tail.
    fn take_largest(&mut self, bytes: u32) -> Option<Buf> {
        let pages = bytes.min(MAX_BUF).div_ceil(PAGE);
        let top = pages.checked_ilog2()? as usize;
        // Prefer splitting a larger block over using many small ones.
        if let Some(buf) = self.take(top, bytes) {
            return Some(buf);
        }
        (0..top).rev().find_map(|order| self.take(order, bytes))
    }

    fn take(&mut self, order: usize, bytes: u32) -> Option<Buf> {
        let mut from = (order..ORDERS).find(|&o| self.heads[o] != NIL)?;
        let page = self.heads[from];
        self.unlink(page, from);
        while from > order {
            from -= 1;
            self.push_free(page + (1 << from), from);
        }
        self.state[page as usize] = ALLOCATED | order as u8;
        self.free_pages -= 1 << order;
        let mut buf = Buf {
            page,
            order: order as u8,
            len: 0,
        };
        buf.set_len(bytes);
        Some(buf)
    }

    fn push_free(&mut self, page: u32, order: usize) {
        let head = self.heads[order];
        self.next[page as usize] = head;
        self.prev[page as usize] = NIL;
        if head != NIL {
            self.prev[head as usize] = page;
        }
        self.heads[order] = page;
        self.state[page as usize] = order as u8;
    }

    fn unlink(&mut self, page: u32, order: usize) {
        let (next, prev) = (self.next[page as usize], self.prev[page as usize]);
        if prev == NIL {
            self.heads[order] = next;
        } else {
            self.next[prev as usize] = next;
        }
        if next != NIL {
            self.prev[next as usize] = prev;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_pool_comes_back_as_large_runs() {
        let mut pool = Pool::new(71);
        let mut held = Vec::new();
        while let Some(buf) = pool.alloc(1) {
            held.push(buf);
        }
        assert_eq!(held.len(), 71);
        assert_eq!(pool.free_bytes(), 0);
        for buf in held {
            pool.free(buf);
        }
        assert_eq!(pool.free_bytes(), 71 * 4096);
        assert!(pool.alloc(MAX_BUF).is_some() && pool.alloc(MAX_BUF).is_some());
        assert!(pool.alloc(MAX_BUF).is_none());
    }

    #[test]
    fn a_promise_is_kept_in_a_fragmented_pool() {
        let mut pool = Pool::new(64);
        let mut singles: Vec<_> = (0..64).filter_map(|_| pool.alloc(4096)).collect();
        // Free every other page: 32 pages free, none adjacent.
        let mut keep = Vec::new();
        for (i, buf) in singles.drain(..).enumerate() {
            if i % 2 == 0 {
                pool.free(buf);
            } else {
                keep.push(buf);
            }
        }
        assert!(pool.reserve(24 * 4096));
        assert!(!pool.reserve(1), "the last eighth is not for writers");
        let mut got = 0;
        while got < 24 * 4096 {
            let buf = pool.alloc_reserved(24 * 4096 - got).expect("promised");
            got += buf.len();
        }
        assert_eq!(got, 24 * 4096);
        assert!(pool.alloc_reserved(1).is_none());
    }

    #[test]
    fn unaligned_lengths_round_up_to_pages() {
        let mut pool = Pool::new(32);
        assert!(pool.reserve(4096 + 512));
        let first = pool.alloc_reserved(4096 + 512).expect("promised");
        // A two-page run may have served both at once.
        let rest = pool.alloc_reserved(4096 + 512 - first.len());
        let second = rest.map_or(0, |buf| buf.len());
        assert_eq!(first.len() + second, 4096 + 512);
    }
}
