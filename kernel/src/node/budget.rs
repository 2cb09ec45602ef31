//! How memory is divided. Everything is sized once, at boot; what is left over becomes the payload pool.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use net::nbd::Server;
use replication::api::{SnapshotPolicy, VolumeConfig};
use replication::buf::{PAGE, Pool};
use replication::ondisk::Reserve;

use super::devices::NicMemory;
use crate::mem;

/// Left for the heap to grow after the pool was cut out: the console's answers, mostly.
const HEAP_RESERVE: u64 = 1 << 20;
/// The pool is not larger: more only helps hundreds of clients with large requests at once.
const POOL_MAX: u64 = 512 << 20;
/// With less than this there is no point in serving: one request of 128 KiB each way needs about so much.
const POOL_MIN: u64 = 1 << 20;

/// Sizes for a machine with so much free memory.
#[derive(Clone, Copy)]
pub struct Budget {
    /// A NIC's rings.
    pub nic: NicMemory,
    /// Receive ring of an NBD connection in bytes: its window. More than one large request must fit, or the client
    /// waits for the window to open after each.
    pub client_rx: usize,
    /// Transmit ring of an NBD connection in bytes.
    pub client_tx: usize,
    /// Receive and transmit ring of the peer link, each, in bytes.
    pub link_ring: usize,
    /// Client requests in the engine at once.
    pub max_requests: u16,
    /// Bytes of the log.
    pub log_bytes: usize,
}

impl Budget {
    /// For `free` bytes of memory.
    pub fn of(free: u64) -> Self {
        let small = free < 40 << 20;
        let medium = free < 96 << 20;
        let choose = |s: usize, m: usize, l: usize| {
            if small {
                s
            } else if medium {
                m
            } else {
                l
            }
        };
        Self {
            nic: NicMemory {
                rx_bytes: choose(256 << 10, 512 << 10, 1 << 20),
                tx_bytes: choose(256 << 10, 512 << 10, 512 << 10),
            },
            client_rx: choose(32 << 10, 256 << 10, 256 << 10),
            client_tx: choose(32 << 10, 128 << 10, 256 << 10),
            link_ring: choose(128 << 10, 512 << 10, 1 << 20),
            max_requests: if small {
                256
            } else if medium {
                512
            } else {
                1024
            },
            log_bytes: choose(32 << 10, 64 << 10, 256 << 10),
        }
    }
}

/// Heap that the pool's bookkeeping and an NBD server with so many connections take, in bytes, at most.
pub fn bookkeeping_bytes(connections: u16) -> usize {
    const PER_PAGE: usize = Pool::BYTES_PER_PAGE + Server::BYTES_PER_PAGE;
    let pages = mem::stats().free_bytes.min(POOL_MAX) / u64::from(PAGE);
    pages as usize * PER_PAGE + usize::from(connections) * Server::BYTES_PER_SLOT
}

/// Bytes of memory that the volumes' reserves for snapshots take.
pub fn snapshot_bytes(volumes: &[VolumeConfig]) -> u64 {
    let guarded = volumes
        .iter()
        .filter(|volume| volume.snapshot != SnapshotPolicy::Off);
    guarded
        .map(|volume| Reserve::new(0, volume.snapshot_reserve).memory_bytes())
        .sum()
}

/// Takes the heap that bitmaps and activity logs of so many bytes of disks will need, and `maps` bytes for reserves, to be given back when the pool was
/// cut out, and if it can be had, that for a growth to twice as much: while a volume grows, both bitmaps are there.
///
/// # Errors
/// There is not even enough for the disks as they are.
pub fn reserve_bitmaps(disk_bytes: u64, maps: u64) -> Result<[Vec<u8>; 2], String> {
    /// Bytes of disk for a byte of memory: 42.9 KiB a GiB, where bitmaps take 32.5, what is not flushed 4.1 and the
    /// activity log 3.1.
    const PER_BYTE: u64 = 25_000;
    let needed = disk_bytes / PER_BYTE + maps;
    let mut taken = [Vec::new(), Vec::new()];
    if 3 * needed <= HEAP_RESERVE / 2 {
        return Ok(taken);
    }
    let spare = (2 * needed).min(mem::stats().free_bytes / 4);
    if taken[0].try_reserve_exact(needed as usize).is_err() {
        return Err(format!(
            "the bitmaps of {} GiB of disks, and their reserves for snapshots, take {} MiB of memory, and there is less: give the node more",
            disk_bytes >> 30,
            needed >> 20
        ));
    }
    if taken[1].try_reserve_exact(spare as usize).is_err() {
        log::warn!("little memory: volumes cannot grow much before the node is started again");
    }
    Ok(taken)
}

/// Cuts the payload pool out of what is free now. `None`: too little.
pub fn take_pool() -> Option<&'static mut [u8]> {
    let free = mem::stats().free_bytes;
    let mut bytes = free.checked_sub(HEAP_RESERVE)?.min(POOL_MAX);
    // Free memory may lie in several regions, and only one can be used: try less until it fits.
    while bytes >= POOL_MIN {
        let pages = bytes / u64::from(PAGE);
        if let Some(region) = mem::take_region((pages * u64::from(PAGE)) as usize) {
            return Some(region);
        }
        bytes -= bytes / 16;
    }
    None
}
