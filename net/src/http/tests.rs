//! Whole conversations.

mod exec;

use super::*;
use crate::stream::ByteStream;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use proptest::strategy::Strategy;

/// One connection; the client's side is public.
#[derive(Default)]
struct Pipe {
    inbound: Vec<u8>,
    closed: bool,
    outbound: Vec<u8>,
    /// Bytes that may be written before the client reads.
    window: usize,
}

impl ByteStream for Pipe {
    fn readable(&self) -> usize {
        self.inbound.len()
    }
    fn read(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.inbound.len());
        out[..n].copy_from_slice(&self.inbound[..n]);
        self.inbound.drain(..n);
        n
    }
    fn at_end(&self) -> bool {
        self.closed && self.inbound.is_empty()
    }
    fn writable(&self) -> usize {
        self.window
    }
    fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.window);
        self.outbound.extend_from_slice(&data[..n]);
        self.window -= n;
        n
    }
}

struct Node {
    healthy: bool,
    /// Length of the document of metrics.
    metrics: usize,
    written: usize,
    /// The number of the last event.
    events: u64,
    /// What the reader in each slot knows.
    readers: [u64; 8],
    /// Commands that were begun, with their slots.
    commands: Vec<(u16, String)>,
}

impl Site for Node {
    fn write(&mut self, page: Page, out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
        self.written += 1;
        match page {
            Page::Health => out.write_str(if self.healthy { "ok\n" } else { "no disk\n" })?,
            Page::Status => out.write_str("{\"schema\":1}\n")?,
            Page::Metrics => (0..self.metrics).try_for_each(|_| out.write_char('m'))?,
        }
        Ok(page != Page::Health || self.healthy)
    }

    fn follow(&mut self, slot: u16, mark: Option<Mark>) {
        self.readers[usize::from(slot)] = mark.map_or(self.events, |mark| mark.sequence);
    }

    fn event(&mut self, slot: u16, out: &mut dyn fmt::Write) -> Result<bool, fmt::Error> {
        let seen = &mut self.readers[usize::from(slot)];
        if *seen == self.events {
            return Ok(false);
        }
        *seen += 1;
        write!(out, "id: {seen}-7\ndata: {{\"seq\":{seen}}}\n\n")?;
        Ok(true)
    }

    fn command(&mut self, slot: u16, line: &str) {
        self.commands.push((slot, line.to_string()));
    }
}

struct World {
    server: Server,
    node: Node,
    now: Micros,
    pipes: Vec<(u16, Pipe)>,
}

const CONFIG: ServerConfig = ServerConfig {
    slots: 4,
    documents: 2,
    document_bytes: 1024,
};

impl World {
    fn new() -> Self {
        Self {
            server: Server::new(&CONFIG),
            node: Node {
                healthy: true,
                metrics: 600,
                written: 0,
                events: 0,
                readers: [0; 8],
                commands: Vec::new(),
            },
            now: 1_000_000,
            pipes: Vec::new(),
        }
    }

    /// A new connection; answers its place in `pipes`.
    fn connect(&mut self) -> usize {
        let accepted = self.server.accept(self.now).expect("a slot");
        if accepted.evicted {
            self.pipes
                .iter_mut()
                .filter(|p| p.0 == accepted.slot)
                .for_each(|p| p.0 = u16::MAX);
        }
        let pipe = Pipe {
            window: usize::MAX / 2,
            ..Pipe::default()
        };
        self.pipes.push((accepted.slot, pipe));
        self.pipes.len() - 1
    }

    fn poll(&mut self, at: usize) -> Verdict {
        let (slot, pipe) = &mut self.pipes[at];
        self.server.poll(*slot, self.now, pipe)
    }

    /// Turns as long as the session wants one, at most a thousand.
    fn run(&mut self, at: usize) -> Verdict {
        for _ in 0..1_000 {
            self.server.answer(self.now, &mut self.node);
            let (slot, pipe) = &self.pipes[at];
            if !self.server.wants_poll(*slot, self.now, pipe) {
                return Verdict::Continue;
            }
            let verdict = self.poll(at);
            if verdict != Verdict::Continue {
                return verdict;
            }
        }
        panic!("it wants turns for ever");
    }

    fn send(&mut self, at: usize, bytes: impl AsRef<[u8]>) -> Verdict {
        self.pipes[at].1.inbound.extend_from_slice(bytes.as_ref());
        self.run(at)
    }

