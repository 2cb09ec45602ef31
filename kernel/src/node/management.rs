//! The management network: moves datagrams between a stack's UDP port and [`net::management::Endpoint`], which knows what they
//! mean.

use core::net::SocketAddr;

use admin::config::Config;
use net::management::{
    Complaints, DATAGRAM_MAX, Endpoint, EndpointConfig, Incoming, Key, Outgoing, Party, Rejected,
};
use net::stack::Stack;
use replication::api::{Event, Micros};

use super::core::{Core, Said};
use super::pump::Port;
use crate::rng;

/// Datagrams that may come in in one turn, so that a flood cannot keep the other parts waiting.
const DATAGRAMS: usize = 16;
/// Room for one byte more than the longest datagram: what is longer is seen to be.
const LONGEST: usize = DATAGRAM_MAX + 1;

/// The endpoint and where it lives.
pub struct Management {
    endpoint: Endpoint,
    /// Place among the node's ports.
    port: usize,
    /// What tells the resource from others of its name, as far as the endpoint knows.
    identity: Option<u64>,
    complaints: Complaints,
    out: [u8; DATAGRAM_MAX],
}

impl Management {
    /// The endpoint of this configuration, on `ports[port]`; `None` if it has none, or the port's stack cannot be used.
    pub fn new(config: &Config, port: usize, stack: &mut Stack) -> Option<Self> {
        let chosen = config.management.as_ref()?;
        let resource = config.resource.name.clone();
        let endpoint = Endpoint::new(&EndpointConfig {
            key: Key::new(chosen.secret.as_bytes(), &resource),
            resource,
            node: config.node.name.clone(),
            peer: config.peer.name.clone(),
            peer_address: chosen.peer.map(SocketAddr::V4),
            arbiter_address: chosen.arbiter.map(SocketAddr::V4),
            sessions: [random(), random()],
        });
        stack.open_datagrams(chosen.port, LONGEST).then_some(Self {
            endpoint,
            port,
            identity: None,
            complaints: Complaints::default(),
            out: [0; DATAGRAM_MAX],
        })
    }

    /// Datagrams that were dropped since boot.
    pub fn dropped(&self) -> u64 {
        self.complaints.total()
    }

    /// Passes on what came in, and sends what the engine wants said. `true`: there may be more.
    pub fn turn(&mut self, now: Micros, core: &mut Core, ports: &mut [Port]) -> bool {
        let identity = core.engine.resource_identity();
        if let Some(identity) = identity.filter(|_| identity != self.identity) {
            self.identity = Some(identity);
            self.endpoint.identify(identity);
        }
        let mut bytes = [0; LONGEST];
        let mut came = 0;
        while came < DATAGRAMS
            && let Some((len, from)) = ports[self.port].stack.receive_datagram(&mut bytes)
        {
            came += 1;
            match self
                .endpoint
                .receive(&bytes[..len], from, random(), &mut self.out)
            {
                Ok(Incoming::Asked(from, token, request)) => core.event(Event::Asked {
                    from,
                    token,
                    request,
                }),
                Ok(Incoming::Answered(from, answer)) => {
                    core.event(Event::Answered { from, answer })
                }
                Ok(Incoming::Reply(reply)) => self.send(reply, ports),
                Ok(Incoming::Nothing) => {}
                Err(why) => self.complain(now, from, why),
            }
        }
        while let Some(said) = core.said.pop_front() {
            let outgoing = match said {
                Said::Question(party, request) => self.endpoint.ask(party, request, &mut self.out),
                Said::Answer(party, token, answer) => {
                    self.endpoint.answer(party, token, answer, &mut self.out)
                }
            };
            if let Some(outgoing) = outgoing {
                self.send(outgoing, ports);
            }
        }
        came == DATAGRAMS
    }

    fn send(&self, outgoing: Outgoing, ports: &mut [Port]) {
        let port = &mut ports[self.port];
        let lane = match outgoing.party {
            Party::Peer => 0,
            Party::Arbiter => 1,
        };
        port.stack
            .send_datagram(lane, &self.out[..outgoing.len], outgoing.to);
        port.wake();
    }

    fn complain(&mut self, now: Micros, from: SocketAddr, why: Rejected) {
        if let Some(complaint) = self.complaints.note(now, from, why) {
            // Of a repetition that crossed its answer nobody needs to hear.
            match why {
                Rejected::Replayed | Rejected::NotAsked => log::debug!("{complaint}"),
                Rejected::Datagram(_) | Rejected::Address | Rejected::OtherResource => {
                    log::warn!("{complaint}");
                }
            }
        }
    }
}

/// A number that nobody can foresee and that is not 0.
fn random() -> u64 {
    rng::seed64() | 1
}
