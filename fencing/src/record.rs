//! What a node must still know about fencing after a power cut (docs/ONDISK.md, "Fencing state").
//!
//! One record per node. It lies in the superblock of every volume of the resource; at attach the one with the
//! highest revision counts, so a volume that is replaced loses nothing.

use core::fmt;

/// Number of a fence. Grows over the life of a resource, over both nodes and the arbiter; 0 is none.
pub type Episode = u64;

/// The highest number that is believed. A number beyond it is damage, not history.
pub const EPISODE_MAX: Episode = 1 << 56;

/// Length of an encoded record: the room that the superblock has for it, in bytes.
pub const RECORD_LEN: usize = 192;

/// Who stands by a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Grantors {
    /// The peer marked itself Outdated, durably.
    pub peer: bool,
    /// The arbiter recorded this node as the holder, durably.
    pub arbiter: bool,
}

impl Grantors {
    /// Whether there is any.
    #[must_use]
    pub const fn any(self) -> bool {
        self.peer || self.arbiter
    }
}

/// This node's own episode: whether it fences the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Own {
    /// The peer is not fenced by this node.
    #[default]
    None,
    /// The fence is being asked for. It may be granted somewhere, but nothing was done under it: no client was
    /// answered and no promotion took effect.
    Requested(Episode),
    /// The peer is fenced. This node may go on alone.
    Held(Episode, Grantors),
    /// The fence is being given back. The peer may not be fenced any more.
    Releasing(Episode),
}

impl Own {
    /// The episode's number, if there is one.
    #[must_use]
    pub const fn episode(self) -> Option<Episode> {
        match self {
            Self::None => None,
            Self::Requested(episode) | Self::Held(episode, _) | Self::Releasing(episode) => {
                Some(episode)
            }
        }
    }
}

impl fmt::Display for Own {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Requested(episode) => write!(f, "episode {episode} requested"),
            Self::Held(episode, by) => {
                let by = match (by.peer, by.arbiter) {
                    (true, true) => "peer and arbiter",
                    (true, false) => "peer",
                    (false, true) => "arbiter",
                    (false, false) => "nobody",
                };
                write!(f, "episode {episode} held, granted by {by}")
            }
            Self::Releasing(episode) => write!(f, "episode {episode} being released"),
        }
    }
}

/// The durable state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Record {
    /// Random number that tells this resource from another one of the same name; 0 until the nodes agreed on it.
    pub identity: u64,
    /// The highest number this node has seen used by anyone. No request with a number up to it is obeyed.
    pub seen: Episode,
    /// Whether this node fences the peer.
    pub own: Own,
    /// The peer's episode by which this node is fenced: it must not become Primary.
    pub mark: Option<Episode>,
    /// The highest of the peer's episodes that is known to have been given back.
    pub released: Episode,
    /// The highest episode of which this node's disks are known to hold everything: all volumes were UpToDate on both
    /// sides after it. A disk of an earlier time knows of a lower one only.
    pub vouched: Episode,
}

/// Why stored bytes are not a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordError {
    /// Of a form that a later release writes.
    Form(u8),
    /// A field that no release writes.
    Impossible(&'static str),
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(form) => write!(
                f,
                "the fencing state has form {form}, which needs a later release"
            ),
            Self::Impossible(field) => write!(f, "the fencing state's {field} is impossible"),
        }
    }
}

impl core::error::Error for RecordError {}

const FORM: u8 = 1;
const BY_PEER: u8 = 1;
const BY_ARBITER: u8 = 2;
/// Bytes in use; the rest is zero.
const USED: usize = 64;

impl Record {
    /// Whether everything in it is within its limits.
    fn check(&self) -> Result<(), RecordError> {
        let own = self.own.episode();
        let numbers = [own, self.mark, Some(self.released), Some(self.vouched)];
        if self.seen > EPISODE_MAX {
            return Err(RecordError::Impossible("highest episode"));
        }
        if numbers.iter().flatten().any(|&n| n > self.seen) {
            return Err(RecordError::Impossible("episode"));
        }
        if own == Some(0) || self.mark == Some(0) {
            return Err(RecordError::Impossible("episode 0"));
        }
        if matches!(self.own, Own::Held(_, by) if !by.any()) {
            return Err(RecordError::Impossible("grant"));
        }
        Ok(())
    }

    /// The record as it is stored. `revision` grows by one with every change.
    ///
    /// # Errors
    ///
    /// [`RecordError::Impossible`] if [`Record::decode`] would refuse it.
    pub fn encode(&self, revision: u64) -> Result<[u8; RECORD_LEN], RecordError> {
        self.check()?;
        let (state, by) = match self.own {
            Own::None => (0, Grantors::default()),
            Own::Requested(_) => (1, Grantors::default()),
            Own::Held(_, by) => (2, by),
            Own::Releasing(_) => (3, Grantors::default()),
        };
        let mut out = [0; RECORD_LEN];
        out[0] = FORM;
        out[1] = state;
        out[2] = if by.peer { BY_PEER } else { 0 } | if by.arbiter { BY_ARBITER } else { 0 };
        let fields = [
            self.identity,
            self.seen,
            self.own.episode().unwrap_or(0),
            self.mark.unwrap_or(0),
            self.released,
            revision,
            self.vouched,
        ];
        for (place, field) in out[8..USED].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        Ok(out)
    }

