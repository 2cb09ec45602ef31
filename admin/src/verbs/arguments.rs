//! The words behind a verb, sorted into its operand and its options.

use super::error::VerbError;
use super::table::{Operand, Spec, Takes};
use crate::log::level_of;
use crate::nearest::nearest;
use crate::text::shortened;
use crate::units::parse_size;
use replication::api::Level;

/// Characters of a mistyped word that are repeated in an answer.
pub(super) const WORD_COLUMNS: usize = 40;

/// Options of a verb at most.
pub(super) const OPTIONS_MAX: usize = 5;

/// What was given behind a verb. Everything in it is of the kind that the verb's line of the
/// table asks for.
#[derive(Debug)]
pub(super) struct Arguments {
    spec: &'static Spec,
    /// Per option of the spec: whether it was given, and its value if it takes one.
    given: [Option<Value>; OPTIONS_MAX],
    /// The operand if it is a volume.
    volume: Option<u16>,
    /// The operand if it is a number of lines.
    lines: Option<u16>,
    /// The operand if it is an episode.
    episode: Option<u64>,
    /// The operand if it is one of the fixed words.
    word: Option<&'static str>,
}

/// What an episode looks like.
const EPISODE: &str = "the number of an episode; 'fence' shows it";

#[derive(Debug, Clone, Copy)]
enum Value {
    None,
    Offset(u64),
    Level(Level),
    Event(u64),
}

impl Arguments {
    /// Sorts `words`.
    ///
    /// # Errors
    /// The first word that the verb does not know, or that is given twice, or has no value.
    pub(super) fn read<'w>(
        spec: &'static Spec,
        mut words: impl Iterator<Item = &'w str>,
        volumes: &[u16],
    ) -> Result<Self, VerbError> {
        let mut arguments = Self {
            spec,
            given: [None; OPTIONS_MAX],
            volume: None,
            lines: None,
            episode: None,
            word: None,
        };
        while let Some(word) = words.next() {
            if word.starts_with('-') {
                arguments.option(word, &mut words)?;
            } else {
                arguments.operand(word, volumes)?;
            }
        }
        Ok(arguments)
    }

    fn option<'w>(
        &mut self,
        word: &'w str,
        words: &mut impl Iterator<Item = &'w str>,
    ) -> Result<(), VerbError> {
        let spec = self.spec;
        let (name, attached) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let mut options = spec.options.iter().zip(&mut self.given);
        let Some((option, given)) = options.find(|(option, _)| option.is(name)) else {
            return Err(unknown(spec, word));
        };
        if given.is_some() {
            return Err(twice(spec, option.name));
        }
        let expected = |what| VerbError::Expected { spec, what };
        let mut value = || attached.or_else(|| words.next());
        *given = Some(match option.takes {
            Takes::Nothing if attached.is_some() => return Err(unknown(spec, word)),
            Takes::Nothing => Value::None,
            Takes::Offset => {
                let what = match option.name {
                    "--stop" => "a place after --stop, such as 2GiB or 4096",
                    "--size" => "a size after --size, such as 20GiB",
                    _ => "a place after --start, such as 1GiB or 4096",
                };
                let offset = value().and_then(parse_size);
                Value::Offset(offset.ok_or_else(|| expected(what))?)
            }
            Takes::Level => {
                let what = "error, warn, info or debug after --level";
                let level = value().and_then(level_of);
                Value::Level(level.ok_or_else(|| expected(what))?)
            }
            Takes::Event => {
                let what = "the number of an event after --since";
                let digits = value().filter(|word| word.bytes().all(|b| b.is_ascii_digit()));
                let number = digits.and_then(|digits| digits.parse().ok());
                Value::Event(number.ok_or_else(|| expected(what))?)
            }
        });
        Ok(())
    }

    fn operand(&mut self, word: &str, volumes: &[u16]) -> Result<(), VerbError> {
        let spec = self.spec;
        match spec.operand {
            Operand::Volume | Operand::OptionalVolume => {
                let index = volume_index(word)
                    .filter(|index| volumes.is_empty() || volumes.contains(index))
                    .ok_or_else(|| no_volume(spec, word, volumes))?;
                match self.volume.replace(index) {
                    Some(_) => Err(twice(spec, word)),
                    None => Ok(()),
                }
            }
            Operand::Lines if word.bytes().all(|b| b.is_ascii_digit()) => {
                let what = "a number of lines from 1 to 1000";
                let number = word.parse().ok().filter(|n| (1..=1000).contains(n));
                let number = number.ok_or(VerbError::Expected { spec, what });
                match self.lines {
                    Some(_) => Err(twice(spec, word)),
                    None => {
                        self.lines = Some(number?);
                        Ok(())
                    }
                }
            }
            Operand::Episode if word.bytes().all(|b| b.is_ascii_digit()) => {
                let what = EPISODE;
                let number = word.parse().ok().filter(|&number| number > 0);
                let number = number.ok_or(VerbError::Expected { spec, what })?;
                match self.episode.replace(number) {
                    Some(_) => Err(twice(spec, word)),
                    None => Ok(()),
                }
            }
            Operand::Words { words, .. } => {
                let fixed = words.iter().find(|fixed| **fixed == word);
                match self.word.replace(fixed.ok_or_else(|| unknown(spec, word))?) {
                    Some(_) => Err(twice(spec, word)),
                    None => Ok(()),
                }
            }
            Operand::None
            | Operand::Lines
            | Operand::Episode
            | Operand::Verb
            | Operand::Setting
            | Operand::Command => Err(unknown(spec, word)),
        }
    }

    /// The volume that the verb must have.
    ///
    /// # Errors
    /// None was given.
    pub(super) fn volume(&self) -> Result<u16, VerbError> {
        self.volume.ok_or(VerbError::Expected {
            spec: self.spec,
            what: "a volume, such as vol0",
        })
    }

    /// The volume, if one was given.
    pub(super) const fn optional_volume(&self) -> Option<u16> {
        self.volume
    }

    /// The number of lines, if one was given.
    pub(super) const fn lines(&self) -> Option<u16> {
        self.lines
    }

    /// The episode that the verb must have.
    ///
    /// # Errors
    /// None was given.
    pub(super) fn episode(&self) -> Result<u64, VerbError> {
        self.episode.ok_or(VerbError::Expected {
            spec: self.spec,
            what: EPISODE,
        })
    }

    /// The fixed word that the verb must have.
    ///
    /// # Errors
    /// It was not given; `what` says which there are.
    pub(super) fn word(&self, what: &'static str) -> Result<&'static str, VerbError> {
        let spec = self.spec;
        self.word.ok_or(VerbError::Expected { spec, what })
    }

    fn value(&self, name: &str) -> Option<Value> {
        let options = self.spec.options.iter().zip(self.given);
        options
            .filter(|(option, _)| option.name == name)
            .find_map(|(_, given)| given)
    }

    /// Whether an option was given.
    pub(super) fn has(&self, name: &str) -> bool {
        self.value(name).is_some()
    }

    /// An option's value in bytes, if it was given.
    pub(super) fn offset(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Offset(bytes)) => Some(bytes),
            _ => None,
        }
    }

    /// The number of an event that an option has, if it was given.
    pub(super) fn event(&self, name: &str) -> Option<u64> {
        match self.value(name) {
            Some(Value::Event(number)) => Some(number),
            _ => None,
        }
    }

    /// An option's level, if it was given.
    pub(super) fn level(&self, name: &str) -> Option<Level> {
        match self.value(name) {
            Some(Value::Level(level)) => Some(level),
            _ => None,
        }
    }

    /// The first option given beside `alone`, which goes with no other.
    pub(super) fn other_than(&self, alone: &str) -> Option<&'static str> {
        let options = self.spec.options.iter().zip(self.given);
        options
            .filter(|(option, given)| given.is_some() && option.name != alone)
            .map(|(option, _)| option.name)
            .next()
    }
}

