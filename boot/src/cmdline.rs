//! The kernel command line: words separated by blanks, `key` or `key=value`.

use core::ops::Range;

/// A view of the command line.
#[derive(Clone, Copy, Debug)]
pub struct CommandLine<'a>(&'a str);

/// A virtio-mmio device as announced by QEMU's microvm: `virtio_mmio.device=<size>@<base>:<irq>`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct MmioDevice {
    /// Physical address of the register window.
    pub base: u64,
    /// Size of the register window in bytes.
    pub size: u64,
    /// Global system interrupt (IO-APIC input) that the device raises.
    pub gsi: u32,
}

impl<'a> CommandLine<'a> {
    /// Wraps `line`.
    pub const fn new(line: &'a str) -> Self {
        Self(line)
    }

    /// The whole line.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The words in order.
    pub fn words(self) -> impl Iterator<Item = &'a str> {
        self.0.split_ascii_whitespace()
    }

    /// The value of the last `key=value` word, so that appended words override earlier ones.
    pub fn value(self, key: &str) -> Option<&'a str> {
        self.words()
            .filter_map(|word| word.strip_prefix(key)?.strip_prefix('='))
            .last()
    }

    /// The virtio-mmio devices announced on the line. Malformed announcements are passed over.
    pub fn mmio_devices(self) -> impl Iterator<Item = MmioDevice> + use<'a> {
        self.0
            .split_ascii_whitespace()
            .filter_map(|word| parse_mmio(word.strip_prefix("virtio_mmio.device=")?))
    }
}

/// A number as Linux's memparse takes it: decimal or 0x hexadecimal, with an optional K, M or G.
fn number(text: &str) -> Option<u64> {
    let (digits, shift) = match text.as_bytes().last()? {
        b'k' | b'K' => (&text[..text.len() - 1], 10),
        b'm' | b'M' => (&text[..text.len() - 1], 20),
        b'g' | b'G' => (&text[..text.len() - 1], 30),
        _ => (text, 0),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16),
        None => digits.parse(),
    };
    value.ok()?.checked_mul(1 << shift)
}

fn parse_mmio(text: &str) -> Option<MmioDevice> {
    let (size, rest) = text.split_once('@')?;
    let mut parts = rest.split(':');
    let base = number(parts.next()?)?;
    let gsi = parts.next()?.parse().ok()?;
    let size = number(size)?;
    let window: Range<u64> = base..base.checked_add(size)?;
    (!window.is_empty()).then_some(MmioDevice { base, size, gsi })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn last_value_wins_and_prefixes_do_not_match() {
        let line = CommandLine::new("  panic=halt panics=x test=boot panic=exit quiet");
        assert_eq!(line.value("panic"), Some("exit"));
        assert_eq!(line.value("pan"), None);
        assert_eq!(line.value("quiet"), None);
        assert!(line.words().any(|word| word == "quiet"));
    }

    #[test]
    fn mmio_devices_of_microvm() {
        let line = CommandLine::new(
            "a virtio_mmio.device=512@0xfeb00e00:12 virtio_mmio.device=4K@0x1000:5:3 virtio_mmio.device=512@x:1 \
             virtio_mmio.device=512@0xffffffffffffffff:1 virtio_mmio.device=0@1:1 virtio_mmio.device=",
        );
        let mut devices = line.mmio_devices();
        assert_eq!(
            devices.next(),
            Some(MmioDevice {
                base: 0xfeb0_0e00,
                size: 512,
                gsi: 12
            })
        );
        assert_eq!(
            devices.next(),
            Some(MmioDevice {
                base: 0x1000,
                size: 4096,
                gsi: 5
            })
        );
        assert_eq!(devices.next(), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*", key in "[a-z]{0,4}") {
            let line = CommandLine::new(&text);
            let _ = line.value(&key);
            let _ = parse_mmio(&text);
            let _ = line.mmio_devices().count();
        }
    }
}
