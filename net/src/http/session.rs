//! One connection: its request, and the answer on its way.

use super::documents::{DocumentId, Documents};
use super::page::{PAGE, POLICY};
use super::reply::{self, Code, Counts, Kind};
use super::request::{self, Head, Method, Target};
use super::token::Token;
use super::{
    ANSWER_LIMIT, COMMAND_BYTES_MAX, EVENT_BYTES_MAX, GRACE, HEAD_BYTES_MAX, HEARTBEAT, IDLE_LIMIT,
    Mark, Page, READERS_MAX, REQUEST_LIMIT, Site,
};
use crate::stream::ByteStream;
use alloc::vec::Vec;
use core::fmt::Write;
use replication::api::Micros;

/// Room for the head of an answer, or all of a short one.
const OUT_BYTES: usize = 2048;

/// What is to become of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub enum Verdict {
    /// It goes on.
    Continue,
    /// The last answer was given: close it.
    Close,
    /// It is of no more use: reset it.
    Abort,
}

/// Where a session stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// There is no connection.
    Free,
    /// Nothing of a request has come.
    Idle,
    /// A part of a head has come.
    Head,
    /// A document is asked for; of HEAD only its length is wanted.
    Waiting { page: Page, no_body: bool },
    /// The answer is being taken.
    Answering,
    /// Events are sent as they happen; since nothing was left to be sent.
    Reading,
    /// The head of a command has come, and a part of its body, which has so many bytes.
    Body { length: usize },
    /// A command of so many bytes has come and is not begun.
    Command { length: usize },
    /// It is being carried out. That is bounded by who does it.
    Running,
}

/// What all sessions share.
pub(super) struct Shared {
    pub documents: Documents,
    /// Sessions that read events.
    pub readers: usize,
    pub counts: Counts,
    /// Who shows it may give commands.
    pub token: Option<Vec<u8>>,
    /// Requests that showed another one.
    pub wrong_tokens: u64,
    /// The slot for which a command is being carried out. Its session may be gone.
    pub running: Option<u16>,
}

impl Shared {
    /// Whether a command can be begun.
    pub(super) fn can_run(&self) -> bool {
        self.running.is_none() && self.documents.any_free()
    }
}

#[derive(Debug)]
pub(super) struct Session {
    state: State,
    /// Since when it stands there.
    since: Micros,
    /// What was read and not used.
    input: Vec<u8>,
    /// There may be a whole request in `input`.
    fresh: bool,
    out: heapless::Vec<u8, OUT_BYTES>,
    /// Bytes of `out` that were sent.
    out_sent: usize,
    /// The answer's body, unless it is in `out`, and how much of it was sent.
    body: Body,
    body_sent: usize,
    keep_alive: bool,
    /// The stream took less than there was.
    stalled: bool,
    /// Of a reader: there may be events for it.
    hungry: bool,
    /// Of a reader that is new: what it knows.
    mark: Option<Option<Mark>>,
}

/// The body of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Body {
    /// None, or it is in `out`.
    None,
    Document(DocumentId),
    Fixed(&'static [u8]),
}

impl Session {
    pub(super) fn new() -> Self {
        Self {
            state: State::Free,
            since: 0,
            input: Vec::with_capacity(HEAD_BYTES_MAX),
            fresh: false,
            out: heapless::Vec::new(),
            out_sent: 0,
            body: Body::None,
            body_sent: 0,
            keep_alive: false,
            stalled: false,
            hungry: false,
            mark: None,
        }
    }

    pub(super) fn is_free(&self) -> bool {
        self.state == State::Free
    }

    pub(super) fn open(&mut self, now: Micros) {
        self.enter(State::Idle, now);
        self.input.clear();
        self.fresh = false;
        self.keep_alive = false;
    }

    pub(super) fn release(&mut self, shared: &mut Shared) {
        self.drop_body(shared);
        shared.readers -= usize::from(self.state == State::Reading);
        self.state = State::Free;
        self.out.clear();
    }

    fn drop_body(&mut self, shared: &mut Shared) {
        if let Body::Document(id) = core::mem::replace(&mut self.body, Body::None) {
            shared.documents.give_back(id);
        }
    }

    fn enter(&mut self, state: State, now: Micros) {
        self.state = state;
        self.since = now;
    }

