//! Fencing when something else goes wrong beside it: disks that take their time, reboots, words that come late.

use super::fence::{deaf, pair, pair_by};
use super::*;
use fencing::Own;
use fencing::arbiter::Arbiter;

fn reached(pair: &mut Pair) {
    pair.management.arbiter = Some(Arbiter::default());
    pair.management.peers = true;
}

/// The disk was at a write when the peer was lost, and ends it when that is back: answered then, a client would have had the
/// word for something that the peer, which holds no mark and may be promoted next, has not heard of.
#[test]
fn a_write_at_the_disk_over_a_short_loss_is_answered_only_when_the_peer_has_it() {
    let mut pair = pair();
    deaf(&mut pair);
    // So that the next one need not wait for the activity log.
    pair.write(0, 8192, 4096, 4);
    pair.run();
    pair.nodes[0].disk_held = true;
    let write = pair.write(0, 8192, 4096, 5);
    assert_eq!(pair.nodes[0].ops.len(), 1, "it is at the disk");
    pair.cut();
    pair.wait(500_000);
    assert!(pair.frozen(0));
    pair.network = true;
    // Both know that they are connected; the peer has not heard of a resync, nor is one saved here.
    pair.now += 1_000_000;
    for n in 0..2 {
        pair.handle(n, Event::Tick);
    }
    while pair.nodes[0].status().connection != ConnectionState::Connected {
        assert!(pair.step());
    }
    assert!(!pair.frozen(0), "back");
    while pair.nodes[0]
        .ops
        .iter()
        .any(|op| matches!(op.2, DiskOp::Write { .. }))
    {
        pair.complete(0);
    }
    while pair.complete_meta(0) {}
    assert_eq!(pair.reply(0, write), None, "the peer does not have it");
    pair.nodes[0].disk_held = false;
    reached(&mut pair);
    pair.wait(5_000_000);
    assert_eq!(pair.reply(0, write), Some(Ok(())));
    pair.assert_in_sync();
}

/// Its clients are served by the peer's disk, which is all there is: fenced, that would be Outdated too, and be refused.
#[test]
fn a_diskless_primary_does_not_outdate_the_only_good_copy() {
    let mut pair = pair();
    pair.write(0, 0, 4096, 1);
    pair.run();
    for volume in 0..2 {
        pair.ok(
            0,
            Command::Detach {
                volume,
                force: true,
            },
        );
    }
    let write = pair.write(0, 4096, 4096, 2);
    pair.run();
    assert_eq!(pair.reply(0, write), Some(Ok(())));
    pair.cut();
    pair.wait(1_000_000);
    assert_ne!(pair.nodes[1].disk(), DiskState::Outdated);
    let read = pair.submit(0, 4096, |node| {
        ClientOp::Read(node.pool.alloc(4096).expect("memory"))
    });
    pair.heal();
    pair.wait(5_000_000);
    assert_eq!(pair.reply(0, read), Some(Ok(())));
    assert_eq!(pair.nodes[0].replies[&read].1, std::vec![2; 4096]);
}

/// It reads for a client while it learns that the peer goes on.
#[test]
fn a_primary_that_is_refused_while_its_disk_works() {
    for held in [false, true] {
        let mut pair = pair_by(Policy::ResourceOnly);
        deaf(&mut pair);
        pair.cut();
        pair.nodes[0].disk_held = held;
        let read = pair.submit(0, 0, |node| {
            ClientOp::Read(node.pool.alloc(4096).expect("memory"))
        });
        let write = pair.write(0, 8192, 4096, 3);
        let name = Name::try_from("b").unwrap();
        let verdict = Arbiter::default().ask(
            &name,
            Request::Fence {
                vouched: 0,
                episode: 9,
                released: 0,
                up_to_date: false,
                force: false,
            },
        );
        pair.management.arbiter = Some(verdict.expect("an answer").next);
        pair.wait(3_000_000);
        assert!(!pair.nodes[0].serving);
        pair.nodes[0].disk_held = false;
        pair.wait(1_000_000);
        assert_eq!(pair.nodes[0].role(), Role::Secondary);
        assert_eq!(pair.nodes[0].disk(), DiskState::Outdated);
        assert_eq!(pair.nodes[0].status().fencing.record.mark, Some(9));
        let answered = (pair.reply(0, read), pair.reply(0, write));
        assert!(answered.0.is_some() && answered.1.is_some());
        pair.nodes[0].assert_no_buffer_missing();
    }
}

