//! Sizes, durations and rates as people write and read them.

use core::fmt;
use replication::api::Micros;

/// Binary units, largest first: name and bytes.
const BINARY: [(&str, u64); 4] = [
    ("TiB", 1 << 40),
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
];

/// Units of time, largest first: name and microseconds.
const TIME: [(&str, u64); 5] = [
    ("h", 3_600_000_000),
    ("min", 60_000_000),
    ("s", 1_000_000),
    ("ms", 1_000),
    ("us", 1),
];

/// Reads a size in bytes: digits and an optional unit out of `B`, `KiB`, `MiB`, `GiB`, `TiB`, as
/// in `512MiB`. `None` if it is not of that form or does not fit 64 bits. Decimal units (`MB`) are
/// not accepted, since half of the world means binary ones by them.
pub fn parse_size(text: &str) -> Option<u64> {
    let (number, unit) = split_unit(text)?;
    let factor = match unit {
        "" | "B" => 1,
        _ => BINARY.iter().find(|(name, _)| *name == unit)?.1,
    };
    number.checked_mul(factor)
}

/// Reads a duration in microseconds: digits and a unit out of `us`, `ms`, `s`, `min`, `h`, as in
/// `500ms`. The unit is never optional. `None` if it is not of that form or does not fit 64 bits.
pub fn parse_duration(text: &str) -> Option<Micros> {
    let (number, unit) = split_unit(text)?;
    let factor = TIME.iter().find(|(name, _)| *name == unit)?.1;
    number.checked_mul(factor)
}

fn split_unit(text: &str) -> Option<(u64, &str)> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    Some((number.parse().ok()?, unit.strip_prefix(' ').unwrap_or(unit)))
}

/// Writes a number of bytes exactly, in the largest unit that divides it, such that
/// [`parse_size`] reads it back: `1GiB`, `1536MiB`, `1000B`.
#[derive(Debug, Clone, Copy)]
pub struct ExactSize(pub u64);

impl fmt::Display for ExactSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in BINARY {
            if self.0 != 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{name}", self.0 / factor);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// Writes a number of bytes rounded down to one decimal, for people: `1.5 GiB`, `0 B`.
#[derive(Debug, Clone, Copy)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in BINARY {
            if self.0 >= factor {
                let tenths = u128::from(self.0 % factor) * 10 / u128::from(factor);
                return match tenths {
                    0 => f.pad_text(format_args!("{} {name}", self.0 / factor)),
                    _ => f.pad_text(format_args!("{}.{tenths} {name}", self.0 / factor)),
                };
            }
        }
        f.pad_text(format_args!("{} B", self.0))
    }
}

/// Writes a duration exactly, in the largest unit that divides it, such that [`parse_duration`]
/// reads it back: `6s`, `1500ms`.
#[derive(Debug, Clone, Copy)]
pub struct ExactDuration(pub Micros);

impl fmt::Display for ExactDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, factor) in TIME {
            if self.0 != 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{name}", self.0 / factor);
            }
        }
        f.write_str("0s")
    }
}

/// Writes a span of time for people: `45s`, `3:07`, `1:02:03`, `2d 01:00:00`; fractions of a second are
/// dropped.
#[derive(Debug, Clone, Copy)]
pub struct Span(pub Micros);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0 / 1_000_000;
        let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
        let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
        match (days, hours, minutes) {
            (0, 0, 0) => f.pad_text(format_args!("{seconds}s")),
            (0, 0, _) => f.pad_text(format_args!("{minutes}:{seconds:02}")),
            (0, _, _) => f.pad_text(format_args!("{hours}:{minutes:02}:{seconds:02}")),
            _ => f.pad_text(format_args!("{days}d {hours:02}:{minutes:02}:{seconds:02}")),
        }
    }
}

/// Lets the short texts of this module obey a width such as `{:>10}`.
trait PadText {
    fn pad_text(&mut self, text: fmt::Arguments<'_>) -> fmt::Result;
}

impl PadText for fmt::Formatter<'_> {
    fn pad_text(&mut self, text: fmt::Arguments<'_>) -> fmt::Result {
        let mut short: heapless::String<40> = heapless::String::new();
        fmt::Write::write_fmt(&mut crate::text::Truncating(&mut short), text)?;
        self.pad(&short)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::format;
    use std::string::ToString;

    #[test]
    fn reads_sizes() {
        assert_eq!(parse_size("1GiB"), Some(1 << 30));
        assert_eq!(parse_size("64 KiB"), Some(65536));
        assert_eq!(parse_size("1000"), Some(1000));
        assert_eq!(parse_size("512B"), Some(512));
        for bad in [
            "",
            "GiB",
            "1GB",
            "1.5GiB",
            "-1",
            "1gib",
            "16777216TiB",
            "1  GiB",
        ] {
            assert_eq!(parse_size(bad), None, "{bad}");
        }
    }

    #[test]
    fn reads_durations() {
        assert_eq!(parse_duration("500ms"), Some(500_000));
        assert_eq!(parse_duration("6s"), Some(6_000_000));
        assert_eq!(parse_duration("10min"), Some(600_000_000));
        for bad in ["", "6", "s", "6sec", "0.5s", "-1s", "99999999999999h"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[test]
    fn writes_for_people() {
        assert_eq!(Size(0).to_string(), "0 B");
        assert_eq!(Size(1023).to_string(), "1023 B");
        assert_eq!(Size(1536 << 20).to_string(), "1.5 GiB");
        assert_eq!(Size(u64::MAX).to_string(), "16777215.9 TiB");
        assert_eq!(format!("[{:>8}]", Size(2048)), "[   2 KiB]");
        assert_eq!(Span(45_900_000).to_string(), "45s");
        assert_eq!(Span(187_000_000).to_string(), "3:07");
        assert_eq!(Span(3_723_000_000).to_string(), "1:02:03");
        assert_eq!(Span(176_400_000_000).to_string(), "2d 01:00:00");
    }

    proptest! {
        #[test]
        fn exact_forms_read_back(number: u64) {
            prop_assert_eq!(parse_size(&ExactSize(number).to_string()), Some(number));
            prop_assert_eq!(parse_duration(&ExactDuration(number).to_string()), Some(number));
        }
    }
}
