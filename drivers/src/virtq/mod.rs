//! A split virtqueue (virtio 1.2 §2.7) that does not trust its device and does not lose doorbells.
//!
//! **Doorbells.** Both sides may sleep, so both do "publish, then look whether the other wants to
//! be told", and x86 may move that load before the store unless a full fence stands between.
//! [`Virtq::kick`] fences between the available index and the device's wish, [`Virtq::arm`] between
//! the driver's wish and the last look at the used index. Whether to ring is the window test of
//! [`event::need_event`], taken over all buffers added since the last kick.
//!
//! **Trust.** The driver never reads descriptors or the available ring back. What a used entry
//! says is checked against the driver's own records: the index may not pass what is outstanding,
//! the id must be an outstanding request's, the length may not exceed its writable bytes. The first
//! violation closes the queue for good with a [`QueueError`].
//!
//! **Memory.** Rings and, with indirect descriptors, one table for each ring slot are allocated at
//! construction; a request takes one ring slot however many segments it has.

pub mod event;

use alloc::vec::Vec;
use core::{
    fmt,
    sync::atomic::{AtomicU16, Ordering, fence},
};
use virtio_drivers::{Hal, PAGE_SIZE, PhysAddr};

use crate::{
    dma::Dma,
    transport::{DeviceTransport, Doorbell, InitError},
};
use event::need_event;

const DESC_BYTES: usize = 16;
const DESC_NEXT: u16 = 1;
const DESC_WRITE: u16 = 2;
const DESC_INDIRECT: u16 = 4;
/// Flag in either ring: the owner does not want to be notified.
const NO_NOTIFY: u16 = 1;
/// How far ahead a disarmed queue puts its used event: half the index space.
const FAR: u16 = 0x8000;
const NIL: u16 = u16::MAX;

/// A descriptor as the device reads it (virtio 1.2 §2.7.5).
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Desc {
    addr: u64,
    len: u32,
    flags: u16,
    next: u16,
}

/// A piece of memory handed to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// Where it starts, as the device sees it.
    pub paddr: PhysAddr,
    /// Its bytes; not zero.
    pub len: u32,
    /// Whether the device writes it (otherwise it only reads). Writable segments come last.
    pub writable: bool,
}

/// A request that the device has finished with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Used {
    /// What the driver passed to [`Virtq::add`].
    pub cookie: u32,
    /// Bytes the device says it wrote; never more than were writable.
    pub len: u32,
}

/// A rule that the device broke; the queue takes and gives nothing after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QueueError {
    /// The used index went beyond the requests outstanding.
    IndexJump {
        /// The device's index.
        used: u16,
        /// The last index the driver had seen.
        seen: u16,
        /// Requests outstanding.
        outstanding: u16,
    },
    /// A used entry named a descriptor that does not exist.
    BadId {
        /// The id in the entry.
        id: u32,
    },
    /// A used entry named a descriptor that heads no outstanding request.
    NotOutstanding {
        /// The id in the entry.
        id: u16,
    },
    /// A used entry claimed more written bytes than the request had room for.
    BadLength {
        /// The length in the entry.
        len: u32,
        /// The writable bytes of the request.
        room: u32,
    },
    /// A received frame claimed an impossible number of buffers.
    BadBufferCount {
        /// The number in the frame's header.
        count: u16,
    },
    /// The device set `DEVICE_NEEDS_RESET`.
    NeedsReset,
}

impl fmt::Display for QueueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IndexJump {
                used,
                seen,
                outstanding,
            } => write!(
                f,
                "used index jumped from {seen} to {used} with {outstanding} requests outstanding"
            ),
            Self::BadId { id } => write!(f, "used entry with impossible id {id}"),
            Self::NotOutstanding { id } => {
                write!(f, "used entry with id {id}, which is not outstanding")
            }
            Self::BadLength { len, room } => {
                write!(
                    f,
                    "used entry of {len} bytes for a request with room for {room}"
                )
            }
            Self::BadBufferCount { count } => write!(f, "received frame in {count} buffers"),
            Self::NeedsReset => f.write_str("device asks for a reset"),
        }
    }
}

/// Why a request was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AddError {
    /// No descriptors free now; some will be after [`Virtq::pop_used`].
    Full,
    /// No segments, or more than the queue can ever describe.
    BadShape,
    /// The device broke the rules earlier.
    Broken(QueueError),
}

