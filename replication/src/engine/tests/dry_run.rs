//! What a connection would lead to, asked without making one; and what `explain` says.

use super::*;
use crate::lineage::{AfterSb0Pri, AfterSb1Pri, AfterSb2Pri, RrConflict, Verdict};

const DRY: Command = Command::DryRun {
    discard_my_data: false,
};
const DRY_DISCARD: Command = Command::DryRun {
    discard_my_data: true,
};
const CONNECT: Command = Command::Connect {
    discard_my_data: false,
};

/// Everything durable of both nodes.
fn disks(pair: &Pair) -> Vec<Vec<u8>> {
    let all = pair
        .nodes
        .iter()
        .flat_map(|n| n.disks.iter().chain(&n.metas));
    all.cloned().collect()
}

/// What a node expects of its first volume.
fn foretold(pair: &Pair, n: usize) -> Verdict {
    let (_, found) = pair.nodes[n].engine.forecasts(pair.now);
    assert_eq!(found.len(), 2, "a forecast for each volume");
    assert!(found.iter().all(|one| one.tentative));
    found[0].decision.verdict
}

fn decided(pair: &Pair, n: usize) -> Verdict {
    pair.nodes[n].engine.explanations(pair.now).1[0]
        .decision
        .verdict
}

/// Has node `n` make a dry run while the other one looks for it, checks that nothing changed, and returns what both expect.
fn dry_run(pair: &mut Pair, n: usize, command: Command) -> [Verdict; 2] {
    // What is saved now and then anyway.
    pair.wait(60_000_000);
    let before = disks(pair);
    let states = |pair: &Pair| {
        [0, 1].map(|n| {
            let status = pair.nodes[n].status();
            let volumes = status.volumes.iter();
            let volumes = volumes.map(|v| (v.disk, v.current_uuid, v.bitmap_uuid, v.out_of_sync));
            (status.role, volumes.collect::<Vec<_>>())
        })
    };
    let was = states(pair);
    let id = pair.start(n, command);
    pair.wait(2_000_000);
    let said = pair.nodes[n].done[&id].clone();
    assert!(
        said.clone().unwrap().contains("nothing was changed"),
        "{said:?}"
    );
    assert_eq!(states(pair), was);
    assert!(disks(pair) == before, "a dry run wrote something");
    assert_eq!(
        pair.nodes[n].status().connection,
        ConnectionState::StandAlone
    );
    assert_ne!(
        pair.nodes[1 - n].status().connection,
        ConnectionState::StandAlone
    );
    for node in &pair.nodes {
        assert!(node.logged("dry run of"), "{:?}", node.logs);
        node.assert_no_buffer_missing();
    }
    [foretold(pair, 0), foretold(pair, 1)]
}

#[test]
fn a_peer_that_is_behind_is_foretold_and_then_it_is_so() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.write(0, 0, 8192, 7);
    pair.run();
    pair.ok(1, Command::Disconnect);
    pair.heal();
    let found = dry_run(&mut pair, 1, DRY);
    let expected = [
        Verdict::Source { full: false },
        Verdict::Target { full: false },
    ];
    // The one that asks is alone; the other one looked for it. Both would copy the two blocks.
    assert_eq!(found, expected);
    let (_, forecast) = pair.nodes[0].engine.forecasts(pair.now);
    assert_eq!(forecast[0].bounds(false), (2, 2));
    assert!(
        pair.nodes[0].logged("dry run of the peer: vol0: resync by bitmap of 2 blocks (8 KiB)")
    );
    // Asked a second time it is the same.
    assert_eq!(dry_run(&mut pair, 1, DRY), expected);
    pair.ok(1, CONNECT);
    pair.wait(3_000_000);
    pair.assert_in_sync();
    assert_eq!([decided(&pair, 0), decided(&pair, 1)], expected);
    for node in &pair.nodes {
        assert!(node.engine.forecasts(pair.now).1.is_empty(), "it is stale");
    }
}

#[test]
fn two_that_are_in_sync_and_one_that_knows_nothing() {
    let mut pair = Pair::ready();
    pair.ok(0, Command::Secondary { force: false });
    pair.ok(0, Command::Disconnect);
    pair.wait(1_000_000);
    assert_eq!(dry_run(&mut pair, 0, DRY), [Verdict::InSync; 2]);
    let mut pair = Pair::new();
    pair.ok(1, Command::Primary { force: true });
    pair.cut();
    pair.ok(0, Command::Disconnect);
    pair.heal();
    let found = dry_run(&mut pair, 0, DRY);
    assert!(matches!(found[0], Verdict::Target { .. }), "{found:?}");
    assert_eq!(found[0].mirrored(), found[1]);
}

