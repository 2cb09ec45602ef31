//! Finding a disk's superblock. Its second copy lies in the last page of the disk; on a disk that has grown
//! since, it lies somewhere in front of that.

use super::attach::{Attach, Step};
use super::meta::page_mut;
use super::{Engine, text};
use crate::api::{DiskError, Level};
use crate::buf::{Buf, Mem, PAGE};
use crate::ondisk::{self, Layout, Search, Superblock, SuperblockError, Unusable};
use alloc::boxed::Box;

/// Searching more than this takes so long that an operator should know.
const LARGE: u64 = 4 << 30;

type Copy = Result<Box<Superblock>, SuperblockError>;

/// What is being read.
#[derive(Debug)]
pub(super) enum Locate {
    /// The last page of the disk, where the second copy belongs.
    LastPage,
    /// Where the first copy would have been put, had it been created for the disk as it is now.
    Guess { at: u64, last: Copy },
    /// The beginning of the disk. What the two places said in which the superblock should have been.
    Head {
        said: Box<[Option<SuperblockError>; 2]>,
    },
    /// A part of the disk, from this byte on. What the two places said in which it should have been.
    Searching {
        search: Search,
        from: u64,
        bytes: u64,
        said: Box<[Option<SuperblockError>; 2]>,
    },
    /// It was found: its first copy.
    CopyA { layout: Layout },
    /// Its second copy.
    CopyB { a: Copy },
}

impl Engine {
    pub(super) fn start_locating(&mut self, at: usize, buf: Buf) {
        let last = self.last_page(at);
        self.locate(at, buf, Locate::LastPage, last, 1);
    }

    fn last_page(&self, at: usize) -> u64 {
        let page = u64::from(PAGE);
        let end = self.volumes[at].metadata_disk_bytes() / page * page;
        end.saturating_sub(page)
    }

    fn locate(&mut self, at: usize, buf: Buf, step: Locate, offset: u64, pages: u32) {
        let step = Step::Locate(step);
        self.volumes[at].attach = Attach::Reading { buf, step };
        self.read_metadata(at, offset, pages);
    }

    /// A read ended.
    pub(super) fn located(
        &mut self,
        at: usize,
        buf: Buf,
        step: Locate,
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        match step {
            Locate::LastPage => {
                let last = copy_at(self.last_page(at), &buf, result, mem);
                if let Ok(superblock) = last {
                    return self.found(at, buf, superblock.layout, mem);
                }
                match self.volumes[at].new_layout() {
                    Ok(layout) => {
                        let guess = layout.superblock_a;
                        let step = Locate::Guess { at: guess, last };
                        self.locate(at, buf, step, guess, 1);
                    }
                    Err(error) => {
                        mem.free(buf);
                        self.no_metadata(at, text!("{error}"));
                    }
                }
            }
            Locate::Guess { at: guess, last } => {
                let first = copy_at(guess, &buf, result, mem);
                if let Ok(superblock) = first {
                    return self.found(at, buf, superblock.layout, mem);
                }
                let intact = |copy: &Copy| copy.as_ref().is_err_and(SuperblockError::is_intact);
                if intact(&first) || intact(&last) {
                    // It must not be passed over for another one.
                    return self.chosen(at, buf, first, last, mem);
                }
                let said = Box::new([first.err(), last.err()]);
                let disk = self.volumes[at].metadata_disk_bytes();
                let pages = disk.min(buf.len().into()) / u64::from(PAGE);
                self.locate(at, buf, Locate::Head { said }, 0, pages as u32);
            }
            Locate::Head { said } => {
                let volume = &self.volumes[at];
                let disk = volume.metadata_disk_bytes();
                let bytes =
                    (disk.min(buf.len().into()) / u64::from(PAGE) * u64::from(PAGE)) as usize;
                // On a blank disk there is nothing to be found, and most disks without metadata are.
                let blank =
                    result.is_ok() && mem.bytes(&buf)[..bytes].iter().all(|byte| *byte == 0);
                let all = !blank || volume.attach_command.is_some();
                let search = Search::new(disk, buf.len().into(), all);
                if all && disk > LARGE {
                    let index = volume.config.index;
                    self.log(
                        Level::Info,
                        text!(
                            "vol{index}: no metadata at the end of the disk; it may have grown: all of its {} GiB are searched",
                            disk >> 30
                        ),
                    );
                }
                self.search(at, buf, search, said, mem);
            }
            Locate::Searching {
                search,
                from,
                bytes,
                said,
            } => {
                let read = &mem.bytes(&buf)[..bytes as usize];
                let found = result.ok().and_then(|()| ondisk::find(read, from));
                match found {
                    Some((_, Ok(superblock))) => self.found(at, buf, superblock.layout, mem),
                    Some((_, Err(error))) => {
                        self.chosen(at, buf, Err(error.clone()), Err(error), mem)
                    }
                    None => self.search(at, buf, search, said, mem),
                }
            }
            Locate::CopyA { layout } => {
                let a = copy_at(layout.superblock_a, &buf, result, mem);
                let step = Locate::CopyB { a };
                self.locate(at, buf, step, layout.superblock_b, 1);
            }
            Locate::CopyB { a } => {
                let b = decode(&buf, result, mem);
                self.chosen(at, buf, a, b, mem);
            }
        }
    }

