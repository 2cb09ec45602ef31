//! What people are told.

use super::super::*;
use super::{dirty, primary, up, with};
use crate::api::DiskState;
use proptest::prelude::*;
use std::string::{String, ToString};

fn explain(mine: Side, peer: Side, policies: &Policies) -> Explanation {
    Explanation {
        volume: 0,
        blocks: 262_144,
        grows: None,
        decision: decide(&mine, &peer, policies),
        mine,
        peer,
        mine_wants: *policies,
        peer_wants: *policies,
        forgotten: 0,
        hindered_by: None,
        contradicted: false,
        tentative: false,
    }
}

#[test]
fn the_rule_the_evidence_and_what_follows() {
    let mine = primary(dirty(up(0x9a, 0x5b, 0), 12_345));
    let peer = with(dirty(up(0x5b, 0, 0x11), 55), |s| {
        (s.disk, s.crashed, s.was_primary) = (DiskState::Consistent, true, true);
    });
    let said = explain(mine, peer, &Policies::default()).to_string();
    let expected = "\
vol0: one node went on from exactly the other's generation
  rule       50/70 in DRBD's table
  this node  current 000000000000009a  bitmap 000000000000005b
             history 0000000000000000  0000000000000000
             UpToDate, Primary, 12345 blocks dirty
  peer       current 000000000000005b  bitmap 0000000000000000
             history 0000000000000011  0000000000000000
             Consistent, Secondary, 55 blocks dirty
             crashed as Primary, Primary when the peer was lost
  result     resync by bitmap of 12345 to 12400 blocks (48.2 MiB to 48.4 MiB)
             from this node to the peer";
    assert_eq!(said, expected);
}

#[test]
fn what_grows_first_is_copied_too() {
    let (mine, peer) = (dirty(up(5, 0, 0), 2307), dirty(up(9, 5, 0), 7));
    let grown = Explanation {
        blocks: 5120,
        grows: Some(Grows {
            here: true,
            from: 11 << 20,
            to: 20 << 20,
        }),
        ..explain(mine, peer, &Policies::default())
    };
    assert_eq!(grown.bounds(false), (2307, 2314));
    let said = grown.to_string();
    assert!(
        said.contains("  first      this node grows from 11 MiB to 20 MiB\n  result"),
        "{said}"
    );
    let there = Explanation {
        grows: Some(Grows {
            here: false,
            from: 1000,
            to: 9000,
        }),
        blocks: 3,
        ..explain(dirty(mine, 0), dirty(peer, 2), &Policies::default())
    };
    assert_eq!(
        there.bounds(false),
        (2, 3),
        "the first block may be dirty already"
    );
    let said = there.summary().to_string();
    assert!(
        said.ends_with("; first the peer grows from 1000 B to 8.7 KiB"),
        "{said}"
    );
}

#[test]
fn who_settled_it_and_that_nothing_was_done_yet() {
    let policies = Policies {
        after_sb_0pri: AfterSb0Pri::DiscardZeroChanges,
        ..Policies::default()
    };
    let (mine, peer) = (up(9, 5, 0), dirty(up(8, 5, 0), 7));
    let dry_run = Explanation {
        tentative: true,
        ..explain(mine, peer, &policies)
    };
    let said = dry_run.to_string();
    assert!(
        said.contains(
            "policy     after-sb-0pri discard-zero-changes: this node's changes are given\n"
        ),
        "{said}"
    );
    assert!(
        said.ends_with(
            "would be   resync by bitmap of 7 blocks (28 KiB) from the peer to this node"
        ),
        "{said}"
    );
    let given_up = with(mine, |s| s.discard = true);
    let said = explain(given_up, peer, &Policies::default()).to_string();
    assert!(
        said.contains("by the operator, who gave this node's changes up"),
        "{said}"
    );
    let said = explain(
        up(9, 0, 0),
        with(up(0, 0, 0), |s| s.disk = DiskState::Inconsistent),
        &policies,
    );
    assert!(
        said.to_string()
            .ends_with("full resync of all 262144 blocks (1 GiB) from this node to the peer")
    );
    let said = explain(mine, peer, &Policies::default()).to_string();
    assert!(
        said.ends_with("split brain: no connection, the operator must decide"),
        "{said}"
    );
    let said = explain(up(9, 5, 0), primary(up(5, 0, 0)), &policies).to_string();
    assert!(said.contains("the peer is Primary"), "{said}");
}

/// The lines about policies, in one.
fn asked(said: &str) -> String {
    let lines = said.lines().map(str::trim);
    let lines =
        lines.skip_while(|line| !line.starts_with("policy") && !line.starts_with("policies"));
    let lines = lines.take_while(|line| !line.starts_with("result"));
    lines.collect::<std::vec::Vec<_>>().join(" ")
}

