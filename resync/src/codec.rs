//! A bitmap on its way to the peer: compressed, in pieces, and checked on arrival.
//!
//! A *message* says where it begins (a block number) and goes on in *operations*, each of which
//! covers the blocks that follow the one before. Numbers are LEB128 varints: seven bits a byte,
//! low ones first, the top bit says that more follow.
//!
//! | operation | bytes | covers |
//! |---|---|---|
//! | run | varint `2 * clean`, varint `dirty` | `clean` clean blocks, then `dirty` dirty ones; not both 0 |
//! | raw | byte `2 * words + 1`, `words` little-endian words of the bitmap (at most [`RAW_WORDS`]); only where a word begins | 64 blocks a word, less at the end of the volume |
//!
//! The encoder decides word by word: a run that starts in a word costs two bytes or so, so a word
//! with five or more is sent as it is. Bitmaps of clean areas, of resyncs in progress and of
//! sequential writes shrink to a few bytes; random noise costs what it is. See [`worst_case`].
//!
//! A message covers at most [`MESSAGE_BLOCKS`] blocks, however little it has to say, so that neither
//! making nor applying one holds up a client's request for long.

use crate::Bitmap;
use core::fmt;

/// Blocks that one message covers at most: 8 GiB of volume, 256 KiB of bitmap. Applying a message that
/// marks all of them takes half a millisecond (8 ms when emulated).
pub const MESSAGE_BLOCKS: u64 = 1 << 21;

/// Words that follow one raw operation at most.
pub const RAW_WORDS: usize = 63;

/// Bytes of the smallest buffer that a message can be encoded into.
pub const MESSAGE_MIN: usize = 64;

/// Runs that may start in 64 blocks before the raw word is smaller than they are.
const RUNS_PER_WORD: u32 = 4;

/// Bytes of a varint at most. Numbers up to [`MESSAGE_BLOCKS`], and twice that, take four
/// at most; a block number takes eight.
const VARINT_MAX: usize = 8;

/// Bytes that the messages of a bitmap of `blocks` blocks take together at most, if each was given
/// `buffer` bytes (at least [`MESSAGE_MIN`]).
///
/// A word of the bitmap costs 12 bytes at most: a dense one itself (8), a raw operation's header (1)
/// and the operation that leads up to its beginning (3); one that is not dense four runs of two bytes,
/// and one more where the gap before the first exceeds 63 blocks. Longer numbers pay for
/// themselves: they pass over whole words that cost nothing else. A word's neighbours share in
/// this, so the true worst (dense and nearly dense words in turn) is 10.5 bytes a word, and noise
/// takes 8.02. A message adds its header, and leaves at most 16 bytes of its buffer unused.
#[must_use]
pub fn worst_case(blocks: u64, buffer: usize) -> u64 {
    let operations = blocks.div_ceil(64).saturating_mul(12);
    let payload = (buffer.max(MESSAGE_MIN) - 3 * VARINT_MAX) as u64;
    let messages = operations.div_ceil(payload) + blocks.div_ceil(MESSAGE_BLOCKS);
    operations + messages * VARINT_MAX as u64
}

/// Why a message was refused. It means that the peer does not speak this protocol, or that its
/// volume has another size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CodecError {
    /// The message ends in the middle of a number or of a word.
    Truncated,
    /// A number is longer than any that makes sense.
    Number,
    /// The message begins elsewhere than the one before it ended.
    OutOfOrder {
        /// The block that should have come next.
        expected: u64,
        /// The block with which the message begins.
        found: u64,
    },
    /// The message tells of blocks that the volume does not have.
    Beyond {
        /// Blocks of the volume.
        blocks: u64,
    },
    /// The message covers more than [`MESSAGE_BLOCKS`] blocks.
    TooMuch,
    /// An operation covers nothing.
    Empty,
    /// Raw words begin in the middle of a word of the bitmap.
    Misplaced,
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated => f.write_str("a bitmap message ends in the middle of a value"),
            Self::Number => f.write_str("a bitmap message holds an impossible number"),
            Self::OutOfOrder { expected, found } => write!(
                f,
                "a bitmap message begins at block {found} instead of block {expected}"
            ),
            Self::Beyond { blocks } => write!(
                f,
                "a bitmap message goes beyond the volume's {blocks} blocks"
            ),
            Self::TooMuch => write!(
                f,
                "a bitmap message covers more than {MESSAGE_BLOCKS} blocks"
            ),
            Self::Empty => f.write_str("a bitmap message holds an operation that covers nothing"),
            Self::Misplaced => f.write_str("a bitmap message holds raw words out of place"),
        }
    }
}

