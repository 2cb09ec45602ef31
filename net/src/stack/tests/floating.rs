//! The address that follows the Primary.

use super::*;
use core::net::IpAddr;

fn floating() -> IpAddr {
    "10.0.0.100".parse().expect("an address")
}

/// Gratuitous ARP requests for the floating address so far, by the last byte of the sender's hardware address.
fn announced(world: &World, sender: u8) -> usize {
    let segment = world.segment.borrow();
    let frames = segment.trace.as_ref().expect("traced");
    frames
        .iter()
        .filter(|f| f[..6] == [0xff; 6] && f[11] == sender && f[12..14] == [8, 6])
        .filter(|f| f[28..32] == [10, 0, 0, 100] && f[38..42] == [10, 0, 0, 100])
        .count()
}

#[test]
fn a_client_finds_the_node_that_took_the_address_and_its_old_connection_is_reset() {
    let mut world = World::new(31);
    let mut a = world.node(1, &[group(4)]);
    let mut b = world.node(2, &[group(4)]);
    let mut c = world.node(3, &[group(4)]);
    world.segment.borrow_mut().trace = Some(Vec::new());
    a.stack
        .take_address(world.now, floating())
        .expect("in its network");
    let target = (floating(), PORT).into();

    let old = c.stack.dial(G, target).expect("a slot");
    let mut on_a = None;
    assert!(
        world.run(&mut [&mut a, &mut b, &mut c], SECOND, |nodes, _| {
            on_a = on_a.or_else(|| nodes[0].stack.accept(G));
            on_a.is_some() && nodes[2].stack.status(old) == ConnState::Open
        })
    );
    assert_eq!(announced(&world, 1), 1);

    // The old owner dies without a word: its reset does not come through.
    world.cut(&a, true);
    a.stack.abort(world.now, on_a.expect("just checked"));
    a.stack.give_up_address(floating());
    b.stack
        .take_address(world.now, floating())
        .expect("in its network");
    world.run(&mut [&mut a, &mut b, &mut c], SECOND / 100, |_, _| false);
    assert_eq!(announced(&world, 2), 1);
    // What a client's kernel learns of the announcement; smoltcp heeds only what is addressed to it.
    c.stack.solicit(floating());
    world.run(&mut [&mut a, &mut b, &mut c], SECOND / 100, |_, _| false);
    c.stack
        .stream(old)
        .expect("not reset yet")
        .write(b"still there?");
    assert!(
        world.run(&mut [&mut a, &mut b, &mut c], SECOND, |nodes, _| {
            nodes[2].stack.status(old) == ConnState::Dead
        }),
        "the new owner knows no such connection, and says so"
    );
    let new = c.stack.dial(G, target).expect("a slot");
    let mut on_b = None;
    assert!(
        world.run(&mut [&mut a, &mut b, &mut c], SECOND, |nodes, _| {
            on_b = on_b.or_else(|| nodes[1].stack.accept(G));
            on_b.is_some() && nodes[2].stack.status(new) == ConnState::Open
        })
    );
}

#[test]
fn an_address_that_was_taken_is_announced_some_times_and_one_that_was_given_up_never() {
    let mut world = World::new(32);
    let mut a = world.node(1, &[group(4)]);
    let mut c = world.node(3, &[group(4)]);
    world.segment.borrow_mut().trace = Some(Vec::new());
    a.stack
        .take_address(world.now, floating())
        .expect("in its network");
    world.run(&mut [&mut a, &mut c], SECOND / 10, |_, _| false);
    assert_eq!(announced(&world, 1), 1);
    world.run(&mut [&mut a, &mut c], 20 * SECOND, |_, _| false);
    assert_eq!(announced(&world, 1), 5);

    a.stack.take_address(world.now, floating()).expect("again");
    a.stack.give_up_address(floating());
    world.run(&mut [&mut a, &mut c], 20 * SECOND, |_, _| false);
    assert_eq!(announced(&world, 1), 5);
    let nobody = c.stack.dial(G, (floating(), PORT).into()).expect("a slot");
    world.run(&mut [&mut a, &mut c], SECOND, |_, _| false);
    assert_eq!(
        c.stack.status(nobody),
        ConnState::Connecting,
        "nobody answers for it"
    );
}

#[test]
fn an_address_of_no_own_network_is_refused() {
    let mut world = World::new(33);
    let mut a = world.node(1, &[group(4)]);
    let far: IpAddr = "192.0.2.1".parse().expect("an address");
    assert_eq!(
        a.stack.take_address(0, far),
        Err(StackError::Address(far, 0))
    );
}
