use super::*;
use proptest::prelude::*;
use replication::api::Level;
use std::string::String;
use std::vec;
use std::vec::Vec;

const CLOCK_NOW: Clock = Clock {
    year: 2026,
    rest: [11, 28, 12, 40, 3],
};

/// Crashes in this region `uptime` after the start, with so many log lines; answers how many in a row.
fn crash(region: &mut [u8], uptime: Micros, lines: u64) -> u32 {
    let facts = Facts {
        uptime,
        clock: Some(CLOCK_NOW),
        version: "0.1.0",
        revision: "5ee47c4b038c",
        message: format_args!("panic: {}", "it \u{1b} broke"),
        location: Some(Location::caller()),
        details: format_args!("  rsp 0x1\r\n  rbp 0x2\r\n"),
        backtrace: &[0x10_1234, 0x10_5678],
    };
    let mut recorder = Recorder::begin(region, &facts).unwrap();
    let in_a_row = recorder.seal();
    for number in 0..lines {
        recorder.line(&Entry {
            sequence: number,
            at: number,
            level: Level::Info,
            text: "x".repeat(240).as_str().try_into().unwrap(),
        });
    }
    assert_eq!(recorder.seal(), in_a_row);
    in_a_row
}

#[test]
fn a_crash_reads_back_and_is_told() {
    let mut region = vec![0xa5; REGION_BYTES];
    assert_eq!(Crash::read(&region), None);
    crash(&mut region, 187_000_000, 1);
    note_start(&mut region);
    let found = Crash::read(&region).unwrap();
    let at = found.location;
    assert!(at.starts_with("admin/src/crash/tests.rs:"), "{at}");
    assert_eq!(
        found.backtrace().collect::<Vec<_>>(),
        [0x10_1234, 0x10_5678]
    );
    assert_eq!(
        std::format!("{found}"),
        std::format!(
            "panic: it ? broke, at {at}, 3:07 after its start, at 2026-11-28 12:40:03 by the machine's clock"
        )
    );
    let mut out = String::new();
    text(Some(&found), &mut out).unwrap();
    let log = std::format!("[    0.000000] info  {}\n", "x".repeat(240));
    let expected = std::format!(
        "panic: it ? broke\n\
         at        {at}\n\
         when      3:07 after its start, 2026-11-28 12:40:03 by the machine's clock\n\
         starts    1 since then\n\
         version   0.1.0 (5ee47c4b038c)\n\
         \x20 rsp 0x1\n\
         \x20 rbp 0x2\n\
         backtrace 0x101234 0x105678\n\
         Names for the addresses: addr2line -f -e palisade.debug.elf ADDRESS...\n\
         the last lines of its log:\n{log}"
    );
    assert_eq!(out, expected);
    let mut out = String::new();
    json(Some(&found), &mut out).unwrap();
    let start = std::format!(
        r#"{{"schema":1,"crash":{{"message":"panic: it ? broke","location":"{at}","uptime_us":187000000,"clock":"2026-11-28 12:40:03","starts":1,"in_a_row":1,"version":"0.1.0","revision":"5ee47c4b038c","details":"  rsp 0x1\u000a  rbp 0x2\u000a","backtrace":["0x101234","0x105678"],"log":"[    0.000000]"#
    );
    assert!(out.starts_with(&start), "{out}");
    clear(&mut region);
    assert_eq!(Crash::read(&region), None);
    let (mut plain, mut line) = (String::new(), String::new());
    text(None, &mut plain).unwrap();
    json(None, &mut line).unwrap();
    assert_eq!(plain, "no crash is on record\n");
    assert_eq!(line, "{\"schema\":1,\"crash\":null}\n");
}

#[test]
fn as_many_lines_as_there_are_at_most_find_room() {
    let mut region = vec![0; REGION_BYTES];
    crash(&mut region, 0, LOG_LINES as u64);
    let lines = Crash::read(&region).unwrap().log.lines().count();
    assert_eq!(lines, LOG_LINES);
    crash(&mut region, 0, 200);
    assert!(Crash::read(&region).unwrap().log.len() < REGION_BYTES);
}

#[test]
fn only_crashes_soon_after_starts_in_a_row_count() {
    let mut region = vec![0; REGION_BYTES];
    assert_eq!(crash(&mut region, 1, 0), 1);
    note_start(&mut region);
    assert_eq!(crash(&mut region, LIFE - 1, 0), 2);
    note_start(&mut region);
    assert_eq!(crash(&mut region, LIFE, 0), 1, "it lived");
    note_start(&mut region);
    assert_eq!(crash(&mut region, 1, 0), 2);
    note_start(&mut region);
    note_start(&mut region);
    assert_eq!(crash(&mut region, 1, 0), 1, "one start went well");
    // A crash before the region is looked at, too, is one of the row.
    assert_eq!(crash(&mut region, 1, 0), 2);
}

#[test]
fn a_region_that_is_too_small_is_left_alone() {
    let facts = Facts {
        uptime: 0,
        clock: None,
        version: "",
        revision: "",
        message: format_args!(""),
        location: None,
        details: format_args!(""),
        backtrace: &[],
    };
    let mut region = vec![1; REGION_BYTES - 1];
    assert!(Recorder::begin(&mut region, &facts).is_none());
    assert!(region.iter().all(|byte| *byte == 1));
}

proptest! {
    /// One flipped bit of a record, wherever, is noticed; and no content of the region does harm.
    #[test]
    fn what_was_damaged_is_no_record(bit in 0usize..8 * TEXTS) {
        let mut region = vec![0; REGION_BYTES];
        crash(&mut region, 5, 3);
        region[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Crash::read(&region), None);
        note_start(&mut region);
        prop_assert_eq!(Crash::read(&region), None);
    }

    #[test]
    fn signed_nonsense_does_no_harm(
        length in 0usize..600,
        noise in prop::collection::vec(any::<u8>(), 600),
    ) {
        let mut region = vec![0; REGION_BYTES];
        region[..600].copy_from_slice(&noise);
        region[..CRC].copy_from_slice(MAGIC);
        region[LENGTH..IN_A_ROW].copy_from_slice(&(length as u32).to_le_bytes());
        if length >= TEXTS {
            sign(&mut region[..length]);
        }
        if let Some(crash) = Crash::read(&region) {
            let mut out = String::new();
            text(Some(&crash), &mut out).unwrap();
        }
        note_start(&mut region);
    }
}
