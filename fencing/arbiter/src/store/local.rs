//! An embedded database (`redb`), one file, whose commits are synced.

use super::{Entry, Error, Store, Turn, Version, dated};
use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

const ENTRIES: TableDefinition<'_, &str, &str> = TableDefinition::new("resources 1");
const JOURNAL: TableDefinition<'_, u64, &str> = TableDefinition::new("journal 1");
/// Lines that the journal keeps.
const JOURNAL_MAX: u64 = 10_000;

pub struct Local {
    path: PathBuf,
    /// None after a failure: it must be opened anew, which sees what is really on the disk.
    database: Mutex<Option<Database>>,
}

impl Local {
    /// Opens it, or creates it. Only one process can have it open.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let store = Self {
            path: path.to_owned(),
            database: Mutex::new(None),
        };
        store.with(|_| Ok(()))?;
        Ok(store)
    }

    fn locked(&self) -> MutexGuard<'_, Option<Database>> {
        // Whoever panicked has left nothing half done in it: there is a database or not.
        self.database.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, run: impl FnOnce(&Database) -> Result<T, Error>) -> Result<T, Error> {
        let mut locked = self.locked();
        let database = match locked.take() {
            Some(database) => database,
            None => self.create()?,
        };
        // Taken out: after a failure it stays out.
        let done = run(&database)?;
        *locked = Some(database);
        Ok(done)
    }

    fn create(&self) -> Result<Database, Error> {
        let database = Database::create(&self.path)
            .map_err(|error| format!("the store {}: {error}", self.path.display()))?;
        let change = database.begin_write()?;
        change.open_table(ENTRIES)?;
        change.open_table(JOURNAL)?;
        change.commit()?;
        Ok(database)
    }
}

impl Store for Local {
    fn load(&self, resource: &str) -> Result<(Entry, Version), Error> {
        let text = self.with(|database| {
            let table = database.begin_read()?.open_table(ENTRIES)?;
            let text = table.get(resource)?.map(|text| text.value().to_owned());
            Ok(text)
        })?;
        let Some(text) = text else {
            return Ok(Default::default());
        };
        let entry = serde_json::from_str(&text)
            .map_err(|error| format!("the stored entry is not one of this release: {error}"))?;
        let version = Version {
            seen: text,
            changes: 0,
        };
        Ok((entry, version))
    }

    fn swap(
        &self,
        resource: &str,
        read: &Version,
        next: &Entry,
        line: &str,
        _: Option<&Turn>,
    ) -> Result<bool, Error> {
        let text = serde_json::to_string(next)?;
        let line = dated(resource, line)?;
        self.with(|database| {
            let change = database.begin_write()?;
            {
                let mut entries = change.open_table(ENTRIES)?;
                let same = match entries.get(resource)? {
                    Some(there) => there.value() == read.seen,
                    None => read.seen.is_empty(),
                };
                if !same {
                    return Ok(false);
                }
                entries.insert(resource, text.as_str())?;
                let mut journal = change.open_table(JOURNAL)?;
                let next = journal.last()?.map_or(1, |(number, _)| number.value() + 1);
                journal.insert(next, line.as_str())?;
                if let Some(old) = next.checked_sub(JOURNAL_MAX) {
                    journal.remove(old)?;
                }
            }
            change.commit()?;
            Ok(true)
        })
    }

    fn journal(&self) -> Result<Vec<String>, Error> {
        self.with(|database| {
            let table = database.begin_read()?.open_table(JOURNAL)?;
            let lines = table.iter()?;
            lines.map(|line| Ok(line?.1.value().to_owned())).collect()
        })
    }

    fn turn(&self, resource: &str, _: Duration) -> Result<Option<Turn>, Error> {
        // The file is locked: no other arbiter has it open.
        Ok(Some(Turn {
            lease: String::new(),
            resource: resource.to_owned(),
        }))
    }

    fn end_turn(&self, _: Turn) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_changed_only_from_what_was_read() {
        let path = std::env::temp_dir().join(format!("palisade-swap-{}.redb", std::process::id()));
        let _ = std::fs::remove_file(&path);
        let store = Local::open(&path).unwrap();
        let (entry, first) = store.load("r0").unwrap();
        assert_eq!(entry, Entry::default());
        let next = Entry {
            last: 1,
            ..Entry::default()
        };
        assert!(store.swap("r0", &first, &next, "ONE", None).unwrap());
        // Whoever read it before comes too late.
        let late = Entry {
            last: 2,
            ..Entry::default()
        };
        assert!(!store.swap("r0", &first, &late, "TWO", None).unwrap());
        let (entry, second) = store.load("r0").unwrap();
        assert_eq!(entry, next);
        assert!(store.swap("r0", &second, &late, "TWO", None).unwrap());
        let journal = store.journal().unwrap();
        assert!(journal[0].ends_with(" r0 ONE") && journal[1].ends_with(" r0 TWO"));
        assert_eq!(journal.len(), 2);
        drop(store);
        std::fs::remove_file(&path).unwrap();
    }
}
