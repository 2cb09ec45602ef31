//! Mirrored writes: both disks before the answer, order of overlapping ones, flushes.

use super::*;
use crate::latency::Histogram;

#[test]
fn a_write_is_answered_when_both_disks_have_it() {
    let mut pair = Pair::ready();
    for held in 0..2 {
        pair.nodes[held].disk_held = true;
        let id = pair.write(0, 4096, 8192, 0x11 + held as u8);
        pair.run();
        assert_eq!(
            pair.reply(0, id),
            None,
            "answered before node {held}'s disk"
        );
        pair.nodes[held].disk_held = false;
        pair.run();
        assert_eq!(pair.reply(0, id), Some(Ok(())));
    }
    assert_eq!(pair.read(0, 4096, 8192), std::vec![0x12; 8192]);
    pair.assert_in_sync();
}

#[test]
fn overlapping_writes_are_applied_in_one_order_and_others_do_not_wait() {
    let mut pair = Pair::ready();
    pair.nodes[0].disk_held = true;
    pair.nodes[1].disk_held = true;
    pair.write(0, 0, 4096, 1);
    pair.write(0, 512, 512, 2);
    let zeroes = pair.submit(0, 1024, |_| ClientOp::WriteZeroes {
        len: 300 * 1024,
        unmap: true,
        fua: false,
    });
    pair.write(0, 1024, 512, 3);
    let elsewhere = pair.write(0, 512 * 1024, 4096, 4);
    pair.run();
    assert_eq!(
        pair.nodes[0].ops.len(),
        2,
        "one of the overlapping four, and the other"
    );
    assert_eq!(pair.nodes[1].ops.len(), 2);
    pair.nodes[0].disk_held = false;
    pair.run();
    assert_eq!(
        pair.nodes[1].ops.len(),
        2,
        "the peer never sees two overlapping ones"
    );
    assert_eq!(pair.reply(0, zeroes), None);
    pair.nodes[1].disk_held = false;
    pair.run();
    assert_eq!(pair.reply(0, elsewhere), Some(Ok(())));
    let data = pair.read(0, 0, 4096);
    assert_eq!((data[0], data[512], data[1024], data[1536]), (1, 2, 3, 0));
    pair.assert_in_sync();
}

#[test]
fn flushes_reach_both_disks_and_are_coalesced() {
    let mut pair = Pair::ready();
    let before = (pair.nodes[0].flushes, pair.nodes[1].flushes);
    pair.nodes[0].disk_held = true;
    pair.nodes[1].disk_held = true;
    let ids: Vec<_> = (0..20)
        .map(|_| pair.submit(0, 0, |_| ClientOp::Flush))
        .collect();
    pair.run();
    assert!(ids.iter().all(|id| pair.reply(0, *id).is_none()));
    for n in 0..2 {
        pair.nodes[n].disk_held = false;
    }
    pair.run();
    assert!(ids.iter().all(|id| pair.reply(0, *id) == Some(Ok(()))));
    // The first starts at once, the nineteen others share one.
    assert_eq!(pair.nodes[0].flushes, before.0 + 2);
    assert_eq!(pair.nodes[1].flushes, before.1 + 2);
}

#[test]
fn fua_is_a_write_and_then_a_flush_on_both() {
    let mut pair = Pair::ready();
    let before = (pair.nodes[0].flushes, pair.nodes[1].flushes);
    pair.nodes[1].disk_held = true;
    let id = pair.write_fua(0, 0, 4096, 9, true);
    pair.run();
    assert_eq!(pair.reply(0, id), None);
    assert!(matches!(pair.nodes[1].ops[0].2, DiskOp::Write { .. }));
    pair.complete(1);
    assert!(matches!(pair.nodes[1].ops[0].2, DiskOp::Flush));
    pair.run();
    assert_eq!(pair.reply(0, id), None, "the peer has not flushed");
    pair.nodes[1].disk_held = false;
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    assert_eq!(pair.nodes[0].flushes, before.0 + 1);
    assert_eq!(pair.nodes[1].flushes, before.1 + 1);
}

#[test]
fn a_flush_does_not_ride_on_one_that_was_issued_before_its_writes_completed() {
    let mut pair = Pair::ready();
    pair.nodes[0].disk_held = true;
    let early = pair.submit(0, 0, |_| ClientOp::Flush);
    let write = pair.write_fua(0, 0, 512, 7, true);
    pair.run();
    // The write completes while the first flush is under way.
    let at = pair.nodes[0]
        .ops
        .iter()
        .position(|op| matches!(op.2, DiskOp::Write { .. }));
    let op = pair.nodes[0].ops.remove(at.unwrap()).unwrap();
    pair.nodes[0].ops.push_front(op);
    pair.complete(0);
    pair.complete(0);
    pair.run();
    assert_eq!(pair.reply(0, early), Some(Ok(())));
    assert_eq!(pair.reply(0, write), None);
    pair.nodes[0].disk_held = false;
    pair.run();
    assert_eq!(pair.reply(0, write), Some(Ok(())));
}

