//! "Did you mean": the known word that is nearest to a mistyped one.

/// Longest word that is compared; longer ones have no near neighbour in any of our lists.
const WORD_MAX: usize = 32;

/// The candidate that `word` was most likely meant to be: the one with the smallest edit
/// distance, if that is at most a third of the longer word's length (and at least one edit is
/// always allowed). `None` when nothing is near enough to be a help.
pub(crate) fn nearest<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let mut best: Option<(usize, &'a str)> = None;
    for candidate in candidates {
        let Some(edits) = distance(word, candidate) else {
            continue;
        };
        let allowed = (word.len().max(candidate.len()) / 3).max(1);
        // A prefix is a hint as good as a small distance: `prim`, `discon`.
        let near = edits <= allowed || (word.len() >= 3 && candidate.starts_with(word));
        if near && best.is_none_or(|(least, _)| edits < least) {
            best = Some((edits, candidate));
        }
    }
    best.map(|(_, candidate)| candidate)
}

/// Edits (insert, delete, replace, swap of neighbours) from `a` to `b`, ignoring case; `None` if
/// one is too long to be compared.
fn distance(a: &str, b: &str) -> Option<usize> {
    let (a, b) = (a.as_bytes(), b.as_bytes());
    if a.len() > WORD_MAX || b.len() > WORD_MAX {
        return None;
    }
    let same = |x: u8, y: u8| x.eq_ignore_ascii_case(&y) || (x == b'_' && y == b'-');
    // Three rows of the edit matrix: two above are needed for the swap of neighbours.
    let mut before = [0usize; WORD_MAX + 1];
    let mut above = [0usize; WORD_MAX + 1];
    for (column, cell) in above.iter_mut().enumerate() {
        *cell = column;
    }
    for (i, &x) in a.iter().enumerate() {
        let mut row = [0usize; WORD_MAX + 1];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replace = above[j] + usize::from(!same(x, y));
            let mut least = replace.min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && same(x, b[j - 1]) && same(a[i - 1], y) {
                least = least.min(before[j - 1] + 1);
            }
            row[j + 1] = least;
        }
        before = above;
        above = row;
    }
    Some(above[b.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_edits() {
        assert_eq!(distance("", ""), Some(0));
        assert_eq!(distance("abc", ""), Some(3));
        assert_eq!(distance("timeout", "timeout"), Some(0));
        assert_eq!(distance("timout", "timeout"), Some(1));
        assert_eq!(distance("tiemout", "timeout"), Some(1));
        assert_eq!(distance("Log_Level", "log-level"), Some(0));
        assert_eq!(distance(&"x".repeat(33), "x"), None);
    }

    #[test]
    fn suggests_only_what_is_near() {
        let keys = ["timeout", "ping-interval", "connect-interval"];
        assert_eq!(nearest("timout", keys), Some("timeout"));
        assert_eq!(nearest("ping-int", keys), Some("ping-interval"));
        assert_eq!(nearest("ping_interval", keys), Some("ping-interval"));
        assert_eq!(nearest("colour", keys), None);
        assert_eq!(nearest("", keys), None);
    }
}
