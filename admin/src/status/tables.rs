//! `disks` and `net`.

use super::{DiskInfo, NicInfo};
use crate::text::printable;
use crate::units::Size;
use core::fmt::{self, Write};

/// Writes the answer to `disks`.
///
/// # Errors
/// Those of `out`.
pub fn disks(disks: &[DiskInfo<'_>], out: &mut dyn Write) -> fmt::Result {
    if disks.is_empty() {
        return writeln!(out, "no disk was found (virtio-blk)");
    }
    writeln!(
        out,
        "{:<20} {:<6} {:>10} {:>5}  {:<9} {:>10} {:>10}",
        "serial", "volume", "size", "block", "features", "read", "written"
    )?;
    for disk in disks {
        let mut serial: heapless::String<20> = heapless::String::new();
        for c in printable(disk.serial) {
            crate::text::push_fitting(&mut serial, c.encode_utf8(&mut [0; 4]));
        }
        if serial.is_empty() {
            crate::text::push_fitting(&mut serial, "(none)");
        }
        let mut volume: heapless::String<8> = heapless::String::new();
        match disk.volume {
            // Cannot fail: a u16 has five digits at most.
            Some(index) => write!(volume, "vol{index}")?,
            None => volume.write_char('-')?,
        }
        // One letter each, as the header of the manual explains them.
        let mut features: heapless::String<9> = heapless::String::new();
        for (has, letters) in [
            (disk.read_only, "ro "),
            (disk.flush, "F"),
            (disk.discard, "D"),
            (disk.write_zeroes, "Z"),
        ] {
            crate::text::push_fitting(&mut features, if has { letters } else { "" });
        }
        writeln!(
            out,
            "{serial:<20} {volume:<6} {:>10} {:>5}  {features:<9} {:>10} {:>10}",
            Size(disk.capacity),
            disk.block_size,
            Size(disk.read_bytes),
            Size(disk.written_bytes)
        )?;
        if disk.errors > 0 {
            writeln!(out, "  ! {} requests failed", disk.errors)?;
        }
        if !disk.problem.is_empty() {
            writeln!(out, "  ! {}", disk.problem)?;
        }
    }
    writeln!(
        out,
        "features: F flush, D discard, Z write zeroes, ro read-only"
    )
}

/// Writes the answer to `net`.
///
/// # Errors
/// Those of `out`.
pub fn net(nics: &[NicInfo<'_>], out: &mut dyn Write) -> fmt::Result {
    if nics.is_empty() {
        return writeln!(out, "no network card was found (virtio-net)");
    }
    for nic in nics {
        let link = if nic.link_up { "up" } else { "DOWN" };
        write!(
            out,
            "{}  {}  link {link}  mtu {}",
            nic.index, nic.mac, nic.mtu
        )?;
        match nic.address {
            Some(address) => write!(out, "  {address}")?,
            None => write!(out, "  no address")?,
        }
        if !nic.offloads.is_empty() {
            write!(out, "  {}", nic.offloads)?;
        }
        write!(out, "\n   ")?;
        match nic.roles {
            None => write!(out, "not configured")?,
            Some(roles) => {
                let names = [
                    (roles.replication, "replication"),
                    (roles.export, "export"),
                    (roles.management, "management"),
                ];
                for (place, (_, name)) in names.iter().filter(|(has, _)| *has).enumerate() {
                    let plus = if place == 0 { "" } else { "+" };
                    write!(out, "{plus}{name}")?;
                }
            }
        }
        writeln!(
            out,
            "\n   received {} frames, {}; sent {} frames, {}; dropped {}",
            nic.received_frames,
            Size(nic.received_bytes),
            nic.sent_frames,
            Size(nic.sent_bytes),
            nic.dropped_frames
        )?;
    }
    Ok(())
}
