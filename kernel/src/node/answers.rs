//! What the console answers by itself: tables, status, help.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;

use admin::config::Mac;
use admin::console::Output;
use admin::status::{self, ClientInfo, ClientPhase, DiskInfo, NicInfo, NodeInfo, Refusal, Usage};
use admin::verbs::{self, Verb};
use net::nbd::{Phase, SNAPSHOT_SUFFIX};
use replication::api::{Micros, Role, Status, Text};
use replication::wire;

use super::pump::{Node, Port};
use super::{Appliance, history, live, nic};
use crate::version::{VERSION, revision};
use crate::{crash, mem, time};

/// Text of an error or a short word of success; what does not fit is cut off.
macro_rules! text {
    ($($arg:tt)*) => {{
        let mut text = Text::new();
        // A full text is a cut text.
        let _ = write!(text, $($arg)*);
        text
    }};
}

/// The prompt: the node's name, as far as it is known.
pub fn prompt(appliance: &Appliance) -> String {
    let name = appliance
        .config
        .as_ref()
        .map_or("?", |config| config.node.name.as_str());
    format!("{name}> ")
}

/// Indices of the configured volumes; none if the configuration was refused.
pub fn volumes(appliance: &Appliance) -> Vec<u16> {
    let volumes = appliance.config.iter().flat_map(|config| &config.volumes);
    volumes.map(|volume| volume.index).collect()
}

/// The first lines on the console.
pub fn banner(appliance: &Appliance, out: &mut Vec<u8>) {
    let line = match &appliance.config {
        Ok(config) => format!(
            "\r\nPalisade {VERSION} ({}): node {}, resource {}. Type help.\r\n",
            revision(),
            config.node.name,
            config.resource.name
        ),
        Err(_) => format!(
            "\r\nPalisade {VERSION} ({}): not configured. Type help.\r\n",
            revision()
        ),
    };
    out.write(line.as_bytes());
}

/// What to say to a command that needs the data path when it does not run.
pub fn not_running() -> Text {
    text!("this node serves nothing; status says why")
}

/// What a command found, beyond the word that it ended with.
pub fn findings(appliance: &Appliance, verb: Verb, out: &mut dyn Write) {
    let Some(node) = &appliance.node else {
        return;
    };
    let engine = &node.core.engine;
    // Writing to a reply cannot fail.
    let _ = match verb {
        Verb::Connect { dry_run: true, .. } => {
            status::forecast(engine.forecasts(time::now_micros()), out)
        }
        Verb::Inspect { .. } => match engine.inspection() {
            Some((_, inspection)) => write!(out, "{inspection}"),
            None => Ok(()),
        },
        _ => Ok(()),
    };
}

/// Whether the machine may be stopped: not silently under clients.
pub fn may_go_down(appliance: &Appliance, force: bool) -> Result<Text, Text> {
    let Some(node) = &appliance.node else {
        return Ok(Text::new());
    };
    let clients = node.server.open_clients();
    if node.core.engine.role() == Role::Primary && clients > 0 && !force {
        return Err(text!(
            "{clients} clients are served here; move them first (secondary here, primary on the peer), or use --force"
        ));
    }
    Ok(Text::new())
}

