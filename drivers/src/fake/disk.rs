//! An in-memory disk behind a virtio-blk queue.

use std::{collections::BTreeSet, sync::Arc, vec, vec::Vec};

use super::{
    queue::{Chain, DeviceQueue},
    transport::Shared,
};

/// `struct virtio_blk_config` of a disk of `sectors`, with the limits that tests use.
pub fn disk_config(sectors: u64) -> Vec<u8> {
    let mut config = vec![0u8; 60];
    config[0..8].copy_from_slice(&sectors.to_le_bytes());
    for (at, value) in [
        (8, 65536u32),
        (12, 8),
        (20, 512),
        (28, 8),
        (36, 100),
        (40, 1),
        (44, 8),
        (48, 64),
        (52, 1),
    ] {
        config[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    config[24] = 3;
    config[32] = 1;
    config[56] = 1;
    config
}

/// A request that the disk did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    pub kind: u32,
    pub sector: u64,
    pub sectors: u64,
    pub flags: u32,
    pub data_segments: usize,
}

/// The disk.
#[derive(Debug)]
pub struct FakeDisk {
    pub queue: DeviceQueue,
    pub data: Vec<u8>,
    pub serial: Vec<u8>,
    /// Sectors that fail.
    pub bad: BTreeSet<u64>,
    /// Answer every request with this status.
    pub status: Option<u8>,
    /// Claim this length in used entries.
    pub claim: Option<u32>,
    pub log: Vec<Applied>,
}

impl FakeDisk {
    pub fn attach(shared: &Arc<Shared>, sectors: usize) -> Self {
        Self {
            queue: DeviceQueue::attach(shared, 0),
            data: (0..sectors * 512).map(|i| (i / 512 + i) as u8).collect(),
            serial: b"disk-0".to_vec(),
            bad: BTreeSet::new(),
            status: None,
            claim: None,
            log: Vec::new(),
        }
    }

    /// Does all that was published; returns how many requests.
    pub fn service(&mut self) -> usize {
        let mut done = 0;
        while let Some(chain) = self.queue.pop() {
            let written = self.serve(&chain);
            self.queue
                .push(u32::from(chain.id), self.claim.unwrap_or(written));
            done += 1;
        }
        done
    }

    /// Does one request; returns the bytes written, status included.
    pub fn serve(&mut self, chain: &Chain) -> u32 {
        let input = chain.readable();
        let room = chain.room();
        let word = |at: usize| u32::from_le_bytes(input[at..at + 4].try_into().unwrap());
        let long = |at: usize| u64::from_le_bytes(input[at..at + 8].try_into().unwrap());
        let kind = word(0);
        let mut applied = Applied {
            kind,
            sector: long(8),
            sectors: 0,
            flags: 0,
            data_segments: chain.segments.len() - 2,
        };
        match kind {
            0 => applied.sectors = (room as u64 - 1) / 512,
            1 => applied.sectors = (input.len() as u64 - 16) / 512,
            11 | 13 => {
                assert_eq!(input.len(), 32, "one range");
                assert_eq!(applied.sector, 0, "the sector field is unused");
                applied.sector = long(16);
                applied.sectors = u64::from(word(24));
                applied.flags = word(28);
            }
            4 => assert_eq!((input.len(), room), (16, 1)),
            8 => assert_eq!((input.len(), room), (16, 21)),
            _ => {}
        }
        self.log.push(applied);
        let end = applied.sector + applied.sectors;
        let range = applied.sector as usize * 512..end as usize * 512;
        let status = if let Some(status) = self.status {
            status
        } else if self.bad.range(applied.sector..end).next().is_some()
            || range.end > self.data.len()
        {
            1
        } else {
            match kind {
                0 => {
                    chain.write(0, &self.data[range]);
                    0
                }
                1 => {
                    self.data[range].copy_from_slice(&input[16..]);
                    0
                }
                4 => 0,
                8 => {
                    let mut id = self.serial.clone();
                    id.resize(20, 0);
                    chain.write(0, &id);
                    0
                }
                11 => {
                    self.data[range].fill(0xdd);
                    0
                }
                13 => {
                    self.data[range].fill(0);
                    0
                }
                _ => 2,
            }
        };
        chain.write(room - 1, &[status]);
        room as u32
    }
}
