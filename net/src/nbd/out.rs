//! The small bytes on their way to a client: negotiation replies and reply headers.

use crate::stream::ByteStream;
use heapless::Vec;

/// Bytes held at most. The largest single answer to an option (all of NBD_OPT_GO's information)
/// takes about 300.
const CAPACITY: usize = 1024;

/// A short queue of bytes in front of a stream that may take only some of them.
#[derive(Debug, Default)]
pub(super) struct Out {
    bytes: Vec<u8, CAPACITY>,
    sent: usize,
}

impl Out {
    /// Bytes that can be queued now.
    pub(super) fn room(&self) -> usize {
        CAPACITY - self.bytes.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.sent = 0;
    }

    /// Queues `bytes`; the caller has looked at [`Out::room`].
    pub(super) fn put(&mut self, bytes: &[u8]) {
        let fits = self.bytes.extend_from_slice(bytes).is_ok();
        assert!(
            fits,
            "answers are bounded and queued only when there is room"
        );
    }

    pub(super) fn put_u16(&mut self, value: u16) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn put_u32(&mut self, value: u32) {
        self.put(&value.to_be_bytes());
    }

    pub(super) fn put_u64(&mut self, value: u64) {
        self.put(&value.to_be_bytes());
    }

    /// Writes as much as `stream` takes; answers whether nothing is left.
    pub(super) fn flush<S: ByteStream>(&mut self, stream: &mut S) -> bool {
        while self.sent < self.bytes.len() {
            let taken = stream.write(&self.bytes[self.sent..]);
            if taken == 0 {
                return false;
            }
            self.sent += taken;
        }
        self.clear();
        true
    }
}
