//! Frames over a pipe that gives and takes as little as it likes.

use super::*;
use crate::stream::ByteStream;
use alloc::collections::VecDeque;
use alloc::vec;
use replication::secure::{
    Integrity, MESSAGE_LEN, Opener, Preamble, PreambleSide, Sealer, Session, TAG_LEN,
};
use replication::wire::{HEADER_LEN, MAX_BODY, MAX_PAYLOAD, State, VolumeState, WireError};

struct Pipe {
    bytes: VecDeque<u8>,
    /// Most bytes per call.
    grain: usize,
    capacity: usize,
}

impl Pipe {
    fn new(grain: usize, capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            grain,
            capacity,
        }
    }
}

impl ByteStream for Pipe {
    fn readable(&self) -> usize {
        self.bytes.len()
    }
    fn read(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.grain).min(self.bytes.len());
        for (to, from) in out.iter_mut().zip(self.bytes.drain(..n)) {
            *to = from;
        }
        n
    }
    fn at_end(&self) -> bool {
        false
    }
    fn writable(&self) -> usize {
        self.capacity - self.bytes.len()
    }
    fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.grain).min(self.writable());
        self.bytes.extend(&data[..n]);
        n
    }
}

/// What one side's preamble leaves for its sender, and the other's for its receiver.
fn keys(mode: Integrity) -> Option<(Sealer, Opener)> {
    let security = demand(mode, Some(SECRET));
    let side = |side, nonce| Preamble::new(&security, side, [nonce; 32]);
    let mut ends = [side(PreambleSide::Dials, 1), side(PreambleSide::Listens, 2)];
    for _ in 0..6 {
        let [a, b] = &mut ends;
        while let Some(message) = a.output().first_chunk::<MESSAGE_LEN>() {
            b.input().copy_from_slice(message);
            a.sent(MESSAGE_LEN);
            b.received(&security, MESSAGE_LEN).expect("equal demands");
        }
        ends.reverse();
    }
    let [a, b] = ends.map(|end| end.session(&security).expect("finished"));
    match (a, b) {
        (Session::Sealed(sealer, _), Session::Sealed(_, opener)) => Some((sealer, opener)),
        (Session::Checked, Session::Checked) => None,
        both => panic!("{both:?}"),
    }
}

/// Both ends of a connection of that mode.
fn ends(mode: Integrity, limit: usize) -> (LinkTx, LinkRx) {
    let (mut tx, mut rx) = (LinkTx::new(limit), LinkRx::new());
    if let Some((sealer, opener)) = keys(mode) {
        tx.seal_with(sealer);
        rx.open_with(opener);
    }
    (tx, rx)
}

/// A frame with a body.
fn state_frame() -> Frame {
    let mut volumes = heapless::Vec::new();
    let volume = VolumeState {
        disk: DiskState::UpToDate,
        paused: false,
        waits: false,
        verifies: false,
    };
    volumes.push(volume).expect("room");
    Frame::State(State {
        role: Role::Primary,
        volumes,
    })
}

fn frames() -> Vec<(Frame, u32)> {
    vec![
        (Frame::Ping, 0),
        (write_frame(1), 1),
        (write_frame(2), 4096),
        (state_frame(), 0),
        (write_frame(3), MAX_PAYLOAD),
        (Frame::Ack { request: 3 }, 0),
        (write_frame(4), 70_000),
    ]
}

#[test]
fn frames_arrive_whole_through_pipes_of_every_width() {
    let widths = [(1, 7), (13, 100), (4096, 5000), (1 << 20, 1 << 20)];
    let all = MODES
        .iter()
        .flat_map(|mode| widths.map(|width| (*mode, width)));
    for (mode, (grain, capacity)) in all {
        let mut pipe = Pipe::new(grain, capacity);
        let mut pool = Pool::new(256);
        let mut memory = VecMemory::new(256);
        let (mut tx, mut rx) = ends(mode, 16);
        let mut sources = Vec::new();
        for (index, (frame, len)) in frames().into_iter().enumerate() {
            let source = (len > 0).then(|| {
                let buf = pool.alloc(len).expect("room");
                memory.bytes_mut(buf.view()).fill(index as u8);
                buf
            });
            tx.push(frame, source.as_ref().map(Buf::view))
                .expect("room");
            sources.extend(source);
        }
        let mut received = Vec::new();
        while received.len() < frames().len() {
            tx.pump(&mut pipe, &memory);
            if let Some(got) = rx.poll(&mut pipe, &mut pool, &mut memory).expect("valid") {
                received.push(got);
            }
        }
        assert_eq!(tx.pump(&mut pipe, &memory), 0, "everything was written");
        assert!(pipe.bytes.is_empty());
        for (index, ((frame, len), got)) in frames().into_iter().zip(received).enumerate() {
            assert_eq!(got.0, frame);
            assert_eq!(got.1.as_ref().map_or(0, Buf::len), len);
            if let Some(buf) = got.1 {
                assert!(memory.bytes(buf.view()).iter().all(|&b| b == index as u8));
                pool.free(buf);
            }
        }
        sources.into_iter().for_each(|buf| pool.free(buf));
        assert_eq!(pool.free_bytes(), pool.total_bytes());
    }
}