    fn answer(&mut self, at: usize) -> String {
        let bytes = core::mem::take(&mut self.pipes[at].1.outbound);
        String::from_utf8(bytes).expect("text")
    }

    /// A request on a connection of its own, which is closed afterwards.
    fn ask(&mut self, request: &str) -> String {
        let at = self.connect();
        let verdict = self.send(at, request);
        if verdict == Verdict::Continue {
            self.server.hang_up(self.pipes[at].0);
        }
        self.answer(at)
    }
}

fn get(path: &str) -> String {
    alloc::format!("GET {path} HTTP/1.1\r\nHost: n\r\n\r\n")
}

/// The code, the headers and the body of an answer.
#[track_caller]
fn parts(answer: &str) -> (u16, String, String) {
    let (head, body) = answer.split_once("\r\n\r\n").expect(answer);
    let code = head
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3));
    let code = code.and_then(|code| code.parse().ok()).expect(answer);
    (code, head.to_string(), body.to_string())
}

#[track_caller]
fn has(head: &str, header: &str) {
    assert!(
        head.lines().any(|line| line == header),
        "{header} is not in {head}"
    );
}

#[test]
fn documents_are_served_with_their_kinds_and_lengths() {
    let mut world = World::new();
    for (path, kind, body) in [
        ("/healthz", "text/plain; charset=utf-8", "ok\n"),
        ("/status", "application/json", "{\"schema\":1}\n"),
        (
            "/metrics",
            "text/plain; version=0.0.4; charset=utf-8",
            &*"m".repeat(600),
        ),
    ] {
        let (code, head, got) = parts(&world.ask(&get(path)));
        assert_eq!((code, &*got), (200, body));
        has(&head, &alloc::format!("Content-Type: {kind}"));
        has(&head, &alloc::format!("Content-Length: {}", body.len()));
        has(&head, "Cache-Control: no-store");
        let head_only = world.ask(&get(path).replace("GET", "HEAD"));
        assert_eq!(parts(&head_only), (200, head, String::new()));
    }
    world.node.healthy = false;
    let (code, _, body) = parts(&world.ask(&get("/healthz")));
    assert_eq!((code, &*body), (503, "no disk\n"));
}

#[test]
fn mistakes_get_a_code_and_a_sentence() {
    let mut world = World::new();
    let long = alloc::format!("GET /{} HTTP/1.1\r\n", "x".repeat(HEAD_BYTES_MAX));
    let many = alloc::format!(
        "GET / HTTP/1.1\r\nHost: n\r\n{}\r\n",
        "X: y\r\n".repeat(HEADERS_MAX)
    );
    for (request, code, word) in [
        (&*get("/nothing"), 404, "there is no such page"),
        ("PUT /status HTTP/1.1\r\nHost: n\r\n\r\n", 405, "Allow"),
        ("BREW /metrics HTTP/1.1\r\nHost: n\r\n\r\n", 405, "Allow"),
        (
            "\x16\x03\x01\x02\x00\x01\x00\x01",
            400,
            "not an HTTP/1.1 request",
        ),
        ("GET / HTTP/3.0\r\n\r\n", 505, "HTTP/1.1"),
        (
            "POST /status HTTP/1.1\r\nHost: n\r\nContent-Length: 99999\r\n\r\n",
            413,
            "258 bytes",
        ),
        (&*long, 431, "4096 bytes"),
        (&*many, 431, "32 header lines"),
    ] {
        let (got, head, body) = parts(&world.ask(request));
        assert_eq!(got, code, "{request}");
        assert!(body.contains(word), "{body}");
        if code == 405 {
            has(&head, "Allow: GET, HEAD");
        }
        if code != 404 && code != 405 {
            has(&head, "Connection: close");
        }
    }
    assert_eq!(world.node.written, 0);
    let counts: Vec<_> = world
        .server
        .counts()
        .iter()
        .filter(|(_, n)| *n > 0)
        .collect();
    assert_eq!(
        counts,
        [(400, 1), (404, 1), (405, 2), (413, 1), (431, 2), (505, 1)]
    );
}

