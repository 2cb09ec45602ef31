//! The controller in a closed loop with a model of a pair: disks with channels and a bus, a link with
//! bandwidth and delay, clients that wait for their requests. All times of the model are nanoseconds.

use super::*;
use alloc::collections::BinaryHeap;
use alloc::{boxed::Box, vec, vec::Vec};
use core::cmp::Reverse;
use std::println;

const MS: u64 = 1_000_000;
const SECOND_NS: u64 = 1_000 * MS;
const MIB: u64 = 1 << 20;

/// First come, first served, on some channels.
struct Server {
    free: Vec<u64>,
}

impl Server {
    fn new(channels: usize) -> Self {
        Self {
            free: vec![0; channels],
        }
    }

    fn serve(&mut self, now: u64, cost: u64) -> u64 {
        let first = self.free.iter_mut().min().unwrap();
        *first = now.max(*first) + cost;
        *first
    }
}

#[derive(Clone, Copy)]
struct Hardware {
    /// A disk's time for a request whatever its length, and how many it works on at once.
    disk_fixed: u64,
    disk_channels: usize,
    /// MiB a second.
    disk_rate: u64,
    link_rate: u64,
    /// One way.
    link_delay: u64,
    /// Time of the node's processor for each step of a request.
    step: u64,
}

const NVME: Hardware = Hardware {
    disk_fixed: 80_000,
    disk_channels: 16,
    disk_rate: 2_000,
    link_rate: 1_150,
    link_delay: 30_000,
    step: 3_000,
};
const GIGABIT: Hardware = Hardware {
    disk_rate: 500,
    link_rate: 112,
    disk_channels: 8,
    ..NVME
};
/// One arm: 4 ms a request.
const SPINNING: Hardware = Hardware {
    disk_fixed: 4_000_000,
    disk_channels: 1,
    disk_rate: 160,
    link_rate: 112,
    link_delay: 100_000,
    step: 5_000,
};
/// 20 ms there and back.
const FAR: Hardware = Hardware {
    link_delay: 10 * MS,
    ..GIGABIT
};
/// Everything emulated: the processor is what is short.
const EMULATED: Hardware = Hardware {
    disk_fixed: 50_000,
    disk_channels: 4,
    disk_rate: 700,
    link_rate: 500,
    link_delay: 40_000,
    step: 60_000,
};

const ALL: [(&str, Hardware); 5] = [
    ("NVMe, 10 Gbit/s", NVME),
    ("SSD, 1 Gbit/s", GIGABIT),
    ("one spinning disk", SPINNING),
    ("20 ms apart", FAR),
    ("emulated", EMULATED),
];

#[derive(Clone, Copy)]
struct Clients {
    depth: usize,
    len: u32,
    /// Of 100 requests.
    reads: u64,
    /// Pause between an answer and the next request.
    think: u64,
    /// When they work, in seconds' thousandths: start and end.
    from_ms: u64,
    to_ms: u64,
}

const NOBODY: Clients = Clients {
    depth: 0,
    len: 4096,
    reads: 0,
    think: 0,
    from_ms: 0,
    to_ms: u64::MAX / MS,
};

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Begin,
    Sent,
    Arrived,
    WrittenThere,
    End,
    /// The local half of a client's write.
    Local,
}

#[derive(Clone, Copy)]
struct Job {
    /// `None`: a run of the resync.
    client: Option<usize>,
    reads: bool,
    len: u32,
    began: u64,
    halves: u8,
}

enum Policy {
    Controlled(Box<Controller>),
    /// So many runs in flight, always.
    Fixed(u32),
    Off,
}

/// Node a's disk channel and bus, the link, node b's.
struct Pair {
    hardware: Hardware,
    clients: Clients,
    /// What clients do from some moment on.
    change: Option<(u64, Clients)>,
    policy: Policy,
    random: u64,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64, usize, Step)>>,
    order: u64,
    jobs: Vec<Job>,
    spare: Vec<usize>,
    disks: [(Server, Server); 2],
    processors: [Server; 2],
    link: Server,
    in_flight: u32,
    wake: u64,
    /// Bytes of the resync and answers to clients, per 10 ms.
    resync: Vec<u64>,
    answers: Vec<u64>,
}