    /// When it must have a turn whatever the stream says.
    fn deadline(&self) -> Option<Micros> {
        let limit = match self.state {
            State::Free => return None,
            State::Idle => IDLE_LIMIT,
            State::Head | State::Body { .. } => REQUEST_LIMIT,
            State::Waiting { .. } | State::Command { .. } | State::Answering => ANSWER_LIMIT,
            State::Running => return None,
            State::Reading if self.out.is_empty() => HEARTBEAT,
            State::Reading => ANSWER_LIMIT,
        };
        Some(self.since.saturating_add(limit))
    }

    /// When it is due; 0: at once.
    pub(super) fn due_at(&self, shared: &Shared) -> Option<Micros> {
        match self.state {
            State::Idle | State::Head | State::Body { .. } if self.fresh => Some(0),
            State::Waiting { .. } if shared.documents.any_free() => Some(0),
            State::Command { .. } if shared.can_run() => Some(0),
            State::Answering if !self.stalled => Some(0),
            State::Reading if self.out.is_empty() && self.hungry => Some(0),
            State::Reading if !self.out.is_empty() && !self.stalled => Some(0),
            _ => self.deadline(),
        }
    }

    /// Whether a turn would get anywhere.
    pub(super) fn wants_poll<S: ByteStream>(
        &self,
        now: Micros,
        shared: &Shared,
        stream: &S,
    ) -> bool {
        if self.due_at(shared).is_some_and(|at| at <= now) {
            return true;
        }
        match self.state {
            State::Free => false,
            State::Idle | State::Head | State::Body { .. } => {
                stream.readable() > 0 || stream.at_end()
            }
            State::Waiting { .. } | State::Command { .. } | State::Running => false,
            State::Answering => stream.writable() > 0 || stream.at_end(),
            State::Reading => {
                stream.readable() > 0
                    || stream.at_end()
                    || !self.out.is_empty() && stream.writable() > 0
            }
        }
    }

    /// How dear it is, if it may make room for another connection: the smallest goes first.
    pub(super) fn price(&self, now: Micros) -> Option<(u8, Micros)> {
        // Who has just come, or has just been answered, may be about to ask.
        match self.state {
            State::Idle if !self.fresh && now.saturating_sub(self.since) > GRACE => {
                Some((0, self.since))
            }
            State::Head | State::Body { .. } if now.saturating_sub(self.since) > GRACE => {
                Some((1, self.since))
            }
            _ => None,
        }
    }

    /// Since when it waits for a document.
    pub(super) fn waits_since(&self) -> Option<Micros> {
        matches!(self.state, State::Waiting { .. }).then_some(self.since)
    }

    /// A turn: at most one request.
    pub(super) fn poll<S: ByteStream>(
        &mut self,
        now: Micros,
        shared: &mut Shared,
        stream: &mut S,
    ) -> Verdict {
        if matches!(self.state, State::Idle | State::Head | State::Body { .. }) {
            match self.receive(now, stream, shared.token.as_deref()) {
                Received::Whole(head) => self.take(head, now, shared),
                Received::Body(length) => self.take_body(length, now, shared),
                Received::Nothing => return Verdict::Continue,
                Received::Mistake(code) => {
                    self.keep_alive = false;
                    self.short(code, None, false, now, shared);
                }
                Received::End(verdict) => return verdict,
            }
        } else if let State::Waiting { no_body, .. } = self.state
            && self.is_late(now)
        {
            self.short(Code::Unavailable, None, no_body, now, shared);
        } else if matches!(self.state, State::Command { .. }) && self.is_late(now) {
            // What was to be carried out by now must not be at some later time.
            self.keep_alive = false;
            self.short(Code::Busy, None, false, now, shared);
        }
        match self.state {
            State::Answering => self.send(now, shared, stream),
            State::Reading => self.send_events(now, stream),
            _ => Verdict::Continue,
        }
    }

    fn is_late(&self, now: Micros) -> bool {
        self.deadline().is_some_and(|at| at <= now)
    }

