//! What must survive: one entry per resource, and the journal. In a database of this arbiter alone ([`local`]), or in
//! etcd ([`etcd`]), which several arbiters share.
//!
//! An entry is only ever changed from one that was read: [`Store::swap`] compares and stores in one transaction. So it does
//! not matter who else changes it meanwhile, here or on another machine.

mod etcd;
mod local;

pub use etcd::Etcd;
pub use local::Local;

use fencing::arbiter::Arbiter;
use fencing::{Episode, Name};
use serde::{Deserialize, Serialize};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// A resource as it is stored and shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Tells it from another one of the same name; 0: not known yet.
    pub identity: u64,
    pub holder: Option<(String, Episode)>,
    pub last: Episode,
    pub over: Vec<(String, Episode)>,
    /// The highest episode after which both nodes had everything.
    #[serde(default)]
    pub vouched: Episode,
}

impl Entry {
    pub fn new(identity: u64, arbiter: &Arbiter) -> Self {
        let plain = |(name, episode): &(Name, Episode)| (name.as_str().to_owned(), *episode);
        Self {
            identity,
            holder: arbiter.holder.as_ref().map(plain),
            last: arbiter.last,
            over: arbiter.over.iter().map(plain).collect(),
            vouched: arbiter.vouched,
        }
    }

    /// The part that the rule is about.
    pub fn arbiter(&self) -> Result<Arbiter, Error> {
        let pair = |(name, episode): &(String, Episode)| {
            Some((Name::try_from(name.as_str()).ok()?, *episode))
        };
        let arbiter = || {
            Some(Arbiter {
                holder: match &self.holder {
                    Some(holder) => Some(pair(holder)?),
                    None => None,
                },
                last: self.last,
                over: self.over.iter().map(pair).collect::<Option<_>>()?,
                vouched: self.vouched,
            })
        };
        arbiter().ok_or_else(|| "the stored entry is not one of this release".into())
    }
}

/// Which state of an entry was read.
#[derive(Debug, Clone, Default)]
pub struct Version {
    /// Its text, or its revision.
    seen: String,
    /// How often it was changed before.
    changes: u64,
}

/// The right to run a handler of a resource, as against other arbiters.
#[derive(Debug)]
pub struct Turn {
    /// What it is known by in a shared store; empty in a store of one's own, where nobody else runs any.
    lease: String,
    resource: String,
}

pub trait Store: Send + Sync {
    /// Reads an entry. One that was never stored is the default.
    fn load(&self, resource: &str) -> Result<(Entry, Version), Error>;

    /// Stores an entry and a line of the journal, both or neither, if the entry is still the one that was read and the
    /// turn, if there is one, was not lost. `false`: it is not. Durable when it returns. After an error it may have been
    /// stored or not.
    fn swap(
        &self,
        resource: &str,
        read: &Version,
        next: &Entry,
        line: &str,
        turn: Option<&Turn>,
    ) -> Result<bool, Error>;

    /// Lines of the journal, oldest first.
    fn journal(&self) -> Result<Vec<String>, Error>;

    /// Takes the turn, for so long at most. `None`: another arbiter has it.
    fn turn(&self, resource: &str, limit: Duration) -> Result<Option<Turn>, Error>;

    /// Gives it back.
    fn end_turn(&self, turn: Turn);
}

/// A line as the journal shows it.
fn dated(resource: &str, line: &str) -> Result<String, Error> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    Ok(format!("{now} {resource} {line}"))
}
