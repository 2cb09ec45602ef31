//! Devices that break the rules: nothing is believed, nothing panics, everything is reported.

use alloc::{vec, vec::Vec};
use proptest::prelude::*;

use super::{
    blk::Disk,
    net::Nic,
    virtq::{OPTIONS, Rig},
};
use crate::{
    blk::{BlkError, Op, SubmitError},
    virtq::{AddError, QueueError, QueueOptions},
};

/// A queue of 8 with three requests outstanding.
fn rig() -> Rig {
    let mut rig = Rig::new(8, OPTIONS);
    for cookie in 0..3 {
        rig.add(&[(16, false), (100, true)], cookie).expect("room");
    }
    rig
}

fn breaks(mut rig: Rig, error: QueueError) {
    assert_eq!(rig.queue.pop_used(), Err(error));
    // For good: nothing in, nothing out, no sleeping on it.
    assert_eq!(rig.queue.pop_used(), Err(error));
    assert_eq!(rig.add(&[(1, false)], 9), Err(AddError::Broken(error)));
    assert!(!rig.queue.kick());
    assert_eq!(rig.queue.broken(), Some(error));
}

#[test]
fn impossible_id() {
    for id in [8, 0x1_0000, u32::MAX] {
        let mut rig = rig();
        rig.device.push(id, 0);
        breaks(rig, QueueError::BadId { id });
    }
}

#[test]
fn id_that_is_not_outstanding() {
    let mut rig = rig();
    // The second descriptor of the first chain heads nothing.
    let chain = rig.device.pop().expect("published");
    let other = (0..8u16)
        .find(|id| *id != chain.id && ![2, 4].contains(id))
        .expect("eight slots");
    rig.device.push(u32::from(other), 0);
    breaks(rig, QueueError::NotOutstanding { id: other });
}

#[test]
fn id_given_back_twice() {
    let mut rig = rig();
    let chain = rig.device.pop().expect("published");
    rig.device.push(u32::from(chain.id), 100);
    rig.device.push(u32::from(chain.id), 100);
    let used = rig.queue.pop_used().expect("once is fine").expect("there");
    assert_eq!(used.cookie, 0);
    breaks(rig, QueueError::NotOutstanding { id: chain.id });
}

#[test]
fn length_beyond_the_room() {
    let mut honest = rig();
    let chain = honest.device.pop().expect("published");
    honest.device.push(u32::from(chain.id), 101);
    breaks(
        honest,
        QueueError::BadLength {
            len: 101,
            room: 100,
        },
    );

    // A legacy device is only cut down.
    let mut legacy = Rig::new(
        8,
        QueueOptions {
            strict_lengths: false,
            ..OPTIONS
        },
    );
    legacy.add(&[(100, true)], 5).expect("room");
    let chain = legacy.device.pop().expect("published");
    legacy.device.push(u32::from(chain.id), u32::MAX);
    let used = legacy.queue.pop_used().expect("tolerated").expect("there");
    assert_eq!((used.cookie, used.len), (5, 100));
}

