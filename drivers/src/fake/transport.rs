//! A transport whose registers are shared with the test.

use std::{
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU32, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
    vec::Vec,
};
use virtio_drivers::{
    Error, PhysAddr,
    transport::{DeviceStatus, DeviceType, InterruptStatus, Transport},
};
use zerocopy::{FromBytes, Immutable, IntoBytes};

use crate::transport::{DeviceTransport, Doorbell, InitError};

/// Where the driver put a queue.
#[derive(Debug, Clone, Copy)]
pub struct QueueSet {
    pub size: u16,
    pub descriptors: PhysAddr,
    pub driver_area: PhysAddr,
    pub device_area: PhysAddr,
}

/// Times a queue's doorbell rang, with a way to wait for the next.
#[derive(Debug, Default)]
pub struct Kicks {
    count: Mutex<u64>,
    rang: Condvar,
}

/// The device's registers.
#[derive(Debug)]
pub struct Shared {
    device_type: DeviceType,
    pub offered: u64,
    pub legacy: bool,
    pub queue_size: AtomicU32,
    pub accepted: AtomicU64,
    pub status: AtomicU32,
    pub resets: AtomicU32,
    pub config: Mutex<Vec<u8>>,
    pub generation: AtomicU32,
    /// Counts up the generation at each read, as a configuration that never holds still.
    pub restless: AtomicU32,
    pub refuse_features: AtomicU32,
    pub isr: AtomicU32,
    queues: Mutex<[Option<QueueSet>; 2]>,
    pub vectors: Mutex<Vec<(Option<u16>, u16)>>,
    pub kicks: [Kicks; 2],
}

impl Shared {
    pub fn new(device_type: DeviceType, offered: u64, config: Vec<u8>) -> Arc<Self> {
        Self::with_layout(device_type, offered, config, false)
    }

    pub fn with_layout(
        device_type: DeviceType,
        offered: u64,
        config: Vec<u8>,
        legacy: bool,
    ) -> Arc<Self> {
        Arc::new(Self {
            device_type,
            offered,
            legacy,
            queue_size: AtomicU32::new(256),
            accepted: AtomicU64::new(0),
            status: AtomicU32::new(0x80),
            resets: AtomicU32::new(0),
            config: Mutex::new(config),
            generation: AtomicU32::new(0),
            restless: AtomicU32::new(0),
            refuse_features: AtomicU32::new(0),
            isr: AtomicU32::new(0),
            queues: Mutex::new([None; 2]),
            vectors: Mutex::new(Vec::new()),
            kicks: Default::default(),
        })
    }

    /// Where the driver put a queue; the device must be running.
    pub fn queue(&self, index: u16) -> QueueSet {
        let running = DeviceStatus::DRIVER_OK.bits();
        assert_ne!(self.status.load(SeqCst) & running, 0, "not started");
        self.queues.lock().unwrap()[usize::from(index)].expect("queue not set up")
    }

    /// How often the queue's doorbell rang.
    pub fn kick_count(&self, queue: u16) -> u64 {
        *self.kicks[usize::from(queue)].count.lock().unwrap()
    }

    /// Sleeps until the doorbell has rung more than `seen` times. `None`: not within `limit`.
    pub fn wait_kick(&self, queue: u16, seen: u64, limit: Duration) -> Option<u64> {
        let kicks = &self.kicks[usize::from(queue)];
        let end = Instant::now() + limit;
        let mut count = kicks.count.lock().unwrap();
        while *count <= seen {
            let left = end.checked_duration_since(Instant::now())?;
            count = kicks.rang.wait_timeout(count, left).unwrap().0;
        }
        Some(*count)
    }

    /// Replaces part of the configuration and moves its generation on.
    pub fn change_config(&self, offset: usize, bytes: &[u8]) {
        self.config.lock().unwrap()[offset..offset + bytes.len()].copy_from_slice(bytes);
        self.generation.fetch_add(1, SeqCst);
    }
}

/// The driver's view of [`Shared`].
#[derive(Debug)]
pub struct FakeTransport(pub Arc<Shared>);

/// A doorbell that wakes who waits in [`Shared::wait_kick`].
#[derive(Debug)]
pub struct FakeBell {
    shared: Arc<Shared>,
    queue: u16,
}