impl Pair {
    fn new(hardware: Hardware, clients: Clients, policy: Policy) -> Self {
        let disk = || (Server::new(hardware.disk_channels), Server::new(1));
        let mut pair = Self {
            hardware,
            clients,
            change: None,
            policy,
            random: 0x9e37_79b9_7f4a_7c15,
            now: 0,
            events: BinaryHeap::new(),
            order: 0,
            jobs: Vec::new(),
            spare: Vec::new(),
            disks: [disk(), disk()],
            processors: [Server::new(1), Server::new(1)],
            link: Server::new(1),
            in_flight: 0,
            wake: 0,
            resync: Vec::new(),
            answers: Vec::new(),
        };
        for client in 0..clients.depth {
            pair.request(client, clients.from_ms * MS + client as u64 * 1_000);
        }
        pair
    }

    fn draw(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn job(&mut self, job: Job, at: u64) {
        let id = match self.spare.pop() {
            Some(id) => {
                self.jobs[id] = job;
                id
            }
            None => {
                self.jobs.push(job);
                self.jobs.len() - 1
            }
        };
        self.at(at, id, Step::Begin);
    }

    fn at(&mut self, time: u64, id: usize, step: Step) {
        self.order += 1;
        self.events.push(Reverse((time, self.order, id, step)));
    }

    fn request(&mut self, client: usize, at: u64) {
        if let Some((_, then)) = self.change.take_if(|(moment, _)| *moment <= at) {
            for more in self.clients.depth..then.depth {
                self.request(more, at);
            }
            self.clients = then;
        }
        if client >= self.clients.depth {
            return;
        }
        if at < self.clients.to_ms.saturating_mul(MS) {
            let reads = self.draw(100) < self.clients.reads;
            let job = Job {
                client: Some(client),
                reads,
                len: self.clients.len,
                began: at,
                halves: 0,
            };
            self.job(job, at);
        }
    }

    /// A disk's answer: its fixed time varies by a third, and now and then is five times as long.
    fn disk(&mut self, node: usize, len: u32) -> u64 {
        let fixed = self.hardware.disk_fixed;
        let jitter = self.draw(fixed * 2 / 3 + 1);
        let hiccup = if self.draw(200) == 0 { 5 } else { 1 };
        let ready = self.processors[node].serve(self.now, self.hardware.step);
        let (channel, bus) = &mut self.disks[node];
        let found = channel.serve(ready, (fixed * 2 / 3 + jitter) * hiccup);
        bus.serve(
            found,
            u64::from(len) * SECOND_NS / (self.hardware.disk_rate * MIB),
        )
    }

    fn send(&mut self, len: u32) -> u64 {
        let cost = u64::from(len + 80) * SECOND_NS / (self.hardware.link_rate * MIB);
        self.link.serve(self.now, cost) + self.hardware.link_delay
    }

    fn step(&mut self, id: usize, step: Step) {
        let job = self.jobs[id];
        match step {
            Step::Begin => {
                if let (Some(_), Policy::Controlled(controller)) = (job.client, &mut self.policy) {
                    controller.client_started(self.now / 1_000);
                }
                let read = self.disk(0, job.len);
                match job.client {
                    None => self.at(read, id, Step::Sent),
                    Some(_) if job.reads => {
                        self.jobs[id].halves = 1;
                        self.at(read, id, Step::End);
                    }
                    Some(_) => {
                        self.jobs[id].halves = 2;
                        self.at(read, id, Step::Local);
                        self.at(self.now, id, Step::Sent);
                    }
                }
            }
            Step::Sent => {
                let arrives = self.send(job.len);
                self.at(arrives, id, Step::Arrived);
            }
            Step::Arrived => {
                let written = self.disk(1, job.len);
                self.at(written, id, Step::WrittenThere);
            }
            Step::WrittenThere => self.at(self.now + self.hardware.link_delay, id, Step::End),
            Step::End | Step::Local => self.end(id),
        }
    }

    fn end(&mut self, id: usize) {
        let job = self.jobs[id];
        let (now, began) = (self.now / 1_000, job.began / 1_000);
        if job.halves == 2 {
            self.jobs[id].halves = 1;
            return;
        }
        self.spare.push(id);
        let bin = (self.now / (10 * MS)) as usize;
        match job.client {
            None => {
                self.in_flight -= 1;
                self.resync[bin] += u64::from(job.len);
                if let Policy::Controlled(controller) = &mut self.policy {
                    controller.finished(now, job.len, began, true);
                }
            }
            Some(client) => {
                self.answers[bin] += 1;
                if let Policy::Controlled(controller) = &mut self.policy {
                    let class = if job.reads {
                        Class::read(job.len)
                    } else {
                        Class::write(job.len, false)
                    };
                    controller.client_finished(now, class, began);
                }
                let think = self.clients.think;
                let pause = if think == 0 {
                    0
                } else {
                    think / 2 + self.draw(think)
                };
                self.request(client, self.now + pause);
            }
        }
    }

    /// Starts what may be started.
    fn pump(&mut self) {
        let now = self.now / 1_000;
        self.wake = u64::MAX;
        loop {
            let open = match &mut self.policy {
                Policy::Off => false,
                Policy::Fixed(runs) => self.in_flight < *runs,
                Policy::Controlled(controller) => {
                    let allowance = controller.allowance(now);
                    assert_eq!(allowance.runs == 0, allowance.bytes == 0);
                    // Somebody will call again, or something is on its way.
                    assert!(allowance.runs > 0 || allowance.wake.is_some() || self.in_flight > 0);
                    self.wake = allowance
                        .wake
                        .map_or(u64::MAX, |at| (at * 1_000).max(self.now + 1));
                    if allowance.runs > 0 {
                        controller.started(now, MAX_RUN);
                    }
                    allowance.runs > 0
                }
            };
            if !open {
                return;
            }
            self.in_flight += 1;
            let run = Job {
                client: None,
                reads: true,
                len: MAX_RUN,
                began: self.now,
                halves: 0,
            };
            self.job(run, self.now);
        }
    }

    fn run(mut self, ms: u64) -> Self {
        self.resync = vec![0; ms as usize / 10 + 1];
        self.answers = self.resync.clone();
        self.pump();
        loop {
            let next = self.events.peek().map_or(u64::MAX, |Reverse((at, ..))| *at);
            self.now = self.now.max(next.min(self.wake));
            if self.now >= ms * MS {
                return self;
            }
            if next <= self.now
                && let Some(Reverse((_, _, id, step))) = self.events.pop()
            {
                self.step(id, step);
            }
            self.pump();
        }
    }

    /// Bytes a second of the resync between two moments.
    fn resync_rate(&self, from_ms: u64, to_ms: u64) -> u64 {
        let bins = &self.resync[from_ms as usize / 10..to_ms as usize / 10];
        bins.iter().sum::<u64>() * 1_000 / (to_ms - from_ms)
    }

    /// Answers a second.
    fn iops(&self, from_ms: u64, to_ms: u64) -> u64 {
        let bins = &self.answers[from_ms as usize / 10..to_ms as usize / 10];
        bins.iter().sum::<u64>() * 1_000 / (to_ms - from_ms)
    }
}

fn controlled(limits: Limits) -> Policy {
    Policy::Controlled(Box::new(Controller::new(limits)))
}

fn automatic() -> Policy {
    controlled(Limits::default())
}

fn capacity(hardware: Hardware) -> u64 {
    let pair = Pair::new(hardware, NOBODY, Policy::Fixed(RUNS_MAX)).run(3_000);
    pair.resync_rate(1_000, 3_000)
}

#[test]
fn alone_it_takes_nearly_all_there_is() {
    for (name, hardware) in ALL {
        let most = capacity(hardware);
        let pair = Pair::new(hardware, NOBODY, automatic()).run(6_000);
        let rate = pair.resync_rate(2_000, 6_000);
        let Policy::Controlled(controller) = &pair.policy else {
            unreachable!()
        };
        println!(
            "{name}: {} of {} MiB/s alone, {} runs in flight",
            rate / MIB,
            most / MIB,
            controller.window.runs()
        );
        assert!(rate * 100 >= most * 90, "{name}: {rate} of {most}");
    }
}

/// Clients of many kinds, beside which the resync must behave.
fn loads() -> Vec<(&'static str, Clients)> {
    let one = Clients { depth: 1, ..NOBODY };
    vec![
        ("4 KiB writes, 1 at a time", one),
        ("4 KiB writes, 4", Clients { depth: 4, ..NOBODY }),
        (
            "4 KiB writes, 32",
            Clients {
                depth: 32,
                ..NOBODY
            },
        ),
        (
            "4 KiB 70 % reads, 16",
            Clients {
                depth: 16,
                reads: 70,
                ..NOBODY
            },
        ),
        (
            "64 KiB writes, 8",
            Clients {
                depth: 8,
                len: 64 << 10,
                ..NOBODY
            },
        ),
        (
            "4 KiB writes, 2 ms pauses",
            Clients {
                depth: 2,
                think: 2 * MS,
                ..NOBODY
            },
        ),
        (
            "4 KiB writes, 30 ms pauses",
            Clients {
                think: 30 * MS,
                ..one
            },
        ),
    ]
}

#[test]
fn beside_clients_they_keep_most_of_their_rate_and_it_never_stops() {
    for (name, hardware) in ALL {
        let most = capacity(hardware);
        for (load, clients) in loads() {
            let (from, to) = (1_000, 3_000);
            let undisturbed = Pair::new(hardware, clients, Policy::Off).run(2_000);
            let undisturbed = undisturbed.iops(500, 2_000);
            let pair = Pair::new(hardware, clients, automatic()).run(to);
            let share = pair.iops(from, to) * 100 / undisturbed;
            let rate = pair.resync_rate(from, to);
            println!(
                "| {name} | {load} | {undisturbed} | {share} % | {} of {} |",
                rate / MIB,
                most / MIB,
            );
            // 71 % is aimed at. A baseline that is too low or too high shows here.
            assert!(share >= 67, "{name}, {load}: clients keep {share} %");
            assert!(rate * 20 >= most, "{name}, {load}: resync {rate}");
            // It settles: no half second is far from the mean.
            for at in (from..to).step_by(500) {
                let part = pair.resync_rate(at, at + 500);
                assert!(
                    part * 5 >= rate && part <= rate * 3,
                    "{name}, {load}: {part} at {at} ms"
                );
                let part = pair.iops(at, at + 500);
                let mean = pair.iops(from, to);
                assert!(part * 2 >= mean, "{name}, {load}: {part} IOPS at {at} ms");
            }
        }
    }
}

#[test]
fn it_yields_within_50_ms_and_is_back_within_50_ms() {
    for (name, hardware) in ALL {
        let clients = Clients {
            depth: 4,
            from_ms: 3_000,
            to_ms: 6_000,
            ..NOBODY
        };
        let steady = Clients {
            from_ms: 0,
            to_ms: 100_000,
            ..clients
        };
        let undisturbed = Pair::new(hardware, steady, Policy::Off)
            .run(2_000)
            .iops(500, 2_000);
        let pair = Pair::new(hardware, clients, automatic()).run(7_200);
        let begin = pair.iops(3_050, 3_250) * 100 / undisturbed;
        let rest = pair.iops(3_000, 6_000) * 100 / undisturbed;
        let after = pair.resync_rate(6_100, 7_100) * 100 / pair.resync_rate(2_000, 3_000);
        println!(
            "{name}: clients' first 50-250 ms {begin} %, all {rest} %, resync afterwards {after} % of before"
        );
        assert!(begin >= 60 && rest >= 60, "{name}: {begin} % {rest} %");
        assert!(after >= 90, "{name}: {after} %");
    }
}

#[test]
fn limits_are_kept() {
    let busy = Clients {
        depth: 32,
        ..NOBODY
    };
    for clients in [NOBODY, busy] {
        let limits = Limits {
            min_rate: None,
            max_rate: Some(20 * MIB),
        };
        let pair = Pair::new(NVME, clients, controlled(limits)).run(6_000);
        let rate = pair.resync_rate(1_000, 6_000);
        assert!(rate <= 20 * MIB + MIB / 4, "{rate}");
        assert!(rate >= 18 * MIB, "{rate}");
    }
    // On a slow disk clients would be left more than this.
    let limits = Limits {
        min_rate: Some(15 * MIB),
        max_rate: None,
    };
    let one = Clients { depth: 1, ..NOBODY };
    let automatic = Pair::new(SPINNING, one, automatic()).run(10_000);
    let held = Pair::new(SPINNING, one, controlled(limits)).run(10_000);
    let (free, held) = (
        automatic.resync_rate(1_000, 10_000),
        held.resync_rate(1_000, 10_000),
    );
    assert!(free < 10 * MIB && held >= 12 * MIB, "{free} {held}");
    // The upper limit wins.
    let limits = Limits {
        min_rate: Some(50 * MIB),
        max_rate: Some(MIB),
    };
    let pair = Pair::new(NVME, busy, controlled(limits)).run(6_000);
    assert!(pair.resync_rate(1_000, 6_000) <= MIB + MIB / 4);
}

#[test]
fn limits_may_change_on_the_way() {
    let mut controller = Controller::new(Limits {
        min_rate: None,
        max_rate: Some(0),
    });
    assert_eq!((controller.rate(), controller.mode()), (None, Mode::Alone));
    controller.set_limits(Limits {
        min_rate: None,
        max_rate: Some(4096),
    });
    controller.started(1_000, MAX_RUN);
    let allowance = controller.allowance(1_000);
    assert_eq!((allowance.runs, allowance.held), (0, Some(Held::MaxRate)));
    // 128 KiB at 4 KiB a second.
    assert!(
        allowance
            .wake
            .is_some_and(|at| (31_000_000..=33_001_000).contains(&at))
    );
    controller.finished(2_000, MAX_RUN, 1_000, true);
    assert_eq!(controller.allowance(30_000_000).runs, 0);
    assert!(controller.allowance(33_100_000).runs > 0);
    controller.started(33_100_000, MAX_RUN);
    controller.set_limits(Limits::default());
    assert!(controller.allowance(33_100_000).runs > 0);
}

/// Clients whose requests never end (their data is on a third party's mind), and a client that vanished.
#[test]
fn clients_that_hang_slow_it_but_do_not_stop_it() {
    let mut controller = Controller::new(Limits::default());
    controller.client_started(1);
    let (mut now, mut done) = (10, 0u64);
    while now < 20_000_000 {
        let allowance = controller.allowance(now);
        if allowance.runs > 0 {
            controller.started(now, MAX_RUN);
            controller.finished(now + 1_000, MAX_RUN, now, true);
            done += u64::from(MAX_RUN);
            now += 1_000;
        } else {
            now = allowance.wake.unwrap().max(now + 1);
        }
    }
    assert!(done >= 18 * (MIB * 9 / 10), "{done}");
    controller.client_gone();
    let allowance = controller.allowance(now + 100_000);
    assert_eq!((controller.mode(), allowance.held), (Mode::Alone, None));
    assert!(allowance.runs > 0);
}

#[test]
fn a_lost_connection_leaves_nothing_in_flight() {
    let mut controller = Controller::new(Limits::default());
    let first = controller.allowance(0).runs;
    for _ in 0..first {
        controller.started(0, MAX_RUN);
    }
    let full = controller.allowance(1);
    assert_eq!((full.runs, full.wake, full.held), (0, None, None));
    controller.link_lost();
    assert_eq!(controller.allowance(2).runs, first);
    controller.finished(3, MAX_RUN, 0, false);
    assert_eq!(controller.allowance(3).runs, first);
}

/// Other work from one moment to the next must not leave clients with a baseline that is not theirs.
#[test]
fn it_follows_clients_that_change_what_they_do() {
    let small = Clients { depth: 4, ..NOBODY };
    let large = Clients {
        depth: 8,
        len: 64 << 10,
        ..NOBODY
    };
    let undisturbed = |clients| {
        Pair::new(GIGABIT, clients, Policy::Off)
            .run(2_000)
            .iops(500, 2_000)
    };
    for (first, then) in [(small, large), (large, small)] {
        let mut pair = Pair::new(GIGABIT, first, automatic());
        pair.change = Some((3_000 * MS, then));
        let pair = pair.run(6_000);
        let begin = pair.iops(3_100, 3_600) * 100 / undisturbed(then);
        let rest = pair.iops(3_600, 6_000) * 100 / undisturbed(then);
        let rate = pair.resync_rate(3_600, 6_000);
        println!(
            "after the change {begin} %, later {rest} %, resync {}",
            rate / MIB
        );
        assert!(begin >= 50 && rest >= 60, "{begin} % {rest} %");
        assert!(rate >= 10 * MIB, "{rate}");
    }
}
