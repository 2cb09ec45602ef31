//! The token by which a request may give commands: `Authorization: Bearer TOKEN` (RFC 6750, section 2.1).

use ctutils::CtEq;

/// What a request's token is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Token {
    /// Commands are off: none would do.
    Off,
    /// It brings none.
    None,
    /// It is not the right one.
    Wrong,
    Right,
}

impl Token {
    /// Of a request without one.
    pub(super) const fn missing(expected: Option<&[u8]>) -> Self {
        match expected {
            Some(_) => Self::None,
            None => Self::Off,
        }
    }

    /// Of the value of a header `Authorization`. The comparison takes a time that tells nothing but the token's length.
    pub(super) fn of(value: &[u8], expected: Option<&[u8]>) -> Self {
        let Some(expected) = expected else {
            return Self::Off;
        };
        let value = value.trim_ascii();
        let Some(end) = value.iter().position(|byte| *byte == b' ') else {
            return Self::None;
        };
        let (scheme, given) = value.split_at(end);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return Self::None;
        }
        if given.trim_ascii().ct_eq(expected).to_bool() {
            Self::Right
        } else {
            Self::Wrong
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_must_be_right_and_whole() {
        let of = |value: &str| Token::of(value.as_bytes(), Some(b"sixteen-letters!"));
        assert_eq!(of("Bearer sixteen-letters!"), Token::Right);
        assert_eq!(of("bearer  sixteen-letters! "), Token::Right);
        for none in ["", "Bearer", "sixteen-letters!", "Basic sixteen-letters!"] {
            assert_eq!(of(none), Token::None, "{none}");
        }
        for wrong in [
            "sixteen-letters",
            "sixteen-letters!!",
            "x",
            "Sixteen-letters!",
            "sixteen-letters! x",
        ] {
            assert_eq!(
                of(&alloc::format!("Bearer {wrong}")),
                Token::Wrong,
                "{wrong}"
            );
        }
        assert_eq!(Token::of(b"Bearer sixteen-letters!", None), Token::Off);
        assert_eq!(Token::missing(None), Token::Off);
        assert_eq!(Token::missing(Some(b"x")), Token::None);
    }
}
