//! Which sockets changed: smoltcp's wakers set bits, so that nobody has to scan all sockets.

use super::config::MAX_SLOTS;
use alloc::sync::Arc;
use alloc::task::Wake;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Waker;

const WORDS: usize = MAX_SLOTS / 64;

/// A set of slots, shared with the wakers. Atomics only because a [`Waker`] must be `Sync`; all
/// of it happens on one core, in one task.
#[derive(Debug)]
pub(super) struct SlotSet([AtomicU64; WORDS]);

impl SlotSet {
    pub(super) const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WORDS])
    }

    pub(super) fn insert(&self, slot: usize) {
        if let Some(word) = self.0.get(slot / 64) {
            word.fetch_or(1 << (slot % 64), Ordering::Relaxed);
        }
    }

    pub(super) fn remove(&self, slot: usize) {
        if let Some(word) = self.0.get(slot / 64) {
            word.fetch_and(!(1 << (slot % 64)), Ordering::Relaxed);
        }
    }

    /// Takes the lowest member out.
    pub(super) fn pop(&self) -> Option<usize> {
        let (index, word) = self
            .0
            .iter()
            .enumerate()
            .find(|(_, word)| word.load(Ordering::Relaxed) != 0)?;
        let bit = word.load(Ordering::Relaxed).trailing_zeros() as usize;
        let slot = index * 64 + bit;
        self.remove(slot);
        Some(slot)
    }
}

struct SlotWaker {
    set: Arc<SlotSet>,
    slot: usize,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.set.insert(self.slot);
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set.insert(self.slot);
    }
}

/// A waker that inserts `slot` into `set`. Cloning it allocates nothing.
pub(super) fn waker(set: &Arc<SlotSet>, slot: usize) -> Waker {
    Waker::from(Arc::new(SlotWaker {
        set: Arc::clone(set),
        slot,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wakers_insert_and_the_lowest_comes_first() {
        let set = Arc::new(SlotSet::new());
        for slot in [200, 64, 63, 3, 64] {
            waker(&set, slot).wake();
        }
        let popped: [_; 5] = core::array::from_fn(|_| set.pop());
        assert_eq!(popped, [Some(3), Some(63), Some(64), Some(200), None]);
    }
}
