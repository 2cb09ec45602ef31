//! A disk as the engine uses it: its driver, a queue for what the device has no room for, and the two things that
//! not every device can do (discard, write zeroes).

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use drivers::blk::{Blk, BlkError, Op, SECTOR_BYTES, SubmitError};
use drivers::transport::AnyTransport;
use replication::api::{DiskError, DiskOp, DiskToken};
use replication::buf::{BufView, MAX_BUF, PoolMemory};

use super::payload::Payload;
use crate::dma::KernelHal;

/// The driver behind a disk.
pub type Driver = Blk<KernelHal, AnyTransport>;

/// What a device request stands for.
#[derive(Clone, Copy, Debug)]
enum InFlight {
    /// One operation of the engine; a read to be searched for zeroes has its place here.
    Whole {
        token: DiskToken,
        look_at: Option<BufView>,
    },
    /// A piece of zeroes for a device that cannot make them itself; what is left to do afterwards.
    Zeroing {
        token: DiskToken,
        offset: u64,
        left: u32,
    },
}

/// The end of an operation, as the engine wants to hear of it.
#[derive(Debug)]
pub struct Done {
    /// The engine's number.
    pub token: DiskToken,
    /// How it went.
    pub result: Result<(), DiskError>,
    /// A read that was to be searched had nothing but zeroes.
    pub all_zero: bool,
}

/// What a disk is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A volume, and its metadata unless another disk has that.
    Data,
    /// A volume's metadata alone.
    Metadata,
}

/// One disk and its queue.
pub struct Disk {
    driver: Driver,
    /// The volume that lives on it.
    volume: u16,
    role: Role,
    /// Operations that the device had no room for, oldest first.
    waiting: VecDeque<(DiskToken, DiskOp)>,
    table: Vec<Option<InFlight>>,
    free: Vec<u32>,
    /// Operations that ended without the device.
    at_once: VecDeque<Done>,
    /// Physical address of [`MAX_BUF`] zero bytes.
    zeroes: u64,
    kick_needed: bool,
    counters: Counters,
}

/// What a disk has done since boot.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counters {
    /// Bytes asked to be read.
    pub read_bytes: u64,
    /// Bytes asked to be written, zeroes that the device makes itself not counted.
    pub written_bytes: u64,
    /// Operations that failed.
    pub errors: u64,
}

impl Disk {
    /// A disk for `volume`; `operations` is how many the engine may have under way at once, `zeroes` the physical
    /// address of [`MAX_BUF`] zero bytes.
    pub fn new(driver: Driver, volume: u16, role: Role, operations: usize, zeroes: u64) -> Self {
        let depth = u32::try_from(driver.depth()).unwrap_or(u32::MAX);
        Self {
            volume,
            role,
            waiting: VecDeque::with_capacity(operations),
            table: (0..depth).map(|_| None).collect(),
            free: (0..depth).rev().collect(),
            at_once: VecDeque::with_capacity(operations),
            driver,
            zeroes,
            kick_needed: false,
            counters: Counters::default(),
        }
    }

