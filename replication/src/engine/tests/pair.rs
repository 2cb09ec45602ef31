//! Two nodes and what is between them.

use super::*;

impl Pair {
    pub fn with(a: EngineConfig, b: EngineConfig) -> Self {
        let mut pair = Self {
            nodes: [Node::new(0, a), Node::new(0, b)],
            now: 0,
            up: false,
            network: false,
            black_hole: false,
            management: fence::Management::new(),
            rng: 0,
        };
        for n in 0..2 {
            pair.handle(n, Event::Tick);
            pair.run();
            let volumes = pair.nodes[n].config.volumes.clone();
            for volume in volumes.iter().map(|v| v.index) {
                pair.ok(
                    n,
                    Command::CreateMd {
                        volume,
                        force: false,
                    },
                );
            }
        }
        pair.network = true;
        pair.run();
        pair
    }

    /// Two nodes that have just booted and met.
    pub fn new() -> Self {
        Self::with(config("a", "b"), config("b", "a"))
    }

    /// Both in sync, `a` is Primary.
    pub fn ready() -> Self {
        let mut pair = Self::new();
        pair.ok(0, Command::NewCurrentUuid);
        pair.ok(0, Command::Primary { force: false });
        pair
    }

    /// As [`Pair::ready`], with this configuration of `a`.
    pub fn of(a: EngineConfig) -> Self {
        let mut pair = Self::with(a, config("b", "a"));
        pair.ok(0, Command::NewCurrentUuid);
        pair.ok(0, Command::Primary { force: false });
        pair
    }

    pub fn handle(&mut self, n: usize, event: Event) {
        let node = &mut self.nodes[n];
        let Node {
            engine,
            pool,
            memory,
            may_allocate,
            ..
        } = node;
        let mut mem = Mem::new(pool, memory);
        // Attaching allocates the bitmap and the activity log.
        let attached = engine
            .status(0)
            .volumes
            .iter()
            .all(|v| v.metadata != MetadataKind::None);
        if attached && !*may_allocate {
            without_allocating(|| engine.handle(self.now, event, &mut mem));
        } else {
            engine.handle(self.now, event, &mut mem);
        }
        if node.drain() {
            if self.up {
                self.up = false;
                self.drop_frames();
                self.handle(1 - n, Event::LinkDown(LinkDownReason::Closed));
            }
            self.handle(n, Event::LinkDown(LinkDownReason::Requested));
        }
    }

    /// Cuts the connection and a node's power: everything is gone but its disks.
    pub fn reboot(&mut self, n: usize) {
        self.cut();
        let before = &mut self.nodes[n];
        before.lose_power(&mut self.rng);
        let cache = before.cache.take();
        let (disks, metas) = (
            std::mem::take(&mut before.disks),
            std::mem::take(&mut before.metas),
        );
        let mut config = before.config.clone();
        config.seed += 1;
        self.nodes[n] = Node::new(self.now, config);
        self.nodes[n].disks = disks;
        self.nodes[n].metas = metas;
        self.nodes[n].cache = cache;
        self.handle(n, Event::Tick);
        self.run();
    }

    /// Completes the oldest metadata operation of a node.
    pub fn complete_meta(&mut self, n: usize) -> bool {
        let node = &mut self.nodes[n];
        let Some((token, volume, op)) = node.meta_ops.pop_front() else {
            return false;
        };
        if node.metas_fail {
            let result = Err(DiskError::Io);
            let all_zero = false;
            self.handle(
                n,
                Event::DiskDone {
                    token,
                    result,
                    all_zero,
                },
            );
            return true;
        }
        let at = node.position(volume);
        if node.config.volumes[at].metadata == MetadataPlace::Internal {
            node.remember(at, op);
        }
        let disk = match node.config.volumes[at].metadata {
            MetadataPlace::Internal => &mut node.disks[at],
            MetadataPlace::External { .. } => &mut node.metas[at],
        };
        let range = |offset: u64, len: u32| offset as usize..offset as usize + len as usize;
        match op {
            DiskOp::Read { offset, view, .. } => {
                let bytes = &disk[range(offset, view.len)];
                node.memory.bytes_mut(view).copy_from_slice(bytes);
            }
            DiskOp::Write { offset, view } => {
                disk[range(offset, view.len)].copy_from_slice(node.memory.bytes(view));
            }
            DiskOp::Flush => {}
            DiskOp::WriteZeroes { offset, len, .. } => disk[range(offset, len)].fill(0),
            other => panic!("{other:?} of metadata"),
        }
        self.handle(
            n,
            Event::DiskDone {
                token,
                result: Ok(()),
                all_zero: false,
            },
        );
        true
    }

