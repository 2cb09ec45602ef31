//! The table of sessions.

use super::documents::Documents;
use super::reply::Counts;
use super::session::{Session, Shared, Verdict};
use super::{HEAD_BYTES_MAX, Site};
use crate::stream::ByteStream;
use alloc::vec::Vec;
use replication::api::Micros;

/// Sizes of a server.
#[derive(Debug, Clone, Copy)]
pub struct ServerConfig {
    /// Connections at most, 1 to 256.
    pub slots: u16,
    /// Documents that are on their way at once.
    pub documents: usize,
    /// Largest document in bytes.
    pub document_bytes: usize,
}

/// Where a new connection was put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The slot to poll with the connection's stream.
    pub slot: u16,
    /// Whether the slot's former connection had to go: reset its socket.
    pub evicted: bool,
}

/// The web server; see the [module](super) for the order of calls.
pub struct Server {
    sessions: Vec<Session>,
    shared: Shared,
}

impl Server {
    /// A server with all its memory.
    #[must_use]
    pub fn new(config: &ServerConfig) -> Self {
        let slots = config.slots.clamp(1, 256);
        Self {
            sessions: (0..slots).map(|_| Session::new()).collect(),
            shared: Shared {
                documents: Documents::new(config.documents.max(1), config.document_bytes),
                readers: 0,
                counts: Counts::default(),
                token: None,
                wrong_tokens: 0,
                running: None,
            },
        }
    }

    /// Takes commands from whoever shows this token.
    pub fn allow_commands(&mut self, token: &[u8]) {
        self.shared.token = Some(token.into());
    }

    /// What [`Server::new`] takes of the heap, in bytes.
    #[must_use]
    pub const fn bytes(config: &ServerConfig) -> usize {
        config.slots as usize * (HEAD_BYTES_MAX + size_of::<Session>())
            + config.documents * (config.document_bytes + size_of::<Vec<u8>>())
    }

    /// Finds a slot for a new connection. `None`: give it [`super::BUSY`], and close it.
    pub fn accept(&mut self, now: Micros) -> Option<Accepted> {
        let free = self.sessions.iter().position(Session::is_free);
        let (slot, evicted) = match free {
            Some(slot) => (slot, false),
            None => (self.victim(now)?, true),
        };
        if evicted {
            self.sessions[slot].release(&mut self.shared);
        }
        self.sessions[slot].open(now);
        // There are 256 at most.
        let slot = slot as u16;
        Some(Accepted { slot, evicted })
    }

    fn victim(&self, now: Micros) -> Option<usize> {
        let priced = self.sessions.iter().enumerate();
        let priced = priced.filter_map(|(slot, session)| Some((session.price(now)?, slot)));
        priced.min().map(|(_, slot)| slot)
    }

    /// Gives the session in `slot` a turn on its stream. After anything but [`Verdict::Continue`] the slot is free.
    pub fn poll<S: ByteStream>(&mut self, slot: u16, now: Micros, stream: &mut S) -> Verdict {
        let session = self.sessions.get_mut(usize::from(slot));
        let Some(session) = session.filter(|session| !session.is_free()) else {
            return Verdict::Abort;
        };
        let verdict = session.poll(now, &mut self.shared, stream);
        if verdict != Verdict::Continue {
            session.release(&mut self.shared);
        }
        verdict
    }

    /// There are new events.
    pub fn stir(&mut self) {
        self.sessions.iter_mut().for_each(Session::stir);
    }

    /// Makes the document that has been waited for longest, if there is memory for it, or fetches events for the reader that has waited
    /// longest for some; answers for which slot. Otherwise has the command begun that has waited longest, if none is under way.
    pub fn answer<T: Site>(&mut self, now: Micros, site: &mut T) -> Option<u16> {
        self.make_document(now, site)
            .or_else(|| self.fetch_events(now, site))
            .or_else(|| self.begin_command(now, site))
    }

    fn begin_command<T: Site>(&mut self, now: Micros, site: &mut T) -> Option<u16> {
        if !self.shared.can_run() {
            return None;
        }
        let waiting = self.sessions.iter().enumerate();
        let waiting = waiting.filter_map(|(slot, session)| Some((session.commands_since()?, slot)));
        let (_, slot) = waiting.min()?;
        // There are 256 at most.
        self.sessions[slot].begin_command(slot as u16, now, &mut self.shared, site);
        None
    }

    /// The command that [`Site::command`] has begun has ended, and did what it was told or not, with this output: printable ASCII, lines ended by line
    /// feeds. What is more than a document takes is cut off, and who asked for it is told so, if they are still there.
    pub fn finish(&mut self, now: Micros, done: bool, output: &[u8]) {
        if let Some(slot) = self.shared.running.take() {
            let session = &mut self.sessions[usize::from(slot)];
            session.end_command(done, output, now, &mut self.shared);
        }
    }

    /// The command that [`Site::command`] was told of could not be begun within [`super::ANSWER_LIMIT`], and will not be.
    pub fn withdraw(&mut self, now: Micros) {
        if let Some(slot) = self.shared.running.take() {
            self.sessions[usize::from(slot)].withdraw(now, &mut self.shared);
        }
    }

    /// How many requests showed a token that is not the right one.
    #[must_use]
    pub fn wrong_tokens(&self) -> u64 {
        self.shared.wrong_tokens
    }

    fn fetch_events<T: Site>(&mut self, now: Micros, site: &mut T) -> Option<u16> {
        let hungry = self.sessions.iter().enumerate();
        let hungry = hungry.filter_map(|(slot, session)| Some((session.hungers_since()?, slot)));
        let (_, slot) = hungry.min()?;
        // There are 256 at most.
        self.sessions[slot].fetch(slot as u16, now, site);
        Some(slot as u16)
    }

    fn make_document<T: Site>(&mut self, now: Micros, site: &mut T) -> Option<u16> {
        if !self.shared.documents.any_free() {
            return None;
        }
        let waiting = self.sessions.iter().enumerate();
        let waiting = waiting.filter_map(|(slot, session)| Some((session.waits_since()?, slot)));
        let (_, slot) = waiting.min()?;
        self.sessions[slot].document(now, &mut self.shared, site);
        // There are 256 at most.
        Some(slot as u16)
    }

    /// Whether [`Server::poll`] would get anywhere now. Cheap; takes no turn.
    #[must_use]
    pub fn wants_poll<S: ByteStream>(&self, slot: u16, now: Micros, stream: &S) -> bool {
        self.sessions
            .get(usize::from(slot))
            .is_some_and(|session| session.wants_poll(now, &self.shared, stream))
    }

    /// The connection of `slot` is gone.
    pub fn hang_up(&mut self, slot: u16) {
        if let Some(session) = self.sessions.get_mut(usize::from(slot)) {
            session.release(&mut self.shared);
        }
    }

    /// When some session must have a turn whatever its stream says; 0: at once.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Micros> {
        let due = self.sessions.iter();
        due.filter_map(|session| session.due_at(&self.shared)).min()
    }

    /// Connections that stand.
    #[must_use]
    pub fn connections(&self) -> usize {
        let open = self.sessions.iter().filter(|session| !session.is_free());
        open.count()
    }

    /// How many answers there were since the start, by code.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.shared.counts
    }
}
