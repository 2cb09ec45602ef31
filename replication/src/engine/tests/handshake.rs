//! Who talks to whom, who refuses whom, and who becomes whose target.

use super::*;
use crate::secure::LinkRefusal;

#[test]
fn nodes_that_know_nothing_refuse_to_guess_until_the_operator_speaks() {
    let mut pair = Pair::new();
    for node in &pair.nodes {
        assert_eq!(node.status().connection, ConnectionState::Connected);
        assert_eq!(node.disk(), DiskState::Inconsistent);
        assert!(
            node.status().reason.contains("just created"),
            "{}",
            node.status().reason
        );
    }
    assert!(pair.command(0, Command::Primary { force: false }).is_err());
    pair.ok(0, Command::NewCurrentUuid);
    pair.assert_in_sync();
    assert!(pair.nodes[0].status().reason.is_empty());
}

#[test]
fn force_makes_the_other_a_target_of_a_full_resync() {
    let mut pair = Pair::new();
    pair.nodes[1].disks[0].fill(0xaa);
    pair.nodes[0].disks[0][..70_000].fill(0xbb);
    pair.ok(1, Command::Primary { force: true });
    pair.wait(1_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.nodes[0].disks[0][99], 0xaa);
    assert!(pair.nodes[1].serving && !pair.nodes[0].serving);
}

fn refusal(change: impl FnOnce(&mut EngineConfig), words: [&str; 2]) {
    let mut b = config("b", "a");
    change(&mut b);
    let mut pair = Pair::with(config("a", "b"), b);
    pair.wait(20_000_000);
    for (node, words) in pair.nodes.iter().zip(words) {
        let errors = node.logs.iter().filter(|line| line.contains(words)).count();
        assert_eq!(errors, 1, "'{words}' once in {:?}", node.logs);
        assert_ne!(node.status().connection, ConnectionState::Connected);
        assert_ne!(node.status().connection, ConnectionState::StandAlone);
        assert!(node.status().reason.contains(words));
    }
}

#[test]
fn a_refusal_before_the_first_frame_is_told_once_and_tried_again_slowly() {
    let mut pair = Pair::ready();
    pair.cut();
    let refused = || Event::LinkDown(LinkDownReason::Refused(LinkRefusal::SecretDiffers));
    let interval = config("a", "b").timers.connect_interval;
    for _ in 0..3 {
        pair.handle(0, refused());
        let status = pair.nodes[0].status();
        assert!(status.reason.contains("shared secret differs"));
        assert_eq!(status.connection, ConnectionState::Unconnected);
        pair.wait(3 * interval);
        assert_eq!(
            pair.nodes[0].status().connection,
            ConnectionState::Unconnected
        );
        pair.wait(2 * interval);
        assert_eq!(
            pair.nodes[0].status().connection,
            ConnectionState::Connecting
        );
    }
    let told = |line: &&String| line.contains("shared secret differs");
    assert_eq!(pair.nodes[0].logs.iter().filter(told).count(), 1);
    // Once it is repaired nothing is left of it.
    pair.heal();
    pair.assert_in_sync();
    assert!(pair.nodes[0].status().reason.is_empty());
}

#[test]
fn after_a_damaged_frame_the_nodes_connect_again_at_once() {
    let mut pair = Pair::ready();
    pair.up = false;
    for n in 0..2 {
        pair.handle(n, Event::LinkDown(LinkDownReason::Corrupt));
    }
    assert_eq!(
        pair.nodes[0].status().connection,
        ConnectionState::Connecting
    );
    pair.run();
    assert_eq!(
        pair.nodes[0].status().connection,
        ConnectionState::Connected
    );
    assert!(pair.nodes[0].status().reason.is_empty());
}

#[test]
fn misconfigured_peers_are_refused_in_words_on_both_nodes_and_tried_again() {
    let name = |text: &str| Name::try_from(text).unwrap();
    refusal(
        |b| b.resource = name("r1"),
        ["peer has resource 'r1'", "peer has resource 'r0'"],
    );
    refusal(
        |b| b.node = name("c"),
        [
            "'c' answers where peer 'b'",
            "peer a expects a peer called 'b'",
        ],
    );
    refusal(
        |b| {
            b.volumes.pop();
        },
        ["peer has 1 volumes", "peer has 2 volumes"],
    );
    refusal(
        |b| b.volumes[1].disk_bytes = SIZE * 2,
        [
            "vol1 has 2097152 bytes on the peer",
            "vol1 has 1048576 bytes on the peer",
        ],
    );
    refusal(
        |b| b.volumes[0].block_size = 4096,
        [
            "vol0 has blocks of 4096 bytes",
            "vol0 has blocks of 512 bytes",
        ],
    );
    refusal(
        |b| {
            b.node = name("a");
            b.peer = name("b");
        },
        ["peer is called 'a'", "peer is called 'a'"],
    );
}