impl Doorbell for FakeBell {
    fn ring(&self) {
        let kicks = &self.shared.kicks[usize::from(self.queue)];
        *kicks.count.lock().unwrap() += 1;
        kicks.rang.notify_all();
    }
}

impl DeviceTransport for FakeTransport {
    type Bell = FakeBell;

    fn doorbell(&mut self, queue: u16) -> Result<FakeBell, InitError> {
        Ok(FakeBell {
            shared: self.0.clone(),
            queue,
        })
    }

    fn set_queue_vector(&mut self, queue: u16, vector: u16) -> bool {
        self.0.vectors.lock().unwrap().push((Some(queue), vector));
        vector < 4
    }

    fn set_config_vector(&mut self, vector: u16) -> bool {
        self.0.vectors.lock().unwrap().push((None, vector));
        vector < 4
    }
}

impl Transport for FakeTransport {
    fn device_type(&self) -> DeviceType {
        self.0.device_type
    }

    fn read_device_features(&mut self) -> u64 {
        self.0.offered
    }

    fn write_driver_features(&mut self, driver_features: u64) {
        assert_eq!(driver_features & !self.0.offered, 0, "not offered");
        self.0.accepted.store(driver_features, SeqCst);
    }

    fn max_queue_size(&mut self, _queue: u16) -> u32 {
        self.0.queue_size.load(SeqCst)
    }

    fn notify(&mut self, _queue: u16) {
        unreachable!("the drivers use their doorbells")
    }

    fn get_status(&self) -> DeviceStatus {
        DeviceStatus::from_bits_retain(self.0.status.load(SeqCst))
    }

    fn set_status(&mut self, status: DeviceStatus) {
        let mut bits = status.bits();
        if bits == 0 {
            self.0.resets.fetch_add(1, SeqCst);
            *self.0.queues.lock().unwrap() = [None; 2];
        }
        if self.0.refuse_features.load(SeqCst) != 0 {
            bits &= !DeviceStatus::FEATURES_OK.bits();
        }
        self.0.status.store(bits, SeqCst);
    }

    fn set_guest_page_size(&mut self, guest_page_size: u32) {
        assert_eq!(guest_page_size, 4096);
    }

    fn requires_legacy_layout(&self) -> bool {
        self.0.legacy
    }

    fn queue_set(
        &mut self,
        queue: u16,
        size: u32,
        descriptors: PhysAddr,
        driver_area: PhysAddr,
        device_area: PhysAddr,
    ) {
        assert_eq!(descriptors % 4096, 0);
        assert_eq!(device_area % 4096, 0);
        assert_eq!(driver_area, descriptors + 16 * u64::from(size));
        self.0.queues.lock().unwrap()[usize::from(queue)] = Some(QueueSet {
            size: u16::try_from(size).unwrap(),
            descriptors,
            driver_area,
            device_area,
        });
    }

    fn queue_unset(&mut self, queue: u16) {
        self.0.queues.lock().unwrap()[usize::from(queue)] = None;
    }

    fn queue_used(&mut self, queue: u16) -> bool {
        self.0.queues.lock().unwrap()[usize::from(queue)].is_some()
    }

    fn ack_interrupt(&mut self) -> InterruptStatus {
        InterruptStatus::from_bits_retain(self.0.isr.swap(0, SeqCst))
    }

    fn read_config_generation(&self) -> u32 {
        let step = self.0.restless.load(SeqCst);
        self.0.generation.fetch_add(step, SeqCst)
    }

    fn read_config_space<V: FromBytes + IntoBytes>(&self, offset: usize) -> Result<V, Error> {
        let config = self.0.config.lock().unwrap();
        let bytes = config
            .get(offset..offset + size_of::<V>())
            .ok_or(Error::ConfigSpaceTooSmall)?;
        Ok(V::read_from_bytes(bytes).unwrap())
    }

    fn write_config_space<V: IntoBytes + Immutable>(
        &mut self,
        offset: usize,
        value: V,
    ) -> Result<(), Error> {
        let mut config = self.0.config.lock().unwrap();
        let bytes = config
            .get_mut(offset..offset + size_of::<V>())
            .ok_or(Error::ConfigSpaceTooSmall)?;
        bytes.copy_from_slice(value.as_bytes());
        Ok(())
    }
}