/// The index in `vol0` or `0`. Only the plain form: `vol00` is no volume.
pub(crate) fn volume_index(word: &str) -> Option<u16> {
    let digits = word.strip_prefix("vol").unwrap_or(word);
    let plain =
        digits.bytes().all(|b| b.is_ascii_digit()) && (digits == "0" || !digits.starts_with('0'));
    digits.parse().ok().filter(|_| plain)
}

fn no_volume(spec: &'static Spec, word: &str, volumes: &[u16]) -> VerbError {
    VerbError::NoVolume {
        spec,
        word: shortened(word, WORD_COLUMNS),
        // More volumes than fit cannot be configured.
        volumes: volumes
            .iter()
            .copied()
            .take(replication::api::MAX_VOLUMES)
            .collect(),
    }
}

/// The answer to a word that is given twice.
pub(super) fn twice(spec: &'static Spec, word: &str) -> VerbError {
    VerbError::Twice {
        spec,
        word: shortened(word, WORD_COLUMNS),
    }
}

/// The answer to a word that the verb does not know.
pub(super) fn unknown(spec: &'static Spec, word: &str) -> VerbError {
    let fixed: &[&str] = match spec.operand {
        Operand::Words { words, .. } => words,
        _ => &[],
    };
    let options = spec.options.iter().map(|option| option.name);
    let words = options.chain(fixed.iter().copied());
    VerbError::UnknownWord {
        spec,
        word: shortened(word, WORD_COLUMNS),
        near: nearest(word, words),
    }
}
