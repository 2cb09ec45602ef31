//! What of chance took place in a run, by number: the shrinker leaves out parts of it.

use crate::world::Time;
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// Something drawn that can be left out, by its number in its seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Id {
    /// A fault.
    Fault(u32),
    /// A command of the operator that mends nothing.
    Whim(u32),
    /// A client's connection reset.
    Reset(u32),
    /// A promotion that somebody asks for otherwise than at a console.
    Errand(u32),
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fault(n) => write!(f, "f{n}"),
            Self::Whim(n) => write!(f, "w{n}"),
            Self::Reset(n) => write!(f, "c{n}"),
            Self::Errand(n) => write!(f, "e{n}"),
        }
    }
}

impl FromStr for Id {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text}: want f, w, c or e and a number");
        let number = text.get(1..).and_then(|n| n.parse().ok());
        let number = number.ok_or_else(wrong)?;
        match text.as_bytes()[0] {
            b'f' => Ok(Self::Fault(number)),
            b'w' => Ok(Self::Whim(number)),
            b'c' => Ok(Self::Reset(number)),
            b'e' => Ok(Self::Errand(number)),
            _ => Err(wrong()),
        }
    }
}

/// What a run keeps of what its seed draws; `None`: all.
pub type Only = Option<BTreeSet<Id>>;

/// Writes a list as the command line takes it.
#[must_use]
pub fn list(ids: &[Id]) -> String {
    if ids.is_empty() {
        return "none".into();
    }
    let words: Vec<String> = ids.iter().map(ToString::to_string).collect();
    words.join(",")
}

/// Reads [`list`]'s output.
///
/// # Errors
/// The word that is no [`Id`].
pub fn parse(text: &str) -> Result<BTreeSet<Id>, String> {
    if text == "none" {
        return Ok(BTreeSet::new());
    }
    text.split(',').map(str::parse).collect()
}

/// Something that took place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Its number.
    pub id: Id,
    /// When.
    pub at: Time,
    /// What.
    pub what: &'static str,
    /// Where: a node, or a client for a reset.
    pub place: usize,
}

impl Entry {
    /// All but the time.
    #[must_use]
    pub fn words(&self) -> String {
        let place = self.place;
        let place = match self.id {
            Id::Reset(_) => format!("client {place}"),
            _ => format!("node {}", crate::trace::letter(place)),
        };
        format!("{:<5} {} ({place})", self.id.to_string(), self.what)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.at / 1_000_000, self.at % 1_000_000);
        write!(f, "{seconds:>4}.{micros:06} {}", self.words())
    }
}

thread_local! {
    // Not in the world: a panic's hook must reach it.
    static ENTRIES: RefCell<Vec<Entry>> = const { RefCell::new(Vec::new()) };
}

/// A new run begins on this thread.
pub(crate) fn begin() {
    ENTRIES.with_borrow_mut(Vec::clear);
}

/// Something takes place.
pub(crate) fn note(entry: Entry) {
    ENTRIES.with_borrow_mut(|all| all.push(entry));
}

/// What took place in this thread's present or last run.
#[must_use]
pub fn entries() -> Vec<Entry> {
    ENTRIES.with_borrow(Clone::clone)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_back() {
        let ids = [Id::Fault(3), Id::Whim(0), Id::Reset(17), Id::Errand(2)];
        assert_eq!(list(&ids), "f3,w0,c17,e2");
        assert_eq!(parse("f3,w0,c17,e2").expect("a list"), ids.into());
        assert_eq!(parse(&list(&[])).expect("nothing"), BTreeSet::new());
        for wrong in ["", "f", "x1", "f1,", "3", "fé"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }
}
