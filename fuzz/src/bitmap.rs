//! The compressed bitmap: any bytes are taken or refused without harm, and what is encoded arrives.

use crate::Target;
use crate::input::Input;
use resync::codec::{Decoder, Encoder, MESSAGE_BLOCKS, MESSAGE_MIN, worst_case};
use resync::{BLOCK, Bitmap};

/// Input: a byte for the volume's size and one for what follows: messages with their lengths, or the
/// ranges of a bitmap that is to be sent.
pub const TARGET: Target = Target {
    name: "bitmap",
    max_len: 1024,
    run,
    seeds,
};

/// Blocks of the volumes: around words, around pages, and more than a message covers.
const BLOCKS: [u64; 8] = [1, 63, 64, 65, 700, 32_640, 100_000, MESSAGE_BLOCKS + 100];
/// Bytes of the buffers that messages go into.
const BUFFERS: [usize; 4] = [MESSAGE_MIN, 100, 4096, 131_072];

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let blocks = input.one_of(&BLOCKS);
    if input.coin() {
        send(blocks, &mut input);
    } else {
        receive(blocks, &mut input);
    }
}

/// Messages from anybody.
fn receive(blocks: u64, input: &mut Input<'_>) {
    let mut bitmap = Bitmap::new(blocks * BLOCK);
    let mut decoder = Decoder::new();
    while !input.is_done() {
        let len = usize::from(input.byte());
        let message = input.bytes(len);
        let (before, marked) = (decoder.position(), bitmap.count());
        match decoder.decode(&mut bitmap, message) {
            Ok(()) => assert!(decoder.position() >= before),
            Err(error) => {
                assert!(!error.to_string().is_empty());
                assert_eq!(decoder.position(), before, "a refused message moved on");
            }
        }
        assert!(decoder.position() <= blocks && decoder.position() - before <= MESSAGE_BLOCKS);
        assert!(bitmap.count() >= marked, "a message cleared something");
    }
    check(&bitmap, blocks);
}

/// Its own books and its own words agree.
fn check(bitmap: &Bitmap, blocks: u64) {
    assert_eq!(bitmap.blocks(), blocks);
    let listed: u64 = bitmap.ranges().map(|range| range.end - range.start).sum();
    let ones: u32 = bitmap.words().iter().map(|word| word.count_ones()).sum();
    assert_eq!(u64::from(ones), bitmap.count(), "words and count");
    assert_eq!(listed.div_ceil(BLOCK), bitmap.count(), "ranges and count");
    assert!(bitmap.count() <= blocks);
}

/// A bitmap goes to a peer that has marks of its own.
fn send(blocks: u64, input: &mut Input<'_>) {
    let buffer = input.one_of(&BUFFERS);
    let mut bitmaps = [Bitmap::new(blocks * BLOCK), Bitmap::new(blocks * BLOCK)];
    let mut at = 0;
    while !input.is_done() {
        let kind = input.byte();
        let bitmap = &mut bitmaps[usize::from(kind & 1)];
        let unit = [1, 3, 64, 5000][usize::from(kind >> 1 & 3)];
        let (gap, len) = (
            u64::from(input.byte()) * unit,
            u64::from(input.byte()) * unit,
        );
        if kind & 8 != 0 {
            at = 0;
        }
        // Once, or over and over: whole words of noise.
        for _ in 0..if kind & 32 == 0 { 1 } else { 2000 } {
            let start = (at + gap).min(blocks);
            at = (start + len).min(blocks);
            let (offset, bytes) = (start * BLOCK, (at - start) * BLOCK);
            match kind & 16 {
                0 => bitmap.set_range(offset, bytes),
                _ => bitmap.clear_range(offset, bytes),
            }
        }
    }
    let [sent, mut united] = bitmaps;
    let mut expected = Bitmap::new(blocks * BLOCK);
    expected.or_from(&united);
    expected.or_from(&sent);
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let (mut out, mut total) = (vec![0; buffer], 0);
    while !encoder.is_complete(&sent) {
        let len = encoder.encode(&sent, &mut out);
        assert!(len > 0 && len <= buffer, "{len} bytes");
        total += len as u64;
        let taken = decoder.decode(&mut united, &out[..len]);
        assert_eq!(taken, Ok(()), "its own message is refused");
        assert_eq!(decoder.position(), encoder.position());
    }
    assert_eq!(encoder.encode(&sent, &mut out), 0);
    assert!(decoder.is_complete(&united));
    assert!(total <= worst_case(blocks, buffer), "{total} bytes");
    assert!(united.words() == expected.words(), "something else arrived");
    check(&united, blocks);
}

fn seeds() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for (size, blocks) in BLOCKS.into_iter().enumerate() {
        let mut bitmap = Bitmap::new(blocks * BLOCK);
        for at in 0..40 {
            bitmap.set_range(at * at * BLOCK, (at % 5 + 1) * BLOCK);
        }
        bitmap.set_range(0x1111 * 64 * BLOCK, 200 * BLOCK);
        let mut seed = vec![size as u8, 0];
        let (mut encoder, mut out) = (Encoder::new(), [0; MESSAGE_MIN]);
        while !encoder.is_complete(&bitmap) && seed.len() < 800 {
            let len = encoder.encode(&bitmap, &mut out);
            seed.push(len as u8);
            seed.extend(&out[..len]);
        }
        all.push(seed);
        let few = [
            0, 2, 1, 0, 2, 1, 0, 1, 1, 1, 4, 9, 2, 3, 3, 4, 20, 90, 6, 2, 1, 1, 25, 60,
        ];
        let noise = [32, 2, 2];
        for ranges in [&few[..], &noise] {
            all.push([&[size as u8, 1, size as u8][..], ranges].concat());
        }
    }
    all
}
