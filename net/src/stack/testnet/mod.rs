//! A segment in memory for host tests: ports that are [`Device`]s, with loss, duplication,
//! reordering, cuts, and the offloads that a virtio-net device on tap performs.

pub(crate) mod driver;
mod host;

use self::driver::verify_rx;
use super::offload::{Features, capabilities};
use super::{GroupConfig, NicConfig, Stack};
use alloc::collections::VecDeque;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::net::{IpAddr, Ipv4Addr, SocketAddr};
use replication::api::Micros;
use smoltcp::phy::{Device, DeviceCapabilities, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;

/// What the segment does to frames; probabilities in 1/1000.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    pub(crate) loss: u64,
    pub(crate) duplicate: u64,
    /// Each frame is delayed by up to so many microseconds more than the last, or less.
    pub(crate) jitter: Micros,
}

struct InFlight {
    due: Micros,
    frame: Vec<u8>,
    /// The TCP checksum is partial: only the pseudo-header's sum is there.
    partial: bool,
}

#[derive(Default)]
struct PortState {
    inbox: VecDeque<InFlight>,
    cut: bool,
    features: Features,
    big_frames: bool,
    traffic: Traffic,
}

/// What a port's stack took from it and handed to it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    pub(crate) rx_frames: usize,
    pub(crate) tx_frames: usize,
    pub(crate) tx_bytes: usize,
}

/// The wire between the ports: every frame reaches all others.
pub(crate) struct Segment {
    now: Micros,
    rng: u64,
    pub(crate) faults: Faults,
    ports: Vec<PortState>,
    /// Every frame sent, while `Some`.
    pub(crate) trace: Option<Vec<Vec<u8>>>,
}

const DELAY: Micros = 20;

impl Segment {
    fn random(&mut self) -> u64 {
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        self.rng >> 11
    }

    pub(crate) fn inject(&mut self, from: usize, frame: &[u8], partial: bool) {
        if let Some(trace) = &mut self.trace {
            trace.push(frame.to_vec());
        }
        for to in 0..self.ports.len() {
            if to == from || self.ports[from].cut || self.ports[to].cut {
                continue;
            }
            if self.random() % 1000 < self.faults.loss {
                continue;
            }
            let copies = 1 + usize::from(self.random() % 1000 < self.faults.duplicate);
            for _ in 0..copies {
                let jitter = match self.faults.jitter {
                    0 => 0,
                    most => self.random() % most,
                };
                let due = self.now + DELAY + jitter;
                let inbox = &mut self.ports[to].inbox;
                let place = inbox.partition_point(|waiting| waiting.due <= due);
                let frame = frame.to_vec();
                inbox.insert(
                    place,
                    InFlight {
                        due,
                        frame,
                        partial,
                    },
                );
            }
        }
    }

    /// Whether a frame waits for any port.
    fn busy(&self) -> bool {
        self.ports.iter().any(|port| !port.inbox.is_empty())
    }
}

/// A NIC on the segment.
pub(crate) struct Port {
    segment: Rc<RefCell<Segment>>,
    index: usize,
    mtu: usize,
    /// Frames that may still be sent in this turn: a small transmit ring.
    pub(crate) tx_room: Option<usize>,
    pub(crate) tx_ring: Option<usize>,
    /// Frames that found no room.
    pub(crate) tx_refused: usize,
}

pub(crate) struct Rx(Vec<u8>);

pub(crate) struct Tx<'a> {
    port: &'a mut PortTx,
    meta: PacketMeta,
}

pub(crate) struct PortTx {
    segment: Rc<RefCell<Segment>>,
    index: usize,
}

impl RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0xa5; len];
        let result = f(&mut frame);
        let mut segment = self.port.segment.borrow_mut();
        let traffic = &mut segment.ports[self.port.index].traffic;
        traffic.tx_frames += 1;
        traffic.tx_bytes += len;
        host::transmit(&mut segment, self.port.index, frame, self.meta);
        result
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.meta = meta;
    }
}

/// The port as smoltcp borrows it.
pub(crate) struct PortDevice<'a> {
    port: &'a mut Port,
    tx: PortTx,
}

impl Port {
    pub(crate) fn device(&mut self) -> PortDevice<'_> {
        let tx = PortTx {
            segment: Rc::clone(&self.segment),
            index: self.index,
        };
        PortDevice { port: self, tx }
    }
}

impl PortDevice<'_> {
    fn take_tx(&mut self) -> bool {
        match &mut self.port.tx_room {
            Some(0) => {
                self.port.tx_refused += 1;
                false
            }
            Some(room) => {
                *room -= 1;
                true
            }
            None => true,
        }
    }
}

impl Device for PortDevice<'_> {
    type RxToken<'a>
        = Rx
    where
        Self: 'a;
    type TxToken<'a>
        = Tx<'a>
    where
        Self: 'a;

    fn receive(&mut self, _now: Instant) -> Option<(Rx, Tx<'_>)> {
        let frame = loop {
            let mut segment = self.port.segment.borrow_mut();
            let now = segment.now;
            let state = &mut segment.ports[self.port.index];
            let first = state.inbox.pop_front_if(|waiting| waiting.due <= now)?;
            // What the adapter has to do with frames that nobody vouched for.
            if state.features.rx_checksum && !first.partial && !verify_rx(&first.frame) {
                continue;
            }
            state.traffic.rx_frames += 1;
            break first.frame;
        };
        let meta = PacketMeta::default();
        let port = &mut self.tx;
        Some((Rx(frame), Tx { port, meta }))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Tx<'_>> {
        if !self.take_tx() {
            return None;
        }
        Some(Tx {
            port: &mut self.tx,
            meta: PacketMeta::default(),
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let segment = self.port.segment.borrow();
        capabilities(self.port.mtu, segment.ports[self.port.index].features)
    }
}

/// A NIC with its stack.
pub(crate) struct Node {
    pub(crate) stack: Stack,
    pub(crate) port: Port,
    pub(crate) addr: IpAddr,
}

impl Node {
    /// Connections that stand, accepted by the application or not.
    pub(crate) fn established(&self) -> usize {
        self.stack.established()
    }

    pub(crate) fn at(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.addr, port)
    }
}

