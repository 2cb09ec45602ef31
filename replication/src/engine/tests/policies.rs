//! Split brains that are settled by policy, to the end: who is overwritten, and who drops its clients.

use super::*;
use crate::lineage::{AfterSb0Pri, AfterSb1Pri, Names, Policies, RrConflict};

const CONNECT: Command = Command::Connect {
    discard_my_data: false,
};

/// Who serves when the nodes meet.
#[derive(Clone, Copy)]
struct Met {
    primary: [bool; 2],
    /// Blocks that each wrote alone.
    wrote: [u64; 2],
}

/// Both went on alone, as Primary; then they met. The blocks of node `n` are filled with `n + 2`.
fn met(policies: Policies, met: Met) -> Pair {
    let with = |node, peer| EngineConfig {
        policies,
        ..config(node, peer)
    };
    let mut pair = Pair::with(with("a", "b"), with("b", "a"));
    pair.ok(0, Command::NewCurrentUuid);
    pair.ok(0, Command::Primary { force: false });
    pair.cut();
    pair.ok(1, Command::Primary { force: true });
    for n in 0..2 {
        for volume in 0..2 {
            for block in 0..met.wrote[n] {
                pair.submit_to(n, volume, (block * 2 + n as u64) * 4096, |node| {
                    let buf = node.pool.alloc(4096).expect("memory");
                    node.memory.bytes_mut(buf.view()).fill(n as u8 + 2);
                    ClientOp::Write { buf, fua: false }
                });
            }
        }
        pair.run();
        if !met.primary[n] {
            pair.ok(n, Command::Secondary { force: false });
        }
    }
    pair.heal();
    pair.wait(10_000_000);
    pair
}

/// Checks that node `winner`'s data is what both have, or that nothing was done without one.
fn assert_kept(pair: &Pair, winner: Option<usize>, what: &str) {
    let Some(winner) = winner else {
        for (n, node) in pair.nodes.iter().enumerate() {
            let status = node.status();
            assert_eq!(status.connection, ConnectionState::StandAlone, "{what}");
            let own = n * 4096;
            let kept = node.disks[0][own];
            assert!(kept == 0 || kept == n as u8 + 2, "{what}: its own data");
        }
        return;
    };
    pair.assert_in_sync();
    let blocks = [pair.nodes[0].disks[0][0], pair.nodes[0].disks[0][4096]];
    let loser = 1 - winner;
    assert_eq!(blocks[winner], winner as u8 + 2, "{what}");
    assert_eq!(blocks[loser], 0, "{what}");
}

#[test]
fn with_no_primary_every_policy_does_what_it_says() {
    let none = [false; 2];
    let nodes = Names::new("a", "b");
    // Node 0 was Primary when the connection was lost, node 1 became it later; but both were it when they last were alone.
    for (name, wrote, winner) in [
        ("disconnect", [1, 2], None),
        ("discard-zero-changes", [1, 0], Some(0)),
        ("discard-zero-changes", [1, 2], None),
        ("discard-least-changes", [1, 2], Some(1)),
        ("discard-least-changes", [2, 1], Some(0)),
        ("discard-node-a", [2, 1], Some(1)),
        ("discard-node-b", [1, 2], Some(0)),
        ("discard-younger-primary", [1, 2], Some(0)),
        ("discard-older-primary", [2, 1], Some(1)),
    ] {
        let after_sb_0pri = AfterSb0Pri::from_name(name, nodes).expect("a policy");
        let policies = Policies {
            after_sb_0pri,
            ..Policies::default()
        };
        let primary = none;
        let pair = met(policies, Met { primary, wrote });
        assert_kept(&pair, winner, name);
    }
}

#[test]
fn with_one_primary_every_policy_does_what_it_says() {
    // Node 0 serves, and has changed less: by after-sb-0pri it would lose.
    let primary = [true, false];
    for (name, rr_conflict, wrote, winner, demoted) in [
        ("disconnect", "violently", [1, 2], None, false),
        ("consensus", "violently", [1, 2], None, false),
        ("consensus", "disconnect", [2, 1], Some(0), false),
        ("call-pri-lost", "violently", [1, 2], None, false),
        ("call-pri-lost", "disconnect", [2, 1], Some(0), false),
        ("discard-secondary", "disconnect", [1, 2], Some(0), false),
        ("violently", "disconnect", [1, 2], None, false),
        ("violently", "call-pri-lost", [1, 2], None, false),
        ("violently", "violently", [1, 2], Some(1), true),
        ("violently", "disconnect", [2, 1], Some(0), false),
    ] {
        let what = std::format!("{name}, rr-conflict {rr_conflict}, {wrote:?}");
        let policies = Policies {
            after_sb_0pri: AfterSb0Pri::DiscardLeastChanges,
            after_sb_1pri: AfterSb1Pri::from_name(name).expect("a policy"),
            rr_conflict: RrConflict::from_name(rr_conflict).expect("a policy"),
            ..Policies::default()
        };
        let pair = met(policies, Met { primary, wrote });
        assert_kept(&pair, winner, &what);
        let role = pair.nodes[0].role();
        assert_eq!(role == Role::Secondary, demoted, "{what}");
        assert_eq!(pair.nodes[0].serving, !demoted, "{what}");
    }
}

#[test]
fn a_node_promoted_on_older_data_is_a_split_brain_whatever_rr_conflict_says() {
    for rr_conflict in [RrConflict::Disconnect, RrConflict::Violently] {
        let policies = Policies {
            rr_conflict,
            ..Policies::default()
        };
        let with = |node, peer| EngineConfig {
            policies,
            ..config(node, peer)
        };
        let mut pair = Pair::with(with("a", "b"), with("b", "a"));
        pair.ok(0, Command::NewCurrentUuid);
        pair.ok(0, Command::Primary { force: false });
        pair.ok(0, Command::Secondary { force: false });
        // Node 1 goes on alone, and stops; then node 0, whose data is older, is promoted by force.
        pair.cut();
        pair.ok(1, Command::Primary { force: true });
        pair.write(1, 0, 4096, 9);
        pair.run();
        pair.ok(1, Command::Secondary { force: false });
        pair.ok(0, Command::Primary { force: true });
        pair.heal();
        pair.wait(10_000_000);
        // That is a split brain, though node 0 wrote nothing: who serves may always write.
        for node in &pair.nodes {
            assert!(node.status().reason.contains("split brain"));
            assert_eq!(node.status().connection, ConnectionState::StandAlone);
        }
        let discard = Command::Connect {
            discard_my_data: true,
        };
        // The operator gives the Primary's changes up, from the other side: it cannot be told to.
        assert!(
            pair.command(0, discard)
                .unwrap_err()
                .contains("'secondary'")
        );
        pair.ok(0, Command::Secondary { force: false });
        pair.ok(0, discard);
        pair.ok(1, CONNECT);
        pair.wait(5_000_000);
        pair.assert_in_sync();
        assert_eq!(pair.nodes[0].disks[0][0], 9);
    }
}
