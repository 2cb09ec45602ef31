//! Which sectors of a volume the simulation is about.
//!
//! Clients use every sector of a small volume. A large one, which has several extents of the activity
//! log and several pages of the bitmap, is used in *islands* only, one around each border between extents;
//! the sea between them stays zero for ever. The oracle and the simulated disks number the used sectors
//! without gaps; the engine sees the real ones.

use std::ops::Range;

/// The used sectors of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Used sectors.
    pub sectors: usize,
    /// Sectors from one island to the next; 0: there is no sea.
    stride: usize,
    /// Sectors of an island.
    island: usize,
}

impl Places {
    /// A volume of so many sectors, all of them used.
    #[must_use]
    pub const fn all(sectors: usize) -> Self {
        Self {
            sectors,
            stride: 0,
            island: sectors,
        }
    }

    /// `islands` islands of `island` sectors (a multiple of 16), `stride` apart.
    #[must_use]
    pub fn islands(islands: usize, island: usize, stride: usize) -> Self {
        Self {
            sectors: islands * island,
            stride,
            island,
        }
    }

    /// Sectors of the volume as the engine knows it.
    #[must_use]
    pub fn volume(&self) -> usize {
        if self.stride == 0 {
            self.sectors
        } else {
            (self.sectors / self.island + 1) * self.stride
        }
    }

    /// The used sectors of the n-th island.
    #[must_use]
    pub fn island(&self, n: usize) -> Range<usize> {
        n * self.island..(n + 1) * self.island
    }

    /// How many islands there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.sectors / self.island
    }

    /// Where a used sector really lies.
    #[must_use]
    pub fn real(&self, used: usize) -> usize {
        if self.stride == 0 {
            return used;
        }
        (used / self.island + 1) * self.stride - self.island / 2 + used % self.island
    }

    /// How many used sectors lie before a real one.
    #[must_use]
    pub fn before(&self, real: usize) -> usize {
        if self.stride == 0 {
            return real.min(self.sectors);
        }
        let ashore = real + self.island / 2;
        match ashore / self.stride {
            0 => 0,
            n => {
                ((n - 1) * self.island + (ashore % self.stride).min(self.island)).min(self.sectors)
            }
        }
    }

    /// The used sectors within a range of real ones: they follow each other without a gap.
    #[must_use]
    pub fn within(&self, real: Range<usize>) -> Range<usize> {
        self.before(real.start)..self.before(real.end)
    }

    /// Whether a real sector is used.
    #[must_use]
    pub fn uses(&self, real: usize) -> bool {
        self.before(real + 1) > self.before(real)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn used_sectors_are_numbered_without_gaps() {
        for places in [Places::all(40), Places::islands(5, 16, 64)] {
            let used: Vec<usize> = (0..places.volume()).filter(|&s| places.uses(s)).collect();
            assert_eq!(used.len(), places.sectors);
            for (number, &real) in used.iter().enumerate() {
                assert_eq!(places.real(number), real);
                assert_eq!(places.within(real..real + 1), number..number + 1);
            }
            assert_eq!(places.within(0..places.volume()), 0..places.sectors);
        }
        let places = Places::islands(2, 16, 64);
        assert!(places.uses(63) && places.uses(64), "around the border");
        assert!(!places.uses(0) && !places.uses(80));
        assert_eq!(places.island(1), 16..32);
    }
}
