use super::activity::{Evidence, Recovered};
use super::*;

fn log(number: u32, sequence: u64, words: &[u64]) -> Page {
    let mut page = [0xee; PAGE];
    activity::encode(DEVICE, number, sequence, words, &mut page);
    page
}

fn map(number: u32, words: &[u64]) -> Page {
    let mut page = [0xee; PAGE];
    bitmap::encode(DEVICE, number, 1, words, &mut page);
    page
}

fn recover(slots: [&Page; 2]) -> (Recovered, Vec<u64>) {
    let mut words = std::vec![0xdead; PAGE_WORDS];
    let found = activity::recover(DEVICE, 5, slots.map(Some), &mut words);
    (found, words)
}

fn covers(all: &[u64], part: &[u64]) -> bool {
    all.iter().zip(part).all(|(all, part)| all & part == *part)
}

#[test]
fn the_header_is_where_the_document_says() {
    let page = log(5, 9, &[0x0102_0304_0506_0708]);
    assert_eq!(page[4..8], 5u32.to_le_bytes());
    assert_eq!(page[8..16], 9u64.to_le_bytes());
    assert_eq!(page[16..24], [8, 7, 6, 5, 4, 3, 2, 1]);
    assert!(is_blank(&page[24..]));
    let crc = crc32c(&[b"PLSD-act", &DEVICE.to_le_bytes(), &page[4..]]);
    assert_eq!(page[..4], crc.to_le_bytes());
    let page = map(5, &[1]);
    let crc = crc32c(&[b"PLSD-bmp", &DEVICE.to_le_bytes(), &page[4..]]);
    assert_eq!(page[..4], crc.to_le_bytes());
}

#[test]
fn the_checksum_is_castagnolis() {
    // The check value of CRC-32/ISCSI, in two parts.
    assert_eq!(crc32c(&[b"12345", b"6789"]), 0xe306_9283);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (log, map) = (log(5, 9, &[3; 510]), map(5, &[3; 510]));
    for bit in 0..PAGE * 8 {
        let mut flipped = [log, map];
        flipped
            .iter_mut()
            .for_each(|page| page[bit / 8] ^= 1 << (bit % 8));
        assert_eq!(
            activity::check(DEVICE, 5, &flipped[0]),
            Err(PageError::Checksum)
        );
        let mut words = [0; PAGE_WORDS];
        let read = bitmap::decode(DEVICE, 5, &flipped[1], &mut words);
        assert_eq!(read, Err(PageError::Checksum));
        assert_eq!(words, [u64::MAX; PAGE_WORDS], "a bad page is all dirty");
    }
}

#[test]
fn a_page_of_another_device_kind_or_place_is_not_taken() {
    let mut words = [0; PAGE_WORDS];
    let page = map(5, &[1; PAGE_WORDS]);
    assert_eq!(bitmap::decode(DEVICE, 5, &page, &mut words), Ok(1));
    assert_eq!(words, [1; PAGE_WORDS]);
    let checksum = Err(PageError::Checksum);
    assert_eq!(bitmap::decode(DEVICE + 1, 5, &page, &mut words), checksum);
    assert_eq!(activity::check(DEVICE, 5, &page), checksum);
    let misplaced = Err(PageError::Number {
        wanted: 6,
        found: 5,
    });
    assert_eq!(bitmap::decode(DEVICE, 6, &page, &mut words), misplaced);
    assert_eq!(words, [u64::MAX; PAGE_WORDS]);
    let blank = Err(PageError::Blank);
    assert_eq!(bitmap::decode(DEVICE, 0, &[0; PAGE], &mut words), blank);
}

#[test]
fn the_newer_page_of_a_pair_counts() {
    let (old, new) = (log(5, 8, &[1, 2]), log(5, 9, &[4]));
    let mut wanted = std::vec![0; PAGE_WORDS];
    wanted[0] = 4;
    for (slots, next_slot) in [([&old, &new], 0), ([&new, &old], 1)] {
        let (found, words) = recover(slots);
        let expected = Recovered {
            evidence: Evidence::Intact,
            sequence: 9,
            next_slot,
        };
        assert_eq!((found, &words), (expected, &wanted));
    }
}

