//! etcd, by the JSON form of its version 3 interface: for those who run several arbiters.
//!
//! Reads are etcd's default ones, which a majority of its servers has confirmed, and a change is a transaction that compares
//! the entry's revision. An answer that does not come leaves open whether it was done: whoever looks again sees it.
//!
//! | key | value |
//! |---|---|
//! | PREFIX`entry/`RESOURCE | the entry |
//! | PREFIX`journal/`RESOURCE`/`NUMBER | a line |
//! | PREFIX`turn/`RESOURCE | the lease of the arbiter that runs a handler; gone with the lease |

use super::{Entry, Error, Store, Turn, Version, dated};
use crate::config::EtcdAt;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Lines of the journal that are kept of each resource.
const JOURNAL_MAX: u64 = 1000;
/// Longest answer that is read, in bytes.
const ANSWER_MAX: u64 = 64 << 20;
/// What a turn lasts beyond what the handler may take, in seconds.
const TURN_MARGIN: u64 = 15;

/// An entry as etcd keeps it.
#[derive(Default, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    entry: Entry,
    /// How often it was changed: numbers the journal.
    changes: u64,
}

pub struct Etcd {
    agent: ureq::Agent,
    endpoints: Vec<String>,
    /// The one that answered last.
    good: AtomicUsize,
    /// The cluster that answered first: votes of two clusters would be two votes.
    cluster: Mutex<Option<String>>,
    prefix: String,
}

