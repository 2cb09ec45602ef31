//! The engine with its surroundings: pool, disks and the link, driven by events.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use admin::events::Journal;
use net::link::PeerLink;
use net::nbd::SessionIo;
use replication::api::{
    Action, Answer, ClientError, ClientRequest, CommandId, Event, Level, MAX_VOLUMES, Micros,
    Party, Request, RequestId, Text,
};
use replication::buf::{Buf, BufView, Mem, Pool, PoolMemory};
use replication::engine::Engine;

use super::disks::{Disk, Role};
use super::payload::Payload;
use super::signals;

/// An answer to a client, on its way to the session.
pub type Reply = (RequestId, Result<(), ClientError>, Option<Buf>);

/// The end of an operator's command.
pub type CommandEnd = (CommandId, Result<Text, Text>);

/// What the engine wants said on the management network.
pub enum Said {
    /// A question, the first time or again.
    Question(Party, Request),
    /// The answer to the question with this number.
    Answer(Party, u32, Answer),
}

/// Things to be said in one turn: the answers to all that came in, and a question for each party. What finds no room
/// is asked again.
const SAID: usize = 20;

/// Commands that may be unanswered at once: one of the console, and room for one more.
const COMMANDS: usize = 4;

/// What the engine acts on, apart from sockets. Performs each event's actions before it returns; what concerns the
/// sessions and the sockets is left in the public fields.
pub struct Core {
    /// The engine.
    pub engine: Engine,
    /// Bookkeeping of the payload memory.
    pub pool: Pool,
    /// The payload memory.
    pub payload: Payload,
    /// The disks of the volumes that have one.
    pub disks: Vec<Disk>,
    /// The link to the peer.
    pub link: PeerLink,
    /// Answers to clients.
    pub replies: VecDeque<Reply>,
    /// Ended commands.
    pub commands: heapless::Deque<CommandEnd, COMMANDS>,
    /// What is to be said on the management network.
    pub said: heapless::Deque<Said, SAID>,
    /// Clients must be dropped, whatever `serve` says.
    pub drop_clients: bool,
    /// The engine's last word on serving, until it is passed on.
    pub serve: Option<bool>,
    /// Clients that wait are to be told why they are not served.
    pub refuse_clients: bool,
    /// Sizes of volumes that the exports must be told.
    pub sizes: Vec<(u16, u64)>,
    /// Volumes whose old content can be read from now on, or not any more.
    pub snapshots: Vec<(u16, bool)>,
    /// The link is to be closed, which needs its stack.
    pub close_link: bool,
    /// After that it is to be opened again.
    open_link: bool,
    /// When the engine wants its next tick; `None` when that is to be asked anew.
    timeout: Option<Option<Micros>>,
    /// What becomes of the engine's states.
    pub journal: Journal,
    /// [`Engine::states`] at the last look.
    states: u64,
    /// The time of this turn.
    pub now: Micros,
}

impl Core {
    /// Puts the parts together and performs what the engine wants at its start.
    pub fn new(
        now: Micros,
        engine: Engine,
        (pool, payload): (Pool, Payload),
        disks: Vec<Disk>,
        link: PeerLink,
        journal: Journal,
        max_requests: u16,
    ) -> Self {
        let states = engine.states();
        let mut core = Self {
            engine,
            pool,
            payload,
            disks,
            link,
            replies: VecDeque::with_capacity(usize::from(max_requests)),
            commands: heapless::Deque::new(),
            said: heapless::Deque::new(),
            drop_clients: false,
            serve: None,
            refuse_clients: false,
            sizes: Vec::with_capacity(MAX_VOLUMES),
            snapshots: Vec::with_capacity(2 * MAX_VOLUMES),
            close_link: false,
            open_link: false,
            timeout: None,
            journal,
            states,
            now,
        };
        core.perform();
        core
    }

    /// Gives the engine an event and does what it wants.
    pub fn event(&mut self, event: Event) {
        let mut mem = Mem::new(&mut self.pool, &mut self.payload);
        self.engine.handle(self.now, event, &mut mem);
        self.timeout = None;
        self.perform();
    }

