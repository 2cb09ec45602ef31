//! Finds a disk's metadata and reads all of it: what `inspect` does on the console and in the host tool.
//!
//! Reading is the caller's: [`Survey::wants`] says what to read next, [`Survey::got`] takes it in, until nothing is
//! wanted. Then [`Survey::inspection`] has all that there is to be said. What cannot be read in one go is read page by page.

use super::{Inspection, Layout, PAGE, Page, Superblock, SuperblockError, activity, bitmap, find};
use super::{PAGE_WORDS, activity::Evidence};
use alloc::boxed::Box;

const PAGE_BYTES: u64 = PAGE as u64;

/// How far to look for metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// Where it belongs: at the end of the disk, at its beginning, and at this byte, if any, where the first copy should lie.
    Ends(Option<u64>),
    /// Everywhere: the disk may have grown.
    All,
}

#[derive(Debug)]
enum Step {
    /// Looking for a superblock, backwards from `upper`. Not more than a page at a time down to `slow`.
    Look {
        upper: u64,
        slow: u64,
    },
    /// At places of their own, if nothing was at the end.
    Place(u8),
    /// The first copy, and then the second one.
    CopyA {
        a: u64,
        b: u64,
    },
    CopyB {
        b: u64,
    },
    /// A pair of activity log pages.
    Pair {
        pair: u32,
    },
    /// Its pages one by one.
    Slot {
        pair: u32,
        first: Option<Option<Box<Page>>>,
    },
    /// Pages of the bitmap; not more than one at a time below `slow`.
    Bitmap {
        page: u32,
        slow: u32,
    },
    Done,
}

type Copy = Result<Superblock, SuperblockError>;

/// Metadata that is being looked for and read.
#[derive(Debug)]
pub struct Survey {
    disk_bytes: u64,
    depth: Depth,
    step: Step,
    /// Pages that were asked for.
    asked: u32,
    found_at: Option<u64>,
    a: Copy,
    b: Copy,
    inspection: Option<Inspection>,
}

impl Survey {
    /// Begins. `disk_bytes` is the size of the disk that holds the metadata.
    #[must_use]
    pub fn new(disk_bytes: u64, depth: Depth) -> Self {
        let upper = disk_bytes - disk_bytes % PAGE_BYTES;
        let step = match upper {
            0 => Step::CopyA { a: 0, b: 0 },
            // The metadata's own place first, so that a good disk costs one read.
            _ => Step::Look {
                upper,
                slow: upper - PAGE_BYTES,
            },
        };
        Self {
            disk_bytes,
            depth,
            step,
            asked: 0,
            found_at: None,
            a: Err(SuperblockError::Unreadable),
            b: Err(SuperblockError::Unreadable),
            inspection: None,
        }
    }

    /// What to read next: the first byte, and how many pages, of which there are `most` at most (2 or more). `None`: it is
    /// complete.
    pub fn wants(&mut self, most: u32) -> Option<(u64, u32)> {
        let most = most.max(2);
        let (offset, pages) = match &self.step {
            Step::Look { upper, slow } if upper > slow => (upper - PAGE_BYTES, 1),
            Step::Look { upper, .. } => {
                let pages = (upper / PAGE_BYTES).min(u64::from(most));
                (upper - pages * PAGE_BYTES, pages as u32)
            }
            Step::Place(n) => (self.place(*n)?, 1),
            Step::CopyA { a, .. } => (*a, 1),
            Step::CopyB { b } => (*b, 1),
            Step::Pair { pair } => (self.layout()?.activity_page(*pair, 0)?, 2),
            Step::Slot { pair, first } => {
                let slot = u8::from(first.is_some());
                (self.layout()?.activity_page(*pair, slot)?, 1)
            }
            Step::Bitmap { page, slow } => {
                let layout = self.layout()?;
                let left = layout.bitmap_pages_used().saturating_sub(*page);
                let pages = if page < slow { 1 } else { left.min(most) };
                (layout.bitmap_page(*page)?, pages)
            }
            Step::Done => return None,
        };
        self.asked = pages;
        Some((offset, pages))
    }

    /// Whether superblocks are still being looked for. What is read then must not be written to meanwhile, or a save looks
    /// like a crash.
    #[must_use]
    pub fn in_superblocks(&self) -> bool {
        self.inspection.is_none()
    }

    /// Whether what was read, as [`Survey::wants`] wanted it, is good. While the disk is in use, a page may have been read in
    /// the middle of its being written: then reading it again helps.
    #[must_use]
    pub fn is_sound(&self, bytes: Option<&[u8]>) -> bool {
        let Some(superblock) = self.inspection.as_ref().and_then(Inspection::superblock) else {
            return true;
        };
        let Some((pages, _)) = bytes.map(<[u8]>::as_chunks::<PAGE>) else {
            return true;
        };
        let mut words = [0; PAGE_WORDS];
        let id = superblock.device_id;
        match self.step {
            Step::Pair { pair } => {
                let slots = [pages.first(), pages.get(1)];
                activity::recover(id, pair, slots, &mut words).evidence == Evidence::Intact
            }
            Step::Bitmap { page, .. } => (page..)
                .zip(pages)
                .all(|(number, page)| bitmap::decode(id, number, page, &mut words).is_ok()),
            _ => true,
        }
    }