    fn receive<S: ByteStream>(
        &mut self,
        now: Micros,
        stream: &mut S,
        token: Option<&[u8]>,
    ) -> Received {
        let before = self.input.len();
        self.input.resize(HEAD_BYTES_MAX, 0);
        let read = stream.read(&mut self.input[before..]);
        self.input.truncate(before + read);
        let ended = stream.at_end();
        if self.state == State::Idle && !self.input.is_empty() {
            self.enter(State::Head, now);
        }
        let fresh = core::mem::take(&mut self.fresh);
        if let State::Body { length } = self.state {
            if self.input.len() >= length {
                return Received::Body(length);
            }
        } else if read > 0 || fresh {
            match request::parse(&self.input, token) {
                Ok(Some(head)) => return Received::Whole(head),
                Ok(None) if self.input.len() == HEAD_BYTES_MAX => {
                    return Received::Mistake(Code::HeadTooLarge);
                }
                Ok(None) => {}
                Err(code) => return Received::Mistake(code),
            }
        }
        match self.state {
            _ if ended => Received::End(Verdict::Close),
            State::Head | State::Body { .. } if self.is_late(now) => {
                Received::Mistake(Code::Timeout)
            }
            _ if self.is_late(now) => Received::End(Verdict::Close),
            _ => Received::Nothing,
        }
    }

    fn take(&mut self, head: Head, now: Micros, shared: &mut Shared) {
        self.input.drain(..head.length);
        // A body that nobody wants is not waited for.
        self.keep_alive = head.keep_alive && head.body.unwrap_or(0) == 0;
        let no_body = head.method == Method::Head;
        let page = match head.target {
            Target::Other => return self.short(Code::NotFound, None, no_body, now, shared),
            Target::Index if matches!(head.method, Method::Get | Method::Head) => {
                self.begin(
                    Code::Ok,
                    Kind::Page,
                    Some(PAGE.len()),
                    Some(POLICY),
                    now,
                    shared,
                );
                if !no_body {
                    self.body = Body::Fixed(PAGE);
                }
                return;
            }
            Target::Events if head.method == Method::Get => {
                return self.read_events(head.mark, now, shared);
            }
            Target::Events => {
                return self.short(Code::Method, Some("Allow: GET\r\n"), no_body, now, shared);
            }
            Target::Exec => return self.take_command(head, now, shared),
            // Refused below, whatever the page.
            Target::Index => Page::Health,
            Target::Health => Page::Health,
            Target::Status => Page::Status,
            Target::Metrics => Page::Metrics,
        };
        if !matches!(head.method, Method::Get | Method::Head) {
            return self.short(
                Code::Method,
                Some("Allow: GET, HEAD\r\n"),
                no_body,
                now,
                shared,
            );
        }
        self.enter(State::Waiting { page, no_body }, now);
    }

    /// The head of a command.
    fn take_command(&mut self, head: Head, now: Micros, shared: &mut Shared) {
        shared.wrong_tokens += u64::from(head.token == Token::Wrong);
        let (code, header) = match (head.method, head.token, head.body) {
            (Method::Post, Token::Right, Some(length)) if head.plain => {
                self.keep_alive = head.keep_alive;
                // The time for the request to come goes on.
                self.state = State::Body { length };
                self.fresh = true;
                return;
            }
            (Method::Post, Token::Right, Some(_)) => (Code::MediaType, None),
            (Method::Post, Token::Right, None) => (Code::LengthRequired, None),
            (Method::Post, Token::Off, _) => (Code::Forbidden, None),
            (Method::Post, Token::None, _) => (
                Code::Unauthorized,
                Some("WWW-Authenticate: Bearer realm=\"palisade\"\r\n"),
            ),
            (Method::Post, Token::Wrong, _) => (
                Code::Unauthorized,
                Some("WWW-Authenticate: Bearer realm=\"palisade\", error=\"invalid_token\"\r\n"),
            ),
            _ => (Code::Method, Some("Allow: POST\r\n")),
        };
        let no_body = head.method == Method::Head;
        self.short(code, header, no_body, now, shared);
    }

    /// All of a command's `length` bytes.
    fn take_body(&mut self, length: usize, now: Micros, shared: &mut Shared) {
        let line = self.input[..length].trim_ascii_end();
        let fit = line.len() <= COMMAND_BYTES_MAX
            && line.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~'));
        if fit {
            return self.enter(State::Command { length }, now);
        }
        self.input.drain(..length);
        self.short(Code::BadCommand, None, false, now, shared);
    }

