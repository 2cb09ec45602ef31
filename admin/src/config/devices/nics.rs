//! The network cards.

use crate::config::{Mac, Nic, NicSelector};
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

/// A network card as its driver found it.
#[derive(Debug, Clone, Copy)]
pub struct FoundNic {
    /// Its address.
    pub mac: Mac,
    /// Its place in the order of discovery, from 0.
    pub index: u16,
    /// Whether the link is up.
    pub link_up: bool,
    /// Largest IP packet it carries, in bytes, if it says (VIRTIO_NET_F_MTU).
    pub mtu: Option<u16>,
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
        mac: Mac,
    },
    /// More is configured than the card carries.
    MtuLowered {
        /// The card.
        mac: Mac,
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
        mac: Mac,
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
pub fn match_nics(nics: &[Nic], found: &[FoundNic]) -> Vec<Result<NicMatch, NicProblem>> {
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

fn use_nic(nic: &Nic, place: usize, card: &FoundNic) -> NicMatch {
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
    use crate::config::{Cidr, Roles};
    use std::string::ToString;

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