    /// What was read, as [`Survey::wants`] wanted it; `None`: it cannot be read.
    pub fn got(&mut self, bytes: Option<&[u8]>) {
        let step = core::mem::replace(&mut self.step, Step::Done);
        let page = |at: usize| bytes.and_then(|bytes| bytes.as_chunks::<PAGE>().0.get(at));
        self.step = match step {
            Step::Look { upper, slow } => self.looked(upper, slow, bytes),
            Step::Place(n) => {
                let at = self.place(n).unwrap_or(0);
                match bytes.and_then(|bytes| find(bytes, at)) {
                    Some(found) => self.found(found),
                    None => self.next_place(n + 1),
                }
            }
            Step::CopyA { b, .. } => {
                self.a = decode(page(0));
                Step::CopyB { b }
            }
            Step::CopyB { .. } => {
                self.b = decode(page(0));
                self.found_both()
            }
            Step::Pair { pair } if bytes.is_none() => Step::Slot { pair, first: None },
            Step::Pair { pair } => self.pair(pair, [page(0), page(1)]),
            Step::Slot { pair, first: None } => Step::Slot {
                pair,
                first: Some(page(0).map(|page| Box::new(*page))),
            },
            Step::Slot {
                pair,
                first: Some(first),
            } => self.pair(pair, [first.as_deref(), page(0)]),
            Step::Bitmap { page: at, .. } if bytes.is_none() && self.asked > 1 => Step::Bitmap {
                page: at,
                slow: at + self.asked,
            },
            Step::Bitmap { page: at, slow } => {
                for n in 0..self.asked {
                    if let Some(inspection) = &mut self.inspection {
                        inspection.bitmap_page(at + n, page(n as usize));
                    }
                }
                self.bitmap(at + self.asked, slow)
            }
            Step::Done => Step::Done,
        };
    }

    /// Byte at which a superblock was found; `None` without one.
    #[must_use]
    pub fn found_at(&self) -> Option<u64> {
        self.found_at
    }

    /// What the two copies of the superblock are, once [`Survey::in_superblocks`] is over.
    pub fn copies(&self) -> [&Result<Superblock, SuperblockError>; 2] {
        [&self.a, &self.b]
    }

    /// What was found, when nothing is wanted any more.
    #[must_use]
    pub fn inspection(&self) -> Option<&Inspection> {
        self.inspection.as_ref()
    }

    fn layout(&self) -> Option<&Layout> {
        self.inspection.as_ref()?.layout()
    }

    fn place(&self, n: u8) -> Option<u64> {
        match (self.depth, n) {
            (Depth::Ends(Some(first)), 0) => Some(first - first % PAGE_BYTES),
            _ => Some(0),
        }
    }

    fn next_place(&mut self, n: u8) -> Step {
        match self.depth {
            Depth::Ends(None) if n == 0 => Step::Place(1),
            Depth::Ends(_) if n < 2 => Step::Place(n),
            _ => self.nowhere(),
        }
    }

    fn looked(&mut self, upper: u64, slow: u64, bytes: Option<&[u8]>) -> Step {
        let lower = upper - u64::from(self.asked) * PAGE_BYTES;
        if bytes.is_none() && self.asked > 1 {
            return Step::Look { upper, slow: lower };
        }
        if let Some(found) = bytes.and_then(|bytes| find(bytes, lower)) {
            return self.found(found);
        }
        match self.depth {
            Depth::Ends(_) => self.next_place(0),
            Depth::All if lower == 0 => self.nowhere(),
            Depth::All => Step::Look {
                upper: lower,
                slow: slow.min(lower),
            },
        }
    }

    fn found(&mut self, (at, copy): (u64, Copy)) -> Step {
        self.found_at = Some(at);
        match copy {
            Ok(superblock) => Step::CopyA {
                a: superblock.layout.superblock_a,
                b: superblock.layout.superblock_b,
            },
            Err(error) => {
                (self.a, self.b) = (Err(error.clone()), Err(error));
                self.found_both()
            }
        }
    }

    /// What stands where the copies would be: A of metadata where it should be, else of external one; B of any.
    fn nowhere(&self) -> Step {
        let end = self.disk_bytes - self.disk_bytes % PAGE_BYTES;
        let a = match self.depth {
            Depth::Ends(Some(first)) => first - first % PAGE_BYTES,
            _ => 0,
        };
        Step::CopyA {
            a,
            b: end.saturating_sub(PAGE_BYTES),
        }
    }

    fn found_both(&mut self) -> Step {
        let inspection = Inspection::new(self.disk_bytes, self.a.clone(), self.b.clone());
        self.inspection = Some(inspection);
        match self.layout() {
            Some(layout) if layout.activity_pairs_used() > 0 => Step::Pair { pair: 0 },
            Some(_) => self.bitmap(0, 0),
            None => Step::Done,
        }
    }

    fn pair(&mut self, pair: u32, slots: [Option<&Page>; 2]) -> Step {
        if let Some(inspection) = &mut self.inspection {
            inspection.activity_pair(pair, slots);
        }
        match self.layout() {
            Some(layout) if pair + 1 < layout.activity_pairs_used() => {
                Step::Pair { pair: pair + 1 }
            }
            _ => self.bitmap(0, 0),
        }
    }

    fn bitmap(&self, page: u32, slow: u32) -> Step {
        match self.layout() {
            Some(layout) if page < layout.bitmap_pages_used() => Step::Bitmap { page, slow },
            _ => Step::Done,
        }
    }
}

fn decode(page: Option<&Page>) -> Copy {
    page.map_or(Err(SuperblockError::Unreadable), Superblock::decode)
}
