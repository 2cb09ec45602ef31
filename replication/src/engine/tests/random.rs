//! A small random walk: writes, reads, flushes, cuts and role changes in any order of events. The
//! simulator proper is the crate `sim`; this one finds the simple mistakes early.

use super::*;

fn walk(seed: u64) {
    let mut pair = Pair::ready();
    pair.rng = seed * 0x9e37_79b9 + 1;
    for _ in 0..300 {
        let primary = usize::from(pair.nodes[1].serving);
        match pair.pick(40) {
            0 => {
                if pair.up {
                    pair.cut();
                } else {
                    pair.network = true;
                }
            }
            1 => pair.wait(700_000),
            2 => {
                let n = pair.pick(2);
                pair.nodes[n].disk_held ^= true;
            }
            3 => {
                pair.start(primary, Command::Secondary { force: true });
            }
            4 => {
                let n = pair.pick(2);
                pair.start(n, Command::Primary { force: false });
            }
            5..20 if pair.nodes[primary].engine.has_room() => {
                let (at, len) = (pair.pick(2000) as u64 * 512, 512 << pair.pick(6));
                let fill = pair.pick(255) as u8;
                let fua = pair.pick(4) == 0;
                match pair.pick(8) {
                    0 => pair.submit(primary, at, |_| ClientOp::Flush),
                    1 => pair.submit(primary, at, |_| ClientOp::Discard { len, fua }),
                    2 => pair.submit(primary, at, |_| ClientOp::WriteZeroes {
                        len: len * 16,
                        unmap: true,
                        fua,
                    }),
                    _ => pair.write_fua(primary, at, len, fill, fua),
                };
            }
            _ => {
                pair.step();
            }
        }
    }
    for node in &mut pair.nodes {
        node.disk_held = false;
    }
    pair.network = true;
    pair.wait(20_000_000);
    pair.assert_in_sync();
    for node in &pair.nodes {
        assert_eq!(
            node.replies.len() + node.done.len(),
            node.next_id as usize - 1
        );
    }
}

#[test]
fn any_order_of_events_ends_in_sync_with_all_memory_back() {
    for seed in 1..300 {
        walk(seed);
    }
}
