//! Values of the configuration: addresses, MAC addresses, names, and how each is read.
//!
//! A reader returns what it *expected* when the value does not fit; where and what was found is
//! added by [`super::reader`].

use super::policy::{AfterSb0Pri, DISCARD_NODE, Metadata, SECRET_BYTES, Secret, Words};
use crate::units;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::ops::RangeInclusive;
use replication::api::{Micros, Name};
use toml::de::DeValue;

/// What a value should have been, as the end of the sentence "found ..., expected ...".
pub(super) type Expected = String;

/// An IPv4 address with the length of its network's prefix: `10.99.0.1/24`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address of the interface.
    pub address: Ipv4Addr,
    /// Bits of the network, 8 to 30.
    pub prefix: u8,
}

impl Cidr {
    const fn mask(self) -> u32 {
        // `prefix` is 8 to 30, so the shift cannot overflow.
        u32::MAX << (32 - self.prefix as u32)
    }

    /// First address of the network.
    pub fn network(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) & self.mask())
    }

    /// Last address of the network.
    pub fn broadcast(self) -> Ipv4Addr {
        Ipv4Addr::from(u32::from(self.address) | !self.mask())
    }

    /// Whether `other` is in the network.
    pub fn contains(self, other: Ipv4Addr) -> bool {
        u32::from(other) & self.mask() == u32::from(self.network())
    }

    /// Whether the networks have an address in common.
    pub fn overlaps(self, other: Self) -> bool {
        self.contains(other.network()) || other.contains(self.network())
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// An Ethernet address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

fn string<'v>(value: &'v DeValue<'_>) -> Option<&'v str> {
    match value {
        DeValue::String(text) => Some(text),
        _ => None,
    }
}

/// A name of a node or resource.
pub(super) fn name(value: &DeValue<'_>) -> Result<Name, Expected> {
    string(value)
        .and_then(as_name)
        .ok_or_else(|| "a name in quotes: 1 to 32 letters, digits, '-', '_' or '.' (ASCII)".into())
}

fn as_name(text: &str) -> Option<Name> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    let fit = !text.is_empty() && text.bytes().all(allowed);
    Name::try_from(text).ok().filter(|_| fit)
}

/// Printable ASCII of at most `N` bytes.
pub(super) fn printable<const N: usize>(
    value: &DeValue<'_>,
    what: &str,
) -> Result<heapless::String<N>, Expected> {
    string(value)
        .filter(|text| !text.is_empty() && text.bytes().all(crate::text::is_printable))
        .and_then(|text| heapless::String::try_from(text).ok())
        .ok_or_else(|| format!("{what} in quotes: 1 to {N} printable ASCII characters"))
}

/// One of a few words.
pub(super) fn choice<T: Clone>(value: &DeValue<'_>, choices: &[(&str, T)]) -> Result<T, Expected> {
    let text = string(value);
    if let Some((_, chosen)) = choices.iter().find(|(word, _)| Some(*word) == text) {
        return Ok(chosen.clone());
    }
    Err(one_of(choices.iter().map(|(word, _)| *word)))
}

/// One of a policy's words.
pub(super) fn policy<T: Words + Clone>(value: &DeValue<'_>) -> Result<T, Expected> {
    choice(value, T::WORDS)
}

/// One of the words of [`AfterSb0Pri`], one of which goes on with a node's name.
pub(super) fn after_sb_0pri(value: &DeValue<'_>) -> Result<AfterSb0Pri, Expected> {
    let named = string(value).and_then(|text| text.strip_prefix(DISCARD_NODE));
    if let Some(name) = named.and_then(as_name) {
        return Ok(AfterSb0Pri::DiscardNode(name));
    }
    policy(value).map_err(|_| {
        let words = AfterSb0Pri::WORDS.iter().map(|(word, _)| *word);
        let words: Vec<&str> = words.chain(["discard-node-NAME"]).collect();
        one_of(words.into_iter())
    })
}

