//! Promotion, demotion and their races.

use super::*;

#[test]
fn of_two_nodes_that_want_to_be_primary_one_becomes_it() {
    let mut pair = Pair::new();
    pair.ok(0, Command::NewCurrentUuid);
    let a = pair.start(0, Command::Primary { force: false });
    let b = pair.start(1, Command::Primary { force: true });
    pair.run();
    assert!(pair.nodes[0].done[&a].is_ok());
    assert!(pair.nodes[1].done[&b].is_err());
    assert!(pair.nodes[0].serving && !pair.nodes[1].serving);
    assert!(pair.command(1, Command::Primary { force: true }).is_err());
    pair.assert_in_sync();
}

#[test]
fn demotion_waits_for_what_is_in_flight_on_both_disks() {
    let mut pair = Pair::ready();
    pair.handle(0, Event::OpenClients(1));
    assert!(
        pair.command(0, Command::Secondary { force: false })
            .unwrap_err()
            .contains("1 client")
    );
    pair.nodes[1].disk_held = true;
    let id = pair.write(0, 0, 4096, 1);
    let command = pair.start(0, Command::Secondary { force: true });
    pair.run();
    assert!(!pair.nodes[0].serving);
    assert_eq!(pair.nodes[0].engine.role(), Role::Primary);
    let late = pair.write(0, 0, 4096, 2);
    assert_eq!(pair.reply(0, late), Some(Err(ClientError::NotServing)));
    pair.nodes[1].disk_held = false;
    pair.run();
    assert_eq!(pair.reply(0, id), Some(Ok(())));
    assert!(pair.nodes[0].done[&command].is_ok());
    pair.ok(1, Command::Primary { force: false });
    assert_eq!(pair.read(1, 0, 512), [1; 512]);
}

impl Pair {
    fn status_of(&self, n: usize) -> (Role, Role) {
        (
            self.nodes[n].status().role,
            self.nodes[n].status().peer_role,
        )
    }
}

#[test]
fn a_demotion_that_a_disk_holds_up_is_answered_in_time_and_ends_later() {
    let mut pair = Pair::ready();
    pair.nodes[0].disk_held = true;
    pair.write(0, 0, 4096, 1);
    let command = pair.start(0, Command::Secondary { force: true });
    pair.wait(7_000_000);
    assert!(
        pair.nodes[0].done[&command]
            .as_ref()
            .unwrap_err()
            .contains("still on their way")
    );
    assert_eq!(pair.status_of(1), (Role::Secondary, Role::Primary));
    pair.nodes[0].disk_held = false;
    pair.run();
    assert_eq!(pair.status_of(1), (Role::Secondary, Role::Secondary));
}

#[test]
fn promotion_needs_the_peer_or_the_operators_word() {
    let mut pair = Pair::ready();
    assert_eq!(
        pair.command(0, Command::Primary { force: false }).unwrap(),
        "already Primary"
    );
    assert_eq!(
        pair.command(1, Command::Secondary { force: false })
            .unwrap(),
        "already Secondary"
    );
    assert!(
        pair.command(1, Command::Primary { force: true })
            .unwrap_err()
            .contains("Primary")
    );
    pair.ok(0, Command::Secondary { force: false });
    pair.cut();
    let refused = pair
        .command(1, Command::Primary { force: false })
        .unwrap_err();
    assert!(refused.contains("--force"), "{refused}");
    pair.ok(1, Command::Primary { force: true });
    pair.write(1, 0, 4096, 8);
    pair.heal();
    pair.assert_in_sync();
    assert_eq!(pair.nodes[0].disks[0][0], 8);
}

#[test]
fn commands_wait_for_the_handshake_but_not_for_ever() {
    let mut pair = Pair::ready();
    pair.ok(0, Command::Secondary { force: false });
    pair.cut();
    pair.black_hole = true;
    pair.network = true;
    pair.wait(600_000);
    assert_eq!(
        pair.nodes[0].status().connection,
        ConnectionState::Handshake
    );
    let waiting = pair.start(0, Command::Primary { force: false });
    pair.wait(500_000);
    assert!(!pair.nodes[0].done.contains_key(&waiting));
    pair.wait(10_000_000);
    assert!(pair.nodes[0].done[&waiting].is_err());
}

#[test]
fn disconnect_and_connect_do_as_told() {
    let mut pair = Pair::ready();
    pair.ok(1, Command::Disconnect);
    assert_eq!(
        pair.nodes[1].status().connection,
        ConnectionState::StandAlone
    );
    assert_eq!(pair.nodes[1].disk(), DiskState::Consistent);
    pair.write(0, 0, 4096, 3);
    pair.wait(5_000_000);
    assert_eq!(
        pair.nodes[1].status().connection,
        ConnectionState::StandAlone
    );
    pair.ok(
        1,
        Command::Connect {
            discard_my_data: false,
        },
    );
    pair.wait(2_000_000);
    pair.assert_in_sync();
}

