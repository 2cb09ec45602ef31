//! Matches what the configuration names with the disks and cards that were found.
//!
//! Pure: the kernel tells what its drivers found and reports each mistake; a volume without a
//! usable disk is served through the peer or not at all, a card that is missing leaves its role
//! idle. Nothing here stops the node.

use super::{NicSelector, Volume};
use crate::units::{ExactSize, Size};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A disk as its driver found it.
#[derive(Debug, Clone, Copy)]
pub struct FoundDisk<'a> {
    /// Serial number; empty if the device has none.
    pub serial: &'a str,
    /// Size in bytes.
    pub capacity: u64,
    /// Whether the device refuses writes (VIRTIO_BLK_F_RO).
    pub read_only: bool,
    /// Logical block size in bytes.
    pub block_size: u32,
}

/// A network card as its driver found it.
#[derive(Debug, Clone, Copy)]
pub struct FoundNic {
    /// Its address.
    pub mac: super::Mac,
    /// Its place in the order of discovery, from 0.
    pub index: u16,
    /// Whether the link is up.
    pub link_up: bool,
    /// Largest IP packet it carries, in bytes, if it says (VIRTIO_NET_F_MTU).
    pub mtu: Option<u16>,
}

/// The disk of a volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskMatch {
    /// Its place in the list of found disks.
    pub disk: usize,
    /// Bytes of it that the volume uses: the volume's size.
    pub size: u64,
}

/// Why a volume has no usable disk. The `Display` form says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DiskProblem {
    /// Index of the volume.
    pub volume: u16,
    /// The serial that the configuration names.
    pub serial: heapless::String<{ super::SERIAL_BYTES_MAX }>,
    /// What is wrong.
    pub kind: DiskProblemKind,
}

/// The ways in which a disk can be missing or unfit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DiskProblemKind {
    /// No disk has the serial.
    Missing {
        /// The serials that were found, each quoted; says so if there are none.
        found: String,
    },
    /// Several disks have the serial.
    Duplicate {
        /// How many.
        count: usize,
    },
    /// The disk refuses writes.
    ReadOnly,
    /// The disk's blocks are larger than the volume's.
    BlockTooLarge {
        /// The disk's, in bytes.
        disk: u32,
        /// The volume's, in bytes.
        volume: u32,
    },
    /// The disk is smaller than the configured size.
    TooSmall {
        /// The disk's bytes.
        capacity: u64,
        /// The configured bytes.
        size: u64,
    },
    /// The whole disk is to be used, and it is no multiple of the block size.
    Uneven {
        /// The disk's bytes.
        capacity: u64,
        /// The volume's block size in bytes.
        block_size: u32,
    },
}

impl fmt::Display for DiskProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (volume, serial) = (self.volume, &self.serial);
        write!(f, "volume {volume} has no usable disk: ")?;
        match &self.kind {
            DiskProblemKind::Missing { found } => write!(
                f,
                "none has the serial \"{serial}\" (found: {found}); attach it or correct \
                 the serial in [[volume]]"
            ),
            DiskProblemKind::Duplicate { count } => write!(
                f,
                "{count} disks have the serial \"{serial}\"; give each a serial of its own"
            ),
            DiskProblemKind::ReadOnly => write!(
                f,
                "\"{serial}\" is read-only; attach it writable (QEMU: readonly=off)"
            ),
            DiskProblemKind::BlockTooLarge { disk, volume } => write!(
                f,
                "\"{serial}\" has blocks of {disk} bytes; set block-size = {disk} instead of \
                 {volume} on both nodes, or attach a disk with smaller blocks"
            ),
            DiskProblemKind::TooSmall { capacity, size } => write!(
                f,
                "\"{serial}\" has {} ({capacity} bytes) but size says {} ({size} bytes); \
                 enlarge the disk or lower size on both nodes",
                Size(*capacity),
                Size(*size)
            ),
            DiskProblemKind::Uneven {
                capacity,
                block_size,
            } => write!(
                f,
                "\"{serial}\" has {capacity} bytes, no multiple of block-size {block_size}; \
                 set size = \"{}\" on both nodes",
                ExactSize(capacity - capacity % u64::from(*block_size))
            ),
        }
    }
}

