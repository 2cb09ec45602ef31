//! Receiving: a ring of buffers carved out of one DMA area, in order.
//!
//! The stack wants a frame as one slice. A frame in one buffer is one. With mergeable buffers a
//! long frame fills several, but only its first carries a header, and the device takes buffers in
//! the order in which they were posted, which is that of the memory: so the pieces lie one behind
//! the other and are a slice as they stand. Only a frame across the area's end (or a device that
//! fills buffers otherwise) costs a copy.

use alloc::{vec, vec::Vec};
use virtio_drivers::Hal;

use super::{
    NetStats,
    config::RxPlan,
    header::{DATA_VALID, HEADER_BYTES, Header, NEEDS_CSUM},
    offload,
};
use crate::{
    dma::Dma,
    transport::{Doorbell, InitError},
    virtq::{QueueError, Segment, Virtq},
};

/// A buffer that the device gave back, and how much of it it filled.
#[derive(Debug, Clone, Copy)]
struct Filled {
    buffer: u16,
    len: u32,
}

/// Where a received frame lies.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// In the DMA area, from this offset on.
    Area(usize),
    /// Copied together.
    Copy,
}

/// A frame ready for the stack. Its buffers stay held until [`Rx::recycle`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame {
    place: Place,
    len: usize,
}

/// The receive half of a NIC.
#[derive(Debug)]
pub(super) struct Rx<H: Hal, B: Doorbell> {
    pub(super) queue: Virtq<H, B>,
    area: Dma<H>,
    plan: RxPlan,
    header_bytes: usize,
    joined: bool,
    /// The device vouches for checksums (`GUEST_CSUM`).
    checksum: bool,
    copy: Vec<u8>,
    /// Buffers of the frame being put together or handed out, in order.
    held: Vec<Filled>,
    /// Buffers that the frame being put together has; 0 between frames.
    needed: usize,
    pub(super) stats: NetStats,
}

/// What [`Rx::new`] needs to know of the agreed features.
#[derive(Debug, Clone, Copy)]
pub(super) struct RxLayout {
    pub header_bytes: usize,
    pub joined: bool,
    pub checksum: bool,
}

impl<H: Hal, B: Doorbell> Rx<H, B> {
    /// Allocates and posts the buffers; the device sees them with the first kick.
    pub(super) fn new(
        queue: Virtq<H, B>,
        plan: RxPlan,
        layout: RxLayout,
    ) -> Result<Self, InitError> {
        let copy_bytes = if plan.merge { plan.frame_bytes_max } else { 0 };
        let mut rx = Self {
            area: Dma::new(plan.buffers * plan.buffer_bytes)?,
            plan,
            header_bytes: layout.header_bytes,
            joined: layout.joined,
            checksum: layout.checksum,
            copy: vec![0; copy_bytes],
            held: Vec::with_capacity(plan.buffers),
            needed: 0,
            stats: NetStats::default(),
            queue,
        };
        for buffer in 0..plan.buffers as u16 {
            rx.post(buffer);
        }
        Ok(rx)
    }

