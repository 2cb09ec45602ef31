//! Creating metadata on a disk (DRBD's create-md): look whether the disk holds somebody's data, write an
//! empty activity log and bitmap, and last the superblocks, so that metadata is there whole or not at all.

use super::attach::{Attach, Lanes};
use super::meta::Lane;
use super::{Engine, text};
use crate::api::{CommandId, DiskError, DiskOp, DiskState, MetadataPlace, Text};
use crate::buf::{Buf, BufView, MAX_BUF, Mem, PAGE};
use crate::ondisk::{self, Layout, Superblock};

/// Bytes of each end of the disk that are looked at for somebody's data.
const PROBE: u32 = MAX_BUF / 2;

/// Metadata that is being created.
#[derive(Debug)]
pub(super) struct Create {
    id: CommandId,
    buf: Buf,
    layout: Layout,
    device_id: u64,
    step: Step,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Reading the beginning of the disk.
    ProbeHead,
    /// Reading its end.
    ProbeTail,
    /// Writing pages behind the first superblock, from this one on.
    Pages(u32),
    FlushPages,
    SuperblockA,
    FlushA,
    SuperblockB,
    FlushB,
}

impl Engine {
    pub(super) fn create_md(&mut self, id: CommandId, index: u16, force: bool, mem: &mut Mem<'_>) {
        let started = self.start_creating(id, index, force, mem);
        if let Err(reason) = started {
            self.done(id, Err(reason));
        }
    }

    fn start_creating(
        &mut self,
        id: CommandId,
        index: u16,
        force: bool,
        mem: &mut Mem<'_>,
    ) -> Result<(), Text> {
        let Some(at) = self.volume_by_index(index) else {
            return Err(text!("there is no vol{index} in the configuration"));
        };
        let device_id = self.random();
        let volume = &mut self.volumes[at];
        match &volume.attach {
            Attach::Blank(_) | Attach::Detached => {}
            Attach::NoDisk => {
                return Err(text!("vol{index} has no disk, or it failed: see 'disks'"));
            }
            Attach::Attached => {
                return Err(text!(
                    "vol{index} is attached and has metadata: 'detach vol{index}' first if that may go"
                ));
            }
            Attach::Due(_) | Attach::Reading { .. } | Attach::Creating(_) => {
                return Err(text!("vol{index} is busy: wait a moment and try again"));
            }
        }
        let layout = volume.new_layout().map_err(|error| text!("vol{index}: {error}"))?;
        if volume.lanes.is_none() {
            volume.lanes = Lanes::take(mem);
        }
        let buf = volume.lanes.as_ref().and_then(|_| mem.alloc(MAX_BUF));
        let Some(buf) = buf else {
            return Err(text!("no memory at the moment: try again"));
        };
        let step = if force { Step::Pages(0) } else { Step::ProbeHead };
        volume.attach = Attach::Creating(Create {
            id,
            buf,
            layout,
            device_id,
            step,
        });
        self.create_step(at, mem);
        Ok(())
    }

    /// The whole of the probe, or of the last pages, is on the disk: what comes next.
    pub(super) fn create_done(
        &mut self,
        at: usize,
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let index = self.volumes[at].config.index;
        if let Err(error) = result {
            let reason = text!(
                "vol{index}: the disk answered {error:?}: there is no metadata now; see 'disks'"
            );
            return self.end_creating(at, Err(reason), mem);
        }
        let Attach::Creating(create) = &mut self.volumes[at].attach else {
            return;
        };
        create.step = match create.step {
            Step::ProbeHead => Step::ProbeTail,
            Step::ProbeTail => {
                let (head, tail) = mem.bytes(&create.buf).split_at(PROBE as usize);
                if let Some(what) = ondisk::foreign(head, tail) {
                    let reason = text!(
                        "vol{index}: the disk holds {what}: check that it is the right one; 'create-md vol{index} --force' uses it nevertheless"
                    );
                    return self.end_creating(at, Err(reason), mem);
                }
                Step::Pages(0)
            }
            Step::Pages(from) => {
                let next = from + create.buf.capacity() / PAGE;
                if next < pages_of(&create.layout) {
                    Step::Pages(next)
                } else {
                    Step::FlushPages
                }
            }
            Step::FlushPages => Step::SuperblockA,
            Step::SuperblockA => Step::FlushA,
            Step::FlushA => Step::SuperblockB,
            Step::SuperblockB => Step::FlushB,
            Step::FlushB => {
                let bytes = create.layout.volume_bytes;
                let said = text!("vol{index}: metadata created for {bytes} bytes");
                return self.end_creating(at, Ok(said), mem);
            }
        };
        self.create_step(at, mem);
    }

