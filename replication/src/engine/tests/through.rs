//! A Primary whose own disk is the target of a resync while it serves its clients from the peer's.

use super::*;

/// `a` is Primary, serves from `b`'s disk, and its own lacks 256 KiB; `b`'s disk holds everything back.
fn target() -> Pair {
    let mut pair = Pair::ready();
    pair.ok(
        0,
        Command::Detach {
            volume: 0,
            force: false,
        },
    );
    for block in 0..4 {
        pair.write(0, block * 65536, 65536, 3);
        pair.run();
    }
    pair.nodes[1].disk_held = true;
    pair.start(0, Command::Attach { volume: 0 });
    pair.wait(3_000_000);
    assert_eq!(pair.nodes[0].replication(), ReplicationState::SyncTarget);
    pair
}

fn announces_end(pair: &Pair) -> bool {
    let is_end = |sent: &Sent| matches!(sent.frame, Frame::SyncEnd { .. });
    pair.nodes[1].out.iter().any(is_end)
}

/// The last flush of a resync began before a write was done here; a client's flush that came behind that write is answered
/// when this disk counts as whole, or just before. Either way it must be durable here: of two nodes that
/// lost their power the one that was Primary is the source.
#[test]
fn a_flush_through_the_peer_covers_the_target_that_becomes_whole() {
    for peer_first in [false, true] {
        let mut pair = target();
        pair.nodes[1].disk_held = false;
        while !announces_end(&pair) {
            assert!(pair.step(), "the resync ends");
        }
        pair.nodes[0].cache = Some(Vec::new());
        // It begins; what is written from now on it does not cover.
        pair.nodes[0].disk_held = true;
        pair.run();
        assert!(matches!(pair.nodes[0].ops[0].2, DiskOp::Flush));
        let write = pair.write(0, 524_288, 4096, 7);
        pair.run();
        let (token, volume, op) = pair.nodes[0].ops.pop_back().unwrap();
        pair.nodes[0].perform(volume, op);
        let result = Ok(());
        let all_zero = false;
        pair.handle(
            0,
            Event::DiskDone {
                token,
                result,
                all_zero,
            },
        );
        assert_eq!(pair.reply(0, write), Some(Ok(())));
        pair.nodes[1].disk_held = !peer_first;
        let flush = pair.submit(0, 0, |_| ClientOp::Flush);
        pair.run();
        assert_eq!(pair.reply(0, flush), None, "not durable here");
        // The resync's flush.
        let (token, _, _) = pair.nodes[0].ops.pop_front().unwrap();
        pair.handle(
            0,
            Event::DiskDone {
                token,
                result,
                all_zero,
            },
        );
        pair.run();
        pair.nodes[1].disk_held = false;
        pair.run();
        assert_eq!(pair.nodes[0].disk(), DiskState::UpToDate);
        assert_eq!(pair.reply(0, flush), None, "still not");
        pair.nodes[0].disk_held = false;
        pair.run();
        assert_eq!(pair.reply(0, flush), Some(Ok(())));
        let unflushed = pair.nodes[0].cache.as_ref().map(Vec::len);
        assert_eq!(unflushed, Some(0));
        pair.assert_in_sync();
    }
}