/// Finds the disk of every volume: one result each, in the order of `volumes`.
pub fn match_disks(
    volumes: &[Volume],
    found: &[FoundDisk<'_>],
) -> Vec<Result<DiskMatch, DiskProblem>> {
    let one = |volume: &Volume| {
        match_disk(volume, found).map_err(|kind| DiskProblem {
            volume: volume.index,
            serial: volume.serial.clone(),
            kind,
        })
    };
    volumes.iter().map(one).collect()
}

fn match_disk(volume: &Volume, found: &[FoundDisk<'_>]) -> Result<DiskMatch, DiskProblemKind> {
    let mut candidates = found
        .iter()
        .enumerate()
        .filter(|(_, disk)| disk.serial == volume.serial.as_str());
    let Some((place, disk)) = candidates.next() else {
        let found = serials(found);
        return Err(DiskProblemKind::Missing { found });
    };
    let others = candidates.count();
    if others > 0 {
        return Err(DiskProblemKind::Duplicate { count: others + 1 });
    }
    if disk.read_only {
        return Err(DiskProblemKind::ReadOnly);
    }
    if disk.block_size > volume.block_size {
        return Err(DiskProblemKind::BlockTooLarge {
            disk: disk.block_size,
            volume: volume.block_size,
        });
    }
    let capacity = disk.capacity;
    let size = volume.size.unwrap_or(capacity);
    if capacity < size.max(u64::from(volume.block_size)) {
        return Err(DiskProblemKind::TooSmall {
            capacity,
            size: size.max(u64::from(volume.block_size)),
        });
    }
    if !size.is_multiple_of(u64::from(volume.block_size)) {
        return Err(DiskProblemKind::Uneven {
            capacity,
            block_size: volume.block_size,
        });
    }
    Ok(DiskMatch { disk: place, size })
}

/// The serials there are, for a message.
fn serials(found: &[FoundDisk<'_>]) -> String {
    let mut list = String::new();
    for disk in found {
        if !list.is_empty() {
            list.push_str(", ");
        }
        if disk.serial.is_empty() {
            list.push_str("one without a serial");
            continue;
        }
        list.push('"');
        list.extend(crate::text::printable(disk.serial));
        list.push('"');
    }
    if list.is_empty() {
        list.push_str("no disk at all");
    }
    list
}

/// The card of a `[[nic]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NicMatch {
    /// Its place in the list of found cards.
    pub nic: usize,
    /// Largest IP packet to use, in bytes.
    pub mtu: u16,
    /// What an operator should look at although the card can be used.
    pub warnings: heapless::Vec<NicWarning, 2>,
}

/// What may be amiss with a card that can be used. The `Display` form says what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NicWarning {
    /// The link is down now.
    NoLink {
        /// The card.
        mac: super::Mac,
    },
    /// More is configured than the card carries.
    MtuLowered {
        /// The card.
        mac: super::Mac,
        /// Bytes that the configuration names.
        configured: u16,
        /// Bytes that the card carries; they are used.
        card: u16,
    },
}

impl fmt::Display for NicWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoLink { mac } => write!(
                f,
                "card {mac} has no link; it is used as soon as it has (check cable, switch or \
                 the host's side)"
            ),
            Self::MtuLowered {
                mac,
                configured,
                card,
            } => write!(
                f,
                "card {mac} carries packets of {card} bytes at most, so mtu = {configured} is \
                 lowered to that; raise host_mtu in QEMU or lower mtu"
            ),
        }
    }
}

/// Why a `[[nic]]` has no card. The `Display` form says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NicProblem {
    /// There is no such card.
    Missing {
        /// What the configuration asks for.
        selector: NicSelector,
        /// The cards that were found; says so if there are none.
        found: String,
    },
    /// Two `[[nic]]` mean the same card, one by mac and one by index.
    Taken {
        /// What the configuration asks for.
        selector: NicSelector,
        /// The card.
        mac: super::Mac,
    },
}

impl fmt::Display for NicSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mac(mac) => write!(f, "mac = \"{mac}\""),
            Self::Index(index) => write!(f, "index = {index}"),
        }
    }
}

