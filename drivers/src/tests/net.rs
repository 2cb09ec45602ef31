//! virtio-net against the host's end of a NIC.

use alloc::{sync::Arc, vec, vec::Vec};
use core::num::NonZeroU16;
use proptest::prelude::*;
use std::sync::atomic::Ordering::SeqCst;
use virtio_drivers::transport::DeviceStatus;

use crate::{
    DeviceType,
    fake::{FakeHal, FakeNic, FakeTransport, Shared, nic_config},
    net::{Net, NetOptions},
    transport::{ConfigError, F_ANY_LAYOUT, F_EVENT_IDX, F_INDIRECT_DESC, F_VERSION_1, InitError},
    virtq::QueueError,
};

const CSUM: u64 = 1;
const GUEST_CSUM: u64 = 1 << 1;
const MTU: u64 = 1 << 3;
const MAC: u64 = 1 << 5;
const GUEST_TSO: u64 = 3 << 7;
const HOST_TSO: u64 = 3 << 11;
const MRG_RXBUF: u64 = 1 << 15;
const STATUS: u64 = 1 << 16;
const CTRL_VQ: u64 = 1 << 17;
const RING: u64 = F_EVENT_IDX | F_INDIRECT_DESC;
/// QEMU's offer without offloads, as with stream and user networking.
const STREAM: u64 = MAC | STATUS | MRG_RXBUF | CTRL_VQ | RING | F_VERSION_1;
/// QEMU's offer on a tap.
const TAP: u64 = STREAM | CSUM | GUEST_CSUM | GUEST_TSO | HOST_TSO;

pub struct Nic {
    pub shared: Arc<Shared>,
    pub net: Net<FakeHal, FakeTransport>,
    pub device: FakeNic,
}

impl Nic {
    pub fn new(offered: u64, mtu: u16, options: NetOptions) -> Self {
        let shared = Shared::new(DeviceType::Network, offered, nic_config(mtu));
        let net = Net::new(FakeTransport(shared.clone()), options).expect("an honest NIC");
        let header_bytes = if offered & (F_VERSION_1 | MRG_RXBUF) != 0 {
            12
        } else {
            10
        };
        Self {
            device: FakeNic::attach(&shared, header_bytes),
            shared,
            net,
        }
    }

    /// A NIC with all offloads and mergeable buffers.
    pub fn merging() -> Self {
        Self::new(TAP, 1500, NetOptions::default())
    }

    /// The next received frame.
    fn received(&mut self) -> Option<Vec<u8>> {
        let (rx, _) = self.net.receive()?;
        Some(rx.consume(<[u8]>::to_vec))
    }
}

/// A frame that no offload takes part in.
fn plain(len: usize, seed: usize) -> Vec<u8> {
    let mut frame: Vec<u8> = (0..len).map(|i| (i * 7 + seed) as u8).collect();
    frame[12..14].copy_from_slice(&[0x88, 0xb5]);
    frame
}

/// A TCP/IPv4 frame without options and with `checksum`.
fn tcp(payload: usize, checksum: u16) -> Vec<u8> {
    let mut frame = plain(54 + payload, 3);
    frame[12..34].copy_from_slice(&[
        8, 0, 0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2,
    ]);
    frame[16..18].copy_from_slice(&(40 + payload as u16).to_be_bytes());
    frame[46] = 0x50;
    frame[50..52].copy_from_slice(&checksum.to_be_bytes());
    frame
}

#[test]
fn a_plain_nic_on_a_stream() {
    let nic = Nic::new(STREAM, 1500, NetOptions::default());
    let caps = *nic.net.capabilities();
    assert_eq!(
        (caps.mtu, caps.frame_bytes_max, caps.tx_bytes_max()),
        (1500, 1514, 1514)
    );
    assert!(!caps.checksum_tx && !caps.checksum_rx);
    assert_eq!((caps.tso4, caps.tso6), (None, None));
    assert_eq!(nic.net.mac(), [0x52, 0x54, 0, 0x12, 0x34, 0x56]);
    assert!(nic.net.link_up());
    assert_eq!(nic.shared.accepted.load(SeqCst) & CTRL_VQ, 0);
    assert_eq!(nic.shared.kick_count(0), 1, "the buffers were announced");
}

