//! The superblock: what a node knows of a volume and of its peer's copy, across restarts.
//!
//! The first 64 bytes (magic, checksum, version, features, release, sequence, device id) keep
//! their place and meaning in every version, so that an old release can at least say what it is
//! looking at. All fields lie in the first 512 bytes: a disk that writes whole sectors leaves the
//! old or the new superblock, and the checksum rejects everything else.

use super::layout::{Layout, Place};
use super::snapshot::Snapshot;
use super::{EXTENT, Field, PAGE, Page, Release, SuperblockError, crc32c, is_blank};
use crate::api::{DiskState, Name};

/// Format version that this code writes, and the newest it reads.
pub const VERSION: u16 = 1;
/// The oldest format version that this code reads.
pub const VERSION_MIN: u16 = 1;
/// Feature bits that may be ignored by who does not know them; those known here.
pub const COMPAT_KNOWN: u64 = 0;
/// Feature bits that must be known to use the metadata at all; those known here.
pub const INCOMPAT_KNOWN: u64 = 0;
/// The oldest release that can use what this code writes; stored for the text of a refusal.
pub const RELEASE_NEEDED: &str = "0.1.0";
/// Bytes kept for the durable part of fencing, preserved unread.
pub const RESERVE: usize = fencing::RECORD_LEN;

const MAGIC: &[u8; 8] = b"PALISADE";
/// Where the checksummed part begins.
const CHECKED: usize = 12;
const FLAG_PRIMARY: u32 = 1;
const FLAG_ALL_DIRTY: u32 = 2;
const FLAG_WAS_PRIMARY: u32 = 4;

/// Everything that is durable about a volume, except its activity log and bitmap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superblock {
    /// Compatible features in use. Bits that this code does not know are read but not written:
    /// who knows them sees that they were not kept up.
    pub compat: u64,
    /// Incompatible features in use; always within [`INCOMPAT_KNOWN`].
    pub incompat: u64,
    /// Grows with every save, starting at 1.
    pub sequence: u64,
    /// Random, not 0, drawn by create-md: ties the activity log and bitmap pages to this metadata.
    pub device_id: u64,
    /// The resource.
    pub resource: Name,
    /// The node that the metadata belongs to.
    pub node: Name,
    /// Index of the volume: the number in `vol0`.
    pub volume: u16,
    /// Smallest unit of a request in bytes: 512 or 4096.
    pub block_size: u32,
    /// Size of the volume and where everything lies.
    pub layout: Layout,
    /// Current generation; 0 before the first one.
    pub current: u64,
    /// Generation that the bitmap counts from; 0: none.
    pub bitmap: u64,
    /// Earlier bitmap generations, newest first; 0: none.
    pub history: [u64; 2],
    /// The disk's state: Inconsistent, Outdated, Consistent or UpToDate.
    pub disk: DiskState,
    /// The peer's disk when it was last seen; DUnknown before the first time.
    pub peer_disk: DiskState,
    /// This node is Primary. Found set at attach: it crashed as Primary, and all extents of the
    /// activity log are dirty.
    pub primary: bool,
    /// The bitmap pages are not to be trusted: the whole volume is dirty.
    pub all_dirty: bool,
    /// This node was Primary when it last lost its peer.
    pub was_primary: bool,
    /// Byte of the volume up to which an interrupted verify came; 0: none was interrupted.
    pub verify_cursor: u64,
    /// The fencing state ([`fencing::Record`]); preserved as it is.
    pub reserve: [u8; RESERVE],
    /// The places of the copies that the metadata had before it moved here, until they are zeroed: what they hold is no
    /// superblock any more. The second one is never 0.
    pub moved_from: Option<[u64; 2]>,
    /// The snapshot that is held, or what is left of it.
    pub snapshot: Option<Snapshot>,
}