impl fmt::Display for NicProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { selector, found } => write!(
                f,
                "no card for the [[nic]] with {selector} (found: {found}); attach it or correct \
                 the [[nic]]"
            ),
            Self::Taken { selector, mac } => write!(
                f,
                "the [[nic]] with {selector} means card {mac}, which another [[nic]] has; \
                 give each a card of its own"
            ),
        }
    }
}

/// The MTU of a card that neither says nor is told one: Ethernet's.
const MTU_DEFAULT: u16 = 1500;

/// Finds the card of every `[[nic]]`: one result each, in the order of `nics`.
pub fn match_nics(nics: &[super::Nic], found: &[FoundNic]) -> Vec<Result<NicMatch, NicProblem>> {
    let mut results: Vec<Result<NicMatch, NicProblem>> = Vec::new();
    for nic in nics {
        let place = found.iter().position(|card| match nic.selector {
            NicSelector::Mac(mac) => card.mac == mac,
            NicSelector::Index(index) => card.index == index,
        });
        let taken = |place| results.iter().flatten().any(|other| other.nic == place);
        results.push(match place {
            None => Err(NicProblem::Missing {
                selector: nic.selector,
                found: cards(found),
            }),
            Some(place) if taken(place) => Err(NicProblem::Taken {
                selector: nic.selector,
                mac: found[place].mac,
            }),
            Some(place) => Ok(use_nic(nic, place, &found[place])),
        });
    }
    results
}

fn use_nic(nic: &super::Nic, place: usize, card: &FoundNic) -> NicMatch {
    let mut warnings = heapless::Vec::new();
    // Neither push can fail: there is room for one warning of each kind.
    if !card.link_up {
        let _fits = warnings.push(NicWarning::NoLink { mac: card.mac });
    }
    let offered = card.mtu.unwrap_or(MTU_DEFAULT);
    let mtu = nic.mtu.unwrap_or(offered);
    // A card that does not say is believed to carry what the operator says.
    let most = card.mtu.unwrap_or(mtu);
    if mtu > most {
        let _fits = warnings.push(NicWarning::MtuLowered {
            mac: card.mac,
            configured: mtu,
            card: most,
        });
    }
    NicMatch {
        nic: place,
        mtu: mtu.min(most),
        warnings,
    }
}