#[test]
fn a_connection_serves_one_request_after_the_other() {
    let mut world = World::new();
    let at = world.connect();
    // Two at once, and the third in pieces.
    let third = get("/healthz");
    let sent = get("/status") + &get("/nothing") + &third[..9];
    assert_eq!(world.send(at, sent), Verdict::Continue);
    let answers = world.answer(at);
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 2, "{answers}");
    assert!(answers.find(" 200 OK") < answers.find(" 404 "), "{answers}");
    assert_eq!(world.send(at, &third[9..]), Verdict::Continue);
    assert_eq!(parts(&world.answer(at)).0, 200);
    let last = get("/status").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    assert_eq!(world.send(at, last), Verdict::Close);
    has(&parts(&world.answer(at)).1, "Connection: close");
    assert_eq!(world.server.connections(), 0);
}

#[test]
fn each_turn_answers_one_request() {
    let mut world = World::new();
    let at = world.connect();
    world.pipes[at].1.inbound = get("/status").repeat(3).into_bytes();
    for answered in 1..=3 {
        assert_eq!(world.poll(at), Verdict::Continue);
        assert_eq!(world.server.answer(world.now, &mut world.node), Some(0));
        assert_eq!(world.server.answer(world.now, &mut world.node), None);
        assert_eq!(world.poll(at), Verdict::Continue);
        assert_eq!(world.node.written, answered);
    }
    assert_eq!(world.server.poll_timeout(), Some(world.now + IDLE_LIMIT));
}

#[test]
fn a_request_that_trickles_in_is_given_up() {
    let mut world = World::new();
    let (slow, silent) = (world.connect(), world.connect());
    let begun = world.now;
    // A byte a second never is a whole request.
    for byte in get("/status").bytes() {
        if world.send(slow, [byte]) == Verdict::Close {
            break;
        }
        world.now += 1_000_000;
    }
    assert_eq!(world.now, begun + REQUEST_LIMIT);
    let (code, head, body) = parts(&world.answer(slow));
    assert_eq!(code, 408);
    has(&head, "Connection: close");
    assert!(body.contains("10 seconds"), "{body}");
    // Who says nothing at all is not answered.
    world.now = begun + IDLE_LIMIT - 1;
    assert_eq!(world.run(silent), Verdict::Continue);
    assert_eq!(world.server.poll_timeout(), Some(begun + IDLE_LIMIT));
    world.now += 1;
    assert_eq!(world.run(silent), Verdict::Close);
    assert_eq!(world.answer(silent), "");
}

#[test]
fn readers_that_are_slow_or_gone_give_their_memory_back() {
    let mut world = World::new();
    let slow: Vec<usize> = (0..2).map(|_| world.connect()).collect();
    for at in slow.iter().copied() {
        world.pipes[at].1.window = 100;
        assert_eq!(world.send(at, get("/metrics")), Verdict::Continue);
    }
    // Both documents are on their way: the third request waits, and anything short does not.
    let third = world.connect();
    assert_eq!(world.send(third, get("/status")), Verdict::Continue);
    assert_eq!(world.answer(third), "");
    assert_eq!(parts(&world.ask(&get("/nothing"))).0, 404);
    world.pipes[slow[0]].1.window = 10_000;
    assert_eq!(world.run(slow[0]), Verdict::Continue);
    assert_eq!(parts(&world.answer(slow[0])).2.len(), 600);
    assert_eq!(world.run(third), Verdict::Continue);
    assert_eq!(parts(&world.answer(third)).0, 200);
    world.now += ANSWER_LIMIT;
    assert_eq!(world.run(slow[1]), Verdict::Abort);
    // Now both are free again.
    for _ in 0..3 {
        assert_eq!(parts(&world.ask(&get("/metrics"))).0, 200);
    }
}

#[test]
fn who_waits_too_long_for_memory_is_told() {
    let mut world = World::new();
    let stuck: Vec<usize> = (0..2).map(|_| world.connect()).collect();
    for at in stuck {
        world.pipes[at].1.window = 0;
        assert_eq!(world.send(at, get("/metrics")), Verdict::Continue);
    }
    let third = world.connect();
    assert_eq!(world.send(third, get("/status")), Verdict::Continue);
    world.now += ANSWER_LIMIT;
    assert_eq!(world.run(third), Verdict::Continue);
    let (code, _, body) = parts(&world.answer(third));
    assert_eq!(code, 503);
    assert!(body.contains("memory for documents"), "{body}");
}

#[test]
fn a_document_beyond_its_memory_is_an_error_and_not_a_cut_one() {
    let mut world = World::new();
    world.node.metrics = CONFIG.document_bytes + 1;
    assert_eq!(parts(&world.ask(&get("/metrics"))).0, 500);
    world.node.metrics = CONFIG.document_bytes;
    assert_eq!(parts(&world.ask(&get("/metrics"))).0, 200);
}

