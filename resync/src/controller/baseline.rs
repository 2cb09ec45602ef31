//! How long clients' requests take, and how long they would without a resync.

use crate::Micros;

/// Kinds of requests whose durations are comparable. A client that changes from small to large
/// requests thus does not look like one that is disturbed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A read of at most 32 KiB.
    SmallRead,
    /// A longer read.
    LargeRead,
    /// A write of at most 32 KiB.
    SmallWrite,
    /// A longer write.
    LargeWrite,
    /// A flush, or a write that includes one.
    Flush,
    /// A discard or a write of zeroes.
    Other,
}

impl Class {
    const COUNT: usize = 6;
    const SMALL: u32 = 32 << 10;

    /// The class of a read of `len` bytes.
    #[must_use]
    pub fn read(len: u32) -> Self {
        if len <= Self::SMALL {
            Self::SmallRead
        } else {
            Self::LargeRead
        }
    }

    /// The class of a write of `len` bytes, with or without FUA.
    #[must_use]
    pub fn write(len: u32, fua: bool) -> Self {
        match (fua, len <= Self::SMALL) {
            (true, _) => Self::Flush,
            (false, true) => Self::SmallWrite,
            (false, false) => Self::LargeWrite,
        }
    }
}

/// Requests and the sum of their durations, by class.
#[derive(Debug, Default, Clone)]
pub(super) struct Samples {
    by_class: [(u32, Micros); Class::COUNT],
    count: u32,
}

impl Samples {
    pub fn add(&mut self, class: Class, took: Micros) {
        let (count, sum) = &mut self.by_class[class as usize];
        *count += 1;
        *sum += took;
        self.count += 1;
    }

    pub fn count(&self) -> u32 {
        self.count
    }
}

/// Durations of undisturbed requests, by class.
#[derive(Debug, Default)]
pub(super) struct Baseline {
    /// Mean duration; zero while unknown.
    by_class: [Micros; Class::COUNT],
}

impl Baseline {
    /// Takes in what was measured without a resync. Half of it counts, or all when it is not at
    /// all what was known: the work is another one now.
    pub fn learn(&mut self, samples: &Samples) {
        for (known, (count, sum)) in self.by_class.iter_mut().zip(samples.by_class) {
            if count == 0 {
                continue;
            }
            let mean = (sum / Micros::from(count)).max(1);
            let alike = *known / 2 < mean && mean < *known * 2;
            *known = if alike { (*known + mean) / 2 } else { mean };
        }
    }

    /// The mean duration of the slowest class.
    pub fn longest(&self) -> Micros {
        self.by_class.iter().copied().max().unwrap_or(0)
    }

    /// How much longer than undisturbed requests these took, in 1024ths: 1024 is no longer. `None` when
    /// nothing is known about requests like these.
    pub fn slowdown(&self, samples: &Samples) -> Option<u64> {
        let (mut took, mut expected) = (0, 0);
        for (known, (count, sum)) in self.by_class.iter().zip(samples.by_class) {
            if *known > 0 {
                took += sum;
                expected += known * Micros::from(count);
            }
        }
        (expected > 0).then(|| took * 1024 / expected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(list: &[(Class, Micros)]) -> Samples {
        let mut samples = Samples::default();
        for (class, took) in list {
            samples.add(*class, *took);
        }
        samples
    }

    #[test]
    fn another_mix_of_the_same_requests_is_no_slowdown() {
        use Class::{Flush, SmallRead};
        let mut baseline = Baseline::default();
        assert_eq!(baseline.slowdown(&samples(&[(Flush, 9)])), None);
        baseline.learn(&samples(&[
            (SmallRead, 100),
            (SmallRead, 100),
            (Flush, 5000),
        ]));
        let flushes = samples(&[(Flush, 5000), (Flush, 5000), (SmallRead, 100)]);
        assert_eq!(baseline.slowdown(&flushes), Some(1024));
        let slower = samples(&[(SmallRead, 150), (SmallRead, 250)]);
        assert_eq!(baseline.slowdown(&slower), Some(2048));
        let unknown = samples(&[(Class::LargeRead, 1 << 40)]);
        assert_eq!(baseline.slowdown(&unknown), None);
    }

    #[test]
    fn a_new_kind_of_work_is_believed_at_once_and_noise_by_half() {
        let mut baseline = Baseline::default();
        baseline.learn(&samples(&[(Class::SmallWrite, 100)]));
        baseline.learn(&samples(&[(Class::SmallWrite, 140)]));
        assert_eq!(
            baseline.slowdown(&samples(&[(Class::SmallWrite, 240)])),
            Some(2048)
        );
        baseline.learn(&samples(&[(Class::SmallWrite, 1000)]));
        assert_eq!(
            baseline.slowdown(&samples(&[(Class::SmallWrite, 1000)])),
            Some(1024)
        );
    }

    #[test]
    fn requests_are_classed_by_kind_and_length() {
        assert_eq!(Class::read(32 << 10), Class::SmallRead);
        assert_eq!(Class::read((32 << 10) + 512), Class::LargeRead);
        assert_eq!(Class::write(4096, false), Class::SmallWrite);
        assert_eq!(Class::write(1 << 20, false), Class::LargeWrite);
        assert_eq!(Class::write(512, true), Class::Flush);
    }
}