    /// Notes a state that is different, for `events`. Once a turn: the whole status costs too much for that.
    pub fn follow(&mut self) {
        let states = self.engine.states();
        if core::mem::replace(&mut self.states, states) != states {
            self.observe();
        }
    }

    /// Notes whatever is different, the progress of resyncs included.
    pub fn observe(&mut self) {
        if self
            .journal
            .observe(self.now, &self.engine.status(self.now))
        {
            signals::CONSOLE.signal(());
        }
    }

    /// When the engine wants its next tick. That changes only with an event, so the answer is kept until the next one.
    pub fn timeout(&mut self) -> Option<Micros> {
        *self
            .timeout
            .get_or_insert_with(|| self.engine.poll_timeout())
    }

    /// The link was closed: opens it again if the engine has asked for that meanwhile.
    pub fn link_closed(&mut self) {
        self.close_link = false;
        if core::mem::take(&mut self.open_link) {
            self.link.open(self.now);
        }
    }

    fn say(&mut self, said: Said) {
        if self.said.push_back(said).is_err() {
            log::debug!("something for the management network was dropped: too much at once");
        }
    }

    fn perform(&mut self) {
        while let Some(action) = self.engine.poll_action() {
            match action {
                Action::Disk { token, volume, op } => {
                    disk(&mut self.disks, volume, Role::Data).start(token, op, &self.payload);
                }
                Action::Meta { token, volume, op } => {
                    disk(&mut self.disks, volume, Role::Metadata).start(token, op, &self.payload);
                }
                Action::Size { volume, size } => self.sizes.push((volume, size)),
                Action::Snapshot { volume, readable } => self.snapshots.push((volume, readable)),
                Action::Send { frame, payload } => self.link.send(frame, payload),
                Action::Reply { id, result, buf } => self.replies.push_back((id, result, buf)),
                Action::OpenLink if self.close_link => self.open_link = true,
                Action::OpenLink => self.link.open(self.now),
                Action::CloseLink => {
                    self.close_link = true;
                    self.open_link = false;
                }
                Action::Serve(on) => {
                    self.drop_clients |= !on;
                    self.serve = Some(on);
                }
                Action::RefuseClients => self.refuse_clients = true,
                Action::CommandDone { id, result } => {
                    if self.commands.push_back((id, result)).is_err() {
                        log::error!("the answer to command {id} was lost: nobody fetches answers");
                    }
                    signals::COMMAND.signal(());
                }
                Action::Ask { to, request } => self.say(Said::Question(to, request)),
                Action::Answer { to, token, answer } => self.say(Said::Answer(to, token, answer)),
                Action::Log { level, text } => log::log!(log_level(level), "{text}"),
            }
        }
    }
}

/// The disk of a volume, or of its metadata, which may be the same.
fn disk(disks: &mut [Disk], volume: u16, role: Role) -> &mut Disk {
    let of = |role| move |disk: &Disk| disk.volume() == volume && disk.role() == role;
    let found = disks.iter().position(of(role));
    let found = found.or_else(|| disks.iter().position(of(Role::Data)));
    match found {
        Some(at) => &mut disks[at],
        None => panic!("the engine wants to use the disk of volume {volume}, which has none"),
    }
}

fn log_level(level: Level) -> log::Level {
    match level {
        Level::Error => log::Level::Error,
        Level::Warn => log::Level::Warn,
        Level::Info => log::Level::Info,
        Level::Debug => log::Level::Debug,
    }
}

impl PoolMemory for Core {
    fn bytes(&self, view: BufView) -> &[u8] {
        self.payload.bytes(view)
    }

    fn bytes_mut(&mut self, view: BufView) -> &mut [u8] {
        self.payload.bytes_mut(view)
    }
}

impl SessionIo for Core {
    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }

    fn has_room(&self) -> bool {
        self.engine.has_room()
    }

    fn submit(&mut self, request: ClientRequest) {
        self.event(Event::Client(request));
    }

    fn not_serving(&self) -> Option<Text> {
        self.engine.not_serving()
    }
}