    /// Since when a command of it waits to be begun.
    pub(super) fn commands_since(&self) -> Option<Micros> {
        matches!(self.state, State::Command { .. }).then_some(self.since)
    }

    /// Has its command begun, for which there is memory.
    pub(super) fn begin_command<T: Site>(
        &mut self,
        slot: u16,
        now: Micros,
        shared: &mut Shared,
        site: &mut T,
    ) {
        let State::Command { length } = self.state else {
            return;
        };
        let Some(id) = shared.documents.take() else {
            return;
        };
        let line = core::str::from_utf8(self.input[..length].trim_ascii_end());
        // All of it is ASCII.
        site.command(slot, line.unwrap_or_default());
        self.input.drain(..length);
        self.body = Body::Document(id);
        self.enter(State::Running, now);
        shared.running = Some(slot);
    }

    /// Its command, if it still has one, has ended, with this output.
    pub(super) fn end_command(
        &mut self,
        done: bool,
        output: &[u8],
        now: Micros,
        shared: &mut Shared,
    ) {
        let (State::Running, Body::Document(id)) = (self.state, self.body) else {
            return;
        };
        let whole = shared.documents.writer(id).add(output);
        let (code, header) = match (done, whole) {
            (true, true) => (Code::Ok, "Palisade-Exit-Status: 0\r\n"),
            (true, false) => (
                Code::Ok,
                "Palisade-Exit-Status: 0\r\nPalisade-Output: cut\r\n",
            ),
            (false, true) => (Code::Refused, "Palisade-Exit-Status: 1\r\n"),
            (false, false) => (
                Code::Refused,
                "Palisade-Exit-Status: 1\r\nPalisade-Output: cut\r\n",
            ),
        };
        let length = shared.documents.bytes(id).len();
        self.begin(code, Kind::Text, Some(length), Some(header), now, shared);
    }

    /// Its command, if it still has one, will not be carried out.
    pub(super) fn withdraw(&mut self, now: Micros, shared: &mut Shared) {
        if self.state == State::Running {
            self.drop_body(shared);
            self.short(Code::Busy, None, false, now, shared);
        }
    }

    /// Makes the document that it waits for, for which there is memory.
    pub(super) fn document<T: Site>(&mut self, now: Micros, shared: &mut Shared, site: &mut T) {
        let State::Waiting { page, no_body } = self.state else {
            return;
        };
        let Some(id) = shared.documents.take() else {
            return;
        };
        let written = site.write(page, &mut shared.documents.writer(id));
        let Ok(well) = written else {
            shared.documents.give_back(id);
            return self.short(Code::Internal, None, no_body, now, shared);
        };
        let kind = match page {
            Page::Health => Kind::Text,
            Page::Status => Kind::Json,
            Page::Metrics => Kind::Metrics,
        };
        let code = if well { Code::Ok } else { Code::Unavailable };
        let length = shared.documents.bytes(id).len();
        self.begin(code, kind, Some(length), None, now, shared);
        if no_body {
            shared.documents.give_back(id);
        } else {
            self.body = Body::Document(id);
        }
    }

    /// Begins to tell of events.
    fn read_events(&mut self, mark: Option<Mark>, now: Micros, shared: &mut Shared) {
        if shared.readers == READERS_MAX {
            return self.short(Code::Readers, None, false, now, shared);
        }
        self.keep_alive = false;
        self.begin(Code::Ok, Kind::Events, None, None, now, shared);
        self.enter(State::Reading, now);
        shared.readers += 1;
        (self.hungry, self.mark) = (true, Some(mark));
    }

    /// Whether there may be events for it, and since when it has waited for them.
    pub(super) fn hungers_since(&self) -> Option<Micros> {
        let hungers = self.state == State::Reading && self.hungry && self.out.is_empty();
        hungers.then_some(self.since)
    }

    /// There are new events.
    pub(super) fn stir(&mut self) {
        self.hungry |= self.state == State::Reading;
    }

