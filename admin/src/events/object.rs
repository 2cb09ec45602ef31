//! What events are about, taken from a look at the engine.

use crate::status::permille;
use replication::api::{
    ConnectionState, DiskState, Grantors, MAX_VOLUMES, OwnFence, ReplicationState, Role, Status,
    Suspended,
};

/// A resource, a connection and its path, two objects a volume, and a fence of each node.
const OBJECTS_MAX: usize = 3 + 2 * MAX_VOLUMES + 2;

pub(super) type Objects = heapless::Vec<Object, OBJECTS_MAX>;

/// Progress in less than this, in tenths of a percent, is no event.
const STEP: u16 = 50;

/// Whose fence it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// This node's, against the peer.
    Node,
    /// The peer's, against this node.
    Peer,
}

/// How far a fence is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceState {
    /// It is asked for.
    Requested,
    /// It is in force, by whose word. Of the peer's fence that is not known.
    Held(Grantors),
    /// It is being given back.
    Releasing,
}

/// Something that has states; the names are DRBD's, but for the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Object {
    /// The resource at this node.
    Resource {
        /// This node's role.
        role: Role,
        /// Why clients' requests are held back.
        suspended: Suspended,
        /// Whether clients are served.
        serving: bool,
    },
    /// The connection to the peer.
    Connection {
        /// Its state.
        state: ConnectionState,
        /// The peer's role.
        role: Role,
    },
    /// The way that the connection takes.
    Path {
        /// Whether TCP stands.
        established: bool,
    },
    /// This node's disk of a volume.
    Device {
        /// The volume.
        volume: u16,
        /// The disk's state.
        disk: DiskState,
        /// The volume's size in bytes.
        size: u64,
    },
    /// The peer's disk of a volume, and what goes on between both.
    PeerDevice {
        /// The volume.
        volume: u16,
        /// The peer's disk.
        peer_disk: DiskState,
        /// What goes on.
        replication: ReplicationState,
        /// Tenths of a percent that a resync or verify has done.
        done: Option<u16>,
        /// Bytes that may differ. A different number alone is no event.
        out_of_sync: u64,
    },
    /// A fence.
    Fence {
        /// Whose.
        holder: Holder,
        /// Its number.
        episode: u64,
        /// How far it is.
        state: FenceState,
        /// The peer's answer is awaited.
        waits_peer: bool,
        /// The arbiter's answer is awaited.
        waits_arbiter: bool,
        /// Clients have waited for it longer than `fence-timeout`.
        overdue: bool,
    },
}

impl Object {
    /// Whether both are the same thing, at different times.
    pub(super) const fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Resource { .. }, Self::Resource { .. })
            | (Self::Connection { .. }, Self::Connection { .. })
            | (Self::Path { .. }, Self::Path { .. }) => true,
            (Self::Device { volume, .. }, Self::Device { volume: of, .. })
            | (Self::PeerDevice { volume, .. }, Self::PeerDevice { volume: of, .. }) => {
                *volume == *of
            }
            (
                Self::Fence {
                    holder, episode, ..
                },
                Self::Fence {
                    holder: of,
                    episode: number,
                    ..
                },
            ) => {
                *episode == *number && matches!(holder, Holder::Node) == matches!(of, Holder::Node)
            }
            _ => false,
        }
    }

    /// Whether it is different enough from what it was to be told.
    pub(super) fn differs(&self, before: &Self, with_figures: bool) -> bool {
        let (now, was) = (self.without_figures(), before.without_figures());
        now != was || with_figures && self.steps() != before.steps()
    }

    const fn without_figures(mut self) -> Self {
        if let Self::PeerDevice {
            done, out_of_sync, ..
        } = &mut self
        {
            (*done, *out_of_sync) = (None, 0);
        }
        self
    }

    fn steps(&self) -> Option<u16> {
        match self {
            Self::PeerDevice { done, .. } => done.map(|done| done / STEP),
            _ => None,
        }
    }
}

/// Everything there is, the resource first.
pub(super) fn objects(status: &Status) -> Objects {
    let mut objects = Objects::new();
    // Cannot fail: as many as there are at most.
    let mut add = |object| {
        let _fits = objects.push(object);
    };
    add(Object::Resource {
        role: status.role,
        suspended: status.suspended,
        serving: status.serving,
    });
    add(Object::Connection {
        state: status.connection,
        role: status.peer_role,
    });
    add(Object::Path {
        established: matches!(
            status.connection,
            ConnectionState::Handshake | ConnectionState::Connected
        ),
    });
    for volume in &status.volumes {
        add(Object::Device {
            volume: volume.index,
            disk: volume.disk,
            size: volume.size,
        });
        add(Object::PeerDevice {
            volume: volume.index,
            peer_disk: volume.peer_disk,
            replication: volume.replication,
            done: volume.progress.as_ref().map(permille),
            out_of_sync: volume.out_of_sync,
        });
    }
    let fencing = &status.fencing;
    let own = match fencing.record.own {
        OwnFence::None => None,
        OwnFence::Requested(episode) => Some((episode, FenceState::Requested)),
        OwnFence::Held(episode, by) => Some((episode, FenceState::Held(by))),
        OwnFence::Releasing(episode) => Some((episode, FenceState::Releasing)),
    };
    if let Some((episode, state)) = own {
        add(Object::Fence {
            holder: Holder::Node,
            episode,
            state,
            waits_peer: fencing.awaits_peer,
            waits_arbiter: fencing.awaits_arbiter,
            overdue: fencing.overdue,
        });
    }
    if let Some(episode) = fencing.record.mark {
        add(Object::Fence {
            holder: Holder::Peer,
            episode,
            state: FenceState::Held(Grantors::default()),
            waits_peer: false,
            waits_arbiter: false,
            overdue: false,
        });
    }
    objects
}
