//! The frames by which two nodes agree on a larger size of a volume.

use super::codec::kind;
use super::{Frame, Header, WireError};

const CLEAN: u8 = 1;
const EXACT: u8 = 2;

/// A step of a volume's growth on both nodes, from the node whose operator wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resize {
    /// Index of the volume.
    pub volume: u16,
    /// The sender's number, the same in all steps.
    pub request: u64,
    /// Bytes that the volume is to have; not 0.
    pub size: u64,
    /// What is to be done.
    pub step: ResizeStep,
}

/// What [`Resize`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResizeStep {
    /// Get ready to take this size, or a smaller one if the disk does not allow it, and say which.
    Prepare {
        /// Nothing less will do.
        exact: bool,
        /// The new part is identical on both disks.
        clean: bool,
    },
    /// Have this size, durably.
    Commit,
    /// The sender has it durably, too: clients may be told.
    Done,
    /// The sender goes no further.
    Cancel,
}

/// Answer to a [`Resize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResizeReply {
    /// The number from the request.
    pub request: u64,
    /// Bytes: what is agreed to, or the most that the sender's disk allows.
    pub size: u64,
    /// What came of it.
    pub answer: ResizeAnswer,
}

/// What came of a [`Resize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResizeAnswer {
    /// Done as asked; of [`ResizeStep::Prepare`]: with the size in the answer.
    Done,
    /// The sender's disk has no room for that.
    DiskTooSmall,
    /// The sender is busy with something else, or the volume is not in sync there.
    Busy,
    /// The sender has not the memory that the larger volume takes.
    NoMemory,
    /// The sender's disk failed.
    DiskFailed,
}

const ANSWERS: [ResizeAnswer; 5] = [
    ResizeAnswer::Done,
    ResizeAnswer::DiskTooSmall,
    ResizeAnswer::Busy,
    ResizeAnswer::NoMemory,
    ResizeAnswer::DiskFailed,
];

pub(super) fn decode(header: &Header) -> Result<Frame, WireError> {
    let size = header.argument;
    if header.kind == kind::RESIZE_REPLY {
        let answer = ANSWERS.get(header.length as usize).copied();
        return Ok(Frame::ResizeReply(ResizeReply {
            request: header.request,
            size,
            answer: answer.ok_or(WireError::Field)?,
        }));
    }
    let step = match header.length {
        1 => ResizeStep::Prepare {
            exact: header.flags & EXACT != 0,
            clean: header.flags & CLEAN != 0,
        },
        2 => ResizeStep::Commit,
        3 => ResizeStep::Done,
        4 => ResizeStep::Cancel,
        _ => return Err(WireError::Field),
    };
    if size == 0 {
        return Err(WireError::Field);
    }
    Ok(Frame::Resize(Resize {
        volume: header.volume,
        request: header.request,
        size,
        step,
    }))
}

pub(super) fn encode(resize: &Resize, header: &mut Header) {
    header.kind = kind::RESIZE;
    (header.volume, header.request) = (resize.volume, resize.request);
    header.argument = resize.size;
    header.length = match resize.step {
        ResizeStep::Prepare { exact, clean } => {
            let flag = |on, bit| if on { bit } else { 0 };
            header.flags = flag(exact, EXACT) | flag(clean, CLEAN);
            1
        }
        ResizeStep::Commit => 2,
        ResizeStep::Done => 3,
        ResizeStep::Cancel => 4,
    };
}

pub(super) fn encode_reply(reply: &ResizeReply, header: &mut Header) {
    header.kind = kind::RESIZE_REPLY;
    (header.request, header.argument) = (reply.request, reply.size);
    let code = ANSWERS.iter().position(|answer| *answer == reply.answer);
    header.length = code.unwrap_or(0) as u32;
}