/// Yes or no.
pub(super) fn boolean(value: &DeValue<'_>) -> Result<bool, Expected> {
    match value {
        DeValue::Boolean(answer) => Ok(*answer),
        _ => Err("true or false, without quotes".into()),
    }
}

/// A secret. What is said about a wrong one does not repeat it.
pub(super) fn secret(value: &DeValue<'_>) -> Result<Secret, Expected> {
    secret_of(value, |_| true, "")
}

/// A secret that a header of HTTP takes as one word.
pub(super) fn token(value: &DeValue<'_>) -> Result<Secret, Expected> {
    secret_of(value, |text| !text.contains(' '), " without blanks")
}

fn secret_of(value: &DeValue<'_>, fits: fn(&str) -> bool, which: &str) -> Result<Secret, Expected> {
    let text = string(value);
    let fit = text.filter(|text| fits(text)).and_then(Secret::new);
    fit.ok_or_else(|| {
        let (least, most) = (SECRET_BYTES.start(), SECRET_BYTES.end());
        let found = text.map_or(String::new(), |text| {
            format!("; it has {}", text.chars().count())
        });
        format!("{least} to {most} printable ASCII characters{which} in quotes{found}")
    })
}

/// Bytes per second: a size that may end in `/s`.
pub(super) fn rate(value: &DeValue<'_>, limits: RangeInclusive<u64>) -> Result<u64, Expected> {
    string(value)
        .map(|text| text.strip_suffix("/s").unwrap_or(text))
        .and_then(units::parse_size)
        .filter(|rate| limits.contains(rate))
        .ok_or_else(|| {
            format!(
                "bytes per second in quotes from \"{}\" to \"{}\" (units: B, KiB, MiB, GiB)",
                units::ExactSize(*limits.start()),
                units::ExactSize(*limits.end())
            )
        })
}

/// A duration within `limits`, or none at all, written `0s`.
pub(super) fn duration_or_off(
    value: &DeValue<'_>,
    limits: RangeInclusive<Micros>,
) -> Result<Option<Micros>, Expected> {
    if string(value).and_then(units::parse_duration) == Some(0) {
        return Ok(None);
    }
    match duration(value, limits) {
        Ok(duration) => Ok(Some(duration)),
        Err(expected) => Err(format!("{expected}, or \"0s\" for none")),
    }
}

/// The index of a volume that is called `vol` and its number.
pub(super) fn volume(value: &DeValue<'_>) -> Result<u16, Expected> {
    string(value)
        .filter(|text| text.starts_with("vol"))
        .and_then(crate::verbs::volume_index)
        .ok_or_else(|| "the name of a volume in quotes, such as \"vol0\"".into())
}

/// Where a volume's metadata is: `"internal"`, or a table that names the disk.
pub(super) fn metadata(value: &DeValue<'_>) -> Result<Metadata, Expected> {
    let expected = "\"internal\", or { disk = \"SERIAL\" } with the serial number of another disk";
    if string(value) == Some("internal") {
        return Ok(Metadata::Internal);
    }
    let only = value.as_table().filter(|table| table.iter().len() == 1);
    let serial = only.and_then(|table| printable(table.get("disk")?.get_ref(), "").ok());
    serial
        .map(Metadata::External)
        .ok_or_else(|| expected.into())
}

/// `"a", "b" or "c"`.
pub(super) fn one_of<'a>(words: impl ExactSizeIterator<Item = &'a str>) -> String {
    let mut text = String::new();
    let count = words.len();
    for (index, word) in words.enumerate() {
        text.push_str(match index {
            0 => "",
            _ if index + 1 == count => " or ",
            _ => ", ",
        });
        text.push('"');
        text.push_str(word);
        text.push('"');
    }
    text
}

/// A whole number within `limits`.
pub(super) fn integer(
    value: &DeValue<'_>,
    limits: RangeInclusive<u32>,
    unit: &str,
) -> Result<u32, Expected> {
    let number = match value {
        DeValue::Integer(digits) => u32::from_str_radix(digits.as_str(), digits.radix()).ok(),
        _ => None,
    };
    number.filter(|n| limits.contains(n)).ok_or_else(|| {
        let (least, most) = (limits.start(), limits.end());
        format!("{unit} from {least} to {most}, without quotes")
    })
}

