//! The driver: operations in flight, their device requests, and completions.

use alloc::{collections::VecDeque, vec, vec::Vec};
use virtio_drivers::{
    Hal,
    transport::{DeviceStatus, DeviceType, InterruptStatus},
};

use super::{
    BlkError, BlkOptions, Completion, ConfigChange, DiskInfo, IdentifyError, Op, Serial,
    SubmitError,
    config::{feature, read_capacity},
    request::{Part, Progress, Split, kind, result_of},
};
use crate::{
    dma::Dma,
    transport::{
        ConfigError, DeviceTransport, F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1, InitError,
        needs_reset, negotiate, read_consistent, start,
    },
    virtq::{AddError, QueueError, QueueOptions, Segment, Virtq},
};

/// Per request, in DMA memory: header, range, status and serial number.
const SLOT_BYTES: usize = 64;
const RANGE_AT: usize = 16;
const STATUS_AT: usize = 32;
const ID_AT: usize = 36;
const ID_BYTES: usize = 20;
const HEADER_BYTES: u32 = 16;
const RANGE_BYTES: u32 = 16;
/// What the status byte holds until the device writes it; not a status of the standard.
const NO_STATUS: u8 = 0xff;

/// `struct virtio_blk_req`'s head (§5.2.6).
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Header {
    kind: u32,
    reserved: u32,
    sector: u64,
}

/// `struct virtio_blk_discard_write_zeroes` (§5.2.6).
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Range {
    sector: u64,
    sectors: u32,
    flags: u32,
}

/// An operation that was taken and not yet reported.
#[derive(Debug, Clone, Copy)]
struct Active {
    /// `None`: the driver's own, not reported.
    token: Option<u32>,
    progress: Progress,
    parts_in_flight: u16,
    result: Result<(), BlkError>,
}

/// A device request that the device holds.
#[derive(Debug, Clone, Copy)]
struct InFlight {
    op: u16,
    /// Bytes the device must have written for success to be true.
    expected: u32,
}

/// A virtio disk. See the [module](super) for the order of calls.
#[derive(Debug)]
pub struct Blk<H: Hal, T: DeviceTransport> {
    queue: Virtq<H, T::Bell>,
    transport: T,
    info: DiskInfo,
    split: Split,
    checked_lengths: bool,
    slots: Dma<H>,
    free_slots: Vec<u16>,
    /// What each slot is used for.
    in_flight: Vec<Option<InFlight>>,
    ops: Vec<Option<Active>>,
    free_ops: Vec<u16>,
    /// Operations with parts not handed out yet, oldest first.
    backlog: VecDeque<u16>,
    /// Finished operations, not reported yet.
    done: VecDeque<u16>,
    serial: Serial,
}

impl<H: Hal, T: DeviceTransport> Blk<H, T> {
    /// Brings the disk up.
    ///
    /// # Errors
    /// [`InitError`]: not a disk, or one that does not follow the standard, or no memory.
    pub fn new(mut transport: T, options: BlkOptions) -> Result<Self, InitError> {
        let device = transport.device_type();
        if device != DeviceType::Block {
            return Err(InitError::WrongDeviceType(device));
        }
        let features = negotiate(&mut transport, |_, offered| Ok(offered & feature::WANTED))?;
        if let Some(vector) = options.config_vector
            && !transport.set_config_vector(vector)
        {
            return Err(InitError::VectorRefused { queue: None });
        }
        let info = DiskInfo::read(&transport, features)?;
        let split = Split::new(&info);
        let queue = Virtq::new(
            &mut transport,
            0,
            QueueOptions {
                max_size: options.queue_size,
                event_idx: features & F_EVENT_IDX != 0,
                indirect: if features & F_INDIRECT_DESC != 0 {
                    split.segments() + 2
                } else {
                    0
                },
                strict_lengths: features & F_VERSION_1 != 0,
                vector: options.queue_vector,
            },
        )?;
        if features & F_INDIRECT_DESC == 0 && queue.size() < split.segments() + 2 {
            return Err(InitError::QueueMissing { queue: 0 });
        }
        let depth = usize::from(queue.size());
        let slots = Dma::new(SLOT_BYTES * depth)?;
        start(&mut transport);
        Ok(Self {
            queue,
            transport,
            info,
            split,
            checked_lengths: features & F_VERSION_1 != 0,
            slots,
            free_slots: (0..depth as u16).rev().collect(),
            in_flight: vec![None; depth],
            ops: vec![None; depth],
            free_ops: (0..depth as u16).rev().collect(),
            backlog: VecDeque::with_capacity(depth),
            done: VecDeque::with_capacity(depth),
            serial: Serial::new(),
        })
    }

