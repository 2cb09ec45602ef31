//! The table row by row, what holds for any two sides, and two nodes' random lives.

mod explain;
mod model;
mod policies;
mod properties;
mod table;

use super::{Policies, Side};
use crate::api::DiskState;

/// A whole Secondary.
fn up(current: u64, bitmap: u64, history: u64) -> Side {
    Side {
        left_behind: false,
        current,
        bitmap,
        history: [history, 0],
        dirty: 0,
        disk: DiskState::UpToDate,
        primary: false,
        crashed: false,
        was_primary: false,
        steady: false,
        discard: false,
        first: false,
    }
}

fn with<T>(side: Side, change: impl FnOnce(&mut Side) -> T) -> Side {
    let mut side = side;
    change(&mut side);
    side
}

fn dirty(side: Side, dirty: u64) -> Side {
    Side { dirty, ..side }
}

fn primary(side: Side) -> Side {
    with(side, |s| s.primary = true)
}

fn discard(side: Side) -> Side {
    with(side, |s| s.discard = true)
}
