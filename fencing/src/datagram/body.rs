//! The bodies, one kind after the other.

use super::{Body, DatagramError, get_name, put_name};
use crate::{Answer, Event, Promoting, Refusal, Request, Standing, Withheld};

/// The longest: STATE.
pub(super) const BODY_MAX: usize = 57;

const UP_TO_DATE: u8 = 1;
const FORCE: u8 = 2;
const PRIMARY: u8 = 1;
const HELD: u8 = 2;
const OF_A_VOLUME: u8 = 1;

/// Writes one field behind the other.
struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    fn byte(&mut self, byte: u8) {
        self.out[self.at] = byte;
        self.at += 1;
    }

    fn word(&mut self, word: u64) {
        self.out[self.at..self.at + 8].copy_from_slice(&word.to_le_bytes());
        self.at += 8;
    }

    fn name(&mut self, name: Option<&crate::Name>) {
        let place = &mut self.out[self.at..self.at + 32];
        match name {
            Some(name) => put_name(place, name),
            None => place.fill(0),
        }
        self.at += 32;
    }
}

/// Reads them; a body that is too short or too long is noticed at its end.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], DatagramError> {
        let (head, rest) = self
            .rest
            .split_at_checked(len)
            .ok_or(DatagramError::Length)?;
        self.rest = rest;
        Ok(head)
    }

    fn byte(&mut self) -> Result<u8, DatagramError> {
        Ok(self.take(1)?[0])
    }

    /// A byte of which only `known` bits may be set.
    fn flags(&mut self, known: u8) -> Result<u8, DatagramError> {
        let flags = self.byte()?;
        if flags & !known != 0 {
            return Err(DatagramError::Field("flag"));
        }
        Ok(flags)
    }

    fn word(&mut self) -> Result<u64, DatagramError> {
        Ok(super::word(self.take(8)?, 0))
    }

    /// A name, or zeroes for none.
    fn name(&mut self) -> Result<Option<crate::Name>, DatagramError> {
        let bytes = self.take(32)?;
        if bytes.iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        get_name(bytes, "holder").map(Some)
    }
}

/// The kind and the length of what was written.
pub(super) fn encode(body: &Body, out: &mut [u8]) -> (u8, usize) {
    let mut out = Writer { out, at: 0 };
    let kind = match body {
        Body::Request(Request::Fence {
            episode,
            released,
            vouched,
            up_to_date,
            force,
        }) => {
            out.word(*episode);
            out.word(*released);
            out.word(*vouched);
            let force = if *force { FORCE } else { 0 };
            out.byte(force | if *up_to_date { UP_TO_DATE } else { 0 });
            1
        }
        Body::Request(Request::Unfence { episode, vouched }) => {
            out.word(*episode);
            out.word(*vouched);
            2
        }
        Body::Request(Request::Outdate {
            episode,
            vouched,
            primary,
        }) => {
            out.word(*episode);
            out.word(*vouched);
            out.byte(if *primary { PRIMARY } else { 0 });
            3
        }
        Body::Request(Request::Query) => 4,
        Body::Request(Request::Promote { nonce }) => {
            out.word(*nonce);
            5
        }
        Body::Request(Request::Notify {
            number,
            event,
            volume,
        }) => {
            out.word(*number);
            out.byte(event.code());
            out.byte(if volume.is_some() { OF_A_VOLUME } else { 0 });
            out.byte(volume.unwrap_or(0));
            6
        }
        Body::Answer(Answer::Granted { episode }) => {
            out.word(*episode);
            129
        }
        Body::Answer(Answer::Refused { episode, why }) => {
            out.word(*episode);
            refusal(why, &mut out);
            130
        }
        Body::Answer(Answer::Released { episode }) => {
            out.word(*episode);
            131
        }
        Body::Answer(Answer::State(standing)) => {
            let primary = if standing.primary { PRIMARY } else { 0 };
            let held = standing.holder.as_ref();
            out.byte(primary | if held.is_some() { HELD } else { 0 });
            out.name(held.map(|(name, _)| name));
            out.word(held.map_or(0, |(_, episode)| *episode));
            out.word(standing.last);
            out.word(standing.over);
            132
        }
        Body::Answer(Answer::Promoting { nonce, state }) => {
            let (state, (reason, episode)) = match state {
                Promoting::Ready => (1, (0, 0)),
                Promoting::UnderWay => (2, (0, 0)),
                Promoting::Primary => (3, (0, 0)),
                Promoting::Denied(why) => (4, why.code()),
            };
            out.word(*nonce);
            out.byte(state);
            out.byte(reason);
            out.word(episode);
            133
        }
        Body::Answer(Answer::Handled { number, code }) => {
            out.word(*number);
            out.byte(*code);
            135
        }
        Body::Again { epoch } => {
            out.word(*epoch);
            134
        }
    };
    (kind, out.at)
}

