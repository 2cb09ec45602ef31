//! `help`.

use super::table::{GROUPS, Spec, VERBS};
use crate::text::wrapped;
use core::fmt;

/// Width of the column of verbs in the list.
const VERB_COLUMNS: usize = 22;

/// Writes the answer to [`super::Verb::Help`].
///
/// # Errors
/// Those of `out`.
pub fn help(about: Option<&Spec>, out: &mut dyn fmt::Write) -> fmt::Result {
    let Some(spec) = about else {
        return list(out);
    };
    wrapped("", "usage: ", spec.usage, out)?;
    writeln!(out, "{}.", Capital(spec.summary))?;
    if !spec.details.is_empty() {
        writeln!(out, "\n{}", spec.details)?;
    }
    if spec.knows("--dry-run") && !spec.details.contains("--dry-run") {
        writeln!(out, "--dry-run  only say what it would do as things are")?;
    }
    Ok(())
}

fn list(out: &mut dyn fmt::Write) -> fmt::Result {
    for (group, title) in GROUPS {
        writeln!(out, "{title}:")?;
        for spec in VERBS.iter().filter(|spec| spec.group == *group) {
            let mut head: heapless::String<VERB_COLUMNS> = heapless::String::new();
            let operand = spec.operand.written();
            let gap = if operand.is_empty() { "" } else { " " };
            fmt::Write::write_fmt(&mut head, format_args!("{}{gap}{operand}", spec.name))?;
            writeln!(out, "  {head:<VERB_COLUMNS$} {}", spec.summary)?;
        }
    }
    writeln!(
        out,
        "\n'help VERB' explains one and lists its options. Tab completes."
    )
}

/// Text with its first letter in upper case.
struct Capital(&'static str);

impl fmt::Display for Capital {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, rest) = self.0.split_at(self.0.len().min(1));
        write!(f, "{}{rest}", first.to_ascii_uppercase())
    }
}