/// Answers a verb that changes nothing on the node's disks, nor for its clients and its peer.
pub fn answer(appliance: &Appliance, verb: Verb, out: &mut dyn Write) -> Result<Text, Text> {
    let written = match verb {
        Verb::Help { about } => verbs::help(about, out),
        Verb::Status { json } => match (&appliance.node, &appliance.config) {
            (Some(node), _) => write_status(node, json, &mut Vec::new(), out),
            (None, Err(Some(errors))) => write_refusal(Refusal::Config(errors), json, out),
            (None, _) => write_refusal(Refusal::Devices(&appliance.problems), json, out),
        },
        Verb::Disks => status::disks(&disks(appliance), out),
        Verb::Net => write_net(appliance, out),
        Verb::Log { lines, level } => {
            let mut result = Ok(());
            history::last(usize::from(lines), level, |entry| {
                result = result.and_then(|()| writeln!(out, "{entry}"));
            });
            result
        }
        Verb::ConfigShow => match &appliance.config {
            Ok(config) => config.render(out),
            Err(Some(errors)) => write_refusal(Refusal::Config(errors), false, out),
            Err(None) => write_refusal(Refusal::Devices(&appliance.problems), false, out),
        },
        Verb::ConfigCheck => return live::check(appliance, out),
        Verb::SetShow => return live::list(appliance, out),
        Verb::CrashShow { json } => crash::last(|crash| match json {
            true => admin::crash::json(crash, out),
            false => admin::crash::text(crash, out),
        }),
        Verb::CrashClear => {
            crash::clear();
            Ok(())
        }
        Verb::Version => status::version(VERSION, revision(), u32::from(wire::VERSION), out),
        Verb::Fence => match &appliance.node {
            Some(node) => {
                let status = node.core.engine.status(time::now_micros());
                let dropped = node.management.as_ref().map(|end| end.dropped());
                status::fence(&status, dropped, out)
            }
            None => return Err(not_running()),
        },
        Verb::Unfence { episode, .. } => {
            return Err(text!(
                "this needs the word that it is meant: unfence {episode} --yes"
            ));
        }
        Verb::Explain => match &appliance.node {
            Some(node) => {
                let (engine, now) = (&node.core.engine, time::now_micros());
                let (last, dry_run) = (engine.explanations(now), engine.forecasts(now));
                status::explain(&search(node, now), last, dry_run, out)
                    .and_then(|()| status::explain_roles(&engine.status(now), now, out))
            }
            None => return Err(not_running()),
        },
        // Those are the console's or the engine's.
        Verb::CreateMd { .. }
        | Verb::Inspect { .. }
        | Verb::Attach { .. }
        | Verb::Detach { .. }
        | Verb::SuspendIo
        | Verb::ResumeIo
        | Verb::Primary { .. }
        | Verb::Secondary { .. }
        | Verb::Connect { .. }
        | Verb::Disconnect
        | Verb::NewCurrentUuid
        | Verb::Outdate
        | Verb::Rollback { .. }
        | Verb::DropSnapshot { .. }
        | Verb::Resize { .. }
        | Verb::Invalidate { .. }
        | Verb::InvalidateRemote { .. }
        | Verb::PauseSync { .. }
        | Verb::ResumeSync { .. }
        | Verb::Verify { .. }
        | Verb::VerifyAbort { .. }
        | Verb::Reboot { .. }
        | Verb::Poweroff { .. }
        | Verb::Events { .. }
        | Verb::Set { .. }
        | Verb::Adjust { .. }
        | Verb::Watch { .. }
        | Verb::DryRun { .. }
        | Verb::Clear => Ok(()),
    };
    written
        .map(|()| Text::new())
        .map_err(|_| text!("the answer could not be written"))
}

/// How long a search for the peer must last to be mentioned: nodes that boot together are no news.
const SEARCH_SHOWN: Micros = 3_000_000;

/// How the search for the peer goes, if that is worth a word.
fn search(node: &Node, now: Micros) -> Text {
    let search = node.core.link.search(now);
    let search = search.filter(|search| search.lasted >= SEARCH_SHOWN);
    search.map_or_else(Text::new, |search| text!("{search}"))
}

/// Makes a list of the clients; without allocating if there is room for all.
pub fn clients(node: &Node, list: &mut Vec<ClientInfo>) {
    let now = time::now_micros();
    let volume_of = |export: &str| {
        let volume = export.strip_suffix(SNAPSHOT_SUFFIX).unwrap_or(export);
        let digits = volume.strip_prefix("vol");
        digits.and_then(|digits| digits.parse().ok())
    };
    list.clear();
    list.extend(node.server.sessions().map(|session| ClientInfo {
        address: session.peer,
        phase: match session.phase {
            Phase::Free | Phase::Withheld => ClientPhase::Held,
            Phase::Handshake => ClientPhase::Handshake,
            Phase::Transmission => ClientPhase::Transmission,
        },
        volume: volume_of(session.export),
        in_flight: session.in_flight,
        read_bytes: session.read_bytes,
        written_bytes: session.written_bytes,
        connected_for: now.saturating_sub(session.since),
    }));
}

/// What `status` says beside the engine's part.
pub fn info<'a>(node: &Node, clients: &'a [ClientInfo]) -> NodeInfo<'a> {
    let pool = &node.core.pool;
    let pool = Usage {
        used: pool.total_bytes() - pool.free_bytes(),
        total: pool.total_bytes(),
    };
    NodeInfo {
        allocations: node.allocations(),
        ..node_info(pool, clients)
    }
}

