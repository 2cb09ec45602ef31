//! The peer link over pipes and over two stacks.

mod dialing;
mod framing;
mod peers;
mod powercuts;
mod security;
mod trouble;

use super::*;
use crate::stack::testnet::{Node, World};
use crate::stack::{GroupConfig, GroupId};
use alloc::vec::Vec;
use core::net::SocketAddr;
use replication::api::{DiskState, LinkDownReason, Micros, Role};
use replication::buf::{Buf, Pool, PoolMemory, VecMemory};
use replication::secure::{Integrity, LinkRefusal, Security};
use replication::wire::Frame;

const SECOND: Micros = 1_000_000;
const PORT: u16 = 7789;
const INTERVAL: Micros = 3 * SECOND;
const SECRET: &[u8] = b"correct horse battery staple";
const MODES: [Integrity; 3] = [
    Integrity::Crc32c,
    Integrity::Aes256Gcm,
    Integrity::ChaCha20Poly1305,
];

fn demand(integrity: Integrity, secret: Option<&[u8]>) -> Security {
    Security::new(integrity, secret, "r0").expect("fit")
}

fn group() -> GroupConfig {
    GroupConfig {
        port: Some(PORT),
        slots: 4,
        backlog: 2,
        rx_bytes: 256 << 10,
        tx_bytes: 256 << 10,
        liveness: None,
        patient: false,
        ack_delay: None,
    }
}

fn endpoint(host: u8) -> SocketAddr {
    SocketAddr::new([10, 0, 0, host].into(), PORT)
}

fn write_frame(request: u64) -> Frame {
    Frame::Write {
        volume: 0,
        request,
        offset: request << 17,
        fua: false,
    }
}

/// A node with its end of the link, and a record of what happened.
struct End {
    node: Node,
    link: PeerLink,
    pool: Pool,
    memory: VecMemory,
    /// What an engine would believe.
    up: bool,
    ups: Vec<Micros>,
    downs: Vec<LinkDownReason>,
    notes: Vec<LinkNote>,
    frames: Vec<(Frame, Option<Buf>)>,
    /// What an engine does first on a new link.
    greeting: Option<Frame>,
}

impl End {
    fn new(node: Node, host: u8, peer: u8) -> Self {
        Self::demanding(node, host, peer, Security::default())
    }

    fn demanding(node: Node, host: u8, peer: u8, security: Security) -> Self {
        Self {
            node,
            link: PeerLink::new(PeerLinkConfig {
                group: GroupId::new(0),
                local: endpoint(host),
                peer: endpoint(peer),
                connect_interval: INTERVAL,
                queue: 64,
                security,
                seed: [u64::from(host), 0, 0, 0],
            }),
            pool: Pool::new(512),
            memory: VecMemory::new(512),
            up: false,
            ups: Vec::new(),
            downs: Vec::new(),
            notes: Vec::new(),
            frames: Vec::new(),
            greeting: Some(Frame::Ping),
        }
    }

    fn start(world: &mut World, host: u8, peer: u8) -> Self {
        Self::start_demanding(world, host, peer, Security::default())
    }

    fn start_demanding(world: &mut World, host: u8, peer: u8, security: Security) -> Self {
        let node = world.node(host, &[group()]);
        let mut end = Self::demanding(node, host, peer, security);
        end.link.open(world.now);
        end
    }

    fn close(&mut self, now: Micros) {
        let stack = &mut self.node.stack;
        self.link.close(now, stack, &mut self.pool, &self.memory);
    }

    fn pump(&mut self, now: Micros) {
        while let Some(event) =
            self.link
                .poll(now, &mut self.node.stack, &mut self.pool, &mut self.memory)
        {
            match event {
                LinkEvent::Up => {
                    self.up = true;
                    self.ups.push(now);
                    if let Some(greeting) = &self.greeting {
                        self.link.send(greeting.clone(), None);
                    }
                }
                LinkEvent::Down(reason) => {
                    self.up = false;
                    self.downs.push(reason);
                }
                LinkEvent::Note(note) => self.notes.push(note),
                LinkEvent::Frame(frame, buf) => self.frames.push((frame, buf)),
            }
        }
        self.link.flush(&mut self.node.stack, &self.memory);
    }

    /// Queues a frame with a payload of `len` times `byte`.
    fn send_filled(&mut self, frame: Frame, byte: u8, len: u32) -> Buf {
        let buf = self.pool.alloc(len).expect("a free buffer");
        self.memory.bytes_mut(buf.view()).fill(byte);
        self.link.send(frame, Some(buf.view()));
        buf
    }
}

/// Runs the ends until `done`; whether it was done within `limit`.
fn run(
    world: &mut World,
    ends: &mut [&mut End],
    limit: Micros,
    mut done: impl FnMut(&mut [&mut End], Micros) -> bool,
) -> bool {
    let end = world.now + limit;
    while world.now < end {
        for end in ends.iter_mut() {
            let device = &mut end.node.port.device();
            end.node.stack.ingress(world.now, device, 1000);
        }
        for end in ends.iter_mut() {
            end.pump(world.now);
        }
        if done(ends, world.now) {
            return true;
        }
        for end in ends.iter_mut() {
            let device = &mut end.node.port.device();
            let _ = end.node.stack.egress(world.now, device);
        }
        let next = if world.busy() {
            20
        } else {
            // As the kernel sleeps: until somebody's timer, here a second at most.
            let timers = ends
                .iter_mut()
                .flat_map(|end| [end.node.stack.poll_at(world.now), end.link.poll_at()]);
            let next = timers.flatten().min().unwrap_or(u64::MAX);
            next.saturating_sub(world.now).clamp(20, SECOND)
        };
        world.advance(next);
    }
    false
}

fn both_up(ends: &mut [&mut End], _now: Micros) -> bool {
    ends.iter().all(|end| end.up)
}
