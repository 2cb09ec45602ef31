//! A bounded list of byte ranges for people to read, and their exact sum.

use alloc::vec::Vec;
use core::ops::Range;

/// Byte ranges in ascending order; adjacent ones are joined. When the list is full a further range
/// that touches none in it is only counted.
#[derive(Debug, Clone)]
pub struct RangeList {
    ranges: Vec<Range<u64>>,
    limit: usize,
    bytes: u64,
    unlisted: u64,
}

impl RangeList {
    /// An empty list that will name at most `limit` ranges. All its memory is allocated here.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self {
            ranges: Vec::with_capacity(limit),
            limit,
            bytes: 0,
            unlisted: 0,
        }
    }

    /// Forgets everything; the memory is kept.
    pub fn clear(&mut self) {
        self.ranges.clear();
        (self.bytes, self.unlisted) = (0, 0);
    }

    /// Adds a range that overlaps none that was added before.
    pub fn add(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let len = range.end - range.start;
        self.bytes += len;
        let at = self.ranges.partition_point(|other| other.end < range.start);
        let touches = |other: &Range<u64>| other.start <= range.end && range.start <= other.end;
        let Some(found) = self.ranges.get_mut(at).filter(|other| touches(other)) else {
            if self.ranges.len() < self.limit {
                self.ranges.insert(at, range);
            } else {
                self.unlisted += len;
            }
            return;
        };
        found.start = found.start.min(range.start);
        found.end = found.end.max(range.end);
        let end = found.end;
        if let Some(next) = self.ranges.get(at + 1).filter(|next| next.start <= end) {
            let next_end = next.end;
            self.ranges[at].end = end.max(next_end);
            self.ranges.remove(at + 1);
        }
    }

    /// The ranges that found room, ascending.
    #[must_use]
    pub fn listed(&self) -> &[Range<u64>] {
        &self.ranges
    }

    /// Bytes of all ranges, listed or not.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the ranges that found no room in the list.
    #[must_use]
    pub fn unlisted_bytes(&self) -> u64 {
        self.unlisted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_full_list_still_counts_and_still_joins() {
        let mut list = RangeList::new(2);
        list.add(0..1);
        list.add(10..20);
        list.add(30..33);
        list.add(20..25);
        list.add(5..5);
        assert_eq!(list.listed(), [0..1, 10..25]);
        assert_eq!((list.bytes(), list.unlisted_bytes()), (19, 3));
    }

    proptest! {
        #[test]
        fn an_order_does_not_matter(order in Just((0u64..40).collect::<Vec<_>>()).prop_shuffle(), skip in 0u64..40) {
            let mut list = RangeList::new(40);
            for unit in order.into_iter().filter(|unit| *unit != skip) {
                list.add(unit * 3..unit * 3 + 3);
            }
            prop_assert_eq!(list.bytes(), 39 * 3);
            let expected: Vec<_> = [0..skip * 3, skip * 3 + 3..120]
                .into_iter()
                .filter(|r| !r.is_empty())
                .collect();
            prop_assert_eq!(list.listed(), &expected[..]);
        }
    }
}