/// The engine's part, with how the search for the peer goes.
pub fn status(node: &Node) -> Status {
    let now = time::now_micros();
    let mut status = node.core.engine.status(now);
    if status.reason.is_empty() {
        status.reason = search(node, now);
    }
    status
}

/// Writes `status`; `list` is room for the list of clients.
pub fn write_status(
    node: &Node,
    json: bool,
    list: &mut Vec<ClientInfo>,
    out: &mut dyn Write,
) -> core::fmt::Result {
    clients(node, list);
    let (status, info) = (status(node), info(node, list));
    if json {
        status::json(&status, &info, out)
    } else {
        status::text(&status, &info, out)
    }
}

fn write_refusal(refusal: Refusal<'_>, json: bool, out: &mut dyn Write) -> core::fmt::Result {
    if json {
        status::refused_json(refusal, &node_info(Usage::default(), &[]), out)
    } else {
        status::refused_text(refusal, out)
    }
}

fn node_info<'a>(pool: Usage, clients: &'a [ClientInfo]) -> NodeInfo<'a> {
    let memory = mem::stats();
    let heap_free = (memory.heap_bytes - memory.heap_used_bytes) as u64;
    NodeInfo {
        version: VERSION,
        uptime: time::now_micros(),
        memory: Usage {
            used: memory.total_bytes - memory.free_bytes - heap_free,
            total: memory.total_bytes,
        },
        pool,
        allocations: 0,
        crashed: crash::last(|crash| crash.is_some()),
        clients,
    }
}

fn disks(appliance: &Appliance) -> Vec<DiskInfo<'_>> {
    let mut list = Vec::new();
    let used = appliance.node.iter().flat_map(|node| &node.core.disks);
    list.extend(used.map(disk));
    list.extend(
        appliance
            .spare_disks
            .iter()
            .map(|spare| plain_disk(&spare.driver, &spare.problem)),
    );
    list
}

/// A disk that a volume uses.
pub fn disk(disk: &super::disks::Disk) -> DiskInfo<'_> {
    let counters = disk.counters();
    DiskInfo {
        volume: Some(disk.volume()),
        read_bytes: counters.read_bytes,
        written_bytes: counters.written_bytes,
        errors: counters.errors,
        ..plain_disk(disk.driver(), "")
    }
}

fn plain_disk<'a>(driver: &'a super::disks::Driver, problem: &'a str) -> DiskInfo<'a> {
    let info = driver.info();
    DiskInfo {
        serial: driver.serial(),
        volume: None,
        capacity: info.capacity_sectors.saturating_mul(512),
        block_size: info.block_bytes,
        read_only: info.read_only,
        flush: info.flush,
        discard: info.discard,
        write_zeroes: info.write_zeroes,
        read_bytes: 0,
        written_bytes: 0,
        errors: 0,
        problem,
    }
}

fn write_net(appliance: &Appliance, out: &mut dyn Write) -> core::fmt::Result {
    let ports: &[Port] = appliance.node.as_ref().map_or(&[], |node| &node.ports);
    let mut list: Vec<NicInfo<'_>> = Vec::new();
    for port in ports {
        let section = appliance
            .config
            .as_ref()
            .ok()
            .and_then(|config| config.nics.get(port.place));
        list.push(NicInfo {
            roles: section.map(|section| section.roles),
            address: section.map(|section| section.address),
            ..plain_nic(port.nic.driver(), port.index)
        });
    }
    list.extend(
        appliance
            .spare_nics
            .iter()
            .map(|spare| plain_nic(&spare.driver, spare.index)),
    );
    list.sort_by_key(|nic| nic.index);
    status::net(&list, out)
}

/// A card, whatever it is used for.
pub fn plain_nic(driver: &nic::Driver, index: u16) -> NicInfo<'_> {
    let stats = driver.stats();
    let capabilities = driver.capabilities();
    NicInfo {
        index,
        mac: Mac(driver.mac()),
        roles: None,
        address: None,
        link_up: driver.link_up(),
        mtu: capabilities.mtu,
        offloads: match (
            capabilities.checksum_tx || capabilities.checksum_rx,
            capabilities.tso4.is_some(),
        ) {
            (true, true) => "csum tso",
            (true, false) => "csum",
            (false, _) => "",
        },
        received_frames: stats.rx_frames,
        received_bytes: stats.rx_bytes,
        sent_frames: stats.tx_frames,
        sent_bytes: stats.tx_bytes,
        dropped_frames: stats.rx_runt + stats.rx_oversize + stats.rx_bad_checksum,
    }
}