    /// The next good frame, if any. At most as many bad ones as there are buffers are skipped in
    /// a call, so that a flood of them cannot hold the caller.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        for _ in 0..self.plan.buffers {
            if !self.collect() {
                return None;
            }
            match self.assemble() {
                Ok(frame) => {
                    self.stats.rx_frames += 1;
                    self.stats.rx_bytes += frame.len as u64;
                    return Some(frame);
                }
                Err(counter) => {
                    *counter(&mut self.stats) += 1;
                    self.recycle();
                }
            }
        }
        None
    }

    /// The frame's bytes.
    pub(super) fn bytes(&self, frame: &Frame) -> &[u8] {
        match frame.place {
            Place::Copy => &self.copy[..frame.len],
            Place::Area(offset) => {
                let ptr = self.area.ptr(offset, frame.len);
                // SAFETY: the range is inside the area, initialised (zeroed at allocation, then
                // written by the device), and its buffers are held: the device gave them back
                // and gets them again only by `recycle`, which needs `&mut self`.
                unsafe { core::slice::from_raw_parts(ptr, frame.len) }
            }
        }
    }

    /// Gives the held buffers to the device again, in their order.
    pub(super) fn recycle(&mut self) {
        for i in 0..self.held.len() {
            self.post(self.held[i].buffer);
        }
        self.held.clear();
        self.needed = 0;
    }

    /// Takes used buffers until a frame is complete. `false`: not yet.
    fn collect(&mut self) -> bool {
        while self.needed == 0 || self.held.len() < self.needed {
            let Ok(Some(used)) = self.queue.pop_used() else {
                return false;
            };
            let filled = Filled {
                buffer: used.cookie as u16,
                len: used.len,
            };
            self.held.push(filled);
            if self.needed == 0 {
                let count = self.header(filled).buffers;
                self.needed = if self.plan.merge {
                    usize::from(count)
                } else {
                    1
                };
                if self.needed == 0 || self.needed > self.plan.buffers {
                    self.queue.set_broken(QueueError::BadBufferCount { count });
                    return false;
                }
            }
        }
        true
    }

    /// Makes one frame of the held buffers, or names the counter of what is wrong with it.
    fn assemble(&mut self) -> Result<Frame, fn(&mut NetStats) -> &mut u64> {
        let first = self.held[0];
        let total: usize = self.held.iter().map(|filled| filled.len as usize).sum();
        let Some(len) = total
            .checked_sub(self.header_bytes)
            .filter(|&len| len > 0 && first.len as usize >= self.header_bytes)
        else {
            return Err(|stats| &mut stats.rx_runt);
        };
        if len > self.plan.frame_bytes_max {
            return Err(|stats| &mut stats.rx_oversize);
        }
        let header = self.header(first);
        let adjacent = self.held.windows(2).all(|pair| {
            pair[1].buffer == pair[0].buffer + 1 && pair[0].len as usize == self.plan.buffer_bytes
        });
        let place = if adjacent {
            Place::Area(self.offset(first.buffer) + self.header_bytes)
        } else {
            self.copy_together();
            self.stats.rx_copied += 1;
            Place::Copy
        };
        let frame = Frame { place, len };
        let vouched = header.flags & (NEEDS_CSUM | DATA_VALID) != 0;
        if self.checksum && !vouched && !offload::checksum_ok(self.bytes(&frame)) {
            return Err(|stats| &mut stats.rx_bad_checksum);
        }
        Ok(frame)
    }

    /// Copies the held pieces, header excluded, into one. The caller has checked their sum.
    fn copy_together(&mut self) {
        let mut at = 0;
        for (i, filled) in self.held.iter().enumerate() {
            let skip = if i == 0 { self.header_bytes } else { 0 };
            let len = filled.len as usize - skip;
            let from = self.area.ptr(self.offset(filled.buffer) + skip, len);
            // SAFETY: as in `bytes`: inside the area, initialised, and held by the driver.
            let piece = unsafe { core::slice::from_raw_parts(from, len) };
            self.copy[at..at + len].copy_from_slice(piece);
            at += len;
        }
    }

    fn header(&self, filled: Filled) -> Header {
        let offset = self.offset(filled.buffer);
        let mut bytes = [0; HEADER_BYTES];
        // A word at a time: buffers begin on cache lines.
        let (words, rest) = bytes[..self.header_bytes].as_chunks_mut();
        for (i, word) in words.iter_mut().enumerate() {
            *word = self.area.read::<u32>(offset + 4 * i).to_ne_bytes();
        }
        let at = offset + 4 * words.len();
        for (i, byte) in rest.iter_mut().enumerate() {
            *byte = self.area.read(at + i);
        }
        Header::from_bytes(&bytes)
    }

    fn offset(&self, buffer: u16) -> usize {
        usize::from(buffer) * self.plan.buffer_bytes
    }

    fn post(&mut self, buffer: u16) {
        let paddr = self.area.paddr(self.offset(buffer));
        let segment = |skip: usize, len: usize| Segment {
            paddr: paddr + skip as u64,
            len: len as u32,
            writable: true,
        };
        let whole = [segment(0, self.plan.buffer_bytes)];
        let split = [
            segment(0, self.header_bytes),
            segment(
                self.header_bytes,
                self.plan.buffer_bytes - self.header_bytes,
            ),
        ];
        // SAFETY: the buffer is the driver's and not used by it until it comes back.
        let added = unsafe {
            self.queue
                .add(if self.joined { &whole } else { &split }, u32::from(buffer))
        };
        debug_assert!(
            added.is_ok() || self.queue.broken().is_some(),
            "the ring has a place for every buffer"
        );
    }
}
