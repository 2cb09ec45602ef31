//! The fuzzer's bytes as a row of choices.
//!
//! Every choice takes a fixed number of bytes, so a mutation of one choice leaves the others in
//! place, and a seed can be written down as the bytes of its choices. Behind the end everything
//! is zero.

/// Takes choices off the front of an input.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    /// All of `data`.
    pub fn new(data: &'a [u8]) -> Self {
        Self(data)
    }

    /// Whether everything was taken.
    pub fn is_done(&self) -> bool {
        self.0.is_empty()
    }

    /// The next `n` bytes, or as many as are left.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (head, tail) = self.0.split_at(n.min(self.0.len()));
        self.0 = tail;
        head
    }

    /// The next `N` bytes.
    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut out = [0; N];
        let head = self.bytes(N);
        out[..head.len()].copy_from_slice(head);
        out
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    /// Two bytes, little-endian.
    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    /// One byte, cut to a number below `n`, which is at most 256 and not 0.
    pub fn pick(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// One byte: yes or no.
    pub fn coin(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    /// One of `from`, by one byte.
    pub fn one_of<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.pick(from.len())]
    }
}
