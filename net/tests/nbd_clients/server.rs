//! The server behind a real TCP port, with disks in memory.

use net::nbd::{Export, Server, ServerConfig, SessionIo, Verdict};
use net::stream::ByteStream;
use replication::api::{ClientOp, ClientRequest, Micros};
use replication::buf::{Buf, BufView, PAGE, Pool, PoolMemory, VecMemory};
use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Bytes of each of the two volumes.
pub const SIZE: u64 = 96 << 20;
/// Bytes of the pool: that of a node with 64 MiB of RAM.
const POOL: u32 = 40 << 20;
const SLOTS: u16 = 20;
/// Bytes that a connection buffers in each direction, as the kernel's sockets do.
const SOCKET_BUFFER: usize = 128 << 10;

/// A non-blocking socket with the buffers that the appliance's TCP has.
struct Connection {
    socket: TcpStream,
    rx: VecDeque<u8>,
    tx: VecDeque<u8>,
    finished: bool,
}

impl Connection {
    fn new(socket: TcpStream) -> Self {
        socket.set_nonblocking(true).expect("non-blocking");
        socket.set_nodelay(true).expect("no delay");
        Self {
            socket,
            rx: VecDeque::with_capacity(SOCKET_BUFFER),
            tx: VecDeque::with_capacity(SOCKET_BUFFER),
            finished: false,
        }
    }

    /// Moves bytes between the buffers and the socket; answers whether any moved.
    fn pump(&mut self) -> bool {
        let mut moved = false;
        let mut chunk = [0; 65536];
        while !self.finished && self.rx.len() < SOCKET_BUFFER {
            let most = chunk.len().min(SOCKET_BUFFER - self.rx.len());
            match self.socket.read(&mut chunk[..most]) {
                Ok(0) => self.finished = true,
                Ok(n) => {
                    self.rx.extend(&chunk[..n]);
                    moved = true;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => self.finished = true,
            }
        }
        while !self.tx.is_empty() {
            match self.socket.write(self.tx.as_slices().0) {
                Ok(n) => {
                    self.tx.drain(..n);
                    moved = true;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(_) => {
                    self.finished = true;
                    self.tx.clear();
                }
            }
        }
        moved
    }
}

impl ByteStream for Connection {
    fn readable(&self) -> usize {
        self.rx.len()
    }
    fn read(&mut self, out: &mut [u8]) -> usize {
        self.rx.read(out).unwrap_or(0)
    }
    fn at_end(&self) -> bool {
        self.finished && self.rx.is_empty()
    }
    fn writable(&self) -> usize {
        SOCKET_BUFFER - self.tx.len()
    }
    fn write(&mut self, data: &[u8]) -> usize {
        let n = data.len().min(self.writable());
        self.tx.extend(&data[..n]);
        n
    }
}

/// Pool and disks.
struct Engine {
    pool: Pool,
    memory: VecMemory,
    disks: [Vec<u8>; 2],
    queue: VecDeque<ClientRequest>,
}

impl PoolMemory for Engine {
    fn bytes(&self, view: BufView) -> &[u8] {
        self.memory.bytes(view)
    }
    fn bytes_mut(&mut self, view: BufView) -> &mut [u8] {
        self.memory.bytes_mut(view)
    }
}

impl SessionIo for Engine {
    fn pool(&mut self) -> &mut Pool {
        &mut self.pool
    }
    fn has_room(&self) -> bool {
        self.queue.len() < 256
    }
    fn submit(&mut self, request: ClientRequest) {
        self.queue.push_back(request);
    }
}

impl Engine {
    /// Performs a request; returns a read's buffer.
    fn perform(&mut self, request: ClientRequest) -> Option<Buf> {
        let from = request.offset as usize;
        let disk = &mut self.disks[usize::from(request.volume)];
        match request.op {
            ClientOp::Read(buf) => {
                let len = buf.len() as usize;
                let data = self.memory.bytes_mut(buf.view());
                data.copy_from_slice(&disk[from..from + len]);
                Some(buf)
            }
            ClientOp::Write { buf, .. } => {
                let len = buf.len() as usize;
                disk[from..from + len].copy_from_slice(self.memory.bytes(buf.view()));
                self.pool.free(buf);
                None
            }
            ClientOp::ReadSnapshot(_) => unreachable!("no snapshot is exported"),
            ClientOp::WriteZeroes { len, .. } | ClientOp::Discard { len, .. } => {
                disk[from..from + len as usize].fill(0);
                None
            }
            ClientOp::Flush => None,
        }
    }
}

/// A server on a port of the loopback interface; stops, and checks its books, on [`stop`].
///
/// [`stop`]: Running::stop
pub struct Running {
    pub port: u16,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("non-blocking");
        let port = listener.local_addr().expect("an address").port();
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&stop);
        let thread = std::thread::spawn(move || serve(&listener, &seen));
        Self {
            port,
            stop,
            thread: Some(thread),
        }
    }

