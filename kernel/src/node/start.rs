//! From the configuration and the devices to a running [`Node`].

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use admin::config::devices::{FoundDisk, FoundNic, match_disks, match_nics};
use admin::config::{Config, Mac};
use admin::events::Journal;
use net::link::{PeerLink, PeerLinkConfig};
use net::nbd::{Export, Server, ServerConfig};
use net::stack::{GroupConfig, GroupId, Liveness, NicConfig, Stack};
use replication::api::{EngineConfig, MetadataPlace, Micros, SnapshotPolicy, VolumeConfig};
use replication::buf::{MAX_BUF, PAGE, Pool};
use replication::engine::Engine;
use replication::ondisk::Layout;

use super::budget::{self, Budget};
use super::core::Core;
use super::devices::Devices;
use super::disks::Disk;
use super::http::{self, Http};
use super::management::Management;
use super::nic::Nic;
use super::payload::Payload;
use super::pump::{Node, Port};
use super::{disks, nic, policies};
use crate::{mem, rng, time};

/// Sockets of the peer link: the link, one that replaces it, two that listen.
const LINK_SLOTS: usize = 4;
/// An acknowledgement on the peer link waits so long for a frame to travel with: about the time of a disk request.
const LINK_ACK_DELAY: Micros = 2_000;
/// Connections that may be on their way in at once.
const EXPORT_BACKLOG: usize = 4;
/// Connections to what is exported of snapshots, at once and on their way in. They count among all clients' connections.
const SNAPSHOT_CONNECTIONS: usize = 4;
const SNAPSHOT_BACKLOG: usize = 2;
/// An idle client is asked for a sign of life after the first, and dropped after the second.
const CLIENT_LIVENESS: Liveness = Liveness {
    probe: 15_000_000,
    timeout: 60_000_000,
};

/// A disk or a NIC that no volume and no role uses, and why.
pub struct Spare<D> {
    /// Its driver.
    pub driver: D,
    /// Place in the order of discovery.
    pub index: u16,
    /// Why it is not used; empty when nobody asked for it.
    pub problem: String,
}

/// What came of starting.
pub struct Started {
    /// The data path; `None` when it could not be started.
    pub node: Option<Node>,
    /// Why not, a line each.
    pub problems: Vec<String>,
    /// Disks left over.
    pub disks: Vec<Spare<disks::Driver>>,
    /// NICs left over.
    pub nics: Vec<Spare<nic::Driver>>,
}

impl Started {
    /// Nothing runs.
    pub fn without_node(problems: Vec<String>, devices: Devices) -> Self {
        Self {
            node: None,
            problems,
            disks: spares(devices.disks),
            nics: spares(devices.nics),
        }
    }
}

fn spares<D>(drivers: Vec<D>) -> Vec<Spare<D>> {
    let spare = |(index, driver)| Spare {
        driver,
        index: index as u16,
        problem: String::new(),
    };
    drivers.into_iter().enumerate().map(spare).collect()
}

/// Matches the configuration with the devices and, if everything needed is there, builds the node.
pub fn start(config: &Config, devices: Devices, budget: &Budget) -> Started {
    let mut problems = Vec::new();
    let (disks, mut spare_disks) = take_disks(config, devices.disks, &mut problems);
    let (nics, spare_nics) = take_nics(config, devices.nics, &mut problems);
    if !problems.is_empty() {
        for taken in disks {
            spare_disks.push(taken.spare);
            spare_disks.extend(taken.metadata);
        }
        let nics = nics
            .into_iter()
            .map(|taken| taken.spare)
            .chain(spare_nics)
            .collect();
        return Started {
            node: None,
            problems,
            disks: spare_disks,
            nics,
        };
    }
    match build(config, disks, nics, budget) {
        Ok(node) => Started {
            node: Some(node),
            problems,
            disks: spare_disks,
            nics: spare_nics,
        },
        Err(problem) => Started {
            node: None,
            problems: Vec::from([problem]),
            disks: spare_disks,
            nics: spare_nics,
        },
    }
}

struct TakenDisk {
    spare: Spare<disks::Driver>,
    /// The disk for the metadata, if that has one of its own.
    metadata: Option<Spare<disks::Driver>>,
    volume: usize,
    size: u64,
}

struct TakenNic {
    spare: Spare<nic::Driver>,
    place: usize,
    mtu: u16,
}