    /// What it has done since boot.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// The driver, for what operators ask.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The driver, for interrupts and configuration changes.
    pub fn driver_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }

    /// The volume that lives on it.
    pub fn volume(&self) -> u16 {
        self.volume
    }

    /// What it is for.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Starts an operation, or queues it. The doorbell rings in [`Disk::kick`].
    pub fn start(&mut self, token: DiskToken, op: DiskOp, payload: &Payload) {
        if !self.waiting.is_empty() || !self.submit(token, op, payload) {
            self.waiting.push_back((token, op));
        }
    }

    /// Rings the doorbell if something was submitted since the last time.
    pub fn kick(&mut self) {
        if core::mem::take(&mut self.kick_needed) {
            self.driver.kick();
        }
    }

    /// The next operation that ended.
    pub fn poll(&mut self, payload: &Payload) -> Option<Done> {
        loop {
            if let Some(done) = self.at_once.pop_front() {
                return Some(done);
            }
            let completion = self.driver.poll()?;
            let entry = self
                .table
                .get_mut(completion.token as usize)
                .and_then(Option::take);
            let Some(entry) = entry else {
                // The driver checks what a device names; a token of its own that is unknown here is our bug.
                panic!(
                    "the disk driver completed request {} which was not submitted",
                    completion.token
                );
            };
            self.free.push(completion.token);
            let result = completion.result.map_err(|error| disk_error(&error));
            let done = self.finish(entry, result, payload);
            while let Some((token, op)) = self.waiting.pop_front() {
                if !self.submit(token, op, payload) {
                    self.waiting.push_front((token, op));
                    break;
                }
            }
            if let Some(done) = done {
                self.counters.errors += u64::from(done.result.is_err());
                return Some(done);
            }
        }
    }

    fn finish(
        &mut self,
        entry: InFlight,
        result: Result<(), DiskError>,
        payload: &Payload,
    ) -> Option<Done> {
        match entry {
            InFlight::Whole { token, look_at } => {
                let all_zero =
                    result.is_ok() && look_at.is_some_and(|view| is_zero(payload.bytes(view)));
                Some(Done {
                    token,
                    result,
                    all_zero,
                })
            }
            InFlight::Zeroing { token, left: 0, .. } => Some(Done {
                token,
                result,
                all_zero: false,
            }),
            InFlight::Zeroing { token, .. } if result.is_err() => Some(Done {
                token,
                result,
                all_zero: false,
            }),
            InFlight::Zeroing {
                token,
                offset,
                left,
            } => {
                if !self.write_zeroes_piece(token, offset, left) {
                    self.waiting.push_front((
                        token,
                        DiskOp::WriteZeroes {
                            offset,
                            len: left,
                            unmap: false,
                        },
                    ));
                }
                None
            }
        }
    }

    /// `false`: the device has no room now.
    fn submit(&mut self, token: DiskToken, op: DiskOp, payload: &Payload) -> bool {
        let sector_bytes = u64::from(SECTOR_BYTES);
        let mut look_at = None;
        let request = match op {
            DiskOp::Read {
                offset,
                view,
                detect_zeroes,
            } => {
                look_at = detect_zeroes.then_some(view);
                Op::Read {
                    sector: offset / sector_bytes,
                    paddr: payload.physical(view),
                    bytes: view.len,
                }
            }
            DiskOp::Write { offset, view } => Op::Write {
                sector: offset / sector_bytes,
                paddr: payload.physical(view),
                bytes: view.len,
            },
            DiskOp::Flush => Op::Flush,
            DiskOp::Discard { .. } if !self.driver.info().discard => {
                self.at_once.push_back(Done {
                    token,
                    result: Ok(()),
                    all_zero: false,
                });
                return true;
            }
            DiskOp::Discard { offset, len } => Op::Discard {
                sector: offset / sector_bytes,
                sectors: u64::from(len) / sector_bytes,
            },
            DiskOp::WriteZeroes { offset, len, .. } if !self.driver.info().write_zeroes => {
                return self.write_zeroes_piece(token, offset, len);
            }
            DiskOp::WriteZeroes { offset, len, unmap } => Op::WriteZeroes {
                sector: offset / sector_bytes,
                sectors: u64::from(len) / sector_bytes,
                unmap: unmap && self.driver.info().write_zeroes_may_unmap,
            },
        };
        self.hand_over(request, InFlight::Whole { token, look_at })
    }

    /// Writes the first piece of `left` zero bytes at `offset`; the completion starts the next one. `false`: the
    /// device has no room now.
    fn write_zeroes_piece(&mut self, token: DiskToken, offset: u64, left: u32) -> bool {
        let bytes = left.min(MAX_BUF);
        let sector = offset / u64::from(SECTOR_BYTES);
        let rest = InFlight::Zeroing {
            token,
            offset: offset + u64::from(bytes),
            left: left - bytes,
        };
        self.hand_over(
            Op::Write {
                sector,
                paddr: self.zeroes,
                bytes,
            },
            rest,
        )
    }

    fn hand_over(&mut self, request: Op, entry: InFlight) -> bool {
        let Some(&index) = self.free.last() else {
            return false;
        };
        // SAFETY: the address is that of a pool buffer, which the engine keeps until the completion, or of the zeroes,
        // which are nobody's to change; both are identity-mapped and contiguous.
        match unsafe { self.driver.submit(request, index) } {
            Ok(()) => {
                match request {
                    Op::Read { bytes, .. } => self.counters.read_bytes += u64::from(bytes),
                    Op::Write { bytes, .. } => self.counters.written_bytes += u64::from(bytes),
                    Op::Flush | Op::Discard { .. } | Op::WriteZeroes { .. } => {}
                }
                self.free.pop();
                self.table[index as usize] = Some(entry);
                self.kick_needed = true;
                true
            }
            Err(SubmitError::Full) => false,
            Err(error) => {
                let (InFlight::Whole { token, .. } | InFlight::Zeroing { token, .. }) = entry;
                log::error!(
                    "disk \"{}\" refused a request: {error}",
                    self.driver.serial()
                );
                let error = match error {
                    SubmitError::Unsupported => DiskError::Unsupported,
                    SubmitError::Broken(_) => DiskError::Gone,
                    _ => DiskError::Io,
                };
                self.at_once.push_back(Done {
                    token,
                    result: Err(error),
                    all_zero: false,
                });
                true
            }
        }
    }
}

fn disk_error(error: &BlkError) -> DiskError {
    match error {
        BlkError::Unsupported => DiskError::Unsupported,
        BlkError::Broken(_) => DiskError::Gone,
        BlkError::Io | BlkError::BadStatus(_) | BlkError::ShortRead { .. } => DiskError::Io,
    }
}

/// Whether all bytes are zero; most data says no within the first few.
fn is_zero(bytes: &[u8]) -> bool {
    // SAFETY: any eight bytes are a valid u64.
    let (head, words, tail) = unsafe { bytes.align_to::<u64>() };
    head.iter().chain(tail).all(|&b| b == 0) && words.iter().all(|&w| w == 0)
}