#[test]
fn impossible_requests_are_refused_without_harm() {
    let mut pair = Pair::ready();
    let refused = [
        pair.write(0, SIZE, 512, 1),
        pair.write(0, u64::MAX - 511, 512, 1),
        pair.write(0, 100, 512, 1),
        pair.submit(0, 0, |_| ClientOp::Discard { len: 0, fua: false }),
        pair.submit(0, 512, |_| ClientOp::Discard {
            len: u32::MAX - 511,
            fua: false,
        }),
        pair.submit_to(0, 9, 0, |_| ClientOp::Flush),
    ];
    pair.run();
    for id in refused {
        assert_eq!(pair.reply(0, id), Some(Err(ClientError::Invalid)));
    }
    let id = pair.write(1, 0, 512, 1);
    assert_eq!(pair.reply(1, id), Some(Err(ClientError::NotServing)));
    pair.assert_in_sync();
}

#[test]
fn trim_and_zeroes_reach_both_disks_and_both_volumes_work_at_once() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 128 * 1024, 0xff);
    pair.submit_to(0, 1, 0, |node| {
        let buf = node.pool.alloc(4096).unwrap();
        node.memory.bytes_mut(buf.view()).fill(0xee);
        ClientOp::Write { buf, fua: false }
    });
    pair.run();
    pair.submit(0, 4096, |_| ClientOp::Discard {
        len: 8192,
        fua: true,
    });
    pair.submit(0, 65536, |_| ClientOp::WriteZeroes {
        len: 4096,
        unmap: false,
        fua: true,
    });
    pair.run();
    assert_eq!(pair.nodes[1].disks[0][4096..12288], [0; 8192]);
    assert_eq!(pair.nodes[1].disks[1][..4096], [0xee; 4096]);
    pair.assert_in_sync();
}

#[test]
fn a_full_engine_says_so_and_recovers() {
    let mut pair = Pair::ready();
    pair.nodes[1].disk_held = true;
    let mut ids = Vec::new();
    while pair.nodes[0].engine.has_room() {
        let at = ids.len() as u64 * 512;
        ids.push(pair.write(0, at, 512, 5));
    }
    assert_eq!(ids.len(), 64);
    pair.nodes[1].disk_held = false;
    pair.run();
    assert!(pair.nodes[0].engine.has_room());
    assert!(ids.iter().all(|id| pair.reply(0, *id) == Some(Ok(()))));
    pair.assert_in_sync();
}

#[test]
fn a_read_shows_nothing_that_a_failover_could_take_back() {
    let mut pair = Pair::ready();
    pair.nodes[1].disk_held = true;
    pair.write(0, 0, 4096, 1);
    let id = pair.submit(0, 1024, |node| {
        ClientOp::Read(node.pool.alloc(512).unwrap())
    });
    let beside = pair.submit(0, 4096, |node| {
        ClientOp::Read(node.pool.alloc(512).unwrap())
    });
    pair.run();
    assert_eq!(pair.reply(0, beside), Some(Ok(())));
    assert_eq!(pair.reply(0, id), None, "the write is on one disk only");
    pair.nodes[1].disk_held = false;
    pair.run();
    assert_eq!(pair.nodes[0].replies[&id].1, [1; 512]);
    pair.assert_in_sync();
}

#[test]
fn the_time_of_a_request_is_counted_where_it_was_spent() {
    let mut pair = Pair::ready();
    let of = |pair: &Pair, n: usize| {
        let mut all = pair.nodes[n].engine.latencies();
        let (volume, latencies) = all.next().expect("a volume");
        assert_eq!(volume, 0);
        let figures = |h: &Histogram| (h.counts().iter().sum::<u64>(), h.sum());
        [
            figures(&latencies.request),
            figures(&latencies.disk),
            figures(&latencies.flush),
            figures(&latencies.peer),
        ]
    };
    let spent = |before: [(u64, u64); 4], after: [(u64, u64); 4]| {
        core::array::from_fn(|n| (after[n].0 - before[n].0, after[n].1 - before[n].1))
    };
    let before = [of(&pair, 0), of(&pair, 1)];
    pair.nodes[1].disk_held = true;
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.now += 10_000;
    pair.nodes[1].disk_held = false;
    pair.run();
    let after = [of(&pair, 0), of(&pair, 1)];
    let a: [_; 4] = spent(before[0], after[0]);
    assert_eq!(a, [(1, 10_000), (1, 0), (0, 0), (1, 10_000)]);
    let b: [_; 4] = spent(before[1], after[1]);
    assert_eq!(b, [(0, 0), (1, 10_000), (0, 0), (0, 0)]);

    pair.nodes[0].disk_held = true;
    pair.submit(0, 0, |_| ClientOp::Flush);
    pair.run();
    pair.now += 300;
    pair.nodes[0].disk_held = false;
    pair.run();
    let a: [_; 4] = spent(after[0], of(&pair, 0));
    assert_eq!(a, [(1, 300), (0, 0), (1, 300), (1, 0)]);
    assert_eq!(spent(after[1], of(&pair, 1))[2], (1, 0));
}
