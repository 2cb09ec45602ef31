//! `promote RESOURCE NODE`: has a node become Primary by PROMOTE, and says what came of it (docs/ARBITER.md).
//!
//! The node is asked from the daemon's port, at the address that it was last heard from, in a session of this command alone:
//! no answer to an earlier one counts. What is asked and what an answer means is [`fencing::Promoter`]'s.

use crate::log;
use crate::server::{Served, Server};
use crate::store::Error;
use fencing::datagram::{Channel, DATAGRAM_MAX};
use fencing::{Answer, Ended, Name, Promoter, Step, Withheld};
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// How long it is asked for, in seconds, unless said otherwise.
const TIMEOUT: u64 = 10;
const TIMEOUT_MAX: u64 = 600;
/// Exit status when it is not known whether the node becomes Primary.
const OPEN: u8 = 3;
pub const USAGE: &str = "promote RESOURCE NODE [--timeout SECONDS] [--address IP:PORT] [--json]";

/// What the daemon's listener hands on.
#[derive(Debug)]
pub enum Heard {
    /// An authentic answer, of a node that says that it is of the resource with this identity.
    Answer(Answer, u64),
    /// The node wants to be asked again.
    AskAgain,
}

/// A command that is under way, for the listener.
pub struct Asking {
    pub channel: Channel,
    pub heard: Sender<Heard>,
}

/// What was asked for.
#[derive(Debug)]
pub struct Wish {
    pub resource: String,
    pub node: Name,
    address: Option<SocketAddr>,
    timeout: Duration,
    json: bool,
}

/// What is said of it, and by which exit status.
pub struct Report {
    pub code: u8,
    pub text: String,
}

/// What came of it.
enum Came {
    /// The node was asked.
    Of(Ended),
    /// It was never heard since the daemon runs, and no address was given.
    Unheard,
    /// Who answers there is of another resource of this name.
    Foreign,
}

impl Came {
    /// For programs.
    const fn word(&self) -> &'static str {
        match self {
            Self::Of(Ended::Primary) => "primary",
            Self::Of(Ended::AlreadyPrimary) => "already-primary",
            Self::Of(Ended::Denied(_)) => "denied",
            Self::Of(Ended::Undecided) => "undecided",
            Self::Of(Ended::NoAnswer) => "no-answer",
            Self::Unheard => "unheard",
            Self::Foreign => "other-resource",
        }
    }

    const fn code(&self) -> u8 {
        match self {
            Self::Of(Ended::Primary | Ended::AlreadyPrimary) => 0,
            Self::Of(Ended::Undecided | Ended::NoAnswer | Ended::Denied(Withheld::NotSaved)) => {
                OPEN
            }
            Self::Of(Ended::Denied(_)) | Self::Unheard | Self::Foreign => 1,
        }
    }

    fn sentence(&self, wish: &Wish) -> String {
        let (resource, node, seconds) = (&wish.resource, &wish.node, wish.timeout.as_secs());
        match self {
            Self::Of(Ended::Primary) => format!("{node} is now Primary of {resource}"),
            Self::Of(Ended::AlreadyPrimary) => format!("{node} is Primary of {resource} already"),
            Self::Of(Ended::Denied(why)) => format!("{node} does not become Primary: {why}"),
            Self::Of(Ended::Undecided) => format!(
                "{node} has set about it and not come to an end within {seconds} s: it may become Primary yet; see its 'status', or give the command again"
            ),
            Self::Of(Ended::NoAnswer) => format!(
                "{node} has not answered within {seconds} s: it is off, or no datagrams reach it, or no answers come back"
            ),
            Self::Unheard => format!(
                "{node} was not heard since this arbiter runs, so its address is not known: is it on, and is this its arbiter? Or give its management address with --address IP:PORT"
            ),
            Self::Foreign => format!(
                "who answers as {node} is of another resource named {resource}, and was not asked further; see this arbiter's log"
            ),
        }
    }
}