impl Superblock {
    /// Writes the superblock into `page`, all of it. Bits that this code does not know are
    /// left out of `compat`.
    ///
    /// # Errors
    ///
    /// The field that [`Superblock::decode`] would refuse; `page` is not to be written then.
    pub fn encode(&self, page: &mut Page) -> Result<(), Field> {
        self.check()?;
        page.fill(0);
        let layout = &self.layout;
        let mut out = Writer { page, at: 0 };
        out.bytes(MAGIC);
        out.u32(0);
        out.u16(VERSION);
        out.u16(0);
        out.u64(self.compat & COMPAT_KNOWN);
        out.u64(self.incompat);
        out.text(RELEASE_NEEDED.as_bytes(), 16);
        out.u64(self.sequence);
        out.u64(self.device_id);
        out.text(self.resource.as_bytes(), 32);
        out.text(self.node.as_bytes(), 32);
        out.u16(self.volume);
        out.u8(match layout.place {
            Place::Internal => 1,
            Place::External => 2,
        });
        out.u8(state_code(self.disk));
        out.u8(state_code(self.peer_disk));
        out.bytes(&[0; 3]);
        let primary = if self.primary { FLAG_PRIMARY } else { 0 };
        let all_dirty = if self.all_dirty { FLAG_ALL_DIRTY } else { 0 };
        let was_primary = if self.was_primary {
            FLAG_WAS_PRIMARY
        } else {
            0
        };
        out.u32(primary | all_dirty | was_primary);
        out.u32(self.block_size);
        out.u64(EXTENT);
        out.u64(layout.volume_bytes);
        out.u64(layout.superblock_a);
        out.u64(layout.activity);
        out.u64(layout.bitmap);
        out.u64(layout.superblock_b);
        out.u32(layout.activity_pairs);
        out.u32(layout.bitmap_pages);
        for uuid in [self.current, self.bitmap, self.history[0], self.history[1]] {
            out.u64(uuid);
        }
        out.u64(self.verify_cursor);
        out.bytes(&self.reserve);
        out.u64(layout.reserve);
        out.u64(layout.reserve_bytes);
        out.bytes(&Snapshot::encode(self.snapshot.as_ref()));
        for place in self.moved_from.unwrap_or_default() {
            out.u64(place);
        }
        let crc = crc32c(&[&page[CHECKED..]]);
        page[8..CHECKED].copy_from_slice(&crc.to_le_bytes());
        Ok(())
    }

    /// Reads a superblock.
    ///
    /// # Errors
    ///
    /// [`SuperblockError`] tells blank, foreign, damaged, too new and impossible apart.
    pub fn decode(page: &Page) -> Result<Self, SuperblockError> {
        let mut from = Reader { page, at: 0 };
        if &from.array::<8>() != MAGIC {
            let blank = is_blank(page);
            return Err(if blank {
                SuperblockError::Blank
            } else {
                SuperblockError::NotSuperblock
            });
        }
        if from.u32() != crc32c(&[&page[CHECKED..]]) {
            return Err(SuperblockError::Checksum);
        }
        let version = from.u16();
        from.u16();
        let (compat, incompat) = (from.u64(), from.u64());
        let release = release(&from.array::<16>());
        if version > VERSION {
            return Err(SuperblockError::TooNew { version, release });
        }
        if version < VERSION_MIN {
            return Err(SuperblockError::TooOld { version });
        }
        if incompat & !INCOMPAT_KNOWN != 0 {
            let bits = incompat & !INCOMPAT_KNOWN;
            return Err(SuperblockError::Features { bits, release });
        }
        fields(&mut from, compat, incompat).map_err(SuperblockError::Impossible)
    }

    /// Whether a page at byte `offset` of the metadata's disk is one of this superblock's copies,
    /// rather than one that was written for another place.
    #[must_use]
    pub fn belongs_at(&self, offset: u64) -> bool {
        offset == self.layout.superblock_a || offset == self.layout.superblock_b
    }