    pub(super) fn drop_frames(&mut self) {
        for node in &mut self.nodes {
            node.out.clear();
        }
    }

    /// Both sides notice at once that the connection is gone; none comes up again.
    pub fn cut(&mut self) {
        self.network = false;
        if self.up {
            self.up = false;
            self.drop_frames();
            self.handle(0, Event::LinkDown(LinkDownReason::Closed));
            self.handle(1, Event::LinkDown(LinkDownReason::Closed));
        }
    }

    pub fn heal(&mut self) {
        self.network = true;
        self.wait(3_000_000);
    }

    /// Completes one disk operation of a node: the oldest, or any.
    pub fn complete(&mut self, n: usize) {
        let pick = self.pick(self.nodes[n].ops.len());
        let Some((token, volume, op)) = self.nodes[n].ops.remove(pick) else {
            return;
        };
        let unreadable = self.nodes[n].reads_fail && matches!(op, DiskOp::Read { .. });
        let error = if unreadable {
            Some(DiskError::Io)
        } else {
            self.nodes[n].disk_errors.pop_front().flatten()
        };
        let all_zero = error.is_none() && self.nodes[n].perform(volume, op);
        let result = error.map_or(Ok(()), Err);
        self.handle(
            n,
            Event::DiskDone {
                token,
                result,
                all_zero,
            },
        );
    }

    /// Delivers the oldest frame of a node to the other.
    pub fn deliver(&mut self, from: usize) {
        let Some(sent) = self.nodes[from].out.pop_front() else {
            return;
        };
        if self.black_hole {
            return;
        }
        let mut bytes = [0; HEADER_LEN + MAX_BODY];
        let payload_len = sent.payload.as_ref().map_or(0, |(view, _)| view.len);
        let len = sent.frame.encode(payload_len, &mut bytes);
        let header = Header::parse(bytes.first_chunk().unwrap()).unwrap();
        let frame = Frame::decode(&header, &bytes[HEADER_LEN..len]).unwrap();
        assert_eq!(frame, sent.frame);
        let buf = sent.payload.map(|(view, copy)| {
            assert_eq!(
                self.nodes[from].memory.bytes(view),
                copy,
                "payload changed in flight"
            );
            let to = &mut self.nodes[1 - from];
            let buf = to.pool.alloc(view.len).expect("memory");
            to.memory.bytes_mut(buf.view()).copy_from_slice(&copy);
            buf
        });
        self.handle(1 - from, Event::Frame { frame, buf });
    }

    pub fn pick(&mut self, n: usize) -> usize {
        if self.rng == 0 || n == 0 {
            return 0;
        }
        self.rng ^= self.rng << 13;
        self.rng ^= self.rng >> 7;
        self.rng ^= self.rng << 17;
        (self.rng >> 16) as usize % n
    }

    /// Lets one thing happen, if anything can.
    pub fn step(&mut self) -> bool {
        for n in 0..2 {
            if !self.nodes[n].meta_held && self.complete_meta(n) {
                return true;
            }
        }
        if self.talk() {
            return true;
        }
        let both = self.nodes.iter().all(|n| n.wants_link);
        if self.network && !self.up && both {
            self.up = true;
            self.handle(0, Event::LinkUp);
            if self.up {
                self.handle(1, Event::LinkUp);
            }
            return true;
        }
        let first = self.pick(4);
        for k in 0..4 {
            let (n, frame) = ((first + k) % 2, (first + k) % 4 < 2);
            if frame && !self.nodes[n].out.is_empty() {
                self.deliver(n);
                return true;
            }
            if !frame && !self.nodes[n].ops.is_empty() && !self.nodes[n].disk_held {
                self.complete(n);
                return true;
            }
        }
        false
    }

