//! The effective configuration as TOML, for `config show`.

use super::policy::{Words, word};
use super::{Config, Metadata, Nic, NicSelector, OnPanic, Volume};
use crate::units::{ExactDuration, ExactSize};
use core::fmt;

/// Width at which the comments on origin stand.
const COMMENT_COLUMN: usize = 36;

/// Writes `config` as TOML that [`Config::parse`] reads back to the same values, with every
/// default filled in and marked.
pub(super) fn render(config: &Config, out: &mut dyn fmt::Write) -> fmt::Result {
    let mut page = Page { config, out };
    page.header("[node]")?;
    page.key("node", "name", format_args!("\"{}\"", config.node.name))?;
    let panic = match config.node.panic {
        OnPanic::Reboot => "reboot",
        OnPanic::Halt => "halt",
        OnPanic::Exit => "exit",
    };
    page.key("node", "panic", format_args!("\"{panic}\""))?;
    let level = crate::log::level_name(config.node.log_level);
    page.key("node", "log-level", format_args!("\"{level}\""))?;

    page.resource()?;

    let peer = &config.peer;
    page.header("\n[peer]")?;
    page.key("peer", "name", format_args!("\"{}\"", peer.name))?;
    page.key("peer", "address", format_args!("\"{}\"", peer.address))?;
    match peer.secret {
        // Not its value: a console is read by many.
        Some(_) => page.key("peer", "secret", format_args!("\"(set)\""))?,
        None => page.absent("secret: none")?,
    }
    page.policy("peer", "integrity", &peer.integrity)?;

    page.header("\n[net]")?;
    page.duration("net", "timeout", config.net.timeout)?;
    page.duration("net", "ping-interval", config.net.ping_interval)?;
    page.duration("net", "connect-interval", config.net.connect_interval)?;

    page.management()?;
    page.http()?;
    page.replication()?;
    page.resync()?;

    page.header("\n[disk]")?;
    page.duration("disk", "disk-timeout", config.disk.timeout.unwrap_or(0))?;
    page.policy("disk", "on-io-error", &config.disk.on_io_error)?;

    let export = &config.export;
    page.header("\n[export]")?;
    page.key("export", "port", format_args!("{}", export.port))?;
    let port = format_args!("{}", export.snapshot_port);
    page.key("export", "snapshot-port", port)?;
    page.key(
        "export",
        "max-connections",
        format_args!("{}", export.max_connections),
    )?;
    page.duration("export", "standby-hold", export.standby_hold)?;
    page.duration("export", "handshake-timeout", export.handshake_timeout)?;
    match export.floating_address {
        Some(address) => page.key("export", "floating-address", format_args!("\"{address}\""))?,
        None => page.absent("floating-address: none")?,
    }

    config.nics.iter().try_for_each(|nic| page.nic(nic))?;
    config
        .volumes
        .iter()
        .try_for_each(|volume| page.volume(volume))
}

struct Page<'a> {
    config: &'a Config,
    out: &'a mut dyn fmt::Write,
}

