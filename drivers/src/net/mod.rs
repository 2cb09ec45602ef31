//! virtio-net (virtio 1.2 §5.1): one receive and one transmit queue, checksum and TCP
//! segmentation offload, mergeable receive buffers.
//!
//! The tokens have the shape of smoltcp's `phy::RxToken` and `phy::TxToken`, and
//! [`Capabilities`] that of its `DeviceCapabilities`, so that the adapter only forwards. After
//! each round of the stack: [`Net::kick`] once; before sleeping: [`Net::arm`], and go on polling
//! when it says so. After a configuration interrupt call [`Net::config_changed`].

mod config;
mod header;
mod offload;
mod rx;
mod tx;

use core::num::NonZeroU16;
use virtio_drivers::{
    Hal,
    transport::{DeviceStatus, DeviceType, InterruptStatus, Transport},
};

pub use config::Capabilities;

use crate::{
    transport::{
        ConfigError, DeviceTransport, Doorbell, F_ANY_LAYOUT, F_EVENT_IDX, F_INDIRECT_DESC,
        F_VERSION_1, InitError, config as config_field, needs_reset, negotiate, read_consistent,
        start,
    },
    virtq::{QueueError, QueueOptions, Virtq},
};
use config::{DEFAULT_MTU, LINK_UP, MAC_AT, MTU_AT, MTU_MIN, STATUS_AT, feature};
use header::{HEADER_BYTES, LEGACY_HEADER_BYTES};
use offload::TxOffloads;
use rx::{Frame, Rx, RxLayout};
use tx::{Tx, TxPlan};

const RX_QUEUE: u16 = 0;
const TX_QUEUE: u16 = 1;

/// How to set a NIC up.
#[derive(Debug, Clone, Copy)]
pub struct NetOptions {
    /// Most receive buffers; the device's queue size and `rx_bytes` may say fewer.
    pub rx_queue_size: u16,
    /// Most frames being sent.
    pub tx_queue_size: u16,
    /// Bytes of receive buffers. At least two of the longest frames are held whatever this says;
    /// receive segmentation offload is declined when it needs more than this.
    pub rx_bytes: usize,
    /// Bytes of the ring of frames being sent; at least two of the longest.
    pub tx_bytes: usize,
    /// The largest IP MTU to use; a smaller one of the device wins.
    pub mtu_max: u16,
    /// Use checksum and segmentation offload where the device has them.
    pub offload: bool,
    /// MSI-X table entry for received frames; `None` where the transport has no MSI-X.
    pub rx_vector: Option<u16>,
    /// MSI-X table entry for sent frames; may be the same.
    pub tx_vector: Option<u16>,
    /// MSI-X table entry for configuration changes; may be the same.
    pub config_vector: Option<u16>,
}

impl Default for NetOptions {
    /// 1 MiB to receive, 512 KiB to send, the device's MTU, offloads on, no MSI-X.
    fn default() -> Self {
        Self {
            rx_queue_size: 1024,
            tx_queue_size: 256,
            rx_bytes: 1 << 20,
            tx_bytes: 512 << 10,
            mtu_max: u16::MAX,
            offload: true,
            rx_vector: None,
            tx_vector: None,
            config_vector: None,
        }
    }
}

/// Counters since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct NetStats {
    /// Frames handed up.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames among them that had to be copied together.
    pub rx_copied: u64,
    /// Frames dropped because shorter than their header.
    pub rx_runt: u64,
    /// Frames dropped because longer than the agreed MTU or offload allows.
    pub rx_oversize: u64,
    /// Frames dropped for a wrong checksum.
    pub rx_bad_checksum: u64,
    /// Frames given to the device.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
}

/// A virtio NIC. See the [module](self) for the order of calls.
#[derive(Debug)]
pub struct Net<H: Hal, T: DeviceTransport> {
    rx: Rx<H, T::Bell>,
    tx: Tx<H, T::Bell>,
    transport: T,
    capabilities: Capabilities,
    mac: [u8; 6],
    has_status: bool,
    link_up: bool,
    stopped: bool,
}

