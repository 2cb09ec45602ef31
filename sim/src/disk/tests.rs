use super::*;
use crate::stamp;
use replication::buf::Pool;

const SHAPE: Shape = Shape {
    volume: 0,
    places: Places::all(8),
    meta: 16,
    scar: (0, 0),
    discard: Discard::Zeroes,
    atom: 1,
};

/// A disk of eight sectors of data, and a write of stamps to all of them, as it completes.
fn written(rng: &mut Rng, atom: usize) -> (Disk, VecMemory) {
    let mut disk = Disk::new(Shape { atom, ..SHAPE }, Content::default());
    let (mut pool, mut memory) = (Pool::new(8), VecMemory::new(8));
    let view = pool.alloc(4096).expect("room").view();
    for (sector, bytes) in memory.bytes_mut(view).chunks_exact_mut(512).enumerate() {
        stamp::fill(bytes, stamp::stamp(0, 1, 0, sector));
    }
    let write = DiskOp::Write { offset: 0, view };
    disk.start(1, write, rng.coin(), None, &memory)
        .expect("valid");
    disk.complete(1, &mut memory, None).expect("valid");
    (disk, memory)
}

fn survivors(disk: &Disk) -> usize {
    disk.current().iter().filter(|&&v| v != 0).count()
}

fn flush(disk: &mut Disk, token: u32, memory: &mut VecMemory) -> Result<(), DiskError> {
    disk.start(token, DiskOp::Flush, true, None, memory)
        .expect("valid");
    let done = disk.complete(token, memory, None).expect("valid");
    done.expect("known").result
}

#[test]
fn a_power_cut_takes_unflushed_sectors_in_any_subset() {
    let mut seen = [false; 9];
    for seed in 0..500 {
        let mut rng = Rng::new(seed);
        let (mut disk, memory) = written(&mut rng, 1);
        assert_eq!(survivors(&disk), 8, "reads see what completed");
        disk.power_cut(&mut rng, &memory).expect("valid");
        seen[survivors(&disk)] = true;
    }
    assert_eq!(seen, [true; 9]);
}

#[test]
fn atoms_of_4_kib_do_not_tear() {
    for seed in 0..100 {
        let mut rng = Rng::new(seed);
        let (mut disk, memory) = written(&mut rng, 8);
        disk.power_cut(&mut rng, &memory).expect("valid");
        assert!([0, 8].contains(&survivors(&disk)));
    }
}

#[test]
fn a_flush_keeps_what_completed_before_it_was_issued() {
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let (mut disk, mut memory) = written(&mut rng, 1);
        disk.start(2, DiskOp::Flush, true, None, &memory)
            .expect("valid");
        let zeroes = DiskOp::WriteZeroes {
            offset: 0,
            len: 512,
            unmap: false,
        };
        disk.start(3, zeroes, true, None, &memory).expect("valid");
        disk.complete(3, &mut memory, None).expect("valid");
        disk.complete(2, &mut memory, None).expect("valid");
        assert_eq!(survivors(&disk), 7);
        disk.power_cut(&mut rng, &memory).expect("valid");
        assert!(survivors(&disk) >= 7, "sectors 1 to 7 were flushed");
    }
}

#[test]
fn what_a_failed_flush_covered_is_not_durable_after_the_next() {
    let mut lost = false;
    for seed in 0..50 {
        let mut rng = Rng::new(seed);
        let (mut disk, mut memory) = written(&mut rng, 1);
        disk.trouble.flushes_fail = 1;
        assert_eq!(flush(&mut disk, 2, &mut memory), Err(DiskError::Io));
        assert_eq!(flush(&mut disk, 3, &mut memory), Ok(()));
        assert_eq!(survivors(&disk), 8, "reads still see it");
        disk.power_cut(&mut rng, &memory).expect("valid");
        lost |= survivors(&disk) < 8;
    }
    assert!(lost);
}

#[test]
fn a_latent_error_ends_with_a_write() {
    let mut rng = Rng::new(1);
    let (mut disk, mut memory) = written(&mut rng, 1);
    let view = Pool::new(8).alloc(4096).expect("room").view();
    let read = DiskOp::Read {
        offset: 0,
        view,
        detect_zeroes: false,
    };
    disk.trouble.latent.insert(3);
    let mut attempt = |disk: &mut Disk| {
        disk.start(2, read, true, None, &memory).expect("valid");
        let done = disk.complete(2, &mut memory, None).expect("valid");
        done.expect("known").result
    };
    assert_eq!(attempt(&mut disk), Err(DiskError::Io));
    disk.trouble.written(&(3..4));
    assert_eq!(attempt(&mut disk), Ok(()));
}

#[test]
fn metadata_is_kept_byte_by_byte() {
    let mut disk = Disk::new(SHAPE, Content::default());
    let (mut pool, mut memory) = (Pool::new(8), VecMemory::new(8));
    let view = pool.alloc(4096).expect("room").view();
    for (at, byte) in memory.bytes_mut(view).iter_mut().enumerate() {
        *byte = (at * 7 % 251) as u8;
    }
    let expected = memory.bytes(view).to_vec();
    let write = DiskOp::Write { offset: 4096, view };
    disk.start(1, write, true, None, &memory).expect("valid");
    disk.complete(1, &mut memory, None).expect("valid");
    flush(&mut disk, 2, &mut memory).expect("works");
    let old = disk.snapshot();
    assert!(!disk.rot(9, 77), "metadata");
    let read = DiskOp::Read {
        offset: 4096,
        view,
        detect_zeroes: false,
    };
    let mut look = |disk: &mut Disk| {
        disk.start(3, read, true, None, &memory).expect("valid");
        disk.complete(3, &mut memory, None).expect("valid");
        memory.bytes(view).to_vec()
    };
    let rotten = look(&mut disk);
    let bits: u32 = (rotten.iter().zip(&expected))
        .map(|(a, b)| (a ^ b).count_ones())
        .sum();
    assert_eq!(bits, 1);
    disk.restore(&old);
    assert_eq!(look(&mut disk), expected);
}

#[test]
fn the_data_of_another_place_is_noticed() {
    let mut disk = Disk::new(SHAPE, Content::default());
    let (mut pool, mut memory) = (Pool::new(8), VecMemory::new(8));
    let view = pool.alloc(512).expect("room").view();
    stamp::fill(memory.bytes_mut(view), stamp::stamp(0, 1, 0, 3));
    let write = DiskOp::Write { offset: 512, view };
    assert!(disk.start(1, write, true, None, &memory).is_err());
    memory.bytes_mut(view)[100] ^= 1;
    let write = DiskOp::Write {
        offset: 3 * 512,
        view,
    };
    assert!(disk.start(2, write, true, None, &memory).is_err());
}
