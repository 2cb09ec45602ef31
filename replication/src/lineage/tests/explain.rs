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
        decision: decide(&mine, &peer, policies),
        mine,
        peer,
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
  result     12345 to 12400 blocks go from this node to the peer";
    assert_eq!(said, expected);
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
        said.contains("settled by the policy after-sb-0pri\n"),
        "{said}"
    );
    assert!(
        said.ends_with("would be   7 blocks go from the peer to this node"),
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
            .ends_with("all 262144 blocks go from this node to the peer")
    );
    let said = explain(mine, peer, &Policies::default()).to_string();
    assert!(
        said.ends_with("split brain: no connection, the operator must decide"),
        "{said}"
    );
    let said = explain(up(9, 5, 0), primary(up(5, 0, 0)), &policies).to_string();
    assert!(said.contains("the peer is Primary"), "{said}");
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
        large in any::<bool>(),
    ) {
        let large = |side: Side| if large {
            with(side, |s| (s.dirty, s.current) = (u64::MAX >> 12, s.current | 1 << 63))
        } else {
            side
        };
        let explanation = Explanation {
            blocks: u64::MAX >> 12,
            volume: u16::MAX,
            ..explain(large(a), large(b), &policies)
        };
        let said = explanation.to_string();
        prop_assert_eq!(lines_fit(&said), Ok(()));
        prop_assert!(said.contains(explanation.decision.rule.text()));
    }
}