/// The Primary has lost its peer, which has not noticed, and still works on what it was sent.
#[test]
fn a_secondary_is_outdated_while_it_is_connected_and_writes() {
    for held in [false, true] {
        let mut pair = pair();
        pair.nodes[1].disk_held = held;
        let write = pair.write(0, 0, 4096, 4);
        pair.run();
        pair.handle(
            1,
            Event::Asked {
                from: Party::Peer,
                token: 7,
                request: Request::Outdate {
                    vouched: 0,
                    episode: 1,
                    primary: true,
                },
            },
        );
        pair.wait(500_000);
        pair.nodes[1].disk_held = false;
        pair.wait(5_000_000);
        assert_eq!(pair.reply(0, write), Some(Ok(())));
        // They have met anew, and what the mark was for is over.
        assert_eq!(pair.nodes[0].replication(), ReplicationState::Established);
    }
}

/// A power cut of the Primary in every state of its episode.
#[test]
fn a_reboot_in_any_state_of_the_episode_leaves_none_behind() {
    for state in ["requested", "held", "releasing"] {
        let mut pair = pair();
        if state == "requested" {
            deaf(&mut pair);
        }
        pair.cut();
        pair.wait(1_000_000);
        if state == "releasing" {
            deaf(&mut pair);
            pair.heal();
        }
        let fits = match pair.own(0) {
            Own::Requested(_) => "requested",
            Own::Held(..) => "held",
            Own::Releasing(_) => "releasing",
            Own::None => "none",
        };
        assert_eq!(fits, state);
        let arbiter = pair.management.arbiter.take();
        pair.reboot(0);
        pair.management.peers = true;
        pair.management.arbiter = Some(arbiter.unwrap_or_default());
        pair.heal();
        pair.wait(10_000_000);
        assert_eq!(pair.own(0), Own::None, "{state}");
        assert_eq!(pair.nodes[1].status().fencing.record.mark, None, "{state}");
        pair.ok(0, Command::Primary { force: false });
        pair.wait(1_000_000);
        pair.assert_in_sync();
    }
}

/// `secondary --force`, and stepping down, do not wait for the fence, nor for what clients were not answered.
#[test]
fn a_frozen_primary_can_be_demoted() {
    for held in [false, true] {
        let mut pair = pair();
        deaf(&mut pair);
        pair.nodes[0].disk_held = held;
        let write = pair.write(0, 0, 4096, 1);
        pair.cut();
        pair.run();
        pair.start(0, Command::Secondary { force: true });
        pair.wait(100_000);
        pair.nodes[0].disk_held = false;
        pair.wait(100_000);
        assert_eq!(pair.nodes[0].role(), Role::Secondary, "held {held}");
        let dropped = Some(Err(ClientError::NotServing));
        assert_eq!(pair.reply(0, write), dropped, "held {held}");
        assert!(!pair.frozen(0));
        pair.nodes[0].assert_no_buffer_missing();
    }
}

/// Copies of old words, and words about what never was, that arrive at any later time.
#[test]
fn late_and_early_words_do_no_harm() {
    let mut pair = pair();
    pair.cut();
    pair.wait(1_000_000);
    pair.heal();
    pair.wait(5_000_000);
    assert_eq!(pair.own(0), Own::None);
    let arbiter = pair.management.arbiter.clone();
    deaf(&mut pair);
    let write = pair.write(0, 0, 4096, 1);
    pair.cut();
    pair.wait(500_000);
    assert_eq!(pair.own(0), Own::Requested(2));
    for from in [Party::Peer, Party::Arbiter] {
        for answer in [
            Answer::Granted { episode: 1 },
            Answer::Released { episode: 1 },
            Answer::Released { episode: 2 },
            Answer::Granted { episode: 3 },
        ] {
            pair.handle(0, Event::Answered { from, answer });
        }
    }
    pair.run();
    assert!(pair.frozen(0));
    assert_eq!(pair.reply(0, write), None);
    pair.management.arbiter = arbiter;
    pair.management.peers = true;
    pair.wait(3_000_000);
    assert_eq!(pair.nodes[1].status().fencing.record.mark, Some(2));
    for request in [
        Request::Unfence {
            episode: 1,
            vouched: 0,
        },
        Request::Outdate {
            vouched: 0,
            episode: 1,
            primary: true,
        },
    ] {
        let (from, token) = (Party::Peer, 7);
        pair.handle(
            1,
            Event::Asked {
                from,
                token,
                request,
            },
        );
        pair.run();
    }
    assert_eq!(pair.nodes[1].status().fencing.record.mark, Some(2));
    let denied = pair.command(1, Command::Primary { force: false });
    let denied = denied.expect_err("it is fenced");
    assert!(denied.contains("episode 2"), "{denied}");
    pair.heal();
    pair.wait(5_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.own(0), Own::None);
}

