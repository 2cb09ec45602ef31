//! Somebody on the network between two nodes, or in the place of one.

use crate::frames::samples;
use crate::input::Input;
use crate::pipe::Pipe;
use crc::{CRC_32_ISCSI, Crc};
use net::link::{LinkError, LinkRx, LinkTx};
use replication::buf::{Buf, Pool, PoolMemory, VecMemory};
use replication::secure::{
    Integrity, MESSAGE_LEN, NonceSource, Opener, Preamble, PreambleSide, Sealer, Security, Session,
};
use replication::wire::Frame;

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);
const PAGES: u32 = 40;
const MODES: [Integrity; 3] = [
    Integrity::Crc32c,
    Integrity::Aes256Gcm,
    Integrity::ChaCha20Poly1305,
];

/// One node on its way through the preamble.
struct Side {
    security: Security,
    preamble: Preamble,
    /// The messages that it sent.
    said: Vec<[u8; MESSAGE_LEN]>,
    failed: bool,
}

impl Side {
    fn new(mode: Integrity, secret: Option<&[u8]>, side: PreambleSide) -> Self {
        let security = Security::new(mode, secret, "r0").expect("a secret that will do");
        let seed = match side {
            PreambleSide::Dials => 1,
            PreambleSide::Listens => 2,
        };
        let nonce = NonceSource::new([seed; 4]).next_nonce();
        Self {
            preamble: Preamble::new(&security, side, nonce),
            security,
            said: Vec::new(),
            failed: false,
        }
    }

    /// What it has to say now.
    fn say(&mut self) -> Vec<u8> {
        let out = self.preamble.output().to_vec();
        self.preamble.sent(out.len());
        let (messages, rest) = out.as_chunks();
        assert!(rest.is_empty(), "half a message");
        self.said.extend(messages);
        assert!(self.said.len() <= 3, "more messages than there are");
        out
    }

    fn hear(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.failed {
            let room = self.preamble.input();
            let n = room.len().min(bytes.len());
            if n == 0 {
                break;
            }
            room[..n].copy_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
            let taken = self.preamble.received(&self.security, n);
            if let Err(error) = taken {
                assert!(!error.to_string().is_empty());
                self.failed = true;
            }
        }
    }

    fn session(&mut self) -> Option<Session> {
        let session = self.preamble.session(&self.security);
        assert!(!self.failed || session.is_none(), "failed, and yet through");
        session
    }
}

fn secret(which: usize) -> Option<&'static [u8]> {
    [
        None,
        Some(&b"correct horse battery"[..]),
        Some(b"0123456789abcdef"),
    ][which]
}

fn side(input: &mut Input<'_>, side: PreambleSide) -> (Side, Integrity, usize) {
    let which = input.pick(3);
    let mode = match which {
        0 => Integrity::Crc32c,
        _ => input.one_of(&MODES),
    };
    (Side::new(mode, secret(which), side), mode, which)
}

/// Somebody without the secret talks to a node that has one: with bytes of his choice, and with what the node
/// said itself.
pub fn impostor(input: &mut Input<'_>) {
    let mode = input.one_of(&MODES);
    let place = [PreambleSide::Dials, PreambleSide::Listens][input.pick(2)];
    let mut node = Side::new(mode, secret(1), place);
    node.say();
    for _ in 0..8 {
        let kind = input.byte();
        let mut message = match kind & 3 {
            0 if !node.said.is_empty() => node.said[usize::from(kind >> 4) % node.said.len()],
            _ => {
                *b"PLSP\x01\x01\x01\x01\x01000000000000000000000000000000000000000000000000000CRC_"
            }
        };
        let at = input.pick(MESSAGE_LEN);
        let len = input.pick(MESSAGE_LEN).min(MESSAGE_LEN - at);
        let bytes = input.bytes(len);
        message[at..at + bytes.len()].copy_from_slice(bytes);
        if kind & 4 == 0 {
            seal(&mut message);
        }
        node.hear(&message);
        node.say();
        assert!(node.session().is_none(), "let in without the secret");
    }
}

fn seal(message: &mut [u8; MESSAGE_LEN]) {
    let (fields, crc) = message.split_at_mut(MESSAGE_LEN - 4);
    crc.copy_from_slice(&CRC32C.checksum(fields).to_le_bytes());
}

