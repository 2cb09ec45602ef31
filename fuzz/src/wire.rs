//! The codec of peer frames: what it decodes it encodes again to the same, and to one form only.

use crate::Target;
use crate::frames::{encoded, mend, samples, seal};
use crate::input::Input;
use replication::wire::{Frame, HEADER_LEN, Header, MAX_BODY, MAX_PAYLOAD};

/// Input: a byte of [`mend`], a header, a body.
pub const TARGET: Target = Target {
    name: "wire",
    max_len: 1 + HEADER_LEN + MAX_BODY,
    run,
    seeds,
};

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let what = input.byte();
    let mut header: [u8; HEADER_LEN] = input.array();
    let mut body = input.bytes(MAX_BODY).to_vec();
    seal(what, &mut header, &mut body);
    let Ok(parsed) = Header::parse(&header) else {
        return;
    };
    assert!(parsed.payload_len() <= MAX_PAYLOAD && parsed.body_len() <= MAX_BODY);
    // A receiver hands over exactly the body that the header announced.
    body.resize(parsed.body_len(), 0);
    let Ok(frame) = Frame::decode(&parsed, &body) else {
        return;
    };
    let again = encoded(&frame, parsed.payload_len());
    let (head, rest) = again.split_first_chunk().expect("a header");
    let reparsed = Header::parse(head).expect("an encoded header");
    assert_eq!(reparsed.payload_len(), parsed.payload_len());
    assert_eq!(reparsed.body_len(), rest.len());
    let redecoded = Frame::decode(&reparsed, rest).expect("an encoded frame");
    assert_eq!(redecoded, frame);
    assert_eq!(encoded(&redecoded, parsed.payload_len()), again);
}

fn seeds() -> Vec<Vec<u8>> {
    let seed = |(frame, payload): &(Frame, u32)| {
        let mut out = vec![mend::ALL];
        out.extend(encoded(frame, *payload));
        out
    };
    samples().iter().map(seed).collect()
}