/// How a queue is to be set up.
#[derive(Debug, Clone, Copy)]
pub struct QueueOptions {
    /// The most requests to have in the ring; a smaller device limit wins.
    pub max_size: u16,
    /// `VIRTIO_F_EVENT_IDX` was negotiated.
    pub event_idx: bool,
    /// Entries in each request's indirect table, if `VIRTIO_F_INDIRECT_DESC` was negotiated and
    /// requests have several segments; 0 for none.
    pub indirect: u16,
    /// Refuse used lengths beyond the request's room. Legacy devices are known to report wrong
    /// lengths (§2.7.8.2); for them the length is cut to the room instead.
    pub strict_lengths: bool,
    /// The MSI-X table entry for the queue's interrupts.
    pub vector: Option<u16>,
}

/// What the driver knows of a descriptor. `next` links a request's descriptors, and free ones.
#[derive(Debug, Clone, Copy)]
struct Shadow {
    /// This descriptor heads an outstanding request.
    head: bool,
    next: u16,
    room: u32,
    cookie: u32,
}

/// The queue. See the [module](self) for its rules.
#[derive(Debug)]
pub struct Virtq<H: Hal, B: Doorbell> {
    ring: Dma<H>,
    tables: Option<Dma<H>>,
    table_len: u16,
    size: u16,
    avail_at: usize,
    used_at: usize,
    event_idx: bool,
    strict_lengths: bool,
    shadow: Vec<Shadow>,
    free_head: u16,
    free: u16,
    outstanding: u16,
    avail_idx: u16,
    seen_idx: u16,
    /// Buffers added since the last kick.
    unkicked: u32,
    broken: Option<QueueError>,
    bell: B,
}

impl<H: Hal, B: Doorbell> Virtq<H, B> {
    /// Sets queue `index` of a device up. The device must have been reset and agreed on features,
    /// but not started.
    ///
    /// # Errors
    /// [`InitError`] when the device has no such queue, still uses it, refuses the vector, has its
    /// doorbell nowhere, or there is no memory.
    pub fn new<T: DeviceTransport<Bell = B>>(
        transport: &mut T,
        index: u16,
        options: QueueOptions,
    ) -> Result<Self, InitError> {
        if transport.queue_used(index) {
            return Err(InitError::QueueInUse { queue: index });
        }
        let limit = transport
            .max_queue_size(index)
            .min(u32::from(options.max_size))
            .min(32768);
        // A split ring's size is a power of two (§2.7).
        let Some(order) = limit.checked_ilog2() else {
            return Err(InitError::QueueMissing { queue: index });
        };
        let size = 1u16 << order;
        let n = usize::from(size);
        let avail_at = DESC_BYTES * n;
        // The used ring's place is the one a legacy device derives (§2.7.2), good for all.
        let used_at = (avail_at + 2 * (n + 3) + PAGE_SIZE) & !(PAGE_SIZE - 1);
        let ring = Dma::<H>::new(used_at + 6 + 8 * n)?;
        let tables = match options.indirect {
            0 => None,
            entries => Some(Dma::<H>::new(DESC_BYTES * usize::from(entries) * n)?),
        };
        if let Some(vector) = options.vector
            && !transport.set_queue_vector(index, vector)
        {
            return Err(InitError::VectorRefused { queue: Some(index) });
        }
        transport.queue_set(
            index,
            u32::from(size),
            ring.paddr(0),
            ring.paddr(avail_at),
            ring.paddr(used_at),
        );
        let bell = transport.doorbell(index)?;
        let shadow = (0..size)
            .map(|i| Shadow {
                head: false,
                next: if i + 1 < size { i + 1 } else { NIL },
                room: 0,
                cookie: 0,
            })
            .collect();
        let mut queue = Self {
            ring,
            tables,
            table_len: options.indirect,
            size,
            avail_at,
            used_at,
            event_idx: options.event_idx,
            strict_lengths: options.strict_lengths,
            shadow,
            free_head: 0,
            free: size,
            outstanding: 0,
            avail_idx: 0,
            seen_idx: 0,
            unkicked: 0,
            broken: None,
            bell,
        };
        queue.disarm();
        Ok(queue)
    }

    /// Slots in the ring.
    #[must_use]
    pub fn size(&self) -> u16 {
        self.size
    }

    /// Requests that the device holds.
    #[cfg(test)]
    pub(crate) fn outstanding(&self) -> u16 {
        self.outstanding
    }

    /// Whether a request of so many segments can be added now.
    #[must_use]
    pub fn has_room(&self, segments: usize) -> bool {
        self.broken.is_none() && self.descriptors_for(segments) <= usize::from(self.free)
    }

    /// The rule the device broke, if it did.
    #[must_use]
    pub fn broken(&self) -> Option<QueueError> {
        self.broken
    }