/// Both went on alone.
fn split(a: EngineConfig, b: EngineConfig) -> Pair {
    let mut pair = Pair::with(a, b);
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair.cut();
    pair.ok(1, Command::Primary { force: true });
    pair.write(0, 4096, 4096, 2);
    pair.write(1, 8192, 8192, 3);
    pair.run();
    pair.network = true;
    pair
}

#[test]
fn a_split_brain_is_foretold_and_what_giving_up_would_do() {
    let mut pair = split(config("a", "b"), config("b", "a"));
    pair.ok(1, Command::Secondary { force: false });
    pair.wait(3_000_000);
    for node in &pair.nodes {
        assert_eq!(node.status().connection, ConnectionState::StandAlone);
    }
    // Node 1 has been told of the split brain; now node 0 looks for it, and node 1 only asks.
    pair.ok(0, CONNECT);
    assert_eq!(dry_run(&mut pair, 1, DRY), [Verdict::SplitBrain; 2]);
    let text = pair.nodes[1].engine.forecasts(pair.now).1[0].to_string();
    assert!(
        text.contains("after-sb-1pri disconnect: the operator decides"),
        "{text}"
    );
    assert!(text.contains("would be   split brain"), "{text}");
    let found = dry_run(&mut pair, 1, DRY_DISCARD);
    let expected = [
        Verdict::Source { full: false },
        Verdict::Target { full: false },
    ];
    assert_eq!(found, expected);
    pair.ok(
        1,
        Command::Connect {
            discard_my_data: true,
        },
    );
    pair.wait(3_000_000);
    pair.assert_in_sync();
    assert_eq!([decided(&pair, 0), decided(&pair, 1)], expected);
    assert_eq!(pair.nodes[1].disks[0][8192], 0);
    // A Primary gives nothing up, not even for a try.
    pair.ok(0, Command::Disconnect);
    let refused = pair.command(0, DRY_DISCARD).unwrap_err();
    assert!(refused.contains("'secondary'"), "{refused}");
}

#[test]
fn both_may_ask_at_the_same_time() {
    let mut pair = split(config("a", "b"), config("b", "a"));
    pair.wait(60_000_000);
    let before = disks(&pair);
    let ids = [pair.start(0, DRY), pair.start(1, DRY)];
    pair.wait(2_000_000);
    for (node, id) in pair.nodes.iter().zip(ids) {
        assert!(node.done[&id].is_ok(), "{:?}", node.done[&id]);
        assert!(node.logged("dry run of both nodes"));
        assert_eq!(node.status().connection, ConnectionState::StandAlone);
        // What is to be done about the split brain is still to be read.
        assert!(node.status().reason.contains("split brain"));
    }
    assert!(disks(&pair) == before);
    assert_eq!(foretold(&pair, 0), Verdict::SplitBrain);
}

#[test]
fn nobody_is_met() {
    let mut pair = Pair::ready();
    pair.cut();
    // A node that looks for its peer goes on doing so, one that does not stays alone.
    for (alone, after) in [
        (false, ConnectionState::Connecting),
        (true, ConnectionState::StandAlone),
    ] {
        if alone {
            pair.ok(0, Command::Disconnect);
        }
        let id = pair.start(0, DRY);
        let second = pair.command(0, DRY).unwrap_err();
        assert!(second.contains("under way"));
        pair.wait(29_000_000);
        assert!(!pair.nodes[0].done.contains_key(&id));
        pair.wait(2_000_000);
        let said = pair.nodes[0].done[&id].clone().unwrap_err();
        assert!(said.contains("was not met"), "{said}");
        let now = pair.nodes[0].status().connection;
        assert!(now == after || !alone && now == ConnectionState::Unconnected);
    }
    // What comes afterwards is a connection like any other.
    pair.ok(0, CONNECT);
    pair.heal();
    pair.assert_in_sync();
}

#[test]
fn other_commands_overtake_it() {
    for command in [CONNECT, Command::Disconnect] {
        let mut pair = Pair::ready();
        pair.cut();
        pair.ok(0, Command::Disconnect);
        let id = pair.start(0, DRY);
        pair.ok(0, command);
        assert!(
            pair.nodes[0].done[&id]
                .clone()
                .unwrap_err()
                .contains("overtook")
        );
        pair.heal();
        if command == CONNECT {
            pair.assert_in_sync();
        } else {
            let status = pair.nodes[0].status();
            assert_eq!(status.connection, ConnectionState::StandAlone);
        }
    }
}

#[test]
fn a_connect_right_behind_the_answer_connects() {
    let mut pair = Pair::ready();
    pair.ok(0, Command::Secondary { force: false });
    pair.ok(0, Command::Disconnect);
    pair.wait(1_000_000);
    let id = pair.start(0, DRY);
    for _ in 0..1_000_000 {
        if pair.nodes[0].done.contains_key(&id) {
            break;
        }
        if !pair.step() {
            pair.wait(100_000);
        }
    }
    assert!(pair.nodes[0].done[&id].is_ok());
    pair.ok(0, CONNECT);
    pair.wait(3_000_000);
    pair.assert_in_sync();
}

