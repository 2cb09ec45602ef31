//! Words for values, in text and JSON.

use replication::ondisk::Verdict;

/// One word for a verdict.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "note",
        Verdict::Problems => "problem",
        Verdict::Unusable => "not usable",
    }
}
