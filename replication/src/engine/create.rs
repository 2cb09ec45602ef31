//! Creating metadata on a disk (DRBD's create-md): look whether the disk holds somebody's data, write an
//! empty activity log and bitmap, and last the superblocks, so that metadata is there whole or not at all.

use super::attach::{Attach, Lanes};
use super::meta::Lane;
use super::{Engine, text};
use crate::api::{CommandId, DiskError, DiskOp, MetadataPlace, Text};
use crate::buf::{Buf, BufView, MAX_BUF, Mem, PAGE};
use crate::ondisk::{self, Creation, Superblock};
use alloc::boxed::Box;

/// Bytes of each end of the disk that are looked at for somebody's data.
const PROBE: u32 = MAX_BUF / 2;

/// Metadata that is being created.
#[derive(Debug)]
pub(super) struct Create {
    id: CommandId,
    buf: Buf,
    step: Step,
    /// Comes behind the probe.
    creation: Option<Box<Creation>>,
    /// Of the volume.
    bytes: u64,
}

#[derive(Debug)]
enum Step {
    /// Reading the beginning of the disk.
    ProbeHead,
    /// Reading its end.
    ProbeTail,
    /// Writing.
    Write(Box<Creation>),
}

impl Create {
    /// The command to be answered and the buffer.
    pub fn into_parts(self) -> (CommandId, Buf) {
        (self.id, self.buf)
    }
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
        if volume.ops > 0 {
            return Err(text!("vol{index} is busy: wait a moment and try again"));
        }
        match &volume.attach {
            Attach::NoDisk if volume.config.disk_bytes == 0 => {
                return Err(text!(
                    "vol{index} has no disk in the configuration of this node"
                ));
            }
            Attach::Blank(_) | Attach::Detached | Attach::NoDisk => {}
            Attach::Attached => {
                return Err(text!(
                    "vol{index} is attached and has metadata: 'detach vol{index}' first if that may go"
                ));
            }
            Attach::Due(_) | Attach::Reading { .. } | Attach::Creating(_) | Attach::Stuck(_) => {
                return Err(text!("vol{index} is busy: wait a moment and try again"));
            }
        }
        let layout = volume
            .new_layout()
            .map_err(|error| text!("vol{index}: {error}"))?;
        if volume.lanes.is_none() {
            volume.lanes = Lanes::take(mem);
        }
        let buf = volume.lanes.as_ref().and_then(|_| mem.alloc(MAX_BUF));
        let Some(buf) = buf else {
            return Err(text!("no memory at the moment: try again"));
        };
        let superblock = Superblock::new(
            device_id,
            self.config.resource.clone(),
            self.config.node.clone(),
            index,
            volume.config.block_size,
            layout,
        );
        let creation = match Creation::new(superblock, None) {
            Ok(creation) => Box::new(creation),
            Err(field) => {
                mem.free(buf);
                return Err(text!(
                    "vol{index}: no metadata can be made of this: {field:?}"
                ));
            }
        };
        let (step, creation) = match force {
            true => (Step::Write(creation), None),
            false => (Step::ProbeHead, Some(creation)),
        };
        volume.attach = Attach::Creating(Box::new(Create {
            id,
            buf,
            step,
            creation,
            bytes: layout.volume_bytes,
        }));
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
        match create.step {
            Step::ProbeHead => create.step = Step::ProbeTail,
            Step::ProbeTail => {
                let (head, tail) = mem.bytes(&create.buf).split_at(PROBE as usize);
                if let Some(what) = ondisk::foreign(head, tail) {
                    let reason = text!(
                        "vol{index}: the disk holds {what}: check that it is the right one; 'create-md vol{index} --force' uses it nevertheless"
                    );
                    return self.end_creating(at, Err(reason), mem);
                }
                if let Some(creation) = create.creation.take() {
                    create.step = Step::Write(creation);
                }
            }
            Step::Write(_) => {}
        }
        self.create_step(at, mem);
    }

    fn create_step(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        // The disk that the metadata goes to.
        let disk_bytes = match volume.config.metadata {
            MetadataPlace::Internal => volume.config.disk_bytes,
            MetadataPlace::External { disk_bytes } => disk_bytes,
        };
        let index = volume.config.index;
        let Attach::Creating(create) = &mut volume.attach else {
            return;
        };
        let pages = disk_bytes / u64::from(PAGE) * u64::from(PAGE);
        let probe = pages.min(u64::from(PROBE)) as u32;
        let read = |offset, half: u32| DiskOp::Read {
            offset,
            view: BufView {
                offset: create.buf.view().offset + (half * PROBE) as usize,
                len: probe,
            },
            detect_zeroes: false,
        };
        let op = match &mut create.step {
            Step::ProbeHead => {
                // A small disk does not fill the buffer.
                mem.bytes_mut(&create.buf).fill(0);
                read(0, 0)
            }
            Step::ProbeTail => read(pages - u64::from(probe), 1),
            Step::Write(creation) => {
                let Some(page) = mem.bytes_mut(&create.buf).first_chunk_mut() else {
                    return;
                };
                match creation.next_step(page) {
                    Some(ondisk::Step::Write(offset)) => DiskOp::Write {
                        offset,
                        view: BufView {
                            len: PAGE,
                            ..create.buf.view()
                        },
                    },
                    Some(ondisk::Step::Flush) => DiskOp::Flush,
                    None => {
                        let bytes = create.bytes;
                        let said = text!("vol{index}: metadata created for {bytes} bytes");
                        return self.end_creating(at, Ok(said), mem);
                    }
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