fn take_disks(
    config: &Config,
    drivers: Vec<disks::Driver>,
    problems: &mut Vec<String>,
) -> (Vec<TakenDisk>, Vec<Spare<disks::Driver>>) {
    let found: Vec<FoundDisk<'_>> = drivers
        .iter()
        .map(|disk| FoundDisk {
            serial: disk.serial(),
            capacity: disk.capacity_sectors().saturating_mul(512),
            read_only: disk.info().read_only,
            block_size: disk.info().block_bytes,
        })
        .collect();
    let room = |disk, reserve| {
        let layout = Layout::internal(disk, None).and_then(|layout| layout.with_reserve(reserve));
        layout.map_or(0, |layout| layout.volume_bytes)
    };
    let matches = match_disks(&config.volumes, &found, room);
    let mut slots: Vec<Option<Spare<disks::Driver>>> =
        spares(drivers).into_iter().map(Some).collect();
    let mut taken = Vec::new();
    for (volume, matched) in matches.into_iter().enumerate() {
        match matched {
            Ok(matched) => {
                let metadata = matched.metadata.and_then(|at| slots.get_mut(at)?.take());
                if let Some(spare) = slots.get_mut(matched.disk).and_then(Option::take) {
                    taken.push(TakenDisk {
                        spare,
                        metadata,
                        volume,
                        size: matched.size,
                    });
                }
            }
            Err(problem) => {
                for spare in slots
                    .iter_mut()
                    .flatten()
                    .filter(|spare| spare.driver.serial() == problem.serial)
                {
                    spare.problem = format!("{problem}");
                }
                problems.push(format!("{problem}"));
            }
        }
    }
    (taken, slots.into_iter().flatten().collect())
}

fn take_nics(
    config: &Config,
    drivers: Vec<nic::Driver>,
    problems: &mut Vec<String>,
) -> (Vec<TakenNic>, Vec<Spare<nic::Driver>>) {
    let found: Vec<FoundNic> = drivers
        .iter()
        .enumerate()
        .map(|(index, nic)| FoundNic {
            mac: Mac(nic.mac()),
            index: index as u16,
            link_up: nic.link_up(),
            mtu: Some(nic.capabilities().mtu),
        })
        .collect();
    let matches = match_nics(&config.nics, &found);
    let mut slots: Vec<Option<Spare<nic::Driver>>> =
        spares(drivers).into_iter().map(Some).collect();
    let mut taken = Vec::new();
    for (place, matched) in matches.into_iter().enumerate() {
        match matched {
            Ok(matched) => {
                for warning in &matched.warnings {
                    log::warn!("{warning}");
                }
                if let Some(spare) = slots.get_mut(matched.nic).and_then(Option::take) {
                    taken.push(TakenNic {
                        spare,
                        place,
                        mtu: matched.mtu,
                    });
                }
            }
            // A card for management alone that nobody is asked over is told of and no more.
            Err(problem) if !is_used(config, place) => log::error!("{problem}"),
            Err(problem) => problems.push(format!("{problem}")),
        }
    }
    (taken, slots.into_iter().flatten().collect())
}

/// Whether anything is done with the card at this place of the configuration.
fn is_used(config: &Config, place: usize) -> bool {
    let roles = config.nics[place].roles;
    let management = config.management.is_some() || config.http.is_some();
    roles.replication || roles.export || roles.management && management
}