impl<H: Hal, T: DeviceTransport> Net<H, T> {
    /// Brings the NIC up and gives it its receive buffers.
    ///
    /// # Errors
    /// [`InitError`]: not a NIC, one without an address of its own, one that does not follow the
    /// standard, or no memory.
    pub fn new(mut transport: T, options: NetOptions) -> Result<Self, InitError> {
        let device = transport.device_type();
        if device != DeviceType::Network {
            return Err(InitError::WrongDeviceType(device));
        }
        let mut mtu = DEFAULT_MTU.min(options.mtu_max);
        let features = negotiate(&mut transport, |t, offered| {
            if offered & feature::MTU != 0 {
                mtu = read_mtu(t)?.min(options.mtu_max);
            }
            Ok(config::choose(offered, mtu, &options))
        })?;
        let has = |bit: u64| features & bit != 0;
        if let Some(vector) = options.config_vector
            && !transport.set_config_vector(vector)
        {
            return Err(InitError::VectorRefused { queue: None });
        }
        let mac = read_mac(&transport, features)?;
        let header_bytes = if has(F_VERSION_1) || has(feature::MRG_RXBUF) {
            HEADER_BYTES
        } else {
            LEGACY_HEADER_BYTES
        };
        // A legacy device may insist on the header in a buffer of its own (§5.1.6.6).
        let joined = has(F_VERSION_1) || has(F_ANY_LAYOUT);
        let queue_options = |max_size: u16, joined: bool, vector: Option<u16>| QueueOptions {
            max_size,
            event_idx: has(F_EVENT_IDX),
            indirect: if has(F_INDIRECT_DESC) && !joined {
                2
            } else {
                0
            },
            strict_lengths: has(F_VERSION_1),
            vector,
        };
        let rx_joined = joined || has(feature::MRG_RXBUF);
        let rx_options = queue_options(options.rx_queue_size, rx_joined, options.rx_vector);
        let tx_options = queue_options(options.tx_queue_size, joined, options.tx_vector);
        let rx_queue = Virtq::new(&mut transport, RX_QUEUE, rx_options)?;
        let tx_queue = Virtq::new(&mut transport, TX_QUEUE, tx_options)?;
        let per_buffer = if rx_joined || rx_options.indirect > 0 {
            1
        } else {
            2
        };
        let slots = usize::from(rx_queue.size()) / per_buffer;
        let plan = config::rx_plan(features, mtu, slots, &options);
        let capabilities = config::capabilities(features, mtu);
        let rx = Rx::new(
            rx_queue,
            plan,
            RxLayout {
                header_bytes,
                joined: rx_joined,
                checksum: capabilities.checksum_rx,
            },
        )?;
        let tx = Tx::new(
            tx_queue,
            TxPlan {
                header_bytes,
                joined,
                offloads: TxOffloads {
                    checksum: capabilities.checksum_tx,
                    tso4: capabilities.tso4.is_some(),
                    tso6: capabilities.tso6.is_some(),
                },
                frame_bytes_max: capabilities.tx_bytes_max(),
                bytes: options.tx_bytes,
            },
        )?;
        start(&mut transport);
        let mut net = Self {
            rx,
            tx,
            capabilities,
            mac,
            has_status: has(feature::STATUS),
            link_up: true,
            stopped: false,
            transport,
        };
        net.link_up = net.read_link()?;
        net.kick();
        Ok(net)
    }

    /// What the stack may leave to the device, and the frame sizes.
    #[must_use]
    pub fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// The device's Ethernet address.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// Whether the link is up, as last read; always, where the device does not say.
    #[must_use]
    pub fn link_up(&self) -> bool {
        self.link_up
    }

    /// Counters since the start.
    #[must_use]
    pub fn stats(&self) -> NetStats {
        NetStats {
            tx_frames: self.tx.frames,
            tx_bytes: self.tx.bytes,
            ..self.rx.stats
        }
    }

    /// The rule that the device broke, if it did; it stays reset then.
    #[must_use]
    pub fn broken(&self) -> Option<QueueError> {
        self.rx.queue.broken().or(self.tx.queue.broken())
    }

