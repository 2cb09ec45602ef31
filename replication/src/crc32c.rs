//! CRC-32C (Castagnoli): the checksum of frames, of the preamble and of what lies on disk.

use crc::{CRC_32_ISCSI, Crc, Table};

static TABLES: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);

/// The CRC-32C of `bytes`.
#[must_use]
pub fn crc32c(bytes: &[u8]) -> u32 {
    TABLES.checksum(bytes)
}

/// The CRC-32C of some bytes with the checksum `crc`, and `bytes` after them. Those of none have 0.
#[must_use]
pub fn extend(crc: u32, bytes: &[u8]) -> u32 {
    // The crate wants the register as its catalogue writes it: not reflected, before the final inversion.
    let mut digest = TABLES.digest_with_initial((!crc).reverse_bits());
    digest.update(bytes);
    digest.finalize()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_check_values_of_rfc_3720() {
        // Appendix B.4.
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
        assert_eq!(crc32c(&[]), 0);
    }

    proptest! {
        #[test]
        fn piece_by_piece_is_the_same(bytes in proptest::collection::vec(any::<u8>(), 0..600), cut in 0usize..600) {
            let (head, tail) = bytes.split_at(cut.min(bytes.len()));
            prop_assert_eq!(extend(crc32c(head), tail), crc32c(&bytes));
        }
    }
}
