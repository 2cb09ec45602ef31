//! Proof that the oracle notices: deliberate faults of the product, made in the pump, must each be
//! found within a few seeds, and as the kind of fault that they are.

use sim::{MUTATIONS, Mutation, Options, run_seed};
use std::ops::Range;

/// Seeds within which a fault must show.
const SEEDS: u64 = 60;

/// The rules that the fault breaks, in seeds that pass without it.
fn caught_as(mutation: Mutation, fencing: bool, seeds: Range<u64>) -> Vec<&'static str> {
    let sound = || Options {
        fencing,
        ..Options::default()
    };
    let options = Options {
        mutation: Some(mutation),
        ..sound()
    };
    seeds
        .filter_map(|seed| Some((seed, run_seed(seed, &options).violation?.rule)))
        .filter(|(seed, _)| run_seed(*seed, &sound()).violation.is_none())
        .map(|(_, rule)| rule)
        .collect()
}

fn must_be_caught(mutation: Mutation, as_one_of: &[&str]) {
    let rules = caught_as(mutation, false, 0..SEEDS);
    assert_caught(mutation, &rules, as_one_of);
}

fn assert_caught(mutation: Mutation, rules: &[&str], as_one_of: &[&str]) {
    assert!(
        rules.iter().any(|rule| as_one_of.contains(rule)),
        "{mutation:?} was not found as one of {as_one_of:?}, but as {rules:?}"
    );
}

const IDENTICAL: &str = "both UpToDate means identical";
const ANSWERED: &str = "an answered write is on the disk of both nodes";
const FLUSHED: &str = "a flushed write survives a power cut";
const IN_PLACE: &str = "only what clients wrote is written, in its place";
const READ: &str = "a read returns the last write answered or one in flight";

#[test]
fn a_mirrored_write_that_is_acknowledged_but_not_made() {
    must_be_caught(Mutation::LoseMirroredWrite, &[ANSWERED]);
}

#[test]
fn overlapping_writes_in_another_order_on_one_node() {
    must_be_caught(Mutation::ReorderOverlapping, &[IDENTICAL, ANSWERED]);
}

#[test]
fn a_flush_that_makes_nothing_durable() {
    must_be_caught(Mutation::LoseFlush, &[FLUSHED]);
}

#[test]
fn a_sector_that_changes_by_itself() {
    must_be_caught(Mutation::FlipReplica, &[IDENTICAL, ANSWERED, FLUSHED, READ]);
}

#[test]
fn a_resynced_block_that_never_landed() {
    must_be_caught(Mutation::LoseResyncBlock, &[IDENTICAL, ANSWERED]);
}

#[test]
fn a_write_beside_its_place() {
    must_be_caught(Mutation::Misdirect, &[IDENTICAL, ANSWERED, IN_PLACE]);
}

#[test]
fn a_read_of_old_data() {
    must_be_caught(Mutation::StaleRead, &[READ, IDENTICAL]);
}

#[test]
fn a_late_unfence_that_the_arbiter_obeys() {
    let rules = caught_as(Mutation::StaleUnfence, true, 0..SEEDS);
    assert_caught(
        Mutation::StaleUnfence,
        &rules,
        &["an UNFENCE undoes no newer fence"],
    );
}

#[test]
fn an_arbiter_that_forgets() {
    let rules = caught_as(Mutation::ForgetfulArbiter, true, 0..SEEDS);
    assert_caught(
        Mutation::ForgetfulArbiter,
        &rules,
        &["a fenced node is not promoted without force"],
    );
}

#[test]
fn every_mutation_has_its_test() {
    assert_eq!(MUTATIONS.len(), 9);
}
