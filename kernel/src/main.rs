//! The Palisade unikernel: what lies between the machine and the logic crates.
//!
//! Layers, each of which may use only those above it in this list:
//!
//! | module | what it owns |
//! |---|---|
//! | [`arch`] | ports, COM1 for emergencies, segments, vectors, APICs, firmware tables |
//! | [`mem`], [`dma`] | page tables, heap, contiguous regions, the virtio `Hal` |
//! | [`irq`], [`time`], [`rng`] | interrupt vectors, clock and timer, entropy |
//! | [`exec`] | the executor's loop and idling |
//! | [`logging`], [`panic`], [`crash`], [`power`], [`version`] | what the operator sees, and how it ends |
//! | [`node`] | the appliance itself: drivers, network, engine, console |
//!
//! One processor runs, interrupts do nothing but set a bit (see [`irq`]), and tasks are cooperative. So no code here
//! runs concurrently with other code, and the locks exist to satisfy the type system at the price of a few cycles.

#![no_std]
#![no_main]

extern crate alloc;

mod arch;
mod crash;
mod dma;
mod exec;
mod irq;
mod logging;
mod mem;
mod node;
mod panic;
mod platform;
mod power;
mod rng;
mod selftest;
mod time;
mod version;

use bootloader_api::BootInfo;

boot::entry!(boot_entry);
boot::mem_functions!(memcpy, memmove, memset, memcmp, bcmp);

/// Called by the trampoline with the physical address of the loader's tables, and what tells which loader's they are.
extern "C" fn boot_entry(tables: u64, magic: u32) -> ! {
    time::mark_entry();
    match boot::start(tables, magic, &mem::layout::image()) {
        Ok((info, booted)) => {
            crash::init(booted.crash.as_ref());
            platform::set_booted(booted);
            kernel_main(info)
        }
        Err(error) => {
            arch::serial::print(format_args!("palisade: cannot boot: {error}\r\n"));
            power::exit_qemu(power::ExitCode::BootFailed);
            power::halt()
        }
    }
}

/// Brings the machine up and runs the appliance.
fn kernel_main(info: &'static mut BootInfo) -> ! {
    logging::init();
    arch::init();
    mem::init(info, crash::range());
    let platform = platform::init(info);
    irq::init(&platform.acpi);
    time::init();
    rng::init();
    panic::set_policy_from(platform.cmdline);
    log::info!(
        "version {} ({}) booted: {} MiB RAM, {} MiB free, clock {} MHz ({}), entry to here {} us",
        version::VERSION,
        version::revision(),
        platform.ram_bytes.div_ceil(1 << 20),
        mem::stats().free_bytes >> 20,
        time::frequency_hz() / 1_000_000,
        time::source(),
        time::now_micros(),
    );
    let executor = exec::init();
    node::start(executor.spawner(), platform);
    selftest::run(platform.cmdline);
    exec::run(executor)
}
