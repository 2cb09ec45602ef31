//! What a handler finds in its environment: DRBD's variables, as its scripts expect them (docs/ARBITER.md has the list).

use crate::config::Pair;
use fencing::{Episode, Event};

/// Why a handler is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// For a node that wants its peer fenced.
    Fence {
        episode: Episode,
        /// Whether all the node's disks are.
        up_to_date: bool,
    },
    /// For a node that gives its fence back.
    Unfence {
        episode: Episode,
    },
    Event {
        event: Event,
        volume: Option<u8>,
    },
}

impl Occasion {
    /// The handler's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Fence { .. } => "fence-peer",
            Self::Unfence { .. } => "unfence-peer",
            Self::Event { event, .. } => event.name(),
        }
    }

    /// State of the connection or of the resync at that moment, by DRBD's names.
    const fn connection(self) -> &'static str {
        match self {
            Self::Fence { .. } => "Connecting",
            Self::Unfence { .. } => "Established",
            Self::Event { event, .. } => match event {
                Event::BeforeResyncTarget => "WFBitMapT",
                Event::BeforeResyncSource => "WFBitMapS",
                Event::Disconnected => "Unconnected",
                Event::InitialSplitBrain | Event::SplitBrain => "Connecting",
                Event::PriLost | Event::PriLostAfterSb => "Connected",
                Event::AfterResyncTarget
                | Event::PriOnInconDegr
                | Event::LocalIoError
                | Event::OutOfSync => "Established",
            },
        }
    }
}

/// The whole environment of a handler that is run for the pair's node `at`.
pub fn environment(pair: &Pair, at: usize, occasion: Occasion) -> Vec<(String, String)> {
    let other = 1 - at;
    let (node, peer) = (&pair.nodes[at], &pair.nodes[other]);
    let volumes = match occasion {
        Occasion::Event {
            volume: Some(volume),
            ..
        } => volume.to_string(),
        _ => words(&pair.volumes),
    };
    // Whoever asks is one: DRBD's scripts take it for a mistake otherwise.
    let up_to_date = match occasion {
        Occasion::Unfence { .. } => 0b11,
        _ => 1 << at,
    };
    let path = std::env::var("PATH")
        .unwrap_or_else(|_| "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".into());
    let mut all: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: String| all.push((name.into(), value));
    set("PATH", path);
    set("DRBD_RESOURCE", pair.resource.to_string());
    set("DRBD_VOLUME", volumes.clone());
    // A node of a pair has no minors. Scripts print them, or count them.
    set("DRBD_MINOR", volumes);
    set("DRBD_CSTATE", occasion.connection().into());
    set("DRBD_MY_NODE_ID", at.to_string());
    set("DRBD_PEER_NODE_ID", other.to_string());
    set("DRBD_NODE_ID_0", pair.nodes[0].to_string());
    set("DRBD_NODE_ID_1", pair.nodes[1].to_string());
    set("DRBD_PEER", peer.to_string());
    set("DRBD_PEERS", peer.to_string());
    set("UP_TO_DATE_NODES", format!("0x{up_to_date:08X}"));
    if let Some(addresses) = &pair.addresses {
        for (name, at) in [("MY", at), ("PEER", other)] {
            set(&format!("DRBD_{name}_AF"), "ipv4".into());
            set(&format!("DRBD_{name}_ADDRESS"), addresses[at].clone());
        }
    }
    set("PALISADE_HANDLER", occasion.name().into());
    set("PALISADE_NODE", node.to_string());
    set("PALISADE_PEER", peer.to_string());
    match occasion {
        Occasion::Fence {
            episode,
            up_to_date,
        } => {
            let disk = if up_to_date { "UpToDate" } else { "Consistent" };
            set("PALISADE_EPISODE", episode.to_string());
            set("PALISADE_DISK", disk.into());
        }
        Occasion::Unfence { episode } => {
            set("PALISADE_EPISODE", episode.to_string());
            set("PALISADE_DISK", "UpToDate".into());
        }
        Occasion::Event { .. } => {}
    }
    let own = pair.environment.iter();
    all.retain(|(name, _)| !pair.environment.contains_key(name));
    all.extend(own.map(|(name, value)| (name.clone(), value.clone())));
    all
}

fn words(numbers: &[u8]) -> String {
    let numbers: Vec<String> = numbers.iter().map(u8::to_string).collect();
    numbers.join(" ")
}
