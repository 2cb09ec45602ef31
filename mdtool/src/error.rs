//! Why a verb could not be done.

use replication::ondisk::{Field, LayoutError};
use std::fmt;
use std::path::{Path, PathBuf};

/// Why a verb could not be done.
#[derive(Debug)]
pub enum Error {
    /// A file could not be opened, read or written.
    Io {
        /// What was tried: `open`, `read`, ...
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's word.
        error: std::io::Error,
    },
    /// The disk holds something.
    Holds {
        /// The file.
        path: PathBuf,
        /// What it holds.
        what: String,
    },
    /// The disk has no room.
    Layout {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: LayoutError,
    },
    /// The volume would be smaller than what was asked for.
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Bytes asked for.
        wanted: u64,
        /// Bytes that there is room for.
        room: u64,
    },
    /// An argument that cannot be, in combination with the others.
    Field(Field),
    /// The system has no random numbers.
    Random(getrandom::Error),
}

impl Error {
    /// Of an operation on `path`.
    pub fn io(what: &'static str, path: &Path, error: std::io::Error) -> Self {
        Self::Io {
            what,
            path: path.to_owned(),
            error,
        }
    }

    /// The program's exit status.
    pub fn exit_status(&self) -> u8 {
        match self {
            Self::Io { .. } | Self::Random(_) => 3,
            _ => 2,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, path, error } => {
                write!(f, "cannot {what} {}: {error}", path.display())
            }
            Self::Holds { path, what } => write!(
                f,
                "{} holds {what}; with --force it is given up",
                path.display()
            ),
            Self::Layout { path, error } => write!(f, "{}: {error}", path.display()),
            Self::TooLarge { path, wanted, room } => write!(
                f,
                "{} has room for a volume of {room} bytes, not {wanted}: enlarge it or give a smaller --size",
                path.display()
            ),
            Self::Field(field) => write!(f, "these arguments do not fit together: {field:?}"),
            Self::Random(error) => write!(f, "no random numbers: {error}"),
        }
    }
}