#[test]
fn without_a_buffer_nothing_more_is_read() {
    for mode in MODES {
        nothing_more_is_read(mode);
    }
}

fn nothing_more_is_read(mode: Integrity) {
    let mut pipe = Pipe::new(1 << 20, 1 << 20);
    let mut pool = Pool::new(8);
    let mut memory = VecMemory::new(8);
    let (mut tx, mut rx) = ends(mode, 16);
    let all = pool.alloc(8 * 4096).expect("the whole pool");
    tx.push(write_frame(1), Some(all.view())).expect("room");
    tx.push(Frame::Ping, None).expect("room");
    tx.pump(&mut pipe, &memory);
    let total = pipe.bytes.len();
    for _ in 0..3 {
        assert_eq!(rx.poll(&mut pipe, &mut pool, &mut memory), Ok(None));
    }
    assert!(total - pipe.bytes.len() <= HEADER_LEN + MAX_BODY + TAG_LEN);
    pool.free(all);
    let got = rx.poll(&mut pipe, &mut pool, &mut memory).expect("valid");
    let (frame, buf) = got.expect("whole");
    assert_eq!(frame, write_frame(1));
    let ping = rx.poll(&mut pipe, &mut pool, &mut memory);
    assert_eq!(ping, Ok(Some((Frame::Ping, None))));
    pool.free(buf.expect("a payload"));
}

#[test]
fn a_payload_beyond_the_limit_is_never_read() {
    let mut pipe = Pipe::new(1 << 20, 1 << 20);
    let mut pool = Pool::new(64);
    let mut memory = VecMemory::new(64);
    let mut bytes = [0; HEADER_LEN + MAX_BODY];
    for len in [MAX_PAYLOAD + 1, u32::MAX] {
        let used = write_frame(1).encode(len, &mut bytes);
        pipe.write(&bytes[..used]);
        pipe.write(&[0; 100]);
        let error = rx_error(&mut pipe, &mut pool, &mut memory);
        assert!(
            matches!(
                error,
                LinkError::Wire(WireError::Length) | LinkError::PayloadLength(_)
            ),
            "{error}"
        );
        assert!(pipe.bytes.len() >= 100);
        assert_eq!(pool.free_bytes(), pool.total_bytes());
        pipe.bytes.clear();
    }
}

fn rx_error(pipe: &mut Pipe, pool: &mut Pool, memory: &mut VecMemory) -> LinkError {
    LinkRx::new()
        .poll(pipe, pool, memory)
        .expect_err("must be refused")
}

#[test]
fn garbage_is_an_error_or_waits_for_more() {
    let mut pool = Pool::new(64);
    let mut memory = VecMemory::new(64);
    let mut pipe = Pipe::new(1 << 20, 1 << 20);
    pipe.write(b"GET / HTTP/1.1\r\nHost: storage.example.org\r\nAccept: */*\r\n\r\n");
    rx_error(&mut pipe, &mut pool, &mut memory);

    // A real frame with one bit flipped anywhere in header or body.
    let mut bytes = [0; HEADER_LEN + MAX_BODY];
    let used = write_frame(7).encode(0, &mut bytes);
    for bit in 0..used * 8 {
        let mut bent = bytes;
        bent[bit / 8] ^= 1 << (bit % 8);
        pipe.bytes.clear();
        pipe.write(&bent[..used]);
        let error = LinkRx::new().poll(&mut pipe, &mut pool, &mut memory);
        assert!(error.is_err(), "bit {bit} was not noticed");
    }
    assert_eq!(pool.free_bytes(), pool.total_bytes());
}

