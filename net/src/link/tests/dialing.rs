//! The dialer alone.

use super::*;

/// Attempts within `span`, each refused after `answer`.
fn refused_attempts(dialer: &mut Dialer, span: Micros, answer: Micros) -> Vec<Micros> {
    let mut dials = Vec::new();
    let mut now = 0;
    let mut refusal = None;
    while now < span {
        if refusal.is_some_and(|at| at <= now) {
            refusal = None;
            dialer.failed(now);
        }
        while let Some(step) = dialer.poll(now) {
            if step == DialStep::Dial {
                dials.push(now);
                refusal = Some(now + answer);
            }
        }
        let next = dialer.poll_at().expect("wanted");
        assert!(next > now, "would spin");
        now = refusal.map_or(next, |at| at.min(next));
    }
    dials
}

#[test]
fn the_larger_endpoint_dials() {
    let of = |a: &str, b: &str| {
        let parse = |text: &str| text.parse().expect("an address");
        Side::of(parse(a), parse(b))
    };
    assert_eq!(of("10.0.0.2:5", "10.0.0.1:5"), Side::Dials);
    assert_eq!(of("10.0.0.1:5", "10.0.0.2:5"), Side::Listens);
    assert_eq!(of("10.0.0.10:5", "10.0.0.9:5"), Side::Dials);
    assert_eq!(of("10.0.0.1:6", "10.0.0.1:5"), Side::Dials);
    assert_eq!(of("[fd00::1]:5", "[fd00::2]:5"), Side::Listens);
}

#[test]
fn refusals_are_spaced_out() {
    let mut dialer = Dialer::new(Side::Dials, INTERVAL);
    dialer.open(0);
    let dials = refused_attempts(&mut dialer, 20 * SECOND, 1000);
    assert_eq!(dials[0], 0);
    assert!(dials[1] <= 60_000 && dials[2] <= 200_000, "{dials:?}");
    let gaps: Vec<_> = dials.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.windows(2).all(|pair| pair[0] <= pair[1]));
    assert_eq!(*gaps.last().expect("several"), INTERVAL + 1000);
}

#[test]
fn unanswered_attempts_follow_one_another_and_are_reported() {
    let mut dialer = Dialer::new(Side::Dials, INTERVAL);
    dialer.open(0);
    let (mut dials, mut reports, mut solicits) = (Vec::new(), 0, 0);
    let mut now = 0;
    while now < 30 * SECOND {
        while let Some(step) = dialer.poll(now) {
            match step {
                DialStep::Dial => dials.push(now),
                DialStep::ReportFailure => reports += 1,
                DialStep::Solicit => solicits += 1,
                DialStep::Abandon | DialStep::Tell => {}
            }
        }
        now = dialer.poll_at().expect("wanted");
    }
    assert_eq!(reports, 9, "once per connect interval");
    let limits: Vec<_> = dials.windows(2).map(|p| p[1] - p[0]).collect();
    let patient = |at: usize| at % 4 == 3;
    for (at, limit) in limits.iter().enumerate() {
        assert!(*limit <= SECOND || patient(at), "{at}: {limits:?}");
    }
    assert_eq!(limits[0], 250_000);
    assert!((150..300).contains(&solicits), "{solicits}");
}

/// Both hosts are so busy that the peer's answer takes this long.
#[test]
fn a_peer_that_answers_late_is_reached() {
    for delay in [SECOND / 10, SECOND, 2 * SECOND, 4 * SECOND, 7 * SECOND] {
        let mut dialer = Dialer::new(Side::Dials, INTERVAL);
        dialer.open(0);
        let (mut now, mut answer) = (0, None);
        while answer.is_none_or(|at| at > now) {
            while let Some(step) = dialer.poll(now) {
                match step {
                    DialStep::Dial => answer = Some(now + delay),
                    // It goes to an attempt that is over.
                    DialStep::Abandon => answer = None,
                    _ => {}
                }
            }
            assert!(
                now < 60 * SECOND,
                "not reached, with answers after {delay} us"
            );
            let next = dialer.poll_at().expect("wanted");
            now = answer.map_or(next, |at| at.min(next));
        }
    }
}

#[test]
fn a_connection_that_dies_young_counts_as_a_failure() {
    let mut dialer = Dialer::new(Side::Dials, INTERVAL);
    dialer.open(0);
    let mut now = 0;
    let mut lives = 0;
    while now < 20 * SECOND {
        while let Some(step) = dialer.poll(now) {
            if step == DialStep::Dial {
                dialer.connected(now);
                dialer.lost(now + 1);
                lives += 1;
            }
        }
        now = dialer.poll_at().expect("wanted");
    }
    assert!((6..=14).contains(&lives), "{lives}");

    // One that lived long is looked for at once.
    let mut dialer = Dialer::new(Side::Dials, INTERVAL);
    dialer.open(0);
    assert_eq!(dialer.poll(0), Some(DialStep::Dial));
    dialer.connected(10);
    assert_eq!(dialer.poll_at(), None);
    dialer.lost(10 * SECOND);
    assert_eq!(dialer.poll(10 * SECOND), Some(DialStep::Dial));
}

#[test]
fn after_a_refusal_a_whole_interval_passes() {
    let mut dialer = Dialer::new(Side::Dials, INTERVAL);
    dialer.open(0);
    assert_eq!(dialer.poll(0), Some(DialStep::Dial));
    dialer.connected(10);
    dialer.refused(20);
    let mut now = 20;
    loop {
        match dialer.poll(now) {
            Some(DialStep::Dial) => break,
            Some(_) => {}
            None => now = dialer.poll_at().expect("wanted"),
        }
    }
    assert_eq!(now, 20 + INTERVAL);
}

#[test]
fn the_listening_side_never_dials_and_a_closed_one_does_nothing() {
    let mut dialer = Dialer::new(Side::Listens, INTERVAL);
    assert_eq!((dialer.poll(0), dialer.poll_at()), (None, None));
    dialer.open(0);
    let mut now = 0;
    while now < 10 * SECOND {
        while let Some(step) = dialer.poll(now) {
            assert!(matches!(
                step,
                DialStep::Solicit | DialStep::ReportFailure | DialStep::Tell
            ));
        }
        now = dialer.poll_at().expect("wanted");
    }
    dialer.close();
    assert_eq!((dialer.poll(now), dialer.poll_at()), (None, None));
    dialer.connected(now);
    assert!(!dialer.wanted());
}
