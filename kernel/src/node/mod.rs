//! The appliance: disks, network, engine and console put together.
//!
//! Two tasks share one [`Appliance`], borrowed for one synchronous step at a time: the data path ([`pump::Node::turn`])
//! and the console. Interrupts and each other wake them ([`signals`]). All protocol logic is in the logic crates;
//! here is only what moves their inputs and outputs.

mod answers;
mod budget;
mod console;
mod core;
mod devices;
mod disks;
mod follow;
mod history;
mod http;
mod live;
mod management;
mod nic;
mod payload;
mod policies;
mod polling;
mod pump;
mod signals;
mod start;

use ::core::cell::RefCell;
use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use admin::config::live::Changes;
use admin::config::{Config, ConfigErrors, OnPanic};
use embassy_executor::Spawner;
use embassy_time::{Duration, with_timeout};
use replication::api::Level;

use crate::panic::Policy;
use crate::platform::Platform;
use crate::{crash, irq, mem, panic, time};
use budget::Budget;
use polling::Polling;
use pump::Node;
use start::{Spare, Started};

/// Everything there is.
pub struct Appliance {
    /// The data path; `None` when the configuration or a device is amiss.
    node: Option<Node>,
    /// What is amiss with the devices, a sentence each.
    problems: Vec<String>,
    /// In effect; with the changes.
    config: Result<Config, Option<ConfigErrors>>,
    /// What an operator has changed of it since the start.
    changes: Changes,
    spare_disks: Vec<Spare<disks::Driver>>,
    spare_nics: Vec<Spare<nic::Driver>>,
}

/// Starts the appliance's tasks. Whatever is wrong with configuration or devices, the console comes up.
pub fn start(spawner: Spawner, platform: &'static Platform) {
    let budget = Budget::of(mem::stats().free_bytes);
    history::init(budget.log_bytes);
    crash::last(|crash| {
        if let Some(crash) = crash {
            log::warn!("this node has crashed; see 'crash show': {crash}");
        }
    });
    let appliance = bring_up(platform, &budget);
    for problem in &appliance.problems {
        log::error!("{problem}");
    }
    if appliance.node.is_none() {
        log::error!("this node serves nothing until that is corrected and it is rebooted");
    }
    let appliance: &'static RefCell<Appliance> = Box::leak(Box::new(RefCell::new(appliance)));
    // For counting instructions: what polling costs depends on how long the host takes.
    let polling = platform.cmdline.value("polling") != Some("off");
    match (data_path(appliance, polling), console::run(appliance)) {
        (Ok(data_path), Ok(console)) => {
            spawner.spawn(data_path);
            spawner.spawn(console);
        }
        _ => panic!("a task was started twice"),
    }
}

fn bring_up(platform: &Platform, budget: &Budget) -> Appliance {
    let devices = devices::discover(platform, budget.nic);
    let config = match platform.config {
        None => Err(None),
        Some(text) => Config::parse(text).map_err(Some),
    };
    let started = match &config {
        Ok(config) => {
            for_this_machine(config);
            start::start(config, devices, budget)
        }
        Err(Some(errors)) => {
            log::error!("the configuration is refused:");
            errors
                .to_string()
                .lines()
                .for_each(|line| log::error!("{line}"));
            Started::without_node(Vec::new(), devices)
        }
        Err(None) => {
            let problem = "there is no configuration: pass a TOML file as the boot module (QEMU: -initrd a.toml; GRUB: \
                           module2; on a boot medium: /palisade/node.toml); docs/CONFIG.md lists the keys";
            Started::without_node(Vec::from([String::from(problem)]), devices)
        }
    };
    Appliance {
        node: started.node,
        problems: started.problems,
        config,
        changes: Changes::default(),
        spare_disks: started.disks,
        spare_nics: started.nics,
    }
}

/// What concerns the machine and not the data path.
fn for_this_machine(config: &Config) {
    panic::set_policy(match config.node.panic {
        OnPanic::Reboot => Policy::Reboot,
        OnPanic::Halt => Policy::Halt,
        OnPanic::Exit => Policy::Exit,
    });
    history::set_level(config.node.log_level);
}

/// The task that moves blocks.
#[embassy_executor::task]
async fn data_path(appliance: &'static RefCell<Appliance>, polling_allowed: bool) {
    let mut polling = Polling::new(polling_allowed);
    loop {
        let pause = {
            let mut appliance = appliance.borrow_mut();
            let Some(node) = appliance.node.as_mut() else {
                return;
            };
            if signals::take_lines() && node.acknowledge_interrupts()
                || signals::take_configuration()
            {
                node.configuration_changed();
            }
            let again = node.turn();
            let now = time::now_micros();
            if node.was_active() {
                polling.active(now);
            }
            if again || poll(node, &polling) || node.arm() {
                0
            } else {
                node.deadline(now) - now
            }
        };
        if pause == 0 {
            // Lets interrupts be noted and the console run.
            yield_now().await;
        } else {
            let begun = time::now_micros();
            // Either way there is something to look at.
            let _ = with_timeout(Duration::from_micros(pause), signals::DATA_PATH.wait()).await;
            polling.woken(time::now_micros() - begun);
        }
    }
}

/// Looks for input as long as that pays, on the node that clients wait on. `true`: there is some, or an interrupt for somebody else.
fn poll(node: &Node, polling: &Polling) -> bool {
    while node.has_clients() && polling.goes_on(time::now_micros()) {
        if node.has_input() || irq::is_pending() {
            return true;
        }
    }
    false
}

/// Lets the other tasks run once.
async fn yield_now() {
    let mut yielded = false;
    ::core::future::poll_fn(|context| {
        if ::core::mem::replace(&mut yielded, true) {
            return ::core::task::Poll::Ready(());
        }
        context.waker().wake_by_ref();
        ::core::task::Poll::Pending
    })
    .await;
}

/// The appliance's level for one of the log facade's.
fn level_of(level: log::Level) -> Level {
    match level {
        log::Level::Error => Level::Error,
        log::Level::Warn => Level::Warn,
        log::Level::Info => Level::Info,
        log::Level::Debug | log::Level::Trace => Level::Debug,
    }
}