    pub fn uri(&self, export: &str) -> String {
        format!("nbd://127.0.0.1:{}/{export}", self.port)
    }

    /// Ends the server; panics when it leaked memory or had died.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("stopped once");
        thread.join().expect("the server came to a good end");
    }
}

fn serve(listener: &TcpListener, stop: &AtomicBool) {
    let pages = POOL / PAGE;
    let mut engine = Engine {
        pool: Pool::new(pages),
        memory: VecMemory::new(pages),
        disks: [vec![0; SIZE as usize], vec![0; SIZE as usize]],
        queue: VecDeque::with_capacity(256),
    };
    let exports = vec![
        Export::new("vol0", "first volume", 0, SIZE, 512, true).expect("valid"),
        Export::new("vol1", "second volume", 1, SIZE, 4096, true).expect("valid"),
    ];
    let config = ServerConfig {
        slots: SLOTS,
        ..ServerConfig::default()
    };
    let mut server = Server::new(&config, exports, &engine.pool);
    server.set_serving(0, true, &mut engine.pool);
    let mut connections: Vec<Option<Connection>> = (0..SLOTS).map(|_| None).collect();
    let mut closing: Vec<Connection> = Vec::new();
    let start = Instant::now();

    while !stop.load(Ordering::Relaxed) {
        let now = start.elapsed().as_micros() as Micros;
        let mut moved = false;
        if let Ok((socket, peer)) = listener.accept() {
            moved = true;
            if let Some(accepted) = server.accept(now, peer, &mut engine.pool) {
                connections[usize::from(accepted.slot)] = Some(Connection::new(socket));
            }
        }
        for slot in 0..SLOTS {
            let Some(connection) = connections[usize::from(slot)].as_mut() else {
                continue;
            };
            moved |= connection.pump();
            if server.wants_poll(slot, now, &*connection) {
                moved = true;
                let verdict = server.poll(slot, now, connection, &mut engine);
                connection.pump();
                if verdict != Verdict::Continue {
                    closing.extend(connections[usize::from(slot)].take());
                }
            }
        }
        closing.retain_mut(|connection| {
            connection.pump();
            if connection.tx.is_empty() {
                // The client may have gone first: nothing is lost by a failure here.
                drop(connection.socket.shutdown(Shutdown::Both));
            }
            !connection.tx.is_empty()
        });
        while let Some(request) = engine.queue.pop_front() {
            moved = true;
            let id = request.id;
            let buf = engine.perform(request);
            server.on_reply(id, Ok(()), buf, &mut engine.pool);
        }
        if !moved {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
    for slot in 0..SLOTS {
        server.hang_up(slot, &mut engine.pool);
    }
    assert_eq!(engine.pool.free_bytes(), engine.pool.total_bytes());
    assert!(engine.pool.reserve(engine.pool.max_reservation()));
}
