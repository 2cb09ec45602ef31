//! Protocols A and B, and congestion.

use super::*;
use replication::api::{Mirroring, OnCongestion, Protocol, ReplicationState};

/// Clients busy over a slow network, so that the peer lags.
fn far(protocol: Protocol, on_congestion: OnCongestion) -> Plan {
    Plan {
        net_delay: (3_000, 6_000),
        mirroring: Mirroring {
            protocol,
            on_congestion,
            congestion_fill: 64 << 10,
            congestion_extents: None,
        },
        ..loaded(64)
    }
}

#[test]
fn a_failover_under_protocols_a_and_b_loses_at_most_a_suffix_and_by_b_nothing() {
    for protocol in [Protocol::A, Protocol::B] {
        let plan = far(protocol, OnCongestion::Block);
        each_seed(&plan, |world| {
            let lags = |w: &mut World| w.status(0).is_some_and(|s| s.volumes[0].lag_bytes > 0);
            world.run_for(300_000);
            world.wait("the peer lags", lags).expect("it is far away");
            world.power_cut(0);
            world.run_for(700_000);
            world
                .command(1, Command::Primary { force: true })
                .expect("the operator's word");
            world.run_for(300_000);
            world.boot(0);
            world.wait_in_sync().expect("the old Primary follows");
            assert_eq!(world.role(0), Some(Role::Secondary));
        });
    }
}

#[test]
fn a_switchover_under_protocol_a_loses_nothing() {
    each_seed(&far(Protocol::A, OnCongestion::Block), |world| {
        world.run_for(300_000);
        world
            .command(0, Command::Secondary { force: true })
            .expect("demoted");
        assert_eq!(world.status(0).map(|s| s.volumes[0].lag_bytes), Some(0));
        world
            .command(1, Command::Primary { force: false })
            .expect("promoted without force");
    });
}

#[test]
fn a_primary_that_pulls_ahead_and_dies_leaves_a_peer_that_says_it_is_outdated() {
    each_seed(&far(Protocol::A, OnCongestion::PullAhead), |world| {
        world.slow_disk(1, 2_000_000);
        let ahead = |w: &mut World| {
            w.status(0).is_some_and(|s| {
                s.volumes[0].replication == ReplicationState::Ahead && s.volumes[0].out_of_sync > 0
            })
        };
        world
            .wait("the Primary is ahead", ahead)
            .expect("too much for the disk");
        world.power_cut(0);
        world.run_for(700_000);
        assert!(world.disk(1, 0) <= Some(DiskState::Outdated));
        let refusal = world.command(1, Command::Primary { force: false });
        assert!(refusal.is_err(), "{refusal:?}");
        world.boot(0);
        world
            .wait_in_sync()
            .expect("brought in sync by the old Primary");
    });
}
