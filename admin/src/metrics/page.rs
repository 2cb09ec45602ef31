//! Prometheus' text format, version 0.0.4.

use core::fmt::{self, Write};
use replication::api::Micros;
use replication::latency::{Histogram, LIMITS};

/// The label that names a volume.
macro_rules! volume {
    ($index:expr) => {
        format_args!("volume=\"vol{}\"", $index)
    };
}
pub(super) use volume;

/// The document on its way out. Every name gets the prefix `palisade_`.
pub(super) struct Page<'a> {
    pub(super) out: &'a mut dyn Write,
}

impl Page<'_> {
    /// What a family is; its samples follow.
    pub(super) fn family(
        &mut self,
        name: &str,
        kind: &str,
        help: fmt::Arguments<'_>,
    ) -> fmt::Result {
        write!(
            self.out,
            "# HELP palisade_{name} {help}\n# TYPE palisade_{name} {kind}\n"
        )
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str) -> fmt::Result {
        self.family(name, "gauge", format_args!("{help}"))
    }

    pub(super) fn counter(&mut self, name: &str, help: &str) -> fmt::Result {
        self.family(name, "counter", format_args!("{help}"))
    }

    pub(super) fn sample(
        &mut self,
        name: &str,
        labels: fmt::Arguments<'_>,
        value: u64,
    ) -> fmt::Result {
        writeln!(self.out, "palisade_{name}{{{labels}}} {value}")
    }

    pub(super) fn plain(&mut self, name: &str, value: u64) -> fmt::Result {
        writeln!(self.out, "palisade_{name} {value}")
    }

    pub(super) fn seconds(&mut self, name: &str, value: Micros) -> fmt::Result {
        writeln!(self.out, "palisade_{name} {}", Seconds(value))
    }

    /// A family of one yes or no.
    pub(super) fn flag(&mut self, name: &str, help: &str, value: bool) -> fmt::Result {
        self.gauge(name, help)?;
        self.plain(name, value.into())
    }

    pub(super) fn histogram(&mut self, name: &str, of: u16, histogram: &Histogram) -> fmt::Result {
        let mut up_to = 0;
        for (place, count) in histogram.counts().iter().enumerate() {
            up_to += count;
            write!(self.out, "palisade_{name}_bucket{{volume=\"vol{of}\",le=\"")?;
            match place {
                LIMITS => self.out.write_str("+Inf")?,
                _ => write!(self.out, "{}", Seconds(Histogram::limit(place)))?,
            }
            writeln!(self.out, "\"}} {up_to}")?;
        }
        let sum = Seconds(histogram.sum());
        writeln!(self.out, "palisade_{name}_sum{{volume=\"vol{of}\"}} {sum}")?;
        writeln!(
            self.out,
            "palisade_{name}_count{{volume=\"vol{of}\"}} {up_to}"
        )
    }
}

/// Microseconds as seconds, without zeroes at the end.
struct Seconds(Micros);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, mut part) = (self.0 / 1_000_000, self.0 % 1_000_000);
        write!(f, "{whole}")?;
        if part == 0 {
            return Ok(());
        }
        let mut digits = 6;
        while part.is_multiple_of(10) {
            part /= 10;
            digits -= 1;
        }
        write!(f, ".{part:0digits$}")
    }
}

/// A text as a label's value.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.chars().try_for_each(|c| match c {
            '"' | '\\' => write!(f, "\\{c}"),
            '\n' => f.write_str("\\n"),
            _ => f.write_char(c),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::string::ToString;

    #[test]
    fn seconds_and_labels() {
        let text = |micros| Seconds(micros).to_string();
        assert_eq!(
            [0, 16, 1_000_000, 1_500_000, 8_388_608, 90].map(text),
            ["0", "0.000016", "1", "1.5", "8.388608", "0.00009"]
        );
        assert_eq!(Escaped("a\"b\\c\nd").to_string(), "a\\\"b\\\\c\\nd");
    }
}
