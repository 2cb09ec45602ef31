//! virtio-blk against an in-memory disk.

use alloc::{sync::Arc, vec::Vec};
use proptest::prelude::*;
use std::{string::ToString, sync::atomic::Ordering::SeqCst};
use virtio_drivers::transport::DeviceStatus;

use crate::{
    DeviceType,
    blk::{Blk, BlkError, BlkOptions, ConfigChange, IdentifyError, Op, SubmitError},
    fake::{Applied, DmaBuf, FakeDisk, FakeHal, FakeTransport, Shared, disk_config},
    transport::{ConfigError, F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1, InitError},
    virtq::QueueError,
};

const SIZE_MAX: u64 = 1 << 1;
const RO: u64 = 1 << 5;
const FLUSH: u64 = 1 << 9;
const DISCARD: u64 = 1 << 13;
const WRITE_ZEROES: u64 = 1 << 14;
/// What QEMU offers, and a bit that this driver does not know.
const QEMU: u64 = 0x6e54 | F_EVENT_IDX | F_INDIRECT_DESC | F_VERSION_1 | 1 << 33;

pub struct Disk {
    pub shared: Arc<Shared>,
    pub blk: Blk<FakeHal, FakeTransport>,
    pub device: FakeDisk,
    pub buf: DmaBuf,
}

impl Disk {
    pub fn new(sectors: usize) -> Self {
        Self::with(sectors, QEMU, |_| {})
    }

    pub fn with(sectors: usize, offered: u64, change: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut config = disk_config(sectors as u64);
        change(&mut config);
        let shared = Shared::new(DeviceType::Block, offered, config);
        let blk =
            Blk::new(FakeTransport(shared.clone()), BlkOptions::default()).expect("an honest disk");
        Self {
            device: FakeDisk::attach(&shared, sectors),
            shared,
            blk,
            buf: DmaBuf::new(1 << 20),
        }
    }

    pub fn submit(&mut self, op: Op, token: u32) -> Result<(), SubmitError> {
        // SAFETY: operations use `self.buf`, which lives as long as the driver; tests look at it
        // between requests only.
        unsafe { self.blk.submit(op, token) }
    }

    /// Submits, lets the device work, and takes the one completion.
    pub fn run(&mut self, op: Op) -> Result<(), BlkError> {
        self.submit(op, 42).expect("accepted");
        self.blk.kick();
        for _ in 0..1000 {
            self.device.service();
            if let Some(done) = self.blk.poll() {
                assert_eq!(done.token, 42);
                assert_eq!(self.blk.in_flight(), 0);
                return done.result;
            }
        }
        panic!("never completed");
    }

    pub fn resets(&self) -> u32 {
        self.shared.resets.load(SeqCst)
    }
}

fn init(offered: u64, config: Vec<u8>) -> Result<(), InitError> {
    let shared = Shared::new(DeviceType::Block, offered, config);
    Blk::<FakeHal, _>::new(FakeTransport(shared), BlkOptions::default()).map(|_| ())
}

#[test]
fn properties_are_read() {
    let disk = Disk::new(5000);
    let info = *disk.blk.info();
    assert_eq!(info.capacity_sectors, 5000);
    assert_eq!((info.block_bytes, info.physical_block_bytes), (512, 4096));
    assert_eq!(info.optimal_io_bytes, 4096);
    assert!(info.flush && info.discard && info.write_zeroes && !info.read_only);
    assert_eq!(
        (info.discard_sectors_max, info.write_zeroes_sectors_max),
        (100, 64)
    );
    assert_eq!(disk.blk.depth(), 256);
    let accepted = disk.shared.accepted.load(SeqCst);
    assert_eq!(accepted & (1 << 33), 0, "only what the driver knows");
    assert_ne!(accepted & F_VERSION_1, 0);
}

#[test]
fn vectors_are_assigned() {
    let shared = Shared::new(DeviceType::Block, QEMU, disk_config(8));
    let options = BlkOptions {
        queue_vector: Some(1),
        config_vector: Some(0),
        ..BlkOptions::default()
    };
    let _blk = Blk::<FakeHal, _>::new(FakeTransport(shared.clone()), options).expect("fine");
    assert_eq!(
        *shared.vectors.lock().expect("lock"),
        [(None, 0), (Some(0), 1)]
    );
}

