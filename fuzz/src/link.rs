//! The peer link's receiver and sender: a stream of frames means the same however it is cut.

use crate::Target;
use crate::frames::{encoded, mend, samples, seal, seal_payload};
use crate::input::Input;
use crate::pipe::Pipe;
use net::link::{LinkError, LinkRx, LinkTx};
use replication::buf::{Buf, Pool, PoolMemory, VecMemory};
use replication::wire::{Frame, HEADER_LEN, MAX_BODY};

/// Input: a byte for the grain of delivery, then frames: a byte of [`mend`], a header, and as
/// much body and payload as the header says.
pub const TARGET: Target = Target {
    name: "link",
    max_len: 2048,
    run,
    seeds,
};

/// Pages of the pool: one payload of the largest size, and a little.
const PAGES: u32 = 40;
/// No longer stream than this, in bytes, so that runs stay short.
const STREAM: usize = 1 << 18;
const GRAINS: [usize; 8] = [1, 7, 48, 49, 300, 4096, 5000, 70_000];

/// What a receiver made of a stream: whole frames with their payloads, and how it ended.
type Received = (Vec<(Frame, Vec<u8>)>, Result<(), LinkError>);

fn receive(bytes: &[u8], grain: usize) -> Received {
    let mut pipe = Pipe {
        bytes: bytes.iter().copied().collect(),
        grain,
    };
    let (mut pool, mut memory) = (Pool::new(PAGES), VecMemory::new(PAGES));
    let mut rx = LinkRx::new();
    let mut frames = Vec::new();
    let end = loop {
        let before = pipe.bytes.len();
        match rx.poll(&mut pipe, &mut pool, &mut memory) {
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
    rx.reset(&mut pool);
    assert_eq!(pool.free_bytes(), pool.total_bytes(), "a buffer leaked");
    (frames, end)
}

/// The frames as the sender writes them into a pipe of this grain.
fn send(frames: &[(Frame, Vec<u8>)], grain: usize) -> Vec<u8> {
    let mut pipe = Pipe {
        grain,
        ..Pipe::default()
    };
    let (mut pool, mut memory) = (Pool::new(PAGES), VecMemory::new(PAGES));
    let mut tx = LinkTx::new(2);
    for (frame, payload) in frames {
        let buf = pool.alloc(payload.len() as u32);
        if let Some(buf) = &buf {
            memory.bytes_mut(buf.view()).copy_from_slice(payload);
        }
        let view = buf.as_ref().map(Buf::view);
        tx.push(frame.clone(), view).expect("an empty queue");
        while tx.pump(&mut pipe, &memory) > 0 {}
        buf.into_iter().for_each(|buf| pool.free(buf));
    }
    pipe.bytes.into()
}

fn stream(input: &mut Input<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    while !input.is_done() && out.len() < STREAM {
        let what = input.byte();
        let mut header: [u8; HEADER_LEN] = input.array();
        let body_len = usize::from(u16::from_le_bytes([header[10], header[11]]));
        let mut body = input.bytes(body_len.min(MAX_BODY)).to_vec();
        let [a, b, c, d] = [header[12], header[13], header[14], header[15]];
        // A payload's bytes mean nothing to the link: they need not be the fuzzer's.
        let payload = u32::from_le_bytes([a, b, c, d]).min(STREAM as u32);
        let payload: Vec<u8> = (0..payload).map(|at| at as u8 ^ what).collect();
        seal_payload(what, &mut header, &payload);
        seal(what, &mut header, &mut body);
        out.extend(header);
        out.extend(&body);
        out.extend(payload);
    }
    out
}

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let grain = input.one_of(&GRAINS);
    let bytes = stream(&mut input);
    let whole = receive(&bytes, usize::MAX);
    let cut = receive(&bytes, grain);
    assert!(
        whole == cut,
        "delivery in pieces of {grain} made a difference"
    );
    let sent = send(&whole.0, grain);
    let again = receive(&sent, usize::MAX);
    assert_eq!(again.1, Ok(()), "what was sent is not understood");
    assert!(again.0 == whole.0, "what was sent is understood otherwise");
}

fn seeds() -> Vec<Vec<u8>> {
    let record = |(frame, payload): &(Frame, u32)| {
        let mut out = vec![mend::ALL];
        out.extend(encoded(frame, *payload));
        out
    };
    let records: Vec<Vec<u8>> = samples().iter().map(record).collect();
    let pairs = records.windows(2).enumerate();
    let pairs = pairs.map(|(grain, pair)| [&[grain as u8][..], &pair.concat()[..]].concat());
    let all = [&[3][..], &records.concat()[..]].concat();
    pairs.chain([all]).collect()
}
