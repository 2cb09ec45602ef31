//! Two stacks on a segment in memory.

mod abuse;
mod datagrams;
mod floating;
mod lifecycle;
mod neighbors;
mod offloads;
mod transfer;

use super::testnet::{Node, World};
use super::*;
use crate::stream::ByteStream;
use alloc::vec;
use alloc::vec::Vec;
use replication::api::Micros;

const G: GroupId = GroupId::new(0);
const PORT: u16 = 10809;
const SECOND: Micros = 1_000_000;

fn group(slots: usize) -> GroupConfig {
    GroupConfig {
        port: Some(PORT),
        slots,
        backlog: 4,
        rx_bytes: 64 << 10,
        tx_bytes: 64 << 10,
        liveness: None,
        patient: false,
        ack_delay: None,
    }
}

/// Dials `b` from `a` and accepts there.
fn connect(world: &mut World, a: &mut Node, b: &mut Node) -> (ConnHandle, ConnHandle) {
    let dialled = a.stack.dial(G, b.at(PORT)).expect("a slot");
    let mut accepted = None;
    let done = world.run(&mut [a, b], 5 * SECOND, |nodes, _| {
        accepted = accepted.or_else(|| nodes[1].stack.accept(G));
        accepted.is_some() && nodes[0].stack.status(dialled) == ConnState::Open
    });
    assert!(done, "no connection");
    (dialled, accepted.expect("just checked"))
}

fn pattern(i: usize) -> u8 {
    (i ^ (i >> 8) ^ (i >> 16)) as u8
}

/// One direction of a transfer.
struct Flow {
    sent: usize,
    received: Vec<u8>,
}

impl Flow {
    fn new() -> Self {
        Self {
            sent: 0,
            received: Vec::new(),
        }
    }
}

fn pump_out(node: &mut Node, conn: ConnHandle, flow: &mut Flow, total: usize) {
    let mut stream = node.stack.stream(conn).expect("owned");
    let n = stream.writable().min(total - flow.sent);
    let bytes: Vec<u8> = (flow.sent..flow.sent + n).map(pattern).collect();
    assert_eq!(stream.write(&bytes), n, "writable() is a promise");
    flow.sent += n;
}

fn pump_in(node: &mut Node, conn: ConnHandle, flow: &mut Flow) {
    let mut stream = node.stack.stream(conn).expect("owned");
    let mut bytes = vec![0; stream.readable()];
    assert_eq!(
        stream.read(&mut bytes),
        bytes.len(),
        "readable() is a promise"
    );
    flow.received.extend_from_slice(&bytes);
}

/// Sends `total` bytes each way at once and checks them; the time it took.
fn exchange(
    world: &mut World,
    a: &mut Node,
    b: &mut Node,
    (at_a, at_b): (ConnHandle, ConnHandle),
    total: usize,
    limit: Micros,
) -> Micros {
    let start = world.now;
    let (mut to_b, mut to_a) = (Flow::new(), Flow::new());
    let done = world.run(&mut [a, b], limit, |nodes, _| {
        pump_in(nodes[0], at_a, &mut to_a);
        pump_in(nodes[1], at_b, &mut to_b);
        pump_out(nodes[0], at_a, &mut to_b, total);
        pump_out(nodes[1], at_b, &mut to_a, total);
        to_a.received.len() == total && to_b.received.len() == total
    });
    assert!(
        done,
        "only {} and {} of {total} bytes after {} us",
        to_a.received.len(),
        to_b.received.len(),
        world.now - start
    );
    for flow in [to_a, to_b] {
        let wrong = flow
            .received
            .iter()
            .enumerate()
            .find(|&(i, &byte)| byte != pattern(i));
        assert_eq!(wrong, None);
    }
    world.now - start
}