/// Takes a volume's disk out, and has it attached again; it never answers.
fn attach_without_an_answer(pair: &mut Pair, n: usize, volume: u16) {
    let force = true;
    pair.ok(n, Command::Detach { volume, force });
    pair.start(n, Command::Attach { volume });
    let before = pair.nodes[n].meta_ops.len();
    pair.nodes[n].meta_ops.retain(|op| op.1 != volume);
    assert!(pair.nodes[n].meta_ops.len() < before, "it is being read");
    pair.run();
    let state = pair.nodes[n].status().volumes[usize::from(volume)].disk;
    assert_eq!(state, DiskState::Attaching);
}

#[test]
fn a_primary_with_a_disk_that_hangs_when_it_is_attached_again_gives_way() {
    let mut pair = pair();
    attach_without_an_answer(&mut pair, 0, 1);
    let arbiter = pair.management.arbiter.take();
    pair.management.peers = false;
    pair.cut();
    let write = pair.write(0, 0, 4096, 3);
    pair.wait(2_000_000);
    assert!(pair.frozen(0));
    assert_eq!(pair.reply(0, write), None);
    // The other one goes on, with a grant, and the first one hears of it.
    pair.management.arbiter = arbiter;
    let promotion = pair.start(1, Command::Primary { force: false });
    pair.wait(20_000_000);
    assert_eq!(pair.nodes[1].done[&promotion].as_deref(), Ok("now Primary"));
    assert_eq!(pair.nodes[0].role(), Role::Secondary);
    assert_ne!(pair.reply(0, write), Some(Ok(())));
}

#[test]
fn a_primary_with_such_a_disk_holds_a_fence_when_it_is_alone_with_its_writes() {
    let mut pair = pair();
    attach_without_an_answer(&mut pair, 0, 1);
    let before = pair.own(0);
    pair.ok(
        1,
        Command::Detach {
            volume: 0,
            force: true,
        },
    );
    let write = pair.write(0, 0, 4096, 3);
    pair.wait(2_000_000);
    // Number 1 was used up when the peer's disk stood in for this one.
    assert_eq!((before, pair.holder()), (Own::None, Some(("a".into(), 2))));
    assert_eq!(pair.reply(0, write), Some(Ok(())));
}

/// Node 1 is fenced, hears nobody, and was told to become Primary by force; its disk saves nothing.
fn word_that_waits_for_the_disk() -> (Pair, CommandId) {
    let mut pair = pair();
    pair.cut();
    pair.wait(2_000_000);
    assert_eq!(pair.nodes[1].disk(), DiskState::Outdated);
    deaf(&mut pair);
    pair.nodes[1].meta_held = true;
    let word = pair.start(1, Command::Primary { force: true });
    (pair, word)
}

/// A plain command takes nothing back of the operator's word.
#[test]
fn a_plain_command_does_not_take_the_place_of_a_word_that_is_being_stored() {
    let (mut pair, _) = word_that_waits_for_the_disk();
    pair.wait(500_000);
    pair.start(1, Command::Primary { force: false });
    pair.wait(500_000);
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
    pair.nodes[1].meta_held = false;
    pair.wait(2_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Primary);
    assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
}

/// The operator was told that the node stays Secondary, and may have forced the other one meanwhile.
#[test]
fn a_word_that_was_not_stored_in_time_is_void() {
    let (mut pair, word) = word_that_waits_for_the_disk();
    pair.wait(7_000_000);
    let said = pair.nodes[1].done[&word].clone().unwrap_err();
    assert!(said.contains("has not saved the word in time"), "{said}");
    pair.start(1, Command::Primary { force: false });
    pair.wait(1_000_000);
    pair.nodes[1].meta_held = false;
    pair.wait(5_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
    assert_eq!(pair.nodes[1].disk(), DiskState::Outdated);
}

/// What a client wanted is on both disks, or on one, and nobody is told: the volume is not called in sync over it.
#[test]
fn clients_that_are_dropped_while_frozen_beside_a_connected_peer_leave_nothing_unequal() {
    let mut pair = pair();
    deaf(&mut pair);
    // So that the next one need not wait for the activity log.
    pair.write(0, 0, 4096, 4);
    pair.run();
    pair.nodes[1].disk_held = true;
    let write = pair.write(0, 0, 4096, 5);
    pair.run();
    let (volume, force) = (1, true);
    pair.ok(1, Command::Detach { volume, force });
    assert!(pair.frozen(0));
    pair.nodes[1].disk_held = false;
    pair.run();
    assert_eq!(pair.reply(0, write), None);
    pair.ok(0, Command::Secondary { force: true });
    assert_eq!(pair.reply(0, write), Some(Err(ClientError::NotServing)));
    pair.wait(5_000_000);
    let status = pair.nodes[0].status();
    assert_eq!(status.connection, ConnectionState::Connected);
    assert_eq!(status.volumes[0].peer_disk, DiskState::UpToDate);
    assert_eq!(status.volumes[0].out_of_sync, 0);
    assert_eq!(pair.nodes[0].disks[0], pair.nodes[1].disks[0]);
}
