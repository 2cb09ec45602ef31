//! The device's side of a split ring, with means to misuse it.

use core::sync::atomic::{AtomicU16, Ordering, fence};
use std::{sync::Arc, vec::Vec};

use super::{
    hal::{device_ptr, device_read, device_write},
    transport::{QueueSet, Shared},
};
use crate::{
    transport::F_EVENT_IDX,
    virtq::{Segment, event::need_event},
};

/// A request that the device has taken.
#[derive(Debug, Clone)]
pub struct Chain {
    pub id: u16,
    pub segments: Vec<Segment>,
}

impl Chain {
    /// All that the device may read.
    pub fn readable(&self) -> Vec<u8> {
        self.segments
            .iter()
            .filter(|s| !s.writable)
            .flat_map(|s| device_read(s.paddr, s.len as usize))
            .collect()
    }

    /// Bytes that the device may write.
    pub fn room(&self) -> usize {
        self.segments
            .iter()
            .filter(|s| s.writable)
            .map(|s| s.len as usize)
            .sum()
    }

    /// Writes as much of `bytes` as there is room for, `skip` bytes from the start of the room;
    /// returns how much.
    pub fn write(&self, mut skip: usize, bytes: &[u8]) -> usize {
        let mut done = 0;
        for segment in self.segments.iter().filter(|s| s.writable) {
            let len = segment.len as usize;
            let here = skip.min(len);
            skip -= here;
            let take = (len - here).min(bytes.len() - done);
            device_write(segment.paddr + here as u64, &bytes[done..done + take]);
            done += take;
        }
        done
    }
}

/// One queue, from the device.
#[derive(Debug)]
pub struct DeviceQueue {
    set: QueueSet,
    /// Index and event fields, found once: a race with the driver is won in nanoseconds.
    avail_idx: &'static AtomicU16,
    avail_event: &'static AtomicU16,
    used_event: &'static AtomicU16,
    event_idx: bool,
    last_avail: u16,
    pub used_idx: u16,
    /// The used index at the last decision to interrupt or not.
    signalled: u16,
}

impl DeviceQueue {
    /// Queue `index` of a started device.
    pub fn attach(shared: &Arc<Shared>, index: u16) -> Self {
        let set = shared.queue(index);
        Self {
            avail_idx: half(set.driver_area + 2),
            used_event: half(set.driver_area + 4 + 2 * u64::from(set.size)),
            avail_event: half(set.device_area + 4 + 8 * u64::from(set.size)),
            set,
            event_idx: shared.accepted.load(Ordering::SeqCst) & F_EVENT_IDX != 0,
            last_avail: 0,
            used_idx: 0,
            signalled: 0,
        }
    }

    pub fn size(&self) -> u16 {
        self.set.size
    }

    /// The next request, if one was published.
    pub fn pop(&mut self) -> Option<Chain> {
        let published = self.avail_idx.load(Ordering::Acquire);
        if published == self.last_avail {
            return None;
        }
        let waiting = published.wrapping_sub(self.last_avail);
        assert!(
            waiting <= self.set.size,
            "more published than the ring holds"
        );
        let slot = u64::from(self.last_avail % self.set.size);
        let id = number::<2>(self.set.driver_area + 4 + 2 * slot) as u16;
        assert!(id < self.set.size, "descriptor beyond the table");
        self.last_avail = self.last_avail.wrapping_add(1);
        let mut segments = Vec::new();
        self.walk(self.set.descriptors, self.set.size, id, true, &mut segments);
        assert!(
            segments.is_sorted_by_key(|s: &Segment| s.writable),
            "readable segments come first"
        );
        Some(Chain { id, segments })
    }

    fn walk(&self, table: u64, size: u16, first: u16, outer: bool, out: &mut Vec<Segment>) {
        let mut at = first;
        for _ in 0..size {
            let desc = table + 16 * u64::from(at);
            let (paddr, len) = (number::<8>(desc), number::<4>(desc + 8) as u32);
            let flags = number::<2>(desc + 12);
            assert_ne!(len, 0, "empty descriptor");
            if flags & 4 != 0 {
                assert!(
                    outer && flags == 4,
                    "indirect within indirect, or with flags"
                );
                assert_eq!(len % 16, 0);
                self.walk(paddr, (len / 16) as u16, 0, false, out);
                return;
            }
            device_ptr(paddr, len as usize);
            out.push(Segment {
                paddr,
                len,
                writable: flags & 2 != 0,
            });
            if flags & 1 == 0 {
                return;
            }
            at = number::<2>(desc + 14) as u16;
            assert!(at < size, "link beyond the table");
        }
        panic!("a chain in a loop");
    }

    /// Gives a request back.
    pub fn push(&mut self, id: u32, len: u32) {
        self.write_used(id, len);
        self.set_used_idx(self.used_idx.wrapping_add(1));
    }

    /// Writes the next used entry without publishing it.
    pub fn write_used(&mut self, id: u32, len: u32) {
        let at = self.set.device_area + 4 + 8 * u64::from(self.used_idx % self.set.size);
        device_write(at, &id.to_le_bytes());
        device_write(at + 4, &len.to_le_bytes());
    }

    /// Publishes any used index.
    pub fn set_used_idx(&mut self, index: u16) {
        self.used_idx = index;
        half(self.set.device_area + 2).store(index, Ordering::Release);
    }

    /// Asks to be told of the next request; `true`: one is there already.
    pub fn want_kick(&mut self) -> bool {
        if self.event_idx {
            self.set_avail_event(self.last_avail);
        } else {
            half(self.set.device_area).store(0, Ordering::SeqCst);
        }
        fence(Ordering::SeqCst);
        self.avail_idx.load(Ordering::Acquire) != self.last_avail
    }

    /// Says at which request to be told.
    pub fn set_avail_event(&mut self, event: u16) {
        self.avail_event.store(event, Ordering::SeqCst);
    }

    /// Asks not to be told, where there are no event indices.
    pub fn set_no_notify(&mut self) {
        half(self.set.device_area).store(1, Ordering::SeqCst);
    }

    /// Whether the driver wants an interrupt for what was pushed since the last call.
    pub fn should_interrupt(&mut self) -> bool {
        fence(Ordering::SeqCst);
        let old = core::mem::replace(&mut self.signalled, self.used_idx);
        if self.event_idx {
            need_event(self.used_event.load(Ordering::SeqCst), self.used_idx, old)
        } else {
            old != self.used_idx && half(self.set.driver_area).load(Ordering::SeqCst) & 1 == 0
        }
    }
}

fn half(paddr: u64) -> &'static AtomicU16 {
    let ptr = device_ptr(paddr, 2).cast::<u16>();
    assert!(ptr.is_aligned());
    // SAFETY: DMA memory, aligned; the test keeps the driver, and so the ring, while it uses it.
    unsafe { AtomicU16::from_ptr(ptr) }
}

fn number<const N: usize>(paddr: u64) -> u64 {
    let mut bytes = [0; 8];
    let ptr = device_ptr(paddr, N);
    for (i, byte) in bytes[..N].iter_mut().enumerate() {
        // SAFETY: DMA memory; the driver does not write what it has published.
        *byte = unsafe { ptr.add(i).read_volatile() };
    }
    u64::from_le_bytes(bytes)
}