impl Etcd {
    pub fn new(at: &EtcdAt) -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_global(Some(at.timeout))
            // A proxy of the environment is for the web.
            .proxy(None)
            .max_redirects(0)
            // A connection that idled may be dead, and then a question would fail for nothing.
            .max_idle_connections(0)
            .http_status_as_error(false)
            .build();
        Self {
            agent: ureq::Agent::new_with_config(config),
            endpoints: at.endpoints.clone(),
            good: AtomicUsize::new(0),
            cluster: Mutex::new(None),
            prefix: at.prefix.clone(),
        }
    }

    /// Asks the servers in turn until one answers.
    fn call(&self, path: &str, question: &Value) -> Result<Value, Error> {
        let count = self.endpoints.len();
        let first = self.good.load(Ordering::Relaxed);
        let mut said = Vec::new();
        for step in 0..count {
            let at = (first + step) % count;
            match self.ask(&self.endpoints[at], path, question) {
                Ok(answer) => {
                    self.good.store(at, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(error) => said.push(format!("{}: {error}", self.endpoints[at])),
            }
        }
        Err(format!("etcd: {}", said.join("; ")).into())
    }

    fn ask(&self, endpoint: &str, path: &str, question: &Value) -> Result<Value, Error> {
        let mut response = self
            .agent
            .post(format!("{endpoint}/v3/{path}"))
            .content_type("application/json")
            .send(serde_json::to_string(question)?)?;
        let bytes = response
            .body_mut()
            .with_config()
            .limit(ANSWER_MAX)
            .read_to_vec()?;
        let status = response.status();
        let answer: Value = serde_json::from_slice(&bytes)
            .map_err(|error| format!("HTTP status {status}, and no JSON: {error}"))?;
        if !status.is_success() {
            let why = answer["error"].as_str().unwrap_or("without a reason");
            return Err(format!("HTTP status {status}: {why}").into());
        }
        let cluster = answer["header"]["cluster_id"]
            .as_str()
            .ok_or("the answer names no cluster")?;
        let mut known = self.cluster.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known.get_or_insert_with(|| cluster.to_owned());
        if known != cluster {
            return Err(format!(
                "cluster {cluster}, where {known} is expected: the endpoints must be of one cluster"
            )
            .into());
        }
        Ok(answer)
    }

    fn key(&self, what: &str, resource: &str) -> String {
        STANDARD.encode(format!("{}{what}/{resource}", self.prefix))
    }

    fn journal_key(&self, resource: &str, number: u64) -> String {
        self.key("journal", &format!("{resource}/{number:020}"))
    }
}

fn text(value: &Value) -> Result<String, Error> {
    let bytes = STANDARD.decode(value.as_str().ok_or("no value in etcd's answer")?)?;
    Ok(String::from_utf8(bytes)?)
}

impl Store for Etcd {
    fn load(&self, resource: &str) -> Result<(Entry, Version), Error> {
        let question = json!({ "key": self.key("entry", resource) });
        let answer = self.call("kv/range", &question)?;
        let Some(found) = answer["kvs"].get(0) else {
            // A key that was never written has revision 0.
            let version = Version {
                seen: "0".into(),
                changes: 0,
            };
            return Ok((Entry::default(), version));
        };
        let kept: Kept = serde_json::from_str(&text(&found["value"])?)
            .map_err(|error| format!("the stored entry is not one of this release: {error}"))?;
        let revision = found["mod_revision"].as_str().ok_or("etcd: no revision")?;
        let version = Version {
            seen: revision.to_owned(),
            changes: kept.changes,
        };
        Ok((kept.entry, version))
    }

    fn swap(
        &self,
        resource: &str,
        read: &Version,
        next: &Entry,
        line: &str,
        turn: Option<&Turn>,
    ) -> Result<bool, Error> {
        let changes = read.changes + 1;
        let entry = next.clone();
        let kept = serde_json::to_string(&Kept { entry, changes })?;
        let key = self.key("entry", resource);
        let mut compare = vec![
            json!({ "key": key, "target": "MOD", "result": "EQUAL", "mod_revision": read.seen }),
        ];
        if let Some(turn) = turn {
            let value = STANDARD.encode(&turn.lease);
            let key = self.key("turn", resource);
            compare
                .push(json!({ "key": key, "target": "VALUE", "result": "EQUAL", "value": value }));
        }
        let line = STANDARD.encode(dated(resource, line)?);
        let mut success = vec![
            json!({ "request_put": { "key": key, "value": STANDARD.encode(kept) } }),
            json!({ "request_put": { "key": self.journal_key(resource, changes), "value": line } }),
        ];
        if let Some(old) = changes.checked_sub(JOURNAL_MAX) {
            success.push(
                json!({ "request_delete_range": { "key": self.journal_key(resource, old) } }),
            );
        }
        let question = json!({ "compare": compare, "success": success });
        let answer = self.call("kv/txn", &question)?;
        Ok(answer["succeeded"].as_bool().unwrap_or(false))
    }

    fn journal(&self) -> Result<Vec<String>, Error> {
        let question = json!({
            "key": STANDARD.encode(format!("{}journal/", self.prefix)),
            // The character after '/'.
            "range_end": STANDARD.encode(format!("{}journal0", self.prefix)),
            "sort_target": "CREATE",
            "sort_order": "ASCEND",
        });
        let answer = self.call("kv/range", &question)?;
        let lines = answer["kvs"].as_array().map_or(&[][..], Vec::as_slice);
        lines.iter().map(|line| text(&line["value"])).collect()
    }

    fn turn(&self, resource: &str, limit: Duration) -> Result<Option<Turn>, Error> {
        let seconds = limit.as_secs() + TURN_MARGIN;
        let granted = self.call("lease/grant", &json!({ "TTL": seconds.to_string() }))?;
        let lease = granted["ID"].as_str().ok_or("etcd: no lease")?.to_owned();
        let key = self.key("turn", resource);
        let question = json!({
            "compare": [{ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" }],
            "success": [{ "request_put": { "key": key, "value": STANDARD.encode(&lease), "lease": lease } }],
        });
        let turn = Turn {
            lease,
            resource: resource.to_owned(),
        };
        match self.call("kv/txn", &question) {
            Ok(answer) if answer["succeeded"].as_bool() == Some(true) => Ok(Some(turn)),
            Ok(_) => {
                self.end_turn(turn);
                Ok(None)
            }
            Err(error) => {
                // It may be there all the same.
                self.end_turn(turn);
                Err(error)
            }
        }
    }

    fn end_turn(&self, turn: Turn) {
        // The key goes with the lease. If this is not heard, they go by themselves later on.
        if let Err(error) = self.call("lease/revoke", &json!({ "ID": turn.lease })) {
            let resource = &turn.resource;
            crate::log!("resource {resource}: the turn of its handlers ends later: {error}");
        }
    }
}
