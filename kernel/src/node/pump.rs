//! The data path: one turn takes what devices have brought, lets the protocols work, and hands over what they made.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{IpAddr, SocketAddr};

use drivers::InterruptStatus;
use net::link::LinkEvent;
use net::nbd::{Accepted, Server, Verdict};
use net::stack::{ConnHandle, Egress, GroupId, Stack};
use replication::api::{Event, Micros};
use replication::buf::Pool;

use super::core::Core;
use super::disks::Role;
use super::http::Http;
use super::management::Management;
use super::nic::Nic;
use crate::{mem, time};

/// Frames that a NIC may bring in one turn, so that a flood cannot keep the other parts waiting.
const FRAMES: usize = 64;
/// Events of the link in one turn, for the same reason.
const LINK_EVENTS: usize = 64;
/// Every port and session gets a turn at least this often, in microseconds, in case a device loses an interrupt.
const SWEEP: Micros = 1_000_000;

/// A NIC and the TCP/IP on it.
pub struct Port {
    /// The NIC.
    pub nic: Nic,
    /// Its sockets.
    pub stack: Stack,
    /// The group of NBD sockets, if clients come in here.
    pub export: Option<GroupId>,
    /// The one for what is exported of snapshots.
    pub snapshots: Option<GroupId>,
    /// The group of the web server's sockets, if it is here.
    pub http: Option<GroupId>,
    /// Place in the configuration's list of NICs.
    pub place: usize,
    /// Place in the order of discovery.
    pub index: u16,
    /// The transmit ring was full: the device tells when there is room.
    blocked: bool,
    /// The device stopped working, and the log says so.
    broken: bool,
    /// Something may have to be sent.
    dirty: bool,
    /// When the stack wants a turn, as far as that is known.
    due: Option<Option<Micros>>,
}

impl Port {
    /// A port whose stack was built over `nic`.
    pub fn new(nic: Nic, stack: Stack, place: usize, index: u16) -> Self {
        Self {
            nic,
            stack,
            export: None,
            snapshots: None,
            http: None,
            place,
            index,
            blocked: false,
            broken: false,
            dirty: true,
            due: None,
        }
    }
}

impl Port {
    /// Has the stack get a turn although nothing asked for it, and notices a device that stopped.
    fn look_after(&mut self) {
        self.dirty = true;
        if let Some(error) = self.nic.driver().broken()
            && !core::mem::replace(&mut self.broken, true)
        {
            log::error!(
                "nic {}: the device broke the rules and was stopped: {error}; reboot the node to use it again",
                self.index
            );
        }
    }

    /// Something was given to the stack that it may have to send.
    pub fn wake(&mut self) {
        self.dirty = true;
    }

    /// Lets the stack send if anything asks for it, and rings the doorbells.
    fn hand_over(&mut self, now: Micros) {
        let due = self.due.flatten().is_some_and(|at| at <= now);
        if self.dirty || due {
            self.blocked = self.stack.egress(now, &mut self.nic) == Egress::Blocked;
            self.dirty = self.blocked;
            self.due = None;
        }
        self.nic.driver_mut().kick();
    }

    /// When the stack wants a turn. Asking it means a walk over its sockets, so the answer is kept until the next turn.
    fn due(&mut self, now: Micros) -> Option<Micros> {
        if self.blocked {
            return None;
        }
        *self.due.get_or_insert_with(|| self.stack.poll_at(now))
    }
}

/// Where an NBD session's connection is.
#[derive(Clone, Copy)]
struct Conn {
    slot: u16,
    port: usize,
    handle: ConnHandle,
}

/// Everything that the data path works on.
pub struct Node {
    /// The engine and what it acts on.
    pub core: Core,
    /// The NBD server.
    pub server: Server,
    /// The NICs.
    pub ports: Vec<Port>,
    /// The port that the link uses.
    link_port: usize,
    /// The address that the node has while it serves, and the port where.
    floating: Option<(usize, IpAddr)>,
    /// The end of the management network, if there is one.
    pub management: Option<Management>,
    /// The web server, if there is one.
    pub http: Option<Box<Http>>,
    conns: Vec<Conn>,
    open_clients: u32,
    waiting_clients: u32,
    /// A device brought something in the last turn.
    active: bool,
    /// Sessions were polled or answered: when they are due is to be asked anew.
    sessions_due: bool,
    /// When a session is due.
    sessions_at: Option<Micros>,
    /// When everything is looked after, whether or not anything asks for it.
    sweep_at: Micros,
    /// Allocations of all turns.
    allocations: u64,
}