    /// Reads what [`Record::encode`] wrote: the record and its revision. All zero is the record of a resource
    /// that was never fenced, with revision 0.
    ///
    /// # Errors
    ///
    /// [`RecordError`]. Such a node must not become Primary without the operator's word.
    pub fn decode(bytes: &[u8; RECORD_LEN]) -> Result<(Self, u64), RecordError> {
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok((Self::default(), 0));
        }
        if bytes[0] != FORM {
            return Err(RecordError::Form(bytes[0]));
        }
        if bytes[3..8].iter().chain(&bytes[USED..]).any(|&b| b != 0) {
            return Err(RecordError::Impossible("padding"));
        }
        let mut fields = [0; 7];
        for (place, field) in bytes[8..USED].chunks_exact(8).zip(&mut fields) {
            let mut word = [0; 8];
            word.copy_from_slice(place);
            *field = u64::from_le_bytes(word);
        }
        let [identity, seen, own, mark, released, revision, vouched] = fields;
        let by = Grantors {
            peer: bytes[2] & BY_PEER != 0,
            arbiter: bytes[2] & BY_ARBITER != 0,
        };
        if bytes[2] & !(BY_PEER | BY_ARBITER) != 0 || (by.any() && bytes[1] != 2) {
            return Err(RecordError::Impossible("grant"));
        }
        let own = match bytes[1] {
            0 if own == 0 => Own::None,
            1 => Own::Requested(own),
            2 => Own::Held(own, by),
            3 => Own::Releasing(own),
            _ => return Err(RecordError::Impossible("state")),
        };
        let record = Self {
            identity,
            seen,
            own,
            mark: (mark != 0).then_some(mark),
            released,
            vouched,
        };
        record.check()?;
        if revision == 0 {
            return Err(RecordError::Impossible("revision"));
        }
        Ok((record, revision))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record() -> impl Strategy<Value = Record> {
        let number = 1..=EPISODE_MAX;
        let grant = (any::<bool>(), any::<bool>()).prop_map(|(peer, arbiter)| Grantors {
            peer: peer || !arbiter,
            arbiter,
        });
        (
            (
                any::<u64>(),
                number.clone(),
                number.clone(),
                number.clone(),
                number,
            ),
            (0..4, grant, any::<bool>()),
        )
            .prop_map(
                |((identity, own, mark, released, vouched), (state, by, marked))| Record {
                    identity,
                    seen: own.max(mark).max(released).max(vouched),
                    own: match state {
                        0 => Own::None,
                        1 => Own::Requested(own),
                        2 => Own::Held(own, by),
                        _ => Own::Releasing(own),
                    },
                    mark: marked.then_some(mark),
                    released,
                    vouched,
                },
            )
    }

    proptest! {
        #[test]
        fn a_record_is_read_as_it_was_written(record in record(), revision in 1..u64::MAX) {
            let bytes = record.encode(revision).unwrap();
            prop_assert_eq!(Record::decode(&bytes), Ok((record, revision)));
        }

        #[test]
        fn what_is_read_at_all_is_written_in_the_same_form(record in record(), at in 0..USED, to: u8) {
            let mut bytes = record.encode(7).unwrap();
            bytes[at] = to;
            if let Ok((read, revision)) = Record::decode(&bytes) {
                prop_assert_eq!(read.encode(revision), Ok(bytes));
            }
        }
    }

    #[test]
    fn nothing_stored_is_a_resource_that_was_never_fenced() {
        let blank = [0; RECORD_LEN];
        assert_eq!(Record::decode(&blank), Ok((Record::default(), 0)));
    }

    #[test]
    fn a_later_form_and_impossible_numbers_are_refused() {
        let record = Record {
            seen: 3,
            own: Own::Requested(3),
            ..Record::default()
        };
        let mut bytes = record.encode(1).unwrap();
        bytes[0] = 2;
        assert_eq!(Record::decode(&bytes), Err(RecordError::Form(2)));
        for wrong in [
            Record { seen: 2, ..record },
            Record {
                seen: EPISODE_MAX + 1,
                ..record
            },
            Record {
                own: Own::Held(3, Grantors::default()),
                ..record
            },
            Record {
                mark: Some(0),
                ..record
            },
        ] {
            assert!(wrong.encode(1).is_err(), "{wrong:?}");
        }
    }
}