/// A duration within `limits`.
pub(super) fn duration(
    value: &DeValue<'_>,
    limits: RangeInclusive<Micros>,
) -> Result<Micros, Expected> {
    string(value)
        .and_then(units::parse_duration)
        .filter(|duration| limits.contains(duration))
        .ok_or_else(|| {
            format!(
                "a duration in quotes from \"{}\" to \"{}\" (units: ms, s, min, h)",
                units::ExactDuration(*limits.start()),
                units::ExactDuration(*limits.end())
            )
        })
}

/// A size in bytes.
pub(super) fn size(value: &DeValue<'_>, limits: RangeInclusive<u64>) -> Result<u64, Expected> {
    string(value)
        .and_then(units::parse_size)
        .filter(|size| limits.contains(size))
        .ok_or_else(|| {
            format!(
                "a size in quotes from \"{}\" to \"{}\" (units: B, KiB, MiB, GiB, TiB)",
                units::ExactSize(*limits.start()),
                units::ExactSize(*limits.end())
            )
        })
}

/// An address that one host can have: not 0.0.0.0/8, loopback, multicast, broadcast or reserved.
pub(super) fn is_host(address: Ipv4Addr) -> bool {
    !(address.octets()[0] == 0 || address.is_loopback() || address.octets()[0] >= 224)
}

/// An interface's address.
pub(super) fn cidr(value: &DeValue<'_>) -> Result<Cidr, Expected> {
    let parse = |text: &str| {
        let (address, prefix) = text.split_once('/')?;
        let address: Ipv4Addr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        if !is_host(address) || !(8..=30).contains(&prefix) {
            return None;
        }
        let cidr = Cidr { address, prefix };
        (address != cidr.network() && address != cidr.broadcast()).then_some(cidr)
    };
    string(value).and_then(parse).ok_or_else(|| {
        "a host's IPv4 address and prefix (8 to 30) in quotes, such as \"10.99.0.1/24\"".into()
    })
}

/// A host's address.
pub(super) fn address(value: &DeValue<'_>) -> Result<Ipv4Addr, Expected> {
    string(value)
        .and_then(|text| text.parse().ok())
        .filter(|address| is_host(*address))
        .ok_or_else(|| "a host's IPv4 address in quotes, such as \"10.99.0.254\"".into())
}

/// A host's address and an optional port.
pub(super) fn endpoint(value: &DeValue<'_>, default_port: u16) -> Result<SocketAddrV4, Expected> {
    let parse = |text: &str| {
        text.parse::<SocketAddrV4>()
            .ok()
            .or_else(|| Some(SocketAddrV4::new(text.parse().ok()?, default_port)))
    };
    string(value)
        .and_then(parse)
        .filter(|endpoint| is_host(*endpoint.ip()) && endpoint.port() != 0)
        .ok_or_else(|| {
            format!(
                "a host's IPv4 address and port in quotes, such as \"10.99.0.2:{default_port}\""
            )
        })
}

/// An Ethernet address of one card.
pub(super) fn mac(value: &DeValue<'_>) -> Result<Mac, Expected> {
    let parse = |text: &str| {
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next()?;
            if part.len() != 2 || !part.bytes().all(|b| b.is_ascii_hexdigit()) {
                return None;
            }
            *octet = u8::from_str_radix(part, 16).ok()?;
        }
        // The lowest bit of the first octet marks a group address, which no card has.
        let unicast = octets[0] & 1 == 0 && octets != [0; 6];
        (parts.next().is_none() && unicast).then_some(Mac(octets))
    };
    string(value)
        .and_then(parse)
        .ok_or_else(|| "the MAC address of a card in quotes, such as \"52:54:00:00:01:01\"".into())
}