#[test]
fn frames_arrive_in_order_and_replies_leave() {
    let mut nic = Nic::new(STREAM, 1500, NetOptions::default());
    for round in 0..1000 {
        for i in 0..round % 9 {
            assert!(nic.device.deliver([0; 12], &plain(60 + i * 100, i)));
        }
        for i in 0..round % 9 {
            let (rx, tx) = nic.net.receive().expect("delivered");
            rx.consume(|frame| {
                assert_eq!(frame, plain(60 + i * 100, i));
                // As smoltcp does: the reply is written while the frame is looked at.
                tx.consume(frame.len(), |out| out.copy_from_slice(frame));
            });
        }
        assert!(nic.net.receive().is_none());
        nic.net.kick();
        let sent = nic.device.sent();
        assert_eq!(sent.len(), round % 9);
        for (i, (header, frame)) in sent.into_iter().enumerate() {
            assert_eq!(header, [0; 12]);
            assert_eq!(frame, plain(60 + i * 100, i));
        }
    }
    let stats = nic.net.stats();
    assert_eq!((stats.rx_frames, stats.tx_frames), (3996, 3996));
    assert_eq!(stats.rx_copied, 0);
}

#[test]
fn a_frame_that_is_not_looked_at_gives_its_buffers_back() {
    let mut nic = Nic::merging();
    for i in 0..2000 {
        assert!(nic.device.deliver([0; 12], &plain(9000, i)), "frame {i}");
        drop(nic.net.receive().expect("delivered"));
    }
}

#[test]
fn long_frames_span_buffers_and_are_one_slice() {
    let mut nic = Nic::new(STREAM | MTU, 65535, NetOptions::default());
    assert_eq!(nic.net.capabilities().mtu, 65535);
    let mut delivered = 0;
    for i in 0..200 {
        let len = [65549, 14, 8180, 8181, 9014, 40000][i % 6];
        assert!(nic.device.deliver([0; 12], &plain(len, i)));
        assert_eq!(nic.received().expect("delivered"), plain(len, i));
        delivered += 1;
    }
    let stats = nic.net.stats();
    assert_eq!(stats.rx_frames, delivered);
    // Copies only where a frame crossed the end of the area.
    assert!((1..20).contains(&stats.rx_copied), "{}", stats.rx_copied);
}

#[test]
fn a_device_that_fills_buffers_out_of_order_costs_copies_only() {
    let mut nic = Nic::new(STREAM | MTU, 9000, NetOptions::default());
    let frame = plain(9014, 5);
    let mut chains: Vec<_> = (0..3)
        .map(|_| nic.device.rx.pop().expect("posted"))
        .collect();
    chains.swap(1, 2);
    let mut message = vec![0; 12];
    message[10] = 3;
    message.extend(&frame);
    let mut at = 0;
    for chain in chains {
        // Nor are they full.
        let take = (message.len() - at).min(4000);
        chain.write(0, &message[at..at + take]);
        nic.device.rx.push(u32::from(chain.id), take as u32);
        at += take;
        if at < message.len() {
            assert!(nic.net.receive().is_none(), "not complete yet");
        }
    }
    // 9026 bytes in pieces of 4000: the three buffers just hold them.
    assert_eq!(nic.received().expect("complete"), frame);
    assert_eq!(nic.net.stats().rx_copied, 1);
}