impl Node {
    /// Puts the parts together; the link lives on `ports[link_port]`.
    pub fn new(
        core: Core,
        server: Server,
        ports: Vec<Port>,
        link_port: usize,
        floating: Option<(usize, IpAddr)>,
        management: Option<Management>,
        http: Option<Box<Http>>,
    ) -> Self {
        let conns = Vec::with_capacity(usize::from(server.slots()));
        Self {
            core,
            server,
            ports,
            link_port,
            floating,
            management,
            http,
            conns,
            open_clients: 0,
            waiting_clients: 0,
            active: false,
            sessions_due: true,
            sessions_at: None,
            sweep_at: 0,
            allocations: 0,
        }
    }

    /// How often a turn has allocated memory since boot. Not by a request of a client or the peer: a test holds that.
    pub fn allocations(&self) -> u64 {
        self.allocations
    }

    /// One turn. `true`: there is more to do now.
    pub fn turn(&mut self) -> bool {
        let before = mem::allocations();
        let more = self.take_turn();
        self.allocations += mem::allocations() - before;
        more
    }

    fn take_turn(&mut self) -> bool {
        let now = time::now_micros();
        self.core.now = now;
        let mut busy = false;
        self.active = false;
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP;
            self.ports.iter_mut().for_each(Port::look_after);
            self.sessions_due = true;
            self.core.observe();
        }
        for port in &mut self.ports {
            let frames = port.stack.ingress(now, &mut port.nic, FRAMES);
            port.dirty |= frames > 0;
            self.active |= frames > 0;
            busy |= frames == FRAMES;
        }
        busy |= self.disks();
        busy |= self.link(now);
        if self.core.timeout().is_some_and(|at| at <= now) {
            self.core.event(Event::Tick);
        }
        self.accept(now);
        busy |= self.settle(now);
        self.sessions(now);
        // Late in the turn: what the engine wants said for any reason goes out with it.
        if let Some(management) = &mut self.management {
            busy |= management.turn(now, &mut self.core, &mut self.ports);
        }
        busy |= self.settle(now);
        if let Some(mut http) = self.http.take() {
            http.turn(now, self);
            self.http = Some(http);
        }
        self.hand_over(now);
        self.core.follow();
        if core::mem::take(&mut self.sessions_due) {
            self.sessions_at = self.server.poll_timeout();
        }
        busy || self.sessions_at.is_some_and(|at| at <= now)
    }

    /// Whether a device brought something in the last turn.
    pub fn was_active(&self) -> bool {
        self.active
    }

    /// Whether clients wait on this node.
    pub fn has_clients(&self) -> bool {
        self.open_clients > 0
    }

    /// Whether a device has something. Only a look at the rings.
    pub fn has_input(&self) -> bool {
        self.ports
            .iter()
            .any(|port| port.nic.driver().has_received())
            || self
                .core
                .disks
                .iter()
                .any(|disk| disk.driver().has_completed())
    }

    /// Asks every device for an interrupt when it has something. `true`: one has already.
    pub fn arm(&mut self) -> bool {
        let mut ready = false;
        for port in &mut self.ports {
            ready |= port.nic.driver_mut().arm();
        }
        for disk in &mut self.core.disks {
            ready |= disk.driver_mut().arm();
        }
        ready
    }

    /// When the next turn must be, even if no device brings anything; not before `now`.
    pub fn deadline(&mut self, now: Micros) -> Micros {
        let stacks = self.ports.iter_mut().filter_map(|port| port.due(now));
        let others = [
            self.core.timeout(),
            self.core.link.poll_at(),
            self.sessions_at,
            self.http.as_ref().and_then(|http| http.due(now)),
        ];
        let due = others.into_iter().flatten().chain(stacks);
        due.fold(self.sweep_at, Micros::min).max(now)
    }

    /// Devices without MSI-X hold their interrupt line until it is acknowledged. `true`: some device's
    /// configuration changed.
    pub fn acknowledge_interrupts(&mut self) -> bool {
        let mut causes = InterruptStatus::empty();
        for port in &mut self.ports {
            causes |= port.nic.driver_mut().ack_interrupt();
        }
        for disk in &mut self.core.disks {
            causes |= disk.driver_mut().ack_interrupt();
        }
        causes.contains(InterruptStatus::DEVICE_CONFIGURATION_INTERRUPT)
    }

    /// Looks for changed links and capacities, after a configuration interrupt.
    pub fn configuration_changed(&mut self) {
        self.core.now = time::now_micros();
        for port in &mut self.ports {
            match port.nic.driver_mut().config_changed() {
                Ok(Some(up)) => {
                    port.stack.set_link(up);
                    port.dirty = true;
                    log::warn!(
                        "nic {}: link {}",
                        port.index,
                        if up { "up" } else { "down" }
                    );
                }
                Ok(None) => {}
                Err(error) => log::error!(
                    "nic {}: its configuration cannot be read: {error}",
                    port.index
                ),
            }
        }
        for at in 0..self.core.disks.len() {
            let disk = &mut self.core.disks[at];
            let (volume, serial) = (disk.volume(), disk.driver().serial());
            let metadata = disk.role() == Role::Metadata;
            let mut name = heapless::String::<20>::new();
            // A serial has at most 20 characters.
            let _ = name.push_str(serial);
            match disk.driver_mut().config_changed() {
                Ok(Some(change)) => {
                    log::warn!(
                        "disk \"{name}\": capacity changed from {} to {} sectors",
                        change.capacity_before,
                        change.capacity_now
                    );
                    let size = change.capacity_now.saturating_mul(512);
                    self.core.event(Event::DiskChanged {
                        volume,
                        metadata,
                        size,
                    });
                }
                Ok(None) => {}
                Err(error) => {
                    log::error!("disk \"{name}\": its configuration cannot be read: {error}")
                }
            }
        }
    }

    /// Drops every connection, for a restart: clients and peer notice at once.
    pub fn hang_up(&mut self) {
        let now = time::now_micros();
        self.ports.iter_mut().for_each(|port| port.dirty = true);
        for conn in core::mem::take(&mut self.conns) {
            self.ports[conn.port].stack.abort(now, conn.handle);
            self.server.hang_up(conn.slot, &mut self.core.pool);
        }
        if let Some(mut http) = self.http.take() {
            http.hang_up(now, self);
        }
        let stack = &mut self.ports[self.link_port].stack;
        self.core
            .link
            .close(now, stack, &mut self.core.pool, &self.core.payload);
        self.hand_over(now);
    }

    /// Passes on what the disks have ended. `true`: there may be more.
    fn disks(&mut self) -> bool {
        let mut more = false;
        for at in 0..self.core.disks.len() {
            let mut budget = 2 * self.core.disks[at].driver().depth();
            while budget > 0
                && let Some(done) = self.core.disks[at].poll(&self.core.payload)
            {
                budget -= 1;
                self.active = true;
                self.core.event(Event::DiskDone {
                    token: done.token,
                    result: done.result,
                    all_zero: done.all_zero,
                });
            }
            more |= budget == 0;
        }
        more
    }

    /// Passes on what the link brought. `true`: there may be more.
    fn link(&mut self, now: Micros) -> bool {
        if self.core.link.poll_at().is_some_and(|at| at <= now) {
            self.ports[self.link_port].dirty = true;
        }
        for _ in 0..LINK_EVENTS {
            let stack = &mut self.ports[self.link_port].stack;
            let Some(event) =
                self.core
                    .link
                    .poll(now, stack, &mut self.core.pool, &mut self.core.payload)
            else {
                return false;
            };
            self.ports[self.link_port].dirty = true;
            self.link_event(event);
            self.close_link_if_asked(now);
        }
        true
    }

    fn link_event(&mut self, event: LinkEvent) {
        match event.into_engine() {
            Ok(event) => self.core.event(event),
            Err(note) => log::warn!("{note}"),
        }
    }

    /// `true`: the link was closed and has that to report.
    fn close_link_if_asked(&mut self, now: Micros) -> bool {
        if !self.core.close_link {
            return false;
        }
        let stack = &mut self.ports[self.link_port].stack;
        self.core
            .link
            .close(now, stack, &mut self.core.pool, &self.core.payload);
        self.core.link_closed();
        self.ports[self.link_port].dirty = true;
        true
    }

    /// Passes the engine's answers and its word on serving to the sessions. `true`: the link has something to report.
    fn settle(&mut self, now: Micros) -> bool {
        let closed = self.close_link_if_asked(now);
        while let Some((id, result, buf)) = self.core.replies.pop_front() {
            self.sessions_due = true;
            self.server.on_reply(id, result, buf, &mut self.core.pool);
        }
        self.sessions_due |= self.core.serve.is_some();
        if core::mem::take(&mut self.core.drop_clients) {
            self.server.set_serving(now, false, &mut self.core.pool);
        }
        for (volume, size) in self.core.sizes.drain(..) {
            if let Err(error) = self.server.set_size(volume, size) {
                log::error!("volume {volume}: {error}");
            }
        }
        for (volume, readable) in self.core.snapshots.drain(..) {
            self.sessions_due = true;
            self.server
                .offer_snapshot(now, volume, readable, &mut self.core.pool);
        }
        if core::mem::take(&mut self.core.refuse_clients) {
            self.server.refuse_waiting();
            self.sessions_due = true;
        }
        if let Some(on) = self.core.serve.take() {
            self.server.set_serving(now, on, &mut self.core.pool);
            self.move_address(now, on);
        }
        closed
    }

    /// The floating address is where the server is.
    fn move_address(&mut self, now: Micros, here: bool) {
        let Some((at, address)) = self.floating else {
            return;
        };
        let port = &mut self.ports[at];
        port.dirty = true;
        if !here {
            port.stack.give_up_address(address);
        } else if let Err(error) = port.stack.take_address(now, address) {
            log::error!("nic {}: the floating address: {error}", port.index);
        }
    }

    fn accept(&mut self, now: Micros) {
        for at in 0..self.ports.len() {
            if let Some(group) = self.ports[at].export {
                while let Some(handle) = self.ports[at].stack.accept(group) {
                    self.admit(now, at, handle, Server::accept);
                }
            }
            if let Some(group) = self.ports[at].snapshots {
                while let Some(handle) = self.ports[at].stack.accept(group) {
                    self.admit(now, at, handle, Server::accept_snapshots);
                }
            }
        }
    }

    /// Finds a session for a new connection.
    fn admit(
        &mut self,
        now: Micros,
        at: usize,
        handle: ConnHandle,
        accept: fn(&mut Server, Micros, SocketAddr, &mut Pool) -> Option<Accepted>,
    ) {
        self.ports[at].dirty = true;
        self.sessions_due = true;
        let peer = self.ports[at].stack.peer(handle);
        let peer = peer.unwrap_or(SocketAddr::from(([0, 0, 0, 0], 0)));
        let Some(accepted) = accept(&mut self.server, now, peer, &mut self.core.pool) else {
            self.ports[at].stack.abort(now, handle);
            return;
        };
        if accepted.evicted {
            self.forget(now, accepted.slot);
        }
        self.conns.push(Conn {
            slot: accepted.slot,
            port: at,
            handle,
        });
    }

    /// Resets the connection of an evicted session.
    fn forget(&mut self, now: Micros, slot: u16) {
        if let Some(at) = self.conns.iter().position(|conn| conn.slot == slot) {
            let conn = self.conns.swap_remove(at);
            self.ports[conn.port].stack.abort(now, conn.handle);
        }
    }

    fn sessions(&mut self, now: Micros) {
        let mut at = 0;
        while let Some(&conn) = self.conns.get(at) {
            let stack = &mut self.ports[conn.port].stack;
            let verdict = match stack.stream(conn.handle) {
                None => {
                    self.server.hang_up(conn.slot, &mut self.core.pool);
                    Verdict::Abort
                }
                Some(stream) if !self.server.wants_poll(conn.slot, now, &stream) => {
                    at += 1;
                    continue;
                }
                Some(mut stream) => self
                    .server
                    .poll(conn.slot, now, &mut stream, &mut self.core),
            };
            self.sessions_due = true;
            self.ports[conn.port].dirty = true;
            let stack = &mut self.ports[conn.port].stack;
            match verdict {
                Verdict::Continue => {
                    at += 1;
                    continue;
                }
                Verdict::Close => stack.close(now, conn.handle),
                Verdict::Abort => stack.abort(now, conn.handle),
            }
            self.conns.swap_remove(at);
        }
        let (open, waiting) = if self.sessions_due {
            (self.server.open_clients(), self.server.waiting_clients())
        } else {
            (self.open_clients, self.waiting_clients)
        };
        if open != self.open_clients {
            self.open_clients = open;
            self.core.event(Event::OpenClients(open));
        }
        if waiting != self.waiting_clients {
            self.waiting_clients = waiting;
            self.core.event(Event::WaitingClients(waiting));
        }
    }

    /// Gives disks and NICs everything that was made, and rings each doorbell once. The link goes first: a write's way
    /// to the peer's disk and back is longer than that to the own one, and where the processor itself carries out a
    /// doorbell (no ioeventfd) whatever is handed over before it waits for that.
    fn hand_over(&mut self, now: Micros) {
        let port = &mut self.ports[self.link_port];
        port.dirty |= self.core.link.flush(&mut port.stack, &self.core.payload);
        port.hand_over(now);
        for disk in &mut self.core.disks {
            disk.kick();
        }
        for at in (0..self.ports.len()).filter(|at| *at != self.link_port) {
            self.ports[at].hand_over(now);
        }
    }
}
