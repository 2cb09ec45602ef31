//! What else is on a disk: whatever it is, something that is not blank is never taken for blank.

use crate::Target;
use crate::input::Input;
use replication::ondisk::{FOREIGN_BYTES, foreign};

/// Input: a byte for the size of the disk, then pieces: which end (and from where it is counted), an offset,
/// a length, and as many bytes.
pub const TARGET: Target = Target {
    name: "foreign",
    max_len: 512,
    run,
    seeds,
};

const SIZES: [usize; 6] = [FOREIGN_BYTES, 0, 512, 4096, 20_480, FOREIGN_BYTES - 512];

fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let size = input.one_of(&SIZES);
    let mut ends = [vec![0; size], vec![0; size]];
    while !input.is_done() {
        let place = input.byte();
        let end = &mut ends[usize::from(place & 1)];
        let unit = if place & 2 != 0 { 512 } else { 1 };
        let offset = usize::from(input.u16()) * unit % (size + 1);
        let at = if place & 4 != 0 {
            size - offset
        } else {
            offset
        };
        let len = usize::from(input.byte()).min(size - at);
        let bytes = input.bytes(len);
        end[at..at + bytes.len()].copy_from_slice(bytes);
    }
    let blank = ends.iter().flatten().all(|byte| *byte == 0);
    let [first, last] = &ends;
    match foreign(first, last) {
        None => assert!(blank, "data is taken for a blank disk"),
        Some(what) => assert!(!blank && !what.is_empty(), "a blank disk is {what}"),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let piece = |place: u8, offset: u16, bytes: &[u8]| {
        let [low, high] = offset.to_le_bytes();
        [&[0, place, low, high, bytes.len() as u8][..], bytes].concat()
    };
    let zfs = b"\x11\x7a\x0c\xb1\x7a\xda\x10\x02";
    vec![
        vec![0],
        piece(0, 0, b"PALISADE"),
        piece(6, 8, b"PALISADE"),
        piece(2, 1, b"EFI PART"),
        piece(6, 1, b"EFI PART"),
        piece(0, 510, b"\x55\xaa"),
        piece(0, 1080, b"\x53\xef"),
        piece(2, 2, b"LABELONE0000000000000000LVM2 001"),
        piece(0, 60, b"\x83\x74\x02\x6d"),
        piece(5, 4036, b"\x83\x74\x02\x6b"),
        piece(6, 16, b"\xfc\x4e\x2b\xa9\x01\x00\x00\x00"),
        piece(5, 40, zfs),
    ]
}
