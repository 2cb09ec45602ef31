//! Checksums and segmentation by the device.

use super::super::offload::{Features, TSO_FRAME_MAX};
use super::super::testnet::Traffic;
use super::super::testnet::driver::verify_rx;
use super::*;

const ALL: Features = Features {
    tx_checksum: true,
    tx_segmentation: true,
    rx_checksum: true,
};

fn transfer(features: Features, big_frames: bool, mtu: usize) -> (Traffic, Vec<Vec<u8>>) {
    let mut world = World::new(42);
    world.features = features;
    world.big_frames = big_frames;
    world.mtu = mtu;
    let mut config = group(4);
    config.rx_bytes = 1 << 20;
    config.tx_bytes = 1 << 20;
    let mut a = world.node(1, &[config]);
    let mut b = world.node(2, &[config]);
    world.segment.borrow_mut().trace = Some(Vec::new());
    let conns = connect(&mut world, &mut a, &mut b);
    let took = exchange(&mut world, &mut a, &mut b, conns, 1 << 20, 10 * SECOND);
    assert!(took < SECOND / 2, "{took} us: something was retransmitted");
    let trace = world.segment.borrow_mut().trace.take().expect("traced");
    (world.traffic(&a), trace)
}

#[test]
fn the_device_completes_checksums() {
    let features = Features {
        tx_checksum: true,
        ..Features::default()
    };
    // The receiver verifies in software: a wrong sum would be lost.
    let (_, trace) = transfer(features, false, 1500);
    assert!(trace.iter().all(|frame| verify_rx(frame)));
}

#[test]
fn the_device_cuts_large_frames() {
    let features = Features {
        rx_checksum: false,
        ..ALL
    };
    let (traffic, trace) = transfer(features, false, 1500);
    assert!(
        trace
            .iter()
            .all(|frame| frame.len() <= 1514 && verify_rx(frame))
    );
    assert!(
        traffic.tx_bytes / traffic.tx_frames > 3000,
        "frames handed over were large: {traffic:?}"
    );
}

#[test]
fn large_frames_are_received_whole() {
    let (_, trace) = transfer(ALL, true, 1500);
    let longest = trace.iter().map(Vec::len).max().expect("frames");
    assert!(longest > 30_000, "{longest}");
    assert!(longest <= TSO_FRAME_MAX);
}

#[test]
fn large_frames_at_a_large_mtu() {
    let (_, trace) = transfer(ALL, true, 9000);
    assert!(trace.iter().any(|frame| frame.len() > 9014));
}

#[test]
fn a_frame_that_nobody_vouched_for_is_verified() {
    let mut world = World::new(1);
    let mut a = world.node(1, &[group(2)]);
    let mut b = world.node(2, &[group(2)]);
    world.segment.borrow_mut().trace = Some(Vec::new());
    let (at_a, _) = connect(&mut world, &mut a, &mut b);
    pump_out(&mut a, at_a, &mut Flow::new(), 999);
    world.turn(&mut [&mut a, &mut b]);
    let frames = world.segment.borrow_mut().trace.take().expect("traced");
    let mut frame = frames.iter().max_by_key(|f| f.len()).expect("data").clone();
    assert!(frame.len() > 999 && verify_rx(&frame));
    frame[500] ^= 4;
    assert!(!verify_rx(&frame));
    // Neither too short nor foreign frames are its business.
    assert!(verify_rx(&frame[..20]) && verify_rx(&[]));
    frame[12] = 0x86;
    assert!(verify_rx(&frame));
}
