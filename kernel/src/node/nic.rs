//! A NIC as smoltcp uses it: the driver's tokens under smoltcp's names.

use drivers::net::{Net, RxToken, TxToken};
use drivers::transport::{AnyTransport, MmioDoorbell};
use net::stack::offload::{Features, capabilities};
use smoltcp::phy::{self, DeviceCapabilities, PacketMeta};
use smoltcp::time::Instant;

use crate::dma::KernelHal;

/// The driver behind a NIC.
pub type Driver = Net<KernelHal, AnyTransport>;

/// A NIC for a [`net::stack::Stack`].
pub struct Nic {
    driver: Driver,
    capabilities: DeviceCapabilities,
}

impl Nic {
    /// A NIC whose IP packets are at most `mtu` bytes.
    pub fn new(driver: Driver, mtu: u16) -> Self {
        let offered = driver.capabilities();
        let features = Features {
            tx_checksum: offered.checksum_tx,
            tx_segmentation: offered.tso4.is_some(),
            rx_checksum: offered.checksum_rx,
        };
        let mtu = mtu.min(offered.mtu);
        Self {
            capabilities: capabilities(usize::from(mtu), features),
            driver,
        }
    }

    /// The driver, for what operators ask.
    pub fn driver(&self) -> &Driver {
        &self.driver
    }

    /// The driver, for doorbells and interrupts.
    pub fn driver_mut(&mut self) -> &mut Driver {
        &mut self.driver
    }
}

impl phy::Device for Nic {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = ToSend<'a>;

    fn receive(&mut self, _now: Instant) -> Option<(Received<'_>, ToSend<'_>)> {
        let (received, to_send) = self.driver.receive()?;
        Some((Received(received), ToSend(to_send)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<ToSend<'_>> {
        self.driver.transmit().map(ToSend)
    }

    fn capabilities(&self) -> DeviceCapabilities {
        self.capabilities.clone()
    }
}

/// A received frame.
pub struct Received<'a>(RxToken<'a, KernelHal, MmioDoorbell>);

impl phy::RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        self.0.consume(f)
    }
}

/// Leave to send a frame.
pub struct ToSend<'a>(TxToken<'a, KernelHal, MmioDoorbell>);

impl phy::TxToken for ToSend<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        self.0.consume(len, f)
    }

    fn set_meta(&mut self, meta: PacketMeta) {
        self.0.set_segment(meta.segmentation_offload_size);
    }
}
