//! Sending: frames are built in place in a ring of DMA bytes, header before frame.

use alloc::{collections::VecDeque, vec, vec::Vec};
use core::num::NonZeroU16;
use virtio_drivers::Hal;

use super::{
    header::HEADER_BYTES,
    offload::{self, TxOffloads},
};
use crate::{
    dma::Dma,
    transport::{Doorbell, InitError},
    virtq::{Segment, Virtq},
};

/// Frames start on cache lines, so that two never share one.
const ALIGN: usize = 64;

/// A frame that the device may still read.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    slot: u16,
    /// Bytes of the ring it takes, those skipped at the ring's end before it included.
    bytes: usize,
    done: bool,
}

/// The transmit half of a NIC.
#[derive(Debug)]
pub(super) struct Tx<H: Hal, B: Doorbell> {
    pub(super) queue: Virtq<H, B>,
    memory: Dma<H>,
    capacity: usize,
    head: usize,
    used: usize,
    /// Oldest first. Devices usually finish in order; room comes back in order in any case.
    in_flight: VecDeque<InFlight>,
    /// For each slot, its frame's place in the order of sending, to find it again.
    place: Vec<u64>,
    free_slots: Vec<u16>,
    sent: u64,
    header_bytes: usize,
    /// The device takes header and frame as one buffer.
    joined: bool,
    offloads: TxOffloads,
    frame_bytes_max: usize,
    /// A token was refused for want of room; the next arm asks for transmit interrupts.
    pub(super) starved: bool,
    pub(super) frames: u64,
    pub(super) bytes: u64,
}

/// Room for a frame in the ring of bytes.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: usize,
    end: usize,
    /// Bytes taken from the ring, those skipped at its end included.
    taken: usize,
}

/// What [`Tx::new`] needs to know of the agreed features.
#[derive(Debug, Clone, Copy)]
pub(super) struct TxPlan {
    pub header_bytes: usize,
    pub joined: bool,
    pub offloads: TxOffloads,
    pub frame_bytes_max: usize,
    /// Wished size of the ring of frames.
    pub bytes: usize,
}

impl<H: Hal, B: Doorbell> Tx<H, B> {
    pub(super) fn new(queue: Virtq<H, B>, plan: TxPlan) -> Result<Self, InitError> {
        let largest = (HEADER_BYTES + plan.frame_bytes_max).next_multiple_of(ALIGN);
        // Of two, one can be built while the other is sent, wherever the ring's end is.
        let capacity = plan.bytes.max(2 * largest).next_multiple_of(ALIGN);
        let slots = queue.size();
        Ok(Self {
            memory: Dma::new(capacity)?,
            capacity,
            head: 0,
            used: 0,
            in_flight: VecDeque::with_capacity(usize::from(slots)),
            place: vec![0; usize::from(slots)],
            free_slots: (0..slots).rev().collect(),
            sent: 0,
            header_bytes: plan.header_bytes,
            joined: plan.joined,
            offloads: plan.offloads,
            frame_bytes_max: plan.frame_bytes_max,
            starved: false,
            frames: 0,
            bytes: 0,
            queue,
        })
    }

    /// Whether a frame of any allowed length can be sent now, after taking back what the device
    /// has finished.
    pub(super) fn ready(&mut self) -> bool {
        if !self.has_room() {
            self.reclaim();
        }
        let ready = self.has_room() && self.queue.broken().is_none();
        self.starved = !ready;
        ready
    }

    fn has_room(&self) -> bool {
        !self.free_slots.is_empty()
            && self.queue.has_room(if self.joined { 1 } else { 2 })
            && self.place_for(self.frame_bytes_max).is_some()
    }

    /// Takes back frames that the device has finished.
    pub(super) fn reclaim(&mut self) {
        while let Ok(Some(used)) = self.queue.pop_used() {
            let slot = used.cookie as u16;
            let oldest = self.sent - self.in_flight.len() as u64;
            let at = (self.place[usize::from(slot)] - oldest) as usize;
            self.in_flight[at].done = true;
        }
        while let Some(frame) = self.in_flight.front()
            && frame.done
        {
            self.used -= frame.bytes;
            self.free_slots.push(frame.slot);
            self.in_flight.pop_front();
        }
        if self.used == 0 {
            self.head = 0;
        }
    }

    /// Where a frame of `len` bytes would lie, if there is room.
    fn place_for(&self, len: usize) -> Option<Place> {
        let bytes = (self.header_bytes + len).next_multiple_of(ALIGN);
        let to_end = self.capacity - self.head;
        let (start, taken) = if bytes <= to_end {
            (self.head, bytes)
        } else {
            (0, to_end + bytes)
        };
        (self.used + taken <= self.capacity).then_some(Place {
            start,
            end: start + bytes,
            taken,
        })
    }

    /// Lets `build` write a frame of `len` bytes and queues it.
    ///
    /// Panics when `len` is above the announced maximum or [`Tx::ready`] did not say yes: a
    /// token exists only after it did.
    pub(super) fn send<R>(
        &mut self,
        len: usize,
        segment: Option<NonZeroU16>,
        build: impl FnOnce(&mut [u8]) -> R,
    ) -> R {
        assert!(
            len <= self.frame_bytes_max,
            "frame of {len} bytes, the maximum is {}",
            self.frame_bytes_max
        );
        let Some(Place { start, end, taken }) = self.place_for(len) else {
            unreachable!("a token is given out only with room for the longest frame");
        };
        let frame_at = start + self.header_bytes;
        let ptr = self.memory.ptr(frame_at, len);
        // SAFETY: the range is inside the region, initialised (zeroed at allocation), and free:
        // no frame in flight overlaps it, so neither device nor another slice uses it.
        let frame = unsafe { core::slice::from_raw_parts_mut(ptr, len) };
        let result = build(frame);
        let header = offload::prepare(frame, segment, self.offloads);
        // A word at a time: frames begin on cache lines.
        let bytes = header.to_bytes();
        let (words, rest) = bytes[..self.header_bytes].as_chunks();
        for (i, word) in words.iter().enumerate() {
            self.memory.write(start + 4 * i, u32::from_ne_bytes(*word));
        }
        for (i, byte) in rest.iter().enumerate() {
            self.memory.write(start + 4 * words.len() + i, *byte);
        }
        let header_len = self.header_bytes as u32;
        let segment = |at: usize, len: u32| Segment {
            paddr: self.memory.paddr(at),
            len,
            writable: false,
        };
        let whole = [segment(start, header_len + len as u32)];
        let split = [segment(start, header_len), segment(frame_at, len as u32)];
        let Some(slot) = self.free_slots.pop() else {
            unreachable!("a token is given out only with a slot");
        };
        // SAFETY: the range stays out of use until the device gives it back.
        let added = unsafe {
            self.queue
                .add(if self.joined { &whole } else { &split }, u32::from(slot))
        };
        if added.is_err() {
            // The device broke the rules since the token was given: the frame is lost, as all
            // that follow are.
            self.free_slots.push(slot);
            return result;
        }
        self.place[usize::from(slot)] = self.sent;
        self.sent += 1;
        self.in_flight.push_back(InFlight {
            slot,
            bytes: taken,
            done: false,
        });
        self.used += taken;
        self.head = end;
        self.frames += 1;
        self.bytes += len as u64;
        result
    }
}
