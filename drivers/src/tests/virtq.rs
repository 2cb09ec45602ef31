//! The ring itself: batches, wrapping, notification windows, shapes.

use alloc::{collections::VecDeque, vec, vec::Vec};
use proptest::prelude::*;
use std::sync::{Arc, atomic::Ordering::SeqCst};

use crate::{
    DeviceType, Transport,
    fake::{DeviceQueue, DmaBuf, FakeBell, FakeHal, FakeTransport, Shared},
    transport::{F_EVENT_IDX, F_VERSION_1, InitError},
    virtq::{AddError, QueueOptions, Segment, Virtq},
};

pub const OPTIONS: QueueOptions = QueueOptions {
    max_size: 256,
    event_idx: true,
    indirect: 0,
    strict_lengths: true,
    vector: None,
};

pub struct Rig {
    pub shared: Arc<Shared>,
    pub queue: Virtq<FakeHal, FakeBell>,
    pub device: DeviceQueue,
    pub buf: DmaBuf,
}

impl Rig {
    pub fn new(size: u32, options: QueueOptions) -> Self {
        let event = if options.event_idx { F_EVENT_IDX } else { 0 };
        let shared = Shared::new(DeviceType::Block, event | F_VERSION_1, vec![]);
        shared.queue_size.store(size, SeqCst);
        shared.accepted.store(shared.offered, SeqCst);
        let mut transport = FakeTransport(shared.clone());
        let queue = Virtq::new(&mut transport, 0, options).expect("sets up");
        transport.finish_init();
        let device = DeviceQueue::attach(&shared, 0);
        Self {
            shared,
            queue,
            device,
            buf: DmaBuf::new(4096),
        }
    }

    pub fn add(&mut self, segments: &[(u32, bool)], cookie: u32) -> Result<(), AddError> {
        let mut paddr = self.buf.paddr();
        let segments: Vec<_> = segments
            .iter()
            .map(|&(len, writable)| {
                let segment = Segment {
                    paddr,
                    len,
                    writable,
                };
                paddr += u64::from(len);
                segment
            })
            .collect();
        // SAFETY: the buffer lives as long as the queue, and the test does not touch it.
        unsafe { self.queue.add(&segments, cookie) }
    }
}

#[test]
fn a_batch_rings_once() {
    let mut rig = Rig::new(256, OPTIONS);
    for cookie in 0..100 {
        rig.add(&[(16, false)], cookie).expect("room");
    }
    assert!(rig.queue.kick());
    assert_eq!(rig.shared.kick_count(0), 1);
    assert!(!rig.queue.kick(), "nothing new");
    // The device is at work and asks for nothing.
    rig.add(&[(16, false)], 100).expect("room");
    assert!(!rig.queue.kick());
    assert_eq!(rig.shared.kick_count(0), 1);
}

#[test]
fn without_event_indices_the_flag_decides() {
    let mut rig = Rig::new(
        8,
        QueueOptions {
            event_idx: false,
            ..OPTIONS
        },
    );
    rig.add(&[(16, false)], 0).expect("room");
    assert!(rig.queue.kick());
    rig.device.set_no_notify();
    rig.add(&[(16, false)], 1).expect("room");
    assert!(!rig.queue.kick());
    assert!(!rig.queue.arm());
    let first = rig.device.pop().expect("published");
    rig.device.push(u32::from(first.id), 0);
    assert!(rig.device.should_interrupt());
    rig.queue.disarm();
    let second = rig.device.pop().expect("published");
    rig.device.push(u32::from(second.id), 0);
    assert!(!rig.device.should_interrupt());
    assert!(rig.queue.arm(), "completions are there already");
}

#[test]
fn arming_asks_for_exactly_the_next_completion() {
    let mut rig = Rig::new(16, OPTIONS);
    for cookie in 0..6 {
        rig.add(&[(16, false)], cookie).expect("room");
    }
    let finish = |rig: &mut Rig| {
        let chain = rig.device.pop().expect("published");
        rig.device.push(u32::from(chain.id), 0);
        rig.device.should_interrupt()
    };
    assert!(!finish(&mut rig), "disarmed at first");
    assert!(rig.queue.arm(), "one is there");
    assert!(rig.queue.pop_used().expect("fine").is_some());
    assert!(!rig.queue.arm());
    assert!(finish(&mut rig), "the awaited one");
    assert!(!finish(&mut rig), "only that one");
    rig.queue.disarm();
    assert!(!finish(&mut rig));
}

#[test]
fn size_is_a_power_of_two_within_both_limits() {
    for (device, wish, size) in [
        (256, 128, 128),
        (100, 256, 64),
        (1024, 1000, 512),
        (1, 9, 1),
    ] {
        let rig = Rig::new(
            device,
            QueueOptions {
                max_size: wish,
                ..OPTIONS
            },
        );
        assert_eq!(rig.queue.size(), size);
        assert_eq!(rig.device.size(), size);
    }
}

#[test]
fn what_cannot_be_set_up_is_named() {
    let shared = Shared::new(DeviceType::Block, 0, vec![]);
    let mut transport = FakeTransport(shared.clone());
    let mut new = |options| Virtq::<FakeHal, _>::new(&mut transport, 0, options).map(|_| ());
    shared.queue_size.store(0, SeqCst);
    assert_eq!(new(OPTIONS), Err(InitError::QueueMissing { queue: 0 }));
    shared.queue_size.store(8, SeqCst);
    let vector = Some(9);
    assert_eq!(
        new(QueueOptions { vector, ..OPTIONS }),
        Err(InitError::VectorRefused { queue: Some(0) })
    );
    assert_eq!(new(OPTIONS), Ok(()));
    assert_eq!(new(OPTIONS), Err(InitError::QueueInUse { queue: 0 }));
}