#[test]
fn a_bad_page_adds_its_bits_to_the_others() {
    let old = log(5, 8, &[1, 0]);
    let mut rotten = log(5, 9, &[4, 2]);
    rotten[0] ^= 1;
    let (found, words) = recover([&rotten, &old]);
    assert_eq!(found.evidence, Evidence::Torn);
    assert_eq!((found.sequence, found.next_slot), (8, 0));
    assert_eq!(words[..3], [5, 2, 0]);
}

#[test]
fn a_pair_that_no_crash_leaves_is_all_hot() {
    let good = log(5, 8, &[1]);
    let bad = [0x77; PAGE];
    let wrong = log(6, 9, &[1]);
    let far = log(5, 11, &[1]);
    for slots in [
        [&bad, &bad],
        [&good, &[0; PAGE]],
        [&[0; PAGE], &[0; PAGE]],
        [&good, &wrong],
        [&good, &far],
        [&good, &good],
    ] {
        let (found, words) = recover(slots);
        assert_eq!(found.evidence, Evidence::Lost);
        assert_eq!(words, [u64::MAX; PAGE_WORDS]);
    }
    let mut words = [0; 3];
    let found = activity::recover(DEVICE, 5, [None, Some(&good)], &mut words);
    let expected = Recovered {
        evidence: Evidence::Lost,
        sequence: 8,
        next_slot: 0,
    };
    assert_eq!((found, words), (expected, [u64::MAX; 3]));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn bits_come_back(words in words(), number in any::<u32>(), sequence in any::<u64>(), used in 0..=PAGE_WORDS) {
        let mut page = [0xee; PAGE];
        bitmap::encode(DEVICE, number, sequence, &words[..used], &mut page);
        let mut read = std::vec![7; used];
        prop_assert_eq!(bitmap::decode(DEVICE, number, &page, &mut read), Ok(sequence));
        prop_assert_eq!(&read, &words[..used]);
        activity::encode(DEVICE, number, sequence, &words[..used], &mut page);
        prop_assert_eq!(activity::check(DEVICE, number, &page), Ok(sequence));
    }

    #[test]
    fn a_crash_in_a_log_write_loses_no_durable_bit(
        older in words(), durable in words(), next in words(), mask in any::<u8>(), cut in 0..=PAGE, slot in 0usize..2,
    ) {
        let (older, last) = (log(5, 7, &older), log(5, 8, &durable));
        let goal = log(5, 9, &next);
        let mut page = torn(&older, &goal, mask);
        if mask & 1 == 0 {
            page[..cut].copy_from_slice(&goal[..cut]);
        }
        let slots = if slot == 0 { [&page, &last] } else { [&last, &page] };
        let (found, words) = recover(slots);
        if found.sequence == 9 {
            // It arrived whole although nobody was told: what it cleared was clean already.
            prop_assert_eq!(&words, &next);
        } else {
            prop_assert!(covers(&words, &durable));
            prop_assert_eq!(usize::from(found.next_slot), slot);
        }
        prop_assert!(found.evidence != Evidence::Lost);
    }

    #[test]
    fn rot_in_one_page_costs_at_most_the_rotten_bit(older in words(), newer in words(), bit in 0..PAGE * 8, which in 0usize..2) {
        let mut pages = [log(5, 8, &older), log(5, 9, &newer)];
        pages[which][bit / 8] ^= 1 << (bit % 8);
        let (found, mut words) = recover([&pages[0], &pages[1]]);
        prop_assert_eq!(found.evidence, Evidence::Torn);
        if let Some(bit) = bit.checked_sub(128) {
            words[bit / 64] |= 1 << (bit % 64);
        }
        prop_assert!(covers(&words, &newer));
    }

    #[test]
    fn nothing_makes_decode_panic(bytes in proptest::collection::vec(any::<u8>(), PAGE), number in any::<u32>()) {
        let page: Page = bytes.try_into().unwrap();
        let mut words = [0; PAGE_WORDS];
        let read = bitmap::decode(DEVICE, number, &page, &mut words);
        prop_assert!(read.is_err());
        let found = activity::recover(DEVICE, number, [Some(&page), None], &mut words);
        prop_assert_eq!(found.evidence, Evidence::Lost);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_torn_page_is_old_new_or_invalid(old in words(), new in words()) {
        let (old, new) = (log(5, 7, &old), log(5, 9, &new));
        for mask in 0..=u8::MAX {
            let page = torn(&old, &new, mask);
            if activity::check(DEVICE, 5, &page).is_ok() {
                prop_assert!(page == old || page == new, "a mixture passed: {:#010b}", mask);
            }
        }
    }
}