fn build(
    config: &Config,
    disks: Vec<TakenDisk>,
    nics: Vec<TakenNic>,
    budget: &Budget,
) -> Result<Node, String> {
    let now = time::now_micros();
    let mut ports = build_ports(config, nics, budget)?;
    let link_place = config.replication_nic();
    let link_port = ports.iter().position(|port| port.place == link_place);
    let link_port = link_port.ok_or_else(|| String::from("no NIC has the role replication"))?;

    let managed = |port: &Port| config.nics[port.place].roles.management;
    let management = match (&config.management, ports.iter().position(managed)) {
        (None, _) => None,
        (Some(chosen), at) => Some(
            at.and_then(|at| Management::new(config, at, &mut ports[at].stack))
                .ok_or_else(|| format!("UDP port {} cannot be used for management", chosen.port))?,
        ),
    };

    let mut web = ports.iter().enumerate();
    let web = web.find_map(|(at, port)| Some((at, port.http?)));
    let web = web.map(|(at, group)| Http::new(config, at, group));

    let mut engine = EngineConfig {
        node: config.node.name.clone(),
        peer: config.peer.name.clone(),
        resource: config.resource.name.clone(),
        volumes: heapless::Vec::new(),
        timers: config.timers(),
        policies: policies::split_brain(config),
        resync: policies::resync(config),
        mirroring: policies::mirroring(config),
        fencing: policies::fencing(config),
        trouble: policies::trouble(config),
        seed: rng::seed64(),
        max_requests: budget.max_requests,
    };
    let (mut exports, mut snapshots) = (Vec::new(), Vec::new());
    let data_bytes = disks
        .iter()
        .map(|disk| disk_bytes(&disk.spare.driver))
        .sum();
    for disk in &disks {
        let (volume, info) = (&config.volumes[disk.volume], disk.spare.driver.info());
        let volume_config = VolumeConfig {
            index: volume.index,
            block_size: volume.block_size,
            disk_bytes: disk_bytes(&disk.spare.driver),
            metadata: match &disk.metadata {
                None => MetadataPlace::Internal,
                Some(other) => MetadataPlace::External {
                    disk_bytes: disk_bytes(&other.driver),
                },
            },
            size_limit: volume.size,
            can_discard: info.discard,
            can_write_zeroes: info.write_zeroes,
            resync_after: volume.resync_after,
            snapshot: policies::snapshot(volume),
            snapshot_reserve: volume.snapshot_reserve,
        };
        // The configuration has as many volumes as the engine takes, at most.
        let _ = engine.volumes.push(volume_config);
        let fast_zero = info.write_zeroes && info.write_zeroes_may_unmap;
        let description = volume.description.as_deref().unwrap_or("");
        let export = Export::new(
            &volume.export_name(),
            description,
            volume.index,
            disk.size,
            volume.block_size,
            fast_zero,
        );
        let refused = |error| format!("volume {}: {error}", volume.index);
        let export = export.map_err(refused)?;
        if policies::snapshot(volume) != SnapshotPolicy::Off {
            snapshots.push(Export::before_resync(&export).map_err(refused)?);
        }
        exports.push(export);
    }
    let maps = budget::snapshot_bytes(&engine.volumes);
    let engine = Engine::new(now, engine);

    let zeroes = mem::take_region(MAX_BUF as usize).ok_or_else(|| String::from("out of memory"))?;
    zeroes.fill(0);
    let zeroes = zeroes.as_ptr() as u64;
    let operations = 2 * usize::from(budget.max_requests) + 256;
    let mut used = Vec::new();
    for disk in disks {
        let volume = config.volumes[disk.volume].index;
        let data = disk.spare.driver;
        used.push(Disk::new(
            data,
            volume,
            disks::Role::Data,
            operations,
            zeroes,
        ));
        if let Some(other) = disk.metadata {
            let role = disks::Role::Metadata;
            used.push(Disk::new(other.driver, volume, role, operations, zeroes));
        }
    }
    let link = PeerLink::new(PeerLinkConfig {
        group: GroupId::new(0),
        local: SocketAddr::V4(config.replication_listen()),
        peer: SocketAddr::V4(config.peer.address),
        connect_interval: config.net.connect_interval,
        queue: operations + 256,
        security: policies::security(config)?,
        seed: core::array::from_fn(|_| rng::seed64()),
    });
    let journal = Journal::new(
        &engine.status(now),
        SocketAddr::V4(config.replication_listen()),
        SocketAddr::V4(config.peer.address),
        rng::seed64(),
    );
    let server_config = ServerConfig {
        slots: config.export.max_connections,
        withhold_limit: config.export.standby_hold,
        handshake_limit: config.export.handshake_timeout,
        ..ServerConfig::default()
    };

    // The pool takes what is left, but for its own bookkeeping and the server's, which come after it: their room is
    // taken beforehand and given back to the heap (untouched memory costs nothing). A compiler may leave an allocation
    // out that nobody looks at.
    let room = core::hint::black_box(Vec::<u8>::with_capacity(budget::bookkeeping_bytes(
        config.export.max_connections,
    )));
    let bitmaps = budget::reserve_bitmaps(data_bytes, maps)?;
    let region = budget::take_pool().ok_or_else(|| {
        format!(
            "{} MiB of memory are too little for this configuration; give the node more, or lower max-connections",
            mem::stats().total_bytes >> 20
        )
    })?;
    drop((room, bitmaps));
    mem::enlarge_translation_cache();
    let pool = Pool::new((region.len() / PAGE as usize) as u32);
    let mut server = Server::new(&server_config, exports, &pool);
    server.export_snapshots(snapshots);
    log::info!(
        "{} MiB payload pool, requests up to {} KiB, {} connections",
        region.len() >> 20,
        server.max_block_size() >> 10,
        server.slots()
    );
    let core = Core::new(
        now,
        engine,
        (pool, Payload::new(region)),
        used,
        link,
        journal,
        budget.max_requests,
    );
    let floating = config.export.floating_address.and_then(|address| {
        let there = |port: &Port| {
            config.nics[port.place].address.contains(address) && port.export.is_some()
        };
        Some((ports.iter().position(there)?, IpAddr::V4(address)))
    });
    Ok(Node::new(
        core, server, ports, link_port, floating, management, web,
    ))
}

