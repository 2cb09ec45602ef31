//! The bytes behind the payload pool: one contiguous region of RAM that devices reach directly.

use replication::buf::{BufView, PoolMemory};

/// The pool's memory. Views come from the pool's bookkeeping, which hands a page to one owner at a time; devices
/// read and write it by [`Payload::physical`] while the engine holds the buffer.
pub struct Payload {
    region: &'static mut [u8],
}

impl Payload {
    /// Takes over `region`, which must be identity-mapped and start on a page.
    pub fn new(region: &'static mut [u8]) -> Self {
        Self { region }
    }

    /// The address that a device uses for `view`: memory is identity-mapped.
    pub fn physical(&self, view: BufView) -> u64 {
        assert!(
            view.offset + view.len as usize <= self.region.len(),
            "a view beyond the pool"
        );
        self.region.as_ptr() as u64 + view.offset as u64
    }
}

impl PoolMemory for Payload {
    fn bytes(&self, view: BufView) -> &[u8] {
        &self.region[view.offset..view.offset + view.len as usize]
    }

    fn bytes_mut(&mut self, view: BufView) -> &mut [u8] {
        &mut self.region[view.offset..view.offset + view.len as usize]
    }
}
