//! What an operator changes while the engine runs.

use super::*;
use crate::engine::Tuning;

/// What a node goes by, with a change.
fn tuned(pair: &Pair, n: usize, change: impl FnOnce(&mut Tuning)) -> Tuning {
    let config = &pair.nodes[n].engine.config;
    let mut tuning = Tuning {
        timers: config.timers,
        policies: config.policies,
        trouble: config.trouble,
        resync: config.resync,
        on_congestion: config.mirroring.on_congestion,
        congestion_fill: config.mirroring.congestion_fill,
        congestion_extents: config.mirroring.congestion_extents,
        fence_timeout: config.fencing.timeout,
        auto_promote: config.fencing.auto_promote,
        promote_at_loss: config.fencing.promote_at_loss,
    };
    change(&mut tuning);
    tuning
}

fn tune(pair: &mut Pair, n: usize, change: impl FnOnce(&mut Tuning)) -> Result<(), String> {
    let tuning = tuned(pair, n, change);
    let said = pair.nodes[n].engine.tune(&tuning);
    pair.handle(n, Event::Tick);
    said.map_err(|why| why.to_string())
}

#[test]
fn a_shorter_timeout_counts_for_a_peer_that_falls_silent() {
    let mut pair = Pair::ready();
    let was = pair.nodes[0].engine.config.timers;
    tune(&mut pair, 0, |tuning| {
        tuning.timers.timeout = 1_000_000;
        tuning.timers.ping_interval = 300_000;
    })
    .unwrap();
    assert!(was.timeout > 2_000_000);
    pair.black_hole = true;
    pair.network = false;
    let write = pair.write(0, 0, 4096, 1);
    pair.wait(1_400_000);
    assert_eq!(pair.reply(0, write), Some(Ok(())));
    assert!(pair.nodes[0].logged("was silent for 1000 ms"));
}

#[test]
fn a_disk_timeout_that_is_set_counts_for_what_is_under_way_and_none_gives_nothing_up() {
    let mut pair = Pair::ready();
    tune(&mut pair, 0, |tuning| tuning.trouble.disk_timeout = 0).unwrap();
    pair.nodes[0].disk_held = true;
    let write = pair.write(0, 0, 4096, 1);
    pair.wait(600_000_000);
    assert_eq!(pair.nodes[0].disk(), DiskState::UpToDate);
    assert_eq!(pair.reply(0, write), None);
    tune(&mut pair, 0, |tuning| {
        tuning.trouble.disk_timeout = 8_000_000
    })
    .unwrap();
    pair.wait(2_100_000);
    assert_eq!(pair.nodes[0].disk(), DiskState::Failed);
    assert_eq!(pair.reply(0, write), Some(Ok(())), "from the peer's disk");
    pair.nodes[0].disk_held = false;
    pair.run();
    pair.nodes[0].assert_no_buffer_missing();

    // And the other way round: nobody is given up any more.
    let mut pair = Pair::ready();
    tune(&mut pair, 0, |tuning| {
        tuning.trouble.disk_timeout = 5_000_000
    })
    .unwrap();
    pair.nodes[0].disk_held = true;
    pair.write(0, 0, 4096, 1);
    pair.wait(4_000_000);
    tune(&mut pair, 0, |tuning| tuning.trouble.disk_timeout = 0).unwrap();
    pair.wait(600_000_000);
    assert_eq!(pair.nodes[0].disk(), DiskState::UpToDate);
}

#[test]
fn nothing_is_changed_in_a_handshake_and_no_times_under_a_command() {
    let mut pair = Pair::ready();
    // The promotion asks the peer, who does not answer that any more.
    pair.ok(0, Command::Secondary { force: false });
    let id = pair.start(1, Command::Primary { force: false });
    while pair.nodes[1].engine.task.is_none() {
        assert!(pair.step());
    }
    pair.black_hole = true;
    pair.network = false;
    let busy = tune(&mut pair, 1, |tuning| tuning.timers.timeout = 600_000_000);
    assert_eq!(
        busy,
        Err("a command or a promotion is being carried out: try again".into())
    );
    assert!(pair.nodes[1].engine.config.timers.timeout < 600_000_000);
    tune(&mut pair, 1, |tuning| tuning.resync.csums = true).unwrap();
    pair.wait(10_000_000);
    assert!(pair.nodes[1].done.contains_key(&id));
    tune(&mut pair, 1, |tuning| tuning.timers.timeout = 600_000_000).unwrap();

    pair.nodes[0].engine.config.timers.timeout = 600_000_000;
    pair.nodes[1].engine.link.state = ConnectionState::Handshake;
    let refused = tune(&mut pair, 1, |tuning| tuning.resync.csums = false);
    assert_eq!(
        refused,
        Err("the nodes are in the midst of a handshake: try again".into())
    );
    assert!(pair.nodes[1].engine.config.resync.csums);
}

#[test]
fn limits_and_policies_are_those_of_the_engine_afterwards() {
    let mut pair = Pair::ready();
    let protocol = pair.nodes[0].engine.config.mirroring.protocol;
    tune(&mut pair, 0, |tuning| {
        tuning.resync.limits.max_rate = Some(1 << 20);
        tuning.resync.max_parallel = Some(1);
        tuning.on_congestion = OnCongestion::Disconnect;
        tuning.congestion_fill = 64 << 10;
        tuning.congestion_extents = Some(3);
        tuning.fence_timeout = 7_000_000;
        tuning.auto_promote = true;
        tuning.trouble.on_no_data = OnNoData::IoError;
    })
    .unwrap();
    let engine = &pair.nodes[0].engine;
    assert_eq!(engine.controller.rate(), Some(1 << 20));
    let mirroring = engine.config.mirroring;
    assert_eq!(mirroring.protocol, protocol);
    assert_eq!(mirroring.on_congestion, OnCongestion::Disconnect);
    assert_eq!(mirroring.congestion_fill, 64 << 10);
    assert_eq!(mirroring.congestion_extents, Some(3));
    assert_eq!(engine.config.fencing.timeout, 7_000_000);
    assert!(engine.status(pair.now).auto_promote);
    assert_eq!(engine.config.trouble.on_no_data, OnNoData::IoError);
    // And the pair goes on as ever.
    let write = pair.write(0, 0, 4096, 1);
    pair.run();
    assert_eq!(pair.reply(0, write), Some(Ok(())));
    pair.assert_in_sync();
}