    pub fn run(&mut self) {
        for _ in 0..1_000_000 {
            if !self.step() {
                return;
            }
        }
        panic!("no end of it");
    }

    /// Lets time pass, in steps as the engines ask for, and everything happen that can.
    pub fn wait(&mut self, time: Micros) {
        let end = self.now + time;
        self.run();
        loop {
            let next = self
                .nodes
                .iter()
                .filter_map(|n| n.engine.poll_timeout())
                .min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for n in 0..2 {
                let due = self.nodes[n].engine.poll_timeout();
                if due.is_some_and(|due| due <= self.now) {
                    self.handle(n, Event::Tick);
                    let again = self.nodes[n].engine.poll_timeout();
                    assert!(
                        again.is_none_or(|t| t > self.now),
                        "the tick changed nothing"
                    );
                }
            }
            self.run();
        }
        self.now = end;
    }

    pub fn submit(
        &mut self,
        n: usize,
        offset: u64,
        make: impl FnOnce(&mut Node) -> ClientOp,
    ) -> RequestId {
        self.submit_to(n, 0, offset, make)
    }

    pub fn submit_to(
        &mut self,
        n: usize,
        volume: u16,
        offset: u64,
        make: impl FnOnce(&mut Node) -> ClientOp,
    ) -> RequestId {
        let id = self.nodes[n].next_id;
        self.nodes[n].next_id += 1;
        let op = make(&mut self.nodes[n]);
        let request = ClientRequest {
            id,
            volume,
            offset,
            op,
        };
        self.handle(n, Event::Client(request));
        id
    }

    pub fn write(&mut self, n: usize, offset: u64, len: u32, fill: u8) -> RequestId {
        self.write_fua(n, offset, len, fill, false)
    }

    pub fn write_fua(&mut self, n: usize, offset: u64, len: u32, fill: u8, fua: bool) -> RequestId {
        self.submit(n, offset, |node| {
            let buf = node.pool.alloc(len).expect("memory");
            node.memory.bytes_mut(buf.view()).fill(fill);
            ClientOp::Write { buf, fua }
        })
    }

    pub fn read(&mut self, n: usize, offset: u64, len: u32) -> Vec<u8> {
        let id = self.submit(n, offset, |node| {
            ClientOp::Read(node.pool.alloc(len).expect("memory"))
        });
        self.run();
        let (result, data) = &self.nodes[n].replies[&id];
        assert_eq!(*result, Ok(()));
        data.clone()
    }

    pub fn reply(&self, n: usize, id: RequestId) -> Option<Result<(), ClientError>> {
        self.nodes[n].replies.get(&id).map(|(result, _)| *result)
    }

    pub fn start(&mut self, n: usize, command: Command) -> CommandId {
        let id = self.nodes[n].next_id as CommandId;
        self.nodes[n].next_id += 1;
        self.handle(n, Event::Command { id, command });
        id
    }

    pub fn command(&mut self, n: usize, command: Command) -> Result<String, String> {
        let id = self.start(n, command);
        self.run();
        self.wait(10_000);
        match self.nodes[n].done.get(&id) {
            Some(result) => result.clone(),
            None => panic!("{command:?} is not answered"),
        }
    }

    pub fn ok(&mut self, n: usize, command: Command) {
        if let Err(error) = self.command(n, command) {
            panic!("{command:?}: {error}");
        }
    }

    /// Nothing in flight, all memory back, both disks UpToDate and equal.
    pub fn assert_in_sync(&self) {
        for node in &self.nodes {
            node.assert_no_buffer_missing();
            assert!(node.engine.is_idle());
            for volume in node.status().volumes {
                assert_eq!(volume.disk, DiskState::UpToDate);
                assert_eq!(volume.peer_disk, DiskState::UpToDate);
                assert_eq!(volume.replication, ReplicationState::Established);
                assert_eq!(volume.out_of_sync, 0);
            }
        }
        assert!(
            self.nodes[0].disks == self.nodes[1].disks,
            "the replicas differ"
        );
        let uuid = |n: usize| self.nodes[n].status().volumes[0].current_uuid;
        assert_eq!(uuid(0), uuid(1));
    }
}