#[test]
fn a_lost_answer_to_new_current_uuid_leads_to_no_guess() {
    let mut pair = Pair::new();
    let id = pair.start(0, Command::NewCurrentUuid);
    pair.deliver(0);
    while pair.complete_meta(1) {}
    assert_eq!(pair.nodes[1].disk(), DiskState::UpToDate);
    pair.cut();
    assert!(pair.nodes[0].done[&id].is_err());
    pair.heal();
    // The peer has it durably: this node, which has nothing, gets its data.
    pair.assert_in_sync();
}

#[test]
fn a_lost_answer_to_new_current_uuid_does_not_make_strangers_of_a_pair_with_data() {
    for asks in 0..2 {
        let mut pair = Pair::ready();
        pair.write(0, 0, 4096, 7);
        pair.run();
        pair.ok(0, Command::Secondary { force: false });
        pair.start(asks, Command::NewCurrentUuid);
        pair.deliver(asks);
        while pair.complete_meta(1 - asks) {}
        let generation = |n: usize| pair.nodes[n].status().volumes[0].current_uuid;
        assert_ne!(generation(0), generation(1), "only the peer has it");
        pair.cut();
        pair.heal();
        pair.assert_in_sync();
        assert_eq!(pair.nodes[asks].disks[0][..4096], [7; 4096]);
    }
}

#[test]
fn a_secondary_without_its_peer_doubts_itself_even_if_it_was_primary() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.ok(0, Command::Secondary { force: false });
    assert_eq!(pair.nodes[0].disk(), DiskState::Consistent);
    // Meanwhile the peer serves, and restarts: what it answered must not be overwritten unasked.
    pair.ok(1, Command::Primary { force: true });
    let id = pair.write(1, 0, 4096, 9);
    pair.run();
    assert_eq!(pair.reply(1, id), Some(Ok(())));
    pair.reboot(1);
    pair.heal();
    // Both went on alone, in generations of their own: nobody's writes are overwritten unasked.
    for n in 0..2 {
        let reason = pair.nodes[n].status().reason;
        assert!(reason.contains("split brain"), "{reason}");
    }
    pair.ok(
        0,
        Command::Connect {
            discard_my_data: true,
        },
    );
    pair.ok(
        1,
        Command::Connect {
            discard_my_data: false,
        },
    );
    pair.wait(2_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.nodes[0].disks[0][0], 9);
    assert_eq!(pair.nodes[1].disks[0][0], 9);
}

#[test]
fn a_word_to_give_data_up_does_not_outlive_a_plain_connect_or_a_promotion() {
    const DISCARD: Command = Command::Connect {
        discard_my_data: true,
    };
    for promote in [false, true] {
        let mut pair = Pair::ready();
        pair.cut();
        pair.ok(1, DISCARD);
        if promote {
            pair.ok(1, Command::Primary { force: true });
            pair.ok(1, Command::Secondary { force: false });
        } else {
            pair.ok(1, Command::Primary { force: true });
            pair.ok(1, Command::Secondary { force: false });
            pair.ok(1, DISCARD);
            pair.ok(
                1,
                Command::Connect {
                    discard_my_data: false,
                },
            );
        }
        pair.heal();
        for node in &pair.nodes {
            assert!(node.logged("split brain"), "{:?}", node.logs);
        }
        pair.ok(1, DISCARD);
        pair.ok(
            0,
            Command::Connect {
                discard_my_data: false,
            },
        );
        pair.wait(2_000_000);
        pair.assert_in_sync();
    }
}

#[test]
fn clients_are_let_in_when_the_promotion_is_durable() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.nodes[1].meta_held = true;
    let id = pair.start(1, Command::Primary { force: true });
    pair.run();
    assert!(!pair.nodes[1].serving && !pair.nodes[1].done.contains_key(&id));
    // A disk that hangs does not keep the operator waiting for ever.
    pair.wait(7_000_000);
    assert!(
        pair.nodes[1].done[&id]
            .as_ref()
            .is_err_and(|why| why.contains("disk"))
    );
    assert!(!pair.nodes[1].serving);
    pair.nodes[1].meta_held = false;
    pair.run();
    assert!(pair.nodes[1].serving);
}

