//! The page for a browser: one file, nothing from elsewhere.

/// The file.
pub(super) const PAGE: &[u8] = include_bytes!("page.html");

/// What a browser may do for it: run its one script, use its one style, and ask this server. A test knows the digests.
pub(super) const POLICY: &str = "Content-Security-Policy: default-src 'none'; \
    script-src 'sha256-hOpweOcX8moY+lhmtvRdVTOZxIvW+mKDdgi/Jj44BXE='; style-src 'sha256-edHd3HQXzwh/0hKPmT5dOH37hg5eK43igTPQi+Qjlig='; \
    connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::format;
    use alloc::string::String;
    use sha2::{Digest, Sha256};

    fn base64(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] =
            b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let mut three = [0; 4];
            three[1..=chunk.len()].copy_from_slice(chunk);
            let bits = u32::from_be_bytes(three);
            for place in 0..4 {
                let of = (bits >> (18 - 6 * place)) & 63;
                text.push(match place <= chunk.len() {
                    true => char::from(ALPHABET[of as usize]),
                    false => '=',
                });
            }
        }
        text
    }

    #[test]
    fn the_policy_allows_its_script_and_style_and_nothing_else() {
        let page = core::str::from_utf8(PAGE).expect("UTF-8");
        for element in ["script", "style"] {
            let (start, end) = (format!("<{element}>"), format!("</{element}>"));
            assert_eq!(page.matches(&*start).count(), 1);
            let (_, rest) = page.split_once(&*start).expect("an element");
            let (inside, _) = rest.split_once(&*end).expect("its end");
            let digest = base64(&Sha256::digest(inside.as_bytes()));
            let allowed = format!("{element}-src 'sha256-{digest}'");
            assert!(POLICY.contains(&allowed), "{allowed} is not in {POLICY}");
        }
        // No addresses, and no code or style outside of the two.
        for outside in ["http:", "https:", "//\"", " style=", " onclick=", "src="] {
            assert!(!page.contains(outside), "{outside}");
        }
    }
}