    /// Whether zeroing the places that the metadata came from harms nothing: they lie in front of it, and not in the volume.
    fn moved_from_is_possible(&self) -> bool {
        let Some([a, b]) = self.moved_from else {
            return true;
        };
        let page = PAGE as u64;
        let layout = &self.layout;
        let outside = layout.place == Place::External || a >= layout.volume_bytes;
        let before = b
            .checked_add(page)
            .is_some_and(|end| end <= layout.superblock_a);
        a.is_multiple_of(page) && b.is_multiple_of(page) && a < b && before && outside
    }

    /// Whether the snapshot is one that a resync to this disk can have left.
    fn snapshot_is_possible(&self) -> bool {
        self.snapshot.is_none_or(|snapshot| {
            let begun = self.disk == DiskState::Inconsistent && self.layout.reserve_bytes > 0;
            snapshot.is_possible() && (begun || !snapshot.is_held())
        })
    }

    fn check(&self) -> Result<(), Field> {
        use DiskState::{Consistent, Inconsistent, Outdated, UpToDate};
        self.layout.check().map_err(Field::Layout)?;
        let block = self.block_size;
        let blocks = (block == 512 || block == 4096)
            && self.layout.volume_bytes.is_multiple_of(u64::from(block));
        let rules = [
            (self.incompat & !INCOMPAT_KNOWN == 0, Field::Incompat),
            (self.sequence != 0, Field::Sequence),
            (self.device_id != 0, Field::DeviceId),
            (is_name(self.resource.as_bytes()), Field::Resource),
            (is_name(self.node.as_bytes()), Field::Node),
            (blocks, Field::BlockSize),
            (
                matches!(self.disk, Inconsistent | Outdated | Consistent | UpToDate),
                Field::Disk,
            ),
            (
                self.verify_cursor <= self.layout.volume_bytes,
                Field::VerifyCursor,
            ),
            (self.moved_from_is_possible(), Field::MovedFrom),
            (self.snapshot_is_possible(), Field::Snapshot),
        ];
        match rules.iter().find(|(holds, _)| !holds) {
            Some((_, field)) => Err(*field),
            None => Ok(()),
        }
    }
}

/// Looks for a superblock copy in `chunk`, which begins at byte `offset` (a multiple of 4 KiB) of
/// the disk, from its end backwards; returns where it is. Only a copy that was written for the very
/// place where it is counts, and one that is intact but refused ([`SuperblockError::is_intact`]), which
/// must not be passed over.
///
/// To find metadata on a disk that has grown, read the disk backwards in chunks and stop at
/// the first hit: newer metadata always lies further back than what it replaced. Then read both
/// copies where the hit's layout says.
pub fn find(chunk: &[u8], offset: u64) -> Option<(u64, Result<Superblock, SuperblockError>)> {
    let (pages, _) = chunk.as_chunks::<PAGE>();
    let marked = pages.iter().enumerate().rev();
    let mut marked = marked.filter(|(_, page)| page.starts_with(MAGIC));
    marked.find_map(|(index, page)| {
        let at = offset + (index * PAGE) as u64;
        let found = Superblock::decode(page);
        let counts = match &found {
            Ok(superblock) => superblock.belongs_at(at),
            Err(error) => error.is_intact(),
        };
        counts.then_some((at, found))
    })
}

