//! The target of a resync tells the source which blocks it has marked: what it wrote last before it crashed, or what
//! an earlier peer of it lacked. The source brings these in sync too. The target keeps its marks until the
//! end of the resync, so that a crash of either node loses none.

use super::Engine;
use super::slots::{Local, Op, Owner, Remote, Slot};
use crate::buf::{Buf, Mem, PAGE};
use crate::mutation::{self, Mutation};
use crate::wire::Frame;
use resync::codec::Encoder;

/// Bytes of a message; fewer in this crate's tests, whose volumes are small.
const MESSAGE: u32 = if cfg!(test) { PAGE } else { 16 * PAGE };

impl Engine {
    /// On the target: begins to send the bitmap, or goes on. One message at a time.
    pub(super) fn send_bitmap(&mut self, at: usize, mem: &mut Mem<'_>) {
        let volume = &mut self.volumes[at];
        let any = volume.dirty.count() > 0 || volume.owes_marks || volume.sending.is_some();
        if !any || mutation::is(Mutation::BitsNotUnited) {
            return;
        }
        volume.left_unknown = true;
        let encoder = volume.sending.get_or_insert_with(Encoder::new);
        let Some(mut buf) = mem.alloc_up_to(MESSAGE) else {
            // The connection lives on memory that is always there; without it there is no resync either.
            let why = super::text!("no memory for the exchange of bitmaps");
            self.complain(crate::api::Level::Warn, why);
            return self.reopen_link();
        };
        let bytes = encoder.encode(&volume.dirty, mem.bytes_mut(&buf));
        let last = encoder.is_complete(&volume.dirty);
        buf.set_len(bytes as u32);
        if last {
            volume.owes_marks = false;
            volume.sending = None;
        }
        let index = volume.config.index;
        self.resyncs_live += 1;
        let payload = Some(buf.view());
        let id = self.slots.insert(Slot {
            buf: Some(buf),
            local: Local::Done,
            remote: Remote::Sent,
            ..Slot::new(Owner::Resync, Op::Bitmap { last }, at, 0, 0)
        });
        let request = self.slots.wire_id(id);
        self.count_sent();
        self.queue.push(super::Queued::Send {
            frame: Frame::Bitmap {
                volume: index,
                request,
                last,
            },
            payload,
        });
    }

    /// On the source: a part of the target's bitmap.
    pub(super) fn bitmap_part(
        &mut self,
        index: u16,
        request: u64,
        last: bool,
        buf: Option<Buf>,
        mem: &mut Mem<'_>,
    ) {
        let result = self.unite(index, last, buf.as_ref(), mem);
        if let Some(buf) = buf {
            mem.free(buf);
        }
        match result {
            Ok(united) => {
                self.send(Frame::Ack { request });
                if let Some(bytes) = united {
                    self.send(Frame::SyncLeft {
                        volume: index,
                        bytes,
                    });
                }
            }
            Err(what) => self.protocol_error(what),
        }
    }

    /// Answers how much there is to do, when all of the bitmap has come.
    fn unite(
        &mut self,
        index: u16,
        last: bool,
        buf: Option<&Buf>,
        mem: &Mem<'_>,
    ) -> Result<Option<u64>, &'static str> {
        let (now, at) = (self.now, self.volume_by_index(index));
        let volume = at.map(|at| &mut self.volumes[at]);
        let Some(volume) = volume.filter(|_| self.link.up) else {
            return Err("a bitmap of an unknown volume");
        };
        let Some(source) = &mut volume.source else {
            // The disk failed in this moment, and has told the peer so.
            let failed = !volume.usable();
            return if failed {
                Ok(None)
            } else {
                Err("a bitmap that nobody asked for")
            };
        };
        let (Some(decoder), Some(buf)) = (&mut source.uniting, buf) else {
            return Err("a bitmap that nobody asked for");
        };
        if decoder.decode(&mut volume.dirty, mem.bytes(buf)).is_err() {
            return Err("a bitmap that cannot be read");
        }
        if last {
            source.uniting = None;
            volume.sync_total = volume.dirty.dirty_bytes();
            let left = volume.left();
            if let Some(progress) = &mut volume.progress {
                progress.update(now, left);
            }
        }
        let united = last.then_some(volume.sync_total);
        if let Some(meta) = &mut volume.meta {
            meta.touch_all();
        }
        Ok(united)
    }

    /// On the target: how much there is to do with the marks of both nodes.
    pub(super) fn sync_left(&mut self, index: u16, bytes: u64) {
        let now = self.now;
        let Some(at) = self.volume_by_index(index) else {
            return self.protocol_error("a resync of an unknown volume");
        };
        let volume = &mut self.volumes[at];
        // The disk may have failed in this moment.
        if volume.is_target() && core::mem::take(&mut volume.left_unknown) {
            let bytes = bytes.min(volume.size);
            (volume.sync_total, volume.sync_left) = (bytes, bytes);
            volume.begin_progress(now);
            self.pause_target(at);
        }
    }
}