#[test]
fn a_peer_of_another_version_is_refused() {
    let mut pair = Pair::with(config("a", "b"), config("b", "a"));
    pair.network = false;
    pair.nodes[0].out.clear();
    pair.up = true;
    pair.handle(0, Event::LinkUp);
    pair.nodes[0].out.clear();
    let hello = crate::wire::Hello {
        version_min: 7,
        version_max: 9,
        features: 3,
        nonce: 5,
        window: 64,
        volumes: 2,
        role: Role::Secondary,
        discard_my_data: false,
        dry_run: false,
        policies: Default::default(),
        node: Name::try_from("b").unwrap(),
        peer: Name::try_from("a").unwrap(),
        resource: Name::try_from("r0").unwrap(),
        protocol: Protocol::C,
        fencing: Default::default(),
        identity: 0,
        episode: 0,
    };
    pair.handle(
        0,
        Event::Frame {
            frame: Frame::Hello(hello),
            buf: None,
        },
    );
    assert!(pair.nodes[0].logged("protocol versions 7 to 9"));
    let refused = pair.nodes[0].out.iter().any(|sent| {
        matches!(
            sent.frame,
            Frame::Refuse {
                reason: crate::wire::Refusal::Version,
                ..
            }
        )
    });
    assert!(refused);
}

#[test]
fn split_brain_stands_alone_until_one_side_is_given_up() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.cut();
    pair.ok(1, Command::Primary { force: true });
    pair.write(0, 4096, 4096, 2);
    pair.write(1, 8192, 4096, 3);
    pair.heal();
    for node in &pair.nodes {
        assert_eq!(node.status().connection, ConnectionState::StandAlone);
        assert!(
            node.status().reason.contains("split brain"),
            "{}",
            node.status().reason
        );
        assert_eq!(node.engine.role(), Role::Primary);
    }
    let refused = pair.command(
        1,
        Command::Connect {
            discard_my_data: true,
        },
    );
    assert!(refused.unwrap_err().contains("secondary"));
    pair.ok(1, Command::Secondary { force: false });
    pair.ok(
        1,
        Command::Connect {
            discard_my_data: true,
        },
    );
    pair.ok(
        0,
        Command::Connect {
            discard_my_data: false,
        },
    );
    pair.wait(2_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.nodes[1].disks[0][4096], 2);
    assert_eq!(pair.nodes[1].disks[0][8192], 0);
}

#[test]
fn a_restarted_node_knows_where_it_was() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.reboot(0);
    assert_eq!(pair.nodes[0].disk(), DiskState::Consistent);
    assert_eq!(pair.nodes[1].disk(), DiskState::Consistent);
    // The whole of the small volume is hot: what the Primary wrote last goes to the peer again.
    assert_eq!(pair.nodes[0].out_of_sync(), SIZE);
    pair.heal();
    pair.assert_in_sync();
    assert_eq!(pair.nodes[0].role(), Role::Secondary);
    pair.ok(1, Command::Primary { force: false });
}

#[test]
fn nothing_is_greeted_while_the_disk_still_works_for_the_old_connection() {
    let mut pair = Pair::ready();
    pair.nodes[1].disk_held = true;
    let id = pair.write(0, 0, 4096, 1);
    pair.run();
    pair.cut();
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())), "the Primary goes on");
    pair.write(0, 0, 4096, 2);
    pair.heal();
    assert_eq!(
        pair.nodes[1].status().connection,
        ConnectionState::Handshake
    );
    assert!(
        pair.nodes[1]
            .status()
            .reason
            .contains("previous connection")
    );
    pair.nodes[1].disk_held = false;
    pair.wait(2_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.nodes[1].disks[0][0], 2);
}

#[test]
fn a_broken_protocol_costs_the_connection_and_nothing_else() {
    let mut pair = Pair::ready();
    for frame in [
        Frame::Ack { request: 77 },
        Frame::Write {
            volume: 0,
            request: 1,
            offset: 0,
            fua: false,
        },
        Frame::SyncStart {
            volume: 0,
            uuid: 0,
            bytes: 1,
        },
        Frame::Flush {
            volume: 9,
            request: 1,
        },
    ] {
        pair.handle(1, Event::Frame { frame, buf: None });
        pair.wait(5_000_000);
        assert!(pair.nodes[1].logged("broke the protocol"));
        pair.assert_in_sync();
    }
}

