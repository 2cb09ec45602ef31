//! Notices whether the transmit ring was full: smoltcp keeps that to itself.

use smoltcp::phy::{Device, DeviceCapabilities};
use smoltcp::time::Instant;

/// The caller's device during one round of sending.
pub(super) struct Watched<'a, D> {
    device: &'a mut D,
    full: bool,
}

impl<'a, D: Device> Watched<'a, D> {
    pub(super) fn new(device: &'a mut D) -> Self {
        Self {
            device,
            full: false,
        }
    }

    /// Whether the device refused a frame since the round began.
    pub(super) fn was_full(&self) -> bool {
        self.full
    }
}

impl<D: Device> Device for Watched<'_, D> {
    type RxToken<'t>
        = D::RxToken<'t>
    where
        Self: 't;
    type TxToken<'t>
        = D::TxToken<'t>
    where
        Self: 't;

    fn receive(&mut self, now: Instant) -> Option<(D::RxToken<'_>, D::TxToken<'_>)> {
        self.device.receive(now)
    }

    fn transmit(&mut self, now: Instant) -> Option<D::TxToken<'_>> {
        let token = self.device.transmit(now);
        self.full |= token.is_none();
        token
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.device.capabilities()
    }
}