impl core::error::Error for CodecError {}

/// Sends a bitmap, message after message. Blocks that are marked behind the cursor while the
/// exchange goes on are not sent: the caller sees to it that there are none, or that it does not matter.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoder {
    next: u64,
}

impl Encoder {
    /// Begins at the first block.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The block with which the next message begins.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Whether all of `bitmap` has been encoded.
    #[must_use]
    pub fn is_complete(&self, bitmap: &Bitmap) -> bool {
        self.next >= bitmap.blocks()
    }

    /// Puts the next message into `out`, which must have at least [`MESSAGE_MIN`] bytes, and gives
    /// its length: 0 when the whole bitmap has been sent (or when `out` is too small).
    pub fn encode(&mut self, bitmap: &Bitmap, out: &mut [u8]) -> usize {
        if self.is_complete(bitmap) || out.len() < MESSAGE_MIN {
            return 0;
        }
        let mut writer = Writer { out, len: 0 };
        writer.varint(self.next);
        let end = message_end(self.next, bitmap.blocks());
        let mut raw = None;
        while self.next < end && writer.room() >= 2 * VARINT_MAX {
            let index = self.next / 64;
            if self.next.is_multiple_of(64) && is_dense(bitmap.word(index)) {
                let header = match raw.filter(|at| writer.raw_words(*at) < RAW_WORDS) {
                    Some(at) => at,
                    None => writer.raw_header(),
                };
                writer.raw_word(header, bitmap.word(index));
                raw = Some(header);
                self.next = end.min((index + 1) * 64);
                continue;
            }
            raw = None;
            let first = bitmap.next_set(self.next).map_or(end, |bit| bit.min(end));
            // Neither a gap nor a run reaches into a dense word: that one is sent as it is. Dense
            // words before those hold neither, so only the ones where they end can be.
            let first = stop_before_dense(bitmap, self.next, first);
            let last = bitmap.next_clean(first, end);
            let last = stop_before_dense(bitmap, first, last);
            writer.varint((first - self.next) * 2);
            writer.varint(last - first);
            self.next = last;
        }
        writer.len
    }
}

/// Where a message that begins at block `first` ends at the latest: at the end of a word.
fn message_end(first: u64, blocks: u64) -> u64 {
    (first / 64 * 64).saturating_add(MESSAGE_BLOCKS).min(blocks)
}

/// Whether a word has so many runs that it is smaller as it is.
fn is_dense(word: u64) -> bool {
    (word & !(word << 1)).count_ones() > RUNS_PER_WORD
}

/// `to`, or the beginning of its word if that is dense and lies after `from` (or at it, when that is
/// the beginning of a word).
fn stop_before_dense(bitmap: &Bitmap, from: u64, to: u64) -> u64 {
    let start = to / 64 * 64;
    if start >= from && is_dense(bitmap.word(to / 64)) {
        start
    } else {
        to
    }
}

/// Bytes put one after another. The encoder asks for room first, so nothing is ever cut off.
struct Writer<'a> {
    out: &'a mut [u8],
    len: usize,
}