#[test]
fn a_reset_gives_the_half_filled_buffer_back() {
    let mut pipe = Pipe::new(1 << 20, 1 << 20);
    let mut pool = Pool::new(64);
    let mut memory = VecMemory::new(64);
    let (mut tx, mut rx) = (LinkTx::new(1), LinkRx::new());
    let source = pool.alloc(65536).expect("room");
    let source_view = source.view();
    tx.push(write_frame(1), Some(source_view)).expect("room");
    assert_eq!(tx.push(Frame::Ping, None), Err(QueueFull));
    tx.pump(&mut pipe, &memory);
    pipe.bytes.truncate(30_000);
    assert_eq!(rx.poll(&mut pipe, &mut pool, &mut memory), Ok(None));
    assert_eq!(pool.free_bytes(), pool.total_bytes() - 2 * 65536);
    rx.reset(&mut pool);
    assert_eq!(pool.free_bytes(), pool.total_bytes() - 65536);

    // Both ends start anew on the next connection.
    let mut narrow = Pipe::new(1 << 20, 10);
    tx.push(write_frame(2), Some(source_view)).expect("room");
    assert_eq!(tx.pump(&mut narrow, &memory), 10, "a part of the header");
    tx.clear();
    pipe.bytes.clear();
    assert_eq!(tx.pump(&mut pipe, &memory), 0);
    tx.push(Frame::Pong, None).expect("room");
    tx.pump(&mut pipe, &memory);
    let got = rx.poll(&mut pipe, &mut pool, &mut memory);
    assert_eq!(got, Ok(Some((Frame::Pong, None))));
    pool.free(source);
}

#[test]
fn any_bit_flipped_on_the_way_costs_the_connection_and_no_buffer() {
    for mode in MODES {
        let mut pool = Pool::new(8);
        let mut memory = VecMemory::new(8);
        let source = pool.alloc(100).expect("room");
        memory.bytes_mut(source.view()).fill(0x5a);
        let mut pipe = Pipe::new(1 << 20, 1 << 20);
        let (mut tx, _) = ends(mode, 4);
        tx.push(state_frame(), None).expect("room");
        tx.push(write_frame(1), Some(source.view())).expect("room");
        tx.pump(&mut pipe, &memory);
        let sent: Vec<u8> = pipe.bytes.iter().copied().collect();
        for bit in 0..sent.len() * 8 {
            let (_, mut rx) = ends(mode, 4);
            pipe.bytes.clear();
            pipe.bytes.extend(&sent);
            pipe.bytes[bit / 8] ^= 1 << (bit % 8);
            let mut whole = 0;
            let error = loop {
                match rx.poll(&mut pipe, &mut pool, &mut memory) {
                    Ok(Some((_, None))) => whole += 1,
                    other => break other,
                }
            };
            assert!(error.is_err(), "{mode}, bit {bit}: {error:?}");
            assert!(whole <= 1);
            rx.reset(&mut pool);
            assert_eq!(pool.free_bytes(), pool.total_bytes() - 4096);
            // In the middle of a connection this is damage, but for the magic number.
            let error = error.expect_err("seen above");
            if mode.seals() {
                assert_eq!(error, LinkError::Seal);
            } else if error != LinkError::Wire(WireError::Magic) {
                assert_eq!(error.reason(), LinkDownReason::Corrupt, "{error}");
            }
        }
    }
}

#[test]
fn sealed_bytes_show_neither_frames_nor_payloads() {
    for mode in MODES {
        let mut pool = Pool::new(8);
        let mut memory = VecMemory::new(8);
        let source = pool.alloc(4096).expect("room");
        memory.bytes_mut(source.view()).fill(0x5a);
        let mut pipe = Pipe::new(1 << 20, 1 << 20);
        let (mut tx, _) = ends(mode, 4);
        tx.push(write_frame(1), Some(source.view())).expect("room");
        tx.pump(&mut pipe, &memory);
        let sent = pipe.bytes.make_contiguous();
        let parts = if mode.seals() { 2 * TAG_LEN } else { 0 };
        assert_eq!(sent.len(), HEADER_LEN + 4096 + parts);
        let shows = |what: &[u8]| sent.windows(what.len()).any(|bytes| bytes == what);
        assert_eq!(shows(b"PLSD"), !mode.seals());
        assert_eq!(shows(&[0x5a; 8]), !mode.seals());
    }
}

#[test]
fn steady_traffic_allocates_nothing() {
    for mode in MODES {
        let mut pipe = Pipe::new(1 << 20, 1 << 20);
        pipe.bytes.reserve(1 << 20);
        let mut pool = Pool::new(64);
        let mut memory = VecMemory::new(64);
        let (mut tx, mut rx) = ends(mode, 4);
        let source = pool.alloc(MAX_PAYLOAD).expect("room");
        let counted = allocation_counter::measure(|| {
            for n in 0..5 {
                tx.push(write_frame(n), Some(source.view())).expect("room");
                tx.push(Frame::Ack { request: n }, None).expect("room");
                tx.pump(&mut pipe, &memory);
                for _ in 0..2 {
                    let got = rx.poll(&mut pipe, &mut pool, &mut memory);
                    let (_, buf) = got.expect("valid").expect("whole");
                    if let Some(buf) = buf {
                        pool.free(buf);
                    }
                }
            }
        });
        assert_eq!(counted.count_total, 0, "{mode}");
    }
}
