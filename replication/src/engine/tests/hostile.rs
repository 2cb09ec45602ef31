//! A peer that says anything at any time, as long as it is frames: it may lose its link and ruin what it
//! was trusted with, but this node neither panics nor loses memory.

use super::*;
use crate::wire::{
    Comparison, Hello, HelloVolume, Refusal, Resize, ResizeAnswer, ResizeReply, ResizeStep, State,
    VolumeState,
};

/// Node 0 of a pair whose other node is replaced by chance.
struct Victim {
    pair: Pair,
    /// Numbers of requests that the victim sent.
    asked: Vec<u64>,
    uuids: Vec<u64>,
}

impl Victim {
    fn new(seed: u64) -> Self {
        let mirroring = Mirroring {
            protocol: [Protocol::C, Protocol::A, Protocol::B][(seed / 3 % 3) as usize],
            on_congestion: OnCongestion::PullAhead,
            congestion_fill: 4096,
            congestion_extents: None,
        };
        let node = |me, peer| EngineConfig {
            mirroring,
            ..config(me, peer)
        };
        let mut pair = Pair::with(node("a", "b"), node("b", "a"));
        if !seed.is_multiple_of(3) {
            pair.ok(0, Command::NewCurrentUuid);
            pair.ok(0, Command::Primary { force: false });
        }
        pair.rng = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        pair.network = false;
        match seed % 7 {
            0 => pair.cut(),
            1 => pair.ok(0, Command::Secondary { force: true }),
            2 => {
                // The victim is the target of a resync.
                pair.ok(0, Command::Secondary { force: true });
                pair.cut();
                pair.start(1, Command::Primary { force: true });
                pair.write(1, 0, 4096, 1);
                pair.nodes[1].disk_held = true;
                pair.network = true;
                pair.wait(600_000);
            }
            3 => {
                // Its source.
                pair.cut();
                pair.write(0, 0, 65536, 1);
                pair.nodes[0].disk_held = true;
                pair.network = true;
                pair.wait(600_000);
            }
            4 => pair.handle(
                0,
                Event::DiskChanged {
                    volume: 0,
                    metadata: false,
                    size: 0,
                },
            ),
            _ => {}
        }
        pair.network = false;
        pair.nodes[0].disk_held = false;
        let uuids = [0, 1, 2].into_iter();
        let known = pair.nodes[0].status().volumes;
        let uuids = uuids.chain(known.iter().flat_map(|v| [v.current_uuid, v.bitmap_uuid]));
        Self {
            asked: Vec::new(),
            uuids: uuids.collect(),
            pair,
        }
    }

    fn pick(&mut self, n: usize) -> usize {
        self.pair.pick(n)
    }

    fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.pick(from.len())]
    }

    fn coin(&mut self) -> bool {
        self.pick(2) == 0
    }

    fn uuid(&mut self) -> u64 {
        let at = self.pick(self.uuids.len());
        self.uuids[at]
    }

    fn request(&mut self) -> u64 {
        if self.asked.is_empty() || self.pick(8) == 0 {
            return self.one_of(&[0, 1, 77, u64::MAX]);
        }
        let at = self.pick(self.asked.len());
        self.asked.swap_remove(at)
    }

    fn offset(&mut self) -> u64 {
        self.one_of(&[
            0,
            0,
            512,
            4096,
            8192,
            100,
            SIZE - 512,
            SIZE,
            u64::MAX,
            u64::MAX - 511,
        ])
    }

    fn disk(&mut self) -> DiskState {
        self.one_of(&[
            DiskState::UpToDate,
            DiskState::UpToDate,
            DiskState::Diskless,
            DiskState::Failed,
            DiskState::Inconsistent,
            DiskState::Outdated,
            DiskState::DUnknown,
            DiskState::Consistent,
        ])
    }

    fn role(&mut self) -> Role {
        self.one_of(&[Role::Secondary, Role::Secondary, Role::Primary])
    }

    fn hello(&mut self) -> Frame {
        let name = |text: &str| Name::try_from(text).unwrap();
        Frame::Hello(Hello {
            version_min: 1,
            version_max: self.one_of(&[3, 3, 3, 2, 0]),
            features: u64::MAX,
            nonce: self.uuid(),
            window: self.one_of(&[64, 128, u16::MAX]),
            volumes: self.one_of(&[2, 2, 2, 2, 1, 16]),
            role: self.role(),
            discard_my_data: self.coin(),
            dry_run: self.pick(6) == 0,
            policies: Default::default(),
            node: name(self.one_of(&["b", "b", "b", "b", "a"])),
            peer: name("a"),
            resource: name("r0"),
            protocol: self.pair.nodes[0].config.mirroring.protocol,
            fencing: Default::default(),
            identity: 0,
            episode: 0,
        })
    }

    fn hello_volume(&mut self, volume: u16) -> Frame {
        Frame::HelloVolume(HelloVolume {
            seen: None,
            volume,
            size: self.one_of(&[SIZE, SIZE, SIZE, SIZE, u64::MAX]),
            block_size: 512,
            can_discard: self.coin(),
            disk: self.disk(),
            current: self.uuid(),
            bitmap: self.uuid(),
            history: [self.uuid(), self.uuid()],
            dirty: self.one_of(&[0, 0, 1, u64::MAX]),
            instance: self.uuid(),
            crashed: self.coin(),
            was_primary: self.coin(),
            steady: self.coin(),
            paused: self.pick(4) == 0,
            handler_due: false,
            unflushed: self.pick(4) == 0,
        })
    }

    fn frame(&mut self) -> Frame {
        let volume = self.one_of(&[0, 0, 1, 2, u16::MAX]);
        let (offset, fua, unmap) = (self.offset(), self.coin(), self.coin());
        let len = self.one_of(&[512, 4096, 0, 100, 1 << 20, u32::MAX]);
        let uuid = self.uuid();
        match self.pick(37) {
            0 => self.hello(),
            1 => self.hello_volume(volume),
            2 => Frame::Refuse {
                reason: self.one_of(&[Refusal::Size, Refusal::SplitBrain, Refusal::Version]),
                volume,
            },
            3 => Frame::Ping,
            4 => Frame::Pong,
            5 => Frame::Discard {
                volume,
                request: 9,
                offset,
                len,
                fua,
            },
            6 => Frame::WriteZeroes {
                volume,
                request: 9,
                offset,
                len,
                unmap,
                fua,
            },
            7 => Frame::Flush { volume, request: 9 },
            8..11 => Frame::Ack {
                request: self.request(),
            },
            11 => Frame::Nack {
                request: self.request(),
            },
            12 => {
                let mut volumes = heapless::Vec::new();
                for _ in 0..self.one_of(&[2, 2, 2, 0, 16]) {
                    let state = VolumeState {
                        disk: self.disk(),
                        paused: self.pick(4) == 0,
                        waits: self.coin(),
                        verifies: self.coin(),
                    };
                    volumes.push(state).unwrap();
                }
                Frame::State(State {
                    role: self.role(),
                    volumes,
                })
            }
            13 => Frame::PromoteRequest { request: uuid },
            14 => Frame::PromoteReply {
                request: self.request(),
                granted: self.coin(),
            },
            15 => Frame::NewGeneration { uuid: uuid.max(1) },
            16 => Frame::NewGenerationReply {
                uuid: uuid.max(1),
                accepted: self.coin(),
            },
            17 => Frame::SyncStart {
                volume,
                uuid,
                bytes: offset,
            },
            18 => Frame::SyncZeroes {
                volume,
                request: 9,
                offset,
                len,
                unmap,
            },
            21 => Frame::Compare {
                volume,
                request: 9,
                offset,
                len,
            },
            22 => Frame::Compared {
                request: self.request(),
                outcome: self.one_of(&[
                    Comparison::Blocks(0),
                    Comparison::Blocks(5),
                    Comparison::Blocks(u32::MAX),
                    Comparison::Unreadable,
                    Comparison::Busy,
                ]),
            },
            23 => Frame::SyncRequest {
                volume,
                request: 9,
                sender_is_source: self.coin(),
            },
            24 => Frame::SyncReply {
                request: self.request(),
                granted: self.coin(),
            },
            19 => Frame::SyncEnd {
                volume,
                request: 9,
                uuid,
            },
            25 | 26 => Frame::Resize(Resize {
                volume,
                request: 9,
                size: self.one_of(&[1, 512, SIZE, SIZE + 4096, u64::MAX]),
                step: self.one_of(&[
                    ResizeStep::Prepare {
                        exact: true,
                        clean: false,
                    },
                    ResizeStep::Prepare {
                        exact: false,
                        clean: true,
                    },
                    ResizeStep::Commit,
                    ResizeStep::Done,
                    ResizeStep::Cancel,
                ]),
            }),
            27 => Frame::ResizeReply(ResizeReply {
                request: self.request(),
                size: self.one_of(&[0, SIZE, u64::MAX]),
                answer: self.one_of(&[ResizeAnswer::Done, ResizeAnswer::Busy]),
            }),
            29 | 30 => Frame::ReadReply {
                request: self.request(),
                reply: 9,
            },
            31 => Frame::ReadRequest {
                volume,
                request: 9,
                offset,
                len,
            },
            32 => Frame::DiskLost {
                volume,
                request: 9,
                uuid: uuid.max(1),
            },
            33 => Frame::Barrier,
            34 => Frame::Received {
                request: self.request(),
            },
            35 => Frame::Ahead { volume, request: 9 },
            20 => Frame::SyncData {
                volume,
                request: 9,
                offset,
            },
            _ => Frame::Write {
                volume,
                request: 9,
                offset,
                fua,
            },
        }
    }

    fn feed(&mut self, frame: Frame) {
        let bulk = matches!(
            frame,
            Frame::Write { .. }
                | Frame::SyncData { .. }
                | Frame::ReadReply { .. }
                | Frame::Compare { .. }
        );
        // Mostly as the codec would have it.
        let payload = if self.pick(16) == 0 { !bulk } else { bulk };
        let len = self.one_of(&[512, 4096, 131_072, 1, 513, 32]);
        let buf = if payload {
            self.pair.nodes[0].pool.alloc(len)
        } else {
            None
        };
        self.handle(Event::Frame { frame, buf });
    }

    fn handle(&mut self, event: Event) {
        self.pair.handle(0, event);
        self.note();
    }

    /// Takes what the victim sent.
    fn note(&mut self) {
        for sent in std::mem::take(&mut self.pair.nodes[0].out) {
            match sent.frame {
                Frame::Write { request, .. }
                | Frame::Discard { request, .. }
                | Frame::WriteZeroes { request, .. }
                | Frame::Flush { request, .. }
                | Frame::SyncData { request, .. }
                | Frame::SyncZeroes { request, .. }
                | Frame::SyncEnd { request, .. }
                | Frame::ReadRequest { request, .. }
                | Frame::Compare { request, .. }
                | Frame::Ahead { request, .. }
                | Frame::SyncRequest { request, .. }
                | Frame::PromoteRequest { request } => self.asked.push(request),
                Frame::ReadReply { reply, .. } => self.asked.push(reply),
                Frame::DiskLost { request, uuid, .. } => {
                    self.asked.push(request);
                    self.uuids.push(uuid);
                }
                Frame::NewGeneration { uuid } | Frame::SyncStart { uuid, .. } => {
                    self.uuids.push(uuid);
                }
                _ => {}
            }
        }
    }

    fn own_life(&mut self) {
        match self.pick(8) {
            0 => {
                self.pair.now += self.one_of(&[1_000, 300_000, 1_100_000, 7_000_000]);
                self.handle(Event::Tick);
            }
            1 if self.pair.nodes[0].engine.has_room()
                && self.pair.nodes[0].pool.free_bytes() > 1 << 20 =>
            {
                let at = self.one_of(&[0, 4096, 8192]);
                match self.pick(4) {
                    3 => drop(
                        self.pair
                            .submit(0, at, |node| ClientOp::Read(node.pool.alloc(4096).unwrap())),
                    ),
                    0 => drop(self.pair.write_fua(0, at, 4096, 1, true)),
                    1 => drop(self.pair.submit(0, 0, |_| ClientOp::Flush)),
                    _ => drop(self.pair.submit(0, at, |_| ClientOp::Discard {
                        len: 4096,
                        fua: false,
                    })),
                }
                self.note();
            }
            2 => {
                let (force, discard_my_data) = (self.coin(), self.coin());
                let volume = self.one_of(&[0, 0, 1, 2]);
                let command = match self.pick(24) {
                    22 => Command::DryRun { discard_my_data },
                    23 => Command::Inspect { volume },
                    16 | 17 => Command::Primary { force },
                    18 | 19 => Command::Attach { volume },
                    20 => Command::Detach { volume, force },
                    21 if force => Command::SuspendIo,
                    21 => Command::ResumeIo,
                    6..9 => Command::Verify {
                        volume,
                        start: None,
                        stop: None,
                        repair: self.coin(),
                    },
                    9 => Command::VerifyAbort { volume },
                    10 => Command::PauseSync { volume: None },
                    11 | 12 => Command::ResumeSync { volume: None },
                    13 => Command::Invalidate { volume },
                    14 => Command::InvalidateRemote { volume },
                    15 => Command::Outdate,
                    0 | 1 => Command::Primary { force },
                    2 => Command::Secondary { force },
                    3 | 4 => Command::Connect { discard_my_data },
                    _ => Command::NewCurrentUuid,
                };
                self.pair.start(0, command);
                self.note();
            }
            3 if self.pick(20) == 0 => {
                self.pair.nodes[0]
                    .disk_errors
                    .push_back(Some(DiskError::Io));
            }
            _ => {
                self.pair.complete(0);
                self.note();
            }
        }
    }

    fn connect(&mut self) {
        if self.pair.up {
            return;
        }
        if !self.pair.nodes[0].wants_link {
            let discard_my_data = self.coin();
            self.pair.start(0, Command::Connect { discard_my_data });
            self.note();
        }
        if !self.pair.nodes[0].wants_link {
            return;
        }
        self.pair.up = true;
        self.asked.clear();
        self.handle(Event::LinkUp);
        if self.pick(4) > 0 {
            // Far enough through the handshake to be listened to.
            let frames = [self.hello(), self.hello_volume(0), self.hello_volume(1)];
            for frame in frames {
                self.feed(frame);
            }
        }
    }

    fn end(mut self) {
        self.pair.up = false;
        self.handle(Event::LinkDown(LinkDownReason::Garbage));
        // What waits for good data waits for ever, unless its clients are given up.
        self.pair.start(0, Command::Secondary { force: true });
        for _ in 0..3 {
            while !self.pair.nodes[0].ops.is_empty() || self.pair.complete_meta(0) {
                self.pair.complete(0);
            }
            self.pair.now += 7_000_000;
            self.handle(Event::Tick);
        }
        let node = &self.pair.nodes[0];
        assert!(node.engine.is_idle(), "requests are left over");
        node.assert_no_buffer_missing();
        let open = node.next_id as usize - 1 - node.replies.len() - node.done.len();
        assert!(open <= 1, "{open} requests or commands are not answered");
    }
}

#[test]
fn a_hostile_peer_costs_the_link_and_nothing_else() {
    let mut accepted = 0;
    for seed in 1..600 {
        let mut victim = Victim::new(seed);
        for _ in 0..300 {
            match victim.pick(8) {
                0 => victim.connect(),
                1..5 => victim.own_life(),
                _ => {
                    let frame = victim.frame();
                    victim.feed(frame);
                    accepted += usize::from(victim.pair.up);
                }
            }
        }
        victim.end();
    }
    // Else the test tests only how links are dropped.
    assert!(accepted > 10_000, "only {accepted} frames were listened to");
}
