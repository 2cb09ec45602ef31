//! Why a command was not understood.

use super::arguments::volume_index;
use super::table::Spec;
use alloc::string::String;
use core::fmt;
use replication::api::MAX_VOLUMES;

/// Why a command was not understood. The `Display` form is one or two lines for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VerbError {
    /// The line has bytes that are not printable ASCII.
    NotPrintable,
    /// There is no such verb.
    UnknownVerb {
        /// What was typed.
        word: String,
        /// What may have been meant.
        near: Option<&'static str>,
    },
    /// A verb of DRBD's that does not exist here under that name.
    OtherName {
        /// What was typed.
        word: &'static str,
        /// What does it here.
        instead: &'static str,
    },
    /// The verb does not know the word.
    UnknownWord {
        /// The verb.
        spec: &'static Spec,
        /// What was typed.
        word: String,
        /// What may have been meant.
        near: Option<&'static str>,
    },
    /// A word is given twice.
    Twice {
        /// The verb.
        spec: &'static Spec,
        /// The word.
        word: String,
    },
    /// Something that the verb needs is not there, or has no such value.
    Expected {
        /// The verb.
        spec: &'static Spec,
        /// What.
        what: &'static str,
    },
    /// The word names no volume of this node.
    NoVolume {
        /// The verb.
        spec: &'static Spec,
        /// What was typed.
        word: String,
        /// The volumes there are; empty when that is not known.
        volumes: heapless::Vec<u16, MAX_VOLUMES>,
    },
    /// The word names no key that can be changed while the node runs.
    NoKey {
        /// The verb.
        spec: &'static Spec,
        /// What was typed.
        word: String,
        /// What may have been meant.
        near: Option<&'static str>,
    },
    /// Two options that do not go together.
    Together {
        /// The verb.
        spec: &'static Spec,
        /// The one.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
}

impl fmt::Display for VerbError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spec = match self {
            Self::NotPrintable => {
                return f.write_str("the command has characters other than ASCII text");
            }
            Self::UnknownVerb { word, near: None } => {
                return write!(f, "there is no verb '{word}'; 'help' lists them");
            }
            Self::UnknownVerb {
                word,
                near: Some(near),
            } => {
                return write!(f, "there is no verb '{word}'; did you mean '{near}'?");
            }
            Self::OtherName { word, instead } => {
                return write!(f, "there is no verb '{word}' here; {instead}");
            }
            Self::UnknownWord { spec, word, near } => {
                write!(f, "{} does not know '{word}'", spec.name)?;
                match near {
                    Some(near) => write!(f, "; did you mean '{near}'?")?,
                    None if volume_index(word).is_some() => {
                        f.write_str("; it takes no volume: it is for all of them at once")?;
                    }
                    None => {}
                }
                spec
            }
            Self::Twice { spec, word } => {
                write!(f, "'{word}' is given twice")?;
                spec
            }
            Self::Expected { spec, what } => {
                write!(f, "{}: expected {what}", spec.name)?;
                spec
            }
            Self::NoVolume {
                spec,
                word,
                volumes,
            } => {
                write!(f, "{}: there is no volume '{word}'; ", spec.name)?;
                match volumes.split_first() {
                    None => f.write_str("expected a name such as vol0")?,
                    Some((first, rest)) => {
                        write!(f, "there is vol{first}")?;
                        rest.iter()
                            .try_for_each(|index| write!(f, ", vol{index}"))?;
                    }
                }
                spec
            }
            Self::NoKey { spec, word, near } => {
                let cannot = "is no key that can be changed while the node runs";
                write!(f, "{}: '{word}' {cannot}", spec.name)?;
                match near {
                    Some(near) => write!(f, "; did you mean '{near}'?")?,
                    None => f.write_str("; 'set' lists these, others count from the next start")?,
                }
                spec
            }
            Self::Together { spec, one, other } => {
                write!(f, "{}: {one} and {other} do not go together", spec.name)?;
                spec
            }
        };
        write!(f, "\nusage: {}", spec.usage)
    }
}

impl core::error::Error for VerbError {}