    /// Fetches as many events as there is room for.
    pub(super) fn fetch<T: Site>(&mut self, slot: u16, now: Micros, site: &mut T) {
        if let Some(mark) = self.mark.take() {
            site.follow(slot, mark);
        }
        (self.out_sent, self.stalled) = (0, false);
        while OUT_BYTES - self.out.len() >= EVENT_BYTES_MAX {
            let written = site.event(slot, &mut Out(&mut self.out));
            assert!(written.is_ok(), "an event fits its memory");
            if written != Ok(true) {
                self.hungry = false;
                return;
            }
            self.since = now;
        }
    }

    fn send_events<S: ByteStream>(&mut self, now: Micros, stream: &mut S) -> Verdict {
        // What a reader says besides is not listened to.
        while stream.read(&mut [0; 256]) > 0 {}
        if stream.at_end() {
            return Verdict::Close;
        }
        if self.out.is_empty() && !self.hungry && self.is_late(now) {
            // A comment, which no reader is shown.
            (self.out_sent, self.stalled) = (0, false);
            self.put(format_args!(":\n\n"));
            self.since = now;
        }
        if write_on(stream, &self.out, &mut self.out_sent) {
            if !self.out.is_empty() {
                self.out.clear();
                self.since = now;
            }
            self.stalled = false;
            return Verdict::Continue;
        }
        self.stalled = true;
        match self.is_late(now) {
            true => Verdict::Abort,
            false => Verdict::Continue,
        }
    }

    /// An answer of a sentence.
    fn short(
        &mut self,
        code: Code,
        header: Option<&str>,
        no_body: bool,
        now: Micros,
        shared: &mut Shared,
    ) {
        let sentence = code.sentence();
        self.begin(
            code,
            Kind::Text,
            Some(sentence.len() + 1),
            header,
            now,
            shared,
        );
        if !no_body {
            self.put(format_args!("{sentence}\n"));
        }
    }

    /// The answer's head.
    fn begin(
        &mut self,
        code: Code,
        kind: Kind,
        length: Option<usize>,
        header: Option<&str>,
        now: Micros,
        shared: &mut Shared,
    ) {
        shared.counts.count(code);
        self.enter(State::Answering, now);
        self.out.clear();
        (self.out_sent, self.body_sent, self.stalled) = (0, 0, false);
        let keep_alive = self.keep_alive;
        let fits = reply::head(code, kind, length, keep_alive, &mut Out(&mut self.out));
        assert!(fits.is_ok(), "the head of an answer fits its memory");
        self.put(format_args!("{}\r\n", header.unwrap_or_default()));
    }

    fn put(&mut self, text: core::fmt::Arguments<'_>) {
        let fits = Out(&mut self.out).write_fmt(text);
        assert!(fits.is_ok(), "a short answer fits its memory");
    }

    fn send<S: ByteStream>(&mut self, now: Micros, shared: &mut Shared, stream: &mut S) -> Verdict {
        let body = match self.body {
            Body::None => &[],
            Body::Document(id) => shared.documents.bytes(id),
            Body::Fixed(bytes) => bytes,
        };
        let all = write_on(stream, &self.out, &mut self.out_sent)
            && write_on(stream, body, &mut self.body_sent);
        self.stalled = !all;
        if !all {
            // Who closed their half may still read; who is late does not.
            return if self.is_late(now) {
                Verdict::Abort
            } else {
                Verdict::Continue
            };
        }
        self.drop_body(shared);
        if !self.keep_alive {
            return Verdict::Close;
        }
        self.fresh = !self.input.is_empty();
        let next = if self.fresh { State::Head } else { State::Idle };
        self.enter(next, now);
        Verdict::Continue
    }
}

/// What came.
enum Received {
    Nothing,
    Whole(Head),
    /// So many bytes of a command are all of it.
    Body(usize),
    Mistake(Code),
    End(Verdict),
}

/// Sends what is left of `bytes`; answers whether nothing is.
fn write_on<S: ByteStream>(stream: &mut S, bytes: &[u8], sent: &mut usize) -> bool {
    while *sent < bytes.len() {
        let taken = stream.write(&bytes[*sent..]);
        if taken == 0 {
            return false;
        }
        *sent += taken;
    }
    true
}

struct Out<'a>(&'a mut heapless::Vec<u8, OUT_BYTES>);

impl Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let added = self.0.extend_from_slice(text.as_bytes());
        added.map_err(|_| core::fmt::Error)
    }
}