#[test]
fn chains_and_tables_describe_the_same() {
    for indirect in [0, 4] {
        let mut rig = Rig::new(
            8,
            QueueOptions {
                indirect,
                ..OPTIONS
            },
        );
        let shape = [(16, false), (512, true), (1, true)];
        rig.add(&shape, 7).expect("room");
        let chain = rig.device.pop().expect("published");
        let seen: Vec<_> = chain.segments.iter().map(|s| (s.len, s.writable)).collect();
        assert_eq!(seen, shape);
        assert_eq!(chain.segments[1].paddr, rig.buf.paddr() + 16);
        rig.device.push(u32::from(chain.id), 513);
        let used = rig.queue.pop_used().expect("fine").expect("there");
        assert_eq!((used.cookie, used.len), (7, 513));
        // Direct chains use three of eight slots, tables one.
        let fitting = (0..9).take_while(|&i| rig.add(&shape, i).is_ok()).count();
        assert_eq!(fitting, if indirect == 0 { 2 } else { 8 });
        assert_eq!(rig.add(&shape, 99), Err(AddError::Full));
        assert_eq!(rig.add(&[], 99), Err(AddError::BadShape));
        assert_eq!(rig.add(&[(1, false); 9], 99), Err(AddError::BadShape));
    }
}

/// A device that does what it is told: how many requests to finish, in which order, and where to
/// put its event.
#[derive(Debug, Clone)]
enum Step {
    Add { count: u8, segments: u8 },
    Kick,
    Serve { count: u8, lifo: bool },
    Want,
    Reap,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (1u8..40, 1u8..4).prop_map(|(count, segments)| Step::Add { count, segments }),
        Just(Step::Kick),
        (1u8..60, any::<bool>()).prop_map(|(count, lifo)| Step::Serve { count, lifo }),
        Just(Step::Want),
        Just(Step::Reap),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    /// Every request comes back once, whatever the order; and the doorbell rings exactly at kicks
    /// that publish the request the device waits for, also around the wrap of the indices.
    #[test]
    fn the_ring_agrees_with_a_model(
        steps in proptest::collection::vec(step(), 1..120),
        indirect in prop_oneof![Just(0u16), Just(3u16)],
        turns in 0u32..3,
    ) {
        let mut rig = Rig::new(64, QueueOptions { indirect, ..OPTIONS });
        // Indices start just below the wrap in two of three cases.
        for cookie in 0..turns * 32_760 {
            rig.add(&[(1, true)], cookie).expect("room");
            rig.queue.kick();
            let chain = rig.device.pop().expect("published");
            rig.device.push(u32::from(chain.id), 1);
            prop_assert_eq!(rig.queue.pop_used().expect("fine").expect("there").cookie, cookie);
        }
        let mut next = 0u32;
        let mut with_device: VecDeque<u32> = VecDeque::new();
        let mut finished: VecDeque<u32> = VecDeque::new();
        let mut event = 0u16;
        let mut published = turns * 32_760;
        let mut kicked = published;
        let mut taken = published;
        for step in steps {
            match step {
                Step::Add { count, segments } => {
                    for _ in 0..count {
                        let shape = [(8, false), (8, true), (8, true)];
                        match rig.add(&shape[..usize::from(segments)], next) {
                            Ok(()) => {
                                with_device.push_back(next);
                                next += 1;
                                published += 1;
                            }
                            Err(error) => {
                                prop_assert_eq!(error, AddError::Full);
                                break;
                            }
                        }
                    }
                }
                Step::Kick => {
                    let rang = rig.queue.kick();
                    // Entry by entry: was the one that the device waits for published?
                    let wanted = (kicked..published).any(|index| index as u16 == event);
                    prop_assert_eq!(rang, wanted);
                    kicked = published;
                }
                Step::Want => {
                    rig.device.want_kick();
                    event = taken as u16;
                }
                Step::Serve { count, lifo } => {
                    let mut chains = Vec::new();
                    for _ in 0..count {
                        let Some(chain) = rig.device.pop() else { break };
                        chains.push((chain, with_device.pop_front().expect("the model has it")));
                        taken += 1;
                    }
                    if lifo {
                        chains.reverse();
                    }
                    for (chain, cookie) in chains {
                        rig.device.push(u32::from(chain.id), 0);
                        finished.push_back(cookie);
                    }
                }
                Step::Reap => {
                    while let Some(used) = rig.queue.pop_used().expect("an honest device") {
                        prop_assert_eq!(Some(used.cookie), finished.pop_front());
                    }
                    prop_assert!(finished.is_empty());
                }
            }
            prop_assert_eq!(
                usize::from(rig.queue.outstanding()),
                with_device.len() + finished.len()
            );
        }
    }
}

#[test]
fn many_turns_of_the_used_ring() {
    let mut rig = Rig::new(
        256,
        QueueOptions {
            indirect: 3,
            ..OPTIONS
        },
    );
    let mut added = 0u32;
    let mut reaped = 0u32;
    let mut seed = 1u32;
    while reaped < 200_000 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        for _ in 0..(seed >> 24) {
            if rig
                .add(&[(16, false), (512, true), (1, true)], added)
                .is_err()
            {
                break;
            }
            added += 1;
        }
        rig.queue.kick();
        while let Some(chain) = rig.device.pop() {
            rig.device.push(u32::from(chain.id), chain.room() as u32);
        }
        while let Some(used) = rig.queue.pop_used().expect("an honest device") {
            assert_eq!((used.cookie, used.len), (reaped, 513));
            reaped += 1;
        }
    }
    assert_eq!(reaped, added);
}