#[test]
fn a_full_table_makes_room_at_the_least_loss() {
    let mut world = World::new();
    let idle = world.connect();
    world.now += 1;
    let trickling = world.connect();
    assert_eq!(world.send(trickling, "GET /"), Verdict::Continue);
    let mut answered = Vec::new();
    for _ in 0..2 {
        let at = world.connect();
        world.pipes[at].1.window = 0;
        assert_eq!(world.send(at, get("/metrics")), Verdict::Continue);
        answered.push(world.pipes[at].0);
    }
    let slot = |world: &World, at: usize| world.pipes[at].0;
    // Whoever has just come may be about to ask.
    world.now += 1;
    assert_eq!(world.server.accept(world.now), None);
    // The one without a request goes first, then the one whose request has been coming for longest.
    world.now += GRACE;
    let accepted = world.server.accept(world.now).expect("room");
    assert_eq!(
        (accepted.slot, accepted.evicted),
        (slot(&world, idle), true)
    );
    let mut pipe = Pipe {
        inbound: b"GET".to_vec(),
        ..Pipe::default()
    };
    let verdict = world.server.poll(accepted.slot, world.now, &mut pipe);
    assert_eq!(verdict, Verdict::Continue);
    let next = world.server.accept(world.now).map(|accepted| accepted.slot);
    assert_eq!(
        next,
        Some(slot(&world, trickling)).filter(|slot| !answered.contains(slot))
    );
    assert_eq!(world.server.accept(world.now), None, "both have just come");
}

#[test]
fn the_page_is_served_with_a_policy() {
    let mut world = World::new();
    let (code, head, body) = parts(&world.ask(&get("/")));
    assert_eq!(code, 200);
    has(&head, "Content-Type: text/html; charset=utf-8");
    has(&head, &alloc::format!("Content-Length: {}", body.len()));
    assert!(
        head.contains("\r\nContent-Security-Policy: default-src 'none';"),
        "{head}"
    );
    assert!(body.starts_with("<!doctype html>") && body.ends_with("</html>\n"));
    assert_eq!(
        parts(&world.ask(&get("/").replace("GET", "HEAD"))),
        (200, head, String::new())
    );
    assert_eq!(parts(&world.ask(&get("/").replace("GET", "POST"))).0, 405);
}

#[test]
fn events_are_sent_as_they_happen() {
    let mut world = World::new();
    world.node.events = 3;
    let (fresh, back) = (world.connect(), world.connect());
    assert_eq!(world.send(fresh, get("/events")), Verdict::Continue);
    let (code, head, body) = parts(&world.answer(fresh));
    assert_eq!((code, &*body), (200, ""));
    has(&head, "Content-Type: text/event-stream");
    has(&head, "Connection: close");
    assert!(!head.contains("Content-Length"), "{head}");
    let again = get("/events").replace("\r\n\r\n", "\r\nLast-Event-ID: 2-7\r\n\r\n");
    assert_eq!(world.send(back, again), Verdict::Continue);
    let third = "id: 3-7\ndata: {\"seq\":3}\n\n";
    assert_eq!(parts(&world.answer(back)).2, third);
    // Nothing happens: a sign of life now and then.
    world.now += HEARTBEAT;
    assert_eq!(world.run(fresh), Verdict::Continue);
    assert_eq!(world.answer(fresh), ":\n\n");
    world.node.events = 100;
    assert_eq!(world.run(fresh), Verdict::Continue);
    assert_eq!(world.answer(fresh), "");
    world.server.stir();
    assert_eq!(world.run(fresh), Verdict::Continue);
    assert_eq!(world.answer(fresh).matches("data: ").count(), 97);
    world.pipes[fresh].1.closed = true;
    assert_eq!(world.run(fresh), Verdict::Close);
    // It changes nothing.
    assert_eq!(
        parts(&world.ask(&get("/events").replace("GET", "HEAD"))).0,
        405
    );
}

