//! The machine's clock: the MC146818 of every PC, which runs while the machine is off. For telling when it crashed, and
//! for nothing else: it may be set to anything, at any time.

use admin::crash::Clock;
use x86_64::instructions::port::Port;

const SECONDS: u8 = 0x00;
const MINUTES: u8 = 0x02;
const HOURS: u8 = 0x04;
const DAY: u8 = 0x07;
const MONTH: u8 = 0x08;
const YEAR: u8 = 0x09;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const CENTURY: u8 = 0x32;
/// Status A: the registers are about to change.
const UPDATING: u8 = 1 << 7;
/// Status B: hours from 0 to 23, as every firmware has it; binary numbers instead of decimal digits.
const HOURS_24: u8 = 1 << 1;
const BINARY: u8 = 1 << 2;
/// An update takes 2 ms, and reading a port a microsecond or more.
const POLLS_MAX: u32 = 10_000;

fn register(index: u8) -> u8 {
    // SAFETY: ports of the clock, or of nothing. Reading these registers changes none of them.
    unsafe {
        Port::<u8>::new(0x70).write(index);
        Port::<u8>::new(0x71).read()
    }
}

/// What the clock shows. `None`: there is none, or it shows no time.
pub fn read() -> Option<Clock> {
    let mut polls = 0..POLLS_MAX;
    polls.find(|_| register(STATUS_A) & UPDATING == 0)?;
    let places = [SECONDS, MINUTES, HOURS, DAY, MONTH, YEAR, CENTURY];
    let shown = places.map(register);
    // An update in between would mix two times.
    if shown != places.map(register) {
        return None;
    }
    let mode = register(STATUS_B);
    let number = |raw: u8| match mode & BINARY {
        0 if raw & 0xf > 9 || raw >> 4 > 9 => u8::MAX,
        0 => (raw >> 4) * 10 + (raw & 0xf),
        _ => raw,
    };
    let [second, minute, hour, day, month, year, century] = shown.map(number);
    let century = if (19..=99).contains(&century) {
        century
    } else {
        20
    };
    let sound = mode & HOURS_24 != 0
        && second < 60
        && minute < 60
        && hour < 24
        && (1..=31).contains(&day)
        && (1..=12).contains(&month)
        && year < 100;
    sound.then_some(Clock {
        year: u16::from(century) * 100 + u16::from(year),
        rest: [month, day, hour, minute, second],
    })
}
