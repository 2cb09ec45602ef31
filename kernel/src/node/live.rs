//! Changes of the configuration while the node runs: `set`, `adjust`, `config check`.

use alloc::format;
use alloc::string::String;
use core::fmt::Write;

use admin::config::Config;
use admin::config::live::{self, Changes};
use replication::api::{Event, Text};

use super::{Appliance, answers, for_this_machine, policies, signals};
use crate::{platform, time};

fn short(text: &str) -> Text {
    Text::try_from(text).unwrap_or_default()
}

fn unwritable(_: core::fmt::Error) -> Text {
    short("the answer could not be written")
}

/// The configuration as the boot module has it.
fn booted() -> Result<Config, Text> {
    let text = platform::get().and_then(|platform| platform.config);
    // A node that runs has read it once.
    let config = text.and_then(|text| Config::parse(text).ok());
    config.ok_or_else(answers::not_running)
}

/// Answers `set` alone.
pub fn list(appliance: &Appliance, out: &mut dyn Write) -> Result<Text, Text> {
    let (Some(_), Ok(config)) = (&appliance.node, &appliance.config) else {
        return Err(answers::not_running());
    };
    live::list(config, &booted()?, out).map_err(unwritable)?;
    Ok(Text::new())
}

/// Answers `set` with a key and a value, which may be empty.
pub fn set(
    appliance: &mut Appliance,
    key: &'static str,
    value: &str,
    dry_run: bool,
    out: &mut dyn Write,
) -> Result<Text, Text> {
    let changes = appliance.changes.with(key, value);
    let said = change(appliance, changes, dry_run, out)?;
    if !dry_run && said.is_empty() {
        live::not_durable(out).map_err(unwritable)?;
    }
    Ok(said)
}

/// Answers `adjust`.
pub fn adjust(appliance: &mut Appliance, dry_run: bool, out: &mut dyn Write) -> Result<Text, Text> {
    change(appliance, Changes::default(), dry_run, out)
}

/// Says what these changes make different, and makes them those in effect.
fn change(
    appliance: &mut Appliance,
    changes: Changes,
    dry_run: bool,
    out: &mut dyn Write,
) -> Result<Text, Text> {
    let text = platform::get().and_then(|platform| platform.config);
    let (Some(node), Ok(config), Some(text)) = (&mut appliance.node, &appliance.config, text)
    else {
        return Err(answers::not_running());
    };
    let changed = match changes.apply(text) {
        Ok(changed) => changed,
        Err(errors) => {
            live::refused(&errors, out).map_err(unwritable)?;
            return Err(short("nothing was changed"));
        }
    };
    let mut lines = String::new();
    if !live::differences(config, &changed, &mut lines).map_err(unwritable)? {
        return Ok(short("it is so already"));
    }
    out.write_str(&lines).map_err(unwritable)?;
    if dry_run {
        return Ok(short("nothing was done"));
    }
    let now = time::now_micros();
    node.core.now = now;
    node.core.engine.tune(&policies::tuning(&changed))?;
    node.core
        .link
        .set_connect_interval(changed.net.connect_interval);
    node.core.event(Event::Tick);
    // By the level that was there and by the new one: whoever looks for the cause finds it.
    lines
        .lines()
        .for_each(|line| log::warn!("by command: {line}"));
    for_this_machine(&changed);
    appliance.config = Ok(changed);
    appliance.changes = changes;
    signals::DATA_PATH.signal(());
    Ok(Text::new())
}

/// Answers `config check`.
pub fn check(appliance: &Appliance, out: &mut dyn Write) -> Result<Text, Text> {
    let Some(text) = platform::get().and_then(|platform| platform.config) else {
        return Err(short("there is no configuration; 'status' says what to do"));
    };
    let config = match Config::parse(text) {
        Ok(config) => config,
        Err(errors) => {
            writeln!(out, "{errors}").map_err(unwritable)?;
            return Err(short("the configuration is refused"));
        }
    };
    for problem in &appliance.problems {
        writeln!(out, "{problem}").map_err(unwritable)?;
    }
    if !appliance.problems.is_empty() {
        return Err(short(
            "the configuration is sound, and does not fit this machine",
        ));
    }
    let (node, resource) = (&config.node.name, &config.resource.name);
    let said = format!(
        "sound: node {node} of resource {resource}, {} volume(s)",
        config.volumes.len()
    );
    writeln!(out, "{said}").map_err(unwritable)?;
    if !appliance.changes.is_empty() {
        writeln!(
            out,
            "some of it was changed since the start: 'set' lists it"
        )
        .map_err(unwritable)?;
    }
    Ok(Text::new())
}
