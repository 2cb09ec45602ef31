//! `inspect`: the metadata as it is on the disk, whether that is attached or not.
//!
//! It only reads. While the disk is attached its metadata is written meanwhile: superblocks are read when none is
//! being saved, and again if one was; a page that is not sound is read again, for it may have been read in the middle of
//! a write. What is bad several times is bad.

use super::meta::Lane;
use super::{Engine, text};
use crate::api::{CommandId, DiskError, DiskOp, Micros, Text};
use crate::buf::{Buf, BufView, MAX_BUF, Mem, PAGE};
use crate::ondisk::{Depth, Inspection, Survey, Verdict};

/// Looks at something that seems bad, or at superblocks that are being saved.
const TRIES: u8 = 100;
/// Of these, looks at a page that is not sound.
const UNSOUND: u8 = 10;
/// Pause before superblocks that are being saved are looked at again.
const PAUSE: Micros = 20_000;

/// Metadata that is being looked at.
#[derive(Debug)]
pub(super) struct Inspecting {
    /// `None`: nobody waits any more, but the disk still has the buffer.
    id: Option<CommandId>,
    deadline: Micros,
    buf: Buf,
    /// The sequence of the superblock when looking began, if none was being saved then.
    since: Option<u64>,
    tries: u8,
    /// When to begin again.
    again_at: Option<Micros>,
}

impl Engine {
    /// What the last `inspect` has found, and of which volume.
    #[must_use]
    pub fn inspection(&self) -> Option<(u16, &Inspection)> {
        let volume = &self.volumes[self.inspected?];
        Some((volume.config.index, volume.survey.inspection()?))
    }

    pub(super) fn inspect(&mut self, id: CommandId, index: u16, mem: &mut Mem<'_>) {
        self.inspected = None;
        if let Err(reason) = self.start_inspecting(id, index, mem) {
            self.done(id, Err(reason));
        }
    }

    fn start_inspecting(
        &mut self,
        id: CommandId,
        index: u16,
        mem: &mut Mem<'_>,
    ) -> Result<(), Text> {
        let Some(at) = self.volume_by_index(index) else {
            return Err(text!("there is no vol{index} in the configuration"));
        };
        let volume = &mut self.volumes[at];
        if volume.config.disk_bytes == 0 {
            return Err(text!(
                "vol{index} has no disk in the configuration of this node"
            ));
        }
        if volume.inspecting.is_some() {
            return Err(text!(
                "vol{index}: the disk has not answered an earlier 'inspect' yet: wait a moment and try again"
            ));
        }
        let buf = mem.alloc_up_to(MAX_BUF);
        if let Some(buf) = buf {
            if buf.len() < 2 * PAGE && mem.total_bytes() > 0 {
                mem.free(buf);
                return Err(text!("no memory at the moment: try again"));
            }
            volume.inspecting = Some(Inspecting {
                id: Some(id),
                deadline: self.now + self.config.timers.timeout,
                buf,
                since: None,
                tries: 0,
                again_at: None,
            });
            self.begin_survey(at);
            Ok(())
        } else {
            Err(text!("no memory at the moment: try again"))
        }
    }

    /// Begins to look, from the superblocks on.
    fn begin_survey(&mut self, at: usize) {
        let volume = &mut self.volumes[at];
        let bytes = volume.metadata_disk_bytes();
        // Where it is, or would have been put for the disk as it is now.
        let known = volume.meta.as_ref().map(|meta| *meta.layout());
        let first = known.or_else(|| volume.new_layout().ok());
        let first = first.map(|layout| layout.superblock_a);
        let since = volume.superblock_at_rest();
        if let Some(inspecting) = &mut volume.inspecting {
            *volume.survey = Survey::new(bytes, Depth::Ends(first));
            inspecting.since = since;
            inspecting.again_at = None;
        }
        self.read_on(at);
    }

