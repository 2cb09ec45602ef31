//! The queue of actions, allocated once.
//!
//! Texts and the handshake's frames are big and rare, so they wait beside the queue (or are built
//! when they are polled) instead of making every entry as big as they are.

use crate::api::{
    Answer, ClientError, CommandId, DiskOp, DiskToken, Level, Party, Request, RequestId, Text,
};
use crate::buf::{Buf, BufView};
use crate::wire::Frame;
use alloc::collections::VecDeque;

/// An action in its compact form.
#[derive(Debug)]
pub(super) enum Queued {
    Disk {
        token: DiskToken,
        volume: u16,
        op: DiskOp,
    },
    /// As Disk, on the disk that holds the volume's metadata.
    Meta {
        token: DiskToken,
        volume: u16,
        op: DiskOp,
    },
    /// The volume's old content can be read, or not any more.
    Snapshot {
        volume: u16,
        readable: bool,
    },
    /// The volume's size is known, or changed.
    Size {
        volume: u16,
        size: u64,
    },
    Send {
        frame: Frame,
        payload: Option<BufView>,
    },
    /// The handshake's frame for the volume at this position.
    HelloVolume(usize),
    /// Role and disk states as they are when it is polled.
    State,
    Reply {
        id: RequestId,
        result: Result<(), ClientError>,
        buf: Option<Buf>,
    },
    OpenLink,
    CloseLink,
    Serve(bool),
    RefuseClients,
    /// The next of `done`.
    CommandDone,
    /// The next of `asks`.
    Ask,
    /// The next of `answers`.
    Answer,
    /// The next of `logs`.
    Log,
}

/// Log lines and command results of one step at most; a step makes a handful.
const TEXTS: usize = 64;

#[derive(Debug)]
pub(super) struct Queue {
    actions: VecDeque<Queued>,
    pub logs: VecDeque<(Level, Text)>,
    pub done: VecDeque<(CommandId, Result<Text, Text>)>,
    pub asks: VecDeque<(Party, Request)>,
    pub answers: VecDeque<(Party, u32, Answer)>,
    limit: usize,
}

impl Queue {
    /// A step starts or ends every slot at most once: a disk operation, a frame and an answer each.
    pub fn new(slots: usize) -> Self {
        let limit = 3 * slots + 6 * TEXTS;
        Self {
            actions: VecDeque::with_capacity(limit),
            logs: VecDeque::with_capacity(TEXTS),
            done: VecDeque::with_capacity(TEXTS),
            asks: VecDeque::with_capacity(TEXTS),
            answers: VecDeque::with_capacity(TEXTS),
            limit,
        }
    }

    pub fn push(&mut self, action: Queued) {
        assert!(
            self.actions.len() < self.limit,
            "a step produced more actions than it can; were they drained after the last one?"
        );
        self.actions.push_back(action);
    }

    pub fn log(&mut self, level: Level, text: Text) {
        if self.logs.len() < TEXTS {
            self.logs.push_back((level, text));
            self.push(Queued::Log);
        }
    }

    pub fn command_done(&mut self, id: CommandId, result: Result<Text, Text>) {
        assert!(
            self.done.len() < TEXTS,
            "more commands ended than were deferred"
        );
        self.done.push_back((id, result));
        self.push(Queued::CommandDone);
    }

    /// A question that finds no room is asked again later in any case.
    pub fn ask(&mut self, to: Party, request: Request) {
        if self.asks.len() < TEXTS {
            self.asks.push_back((to, request));
            self.push(Queued::Ask);
        }
    }

    /// As for [`Queue::ask`]: whoever gets no answer asks again.
    pub fn answer(&mut self, to: Party, token: u32, answer: Answer) {
        if self.answers.len() < TEXTS {
            self.answers.push_back((to, token, answer));
            self.push(Queued::Answer);
        }
    }

    pub fn pop(&mut self) -> Option<Queued> {
        self.actions.pop_front()
    }

    pub fn is_empty(&self) -> bool {
        self.actions.is_empty()
    }
}