#[test]
fn index_that_jumps() {
    for used in [4, 9, 0x8000, u16::MAX] {
        let mut rig = rig();
        rig.device.set_used_idx(used);
        breaks(
            rig,
            QueueError::IndexJump {
                used,
                seen: 0,
                outstanding: 3,
            },
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever is in the used ring, each request comes back at most once and within its room.
    #[test]
    fn garbage_in_the_used_ring(
        entries in proptest::collection::vec((0u32..10, 0u32..140, 0u16..4), 1..40),
        indirect in prop_oneof![Just(0u16), Just(2u16)],
    ) {
        let mut rig = Rig::new(8, QueueOptions { indirect, ..OPTIONS });
        let mut outstanding = Vec::new();
        let mut next = 0;
        for (id, len, jump) in entries {
            while rig.add(&[(16, false), (100, true)], next).is_ok() {
                outstanding.push(next);
                next += 1;
            }
            rig.queue.kick();
            rig.device.write_used(id, len);
            let index = rig.device.used_idx.wrapping_add(jump);
            rig.device.set_used_idx(index);
            while let Ok(Some(used)) = rig.queue.pop_used() {
                let at = outstanding.iter().position(|c| *c == used.cookie);
                prop_assert!(at.is_some(), "came back twice, or was never added");
                outstanding.remove(at.expect("checked"));
                prop_assert!(used.len <= 100);
            }
            if rig.queue.broken().is_some() {
                break;
            }
        }
    }
}

#[test]
fn a_broken_disk_fails_all_and_is_reset() {
    let mut disk = Disk::new(1000);
    for token in 0..5 {
        disk.submit(
            Op::Write {
                sector: 8,
                paddr: disk.buf.paddr(),
                bytes: 4096,
            },
            token,
        )
        .expect("room");
    }
    let resets = disk.resets();
    disk.device.queue.push(255, 0);
    let mut failed = Vec::new();
    while let Some(done) = disk.blk.poll() {
        assert_eq!(
            done.result,
            Err(BlkError::Broken(QueueError::NotOutstanding { id: 255 }))
        );
        failed.push(done.token);
    }
    failed.sort_unstable();
    assert_eq!(failed, [0, 1, 2, 3, 4]);
    assert_eq!(disk.resets(), resets + 1);
    assert_eq!(disk.blk.in_flight(), 0);
    assert!(!disk.blk.arm(), "no use in polling");
    assert_eq!(
        disk.submit(Op::Flush, 9),
        Err(SubmitError::Broken(QueueError::NotOutstanding { id: 255 }))
    );
}

#[test]
fn garbage_status_bytes_are_errors() {
    let mut disk = Disk::new(1000);
    for status in [3, 7, 128, 255] {
        disk.device.status = Some(status);
        assert_eq!(disk.run(Op::Flush), Err(BlkError::BadStatus(status)));
    }
    disk.device.status = None;
    assert_eq!(disk.run(Op::Flush), Ok(()));
}

#[test]
fn a_status_that_was_not_written_is_no_success() {
    let mut disk = Disk::new(1000);
    disk.submit(Op::Flush, 1).expect("room");
    let chain = disk.device.queue.pop().expect("published");
    disk.device.queue.push(u32::from(chain.id), 1);
    assert_eq!(
        disk.blk.poll().expect("done").result,
        Err(BlkError::BadStatus(255))
    );
}

#[test]
fn a_short_read_is_no_success() {
    let mut disk = Disk::new(1000);
    disk.device.claim = Some(512);
    let paddr = disk.buf.paddr();
    let result = disk.run(Op::Read {
        sector: 0,
        paddr,
        bytes: 1024,
    });
    assert_eq!(result, Err(BlkError::ShortRead { written: 512 }));
}

#[test]
fn a_nic_with_impossible_buffer_counts_is_reset() {
    for count in [0u16, 600, u16::MAX] {
        let mut nic = Nic::merging();
        let chain = nic.device.rx.pop().expect("buffers were posted");
        let mut message = vec![0; 12 + 60];
        message[10..12].copy_from_slice(&count.to_le_bytes());
        chain.write(0, &message);
        nic.device
            .rx
            .push(u32::from(chain.id), message.len() as u32);
        assert!(nic.net.receive().is_none());
        assert!(!nic.net.arm());
        assert_eq!(nic.net.broken(), Some(QueueError::BadBufferCount { count }));
        assert!(nic.net.transmit().is_none());
        assert!(nic.net.receive().is_none());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    /// Frames with arbitrary headers, lengths and contents are dropped or handed up, within their
    /// buffers, and the ring goes on or is closed.
    #[test]
    fn garbage_from_a_nic(
        messages in proptest::collection::vec(
            (any::<[u8; 12]>(), 0u16..4, 0u32..5000, any::<bool>()),
            1..60,
        ),
    ) {
        let mut nic = Nic::merging();
        for (mut header, count, len, sane) in messages {
            let Some(chain) = nic.device.rx.pop() else { break };
            if sane {
                header[10..12].copy_from_slice(&count.to_le_bytes());
            }
            chain.write(0, &header);
            nic.device.rx.push(u32::from(chain.id), len);
            if let Some((rx, tx)) = nic.net.receive() {
                rx.consume(|frame| assert!(frame.len() <= 65549));
                tx.consume(60, |frame| frame.fill(1));
            }
            nic.net.kick();
            if nic.net.broken().is_some() {
                break;
            }
            nic.device.sent();
        }
    }
}
