//! A byte stream that gives and takes as little as it is told to.

use net::stream::ByteStream;
use std::collections::VecDeque;

/// Bytes on their way in one direction.
#[derive(Debug, Default)]
pub struct Pipe {
    /// What was written and not read.
    pub bytes: VecDeque<u8>,
    /// Most bytes of one read or write.
    pub grain: usize,
}

impl ByteStream for Pipe {
    fn readable(&self) -> usize {
        self.bytes.len()
    }
    fn read(&mut self, out: &mut [u8]) -> usize {
        let n = out.len().min(self.grain).min(self.bytes.len());
        for (to, from) in out.iter_mut().zip(self.bytes.drain(..n)) {
            *to = from;
        }
        n
    }
    fn at_end(&self) -> bool {
        false
    }
    fn writable(&self) -> usize {
        self.grain
    }
    fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.grain);
        self.bytes.extend(&data[..n]);
        n
    }
}
