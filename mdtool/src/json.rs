//! The report as JSON, for scripts. Within one `schema` fields are only added.

use crate::disk::Disk;
use replication::ondisk::{Chosen, Inspection, Place, Verdict, Which};
use serde_json::{Value, json};
use std::path::Path;

/// Everything that is known. Sizes and places are bytes, identifiers strings of 16 hexadecimal digits.
pub fn report(path: &Path, disk: &Disk, found_at: Option<u64>, inspection: &Inspection) -> Value {
    let findings: Vec<Value> = inspection
        .findings()
        .map(|finding| {
            json!({
                "kind": finding.kind(),
                "text": finding.to_string(),
            })
        })
        .collect();
    let (activity, bitmap) = (inspection.activity(), inspection.bitmap());
    let chosen = inspection.chosen().ok();
    json!({
        "schema": 1,
        "image": path.display().to_string(),
        "disk_bytes": disk.bytes(),
        "found_at": found_at,
        "verdict": match inspection.verdict() {
            Verdict::Good => "good",
            Verdict::Problems => "problems",
            Verdict::Unusable => "unusable",
        },
        "superblock": chosen.map(superblock),
        "activity": {
            "pairs": activity.pairs,
            "torn": activity.torn,
            "lost": activity.lost,
            "hot_extents": activity.hot,
        },
        "bitmap": {
            "pages": bitmap.pages,
            "bad": bitmap.bad,
            "dirty_blocks": bitmap.dirty,
        },
        "findings": findings,
    })
}

fn hex(uuid: u64) -> String {
    format!("{uuid:016X}")
}

fn superblock(chosen: &Chosen) -> Value {
    let superblock = &chosen.superblock;
    let layout = &superblock.layout;
    json!({
        "copy": match chosen.from {
            Which::A => "A",
            Which::B => "B",
        },
        "sequence": superblock.sequence,
        "device_id": hex(superblock.device_id),
        "resource": superblock.resource.as_str(),
        "node": superblock.node.as_str(),
        "volume": superblock.volume,
        "volume_bytes": layout.volume_bytes,
        "block_size": superblock.block_size,
        "disk": format!("{:?}", superblock.disk),
        "peer_disk": format!("{:?}", superblock.peer_disk),
        "primary": superblock.primary,
        "all_dirty": superblock.all_dirty,
        "current": hex(superblock.current),
        "bitmap": hex(superblock.bitmap),
        "history": superblock.history.map(hex),
        "verify_cursor": superblock.verify_cursor,
        "layout": {
            "place": match layout.place {
                Place::Internal => "internal",
                Place::External => "external",
            },
            "superblock_a": layout.superblock_a,
            "activity": layout.activity,
            "activity_pairs": layout.activity_pairs,
            "bitmap": layout.bitmap,
            "bitmap_pages": layout.bitmap_pages,
            "superblock_b": layout.superblock_b,
        },
    })
}
