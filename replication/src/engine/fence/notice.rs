//! What people read of fencing in the log.

use super::super::{Engine, text};
use crate::api::{Level, Party, Text};
use fencing::Refusal;
use fencing::api::Notice;

const fn who(party: Party) -> &'static str {
    match party {
        Party::Peer => "the peer",
        Party::Arbiter => "the arbiter",
    }
}

fn refusal(why: &Refusal) -> Text {
    match why {
        Refusal::Held { holder, episode } => {
            text!("node {holder} holds a fence, by episode {episode}")
        }
        Refusal::Stale { last } => text!("numbers up to {last} were used before"),
        Refusal::Primary => text!("it is Primary"),
        Refusal::Requesting { episode } => {
            text!("it asks for a fence itself, by episode {episode}")
        }
        Refusal::OtherResource => {
            text!("it knows another resource of this name: give one of them another name")
        }
        Refusal::NotStored => text!("it cannot store it: see its log"),
        Refusal::Handler(code) => text!("its handler did not fence the peer (exit code {code})"),
        Refusal::Older { vouched } => text!(
            "both nodes were in sync after episode {vouched}, of which this node's disks do not know: they are from an earlier time"
        ),
        Refusal::Future => text!("the number is too far ahead of all that it knows"),
    }
}

impl Engine {
    pub(super) fn notice(&mut self, notice: &Notice) {
        let (level, text) = match notice {
            Notice::Requested(n) => (
                Level::Warn,
                text!("fence: asks to fence the peer, episode {n}"),
            ),
            Notice::Granted(n, by) => (
                Level::Info,
                text!("fence: episode {n} is granted by {}", who(*by)),
            ),
            Notice::Refused(n, by, why) => (
                Level::Warn,
                text!("fence: {} refuses episode {n}: {}", who(*by), refusal(why)),
            ),
            Notice::Withdrawn(n) => (
                Level::Info,
                text!("fence: episode {n} is not needed any more and is given back"),
            ),
            Notice::Releasing(n) => (
                Level::Info,
                text!("fence: all volumes are UpToDate on both nodes: episode {n} is given back"),
            ),
            Notice::Unfenced(n) => (
                Level::Info,
                text!("fence: everybody knows that episode {n} is over"),
            ),
            Notice::Marked(n) => (
                Level::Warn,
                text!(
                    "fence: this node is fenced by the peer's episode {n}: its disks are Outdated"
                ),
            ),
            Notice::MarkLifted(n) => (
                Level::Info,
                text!("fence: the peer's episode {n}, by which this node was fenced, is over"),
            ),
            Notice::Overdue(n) => (
                Level::Error,
                text!(
                    "fence: nobody has decided episode {n} in time; see 'fence', or, if the peer is surely off, 'resume-io'"
                ),
            ),
            Notice::ByHand(n) => (Level::Warn, text!("fence: the operator ends episode {n}")),
            Notice::Adopted(n) => (
                Level::Warn,
                text!("fence: the arbiter says that this node holds episode {n}; it did not know"),
            ),
            Notice::Implausible(n, from) => (
                Level::Error,
                text!(
                    "fence: {} names episode {n}, which cannot be: ignored",
                    who(*from)
                ),
            ),
            Notice::Stranger(node, n) => (
                Level::Error,
                text!(
                    "fence: at the arbiter node '{node}', which is not of this pair, holds episode {n}: correct the names, or release it there"
                ),
            ),
        };
        self.log(level, text);
    }
}