#[test]
fn every_policy_that_was_asked_is_named_with_its_answer() {
    let split = (up(9, 5, 0), dirty(up(8, 5, 0), 7));
    let said = |mine, peer, policies: &Policies| asked(&explain(mine, peer, policies).to_string());
    assert_eq!(
        said(split.0, split.1, &Policies::default()),
        "policy     after-sb-0pri disconnect: the operator decides"
    );
    let consensus = Policies {
        after_sb_0pri: AfterSb0Pri::DiscardZeroChanges,
        after_sb_1pri: AfterSb1Pri::Consensus,
        ..Policies::default()
    };
    // The Primary has changed nothing and would lose.
    assert_eq!(
        said(primary(split.0), split.1, &consensus),
        "policy     after-sb-1pri consensus: as after-sb-0pri says \
         policy     after-sb-0pri discard-zero-changes: this node's changes are given up \
         the Primary's changes would be given up: the operator decides"
    );
    let violently = Policies {
        after_sb_1pri: AfterSb1Pri::Violently,
        rr_conflict: RrConflict::Violently,
        ..consensus
    };
    assert_eq!(
        said(primary(split.0), split.1, &violently),
        "policy     after-sb-1pri violently: as after-sb-0pri says \
         policy     after-sb-0pri discard-zero-changes: this node's changes are given up \
         policy     rr-conflict violently: the Primary drops its clients and becomes Secondary"
    );
    let discard = Policies {
        after_sb_1pri: AfterSb1Pri::DiscardSecondary,
        ..Policies::default()
    };
    assert_eq!(
        said(primary(split.0), split.1, &discard),
        "policy     after-sb-1pri discard-secondary: the peer's changes are given up"
    );
    assert_eq!(
        said(primary(split.0), primary(split.1), &violently),
        "policy     after-sb-2pri disconnect: the operator decides"
    );
    let two = Policies {
        after_sb_2pri: AfterSb2Pri::Violently,
        ..violently
    };
    assert!(
        said(primary(split.0), primary(split.1), &two)
            .contains("after-sb-2pri violently: as after-sb-0pri says")
    );
    // Only older generations meet.
    let older = (up(9, 5, 4), up(8, 6, 4));
    assert!(said(older.0, older.1, &consensus).contains("always-asbp false: no policy is asked"));
    assert!(said(up(9, 5, 0), up(8, 6, 0), &two).contains("none is for unrelated data"));
    let different = Explanation {
        peer_wants: Policies::default(),
        ..explain(split.0, split.1, &consensus)
    };
    assert_eq!(
        asked(&different.to_string()),
        "policy     after-sb-0pri differs, discard-zero-changes here and disconnect on the peer: the operator decides"
    );
    let node = Policies {
        after_sb_0pri: AfterSb0Pri::DiscardNode(Order::Second),
        ..Policies::default()
    };
    let first = with(split.0, |s| s.first = true);
    assert!(said(first, split.1, &node).contains("discard-node-(the peer): the peer's changes"));
}

#[test]
fn what_keeps_the_nodes_apart_is_said_of_every_volume() {
    let mut one = explain(up(5, 0, 0), up(5, 0, 0), &Policies::default());
    one.hindered_by = Some(1);
    assert!(one.to_string().ends_with(
        "nothing is copied\n             but the nodes did not connect, because of vol1"
    ));
    assert!(
        one.summary()
            .to_string()
            .ends_with("; no connection because of vol1")
    );
    one.hindered_by = Some(0);
    assert!(!one.to_string().contains("because"));
    one.forgotten = 16;
    let said = one.summary().to_string();
    assert!(
        said.starts_with("vol0: resync by bitmap of 0 to 16 blocks (0 B to 64 KiB) that the peer"),
        "{said}"
    );
}

fn lines_fit(said: &str) -> Result<(), String> {
    match said
        .lines()
        .find(|line| line.len() > 80 || line.ends_with(' '))
    {
        Some(line) => Err(line.to_string()),
        None => Ok(()),
    }
}

proptest! {
    #[test]
    fn every_line_fits_a_terminal(
        (a, b) in super::properties::pair(),
        policies in super::properties::policies(),
        theirs in super::properties::policies(),
        hindered_by in any::<Option<u16>>(),
        large in any::<bool>(),
        grows in any::<Option<(bool, u64)>>(),
    ) {
        let large = |side: Side| if large {
            with(side, |s| (s.dirty, s.current) = (u64::MAX >> 12, s.current | 1 << 63))
        } else {
            side
        };
        let explanation = Explanation {
            blocks: u64::MAX >> 12,
            grows: grows.map(|(here, from)| Grows { here, from, to: u64::MAX }),
            volume: u16::MAX,
            ..explain(large(a), large(b), &policies)
        };
        let explanation = Explanation { peer_wants: theirs, hindered_by, ..explanation };
        let said = explanation.to_string();
        prop_assert!(explanation.summary().to_string().len() < 320);
        prop_assert_eq!(lines_fit(&said), Ok(()));
        prop_assert!(said.contains(explanation.decision.rule.text()));
    }
}