impl Writer<'_> {
    fn room(&self) -> usize {
        self.out.len() - self.len
    }

    fn byte(&mut self, byte: u8) {
        if let Some(at) = self.out.get_mut(self.len) {
            *at = byte;
            self.len += 1;
        }
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }

    /// Begins a raw operation; gives the place of its header.
    fn raw_header(&mut self) -> usize {
        let at = self.len;
        self.byte(1);
        at
    }

    fn raw_words(&self, header: usize) -> usize {
        usize::from(self.out[header] >> 1)
    }

    fn raw_word(&mut self, header: usize, word: u64) {
        for byte in word.to_le_bytes() {
            self.byte(byte);
        }
        self.out[header] += 2;
    }
}

/// Receives a bitmap and unites it with one that is here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Decoder {
    next: u64,
}

impl Decoder {
    /// Expects the first block.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The block with which the next message must begin.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.next
    }

    /// Whether the peer's whole bitmap has arrived.
    #[must_use]
    pub fn is_complete(&self, bitmap: &Bitmap) -> bool {
        self.next >= bitmap.blocks()
    }

    /// Marks in `bitmap` what the message marks.
    ///
    /// # Errors
    /// [`CodecError`]. Blocks of the operations before the wrong one may have been marked, which is
    /// harmless: a block marked without need is only copied.
    pub fn decode(&mut self, bitmap: &mut Bitmap, message: &[u8]) -> Result<(), CodecError> {
        let blocks = bitmap.blocks();
        let mut reader = Reader { rest: message };
        let first = reader.varint()?;
        if first != self.next {
            return Err(CodecError::OutOfOrder {
                expected: self.next,
                found: first,
            });
        }
        let limit = message_end(first, blocks);
        let mut at = first;
        // Moves on over `count` blocks, if they exist and one message may tell of them.
        let advance = |at: u64, count: u64| match at.checked_add(count) {
            Some(to) if to <= limit => Ok(to),
            _ if limit == blocks => Err(CodecError::Beyond { blocks }),
            _ => Err(CodecError::TooMuch),
        };
        while !reader.rest.is_empty() {
            let head = reader.varint()?;
            if head & 1 == 0 {
                let start = advance(at, head >> 1)?;
                let end = advance(start, reader.varint()?)?;
                if end == at {
                    return Err(CodecError::Empty);
                }
                bitmap.change(start, end, true);
                at = end;
                continue;
            }
            match head >> 1 {
                0 => return Err(CodecError::Empty),
                words if words > RAW_WORDS as u64 => return Err(CodecError::Number),
                _ if !at.is_multiple_of(64) => return Err(CodecError::Misplaced),
                words => {
                    for _ in 0..words {
                        let word = reader.word()?;
                        let end = advance(at, 1)?.next_multiple_of(64).min(blocks);
                        if word & !bitmap.valid_bits(at / 64) != 0 {
                            return Err(CodecError::Beyond { blocks });
                        }
                        bitmap.or_word(at / 64, word);
                        at = end;
                    }
                }
            }
        }
        self.next = at;
        Ok(())
    }
}

struct Reader<'a> {
    rest: &'a [u8],
}