#[test]
fn bad_devices_are_refused() {
    let shared = Shared::new(DeviceType::Network, QEMU, disk_config(8));
    let other = Blk::<FakeHal, _>::new(FakeTransport(shared), BlkOptions::default());
    assert_eq!(
        other.map(|_| ()),
        Err(InitError::WrongDeviceType(DeviceType::Network))
    );
    let mut short = disk_config(8);
    short.truncate(30);
    assert_eq!(
        init(QEMU, short),
        Err(InitError::Config(ConfigError::Missing { offset: 28 }))
    );
    for block in [0u32, 100, 1000, 1 << 20] {
        let mut config = disk_config(8);
        config[20..24].copy_from_slice(&block.to_le_bytes());
        let value = u64::from(block);
        assert_eq!(
            init(QEMU, config),
            Err(InitError::Config(ConfigError::Invalid {
                offset: 20,
                value
            }))
        );
    }
    let mut tiny_segments = disk_config(8);
    tiny_segments[8..12].copy_from_slice(&100u32.to_le_bytes());
    assert_eq!(
        init(QEMU | SIZE_MAX, tiny_segments),
        Err(InitError::Config(ConfigError::Invalid {
            offset: 8,
            value: 100
        }))
    );
    let refusing = Shared::new(DeviceType::Block, QEMU, disk_config(8));
    refusing.refuse_features.store(1, SeqCst);
    let refused = Blk::<FakeHal, _>::new(FakeTransport(refusing), BlkOptions::default());
    assert!(matches!(refused, Err(InitError::FeaturesRefused { .. })));
    let restless = Shared::new(DeviceType::Block, QEMU, disk_config(8));
    restless.restless.store(1, SeqCst);
    let unstable = Blk::<FakeHal, _>::new(FakeTransport(restless), BlkOptions::default());
    assert_eq!(
        unstable.map(|_| ()),
        Err(InitError::Config(ConfigError::Unstable))
    );
}

#[test]
fn reads_and_writes_move_bytes() {
    let mut disk = Disk::new(1000);
    let paddr = disk.buf.paddr();
    disk.buf.bytes()[..8192].fill(0x5a);
    assert_eq!(
        disk.run(Op::Write {
            sector: 16,
            paddr,
            bytes: 8192
        }),
        Ok(())
    );
    assert!(
        disk.device.data[16 * 512..32 * 512]
            .iter()
            .all(|b| *b == 0x5a)
    );
    let expected = disk.device.data[8 * 512..24 * 512].to_vec();
    assert_eq!(
        disk.run(Op::Read {
            sector: 8,
            paddr,
            bytes: 8192
        }),
        Ok(())
    );
    assert_eq!(disk.buf.bytes()[..8192], expected);
}

#[test]
fn at_least_128_in_flight_and_one_kick() {
    let mut disk = Disk::new(10_000);
    let paddr = disk.buf.paddr();
    for token in 0..256 {
        let sector = u64::from(token) * 8;
        disk.submit(
            Op::Write {
                sector,
                paddr,
                bytes: 4096,
            },
            token,
        )
        .expect("room");
    }
    assert_eq!(disk.submit(Op::Flush, 999), Err(SubmitError::Full));
    assert!(disk.blk.kick());
    assert_eq!(disk.shared.kick_count(0), 1);
    assert_eq!(disk.device.service(), 256);
    let mut tokens: Vec<_> = core::iter::from_fn(|| disk.blk.poll()).collect();
    assert!(tokens.iter().all(|done| done.result.is_ok()));
    tokens.sort_by_key(|done| done.token);
    tokens.dedup();
    assert_eq!(tokens.len(), 256);
    assert!(!disk.blk.arm());
}

#[test]
fn without_indirect_tables_fewer_fit_but_all_is_done() {
    let mut disk = Disk::with(1000, QEMU & !F_INDIRECT_DESC & !SIZE_MAX, |_| {});
    let paddr = disk.buf.paddr();
    for token in 0..256 {
        disk.submit(
            Op::Read {
                sector: 0,
                paddr,
                bytes: 512,
            },
            token,
        )
        .expect("taken");
    }
    disk.blk.kick();
    let mut done = 0;
    let mut rounds = 0;
    while done < 256 {
        rounds += 1;
        assert!(disk.device.service() <= 85, "three descriptors each");
        while let Some(completion) = disk.blk.poll() {
            assert_eq!(completion.result, Ok(()));
            done += 1;
        }
    }
    assert!(rounds >= 3);
}