    /// Reads on, or finds that there is nothing.
    fn search(
        &mut self,
        at: usize,
        buf: Buf,
        mut search: Search,
        said: Box<[Option<SuperblockError>; 2]>,
        mem: &mut Mem<'_>,
    ) {
        let Some((from, bytes)) = search.next_read() else {
            let [a, b] = *said;
            let blank = || SuperblockError::Blank;
            let (a, b) = (a.unwrap_or_else(blank), b.unwrap_or_else(blank));
            return self.chosen(at, buf, Err(a), Err(b), mem);
        };
        let step = Locate::Searching {
            search,
            from,
            bytes,
            said,
        };
        self.locate(at, buf, step, from, (bytes / u64::from(PAGE)) as u32);
    }

    /// A superblock lies where it says itself: both of its copies count.
    fn found(&mut self, at: usize, buf: Buf, layout: Layout, mem: &mut Mem<'_>) {
        let volume = &self.volumes[at];
        let disk = volume.metadata_disk_bytes();
        if layout.end() > disk {
            let needed = layout.end();
            mem.free(buf);
            return self.no_metadata(
                at,
                text!(
                    "its metadata ends at byte {needed}, the disk has {disk}: give the disk back its size"
                ),
            );
        }
        if layout.end() + u64::from(PAGE) <= disk {
            let index = volume.config.index;
            self.log(
                Level::Info,
                text!(
                    "vol{index}: the disk has {disk} bytes, its metadata ends at {}: 'resize vol{index}' uses what it has grown by",
                    layout.end()
                ),
            );
        }
        let step = Locate::CopyA { layout };
        self.locate(at, buf, step, layout.superblock_a, 1);
    }

    fn chosen(&mut self, at: usize, buf: Buf, a: Copy, b: Copy, mem: &mut Mem<'_>) {
        match ondisk::choose(a.map(|a| *a), b.map(|b| *b)) {
            Ok(chosen) => self.got_superblock(at, buf, chosen, mem),
            Err(error) => {
                mem.free(buf);
                let searched =
                    error == Unusable::NoMetadata && self.volumes[at].attach_command.is_none();
                let hint = match searched {
                    true => {
                        "; if the disk was enlarged while the node was down, 'attach' looks everywhere"
                    }
                    false => "",
                };
                self.no_metadata(at, text!("{error}{hint}"));
            }
        }
    }
}

/// A superblock that was read at this byte, if it was written for that.
fn copy_at(offset: u64, buf: &Buf, result: Result<(), DiskError>, mem: &mut Mem<'_>) -> Copy {
    match decode(buf, result, mem) {
        Ok(superblock) if !superblock.belongs_at(offset) => Err(SuperblockError::NotSuperblock),
        other => other,
    }
}

fn decode(buf: &Buf, result: Result<(), DiskError>, mem: &mut Mem<'_>) -> Copy {
    if result.is_err() {
        return Err(SuperblockError::Unreadable);
    }
    match page_mut(mem, buf) {
        Some(page) => Superblock::decode(page).map(Box::new),
        None => Err(SuperblockError::Unreadable),
    }
}