/// The segment, its nodes and the time.
pub(crate) struct World {
    pub(crate) now: Micros,
    pub(crate) segment: Rc<RefCell<Segment>>,
    pub(crate) mtu: usize,
    pub(crate) features: Features,
    pub(crate) big_frames: bool,
    /// The seed of the stacks that boot; drawn for each of them otherwise.
    pub(crate) seed: Option<u64>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            now: 1_000_000,
            segment: Rc::new(RefCell::new(Segment {
                now: 1_000_000,
                rng: seed | 1,
                faults: Faults::default(),
                ports: Vec::new(),
                trace: None,
            })),
            mtu: 1500,
            features: Features::default(),
            big_frames: false,
            seed: None,
        }
    }

    /// A port without a stack.
    pub(crate) fn port(&mut self) -> Port {
        let mut segment = self.segment.borrow_mut();
        segment.ports.push(PortState {
            features: self.features,
            big_frames: self.big_frames,
            ..PortState::default()
        });
        Port {
            segment: Rc::clone(&self.segment),
            index: segment.ports.len() - 1,
            mtu: self.mtu,
            tx_room: None,
            tx_ring: None,
            tx_refused: 0,
        }
    }

    /// A node 10.0.0.`host`/24.
    pub(crate) fn node(&mut self, host: u8, groups: &[GroupConfig]) -> Node {
        self.node_at(host, IpAddr::V4(Ipv4Addr::new(10, 0, 0, host)), 24, groups)
    }

    pub(crate) fn node_at(
        &mut self,
        host: u8,
        addr: IpAddr,
        prefix: u8,
        groups: &[GroupConfig],
    ) -> Node {
        let port = self.port();
        self.boot(port, host, addr, prefix, groups)
    }

    /// A stack on an existing port: a power-cycled node.
    pub(crate) fn boot(
        &mut self,
        mut port: Port,
        host: u8,
        addr: IpAddr,
        prefix: u8,
        groups: &[GroupConfig],
    ) -> Node {
        self.segment.borrow_mut().ports[port.index].inbox.clear();
        let mut addresses = heapless::Vec::new();
        addresses.push((addr, prefix)).expect("one fits");
        let drawn = self.segment.borrow_mut().random();
        let seed = self.seed.unwrap_or(drawn);
        let nic = NicConfig {
            mac: [2, 0, 0, 0, 0, host],
            addresses,
            gateway: None,
            seed,
        };
        let stack = Stack::new(self.now, &mut port.device(), &nic, groups).expect("valid");
        Node { stack, port, addr }
    }

    pub(crate) fn traffic(&self, node: &Node) -> Traffic {
        self.segment.borrow().ports[node.port.index].traffic
    }

    /// Whether a frame is on its way.
    pub(crate) fn busy(&self) -> bool {
        self.segment.borrow().busy()
    }

    pub(crate) fn cut(&mut self, node: &Node, cut: bool) {
        self.segment.borrow_mut().ports[node.port.index].cut = cut;
    }

    /// Cuts the node off, and what was on its way to it is lost.
    pub(crate) fn power_off(&mut self, node: &Node) {
        self.cut(node, true);
        self.segment.borrow_mut().ports[node.port.index]
            .inbox
            .clear();
    }

    pub(crate) fn inject(&mut self, from: &Port, frame: &[u8]) {
        self.segment.borrow_mut().inject(from.index, frame, false);
    }

    pub(crate) fn advance(&mut self, by: Micros) {
        self.now += by;
        self.segment.borrow_mut().now = self.now;
    }

    /// One turn of every node's stack.
    pub(crate) fn turn(&mut self, nodes: &mut [&mut Node]) {
        for node in nodes.iter_mut() {
            node.stack.ingress(self.now, &mut node.port.device(), 1000);
        }
        for node in nodes.iter_mut() {
            node.port.tx_room = node.port.tx_ring;
            let _ = node.stack.egress(self.now, &mut node.port.device());
        }
        self.advance(DELAY);
    }

    /// Turns until `done`, skipping idle time; whether it was done within `limit`.
    pub(crate) fn run(
        &mut self,
        nodes: &mut [&mut Node],
        limit: Micros,
        mut done: impl FnMut(&mut [&mut Node], Micros) -> bool,
    ) -> bool {
        let end = self.now + limit;
        while self.now < end {
            self.turn(nodes);
            if done(nodes, self.now) {
                return true;
            }
            if !self.busy() {
                let next = nodes
                    .iter_mut()
                    .filter_map(|node| node.stack.poll_at(self.now))
                    .min();
                // Applications in tests have timers too: look at least every millisecond.
                let next = next.unwrap_or(end).min(self.now + 1000);
                self.advance(next.saturating_sub(self.now));
            }
        }
        false
    }
}
