//! Memory for documents: a fixed number of a fixed size.

use alloc::vec::Vec;
use core::fmt;

/// Names a document in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DocumentId(usize);

#[derive(Debug)]
pub(super) struct Documents {
    bytes: Vec<Vec<u8>>,
    free: Vec<usize>,
}

impl Documents {
    pub(super) fn new(count: usize, bytes_each: usize) -> Self {
        Self {
            bytes: (0..count).map(|_| Vec::with_capacity(bytes_each)).collect(),
            free: (0..count).collect(),
        }
    }

    pub(super) fn any_free(&self) -> bool {
        !self.free.is_empty()
    }

    /// An empty one.
    pub(super) fn take(&mut self) -> Option<DocumentId> {
        let place = self.free.pop()?;
        self.bytes[place].clear();
        Some(DocumentId(place))
    }

    pub(super) fn give_back(&mut self, id: DocumentId) {
        self.free.push(id.0);
    }

    pub(super) fn bytes(&self, id: DocumentId) -> &[u8] {
        &self.bytes[id.0]
    }

    /// Writes to it as long as there is room.
    pub(super) fn writer(&mut self, id: DocumentId) -> Bounded<'_> {
        Bounded(&mut self.bytes[id.0])
    }
}

/// Adds to a vector without having it grow.
pub(super) struct Bounded<'a>(&'a mut Vec<u8>);

impl Bounded<'_> {
    /// Adds as much as there is room for; answers whether that is all.
    pub(super) fn add(&mut self, bytes: &[u8]) -> bool {
        let room = self.0.capacity() - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
        bytes.len() <= room
    }
}

impl fmt::Write for Bounded<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.capacity() - self.0.len() < text.len() {
            return Err(fmt::Error);
        }
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}
