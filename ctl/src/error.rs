//! What can go wrong between the command line and a node, and the exit status that says so.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The exit status of a mistake on the command line, as in BSD's sysexits.
pub const EXIT_USAGE: u8 = 64;

/// Why a command was not carried out, or not said to be.
#[derive(Debug)]
pub enum Error {
    /// The node said no. Its words are on stderr already.
    Refused,
    /// No node was named, and there is not exactly one.
    WhichNode(Vec<String>),
    /// Nothing listens there.
    Away {
        /// The socket that was tried.
        socket: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// The lock file beside the socket cannot be used.
    Lock {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// Somebody types on the console.
    InUse(PathBuf),
    /// Another command holds the console for longer than this one may take.
    Busy(PathBuf),
    /// The line is open and nothing came in time. Whether the command was carried out is not known.
    Silent {
        /// The socket.
        socket: PathBuf,
        /// Whether the node had begun to answer.
        begun: bool,
    },
    /// The line broke in the middle. Whether the command was carried out is not known.
    Broken {
        /// The socket.
        socket: PathBuf,
        /// What the system said; `None` if the other side hung up.
        why: Option<io::Error>,
    },
    /// This is not the address of a web server: it, and why.
    Address(String, &'static str),
    /// The token for it cannot be had: why.
    Token(String),
    /// No web server answers there.
    WebAway {
        /// Its address.
        address: String,
        /// What was tried and failed.
        why: String,
    },
    /// A connection stands, and no whole answer came in time. Whether the command was carried out is not known.
    WebSilent(String),
    /// The web server does not want to: its address and its words.
    Denied(String, String),
    /// The web server's answer is not one to a command: its address, the code and its words.
    WebAnswer(String, u16, String),
    /// The answer to `status --json` is not one that this version understands.
    Status(String),
    /// The answer to `events` is not one that this version understands: its last line.
    Events(String),
    /// What the terminal or a file refused.
    Output(io::Error),
    /// `top` without a terminal.
    NoTerminal,
    /// A configuration cannot be read.
    Unread {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: io::Error,
    },
    /// Configurations with mistakes, or that do not fit together: what is wrong, lines ended by line feeds.
    Mistakes(String),
}

impl Error {
    /// 1: the node, or a check, refused; 2: no answer, or no file; 3: output failed; 64: wrong usage.
    pub const fn exit_status(&self) -> u8 {
        match self {
            Self::Refused | Self::Mistakes(_) | Self::Denied(..) => 1,
            Self::WhichNode(_) | Self::NoTerminal | Self::Address(..) | Self::Token(_) => {
                EXIT_USAGE
            }
            Self::Away { .. }
            | Self::Lock { .. }
            | Self::InUse(_)
            | Self::Busy(_)
            | Self::Silent { .. }
            | Self::Broken { .. }
            | Self::Status(_)
            | Self::Events(_)
            | Self::WebAway { .. }
            | Self::WebSilent(_)
            | Self::WebAnswer(..)
            | Self::Unread { .. } => 2,
            Self::Output(_) => 3,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused => f.write_str("the node refused"),
            Self::WhichNode(nodes) if nodes.is_empty() => f.write_str(
                "no node found in ./run or /run/palisade-*: name one with --node, its directory with --dir, or its web server as --node http://HOST:PORT",
            ),
            Self::WhichNode(nodes) => {
                write!(f, "which node? Choose with --node: {}", nodes.join(", "))
            }
            Self::Away { socket, why } => write!(
                f,
                "no node listens on {}: {why}; is it running, and may you open its socket?",
                socket.display()
            ),
            Self::Lock { path, why } => {
                write!(f, "the console's lock {} cannot be used: {why}", path.display())
            }
            Self::InUse(socket) => write!(
                f,
                "somebody has the console {} open: leave that first (Ctrl-])",
                socket.display()
            ),
            Self::Busy(socket) => write!(
                f,
                "the console {} is busy with another command; try again, or give --timeout",
                socket.display()
            ),
            Self::Silent { socket, begun: false } => write!(
                f,
                "the node on {} does not answer: it hangs, is paused, or somebody else has its console open",
                socket.display()
            ),
            Self::Silent { socket, begun: true } => write!(
                f,
                "the node on {} has not finished its answer in time; the command may still be carried out: see 'status' and 'log'",
                socket.display()
            ),
            Self::Broken { socket, why } => {
                write!(f, "the line to {} broke off", socket.display())?;
                if let Some(why) = why {
                    write!(f, ": {why}")?;
                }
                f.write_str("; whether the command was carried out is not known: see 'status'")
            }
            Self::Address(address, why) => write!(f, "{address}: {why}; expected http://HOST:PORT"),
            Self::Token(why) => write!(f, "the token: {why}"),
            Self::WebAway { address, why } => write!(
                f,
                "no web server answers at {address}: {why}; is the node running, and has its configuration a section [http]?"
            ),
            Self::WebSilent(address) => write!(
                f,
                "the node at {address} has not answered in time; the command may still be carried out: see 'status' and 'log'"
            ),
            Self::Denied(address, said) => write!(
                f,
                "the node at {address} refuses: {said} (--token-file, or PALISADE_TOKEN)"
            ),
            Self::WebAnswer(address, code, said) => {
                write!(f, "the node at {address} answers {code}: {said}")
            }
            Self::Status(why) => write!(f, "the node's status is not understood: {why}"),
            Self::Events(line) => write!(
                f,
                "the node's events are not understood; is it of another version? They end with: {line}"
            ),
            Self::Output(why) => write!(f, "cannot write the output: {why}"),
            Self::Unread { path, why } => write!(f, "cannot read {}: {why}", path.display()),
            Self::Mistakes(text) => f.write_str(text.trim_end()),
            Self::NoTerminal => f.write_str("'top' wants a terminal; for scripts: status --json"),
        }
    }
}
