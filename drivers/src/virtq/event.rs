//! When to notify: the event-index window test of virtio 1.2 §2.7.10.

/// Whether moving an index from `old` to `new` passes the position after `event`, at which the
/// other side asked to be told. All arithmetic is modulo 2^16, so wrapping needs no special case.
#[must_use]
pub const fn need_event(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}

#[cfg(test)]
mod tests {
    use super::need_event;
    use proptest::prelude::*;

    /// The definition, entry by entry: entry number `event` is among those just published.
    fn walked(event: u16, new: u16, old: u16) -> bool {
        let mut index = old;
        while index != new {
            if index == event {
                return true;
            }
            index = index.wrapping_add(1);
        }
        false
    }

    proptest! {
        #[test]
        fn agrees_with_walking_the_entries(old: u16, batch in 0u16..2048, near in -2100i32..2100) {
            let new = old.wrapping_add(batch);
            let event = old.wrapping_add(near as u16);
            prop_assert_eq!(need_event(event, new, old), walked(event, new, old));
        }

        #[test]
        fn agrees_around_the_wrap(back in 0u16..600, batch in 0u16..600, event_back in 0u16..1200) {
            let old = u16::MAX - back;
            let new = old.wrapping_add(batch);
            let event = 600u16.wrapping_sub(event_back);
            prop_assert_eq!(need_event(event, new, old), walked(event, new, old));
        }
    }

    #[test]
    fn a_plain_compare_would_fail_here() {
        // The batch 65534..2 contains the awaited entry 65535 although 65535 > 2.
        assert!(need_event(65535, 2, 65534));
        // Entry 65533 was published, and told, before.
        assert!(!need_event(65533, 2, 65534));
        // Nothing published, nothing to tell.
        assert!(!need_event(7, 7, 7));
    }
}