    /// Closes the queue: nothing is taken from or given to the device any more.
    pub fn set_broken(&mut self, error: QueueError) {
        self.broken.get_or_insert(error);
    }

    /// Hands a request to the device; `cookie` comes back with it. The device may start at once
    /// but need not look before [`Virtq::kick`].
    ///
    /// # Errors
    /// [`AddError`]; nothing was changed then.
    ///
    /// # Safety
    /// The memory must be valid for DMA and, where writable, untouched until the request comes
    /// back from [`Virtq::pop_used`] or the device has been reset.
    pub unsafe fn add(&mut self, segments: &[Segment], cookie: u32) -> Result<(), AddError> {
        if let Some(error) = self.broken {
            return Err(AddError::Broken(error));
        }
        let needed = self.descriptors_for(segments.len());
        if segments.is_empty() || needed > usize::from(self.size) {
            return Err(AddError::BadShape);
        }
        if needed > usize::from(self.free) {
            return Err(AddError::Full);
        }
        let head = self.free_head;
        let last = if needed == 1 && segments.len() > 1 {
            self.write_indirect(head, segments);
            head
        } else {
            self.write_chain(head, segments)
        };
        self.free_head = self.shadow[usize::from(last)].next;
        self.free -= needed as u16;
        self.shadow[usize::from(last)].next = NIL;
        let room = segments
            .iter()
            .filter(|s| s.writable)
            .fold(0u32, |sum, s| sum.saturating_add(s.len));
        let shadow = &mut self.shadow[usize::from(head)];
        shadow.head = true;
        shadow.room = room;
        shadow.cookie = cookie;
        self.outstanding += 1;

        let slot = usize::from(self.avail_idx & (self.size - 1));
        self.ring.write(self.avail_at + 4 + 2 * slot, head);
        self.avail_idx = self.avail_idx.wrapping_add(1);
        // Release: the device that sees the index sees the descriptors.
        self.half(self.avail_at + 2)
            .store(self.avail_idx, Ordering::Release);
        self.unkicked = self.unkicked.saturating_add(1);
        Ok(())
    }

    /// Rings the doorbell once for everything added since the last call, if the device wants it.
    /// Returns whether it rang.
    pub fn kick(&mut self) -> bool {
        if self.unkicked == 0 || self.broken.is_some() {
            return false;
        }
        // The index must be visible before the device's wish is read: see the module text.
        fence(Ordering::SeqCst);
        let wanted = if self.event_idx {
            let event = self.half(self.avail_event_at()).load(Ordering::Relaxed);
            // After a full turn of the index without a kick every event was passed.
            match u16::try_from(self.unkicked) {
                Ok(count) => need_event(event, self.avail_idx, self.avail_idx.wrapping_sub(count)),
                Err(_) => true,
            }
        } else {
            self.half(self.used_at).load(Ordering::Relaxed) & NO_NOTIFY == 0
        };
        self.unkicked = 0;
        if wanted {
            self.bell.ring();
        }
        wanted
    }

    /// The next request that the device finished, if any.
    ///
    /// # Errors
    /// The rule that the device broke, now or earlier.
    pub fn pop_used(&mut self) -> Result<Option<Used>, QueueError> {
        if let Some(error) = self.broken {
            return Err(error);
        }
        match self.take_used() {
            Err(error) => {
                self.broken = Some(error);
                Err(error)
            }
            ok => ok,
        }
    }

    /// Asks for an interrupt at the next completion. Returns `true` when completions are there
    /// already: then poll instead of sleeping. A broken queue has none.
    pub fn arm(&mut self) -> bool {
        if self.broken.is_some() {
            return false;
        }
        if self.event_idx {
            self.half(self.used_event_at())
                .store(self.seen_idx, Ordering::Relaxed);
        } else {
            self.half(self.avail_at).store(0, Ordering::Relaxed);
        }
        // The wish must be visible before the last look: see the module text.
        fence(Ordering::SeqCst);
        self.half(self.used_at + 2).load(Ordering::Acquire) != self.seen_idx
    }

    /// Asks for no interrupts. A late one may still come: after 2^15 completions with event
    /// indices, or where the device does not honour the flag.
    pub fn disarm(&mut self) {
        if self.event_idx {
            self.half(self.used_event_at())
                .store(self.seen_idx.wrapping_add(FAR), Ordering::Relaxed);
        } else {
            self.half(self.avail_at).store(NO_NOTIFY, Ordering::Relaxed);
        }
    }

    fn descriptors_for(&self, segments: usize) -> usize {
        if segments > 1 && segments <= usize::from(self.table_len) {
            1
        } else {
            segments
        }
    }

