//! The answer to `status --json` (docs/CONSOLE.md), as far as it is used here.

use crate::error::Error;
use serde::Deserialize;

/// The schema that this version understands: within it fields are only added.
const SCHEMA: u64 = admin::status::SCHEMA as u64;

/// A node's status. Fields that a node which serves nothing leaves out are empty.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Status {
    schema: u64,
    /// Of the appliance.
    pub version: String,
    /// Since its boot, in microseconds.
    pub uptime_us: u64,
    /// This node's name.
    pub node: String,
    /// The peer's name.
    pub peer: String,
    /// The resource.
    pub resource: String,
    /// Primary or Secondary.
    pub role: String,
    /// The peer's, or Unknown.
    pub peer_role: String,
    /// State of the replication connection.
    pub connection: String,
    /// A, B or C.
    pub protocol: String,
    /// Why it waits or was refused.
    pub reason: String,
    /// Whether clients are served.
    pub serving: bool,
    /// Why requests are held back.
    pub suspended: Suspended,
    /// The fences.
    pub fencing: Fencing,
    /// Clients that have a volume open.
    pub open_clients: u64,
    /// In the order of their numbers.
    pub volumes: Vec<Volume>,
    /// Memory of the node.
    pub memory: Usage,
    /// Memory for payload.
    pub buffers: Usage,
    /// What is wrong with the configuration of a node that serves nothing.
    pub config_errors: Vec<Problem>,
    /// What is wrong with its devices.
    pub device_errors: Vec<Problem>,
}

/// Why requests are held back.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Suspended {
    /// By `suspend-io`.
    pub user: bool,
    /// No disk has good data.
    pub no_data: bool,
    /// A fence is undecided.
    pub fencing: bool,
}

/// Who fences whom.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Fencing {
    /// The policy.
    pub policy: String,
    /// The number of this node's own fence.
    pub episode: Option<u64>,
    /// Its state.
    pub state: String,
    /// The peer's fence against this node.
    pub fenced_by: Option<u64>,
}

/// A volume.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// The number in its name.
    pub index: u64,
    /// In bytes.
    pub size: u64,
    /// State of this node's disk.
    pub disk: String,
    /// State of the peer's.
    pub peer_disk: String,
    /// What is going on between both.
    pub replication: String,
    /// Bytes that differ, or may.
    pub out_of_sync: u64,
    /// A resync that is under way.
    pub resync: Option<Progress>,
    /// A verify that is under way.
    pub verify: Option<Progress>,
    /// What either waits for.
    pub waits: String,
    /// By clients, since boot.
    pub read_bytes: u64,
    /// By clients, since boot.
    pub written_bytes: u64,
    /// From the peer, since boot.
    pub received_bytes: u64,
}

/// How far a resync or a verify is.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// In percent.
    pub percent: f64,
    /// In bytes per second.
    pub rate: u64,
    /// Seconds that are left, if that can be told.
    pub eta_s: Option<u64>,
    /// Whether nothing moves although nothing is waited for.
    pub stalled: bool,
}

/// Bytes in use.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// In use.
    pub used: u64,
    /// There are.
    pub total: u64,
}

/// A mistake in a node's configuration or devices.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// What is wrong.
    pub message: String,
}

impl Status {
    /// Reads a node's answer.
    ///
    /// # Errors
    /// [`Error::Status`]: not JSON, or of another schema.
    pub fn read(text: &str) -> Result<Self, Error> {
        let status: Self =
            serde_json::from_str(text).map_err(|why| Error::Status(why.to_string()))?;
        if status.schema == SCHEMA {
            Ok(status)
        } else {
            Err(Error::Status(format!(
                "it has schema {}, this palisadectl knows {SCHEMA}: use one of the node's version, {}",
                status.schema, status.version
            )))
        }
    }

    /// What keeps the node from serving at all.
    pub fn problems(&self) -> impl Iterator<Item = &str> {
        let all = self.config_errors.iter().chain(&self.device_errors);
        all.map(|problem| problem.message.as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn another_schema_is_refused_with_what_to_do() {
        let error = Status::read("{\"schema\":2,\"version\":\"9.9\"}").unwrap_err();
        assert!(error.to_string().contains("version, 9.9"), "{error}");
        assert!(Status::read("{\"schema\":1").is_err());
        assert!(Status::read("[]").is_err());
    }

    #[test]
    fn a_node_that_serves_nothing_says_why() {
        let text = "{\"schema\":1,\"version\":\"0.1.0\",\"uptime_us\":5,\"serving\":false,\
                    \"config_errors\":[{\"line\":3,\"column\":1,\"message\":\"no such key\"}],\"device_errors\":[]}";
        let status = Status::read(text).unwrap();
        assert_eq!(status.problems().collect::<Vec<_>>(), ["no such key"]);
    }
}