#[test]
fn buffers_are_cut_at_the_segment_size() {
    let mut disk = Disk::with(4000, QEMU | SIZE_MAX, |config| {
        config[8..12].copy_from_slice(&5000u32.to_le_bytes());
        config[12..16].copy_from_slice(&8u32.to_le_bytes());
    });
    for (i, byte) in disk.buf.bytes()[..128 << 10].iter_mut().enumerate() {
        *byte = (i * 31 / 7) as u8;
    }
    let expected = disk.buf.bytes()[..128 << 10].to_vec();
    let paddr = disk.buf.paddr();
    let bytes = 128 << 10;
    assert_eq!(
        disk.run(Op::Write {
            sector: 3,
            paddr,
            bytes
        }),
        Ok(())
    );
    assert_eq!(disk.device.data[3 * 512..][..128 << 10], expected);
    // Whole blocks of at most 5000 bytes are 4608; eight of them make a request.
    assert_eq!(disk.device.log[0].data_segments, 8);
    assert_eq!(disk.device.log[0].sectors, 72);
    assert_eq!(disk.device.log.len(), 4);
    disk.buf.bytes().fill(0);
    assert_eq!(
        disk.run(Op::Read {
            sector: 3,
            paddr,
            bytes
        }),
        Ok(())
    );
    assert_eq!(disk.buf.bytes()[..128 << 10], expected);
}

#[test]
fn discards_and_zeroes_are_split_at_the_limits() {
    let mut disk = Disk::new(1000);
    assert_eq!(
        disk.run(Op::Discard {
            sector: 5,
            sectors: 300
        }),
        Ok(())
    );
    let ranges: Vec<_> = disk
        .device
        .log
        .iter()
        .map(|a| (a.sector, a.sectors))
        .collect();
    // At most 100 at once, and split points are multiples of 8.
    assert_eq!(ranges, [(5, 99), (104, 96), (200, 96), (296, 9)]);
    assert!(disk.device.log.iter().all(|a| a.kind == 11 && a.flags == 0));
    assert!(
        disk.device.data[5 * 512..305 * 512]
            .iter()
            .all(|b| *b == 0xdd)
    );

    disk.device.log.clear();
    let zeroes = Op::WriteZeroes {
        sector: 10,
        sectors: 150,
        unmap: true,
    };
    assert_eq!(disk.run(zeroes), Ok(()));
    let seen: Vec<_> = disk
        .device
        .log
        .iter()
        .map(|a| (a.sector, a.sectors, a.flags))
        .collect();
    assert_eq!(seen, [(10, 64, 1), (74, 64, 1), (138, 22, 1)]);
    assert!(
        disk.device.data[10 * 512..160 * 512]
            .iter()
            .all(|b| *b == 0)
    );
    assert_eq!(disk.device.data[160 * 512], 0xdd);
}

#[test]
fn a_discard_of_more_parts_than_slots_passes_through() {
    let mut disk = Disk::with(1 << 16, QEMU, |config| {
        config[36..40].copy_from_slice(&8u32.to_le_bytes());
    });
    let op = Op::Discard {
        sector: 0,
        sectors: 1 << 16,
    };
    disk.submit(op, 1).expect("taken");
    // Something else is not starved, and completes though it came later.
    disk.submit(Op::Flush, 2).expect("taken");
    disk.blk.kick();
    let mut tokens = Vec::new();
    while tokens.len() < 2 {
        assert!(disk.device.service() > 0, "progress");
        while let Some(done) = disk.blk.poll() {
            assert_eq!(done.result, Ok(()));
            tokens.push(done.token);
        }
    }
    assert_eq!(
        disk.device.log.iter().filter(|a| a.kind == 11).count(),
        8192
    );
    assert!(disk.device.data.iter().all(|b| *b == 0xdd));
}

#[test]
fn the_first_error_of_a_split_operation_is_its_result() {
    let mut disk = Disk::new(1000);
    disk.device.bad.insert(120);
    let op = Op::WriteZeroes {
        sector: 0,
        sectors: 640,
        unmap: false,
    };
    assert_eq!(disk.run(op), Err(BlkError::Io));
    assert!(disk.device.log.iter().all(|a| a.flags == 0));
    assert_eq!(disk.run(Op::Flush), Ok(()));
}

#[test]
fn an_error_stops_what_was_not_handed_out_yet() {
    let mut disk = Disk::with(1 << 16, QEMU, |config| {
        config[36..40].copy_from_slice(&8u32.to_le_bytes());
    });
    disk.device.bad.insert(3);
    let op = Op::Discard {
        sector: 0,
        sectors: 1 << 16,
    };
    assert_eq!(disk.run(op), Err(BlkError::Io));
    assert_eq!(disk.device.log.len(), 256, "one queue full, then no more");
    assert_eq!(disk.run(Op::Flush), Ok(()));
}