impl Wish {
    /// The words of the command behind `promote`.
    pub fn parse(words: &[&str]) -> Result<Self, Error> {
        let (mut names, mut address, mut timeout, mut json) = (Vec::new(), None, TIMEOUT, false);
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            let mut value = || {
                let value = words.next();
                value.ok_or_else(|| format!("{word} needs a value: {USAGE}"))
            };
            match word {
                "--json" => json = true,
                "--timeout" => {
                    let text = value()?;
                    let known = text.parse().ok();
                    timeout = known
                        .filter(|seconds| (1..=TIMEOUT_MAX).contains(seconds))
                        .ok_or_else(|| {
                            format!(
                                "--timeout {text}: whole seconds are wanted, 1 to {TIMEOUT_MAX}"
                            )
                        })?;
                }
                "--address" => {
                    let text = value()?;
                    let known = text.parse();
                    address = Some(known.map_err(|_| {
                        format!("--address {text}: an IP address and a port are wanted, as 10.0.0.1:7790")
                    })?);
                }
                option if option.starts_with('-') => {
                    return Err(format!("promote has no option {option}: {USAGE}").into());
                }
                name => names.push(name),
            }
        }
        let [resource, node] = names[..] else {
            return Err(USAGE.into());
        };
        Ok(Self {
            resource: resource.to_owned(),
            node: Name::try_from(node).map_err(|_| format!("{node:?} is no node"))?,
            address,
            timeout: Duration::from_secs(timeout),
            json,
        })
    }

    fn report(&self, came: &Came) -> Result<Report, Error> {
        let sentence = came.sentence(self);
        let why = match came {
            Came::Of(Ended::Denied(why)) => Some(*why),
            _ => None,
        };
        let episode = why.map(|why| why.code().1).filter(|&episode| episode > 0);
        let text = if self.json {
            let object = serde_json::json!({
                "resource": self.resource,
                "node": self.node.as_str(),
                "outcome": came.word(),
                "reason": why.map(Withheld::word),
                "episode": episode,
                "text": sentence,
            });
            serde_json::to_string_pretty(&object)?
        } else {
            sentence
        };
        Ok(Report {
            code: came.code(),
            text: text + "\n",
        })
    }

    /// How long whoever waits for the end must be patient.
    pub const fn timeout(&self) -> Duration {
        self.timeout
    }

    pub const fn json(&self) -> bool {
        self.json
    }
}

/// Whoever asked is not listened for any more when the command is over.
struct Line<'a> {
    served: &'a Served<'a>,
    node: usize,
}

impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.served.hang_up(self.node);
    }
}

/// Runs the command; takes its time.
pub fn promote(server: &Server<'_>, wish: &Wish) -> Result<Report, Error> {
    let (resource, node) = (&wish.resource, &wish.node);
    let served = server.served(resource)?;
    let at = served.node(node).ok_or_else(|| {
        let [first, second] = served.nodes();
        format!("resource {resource} has no node {node}: its nodes are {first} and {second}")
    })?;
    let known = server.store.load(resource)?.0.identity;
    let Some(to) = wish.address.or_else(|| served.last_heard(at)) else {
        return wish.report(&Came::Unheard);
    };
    let (heard, answers) = channel();
    if !served.call(at, heard) {
        return Err(format!(
            "another 'promote {resource} {node}' is under way: it ends within its own time limit"
        )
        .into());
    }
    let line = Line { served, node: at };
    log!("resource {resource}: PROMOTE {node}, by hand, to {to}");
    let came = ask(server, &line, to, known, &answers, wish)?;
    log!("resource {resource}: PROMOTE: {}", came.sentence(wish));
    wish.report(&came)
}

/// Asks until there is an answer that is an end, or time is out.
fn ask(
    server: &Server<'_>,
    line: &Line<'_>,
    to: SocketAddr,
    known: u64,
    answers: &Receiver<Heard>,
    wish: &Wish,
) -> Result<Came, Error> {
    let end = Instant::now() + wish.timeout;
    let mut promoter = Promoter::new();
    let send = |promoter: &Promoter| {
        let mut out = [0; DATAGRAM_MAX];
        if let Some(len) = line.served.ask(line.node, promoter.question(), &mut out) {
            server.transmit(&out[..len], to);
        }
    };
    loop {
        send(&promoter);
        let mut next = Instant::now() + promoter.pause();
        while Instant::now() < next.min(end) {
            let wait = next.min(end).saturating_duration_since(Instant::now());
            match answers.recv_timeout(wait) {
                Ok(Heard::AskAgain) => send(&promoter),
                Ok(Heard::Answer(_, identity))
                    if known != 0 && identity != 0 && identity != known =>
                {
                    let (resource, node) = (&wish.resource, &wish.node);
                    log!(
                        "resource {resource}: PROMOTE: node {node} at {to} is of another resource of this name \
                         (it is {identity:016x}, known is {known:016x})"
                    );
                    return Ok(Came::Foreign);
                }
                Ok(Heard::Answer(answer, _)) => match promoter.answer(&answer) {
                    Step::Ask => {
                        send(&promoter);
                        next = Instant::now() + promoter.pause();
                    }
                    Step::Wait => {}
                    Step::Ended(ended) => return Ok(Came::Of(ended)),
                },
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err("the arbiter's listener is gone".into());
                }
            }
        }
        if Instant::now() >= end {
            return Ok(Came::Of(promoter.give_up()));
        }
    }
}
