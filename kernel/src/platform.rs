//! What the appliance is told about the machine it runs on.

use boot::Booted;
use boot::acpi::{self, Acpi};
use boot::cmdline::CommandLine;
use bootloader_api::BootInfo;
use spin::Once;

use crate::{mem, power};

/// The machine, as far as boot and firmware describe it. Handed to [`crate::node::start`].
#[derive(Debug)]
pub struct Platform {
    /// The kernel command line.
    pub cmdline: CommandLine<'static>,
    /// The first boot module (`-initrd`): the configuration. `None` without one.
    pub config: Option<&'static [u8]>,
    /// RAM in the machine, in bytes.
    pub ram_bytes: u64,
    /// What the firmware's tables say.
    pub acpi: Acpi,
}

static BOOTED: Once<&'static Booted> = Once::new();
static PLATFORM: Once<Platform> = Once::new();

/// Keeps what has no place in [`BootInfo`].
pub fn set_booted(booted: &'static Booted) {
    BOOTED.call_once(|| booted);
}

/// The platform, once [`init`] has run.
pub fn get() -> Option<&'static Platform> {
    PLATFORM.get()
}

/// Gathers the facts. To be called after [`mem::init`], which maps the boot module.
pub fn init(info: &'static BootInfo) -> &'static Platform {
    let config = info.ramdisk_addr.into_option().and_then(|start| {
        let len = usize::try_from(info.ramdisk_len).ok()?;
        // SAFETY: the loader put the module there; `mem::init` mapped it read-only, and `boot` cut it out of the free
        // memory, so nobody writes to it.
        (len > 0).then(|| unsafe { core::slice::from_raw_parts(start as *const u8, len) })
    });
    let booted = BOOTED.get();
    if let Some(dropped) = booted
        .map(|booted| booted.memory_map_dropped)
        .filter(|dropped| *dropped > 0)
    {
        log::warn!("the loader's memory map is too long: {dropped} entries ignored");
    }
    if let Some(modules) = booted
        .map(|booted| booted.modules)
        .filter(|modules| *modules > 1)
    {
        log::warn!("{modules} boot modules passed; only the first is used");
    }
    let rsdp = info
        .rsdp_addr
        .into_option()
        .or_else(|| acpi::find_rsdp(&mem::Firmware));
    let mut acpi = rsdp.map_or_else(Acpi::default, |rsdp| acpi::read(rsdp, &mem::Firmware));
    power::prepare(&mut acpi);
    PLATFORM.call_once(|| Platform {
        cmdline: CommandLine::new(booted.map_or("", |booted| booted.cmdline.as_str())),
        config,
        ram_bytes: booted.map_or(0, |booted| booted.ram_bytes),
        acpi,
    })
}