#[test]
fn errors_of_the_disk_are_told_apart() {
    let mut disk = Disk::new(1000);
    let paddr = disk.buf.paddr();
    disk.device.bad.insert(9);
    assert_eq!(
        disk.run(Op::Read {
            sector: 8,
            paddr,
            bytes: 1024
        }),
        Err(BlkError::Io)
    );
    assert_eq!(
        disk.run(Op::Read {
            sector: 10,
            paddr,
            bytes: 1024
        }),
        Ok(())
    );
    disk.device.status = Some(2);
    assert_eq!(disk.run(Op::Flush), Err(BlkError::Unsupported));
}

#[test]
fn what_cannot_be_asked_is_refused() {
    let mut disk = Disk::with(1000, QEMU, |config| {
        config[20..24].copy_from_slice(&4096u32.to_le_bytes());
    });
    let paddr = disk.buf.paddr();
    let misaligned = Err(SubmitError::Misaligned { block_bytes: 4096 });
    let beyond = Err(SubmitError::OutOfRange {
        capacity_sectors: 1000,
    });
    for (op, result) in [
        (
            Op::Read {
                sector: 8,
                paddr,
                bytes: 0,
            },
            Err(SubmitError::Empty),
        ),
        (
            Op::Read {
                sector: 8,
                paddr,
                bytes: 512,
            },
            misaligned,
        ),
        (
            Op::Read {
                sector: 8,
                paddr,
                bytes: 4097,
            },
            misaligned,
        ),
        (
            Op::Write {
                sector: 1,
                paddr,
                bytes: 4096,
            },
            misaligned,
        ),
        (
            Op::Write {
                sector: 1000,
                paddr,
                bytes: 4096,
            },
            beyond,
        ),
        (
            Op::Write {
                sector: 992,
                paddr,
                bytes: 8192,
            },
            beyond,
        ),
        (
            Op::Discard {
                sector: u64::MAX - 7,
                sectors: 8,
            },
            beyond,
        ),
        (
            Op::Discard {
                sector: 8,
                sectors: u64::MAX - 7,
            },
            beyond,
        ),
        (
            Op::Discard {
                sector: 0,
                sectors: 4,
            },
            misaligned,
        ),
        (
            Op::WriteZeroes {
                sector: 0,
                sectors: 0,
                unmap: true,
            },
            Err(SubmitError::Empty),
        ),
    ] {
        assert_eq!(disk.submit(op, 1), result, "{op:?}");
    }
    assert_eq!(disk.blk.in_flight(), 0);
    assert_eq!(disk.device.service(), 0);
}

#[test]
fn missing_features_are_refused_or_done_without() {
    let mut plain = Disk::with(1000, QEMU & !(FLUSH | DISCARD | WRITE_ZEROES), |_| {});
    assert_eq!(
        plain.submit(
            Op::Discard {
                sector: 0,
                sectors: 8
            },
            1
        ),
        Err(SubmitError::Unsupported)
    );
    assert_eq!(
        plain.submit(
            Op::WriteZeroes {
                sector: 0,
                sectors: 8,
                unmap: false
            },
            1
        ),
        Err(SubmitError::Unsupported)
    );
    // Without a write cache a completed write is durable: the flush needs no device.
    plain.submit(Op::Flush, 5).expect("taken");
    assert!(plain.blk.arm(), "its completion is there");
    assert_eq!(plain.device.service(), 0);
    let done = plain.blk.poll().expect("there");
    assert_eq!((done.token, done.result), (5, Ok(())));

    let mut read_only = Disk::with(1000, QEMU | RO, |_| {});
    assert!(read_only.blk.info().read_only);
    let paddr = read_only.buf.paddr();
    for op in [
        Op::Write {
            sector: 0,
            paddr,
            bytes: 512,
        },
        Op::Discard {
            sector: 0,
            sectors: 8,
        },
        Op::WriteZeroes {
            sector: 0,
            sectors: 8,
            unmap: false,
        },
    ] {
        assert_eq!(read_only.submit(op, 1), Err(SubmitError::ReadOnly));
    }
    assert_eq!(
        read_only.run(Op::Read {
            sector: 0,
            paddr,
            bytes: 512
        }),
        Ok(())
    );
}

#[test]
fn the_serial_number_is_read() {
    let identify = |serial: &[u8], status| {
        let mut disk = Disk::new(8);
        disk.device.serial = serial.to_vec();
        disk.device.status = status;
        let device = &mut disk.device;
        let result = disk.blk.identify(|| {
            device.service();
            true
        });
        result.map(ToString::to_string)
    };
    assert_eq!(identify(b"vol0-a", None).as_deref(), Ok("vol0-a"));
    assert_eq!(
        identify(b"exactly-twenty-bytes", None).as_deref(),
        Ok("exactly-twenty-bytes")
    );
    assert_eq!(identify(b"", None).as_deref(), Ok(""));
    assert_eq!(identify(b"a\xff\x1bb", None).as_deref(), Ok("a??b"));
    assert_eq!(
        identify(b"x", Some(2)),
        Err(IdentifyError::Failed(BlkError::Unsupported))
    );
}

