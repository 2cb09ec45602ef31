//! The life of a socket slot.
//!
//! ```text
//!            arm                SYN                 ACK              accept()
//!   Idle ----------> Listening -----> HalfOpen -----------> Ready -----------> Owned
//!    ^ ^                 ^----RST / too old---'               |                 | |
//!    | |  dial()                                              | died unseen     | |
//!    | '---------------------------------------------------------------- Owned  | |
//!    |                                                        |                 | |
//!    |<------ both FINs acknowledged, TIME-WAIT over, linger over --- Closing <-' |
//!    '<------ RST sent or not sendable ------------------ Aborting <--- abort() --'
//! ```
//!
//! Anything not drawn does not happen. A slot's socket is made fresh before each use (see
//! `Stack::freshen`); TIME-WAIT is kept only as long as nobody needs the slot.

use replication::api::Micros;
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::Socket;

/// What a slot is used for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SlotState {
    /// Free.
    Idle,
    /// Armed: waits for a SYN.
    Listening,
    /// A SYN came; the handshake is not complete.
    HalfOpen,
    /// Established and waiting for the application to accept it.
    Ready,
    /// The application's, dialled or accepted, dead or alive.
    Owned,
    /// The application is done with it; its last bytes and the FIN are on their way.
    Closing {
        /// When to give up and reset.
        deadline: Micros,
    },
    /// A reset waits to be sent.
    Aborting {
        /// When to forget about it.
        deadline: Micros,
    },
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) group: u8,
    pub(super) state: SlotState,
    /// Grows whenever the slot changes hands: makes old handles invalid.
    pub(super) generation: u32,
    /// Order of entering the state, to find the oldest.
    pub(super) order: u64,
    /// When it entered the state.
    pub(super) since: Micros,
    /// Where the socket is in the set, unless it is parked.
    pub(super) handle: SocketHandle,
    /// The socket of an idle slot, out of the set: smoltcp walks over the whole set for every
    /// frame, every round of sending and every question for the time.
    pub(super) parked: Option<Socket<'static>>,
    /// Dialled and not established yet.
    pub(super) dialling: bool,
}