    /// The disk's properties and limits.
    #[must_use]
    pub fn info(&self) -> &DiskInfo {
        &self.info
    }

    /// Size in sectors of 512 bytes, as last read.
    #[must_use]
    pub fn capacity_sectors(&self) -> u64 {
        self.info.capacity_sectors
    }

    /// The serial number that [`Blk::identify`] read; empty before.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Most operations in flight.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.ops.len()
    }

    /// Operations taken and not yet reported by [`Blk::poll`].
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.ops.len() - self.free_ops.len()
    }

    /// Takes an operation; `token` comes back with its completion. The device need not start
    /// before [`Blk::kick`].
    ///
    /// # Errors
    /// [`SubmitError`]; nothing happened then.
    ///
    /// # Safety
    /// The memory of a read or write must be valid for DMA until the operation's completion came
    /// out of [`Blk::poll`] (also after an error), and nobody may touch it in between, except to
    /// read what is being written.
    pub unsafe fn submit(&mut self, op: Op, token: u32) -> Result<(), SubmitError> {
        if let Some(error) = self.queue.broken() {
            return Err(SubmitError::Broken(error));
        }
        let progress = Progress::new(op, &self.info)?;
        let durable_already = op == Op::Flush && !self.info.flush;
        self.enter(Some(token), progress, durable_already)
    }

    /// Rings the doorbell for everything submitted since the last call, if the device wants it.
    /// Returns whether it rang.
    pub fn kick(&mut self) -> bool {
        self.queue.kick()
    }

    /// The next finished operation, in no particular order. Call until `None`.
    pub fn poll(&mut self) -> Option<Completion> {
        loop {
            while let Some(index) = self.done.pop_front() {
                let op = self.ops[usize::from(index)].take();
                self.free_ops.push(index);
                if let Some(Active {
                    token: Some(token),
                    result,
                    ..
                }) = op
                {
                    return Some(Completion { token, result });
                }
            }
            match self.queue.pop_used() {
                Ok(Some(used)) => {
                    self.finish_part(used.cookie as usize, used.len);
                    if !self.backlog.is_empty() {
                        self.pump();
                        self.queue.kick();
                    }
                }
                Ok(None) => return None,
                Err(error) => {
                    if self.in_flight() == 0 {
                        return None;
                    }
                    self.fail_all(error);
                }
            }
        }
    }

    /// Whether the device has completed something that [`Blk::poll`] has not looked at. Cheap, for
    /// polling.
    #[must_use]
    pub fn has_completed(&self) -> bool {
        self.queue.has_used()
    }

    /// Asks for an interrupt at the next completion. `true`: something is there already, poll
    /// instead of sleeping.
    pub fn arm(&mut self) -> bool {
        if self.queue.broken().is_some() {
            return self.in_flight() > 0;
        }
        self.queue.arm() || !self.done.is_empty()
    }

    /// Reads and acknowledges the interrupt cause. Needed with MMIO (level-triggered) and not
    /// with MSI-X.
    pub fn ack_interrupt(&mut self) -> InterruptStatus {
        self.transport.ack_interrupt()
    }

    /// Looks at the configuration again, after a configuration interrupt. `None`: the capacity
    /// is what it was. A device that asks for a reset is closed: [`Blk::poll`] then fails all.
    ///
    /// # Errors
    /// [`ConfigError`]: the configuration cannot be read; the old capacity stays.
    pub fn config_changed(&mut self) -> Result<Option<ConfigChange>, ConfigError> {
        if needs_reset(&self.transport) {
            self.queue.set_broken(QueueError::NeedsReset);
        }
        let capacity_now = read_consistent(&self.transport, read_capacity)?;
        let capacity_before = self.info.capacity_sectors;
        self.info.capacity_sectors = capacity_now;
        Ok((capacity_now != capacity_before).then_some(ConfigChange {
            capacity_before,
            capacity_now,
        }))
    }

    /// Reads the serial number, waiting as long as `keep_waiting` says so. For bring-up: it must
    /// be the only operation.
    ///
    /// # Errors
    /// [`IdentifyError`]; after a timeout the late answer is ignored.
    pub fn identify(
        &mut self,
        mut keep_waiting: impl FnMut() -> bool,
    ) -> Result<&str, IdentifyError> {
        if self.in_flight() > 0 {
            return Err(IdentifyError::Busy);
        }
        let failed = |error| IdentifyError::Failed(BlkError::Broken(error));
        if let Some(error) = self.queue.broken() {
            return Err(failed(error));
        }
        self.enter(None, Progress::whole(kind::GET_ID), false)
            .map_err(|_| IdentifyError::Busy)?;
        self.queue.kick();
        loop {
            match self.queue.pop_used() {
                Ok(Some(used)) => {
                    let slot = used.cookie as usize;
                    let serial = self.read_id(slot);
                    self.finish_part(slot, used.len);
                    let index = self.done.pop_front();
                    let op = index.and_then(|index| {
                        self.free_ops.push(index);
                        self.ops[usize::from(index)].take()
                    });
                    if let Some(Active {
                        result: Err(error), ..
                    }) = op
                    {
                        return Err(IdentifyError::Failed(error));
                    }
                    self.serial = serial;
                    return Ok(&self.serial);
                }
                Ok(None) if keep_waiting() => core::hint::spin_loop(),
                Ok(None) => return Err(IdentifyError::Timeout),
                Err(error) => {
                    self.fail_all(error);
                    return Err(failed(error));
                }
            }
        }
    }

    /// Gives an operation a place and hands out as much of it as there is room for.
    fn enter(
        &mut self,
        token: Option<u32>,
        progress: Progress,
        finished: bool,
    ) -> Result<(), SubmitError> {
        let index = self.free_ops.pop().ok_or(SubmitError::Full)?;
        self.ops[usize::from(index)] = Some(Active {
            token,
            progress,
            parts_in_flight: 0,
            result: Ok(()),
        });
        if finished {
            self.done.push_back(index);
            return Ok(());
        }
        self.backlog.push_back(index);
        self.pump();
        Ok(())
    }

    /// Hands out parts from the backlog, oldest operation first, while there is room.
    fn pump(&mut self) {
        while let Some(&index) = self.backlog.front() {
            while let Some(part) = self.next_part(index) {
                if !self.hand_out(index, &part) {
                    return;
                }
            }
            self.backlog.pop_front();
        }
    }

    fn next_part(&self, index: u16) -> Option<Part> {
        self.ops[usize::from(index)]
            .as_ref()
            .and_then(|op| op.progress.next(&self.split))
    }

    /// Makes a device request of `part`. `false`: no room now.
    fn hand_out(&mut self, index: u16, part: &Part) -> bool {
        let Some(&slot) = self.free_slots.last() else {
            return false;
        };
        let at = SLOT_BYTES * usize::from(slot);
        let mut segments = heapless::Vec::<Segment, 34>::new();
        self.describe(at, part, &mut segments);
        if !self.queue.has_room(segments.len()) {
            return false;
        }
        self.slots.write(
            at,
            Header {
                kind: part.kind,
                reserved: 0,
                sector: match part.kind {
                    kind::IN | kind::OUT => part.sector,
                    _ => 0,
                },
            },
        );
        self.slots.write(
            at + RANGE_AT,
            Range {
                sector: part.sector,
                sectors: part.sectors,
                flags: part.flags,
            },
        );
        self.slots.write(at + STATUS_AT, NO_STATUS);
        // SAFETY: the slot belongs to this request until it comes back, and `submit`'s caller
        // promised the same for the payload.
        let added = unsafe { self.queue.add(&segments, u32::from(slot)) };
        match added {
            Ok(()) => {}
            Err(AddError::Full | AddError::Broken(_)) => return false,
            Err(AddError::BadShape) => unreachable!("requests fit the queue by construction"),
        }
        self.free_slots.pop();
        self.in_flight[usize::from(slot)] = Some(InFlight {
            op: index,
            expected: match part.kind {
                kind::IN => part.bytes() + 1,
                _ => 1,
            },
        });
        if let Some(op) = &mut self.ops[usize::from(index)] {
            op.progress.advance(part);
            op.parts_in_flight += 1;
        }
        true
    }

    /// The memory of a request: header, data, status.
    fn describe(&self, at: usize, part: &Part, segments: &mut heapless::Vec<Segment, 34>) {
        let mut push = |paddr, len, writable| {
            let fits = segments.push(Segment {
                paddr,
                len,
                writable,
            });
            debug_assert!(fits.is_ok(), "more segments than the split allows");
        };
        push(self.slots.paddr(at), HEADER_BYTES, false);
        match part.kind {
            kind::IN | kind::OUT => {
                let mut paddr = part.paddr;
                let mut left = part.bytes();
                while left > 0 {
                    let len = left.min(self.split.segment_bytes);
                    push(paddr, len, part.kind == kind::IN);
                    paddr += u64::from(len);
                    left -= len;
                }
            }
            kind::DISCARD | kind::WRITE_ZEROES => {
                push(self.slots.paddr(at + RANGE_AT), RANGE_BYTES, false);
            }
            kind::GET_ID => push(self.slots.paddr(at + ID_AT), ID_BYTES as u32, true),
            _ => {}
        }
        push(self.slots.paddr(at + STATUS_AT), 1, true);
    }

    /// Books a device request that came back.
    fn finish_part(&mut self, slot: usize, written: u32) {
        let Some(InFlight {
            op: index,
            expected,
        }) = self.in_flight[slot].take()
        else {
            unreachable!("the queue gives back only what was added");
        };
        self.free_slots.push(slot as u16);
        let at = SLOT_BYTES * slot;
        let mut result = result_of(self.slots.read(at + STATUS_AT));
        let Some(op) = &mut self.ops[usize::from(index)] else {
            unreachable!("an operation outlives its parts");
        };
        op.parts_in_flight -= 1;
        if result.is_ok() && self.checked_lengths && written < expected {
            result = Err(BlkError::ShortRead { written });
        }
        if result.is_err() {
            op.progress.cut();
            op.result = op.result.and(result);
        }
        if op.parts_in_flight == 0 && op.progress.is_finished() {
            // Cut operations may still stand in the backlog, where only whole ones may leave
            // from the front.
            self.backlog.retain(|&other| other != index);
            self.done.push_back(index);
        }
    }

    /// Resets a device that cannot be trusted and fails everything in flight.
    fn fail_all(&mut self, error: QueueError) {
        self.transport.set_status(DeviceStatus::empty());
        self.backlog.clear();
        for slot in 0..self.in_flight.len() {
            if self.in_flight[slot].take().is_some() {
                self.free_slots.push(slot as u16);
            }
        }
        for index in 0..self.ops.len() as u16 {
            if let Some(op) = &mut self.ops[usize::from(index)]
                && !self.done.contains(&index)
            {
                op.parts_in_flight = 0;
                op.result = Err(BlkError::Broken(error));
                self.done.push_back(index);
            }
        }
    }

    fn read_id(&self, slot: usize) -> Serial {
        let mut serial = Serial::new();
        for i in 0..ID_BYTES {
            let byte: u8 = self.slots.read(SLOT_BYTES * slot + ID_AT + i);
            if byte == 0 {
                break;
            }
            let printable = byte.is_ascii_graphic() || byte == b' ';
            let pushed = serial.push(if printable { char::from(byte) } else { '?' });
            debug_assert!(pushed.is_ok(), "20 ASCII characters fit");
        }
        serial
    }
}

impl<H: Hal, T: DeviceTransport> Drop for Blk<H, T> {
    /// Stops the device before its memory goes away.
    fn drop(&mut self) {
        self.transport.set_status(DeviceStatus::empty());
    }
}