impl Reader<'_> {
    fn varint(&mut self) -> Result<u64, CodecError> {
        let mut value = 0;
        for nth in 0..VARINT_MAX {
            let (byte, rest) = self.rest.split_first().ok_or(CodecError::Truncated)?;
            self.rest = rest;
            value |= u64::from(byte & 0x7f) << (7 * nth);
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(CodecError::Number)
    }

    fn word(&mut self) -> Result<u64, CodecError> {
        let (bytes, rest) = self
            .rest
            .split_first_chunk::<8>()
            .ok_or(CodecError::Truncated)?;
        self.rest = rest;
        Ok(u64::from_le_bytes(*bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::BLOCK;
    use alloc::{vec, vec::Vec};
    use proptest::prelude::*;

    fn exchange(from: &Bitmap, into: &mut Bitmap, buffer: usize) -> (usize, usize) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        let mut out = vec![0; buffer];
        let (mut bytes, mut messages) = (0, 0);
        loop {
            let len = encoder.encode(from, &mut out);
            if len == 0 {
                break;
            }
            decoder.decode(into, &out[..len]).unwrap();
            assert_eq!(decoder.position(), encoder.position());
            bytes += len;
            messages += 1;
        }
        assert!(encoder.is_complete(from) && decoder.is_complete(into));
        (bytes, messages)
    }

    fn with_words(blocks: u64, words: impl IntoIterator<Item = u64>) -> Bitmap {
        let mut map = Bitmap::new(blocks * BLOCK);
        for (index, word) in (0..blocks.div_ceil(64)).zip(words) {
            map.or_word(index, word);
        }
        map
    }

    fn encoded_size(map: &Bitmap, buffer: usize) -> usize {
        let mut copy = Bitmap::new(map.size());
        let (bytes, _) = exchange(map, &mut copy, buffer);
        assert_eq!(copy.words(), map.words());
        bytes
    }

    #[test]
    fn simple_bitmaps_take_a_few_bytes() {
        let mut map = Bitmap::new(8 << 30);
        assert!(encoded_size(&map, 65536) <= 8);
        map.set_all();
        assert!(encoded_size(&map, 65536) <= 8);
        map.clear_range(1 << 30, 5 << 30);
        map.clear_range(7 << 30, BLOCK);
        assert!(encoded_size(&map, 65536) <= 24);
    }

    #[test]
    fn noise_costs_hardly_more_than_itself() {
        let mut state = 88172645463325252u64;
        let noise = core::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        });
        let map = with_words(1 << 20, noise.take(1 << 14));
        let raw = (1 << 20) / 8;
        let size = encoded_size(&map, 65536);
        assert!(size < raw + raw / 100, "{size} for {raw}");
    }

    #[test]
    fn the_worst_patterns_stay_within_the_bound() {
        // Dense words beside words with as many runs as are still sent as runs, far apart.
        let dense = 0x5555_5555_5555_5555;
        for other in [
            0x8000_0000_0000_0007u64,
            0x15 << 59 | 1,
            0x8000_0000_0000_0015,
            1 << 63,
            1,
            0,
        ] {
            for period in [2, 3, 65] {
                let words = (0..).map(|i| if i % period == 0 { dense } else { other });
                let map = with_words(1 << 18, words);
                let size = encoded_size(&map, 65536) as u64;
                assert!(
                    size <= (1 << 12) * 21 / 2 + 16,
                    "{size}: {other:x} {period}"
                );
                assert!(size <= worst_case(1 << 18, 65536));
            }
        }
    }

    #[test]
    fn one_message_never_covers_more_than_its_limit() {
        let map = Bitmap::new((3 * MESSAGE_BLOCKS + 5) * BLOCK);
        let mut copy = Bitmap::new(map.size());
        assert_eq!(exchange(&map, &mut copy, 65536).1, 4);
        let mut too_long = Writer {
            out: &mut [0; 64],
            len: 0,
        };
        too_long.varint(0);
        too_long.varint((MESSAGE_BLOCKS + 1) * 2);
        too_long.varint(0);
        let (bytes, len) = (&*too_long.out, too_long.len);
        assert_eq!(
            Decoder::new().decode(&mut copy, &bytes[..len]),
            Err(CodecError::TooMuch)
        );
    }

    #[test]
    fn a_wrong_message_is_refused_with_its_reason() {
        let mut map = Bitmap::new(100 * BLOCK);
        let mut refused = |bytes: &[u8]| Decoder::new().decode(&mut map, bytes);
        assert_eq!(refused(&[]), Err(CodecError::Truncated));
        assert_eq!(refused(&[0, 2]), Err(CodecError::Truncated));
        assert_eq!(refused(&[0, 3, 0]), Err(CodecError::Truncated));
        assert_eq!(refused(&[0xff; 20]), Err(CodecError::Number));
        assert_eq!(refused(&[0, 0xff, 1]), Err(CodecError::Number));
        assert_eq!(
            refused(&[7]),
            Err(CodecError::OutOfOrder {
                expected: 0,
                found: 7
            })
        );
        assert_eq!(
            refused(&[0, 100, 51]),
            Err(CodecError::Beyond { blocks: 100 })
        );
        assert_eq!(refused(&[0, 0, 0]), Err(CodecError::Empty));
        assert_eq!(refused(&[0, 1]), Err(CodecError::Empty));
        assert_eq!(
            refused(&[0, 2, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0]),
            Err(CodecError::Misplaced)
        );
        let mut two_words = vec![0, 5];
        two_words.extend_from_slice(&[0; 12]);
        two_words.extend_from_slice(&[0x10, 0, 0, 0]);
        assert_eq!(refused(&two_words), Err(CodecError::Beyond { blocks: 100 }));
        assert_eq!(refused(&[0, 100, 50]), Ok(()));
        assert_eq!(map.count(), 50);
    }

    /// Words of all kinds: empty, full, nearly so, sparse, dense.
    fn words() -> impl Strategy<Value = Vec<u64>> {
        let word = prop_oneof![
            4 => Just(0u64),
            4 => Just(u64::MAX),
            1 => any::<u64>(),
            1 => (0u32..64).prop_map(|bit| 1 << bit),
            1 => (0u32..64, 0u32..64).prop_map(|(a, b)| (u64::MAX << a) & (u64::MAX >> b)),
            1 => any::<(u64, u64, u64)>().prop_map(|(a, b, c)| a & b & c),
        ];
        proptest::collection::vec(word, 1..300)
    }

    proptest! {
        #[test]
        fn what_arrives_is_the_union(
            sent in words(), here in words(), blocks in 1u64..20_000,
            buffer in MESSAGE_MIN..3000,
        ) {
            let from = with_words(blocks, sent);
            let mut into = with_words(blocks, here);
            let mut expected = Bitmap::new(blocks * BLOCK);
            expected.or_from(&from);
            expected.or_from(&into);
            let (bytes, _) = exchange(&from, &mut into, buffer);
            prop_assert_eq!(into.words(), expected.words());
            prop_assert_eq!(into.count(), expected.count());
            prop_assert!(bytes as u64 <= worst_case(blocks, buffer), "{} bytes", bytes);
        }

        #[test]
        fn any_bytes_are_judged_without_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
            blocks in 1u64..20_000,
        ) {
            let mut map = Bitmap::new(blocks * BLOCK);
            let mut decoder = Decoder::new();
            let mut message = vec![0];
            message.extend(bytes);
            if decoder.decode(&mut map, &message).is_ok() {
                prop_assert!(decoder.position() <= blocks);
            }
            let counted: u64 = map.words().iter().map(|w| u64::from(w.count_ones())).sum();
            prop_assert_eq!(map.count(), counted);
            prop_assert!(map.next_range(blocks * BLOCK).is_none());
        }

        #[test]
        fn a_damaged_message_is_refused_or_marks_within_the_volume(
            sent in words(), blocks in 1u64..20_000,
            damage in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        ) {
            let from = with_words(blocks, sent);
            let mut out = vec![0; 4096];
            let len = Encoder::new().encode(&from, &mut out);
            out.truncate(len);
            for (at, value) in damage {
                let at = at.index(out.len());
                out[at] = value;
            }
            let mut into = Bitmap::new(blocks * BLOCK);
            let mut decoder = Decoder::new();
            let before = decoder.clone();
            match decoder.decode(&mut into, &out) {
                Ok(()) => prop_assert!(decoder.position() <= blocks),
                Err(_) => prop_assert_eq!(decoder, before),
            }
        }
    }
}
