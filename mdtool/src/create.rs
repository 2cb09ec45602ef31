//! Writes new metadata.

use crate::disk::Disk;
use crate::error::Error;
use crate::locate::locate;
use clap::Args;
use replication::api::Name;
use replication::ondisk::{
    Creation, Depth, FOREIGN_BYTES, Layout, PAGE, Step, Superblock, foreign,
};
use std::path::PathBuf;

/// Arguments of `create`.
#[derive(Args)]
pub struct CreateOptions {
    /// Raw image or block device of the volume's data.
    image: PathBuf,
    /// The resource's name.
    #[arg(long, value_parser = name)]
    resource: Name,
    /// The node that this disk belongs to.
    #[arg(long, value_parser = name)]
    node: Name,
    /// The volume's index: the number in `vol0`.
    #[arg(long)]
    volume: u16,
    /// Size of the volume, as in 512MiB; by default all that there is room for.
    #[arg(long, value_parser = size)]
    size: Option<u64>,
    /// Smallest unit of a client's request in bytes: 512 or 4096.
    #[arg(long, default_value_t = 512, value_parser = block_size)]
    block_size: u32,
    /// Put the metadata on this disk of its own, and leave IMAGE as it is.
    #[arg(long, value_name = "FILE")]
    external: Option<PathBuf>,
    /// Set so much aside for snapshots, as in 1GiB (`snapshot-reserve` in the configuration).
    #[arg(long, value_name = "SIZE", default_value = "0B", value_parser = size)]
    snapshot_reserve: u64,
    /// Give up whatever the metadata's disk holds.
    #[arg(long)]
    force: bool,
}

fn name(text: &str) -> Result<Name, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    match Name::try_from(text) {
        Ok(name) if !text.is_empty() && text.chars().all(allowed) => Ok(name),
        _ => Err("a name has 1 to 32 letters, digits, '-', '_', '.'".to_owned()),
    }
}

fn size(text: &str) -> Result<u64, String> {
    let parsed = admin::units::parse_size(text);
    parsed.ok_or_else(|| "a size is a number and a unit, as in 512MiB".to_owned())
}

fn block_size(text: &str) -> Result<u32, String> {
    match text {
        "512" => Ok(512),
        "4096" => Ok(4096),
        _ => Err("only 512 and 4096 are possible".to_owned()),
    }
}

/// Creates the metadata and says what was done.
pub fn create(options: &CreateOptions) -> Result<String, Error> {
    let data_bytes = match options.external {
        Some(_) => Disk::open(&options.image)?.bytes(),
        None => 0,
    };
    let path = options.external.as_ref().unwrap_or(&options.image);
    let disk = Disk::open_to_write(path)?;
    let layout = match options.external {
        Some(_) => external(options, &disk, data_bytes)?,
        None => internal(options, &disk)?,
    };
    let survey = locate(&disk, Depth::Ends(None));
    let [a, b] = survey.copies();
    let old = a.as_ref().or(b.as_ref()).ok();
    if !options.force {
        refuse_what_is_there(&disk, old)?;
    }
    let mut id = 0;
    while id == 0 {
        id = getrandom::u64().map_err(Error::Random)?;
    }
    let superblock = Superblock::new(
        id,
        options.resource.clone(),
        options.node.clone(),
        options.volume,
        options.block_size,
        layout,
    );
    let replaced = old.map(|old| old.layout);
    let replaced = replaced.filter(|old| old.end() <= disk.bytes());
    let mut creation = Creation::new(superblock, replaced).map_err(Error::Field)?;
    let mut page = [0; PAGE];
    while let Some(step) = creation.next_step(&mut page) {
        match step {
            Step::Write(at) => disk.write(at, &page)?,
            Step::Flush => disk.flush()?,
        }
    }
    Ok(format!(
        "{}: metadata {id:016X} of vol{} of {} on {}, volume of {} bytes\n",
        path.display(),
        options.volume,
        options.resource,
        options.node,
        layout.volume_bytes
    ))
}

fn internal(options: &CreateOptions, disk: &Disk) -> Result<Layout, Error> {
    let layout = Layout::internal(disk.bytes(), options.size)
        .and_then(|layout| layout.with_reserve(options.snapshot_reserve));
    let layout = layout.map_err(|error| Error::Layout {
        path: disk.path().to_owned(),
        error,
    })?;
    match options.size {
        Some(wanted) if wanted > layout.volume_bytes => Err(Error::TooLarge {
            path: disk.path().to_owned(),
            wanted,
            room: layout.volume_bytes,
        }),
        _ => Ok(layout),
    }
}

fn external(options: &CreateOptions, disk: &Disk, data_bytes: u64) -> Result<Layout, Error> {
    let room = data_bytes - data_bytes % u64::from(options.block_size);
    let wanted = options.size.unwrap_or(room);
    if wanted > room {
        return Err(Error::TooLarge {
            path: options.image.clone(),
            wanted,
            room,
        });
    }
    let layout = Layout::external(disk.bytes(), wanted)
        .and_then(|layout| layout.with_reserve(options.snapshot_reserve));
    layout.map_err(|error| Error::Layout {
        path: disk.path().to_owned(),
        error,
    })
}

fn refuse_what_is_there(disk: &Disk, old: Option<&Superblock>) -> Result<(), Error> {
    let path = disk.path().to_owned();
    if let Some(old) = old {
        let what = format!(
            "Palisade metadata of vol{} of {} on {}",
            old.volume, old.resource, old.node
        );
        return Err(Error::Holds { path, what });
    }
    let edge = disk.bytes().min(FOREIGN_BYTES as u64);
    let first = disk.read(0, edge as usize)?;
    let last = disk.read(disk.bytes() - edge, edge as usize)?;
    match foreign(&first, &last) {
        Some(what) => Err(Error::Holds {
            path,
            what: what.to_owned(),
        }),
        None => Ok(()),
    }
}
