//! The effective configuration as TOML, for `config show`.

use super::{Config, Nic, NicSelector, OnPanic, Volume};
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

    page.header("\n[resource]")?;
    page.key(
        "resource",
        "name",
        format_args!("\"{}\"", config.resource.name),
    )?;
    page.key("resource", "protocol", format_args!("\"C\""))?;
    page.key("resource", "fencing", format_args!("\"dont-care\""))?;

    page.header("\n[peer]")?;
    page.key("peer", "name", format_args!("\"{}\"", config.peer.name))?;
    page.key(
        "peer",
        "address",
        format_args!("\"{}\"", config.peer.address),
    )?;

    page.header("\n[net]")?;
    page.duration("net", "timeout", config.net.timeout)?;
    page.duration("net", "ping-interval", config.net.ping_interval)?;
    page.duration("net", "connect-interval", config.net.connect_interval)?;

    page.header("\n[replication]")?;
    page.key(
        "replication",
        "port",
        format_args!("{}", config.replication_port),
    )?;

    let export = &config.export;
    page.header("\n[export]")?;
    page.key("export", "port", format_args!("{}", export.port))?;
    page.key(
        "export",
        "max-connections",
        format_args!("{}", export.max_connections),
    )?;
    page.duration("export", "standby-hold", export.standby_hold)?;
    page.duration("export", "handshake-timeout", export.handshake_timeout)?;

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
            None => writeln!(
                self.out,
                "{:COMMENT_COLUMN$} # mtu: what the card offers",
                ""
            ),
        }
    }

    fn volume(&mut self, volume: &Volume) -> fmt::Result {
        self.header("\n[[volume]]")?;
        writeln!(self.out, "index = {}", volume.index)?;
        self.out.write_str("serial = ")?;
        quoted(self.out, &volume.serial)?;
        match volume.size {
            Some(size) => writeln!(self.out, "size = \"{}\"", ExactSize(size))?,
            None => writeln!(self.out, "{:COMMENT_COLUMN$} # size: the whole disk", "")?,
        }
        let mut section: heapless::String<16> = heapless::String::new();
        fmt::Write::write_fmt(&mut section, format_args!("volume {}", volume.index))?;
        self.key(
            &section,
            "block-size",
            format_args!("{}", volume.block_size),
        )?;
        if let Some(description) = &volume.description {
            self.out.write_str("description = ")?;
            quoted(self.out, description)?;
        }
        Ok(())
    }
}

/// Printable ASCII as a TOML basic string, and the end of the line.
fn quoted(out: &mut dyn fmt::Write, text: &str) -> fmt::Result {
    out.write_char('"')?;
    for c in text.chars() {
        if matches!(c, '"' | '\\') {
            out.write_char('\\')?;
        }
        out.write_char(c)?;
    }
    out.write_str("\"\n")
}