#[test]
fn two_primaries_are_never_connected_even_when_one_has_no_disk_left() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.handle(
        0,
        Event::DiskChanged {
            volume: 0,
            metadata: false,
            size: 0,
        },
    );
    pair.handle(
        0,
        Event::DiskChanged {
            volume: 1,
            metadata: false,
            size: 0,
        },
    );
    pair.ok(1, Command::Primary { force: true });
    pair.heal();
    for node in &pair.nodes {
        assert_eq!(node.status().connection, ConnectionState::StandAlone);
        assert!(node.status().reason.contains("both nodes are Primary"));
    }
    pair.ok(0, Command::Secondary { force: false });
    pair.ok(
        0,
        Command::Connect {
            discard_my_data: false,
        },
    );
    pair.ok(
        1,
        Command::Connect {
            discard_my_data: false,
        },
    );
    pair.wait(1_000_000);
    assert_eq!(
        pair.nodes[1].status().connection,
        ConnectionState::Connected
    );
}

/// Feeds node 1 a frame that breaks the protocol, with a payload where the kind has one.
fn breaks(pair: &mut Pair, frame: Frame) {
    let bulk = matches!(frame, Frame::Write { .. } | Frame::SyncData { .. });
    let before = pair.nodes[1].writes;
    pair.nodes[1].logs.clear();
    let buf = bulk.then(|| pair.nodes[1].pool.alloc(4096).expect("memory"));
    pair.handle(1, Event::Frame { frame, buf });
    assert_ne!(
        pair.nodes[1].status().connection,
        ConnectionState::Connected
    );
    while !pair.nodes[1].ops.is_empty() {
        pair.complete(1);
    }
    assert_eq!(pair.nodes[1].writes, before, "the disk was written");
    pair.nodes[1].assert_no_buffer_missing();
}

#[test]
fn a_disk_is_written_only_while_it_mirrors_or_is_a_target() {
    let (volume, request, offset, fua) = (0, 1, 0, false);
    let write = || Frame::Write {
        volume,
        request,
        offset,
        fua,
    };
    let sync = || Frame::SyncData {
        volume,
        request,
        offset,
    };
    // Undecided; in sync; and a target whose resync has not been announced.
    breaks(&mut Pair::new(), write());
    breaks(&mut Pair::new(), sync());
    breaks(&mut Pair::ready(), sync());
    let end = |uuid| Frame::SyncEnd {
        volume,
        request,
        uuid,
    };
    breaks(&mut Pair::ready(), end(5));
    for announced in [false, true] {
        let mut pair = Pair::ready();
        pair.cut();
        pair.write(0, 0, 4096, 1);
        pair.run();
        pair.nodes[0].disk_held = true;
        pair.network = true;
        while pair.nodes[1].replication() != ReplicationState::WFBitMapT {
            assert!(pair.step());
        }
        if announced {
            pair.run();
            assert_eq!(pair.nodes[1].disk(), DiskState::Inconsistent);
            breaks(&mut pair, end(0));
        } else {
            assert_eq!(pair.nodes[1].disk(), DiskState::Consistent);
            breaks(&mut pair, sync());
        }
    }
}

#[test]
fn more_requests_than_the_window_allows_cost_the_link() {
    let mut pair = Pair::ready();
    pair.nodes[1].disk_held = true;
    for request in 0..200 {
        let frame = Frame::Flush { volume: 0, request };
        pair.handle(1, Event::Frame { frame, buf: None });
    }
    assert!(pair.nodes[1].logged("more requests than the window"));
    pair.nodes[1].disk_held = false;
    pair.wait(5_000_000);
    pair.assert_in_sync();
}

#[test]
fn nothing_of_a_resync_goes_out_before_its_durable_beginning() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.ok(0, Command::Secondary { force: true });
    pair.nodes[0].meta_held = true;
    pair.start(0, Command::Primary { force: true });
    pair.network = true;
    pair.wait(1_000_000);
    assert_eq!(pair.nodes[0].replication(), ReplicationState::WFBitMapS);
    assert_eq!(pair.nodes[1].disk(), DiskState::Consistent);
    pair.nodes[0].meta_held = false;
    pair.wait(1_000_000);
    assert!(!pair.nodes[1].logged("broke the protocol"));
    pair.assert_in_sync();
}