#[test]
fn a_node_that_is_about_to_be_resynced_is_not_promoted_even_by_force() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.ok(0, Command::Secondary { force: true });
    pair.nodes[0].meta_held = true;
    pair.start(0, Command::Primary { force: true });
    pair.network = true;
    pair.run();
    // The word that the resync begins is still to come.
    assert_eq!(pair.nodes[1].replication(), ReplicationState::WFBitMapT);
    assert_eq!(pair.nodes[1].disk(), DiskState::Consistent);
    let refusal = pair.command(1, Command::Primary { force: true });
    assert!(refusal.is_err(), "{refusal:?}");
    pair.nodes[0].meta_held = false;
    pair.wait(1_000_000);
    pair.assert_in_sync();
}
#[test]
fn a_restarted_primary_cools_its_extents_next_to_the_new_primary() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.reboot(0);
    pair.ok(1, Command::Primary { force: true });
    pair.heal();
    // Long enough for idle extents and the bitmap's pages: only the own disk is flushed for them.
    pair.wait(30_000_000);
    assert_eq!(pair.nodes[0].status().volumes[0].activity_hot, 0);
    assert!(!pair.nodes[1].logged("broke the protocol"));
    pair.assert_in_sync();
}

/// The operator's word comes while the peer flushes: what the answer to that would have said is known already.
#[test]
fn identical_disks_are_declared_while_a_flush_is_under_way() {
    let mut pair = Pair::ready();
    pair.ok(0, Command::Secondary { force: true });
    pair.ok(0, Command::InvalidateRemote { volume: 0 });
    let mut seen = false;
    for _ in 0..400 {
        pair.now += 50_000;
        pair.handle(0, Event::Tick);
        pair.handle(1, Event::Tick);
        let flushes = |sent: &Sent| matches!(sent.frame, Frame::Flush { .. });
        if pair.nodes[0].out.iter().any(flushes) {
            seen = true;
            break;
        }
        pair.run();
    }
    assert!(seen, "the bitmap is saved after a flush of both");
    pair.start(1, Command::NewCurrentUuid);
    pair.wait(1_000_000);
    pair.assert_in_sync();
}

#[test]
fn a_promotion_whose_disk_fails_before_it_is_saved_does_not_take_place() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.nodes[1].meta_held = true;
    let promotion = pair.start(1, Command::Primary { force: true });
    pair.run();
    assert_eq!(pair.nodes[1].role(), Role::Primary, "it is being saved");
    pair.nodes[1].metas_fail = true;
    pair.nodes[1].meta_held = false;
    pair.run();
    let refusal = pair.nodes[1].done[&promotion].clone().expect_err("failed");
    assert!(
        refusal.contains("before the promotion was saved"),
        "{refusal}"
    );
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
    assert!(!pair.nodes[1].serving);
}

/// A promoted source serves clients what the target does not have. Both may have stopped as Primary in one generation, and
/// then only the durable word that its copy is not whole keeps the target from becoming the source after a power cut of both.
#[test]
fn a_source_serves_no_clients_before_its_target_is_durably_one() {
    for slow_source in [false, true] {
        let mut pair = Pair::ready();
        pair.write(0, 0, 4096, 1);
        pair.run();
        pair.reboot(0);
        pair.nodes[0].meta_held = true;
        pair.nodes[1].meta_held = slow_source;
        pair.heal();
        let command = pair.start(1, Command::Primary { force: false });
        // Longer than a silent peer is waited for.
        pair.wait(2_000_000);
        if slow_source {
            pair.nodes[1].meta_held = false;
            pair.wait(2_000_000);
        }
        assert_eq!(pair.nodes[0].disk(), DiskState::Inconsistent);
        assert!(!pair.nodes[1].serving, "the target could come back whole");
        pair.nodes[0].meta_held = false;
        pair.wait(1_000_000);
        assert_eq!(
            pair.nodes[1].done.get(&command),
            Some(&Ok("now Primary".into()))
        );
        assert!(pair.nodes[1].serving);
        pair.assert_in_sync();
    }
}

#[test]
fn a_target_that_cannot_save_what_it_is_does_not_hold_up_the_command_for_ever() {
    let mut pair = Pair::ready();
    pair.write(0, 0, 4096, 1);
    pair.run();
    pair.reboot(0);
    pair.nodes[0].meta_held = true;
    pair.heal();
    let command = pair.start(1, Command::Primary { force: false });
    pair.wait(7_000_000);
    let answer = pair.nodes[1].done.get(&command).cloned();
    assert!(answer.is_some_and(|a| a.is_err()));
    // Nor does it keep anything of it.
    pair.nodes[0].meta_held = false;
    pair.wait(1_000_000);
    assert_eq!(pair.nodes[1].role(), Role::Secondary);
    pair.ok(0, Command::Primary { force: false });
    pair.assert_in_sync();
}