#[test]
fn without_mergeable_buffers_each_holds_any_frame() {
    let mut nic = Nic::new((STREAM | MTU) & !MRG_RXBUF, 65535, NetOptions::default());
    for i in 0..50 {
        assert!(nic.device.deliver([0; 12], &plain(65549, i)));
        assert_eq!(nic.received().expect("delivered"), plain(65549, i));
    }
    // 1 MiB of buffers of 64 KiB each.
    let mut posted = 0;
    while nic.device.rx.pop().is_some() {
        posted += 1;
    }
    assert_eq!(posted, 15);
}

#[test]
fn memory_for_receiving_is_bounded() {
    for (offered, rx_bytes, buffers, tso) in [
        (TAP, 256 << 10, 32, true),
        (TAP, 0, 18, true),
        (STREAM, 64 << 10, 32, false),
        // Eight buffers for whole frames are too much to ask: no segmentation offload.
        (TAP & !MRG_RXBUF, 256 << 10, 128, false),
        (TAP & !MRG_RXBUF, 1 << 20, 15, true),
    ] {
        let options = NetOptions {
            rx_bytes,
            ..NetOptions::default()
        };
        let mut nic = Nic::new(offered, 1500, options);
        assert_eq!(nic.shared.accepted.load(SeqCst) & GUEST_TSO != 0, tso);
        let posted = core::iter::from_fn(|| nic.device.rx.pop()).count();
        assert_eq!(posted, buffers, "{rx_bytes} bytes");
    }
}

#[test]
fn oversize_and_runt_frames_are_counted_and_dropped() {
    let mut nic = Nic::new(STREAM, 1500, NetOptions::default());
    assert!(nic.device.deliver([0; 12], &plain(1515, 1)));
    let chain = nic.device.rx.pop().expect("posted");
    chain.write(10, &[1, 0]);
    nic.device.rx.push(u32::from(chain.id), 12);
    let chain = nic.device.rx.pop().expect("posted");
    chain.write(10, &[1, 0]);
    nic.device.rx.push(u32::from(chain.id), 5);
    assert!(nic.device.deliver([0; 12], &plain(5000, 1)));
    assert!(nic.device.deliver([0; 12], &plain(1514, 2)));
    assert_eq!(nic.received().expect("the good one"), plain(1514, 2));
    let stats = nic.net.stats();
    assert_eq!(
        (stats.rx_oversize, stats.rx_runt, stats.rx_frames),
        (2, 2, 1)
    );
}