    fn create_step(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &self.volumes[at];
        let config = &volume.config;
        let data_bytes = config.disk_bytes;
        let Attach::Creating(create) = &volume.attach else {
            return;
        };
        let half = |n: u32| BufView {
            offset: create.buf.view().offset + (n * PROBE) as usize,
            len: PROBE,
        };
        let read = |offset, view| DiskOp::Read {
            offset,
            view,
            detect_zeroes: false,
        };
        let first = BufView {
            len: PAGE,
            ..create.buf.view()
        };
        let op = match create.step {
            // The disk that the metadata goes to; an external one is small, and all of it goes.
            Step::ProbeHead => read(0, half(0)),
            Step::ProbeTail => {
                let bytes = match config.metadata {
                    MetadataPlace::Internal => data_bytes,
                    MetadataPlace::External { disk_bytes } => disk_bytes,
                };
                let end = bytes / u64::from(PAGE) * u64::from(PAGE);
                read(end.saturating_sub(u64::from(PROBE)), half(1))
            }
            Step::Pages(from) => {
                let count = (pages_of(&create.layout) - from).min(create.buf.capacity() / PAGE);
                let (pages, _) = mem.bytes_mut(&create.buf).as_chunks_mut();
                for (number, page) in (from..from + count).zip(pages) {
                    empty_page(create, number, page);
                }
                DiskOp::Write {
                    offset: create.layout.activity + u64::from(from) * u64::from(PAGE),
                    view: BufView {
                        len: count * PAGE,
                        ..create.buf.view()
                    },
                }
            }
            Step::FlushPages | Step::FlushA | Step::FlushB => DiskOp::Flush,
            Step::SuperblockA | Step::SuperblockB => {
                let superblock = Superblock {
                    compat: 0,
                    incompat: 0,
                    sequence: 1,
                    device_id: create.device_id,
                    resource: self.config.resource.clone(),
                    node: self.config.node.clone(),
                    volume: config.index,
                    block_size: config.block_size,
                    layout: create.layout,
                    current: 0,
                    bitmap: 0,
                    history: [0; 2],
                    disk: DiskState::Inconsistent,
                    peer_disk: DiskState::DUnknown,
                    primary: false,
                    all_dirty: true,
                    was_primary: false,
                    verify_cursor: 0,
                    reserve: [0; ondisk::RESERVE],
                };
                if let Some(page) = mem.bytes_mut(&create.buf).first_chunk_mut()
                    && let Err(field) = superblock.encode(page)
                {
                    let reason = text!("no superblock can be made of this: {field:?}");
                    return self.end_creating(at, Err(reason), mem);
                }
                let offset = match create.step {
                    Step::SuperblockA => create.layout.superblock_a,
                    _ => create.layout.superblock_b,
                };
                DiskOp::Write {
                    offset,
                    view: first,
                }
            }
        };
        self.meta_op(at, Lane::Attach, op);
    }

    fn end_creating(&mut self, at: usize, result: Result<Text, Text>, mem: &mut Mem<'_>) {
        let next = match &result {
            Ok(_) => Attach::Due(self.now),
            Err(reason) => Attach::Blank(reason.clone()),
        };
        let attach = core::mem::replace(&mut self.volumes[at].attach, next);
        if let Attach::Creating(create) = attach {
            mem.free(create.buf);
            self.done(create.id, result);
        }
    }
}

/// Activity log and bitmap pages.
fn pages_of(layout: &Layout) -> u32 {
    2 * layout.activity_pairs + layout.bitmap_pages
}

/// Fills the page that is so many pages behind the first superblock's.
fn empty_page(create: &Create, number: u32, page: &mut ondisk::Page) {
    let logs = 2 * create.layout.activity_pairs;
    if number >= logs {
        ondisk::bitmap::encode(create.device_id, number - logs, 0, &[], page);
    } else if number.is_multiple_of(2) {
        ondisk::activity::encode(create.device_id, number / 2, 0, &[], page);
    } else {
        page.fill(0);
    }
}
