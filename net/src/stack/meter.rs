//! Counts what passes between smoltcp and the device.

use core::cell::Cell;
use smoltcp::phy::{Device, DeviceCapabilities, PacketMeta, RxToken, TxToken};
use smoltcp::time::Instant;

/// Counters of one NIC since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NicStats {
    /// Frames received (a coalesced frame counts once).
    pub rx_frames: u64,
    /// Bytes received, Ethernet headers included.
    pub rx_bytes: u64,
    /// Frames sent (one with segmentation offload counts once).
    pub tx_frames: u64,
    /// Bytes sent, Ethernet headers included.
    pub tx_bytes: u64,
    /// Times that a frame had to wait because the transmit ring was full.
    pub tx_full: u64,
    /// Connections accepted by the application.
    pub accepted: u64,
    /// Connections dialled that became established.
    pub dialled: u64,
    /// Connections that died: reset by the other side, or given up by TCP.
    pub died: u64,
    /// Half-open connections that never completed and lost their slot.
    pub half_open_dropped: u64,
    /// Connections that were established now.
    pub established: u32,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    rx_frames: Cell<u64>,
    rx_bytes: Cell<u64>,
    tx_frames: Cell<u64>,
    tx_bytes: Cell<u64>,
    tx_full: Cell<u64>,
}

impl Counters {
    fn add(cell: &Cell<u64>, n: u64) {
        cell.set(cell.get().wrapping_add(n));
    }

    pub(super) fn tx_full(&self) -> u64 {
        self.tx_full.get()
    }

    pub(super) fn fill(&self, stats: &mut NicStats) {
        stats.rx_frames = self.rx_frames.get();
        stats.rx_bytes = self.rx_bytes.get();
        stats.tx_frames = self.tx_frames.get();
        stats.tx_bytes = self.tx_bytes.get();
        stats.tx_full = self.tx_full.get();
    }
}

/// The caller's device with counters in between.
pub(super) struct Metered<'a, D> {
    pub(super) device: &'a mut D,
    pub(super) counters: &'a Counters,
}

impl<D: Device> Device for Metered<'_, D> {
    type RxToken<'t>
        = MeteredRx<'t, D::RxToken<'t>>
    where
        Self: 't;
    type TxToken<'t>
        = MeteredTx<'t, D::TxToken<'t>>
    where
        Self: 't;

    fn receive(&mut self, now: Instant) -> Option<(Self::RxToken<'_>, Self::TxToken<'_>)> {
        let counters = self.counters;
        let (rx, tx) = self.device.receive(now)?;
        Some((
            MeteredRx {
                inner: rx,
                counters,
            },
            MeteredTx {
                inner: tx,
                counters,
            },
        ))
    }

    fn transmit(&mut self, now: Instant) -> Option<Self::TxToken<'_>> {
        let counters = self.counters;
        let Some(tx) = self.device.transmit(now) else {
            Counters::add(&counters.tx_full, 1);
            return None;
        };
        Some(MeteredTx {
            inner: tx,
            counters,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.device.capabilities()
    }
}

pub(super) struct MeteredRx<'a, T> {
    inner: T,
    counters: &'a Counters,
}

impl<T: RxToken> RxToken for MeteredRx<'_, T> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        let counters = self.counters;
        self.inner.consume(|frame| {
            Counters::add(&counters.rx_frames, 1);
            Counters::add(&counters.rx_bytes, frame.len() as u64);
            f(frame)
        })
    }

    fn meta(&self) -> PacketMeta {
        self.inner.meta()
    }
}

pub(super) struct MeteredTx<'a, T> {
    inner: T,
    counters: &'a Counters,
}

impl<T: TxToken> TxToken for MeteredTx<'_, T> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        Counters::add(&self.counters.tx_frames, 1);
        Counters::add(&self.counters.tx_bytes, len as u64);
        self.inner.consume(len, f)
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.inner.set_meta(meta);
    }
}
