//! The preamble on one connection.

use crate::stack::{ConnHandle, Stack};
use crate::stream::ByteStream;
use replication::api::Micros;
use replication::secure::{Preamble, PreambleError, PreambleSide, Security, Session};

/// How long a peer may take for its part.
const TIME_LIMIT: Micros = 5_000_000;

/// How far the preamble is.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "looked at and taken apart where it is made"
)]
pub(super) enum Greeted {
    /// It goes on.
    Waiting,
    /// The peer is the peer: frames follow.
    Done(Session),
    /// It failed; what was to be said was said.
    Failed(PreambleError),
    /// The peer hung up.
    Closed,
    /// The peer took too long.
    Silent,
}

/// A connection whose preamble is not finished.
#[derive(Debug)]
pub(super) struct Greeting {
    pub conn: ConnHandle,
    pub deadline: Micros,
    preamble: Preamble,
}

impl Greeting {
    pub fn new(
        now: Micros,
        conn: ConnHandle,
        security: &Security,
        side: PreambleSide,
        nonce: [u8; 32],
    ) -> Self {
        Self {
            conn,
            deadline: now.saturating_add(TIME_LIMIT),
            preamble: Preamble::new(security, side, nonce),
        }
    }

    /// Goes on as far as the connection allows; `wrote` becomes true if anything was sent.
    pub fn poll(
        &mut self,
        now: Micros,
        stack: &mut Stack,
        security: &Security,
        wrote: &mut bool,
    ) -> Greeted {
        let Some(mut stream) = stack.stream(self.conn) else {
            return Greeted::Closed;
        };
        loop {
            let failure = self.step(&mut stream, security, wrote);
            match failure {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => return Greeted::Failed(error),
            }
        }
        if let Some(session) = self.preamble.session(security) {
            return Greeted::Done(session);
        }
        if stream.at_end() {
            return Greeted::Closed;
        }
        if self.deadline <= now {
            return Greeted::Silent;
        }
        Greeted::Waiting
    }

    /// Sends and reads once; whether there may be more to do at once.
    fn step<S: ByteStream>(
        &mut self,
        stream: &mut S,
        security: &Security,
        wrote: &mut bool,
    ) -> Result<bool, PreambleError> {
        *wrote |= self.send(stream);
        let n = stream.read(self.preamble.input());
        let taken = self.preamble.received(security, n);
        *wrote |= self.send(stream);
        taken.map(|()| n > 0)
    }

    fn send<S: ByteStream>(&mut self, stream: &mut S) -> bool {
        let output = self.preamble.output();
        let n = if output.is_empty() {
            0
        } else {
            stream.write(output)
        };
        self.preamble.sent(n);
        n > 0
    }
}