#[test]
fn connected_nodes_are_referred_to_what_was_decided() {
    let mut pair = Pair::ready();
    let refused = pair.command(0, DRY).unwrap_err();
    assert!(refused.contains("connected already"), "{refused}");
    pair.assert_in_sync();
    let (since, found) = pair.nodes[0].engine.explanations(pair.now + 5_000_000);
    assert!(since >= 5_000_000 && found.len() == 2);
}

#[test]
fn a_misfit_is_told_and_not_tried_again_by_one_that_stands_alone() {
    let mut b = config("b", "a");
    b.resource = Name::try_from("r1").unwrap();
    let mut pair = Pair::with(config("a", "b"), b);
    pair.ok(0, Command::Disconnect);
    pair.wait(20_000_000);
    let id = pair.start(0, DRY);
    pair.wait(5_000_000);
    let said = pair.nodes[0].done[&id].clone().unwrap_err();
    assert!(said.contains("make 'resource' the same"), "{said}");
    assert_eq!(
        pair.nodes[0].status().connection,
        ConnectionState::StandAlone
    );
}

#[test]
fn one_volume_keeps_both_apart_and_both_are_explained() {
    let mut pair = Pair::ready();
    pair.cut();
    pair.ok(1, Command::Primary { force: true });
    pair.heal();
    for node in &pair.nodes {
        let (_, found) = node.engine.explanations(pair.now);
        assert_eq!(found.len(), 2);
        for one in found {
            assert_eq!(one.hindered_by, Some(0));
            assert_eq!(one.decision.verdict, Verdict::SplitBrain);
        }
        assert!(found[1].to_string().contains("because of vol0"));
    }
}

/// Two Primaries with policies that settle everything; neither looks for the other.
fn two_primaries() -> Pair {
    let policies = crate::lineage::Policies {
        after_sb_0pri: AfterSb0Pri::DiscardLeastChanges,
        after_sb_1pri: AfterSb1Pri::Violently,
        after_sb_2pri: AfterSb2Pri::Violently,
        rr_conflict: RrConflict::Violently,
        always_asbp: false,
    };
    let with = |node, peer| EngineConfig {
        policies,
        ..config(node, peer)
    };
    let mut pair = split(with("a", "b"), with("b", "a"));
    for n in 0..2 {
        pair.ok(n, Command::Disconnect);
    }
    pair
}

#[test]
fn two_primaries_are_reconciled_by_policy_and_it_is_foretold() {
    let mut pair = two_primaries();
    // Node 0 has changed less on both volumes.
    pair.submit_to(1, 1, 0, |node| {
        let buf = node.pool.alloc(4096).expect("memory");
        node.memory.bytes_mut(buf.view()).fill(9);
        ClientOp::Write { buf, fua: false }
    });
    pair.ok(1, CONNECT);
    let found = dry_run(&mut pair, 0, DRY);
    assert_eq!(
        found,
        [Verdict::TargetAfterDemotion, Verdict::SourceAfterDemotion]
    );
    for node in &pair.nodes {
        assert_eq!(node.role(), Role::Primary, "nothing was done");
    }
    pair.ok(0, CONNECT);
    pair.wait(10_000_000);
    pair.assert_in_sync();
    assert_eq!(pair.nodes[0].role(), Role::Secondary);
    assert_eq!(pair.nodes[0].disks[0][4096], 0, "its write is given up");
    assert_eq!(pair.nodes[0].disks[1][0], 9);
}

#[test]
fn policies_that_name_another_loser_for_each_volume_leave_it_to_the_operator() {
    let mut pair = two_primaries();
    // On vol0 node 0 has changed less; on vol1 neither has, and the node whose name sorts last would lose.
    pair.ok(1, CONNECT);
    assert_eq!(dry_run(&mut pair, 0, DRY), [Verdict::SplitBrain; 2]);
    let text = pair.nodes[0].engine.forecasts(pair.now).1[1].to_string();
    assert!(text.contains("the volumes differ in who loses"), "{text}");
    pair.ok(0, CONNECT);
    pair.wait(10_000_000);
    for node in &pair.nodes {
        assert_eq!(node.role(), Role::Primary);
        assert_eq!(node.status().connection, ConnectionState::StandAlone);
        assert!(node.status().reason.contains("split brain"));
    }
    assert_eq!(pair.nodes[0].disks[0][4096], 2);
    assert_eq!(pair.nodes[1].disks[0][8192], 3);
}