/// Code, number and name of a refusal; what a code does not need is zero.
fn refusal(why: &Refusal, out: &mut Writer<'_>) {
    let (code, number, name) = match why {
        Refusal::Held { holder, episode } => (1, *episode, Some(holder)),
        Refusal::Stale { last } => (2, *last, None),
        Refusal::Primary => (3, 0, None),
        Refusal::Requesting { episode } => (4, *episode, None),
        Refusal::OtherResource => (5, 0, None),
        Refusal::NotStored => (6, 0, None),
        Refusal::Handler(code) => (7, u64::from(*code), None),
        Refusal::Future => (8, 0, None),
        Refusal::Older { vouched } => (9, *vouched, None),
    };
    out.byte(code);
    out.word(number);
    out.name(name);
}

fn refused(from: &mut Reader<'_>) -> Result<Refusal, DatagramError> {
    let code = from.byte()?;
    let number = from.word()?;
    let name = from.name()?;
    let why = match (code, name, number) {
        (1, Some(holder), episode) => Refusal::Held { holder, episode },
        (2, None, last) => Refusal::Stale { last },
        (3, None, 0) => Refusal::Primary,
        (4, None, episode) => Refusal::Requesting { episode },
        (5, None, 0) => Refusal::OtherResource,
        (6, None, 0) => Refusal::NotStored,
        (7, None, code) => {
            let code = u8::try_from(code).map_err(|_| DatagramError::Field("exit code"))?;
            Refusal::Handler(code)
        }
        (8, None, 0) => Refusal::Future,
        (9, None, vouched) => Refusal::Older { vouched },
        _ => return Err(DatagramError::Field("reason")),
    };
    Ok(why)
}

pub(super) fn decode(kind: u8, bytes: &[u8]) -> Result<Body, DatagramError> {
    let mut from = Reader { rest: bytes };
    let body = match kind {
        1 => {
            let episode = from.word()?;
            let released = from.word()?;
            let vouched = from.word()?;
            let flags = from.flags(UP_TO_DATE | FORCE)?;
            Body::Request(Request::Fence {
                episode,
                released,
                vouched,
                up_to_date: flags & UP_TO_DATE != 0,
                force: flags & FORCE != 0,
            })
        }
        2 => Body::Request(Request::Unfence {
            episode: from.word()?,
            vouched: from.word()?,
        }),
        3 => Body::Request(Request::Outdate {
            episode: from.word()?,
            vouched: from.word()?,
            primary: from.flags(PRIMARY)? != 0,
        }),
        4 => Body::Request(Request::Query),
        5 => Body::Request(Request::Promote {
            nonce: from.word()?,
        }),
        6 => {
            let number = from.word()?;
            let event = Event::from_code(from.byte()?).ok_or(DatagramError::Field("event"))?;
            let of_a_volume = from.flags(OF_A_VOLUME)? != 0;
            let volume = match (of_a_volume, from.byte()?) {
                (true, volume) => Some(volume),
                (false, 0) => None,
                (false, _) => return Err(DatagramError::Field("volume")),
            };
            Body::Request(Request::Notify {
                number,
                event,
                volume,
            })
        }
        129 => Body::Answer(Answer::Granted {
            episode: from.word()?,
        }),
        130 => Body::Answer(Answer::Refused {
            episode: from.word()?,
            why: refused(&mut from)?,
        }),
        131 => Body::Answer(Answer::Released {
            episode: from.word()?,
        }),
        132 => {
            let flags = from.flags(PRIMARY | HELD)?;
            let holder = from.name()?;
            let episode = from.word()?;
            let holder = match (holder, flags & HELD != 0, episode) {
                (Some(name), true, episode) => Some((name, episode)),
                (None, false, 0) => None,
                _ => return Err(DatagramError::Field("holder")),
            };
            Body::Answer(Answer::State(Standing {
                holder,
                last: from.word()?,
                over: from.word()?,
                primary: flags & PRIMARY != 0,
            }))
        }
        133 => {
            let nonce = from.word()?;
            let state = match (from.byte()?, from.byte()?, from.word()?) {
                (1, 0, 0) => Promoting::Ready,
                (2, 0, 0) => Promoting::UnderWay,
                (3, 0, 0) => Promoting::Primary,
                (4, reason, episode) => {
                    let why = Withheld::from_code(reason, episode);
                    Promoting::Denied(why.ok_or(DatagramError::Field("reason"))?)
                }
                _ => return Err(DatagramError::Field("state")),
            };
            Body::Answer(Answer::Promoting { nonce, state })
        }
        134 => Body::Again {
            epoch: from.word()?,
        },
        135 => Body::Answer(Answer::Handled {
            number: from.word()?,
            code: from.byte()?,
        }),
        _ => return Err(DatagramError::Field("kind")),
    };
    if !from.rest.is_empty() {
        return Err(DatagramError::Length);
    }
    Ok(body)
}