fn disk_bytes(driver: &disks::Driver) -> u64 {
    driver.capacity_sectors().saturating_mul(512)
}

fn build_ports(config: &Config, nics: Vec<TakenNic>, budget: &Budget) -> Result<Vec<Port>, String> {
    let mut ports = Vec::new();
    for taken in nics {
        let section = &config.nics[taken.place];
        if !is_used(config, taken.place) {
            continue;
        }
        // The peer link's sockets come first: smoltcp serves them in this order.
        let mut groups: heapless::Vec<GroupConfig, 4> = heapless::Vec::new();
        if section.roles.replication {
            let _ = groups.push(GroupConfig {
                port: Some(config.replication.port),
                slots: LINK_SLOTS,
                backlog: 2,
                rx_bytes: budget.link_ring,
                tx_bytes: budget.link_ring,
                liveness: None,
                patient: false,
                // The peer never holds back small segments.
                ack_delay: Some(LINK_ACK_DELAY),
            });
        }
        let mut web = None;
        if let Some(config) = &config.http
            && section.roles.management
        {
            web = Some(GroupId::new(groups.len() as u8));
            let _ = groups.push(http::sockets(config.port));
        }
        let mut export = None;
        if section.roles.export {
            export = Some(GroupId::new(groups.len() as u8));
            let _ = groups.push(GroupConfig {
                port: Some(config.export.port),
                slots: usize::from(config.export.max_connections) + EXPORT_BACKLOG,
                backlog: EXPORT_BACKLOG,
                rx_bytes: budget.client_rx,
                tx_bytes: budget.client_tx,
                liveness: Some(CLIENT_LIVENESS),
                patient: false,
                // Until a client has an export open; then its session decides.
                ack_delay: None,
            });
        }
        let mut snapshots = None;
        if section.roles.export && config.has_snapshots() {
            snapshots = Some(GroupId::new(groups.len() as u8));
            let _ = groups.push(GroupConfig {
                port: Some(config.export.snapshot_port),
                slots: SNAPSHOT_CONNECTIONS + SNAPSHOT_BACKLOG,
                backlog: SNAPSHOT_BACKLOG,
                // Requests, and no data.
                rx_bytes: 16 << 10,
                tx_bytes: budget.client_tx,
                liveness: Some(CLIENT_LIVENESS),
                patient: false,
                ack_delay: None,
            });
        }
        let index = taken.spare.index;
        let mac = taken.spare.driver.mac();
        let link_up = taken.spare.driver.link_up();
        let mut nic = Nic::new(taken.spare.driver, taken.mtu);
        let mut addresses = heapless::Vec::new();
        let _ = addresses.push((IpAddr::V4(section.address.address), section.address.prefix));
        let nic_config = NicConfig {
            mac,
            addresses,
            gateway: section.gateway.map(IpAddr::V4),
            seed: rng::seed64(),
        };
        let stack = Stack::new(time::now_micros(), &mut nic, &nic_config, &groups);
        let mut stack = stack.map_err(|error| format!("nic {index}: {error}"))?;
        stack.set_link(link_up);
        let mut port = Port::new(nic, stack, taken.place, index);
        (port.export, port.snapshots, port.http) = (export, snapshots, web);
        ports.push(port);
    }
    Ok(ports)
}