/// Two nodes, and somebody who alters what goes between them.
pub fn between(input: &mut Input<'_>) {
    let (mut a, mode_a, secret_a) = side(input, PreambleSide::Dials);
    let (mut b, mode_b, secret_b) = side(input, PreambleSide::Listens);
    let same = mode_a == mode_b && secret_a == secret_b;
    let tampers = input.pick(4);
    let (mut turn, mut altered) = (0, false);
    for _ in 0..4 {
        for forth in [true, false] {
            let (from, to) = if forth {
                (&mut a, &mut b)
            } else {
                (&mut b, &mut a)
            };
            let mut bytes = from.say();
            turn += 1;
            if tampers > 0 && !bytes.is_empty() && input.pick(4) < tampers {
                let at = input.pick(256) % bytes.len();
                let flip = input.byte();
                altered |= flip != 0;
                bytes[at] ^= flip;
                let (messages, _) = bytes.as_chunks_mut();
                messages.iter_mut().for_each(seal);
            }
            to.hear(&bytes);
        }
    }
    assert_eq!(turn, 8);
    let sessions = (a.session(), b.session());
    if same && !altered {
        assert!(
            sessions.0.is_some() && sessions.1.is_some(),
            "the peer is refused"
        );
    }
    // Without a secret nobody is told apart, and a forged verdict can only let a node in that is.
    let known = secret_a != 0 || secret_b != 0;
    if known && (secret_a != secret_b || mode_a != mode_b) {
        assert!(
            sessions.0.is_none() && sessions.1.is_none(),
            "let in a stranger"
        );
    }
    match sessions {
        (Some(Session::Sealed(to_b, from_b)), Some(Session::Sealed(to_a, from_a))) => {
            converse(to_b, from_a, input);
            converse(to_a, from_b, input);
        }
        (Some(Session::Checked), Some(Session::Checked)) | (None, _) | (_, None) => {}
        _ => panic!("one side seals, the other does not"),
    }
}

/// Frames through a sealed connection, of which one byte may be altered: what arrives is what was sent, as
/// far as it arrives.
fn converse(sealer: Sealer, opener: Opener, input: &mut Input<'_>) {
    let (mut pool, mut memory) = (Pool::new(PAGES), VecMemory::new(PAGES));
    let all = samples();
    let mut tx = LinkTx::new(8);
    tx.seal_with(sealer);
    let mut pipe = Pipe {
        grain: input.one_of(&[usize::MAX, 1000, 77]),
        ..Pipe::default()
    };
    let (mut sent, mut held) = (Vec::new(), Vec::<Buf>::new());
    for _ in 0..input.pick(4) {
        let (frame, payload) = all[input.pick(all.len())].clone();
        let buf = pool.alloc(payload);
        if let Some(buf) = &buf {
            memory.bytes_mut(buf.view()).fill(sent.len() as u8);
        }
        let view = buf.as_ref().map(Buf::view);
        tx.push(frame.clone(), view).expect("room");
        sent.push((frame, vec![sent.len() as u8; payload as usize]));
        held.extend(buf);
    }
    while tx.pump(&mut pipe, &memory) > 0 {}
    held.into_iter().for_each(|buf| pool.free(buf));
    let (at, flip) = (usize::from(input.u16()), input.byte());
    let len = pipe.bytes.len();
    let altered = flip != 0 && at < len;
    if altered {
        pipe.bytes[at] ^= flip;
    }
    let (received, end) = receive(opener, &mut pipe, &mut pool, &mut memory);
    assert!(sent.starts_with(&received), "what arrived was not sent");
    let complete = received.len() == sent.len();
    assert_eq!(complete && end == Ok(()), !altered, "{end:?}");
    assert!(!altered || end == Err(LinkError::Seal), "{end:?}");
}

type Received = (Vec<(Frame, Vec<u8>)>, Result<(), LinkError>);

fn receive(opener: Opener, pipe: &mut Pipe, pool: &mut Pool, memory: &mut VecMemory) -> Received {
    let mut rx = LinkRx::new();
    rx.open_with(opener);
    let mut frames = Vec::new();
    let end = loop {
        let before = pipe.bytes.len();
        match rx.poll(pipe, pool, memory) {
            Err(error) => break Err(error),
            Ok(None) if pipe.bytes.len() == before => break Ok(()),
            Ok(None) => {}
            Ok(Some((frame, buf))) => {
                let payload = buf.as_ref().map(|buf| memory.bytes(buf.view()).to_vec());
                frames.push((frame, payload.unwrap_or_default()));
                buf.into_iter().for_each(|buf| pool.free(buf));
            }
        }
    };
    rx.reset(pool);
    assert_eq!(pool.free_bytes(), pool.total_bytes(), "a buffer leaked");
    (frames, end)
}

/// Meetings that succeed, that fail for every reason, and impostors.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for mode in 0..3 {
        let frames = [0, 3, 18, 2, 0, 40, 0, 0, 1, 3, 19, 0, 5, 9, 0, 1];
        all.push([&[0, 1, mode, 1, mode, 0][..], &frames].concat());
        all.push([&[0, 1, mode, 1, mode, 1, 0, 13, 0, 1, 30, 1][..], &frames].concat());
        all.push(vec![0, 1, mode, 2, mode, 0]);
        all.push(vec![0, 1, mode, 0, 0]);
        all.push(vec![0, 1, mode, 1, (mode + 1) % 3, 0]);
        for place in 0..2 {
            // What the node said comes back to it: as it is, or as the other side's with another nonce, followed
            // by a proof that is none, or the node's own, and by the last word as if it were one.
            all.push(vec![1, mode, place, 0, 0, 0, 0, 0, 0]);
            let offer = [0, 6, 7, 2 - place, 1, mode + 1, 0, 0, 0, 0x99];
            let proof = [&[1, 5, 39, 2][..], &[9; 38]].concat();
            let accepted = [1, 5, 2, 3, 0];
            let mirrored = [0x10, 0, 0];
            for proof in [&proof[..], &mirrored] {
                all.push([&[1, mode, place][..], &offer, proof, &accepted].concat());
            }
        }
    }
    all.push(vec![0, 0, 0, 0]);
    all
}