/// The cards there are, for a message.
fn cards(found: &[FoundNic]) -> String {
    let mut list = String::new();
    for card in found {
        if !list.is_empty() {
            list.push_str(", ");
        }
        // Writing to a String cannot fail.
        let _ok = fmt::Write::write_fmt(&mut list, format_args!("{} {}", card.index, card.mac));
    }
    if list.is_empty() {
        list.push_str("no card at all");
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Cidr, Mac, Nic, Roles};
    use std::string::ToString;

    const DISK: FoundDisk<'static> = FoundDisk {
        serial: "a-vol0",
        capacity: 1 << 30,
        read_only: false,
        block_size: 512,
    };

    fn volume() -> Volume {
        Volume {
            index: 3,
            serial: heapless::String::try_from("a-vol0").unwrap(),
            size: None,
            block_size: 512,
            description: None,
        }
    }

    fn disk_error(volume: &Volume, found: &[FoundDisk<'_>]) -> String {
        let result = match_disks(core::slice::from_ref(volume), found);
        result[0].as_ref().unwrap_err().to_string()
    }

    #[test]
    fn a_disk_is_found_by_its_serial() {
        let other = FoundDisk {
            serial: "x",
            ..DISK
        };
        let sized = Volume {
            size: Some(1 << 20),
            ..volume()
        };
        let result = match_disks(&[volume(), sized], &[other, DISK]);
        assert_eq!(
            result[0],
            Ok(DiskMatch {
                disk: 1,
                size: 1 << 30
            })
        );
        assert_eq!(
            result[1],
            Ok(DiskMatch {
                disk: 1,
                size: 1 << 20
            })
        );
    }

    #[test]
    fn a_missing_disk_names_those_that_are_there() {
        let found = [
            FoundDisk {
                serial: "b\u{7}d",
                ..DISK
            },
            FoundDisk { serial: "", ..DISK },
        ];
        assert_eq!(
            disk_error(&volume(), &found),
            "volume 3 has no usable disk: none has the serial \"a-vol0\" (found: \"b?d\", one \
             without a serial); attach it or correct the serial in [[volume]]"
        );
        assert!(disk_error(&volume(), &[]).contains("(found: no disk at all)"));
    }

    #[test]
    fn unfit_disks_are_refused_with_advice() {
        let volume = volume();
        assert!(disk_error(&volume, &[DISK, DISK]).contains("2 disks have the serial \"a-vol0\""));
        let disk = FoundDisk {
            read_only: true,
            ..DISK
        };
        assert!(disk_error(&volume, &[disk]).contains("read-only; attach it writable"));
        let disk = FoundDisk {
            block_size: 4096,
            ..DISK
        };
        assert!(disk_error(&volume, &[disk]).contains("set block-size = 4096 instead of 512"));
        let large = Volume {
            size: Some(2 << 30),
            ..volume.clone()
        };
        assert!(
            disk_error(&large, &[DISK])
                .contains("has 1 GiB (1073741824 bytes) but size says 2 GiB (2147483648 bytes)")
        );
        let big_blocks = Volume {
            block_size: 4096,
            ..volume.clone()
        };
        let disk = FoundDisk {
            capacity: (1 << 30) + 512,
            ..DISK
        };
        assert!(
            disk_error(&big_blocks, &[disk])
                .contains("1073742336 bytes, no multiple of block-size 4096; set size = \"1GiB\"")
        );
        let disk = FoundDisk {
            capacity: 0,
            ..DISK
        };
        assert!(disk_error(&volume, &[disk]).contains("has 0 B (0 bytes)"));
    }

    fn nic(selector: NicSelector, mtu: Option<u16>) -> Nic {
        Nic {
            selector,
            roles: Roles::default(),
            address: Cidr {
                address: [10, 0, 0, 1].into(),
                prefix: 24,
            },
            gateway: None,
            mtu,
        }
    }

    const MAC: Mac = Mac([0x52, 0x54, 0, 0, 1, 1]);
    const CARD: FoundNic = FoundNic {
        mac: MAC,
        index: 0,
        link_up: true,
        mtu: Some(1500),
    };

    #[test]
    fn cards_are_found_by_mac_or_index() {
        let second = FoundNic {
            mac: Mac([2; 6]),
            index: 1,
            link_up: false,
            mtu: None,
        };
        let nics = [
            nic(NicSelector::Index(1), Some(9000)),
            nic(NicSelector::Mac(MAC), Some(9000)),
        ];
        let result = match_nics(&nics, &[CARD, second]);
        let first = result[0].as_ref().unwrap();
        assert_eq!((first.nic, first.mtu), (1, 9000));
        assert_eq!(
            first.warnings.as_slice(),
            [NicWarning::NoLink { mac: second.mac }]
        );
        assert!(
            first.warnings[0]
                .to_string()
                .contains("card 02:02:02:02:02:02 has no link")
        );
        let other = result[1].as_ref().unwrap();
        assert_eq!((other.nic, other.mtu), (0, 1500));
        let text = other.warnings[0].to_string();
        assert!(text.contains("mtu = 9000 is lowered"), "{text}");
    }

    #[test]
    fn missing_and_doubly_used_cards() {
        let nics = [
            nic(NicSelector::Index(0), None),
            nic(NicSelector::Mac(MAC), None),
            nic(NicSelector::Index(7), None),
        ];
        let result = match_nics(&nics, &[CARD]);
        assert_eq!(result[0].as_ref().unwrap().mtu, 1500);
        let taken = result[1].as_ref().unwrap_err().to_string();
        assert!(taken.contains("means card 52:54:00:00:01:01, which another [[nic]] has"));
        let missing = result[2].as_ref().unwrap_err().to_string();
        assert!(
            missing.contains("with index = 7 (found: 0 52:54:00:00:01:01)"),
            "{missing}"
        );
        let none = match_nics(&nics[..1], &[])[0]
            .as_ref()
            .unwrap_err()
            .to_string();
        assert!(none.contains("no card at all"));
    }
}