    /// Whether the device has given something back that was not taken yet. Only a look at the
    /// ring's index.
    #[must_use]
    pub fn has_used(&self) -> bool {
        self.half(self.used_at + 2).load(Ordering::Relaxed) != self.seen_idx
    }

    fn take_used(&mut self) -> Result<Option<Used>, QueueError> {
        // Acquire: what the device wrote before moving the index is visible.
        let used = self.half(self.used_at + 2).load(Ordering::Acquire);
        let ahead = used.wrapping_sub(self.seen_idx);
        if ahead == 0 {
            return Ok(None);
        }
        if ahead > self.outstanding {
            return Err(QueueError::IndexJump {
                used,
                seen: self.seen_idx,
                outstanding: self.outstanding,
            });
        }
        let at = self.used_at + 4 + 8 * usize::from(self.seen_idx & (self.size - 1));
        let id: u32 = self.ring.read(at);
        let len: u32 = self.ring.read(at + 4);
        let head = match u16::try_from(id) {
            Ok(head) if head < self.size => head,
            _ => return Err(QueueError::BadId { id }),
        };
        let shadow = self.shadow[usize::from(head)];
        if !shadow.head {
            return Err(QueueError::NotOutstanding { id: head });
        }
        if len > shadow.room && self.strict_lengths {
            return Err(QueueError::BadLength {
                len,
                room: shadow.room,
            });
        }
        self.seen_idx = self.seen_idx.wrapping_add(1);
        self.release(head);
        Ok(Some(Used {
            cookie: shadow.cookie,
            len: len.min(shadow.room),
        }))
    }

    /// Returns a request's descriptors to the free list, following the driver's own links.
    fn release(&mut self, head: u16) {
        self.shadow[usize::from(head)].head = false;
        let mut last = head;
        let mut count = 1;
        while self.shadow[usize::from(last)].next != NIL {
            last = self.shadow[usize::from(last)].next;
            count += 1;
        }
        self.shadow[usize::from(last)].next = self.free_head;
        self.free_head = head;
        self.free += count;
        self.outstanding -= 1;
    }

    /// Writes the segments into the free list's first descriptors; returns the last one used.
    fn write_chain(&mut self, head: u16, segments: &[Segment]) -> u16 {
        let mut at = head;
        for (i, segment) in segments.iter().enumerate() {
            let next = self.shadow[usize::from(at)].next;
            let more = i + 1 < segments.len();
            let desc = Desc {
                addr: segment.paddr,
                len: segment.len,
                flags: flags(segment, more),
                next: if more { next } else { 0 },
            };
            self.ring.write(DESC_BYTES * usize::from(at), desc);
            if more {
                at = next;
            }
        }
        at
    }

    /// Writes the segments into the table of slot `head`, and the slot to point to it.
    fn write_indirect(&mut self, head: u16, segments: &[Segment]) {
        let Some(tables) = &self.tables else {
            unreachable!("a table length without tables");
        };
        let table = DESC_BYTES * usize::from(self.table_len) * usize::from(head);
        for (i, segment) in segments.iter().enumerate() {
            let more = i + 1 < segments.len();
            let desc = Desc {
                addr: segment.paddr,
                len: segment.len,
                flags: flags(segment, more),
                next: if more { i as u16 + 1 } else { 0 },
            };
            tables.write(table + DESC_BYTES * i, desc);
        }
        let desc = Desc {
            addr: tables.paddr(table),
            len: (DESC_BYTES * segments.len()) as u32,
            flags: DESC_INDIRECT,
            next: 0,
        };
        self.ring.write(DESC_BYTES * usize::from(head), desc);
    }

    /// Where the driver says at which completion to interrupt: after the available ring.
    fn used_event_at(&self) -> usize {
        self.avail_at + 4 + 2 * usize::from(self.size)
    }

    /// Where the device says at which buffer to ring: after the used ring.
    fn avail_event_at(&self) -> usize {
        self.used_at + 4 + 8 * usize::from(self.size)
    }

    /// A 16-bit field that both sides use without other synchronisation.
    fn half(&self, offset: usize) -> &AtomicU16 {
        let ptr = self.ring.ptr(offset, 2).cast::<u16>();
        assert!(ptr.is_aligned(), "misaligned ring field");
        // SAFETY: `ptr` is inside the ring, aligned, lives as long as `self`, and the driver
        // accesses the indices, flags and events by atomics only.
        unsafe { AtomicU16::from_ptr(ptr) }
    }
}

fn flags(segment: &Segment, more: bool) -> u16 {
    (if segment.writable { DESC_WRITE } else { 0 }) | (if more { DESC_NEXT } else { 0 })
}
