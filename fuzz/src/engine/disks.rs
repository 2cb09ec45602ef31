//! The disks below the engine under test: bytes in memory, and operations that have not ended.

use replication::api::{DiskError, DiskOp, DiskToken};
use replication::buf::{BufView, Pool, PoolMemory, VecMemory};
use std::collections::VecDeque;

/// Bytes of each data disk at first.
pub const SIZE: u64 = 1 << 20;
/// Bytes of the disk that holds the first volume's metadata; the second's is at the end of its data.
pub const META: u64 = 64 << 10;
/// Bytes of a block.
pub const BLOCK: u32 = 512;

/// An operation that the engine asked for.
#[derive(Debug)]
pub struct Pending {
    token: DiskToken,
    volume: u16,
    op: DiskOp,
    meta: bool,
}

/// The disks of two volumes.
pub struct Disks {
    data: [Vec<u8>; 2],
    meta: Vec<u8>,
    /// Sizes of the volumes, as the engine told them; 0 before.
    pub volumes: [u64; 2],
    pub pending: VecDeque<Pending>,
}

impl Disks {
    pub fn new() -> Self {
        Self {
            data: [(); 2].map(|()| vec![0; SIZE as usize]),
            meta: vec![0; META as usize],
            volumes: [0; 2],
            pending: VecDeque::new(),
        }
    }

    /// The disks after their node lost its power: what did not end never happened.
    pub fn survive(self) -> Self {
        Self {
            pending: VecDeque::new(),
            volumes: [0; 2],
            ..self
        }
    }

    /// Bytes of a volume's data disk.
    pub fn size(&self, volume: u16) -> u64 {
        self.data[usize::from(volume)].len() as u64
    }

    /// A data disk has so many bytes now, if that is more.
    pub fn enlarge(&mut self, volume: u16, size: u64) {
        if let Some(disk) = self.data.get_mut(usize::from(volume)) {
            disk.resize(disk.len().max(size as usize), 0);
        }
    }

    /// The disk that holds a volume's metadata.
    pub fn metadata(&mut self, volume: u16) -> &mut [u8] {
        match volume {
            0 => &mut self.meta,
            _ => &mut self.data[1],
        }
    }

    /// Takes an operation, which must be a possible one.
    pub fn submit(&mut self, token: DiskToken, volume: u16, op: DiskOp, meta: bool, pool: &Pool) {
        let at = usize::from(volume);
        assert!(at < 2, "there is no vol{volume}");
        let (range, view) = extent(op);
        if let Some(view) = view {
            let end = view.offset as u64 + u64::from(view.len);
            assert!(end <= pool.total_bytes(), "beyond the pool: {op:?}");
        }
        if let Some((offset, len)) = range {
            let end = match meta {
                true => self.metadata(volume).len() as u64,
                false => self.volumes[at],
            };
            let inside = offset.checked_add(len).is_some_and(|last| last <= end);
            assert!(inside, "beyond the end at {end}: {op:?}");
            assert!(
                len > 0 && (offset | len) & u64::from(BLOCK - 1) == 0,
                "no whole blocks: {op:?}"
            );
        }
        let twice = self.pending.iter().any(|other| other.token == token);
        assert!(!twice, "token {token} is in use");
        let pending = Pending {
            token,
            volume,
            op,
            meta,
        };
        self.pending.push_back(pending);
    }

    /// Ends an operation: what [`replication::api::Event::DiskDone`] reports.
    pub fn complete(
        &mut self,
        at: usize,
        result: Result<(), DiskError>,
        memory: &mut VecMemory,
    ) -> Option<(DiskToken, bool)> {
        let Pending {
            token,
            volume,
            op,
            meta,
        } = self.pending.remove(at)?;
        if result.is_err() {
            return Some((token, false));
        }
        let disk = match (meta, volume) {
            (true, 0) => &mut self.meta,
            _ => &mut self.data[usize::from(volume)],
        };
        let (range, view) = extent(op);
        let Some((offset, len)) = range else {
            return Some((token, false));
        };
        let bytes = &mut disk[offset as usize..(offset + len) as usize];
        match (op, view) {
            (DiskOp::Read { detect_zeroes, .. }, Some(view)) => {
                memory.bytes_mut(view).copy_from_slice(bytes);
                let zero = detect_zeroes && bytes.iter().all(|byte| *byte == 0);
                return Some((token, zero));
            }
            (_, Some(view)) => bytes.copy_from_slice(memory.bytes(view)),
            (_, None) => bytes.fill(0),
        }
        Some((token, false))
    }

    /// The oldest operation on metadata.
    pub fn metadata_operation(&self) -> Option<usize> {
        self.pending.iter().position(|pending| pending.meta)
    }
}

/// What an operation touches: a range of the disk, and of the pool.
fn extent(op: DiskOp) -> (Option<(u64, u64)>, Option<BufView>) {
    match op {
        DiskOp::Read { offset, view, .. } | DiskOp::Write { offset, view } => {
            (Some((offset, view.len.into())), Some(view))
        }
        DiskOp::Discard { offset, len } | DiskOp::WriteZeroes { offset, len, .. } => {
            (Some((offset, len.into())), None)
        }
        DiskOp::Flush => (None, None),
    }
}