fn fields(from: &mut Reader<'_>, compat: u64, incompat: u64) -> Result<Superblock, Field> {
    let (sequence, device_id) = (from.u64(), from.u64());
    let resource = name(&from.array::<32>()).ok_or(Field::Resource)?;
    let node = name(&from.array::<32>()).ok_or(Field::Node)?;
    let volume = from.u16();
    let place = match from.array::<1>() {
        [1] => Place::Internal,
        [2] => Place::External,
        _ => return Err(Field::Place),
    };
    let [disk, peer_disk, ..] = from.array::<5>();
    let flags = from.u32();
    if flags & !(FLAG_PRIMARY | FLAG_ALL_DIRTY | FLAG_WAS_PRIMARY) != 0 {
        return Err(Field::Flags);
    }
    let block_size = from.u32();
    if from.u64() != EXTENT {
        return Err(Field::ExtentSize);
    }
    let layout = Layout {
        place,
        volume_bytes: from.u64(),
        superblock_a: from.u64(),
        activity: from.u64(),
        bitmap: from.u64(),
        superblock_b: from.u64(),
        activity_pairs: from.u32(),
        bitmap_pages: from.u32(),
        reserve: 0,
        reserve_bytes: 0,
    };
    let mut superblock = Superblock {
        compat,
        incompat,
        sequence,
        device_id,
        resource,
        node,
        volume,
        block_size,
        layout,
        current: from.u64(),
        bitmap: from.u64(),
        history: [from.u64(), from.u64()],
        disk: state(disk).ok_or(Field::Disk)?,
        peer_disk: state(peer_disk).ok_or(Field::PeerDisk)?,
        primary: flags & FLAG_PRIMARY != 0,
        all_dirty: flags & FLAG_ALL_DIRTY != 0,
        was_primary: flags & FLAG_WAS_PRIMARY != 0,
        verify_cursor: from.u64(),
        reserve: from.array(),
        moved_from: None,
        snapshot: None,
    };
    (superblock.layout.reserve, superblock.layout.reserve_bytes) = (from.u64(), from.u64());
    superblock.snapshot = Snapshot::decode(&from.array()).ok_or(Field::Snapshot)?;
    superblock.moved_from = Some([from.u64(), from.u64()]).filter(|places| *places != [0; 2]);
    superblock.check()?;
    Ok(superblock)
}

fn is_name(bytes: &[u8]) -> bool {
    let allowed = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    !bytes.is_empty() && bytes.iter().all(allowed)
}

/// A name that is filled up with zeroes.
fn name(field: &[u8; 32]) -> Option<Name> {
    let len = field.iter().position(|b| *b == 0).unwrap_or(field.len());
    let (text, rest) = field.split_at(len);
    if !is_name(text) || !is_blank(rest) {
        return None;
    }
    Name::try_from(core::str::from_utf8(text).ok()?).ok()
}

/// A release for people; what is not printable ends it.
fn release(field: &[u8; 16]) -> Release {
    let printable = field.iter().take_while(|b| b.is_ascii_graphic());
    printable.map(|b| char::from(*b)).collect()
}

/// The code of a disk state. The codes are the format's own and never change.
fn state_code(state: DiskState) -> u8 {
    // Written out, so that a state that is added does not compile before it has a code.
    match state {
        DiskState::Diskless => 1,
        DiskState::Attaching => 2,
        DiskState::Failed => 3,
        DiskState::Negotiating => 4,
        DiskState::Inconsistent => 5,
        DiskState::Outdated => 6,
        DiskState::DUnknown => 7,
        DiskState::Consistent => 8,
        DiskState::UpToDate => 9,
    }
}

fn state(code: u8) -> Option<DiskState> {
    DiskState::ALL
        .into_iter()
        .find(|state| state_code(*state) == code)
}

/// Appends little-endian fields. All fields together are far smaller than a page.
struct Writer<'a> {
    page: &'a mut Page,
    at: usize,
}

impl Writer<'_> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.page[self.at..self.at + bytes.len()].copy_from_slice(bytes);
        self.at += bytes.len();
    }
    /// A text in a field of `size` bytes that is zero already.
    fn text(&mut self, text: &[u8], size: usize) {
        self.page[self.at..self.at + text.len()].copy_from_slice(text);
        self.at += size;
    }
    fn u8(&mut self, value: u8) {
        self.bytes(&[value]);
    }
    fn u16(&mut self, value: u16) {
        self.bytes(&value.to_le_bytes());
    }
    fn u32(&mut self, value: u32) {
        self.bytes(&value.to_le_bytes());
    }
    fn u64(&mut self, value: u64) {
        self.bytes(&value.to_le_bytes());
    }
}

/// Takes little-endian fields from the beginning of a page.
struct Reader<'a> {
    page: &'a Page,
    at: usize,
}

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.page[self.at..self.at + N]);
        self.at += N;
        bytes
    }
    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }
    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }
    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }
}