#[test]
fn readers_of_events_are_few_and_must_read() {
    let mut world = World::new();
    world.server = Server::new(&ServerConfig { slots: 8, ..CONFIG });
    let readers: Vec<usize> = (0..READERS_MAX).map(|_| world.connect()).collect();
    for at in readers.iter().copied() {
        assert_eq!(world.send(at, get("/events")), Verdict::Continue);
        world.answer(at);
    }
    let (code, _, body) = parts(&world.ask(&get("/events")));
    assert!(code == 503 && body.contains("6 readers"), "{code} {body}");
    assert_eq!(parts(&world.ask(&get("/status"))).0, 200);
    // They do not make room for others, and one that does not read is given up.
    world.now += HEARTBEAT - 1;
    world.pipes[readers[0]].1.window = 10;
    world.node.events = 1;
    world.server.stir();
    for at in readers.iter().copied() {
        assert_eq!(world.run(at), Verdict::Continue);
    }
    world.now += ANSWER_LIMIT;
    assert_eq!(world.run(readers[0]), Verdict::Abort);
    assert_eq!(world.run(readers[1]), Verdict::Continue);
    assert_eq!(world.answer(readers[1]), "id: 1-7\ndata: {\"seq\":1}\n\n");
    let next = world.connect();
    assert_eq!(world.send(next, get("/events")), Verdict::Continue);
    assert_eq!(parts(&world.answer(next)).0, 200);
}

#[test]
fn nothing_is_allocated_after_the_start() {
    let mut world = World::new();
    let info = allocation_counter::measure(|| {
        for path in ["/healthz", "/status", "/metrics", "/nothing"] {
            let accepted = world.server.accept(world.now).expect("a slot");
            let mut stream = Fixed {
                inbound: path.as_bytes(),
                state: 0,
            };
            let mut verdict = Verdict::Continue;
            for _ in 0..6 {
                world.server.answer(world.now, &mut world.node);
                if verdict == Verdict::Continue {
                    verdict = world.server.poll(accepted.slot, world.now, &mut stream);
                }
            }
            assert_eq!(verdict, Verdict::Close);
        }
    });
    assert_eq!(info.count_total, 0);
    assert_eq!(world.node.written, 3);
}

/// Sends a request for a path and takes whatever comes, without memory.
struct Fixed<'a> {
    inbound: &'a [u8],
    state: u8,
}

impl ByteStream for Fixed<'_> {
    fn readable(&self) -> usize {
        usize::from(self.state < 3)
    }
    fn read(&mut self, out: &mut [u8]) -> usize {
        let part: &[u8] = match self.state {
            0 => b"GET ",
            1 => self.inbound,
            2 => b" HTTP/1.0\r\n\r\n",
            _ => b"",
        };
        self.state = (self.state + 1).min(3);
        out[..part.len()].copy_from_slice(part);
        part.len()
    }
    fn at_end(&self) -> bool {
        self.state == 3
    }
    fn writable(&self) -> usize {
        1
    }
    fn write(&mut self, data: &[u8]) -> usize {
        data.len()
    }
}

proptest::proptest! {
    /// Whatever comes, in whatever pieces: no panic, no answer larger than its parts, and in the end every slot and document is free.
    #[test]
    fn nothing_that_comes_does_harm(
        pieces in proptest::collection::vec(
            (0usize..4, proptest::prop_oneof![
                proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200),
                proptest::sample::select(alloc::vec![
                    &b"GET /metrics HTTP/1.1\r\n"[..], b"Host: n\r\n", b"\r\n", b"HEAD /status HTTP/1.0\r\n\r\n", b"GET /events HTTP/1.0\r\n\r\n",
                    b"Connection: close\r\n", b"Content-Length: 7\r\n", b"POST / HTTP/1.1\r\nHost: n\r\n",
                ]).prop_map(<[u8]>::to_vec),
            ], 0u64..3_000_000, 0usize..1_000),
            0..60,
        ),
    ) {
        use proptest::prelude::*;
        let mut world = World::new();
        let mut open = [None; 4];
        for (which, bytes, pause, window) in pieces {
            world.now += pause;
            let at = *open[which].get_or_insert_with(|| world.connect());
            world.pipes[at].1.window = window;
            if world.send(at, bytes) != Verdict::Continue {
                open[which] = None;
            }
        }
        world.now += IDLE_LIMIT;
        for at in open.into_iter().flatten() {
            world.pipes[at].1.closed = true;
            world.pipes[at].1.window = usize::MAX / 2;
            for _ in 0..3 {
                if world.run(at) != Verdict::Continue {
                    break;
                }
                world.now += IDLE_LIMIT;
            }
        }
        prop_assert_eq!(world.server.connections(), 0);
        prop_assert_eq!(parts(&world.ask(&get("/metrics"))).0, 200);
        prop_assert_eq!(parts(&world.ask(&get("/status"))).0, 200);
    }
}
