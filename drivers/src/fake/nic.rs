//! The host's end of a virtio NIC.

use std::{sync::Arc, vec, vec::Vec};

use super::{
    queue::{Chain, DeviceQueue},
    transport::Shared,
};

/// `struct virtio_net_config`: address, link up, MTU.
pub fn nic_config(mtu: u16) -> Vec<u8> {
    let mut config = vec![0x52, 0x54, 0, 0x12, 0x34, 0x56, 1, 0, 1, 0, 0, 0];
    config[10..12].copy_from_slice(&mtu.to_le_bytes());
    config
}

/// The NIC.
#[derive(Debug)]
pub struct FakeNic {
    pub rx: DeviceQueue,
    pub tx: DeviceQueue,
    pub header_bytes: usize,
}

impl FakeNic {
    pub fn attach(shared: &Arc<Shared>, header_bytes: usize) -> Self {
        Self {
            rx: DeviceQueue::attach(shared, 0),
            tx: DeviceQueue::attach(shared, 1),
            header_bytes,
        }
    }

    /// Delivers a frame behind `header` (its buffer count is filled in), over as many buffers as
    /// it needs, each filled. `false`: not enough buffers, nothing delivered for good.
    pub fn deliver(&mut self, mut header: [u8; 12], frame: &[u8]) -> bool {
        let mut message = vec![0; self.header_bytes];
        message.extend(frame);
        let mut taken: Vec<(Chain, usize)> = Vec::new();
        let mut at = 0;
        while at < message.len() {
            let Some(chain) = self.rx.pop() else {
                return false;
            };
            let len = chain.write(0, &message[at..]);
            at += len;
            taken.push((chain, len));
        }
        header[10..12].copy_from_slice(&(taken.len() as u16).to_le_bytes());
        taken[0].0.write(0, &header[..self.header_bytes]);
        for (chain, len) in taken {
            self.rx.push(u32::from(chain.id), len as u32);
        }
        true
    }

    /// What the driver sent: header bytes and frame. The requests are given back.
    pub fn sent(&mut self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut out = Vec::new();
        while let Some(chain) = self.tx.pop() {
            let mut message = chain.readable();
            assert_eq!(chain.room(), 0);
            let frame = message.split_off(self.header_bytes);
            out.push((message, frame));
            self.tx.push(u32::from(chain.id), 0);
        }
        out
    }
}