impl Page<'_> {
    fn header(&mut self, header: &str) -> fmt::Result {
        writeln!(self.out, "{header}")
    }

    fn key(&mut self, section: &str, key: &str, value: fmt::Arguments<'_>) -> fmt::Result {
        let mut full: heapless::String<48> = heapless::String::new();
        fmt::Write::write_fmt(&mut full, format_args!("{section}.{key}"))?;
        if !self.config.is_default(&full) {
            return writeln!(self.out, "{key} = {value}");
        }
        let mut line: heapless::String<96> = heapless::String::new();
        fmt::Write::write_fmt(&mut line, format_args!("{key} = {value}"))?;
        writeln!(self.out, "{line:COMMENT_COLUMN$} # default")
    }

    fn duration(&mut self, section: &str, key: &str, value: u64) -> fmt::Result {
        self.key(section, key, format_args!("\"{}\"", ExactDuration(value)))
    }

    /// What is not there because it was left out, in place of a key.
    fn absent(&mut self, what: &str) -> fmt::Result {
        writeln!(self.out, "{:COMMENT_COLUMN$} # {what}", "")
    }

    fn policy<T: Words + PartialEq>(&mut self, section: &str, key: &str, value: &T) -> fmt::Result {
        self.key(section, key, format_args!("\"{}\"", word(value)))
    }

    fn size(&mut self, section: &str, key: &str, value: u64) -> fmt::Result {
        self.key(section, key, format_args!("\"{}\"", ExactSize(value)))
    }

    fn flag(&mut self, section: &str, key: &str, value: bool) -> fmt::Result {
        self.key(section, key, format_args!("{value}"))
    }

    fn resource(&mut self) -> fmt::Result {
        const SECTION: &str = "resource";
        let resource = &self.config.resource;
        let split = &resource.split_brain;
        self.header("\n[resource]")?;
        self.key(SECTION, "name", format_args!("\"{}\"", resource.name))?;
        self.policy(SECTION, "protocol", &resource.protocol)?;
        self.policy(SECTION, "fencing", &resource.fencing)?;
        self.duration(SECTION, "fence-timeout", resource.fence_timeout)?;
        self.policy(SECTION, "on-fence-timeout", &resource.on_fence_timeout)?;
        self.flag(SECTION, "auto-promote", resource.auto_promote)?;
        self.key(
            SECTION,
            "after-sb-0pri",
            format_args!("\"{}\"", split.after_sb_0pri),
        )?;
        self.policy(SECTION, "after-sb-1pri", &split.after_sb_1pri)?;
        self.policy(SECTION, "after-sb-2pri", &split.after_sb_2pri)?;
        self.flag(SECTION, "always-asbp", split.always_asbp)?;
        self.policy(SECTION, "rr-conflict", &split.rr_conflict)?;
        self.policy(SECTION, "on-no-data", &resource.on_no_data)
    }

    fn management(&mut self) -> fmt::Result {
        const SECTION: &str = "management";
        let Some(management) = &self.config.management else {
            return Ok(());
        };
        self.header("\n[management]")?;
        self.key(SECTION, "port", format_args!("{}", management.port))?;
        for (key, address) in [("peer", management.peer), ("arbiter", management.arbiter)] {
            match address {
                Some(address) => self.key(SECTION, key, format_args!("\"{address}\""))?,
                None => self.absent(match key {
                    "peer" => "peer: it is not asked",
                    _ => "arbiter: none",
                })?,
            }
        }
        self.flag(SECTION, "notify", management.notify)?;
        self.duration(SECTION, "notify-timeout", management.notify_timeout)?;
        if self.config.peer.secret.as_ref() == Some(&management.secret) {
            return self.absent("secret: that of [peer]");
        }
        self.key(SECTION, "secret", format_args!("\"(set)\""))
    }

    fn http(&mut self) -> fmt::Result {
        const SECTION: &str = "http";
        let Some(http) = &self.config.http else {
            return Ok(());
        };
        self.header("\n[http]")?;
        self.key(SECTION, "port", format_args!("{}", http.port))?;
        match http.token {
            // As a secret.
            Some(_) => self.key(SECTION, "token", format_args!("\"(set)\"")),
            None => self.absent("token: none, nobody can give commands"),
        }
    }

    fn replication(&mut self) -> fmt::Result {
        const SECTION: &str = "replication";
        let replication = self.config.replication;
        self.header("\n[replication]")?;
        self.key(SECTION, "port", format_args!("{}", replication.port))?;
        self.policy(SECTION, "on-congestion", &replication.on_congestion)?;
        self.size(SECTION, "congestion-fill", replication.congestion_fill)?;
        match replication.congestion_extents {
            Some(extents) => self.key(SECTION, "congestion-extents", format_args!("{extents}")),
            None => self.absent("congestion-extents: they are not counted"),
        }
    }

    fn resync(&mut self) -> fmt::Result {
        const SECTION: &str = "resync";
        let resync = self.config.resync;
        self.header("\n[resync]")?;
        self.size(SECTION, "c-min-rate", resync.c_min_rate)?;
        match resync.c_max_rate {
            Some(rate) => self.size(SECTION, "c-max-rate", rate)?,
            None => self.absent("c-max-rate: as fast as the pair can")?,
        }
        self.flag(SECTION, "csums", resync.csums)?;
        self.flag(SECTION, "rs-discard", resync.rs_discard)?;
        self.key(
            SECTION,
            "max-parallel-resyncs",
            format_args!("{}", resync.max_parallel),
        )
    }

    fn nic(&mut self, nic: &Nic) -> fmt::Result {
        self.header("\n[[nic]]")?;
        let roles = [
            ("replication", nic.roles.replication),
            ("export", nic.roles.export),
            ("management", nic.roles.management),
        ];
        self.out.write_str("roles = [")?;
        for (place, (role, _)) in roles.iter().filter(|(_, has)| *has).enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(self.out, "{comma}\"{role}\"")?;
        }
        writeln!(self.out, "]")?;
        match nic.selector {
            NicSelector::Mac(mac) => writeln!(self.out, "mac = \"{mac}\"")?,
            NicSelector::Index(index) => writeln!(self.out, "index = {index}")?,
        }
        writeln!(self.out, "address = \"{}\"", nic.address)?;
        if let Some(gateway) = nic.gateway {
            writeln!(self.out, "gateway = \"{gateway}\"")?;
        }
        match nic.mtu {
            Some(mtu) => writeln!(self.out, "mtu = {mtu}"),
            None => self.absent("mtu: what the card offers"),
        }
    }

    fn volume(&mut self, volume: &Volume) -> fmt::Result {
        self.header("\n[[volume]]")?;
        writeln!(self.out, "index = {}", volume.index)?;
        self.out.write_str("serial = ")?;
        quoted(self.out, &volume.serial)?;
        self.out.write_char('\n')?;
        match volume.size {
            Some(size) => writeln!(self.out, "size = \"{}\"", ExactSize(size))?,
            None => self.absent("size: the whole disk")?,
        }
        let mut section: heapless::String<16> = heapless::String::new();
        fmt::Write::write_fmt(&mut section, format_args!("volume {}", volume.index))?;
        self.key(
            &section,
            "block-size",
            format_args!("{}", volume.block_size),
        )?;
        match &volume.metadata {
            Metadata::Internal => self.key(&section, "metadata", format_args!("\"internal\""))?,
            Metadata::External(serial) => {
                self.out.write_str("metadata = { disk = ")?;
                quoted(self.out, serial)?;
                self.out.write_str(" }\n")?;
            }
        }
        if let Some(after) = volume.resync_after {
            writeln!(self.out, "resync-after = \"vol{after}\"")?;
        }
        self.policy(&section, "snapshot", &volume.snapshot)?;
        if volume.snapshot_reserve > 0 {
            let reserve = ExactSize(volume.snapshot_reserve);
            writeln!(self.out, "snapshot-reserve = \"{reserve}\"")?;
        }
        if let Some(description) = &volume.description {
            self.out.write_str("description = ")?;
            quoted(self.out, description)?;
            self.out.write_char('\n')?;
        }
        Ok(())
    }
}

/// Printable ASCII as a TOML basic string.
fn quoted(out: &mut dyn fmt::Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.write_char('\\')?;
        }
        out.write_char(c)?;
    }
    out.write_char('"')
}
