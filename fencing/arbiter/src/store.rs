//! What must survive: one entry per resource and the journal, in an embedded database (`redb`), whose commits are synced.

use fencing::arbiter::Arbiter;
use fencing::{Episode, Name};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

const ENTRIES: TableDefinition<'_, &str, &str> = TableDefinition::new("resources 1");
const JOURNAL: TableDefinition<'_, u64, &str> = TableDefinition::new("journal 1");
/// Lines that the journal keeps.
const JOURNAL_MAX: u64 = 10_000;

/// A resource as it is stored and shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Tells it from another one of the same name; 0: not known yet.
    pub identity: u64,
    pub holder: Option<(String, Episode)>,
    pub last: Episode,
    pub over: Vec<(String, Episode)>,
}

impl Entry {
    pub fn new(identity: u64, arbiter: &Arbiter) -> Self {
        let plain = |(name, episode): &(Name, Episode)| (name.as_str().to_owned(), *episode);
        Self {
            identity,
            holder: arbiter.holder.as_ref().map(plain),
            last: arbiter.last,
            over: arbiter.over.iter().map(plain).collect(),
        }
    }

    /// The part that the rule is about. `None`: no release stores that.
    pub fn arbiter(&self) -> Option<Arbiter> {
        let pair = |(name, episode): &(String, Episode)| {
            Some((Name::try_from(name.as_str()).ok()?, *episode))
        };
        Some(Arbiter {
            holder: match &self.holder {
                Some(holder) => Some(pair(holder)?),
                None => None,
            },
            last: self.last,
            over: self.over.iter().map(pair).collect::<Option<_>>()?,
        })
    }
}

pub type Error = Box<dyn std::error::Error>;

pub struct Store {
    path: PathBuf,
    /// None after a failure: it must be opened anew, which sees what is really on the disk.
    database: Option<Database>,
}

impl Store {
    /// Opens it, or creates it. Only one process can have it open.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut store = Self {
            path: path.to_owned(),
            database: None,
        };
        store.database()?;
        Ok(store)
    }

    fn database(&mut self) -> Result<&Database, Error> {
        let database = match self.database.take() {
            Some(database) => database,
            None => {
                let database = Database::create(&self.path)
                    .map_err(|error| format!("the store {}: {error}", self.path.display()))?;
                let change = database.begin_write()?;
                change.open_table(ENTRIES)?;
                change.open_table(JOURNAL)?;
                change.commit()?;
                database
            }
        };
        Ok(self.database.insert(database))
    }

    pub fn load(&mut self, resource: &str) -> Result<Entry, Error> {
        let view = self.database()?.begin_read()?;
        let table = view.open_table(ENTRIES)?;
        let Some(text) = table.get(resource)? else {
            return Ok(Entry::default());
        };
        Ok(serde_json::from_str(text.value())?)
    }

    /// Stores an entry and a line of the journal, both or neither; on the disk when it returns.
    pub fn save(&mut self, resource: &str, entry: &Entry, line: &str) -> Result<(), Error> {
        let saved = self.try_save(resource, entry, line);
        if saved.is_err() {
            self.database = None;
        }
        saved
    }

    fn try_save(&mut self, resource: &str, entry: &Entry, line: &str) -> Result<(), Error> {
        let text = serde_json::to_string(entry)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
        let change = self.database()?.begin_write()?;
        {
            change
                .open_table(ENTRIES)?
                .insert(resource, text.as_str())?;
            let mut journal = change.open_table(JOURNAL)?;
            let next = journal.last()?.map_or(1, |(number, _)| number.value() + 1);
            journal.insert(next, format!("{now} {resource} {line}").as_str())?;
            if let Some(old) = next.checked_sub(JOURNAL_MAX) {
                journal.remove(old)?;
            }
        }
        change.commit()?;
        Ok(())
    }

    pub fn journal(&mut self) -> Result<Vec<String>, Error> {
        let view = self.database()?.begin_read()?;
        let table = view.open_table(JOURNAL)?;
        let lines = table.iter()?;
        lines.map(|line| Ok(line?.1.value().to_owned())).collect()
    }
}