#[test]
fn checksum_states_are_told_apart() {
    let mut nic = Nic::merging();
    assert!(nic.net.capabilities().checksum_rx);
    // A partial checksum; a wrong one that the device vouches for; a wrong one; no TCP at all.
    let partial = [1, 1, 54, 0, 0xa8, 5, 34, 0, 16, 0, 0, 0];
    let vouched = [2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    nic.device.deliver(partial, &tcp(3000, 0x1111));
    nic.device.deliver(vouched, &tcp(100, 0x1111));
    nic.device.deliver([0; 12], &tcp(100, 0x1111));
    nic.device.deliver([0; 12], &plain(60, 1));
    assert_eq!(nic.received().expect("partial"), tcp(3000, 0x1111));
    assert_eq!(nic.received().expect("vouched for"), tcp(100, 0x1111));
    assert_eq!(nic.received().expect("not TCP"), plain(60, 1));
    assert_eq!(nic.net.stats().rx_bad_checksum, 1);

    // Without the feature the stack verifies.
    let mut nic = Nic::new(STREAM, 1500, NetOptions::default());
    nic.device.deliver([0; 12], &tcp(100, 0x1111));
    assert_eq!(nic.received().expect("handed up"), tcp(100, 0x1111));
}

#[test]
fn sending_uses_the_offloads() {
    let mut nic = Nic::merging();
    let caps = *nic.net.capabilities();
    assert!(caps.checksum_tx && caps.tso4.is_some() && caps.tso6.is_some());
    assert_eq!(caps.tx_bytes_max(), 65549);
    let frame = tcp(65549 - 54, 0);
    let mut token = nic.net.transmit().expect("room");
    token.set_segment(NonZeroU16::new(1460));
    token.consume(frame.len(), |out| out.copy_from_slice(&frame));
    nic.net
        .transmit()
        .expect("room")
        .consume(60, |out| out.copy_from_slice(&plain(60, 1)));
    nic.net.kick();
    let sent = nic.device.sent();
    let (header, long) = &sent[0];
    assert_eq!(header[..], [1, 1, 54, 0, 0xb4, 5, 34, 0, 16, 0, 0, 0]);
    assert_eq!(long[..50], frame[..50]);
    assert_eq!(long[52..], frame[52..]);
    // Addresses 10.0.0.1 and 10.0.0.2, protocol 6, length 65515.
    let sum = 0x0a00 + 1 + 0x0a00 + 2 + 6 + 65515u32;
    let partial = (sum & 0xffff) + (sum >> 16);
    assert_eq!(u32::from(u16::from_be_bytes([long[50], long[51]])), partial);
    assert_eq!(sent[1], (vec![0; 12], plain(60, 1)));
}

#[test]
fn offloads_can_be_declined() {
    let options = NetOptions {
        offload: false,
        ..NetOptions::default()
    };
    let nic = Nic::new(TAP, 1500, options);
    let caps = nic.net.capabilities();
    assert!(!caps.checksum_tx && !caps.checksum_rx && caps.tso4.is_none());
    // Segmentation without checksums in that direction is no offer.
    let nic = Nic::new(TAP & !(CSUM | GUEST_CSUM), 1500, NetOptions::default());
    assert_eq!(nic.shared.accepted.load(SeqCst) & (HOST_TSO | GUEST_TSO), 0);
}

#[test]
fn a_full_transmit_ring_waits_and_recovers() {
    let mut nic = Nic::merging();
    let mut sent = 0;
    while let Some(token) = nic.net.transmit() {
        token.consume(65549, |frame| frame.copy_from_slice(&plain(65549, sent)));
        sent += 1;
    }
    assert_eq!(sent, 7, "512 KiB of 64 KiB frames");
    nic.device.deliver([0; 12], &plain(60, 1));
    assert!(nic.net.receive().is_none(), "no room for a reply");
    nic.net.kick();
    assert!(!nic.net.arm(), "sleeps until there is room");
    let chain = nic.device.tx.pop().expect("published");
    nic.device.tx.push(u32::from(chain.id), 0);
    assert!(nic.device.tx.should_interrupt(), "and is woken for it");
    assert!(nic.net.receive().is_some());
    for (i, (_, frame)) in nic.device.sent().into_iter().enumerate() {
        assert_eq!(frame, plain(65549, i + 1));
    }
}

#[test]
fn frames_finished_out_of_order_free_their_room_in_order() {
    let mut nic = Nic::new(STREAM, 1500, NetOptions::default());
    for round in 0..500 {
        for i in 0..5 {
            let token = nic.net.transmit().expect("room");
            token.consume(1514, |frame| frame.copy_from_slice(&plain(1514, round + i)));
        }
        let mut chains: Vec<_> = core::iter::from_fn(|| nic.device.tx.pop()).collect();
        for (i, chain) in chains.iter().enumerate() {
            assert_eq!(chain.readable()[12..], plain(1514, round + i));
        }
        chains.rotate_left(round % 5);
        for chain in chains {
            nic.device.tx.push(u32::from(chain.id), 0);
        }
    }
}

#[test]
fn legacy_devices_get_their_header_apart() {
    for (offered, segments) in [(MAC | RING, 2), (MAC, 2), (MAC | F_ANY_LAYOUT, 1)] {
        let shared = Shared::with_layout(DeviceType::Network, offered, nic_config(1500), true);
        let net = Net::new(FakeTransport(shared.clone()), NetOptions::default()).expect("fine");
        let device = FakeNic::attach(&shared, 10);
        let mut nic = Nic {
            shared,
            net,
            device,
        };
        let token = nic.net.transmit().expect("room");
        token.consume(100, |frame| frame.copy_from_slice(&plain(100, 1)));
        let chain = nic.device.tx.pop().expect("published");
        assert_eq!(chain.segments.len(), segments);
        assert_eq!(chain.readable()[10..], plain(100, 1));
        nic.device.tx.push(u32::from(chain.id), 0);
        for i in 0..1000 {
            assert!(nic.device.deliver([0; 12], &plain(1000, i)));
            assert_eq!(nic.received().expect("delivered"), plain(1000, i));
        }
    }
}

#[test]
fn the_link_goes_and_comes() {
    let mut nic = Nic::new(STREAM, 1500, NetOptions::default());
    assert_eq!(nic.net.config_changed(), Ok(None));
    nic.shared.change_config(6, &[0, 0]);
    assert_eq!(nic.net.config_changed(), Ok(Some(false)));
    assert!(!nic.net.link_up());
    nic.shared.change_config(6, &[1, 0]);
    assert_eq!(nic.net.config_changed(), Ok(Some(true)));
    nic.shared
        .status
        .fetch_or(DeviceStatus::DEVICE_NEEDS_RESET.bits(), SeqCst);
    let resets = nic.shared.resets.load(SeqCst);
    nic.net.config_changed().expect("readable");
    assert_eq!(nic.net.broken(), Some(QueueError::NeedsReset));
    assert_eq!(nic.shared.resets.load(SeqCst), resets + 1);
}

#[test]
fn bad_nics_are_refused() {
    let init = |offered, config| {
        let shared = Shared::new(DeviceType::Network, offered, config);
        Net::<FakeHal, _>::new(FakeTransport(shared), NetOptions::default()).map(|_| ())
    };
    assert_eq!(
        init(STREAM | MTU, nic_config(10)),
        Err(InitError::Config(ConfigError::Invalid {
            offset: 10,
            value: 10
        }))
    );
    assert_eq!(
        init(STREAM & !MAC, nic_config(1500)),
        Err(InitError::Config(ConfigError::Missing { offset: 0 }))
    );
    assert_eq!(
        init(STREAM, vec![0; 6]),
        Err(InitError::Config(ConfigError::Missing { offset: 6 }))
    );
}

#[test]
fn mtu_is_the_smaller_of_device_and_option() {
    let mtu = |offered, device, mtu_max| {
        let options = NetOptions {
            mtu_max,
            ..NetOptions::default()
        };
        Nic::new(offered, device, options).net.capabilities().mtu
    };
    assert_eq!(mtu(STREAM | MTU, 9000, u16::MAX), 9000);
    assert_eq!(mtu(STREAM | MTU, 9000, 1400), 1400);
    assert_eq!(mtu(STREAM, 9000, u16::MAX), 1500);
    assert_eq!(mtu(STREAM, 9000, 1280), 1280);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Frames of any lengths, delivered and taken in any rhythm, come out as they went in.
    #[test]
    fn any_rhythm_of_receiving(
        frames in proptest::collection::vec((14usize..20_000, 1usize..6), 1..80),
        rx_bytes in 100_000usize..300_000,
    ) {
        let options = NetOptions { rx_bytes, ..NetOptions::default() };
        let mut nic = Nic::new(STREAM | MTU, 20_000, options);
        let mut waiting = alloc::collections::VecDeque::new();
        for (seed, (len, burst)) in frames.into_iter().enumerate() {
            // More than the ring holds would be lost, as on a wire.
            if waiting.len() < 3 {
                prop_assert!(nic.device.deliver([0; 12], &plain(len, seed)));
                waiting.push_back(plain(len, seed));
            }
            for _ in 1..burst {
                let Some(expected) = waiting.pop_front() else { break };
                prop_assert_eq!(nic.received().expect("delivered"), expected);
            }
            nic.net.kick();
        }
    }
}
