//! Payload buffers of writes that have arrived but not gone to the engine, in order.
//!
//! A 32 MiB write can, in a fragmented pool, consist of 8192 single pages. The buffers' handles
//! therefore live in one arena for all sessions, as long as the pool has pages: every buffer has
//! at least one page, so the arena cannot overflow, and a session's fixed memory stays small.

use alloc::vec::Vec;
use replication::buf::{Buf, PAGE, Pool};

const NIL: u32 = u32::MAX;

#[derive(Debug)]
struct Node {
    buf: Option<Buf>,
    next: u32,
}

/// A list of buffers in the arena.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    head: u32,
    tail: u32,
}

impl Chain {
    pub(super) const EMPTY: Self = Self {
        head: NIL,
        tail: NIL,
    };

    pub(super) fn is_empty(self) -> bool {
        self.head == NIL
    }
}

/// The arena.
#[derive(Debug)]
pub(super) struct Chains {
    /// Grows to the most buffers ever held at once, within its first capacity: memory that is
    /// never needed is never touched.
    nodes: Vec<Node>,
    free: u32,
}

impl Chains {
    pub(super) const BYTES_PER_PAGE: usize = size_of::<Node>();

    /// An arena for all buffers that `pool` can have.
    pub(super) fn new(pool: &Pool) -> Self {
        let pages = usize::try_from(pool.total_bytes() / u64::from(PAGE)).unwrap_or(0);
        Self {
            nodes: Vec::with_capacity(pages),
            free: NIL,
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.nodes.capacity()
    }

    /// Appends a buffer.
    pub(super) fn push(&mut self, chain: &mut Chain, buf: Buf) {
        let node = Node {
            buf: Some(buf),
            next: NIL,
        };
        let at = self.free;
        let at = if at == NIL {
            assert!(
                self.nodes.len() < self.nodes.capacity(),
                "more buffers than the pool has pages"
            );
            self.nodes.push(node);
            self.nodes.len() as u32 - 1
        } else {
            self.free = self.nodes[at as usize].next;
            self.nodes[at as usize] = node;
            at
        };
        if chain.is_empty() {
            chain.head = at;
        } else {
            self.nodes[chain.tail as usize].next = at;
        }
        chain.tail = at;
    }

    /// Takes the first buffer.
    pub(super) fn pop(&mut self, chain: &mut Chain) -> Option<Buf> {
        if chain.is_empty() {
            return None;
        }
        let at = chain.head;
        let node = &mut self.nodes[at as usize];
        let buf = node.buf.take();
        chain.head = node.next;
        node.next = self.free;
        self.free = at;
        if chain.is_empty() {
            chain.tail = NIL;
        }
        buf
    }

    /// Gives every buffer of the chain back to `pool`.
    pub(super) fn release(&mut self, chain: &mut Chain, pool: &mut Pool) {
        while let Some(buf) = self.pop(chain) {
            pool.free(buf);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_keep_their_order_and_reuse_their_nodes() {
        let mut pool = Pool::new(8);
        let mut chains = Chains::new(&pool);
        for _ in 0..3 {
            let (mut a, mut b) = (Chain::EMPTY, Chain::EMPTY);
            for i in 0..8u32 {
                let mut buf = pool.alloc(1).expect("a page");
                buf.set_len(i);
                chains.push(if i % 2 == 0 { &mut a } else { &mut b }, buf);
            }
            for i in [0, 2, 4, 6] {
                let buf = chains.pop(&mut a).expect("pushed");
                assert_eq!(buf.len(), i);
                pool.free(buf);
            }
            assert!(a.is_empty() && chains.pop(&mut a).is_none());
            chains.release(&mut b, &mut pool);
            assert_eq!(b, Chain::EMPTY);
            assert_eq!(pool.free_bytes(), pool.total_bytes());
        }
    }
}