#[test]
fn a_late_serial_number_is_not_mistaken() {
    let mut disk = Disk::new(1000);
    assert_eq!(disk.blk.identify(|| false), Err(IdentifyError::Timeout));
    assert_eq!(disk.blk.identify(|| true), Err(IdentifyError::Busy));
    assert_eq!(disk.run(Op::Flush), Ok(()));
    assert_eq!(disk.blk.serial(), "");
    let device = &mut disk.device;
    let again = disk.blk.identify(|| device.service() < 9);
    assert_eq!(again, Ok("disk-0"));
    assert_eq!(disk.blk.serial(), "disk-0");
}

#[test]
fn capacity_changes_are_seen() {
    let mut disk = Disk::new(1000);
    let paddr = disk.buf.paddr();
    assert_eq!(disk.blk.config_changed(), Ok(None));
    disk.shared.change_config(0, &500u64.to_le_bytes());
    assert_eq!(
        disk.blk.config_changed(),
        Ok(Some(ConfigChange {
            capacity_before: 1000,
            capacity_now: 500
        }))
    );
    assert_eq!(
        disk.submit(
            Op::Read {
                sector: 500,
                paddr,
                bytes: 512
            },
            1
        ),
        Err(SubmitError::OutOfRange {
            capacity_sectors: 500
        })
    );
    disk.shared
        .change_config(0, &0x1_2345_6789_abcdu64.to_le_bytes());
    let change = disk
        .blk
        .config_changed()
        .expect("readable")
        .expect("changed");
    assert_eq!(change.capacity_now, 0x1_2345_6789_abcd);
    assert_eq!(disk.blk.capacity_sectors(), 0x1_2345_6789_abcd);
}

#[test]
fn a_device_that_asks_for_a_reset_fails_all() {
    let mut disk = Disk::new(1000);
    disk.submit(Op::Flush, 3).expect("room");
    disk.shared
        .status
        .fetch_or(DeviceStatus::DEVICE_NEEDS_RESET.bits(), SeqCst);
    disk.blk.config_changed().expect("readable");
    assert!(disk.blk.arm(), "there is something to poll");
    let done = disk.blk.poll().expect("failed");
    assert_eq!(done.token, 3);
    assert_eq!(done.result, Err(BlkError::Broken(QueueError::NeedsReset)));
    assert_eq!(disk.blk.poll(), None);
}

#[test]
fn many_turns_of_reads_and_writes() {
    let mut disk = Disk::new(10_000);
    let paddr = disk.buf.paddr();
    let mut finished = 0u32;
    let mut token = 0u32;
    while finished < 70_000 {
        for _ in 0..(token % 97) + 1 {
            let sector = u64::from(token % 1000) * 8;
            let op = if token.is_multiple_of(3) {
                Op::Write {
                    sector,
                    paddr,
                    bytes: 512,
                }
            } else {
                Op::Read {
                    sector,
                    paddr,
                    bytes: 512,
                }
            };
            disk.submit(op, token).expect("room");
            token += 1;
        }
        disk.blk.kick();
        disk.device.service();
        disk.device.log.clear();
        while let Some(done) = disk.blk.poll() {
            assert_eq!((done.token, done.result), (finished, Ok(())));
            finished += 1;
        }
    }
    assert_eq!(finished, token);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    /// Whatever the limits, the parts of an operation cover its range exactly, in order, and keep
    /// within the limits.
    #[test]
    fn parts_cover_the_range(
        sector in 0u64..500,
        sectors in 1u64..1500,
        discard_max in 1u32..200,
        alignment in 0u32..64,
        zeroes: bool,
    ) {
        let mut disk = Disk::with(2000, QEMU, |config| {
            config[36..40].copy_from_slice(&discard_max.to_le_bytes());
            config[44..48].copy_from_slice(&alignment.to_le_bytes());
            config[48..52].copy_from_slice(&discard_max.to_le_bytes());
        });
        let op = if zeroes {
            Op::WriteZeroes { sector, sectors, unmap: false }
        } else {
            Op::Discard { sector, sectors }
        };
        prop_assert_eq!(disk.run(op), Ok(()));
        let mut at = sector;
        for Applied { sector, sectors, .. } in &disk.device.log {
            prop_assert_eq!(*sector, at);
            prop_assert!((1..=u64::from(discard_max)).contains(sectors));
            at += sectors;
        }
        prop_assert_eq!(at, sector + sectors);
    }
}