    /// Reads the next part, if one is wanted.
    fn read_on(&mut self, at: usize) -> bool {
        let volume = &mut self.volumes[at];
        let Some(inspecting) = &volume.inspecting else {
            return false;
        };
        let view = inspecting.buf.view();
        let Some((offset, pages)) = volume.survey.wants(view.len / PAGE) else {
            return false;
        };
        let op = DiskOp::Read {
            offset,
            view: BufView {
                len: pages * PAGE,
                ..view
            },
            detect_zeroes: false,
        };
        self.meta_op(at, Lane::Inspect, op);
        true
    }

    /// The disk has read, or could not.
    pub(super) fn inspect_done(
        &mut self,
        at: usize,
        result: Result<(), DiskError>,
        mem: &mut Mem<'_>,
    ) {
        let deadline = self.now + self.config.timers.timeout;
        let volume = &mut self.volumes[at];
        let rest = volume.superblock_at_rest();
        let usable = volume.usable();
        let Some(inspecting) = &mut volume.inspecting else {
            unreachable!("nobody looked at the metadata")
        };
        if inspecting.id.is_none() {
            return self.end_inspecting(at, mem);
        }
        inspecting.deadline = deadline;
        let view = inspecting.buf.view();
        let survey = &mut volume.survey;
        let Some((_, pages)) = survey.wants(view.len / PAGE) else {
            unreachable!("something was read that nobody wanted")
        };
        let bytes = mem.bytes(&inspecting.buf);
        let bytes = result
            .is_ok()
            .then(|| &bytes[..bytes.len().min((pages * PAGE) as usize)]);
        let unsound = usable && !survey.is_sound(bytes);
        if unsound && inspecting.tries < UNSOUND {
            inspecting.tries += 1;
            self.read_on(at);
            return;
        }
        let first = survey.in_superblocks();
        survey.got(bytes);
        let disturbed = usable && (rest.is_none() || rest != inspecting.since);
        if first && !survey.in_superblocks() {
            if disturbed && inspecting.tries < TRIES {
                inspecting.tries += 1;
                inspecting.again_at = Some(self.now + PAUSE);
                return;
            }
            inspecting.tries = 0;
        } else if !first {
            inspecting.tries = 0;
        }
        if !self.read_on(at) {
            self.end_inspecting(at, mem);
        }
    }

    /// Everything was read, or nobody wants to know any more.
    fn end_inspecting(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        let index = volume.config.index;
        let Some(inspecting) = volume.inspecting.take() else {
            return;
        };
        let Inspecting { id, buf, .. } = inspecting;
        mem.free(buf);
        let Some(id) = id else { return };
        let verdict = (volume.survey.inspection()).map_or(Verdict::Unusable, Inspection::verdict);
        let attached = volume.usable();
        self.inspected = Some(at);
        let result = match verdict {
            Verdict::Good => Ok(text!("vol{index}: the metadata is good")),
            Verdict::Problems if attached => Ok(text!(
                "vol{index}: the metadata on the disk has problems; this node, which has attached it, knows better, and writes it anew as it changes"
            )),
            Verdict::Problems => Ok(text!(
                "vol{index}: the metadata has problems, which the next attach repairs"
            )),
            Verdict::Unusable => Err(text!("vol{index}: the metadata cannot be used")),
        };
        self.done(id, result);
    }

    pub(super) fn inspection_deadline(&self) -> Option<Micros> {
        let inspecting = self.volumes.iter().filter_map(|v| v.inspecting.as_ref());
        inspecting
            .filter(|inspecting| inspecting.id.is_some())
            .map(|inspecting| inspecting.again_at.unwrap_or(inspecting.deadline))
            .min()
    }

    pub(super) fn tick_inspections(&mut self) {
        for at in 0..self.volumes.len() {
            let volume = &mut self.volumes[at];
            let index = volume.config.index;
            let Some(inspecting) = &mut volume.inspecting else {
                continue;
            };
            if inspecting.again_at.is_some_and(|due| due <= self.now) {
                self.begin_survey(at);
            } else if inspecting.again_at.is_none()
                && inspecting.deadline <= self.now
                && let Some(id) = inspecting.id.take()
            {
                let reason = text!("vol{index}: the disk does not answer; see 'disks'");
                self.done(id, Err(reason));
            }
        }
    }
}