    /// A received frame, with a token for the reply. `None`: nothing there, or no room to send;
    /// in that case the frame waits and [`Net::arm`] asks for the transmit interrupt as well.
    pub fn receive(&mut self) -> Option<TokenPair<'_, H, T::Bell>> {
        // Most calls find nothing: that is the cheaper question.
        if !self.rx.queue.has_used() || !self.tx.ready() {
            return None;
        }
        let frame = self.rx.next_frame()?;
        Some((
            RxToken {
                rx: &mut self.rx,
                frame,
            },
            TxToken {
                tx: &mut self.tx,
                segment: None,
            },
        ))
    }

    /// Leave to send one frame of any allowed length. `None`: no room; [`Net::arm`] then asks for
    /// the transmit interrupt as well.
    pub fn transmit(&mut self) -> Option<TxToken<'_, H, T::Bell>> {
        self.tx.ready().then_some(TxToken {
            tx: &mut self.tx,
            segment: None,
        })
    }

    /// Rings the doorbells for all that was sent and all receive buffers given back since the
    /// last call, where the device wants it.
    pub fn kick(&mut self) {
        self.stop_if_broken();
        self.tx.queue.kick();
        self.rx.queue.kick();
    }

    /// Whether a frame was received that [`Net::receive`] has not looked at. Cheap, for polling.
    #[must_use]
    pub fn has_received(&self) -> bool {
        self.rx.queue.has_used()
    }

    /// Asks for an interrupt at the next received frame, and at the next sent one when sending
    /// waits for room. `true`: something is there already, go on polling instead of sleeping.
    pub fn arm(&mut self) -> bool {
        self.stop_if_broken();
        let received = self.rx.queue.arm();
        if self.tx.starved {
            // What was received cannot be taken before there is room to answer it: only that
            // is worth waking for, or a stalled device would keep the core spinning.
            self.tx.queue.arm()
        } else {
            received
        }
    }

    /// Reads and acknowledges the interrupt cause. Needed with MMIO (level-triggered) and not
    /// with MSI-X.
    pub fn ack_interrupt(&mut self) -> InterruptStatus {
        self.transport.ack_interrupt()
    }

    /// Looks at the link again, after a configuration interrupt. `Some(up)`: it changed.
    ///
    /// # Errors
    /// [`ConfigError`]: the status cannot be read.
    pub fn config_changed(&mut self) -> Result<Option<bool>, ConfigError> {
        if needs_reset(&self.transport) {
            self.rx.queue.set_broken(QueueError::NeedsReset);
            self.stop_if_broken();
        }
        let up = self.read_link()?;
        let changed = up != self.link_up;
        self.link_up = up;
        Ok(changed.then_some(up))
    }

    fn read_link(&self) -> Result<bool, ConfigError> {
        if !self.has_status {
            return Ok(true);
        }
        let status: u16 = config_field(&self.transport, STATUS_AT)?;
        Ok(status & LINK_UP != 0)
    }

    /// Resets a device that broke the rules, once, and closes both its queues.
    fn stop_if_broken(&mut self) {
        let Some(error) = self.broken().filter(|_| !self.stopped) else {
            return;
        };
        self.stopped = true;
        self.rx.queue.set_broken(error);
        self.tx.queue.set_broken(error);
        self.transport.set_status(DeviceStatus::empty());
    }
}

impl<H: Hal, T: DeviceTransport> Drop for Net<H, T> {
    /// Stops the device before its memory goes away.
    fn drop(&mut self) {
        self.transport.set_status(DeviceStatus::empty());
    }
}

/// A received frame. Its buffers go back to the device when the token goes.
#[derive(Debug)]
pub struct RxToken<'a, H: Hal, B: Doorbell> {
    rx: &'a mut Rx<H, B>,
    frame: Frame,
}

impl<H: Hal, B: Doorbell> RxToken<'_, H, B> {
    /// Shows the frame, from its Ethernet header on, to `f`.
    pub fn consume<R>(self, f: impl FnOnce(&[u8]) -> R) -> R {
        f(self.rx.bytes(&self.frame))
    }
}

impl<H: Hal, B: Doorbell> Drop for RxToken<'_, H, B> {
    fn drop(&mut self) {
        self.rx.recycle();
    }
}

/// A received frame and leave to send the reply.
pub type TokenPair<'a, H, B> = (RxToken<'a, H, B>, TxToken<'a, H, B>);

/// Leave to send one frame.
#[derive(Debug)]
pub struct TxToken<'a, H: Hal, B: Doorbell> {
    tx: &'a mut Tx<H, B>,
    segment: Option<NonZeroU16>,
}

impl<H: Hal, B: Doorbell> TxToken<'_, H, B> {
    /// Has the device cut the TCP packet into segments of so many payload bytes. Without effect
    /// on a protocol for which [`Capabilities::tso4`] or [`Capabilities::tso6`] is missing.
    pub fn set_segment(&mut self, bytes: Option<NonZeroU16>) {
        self.segment = bytes;
    }

    /// Has `f` write a frame of `len` bytes, from its Ethernet header on, and queues it. With
    /// [`Capabilities::checksum_tx`] the driver takes care of TCP and UDP checksum fields,
    /// whatever they hold.
    ///
    /// Panics when `len` is above [`Capabilities::tx_bytes_max`].
    pub fn consume<R>(self, len: usize, f: impl FnOnce(&mut [u8]) -> R) -> R {
        self.tx.send(len, self.segment, f)
    }
}

fn read_mtu<T: Transport>(transport: &T) -> Result<u16, ConfigError> {
    let mtu: u16 = config_field(transport, MTU_AT)?;
    if mtu < MTU_MIN {
        return Err(ConfigError::Invalid {
            offset: MTU_AT,
            value: u64::from(mtu),
        });
    }
    Ok(mtu)
}

fn read_mac<T: Transport>(transport: &T, features: u64) -> Result<[u8; 6], ConfigError> {
    if features & feature::MAC == 0 {
        return Err(ConfigError::Missing { offset: MAC_AT });
    }
    read_consistent(transport, |t| {
        let mut mac = [0; 6];
        for (i, byte) in mac.iter_mut().enumerate() {
            *byte = config_field(t, MAC_AT + i)?;
        }
        Ok(mac)
    })
}
