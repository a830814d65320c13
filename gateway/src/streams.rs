//! The guest's TCP connections and the host's sockets that they go to.

use crate::gateway::Shared;
use crate::handover::{self, Seen};
use crate::http::Refusal;
use crate::packet::{self, Packet, Route, Segment, ACK, DNS, RST, SYN};
use crate::peek::Inspector;
use crate::policy::Verdict;
use crate::queue::Queue;
use crate::rate::Tokens;
use crate::replies::{answer_reset, refuse, send, with_ports};
use crate::sys::{self, PollFd, POLLIN, POLLOUT};
use crate::tcp::Tcp;
use crate::wire::is_for_later;
use std::cell::Cell;
use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpStream};
use std::os::unix::io::AsRawFd;

/// Connections of a box, and those of them that are being opened.
const MAX_STREAMS: usize = 1024;
const MAX_DIALS: usize = 256;
/// New connections a second, and how many may come at once.
const RATE: u64 = 500;
const BURST: u64 = 1_000;
const DIAL_MS: u64 = 30_000;
/// What waits for a host's socket before more of the guest is looked at.
const MAX_WAITING: usize = 256 * 1024;
const READ_BYTES: usize = 64 * 1024;
/// What all connections hold, each way: beyond it their windows shrink.
const MAX_HELD: usize = 32 * 1024 * 1024;
const DNS_PORT: u16 = 53;
/// Questions of one connection to the name server that wait for an answer.
const MAX_QUESTIONS: usize = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    pub guest_port: u16,
    pub address: Ipv4Addr,
    pub port: u16,
}

enum Host {
    /// Nobody yet: whom the connection is for decides where it goes.
    Undecided,
    Dialing(TcpStream, u64),
    Open(TcpStream),
    /// The box's name server: questions that came, and how many wait.
    Names(Queue, usize),
}

struct Stream {
    tcp: Tcp,
    host: Host,
    /// Looks at what the guest sends until that is clear.
    inspector: Option<Inspector>,
    by_name: bool,
    /// The name that the connection turned out to be for.
    name: Option<String>,
    to_host: Queue,
    /// First bytes, while it is not clear whether the connection is to a secret's host.
    peeked: Option<Vec<u8>>,
    /// Whether the process that puts secrets in has it.
    handed_over: bool,
    host_ended: bool,
    shut: bool,
}

/// What a stream has for others to do.
#[derive(Default)]
pub struct Wanted {
    /// Questions by TCP, whole messages.
    pub questions: Vec<(Key, Vec<u8>)>,
}

pub struct Streams {
    table: HashMap<Key, Stream>,
    fresh: Tokens,
    buffer: Vec<u8>,
}

/// Why a connection is gone.
enum End {
    /// The guest or the server has reset it, or does not answer.
    Broken,
    Refused(Refusal),
}

impl Default for Streams {
    fn default() -> Streams {
        Streams {
            table: HashMap::new(),
            fresh: Tokens::new(RATE, BURST),
            buffer: vec![0; READ_BYTES],
        }
    }
}

impl Streams {
    pub fn len(&self) -> usize {
        self.table.len()
    }

    pub fn is_empty(&self) -> bool {
        self.table.is_empty()
    }

    /// Takes a segment of the guest. The key of a stream that has something to do now.
    pub fn segment(&mut self, shared: &mut Shared, packet: &Packet, first_seq: u32) -> Option<Key> {
        let segment = packet::parse_tcp(packet.payload)?;
        let key = Key {
            guest_port: segment.source_port,
            address: packet.destination,
            port: segment.destination_port,
        };
        if let Some(stream) = self.table.get_mut(&key) {
            let is_new = segment.flags & (SYN | ACK) == SYN;
            // A number that is used again: the connection before has ended on both sides.
            if !(is_new && stream.tcp.is_ended()) {
                stream.tcp.receive(&segment, shared.now);
                return Some(key);
            }
            self.table.remove(&key);
        }
        if segment.flags & RST != 0 {
            return None;
        }
        if segment.flags & (SYN | ACK) != SYN {
            answer_reset(shared, key, &segment);
            return None;
        }
        match self.open(shared, key, &segment, first_seq) {
            Ok(stream) => {
                self.table.insert(key, stream);
                Some(key)
            }
            Err(reason) => {
                if let Some(reason) = reason {
                    let name = shared.pins.names(key.address).map(str::to_string);
                    refuse(shared, key, reason, name);
                } else {
                    shared.told.failed += 1;
                }
                answer_reset(shared, key, &segment);
                None
            }
        }
    }

    /// Err: why it is refused; None: the host cannot.
    fn open(
        &mut self,
        shared: &mut Shared,
        key: Key,
        syn: &Segment,
        first_seq: u32,
    ) -> Result<Stream, Option<&'static str>> {
        let is_names = key.address == DNS && key.port == DNS_PORT;
        let verdict = match is_names {
            true if !shared.policy.enabled => Verdict::Refuse("disabled"),
            true => Verdict::Allow,
            false => shared
                .policy
                .tcp(key.address, key.port, &shared.floor, &shared.pins),
        };
        if let Verdict::Refuse(reason) = verdict {
            return Err(Some(reason));
        }
        let is_dialing = |stream: &&Stream| matches!(stream.host, Host::Dialing(..));
        if self.table.len() >= MAX_STREAMS
            || self.table.values().filter(is_dialing).count() >= MAX_DIALS
        {
            return Err(Some("limit_connections"));
        }
        if !self.fresh.take(shared.now) {
            return Err(Some("limit_rate"));
        }
        let policy = &shared.policy;
        let peeks = !is_names && policy.intercepts_port(key.port);
        let is_secret = |name: &str| policy.intercepts(name, key.port);
        let is_secrets = peeks && shared.pins.any(key.address, is_secret);
        let host = match is_names {
            true => Host::Names(Queue::default(), 0),
            false if is_secrets => Host::Undecided,
            false => dial(key, shared.now).map_err(|_| None)?,
        };
        let by_name = verdict == Verdict::ByName;
        Ok(Stream {
            tcp: Tcp::accept(syn, first_seq),
            host,
            inspector: by_name.then(|| Inspector::new(key.port)),
            by_name,
            name: None,
            to_host: Queue::default(),
            peeked: peeks.then(Vec::new),
            handed_over: false,
            host_ended: false,
            shut: false,
        })
    }

    /// The sockets to wait for, and whose they are.
    /// `may_move`: whether bytes may go to the host, and whether they may come from it.
    pub fn interests(&self, may_move: (bool, bool), fds: &mut Vec<PollFd>, keys: &mut Vec<Key>) {
        for (key, stream) in &self.table {
            let (fd, events) = match &stream.host {
                Host::Dialing(socket, _) => (socket.as_raw_fd(), POLLOUT),
                Host::Open(socket) => {
                    let reads = !stream.host_ended && may_move.1 && stream.tcp.room() > 0;
                    let writes = !stream.to_host.is_empty() && may_move.0;
                    let events = if reads { POLLIN } else { 0 } | if writes { POLLOUT } else { 0 };
                    (socket.as_raw_fd(), events)
                }
                Host::Names(..) | Host::Undecided => continue,
            };
            // One without a wish is left out: its end would be told again and again.
            if events != 0 {
                fds.push(PollFd {
                    fd,
                    events,
                    found: 0,
                });
                keys.push(*key);
            }
        }
    }

    pub fn due(&self) -> Option<u64> {
        let of = |stream: &Stream| match &stream.host {
            Host::Dialing(_, deadline) => Some(*deadline),
            _ => stream.tcp.due(),
        };
        self.table.values().filter_map(of).min()
    }

    /// Streams whose time has come.
    pub fn overdue(&self, now: u64) -> Vec<Key> {
        let is_due = |stream: &Stream| match &stream.host {
            Host::Dialing(_, deadline) => *deadline <= now,
            _ => stream.tcp.due().map_or(false, |due| due <= now),
        };
        self.table
            .iter()
            .filter(|(_, stream)| is_due(stream))
            .map(|(key, _)| *key)
            .collect()
    }

    /// All streams: the wire takes frames again.
    pub fn keys(&self) -> Vec<Key> {
        self.table.keys().copied().collect()
    }

    /// Moves what can be moved for a stream. `ready`: its socket has said something.
    pub fn pump(&mut self, shared: &mut Shared, key: Key, ready: bool, wanted: &mut Wanted) {
        let share = MAX_HELD / self.table.len().max(1);
        let stream = match self.table.get_mut(&key) {
            Some(stream) => stream,
            None => return,
        };
        stream.tcp.share = share;
        let retransmits = stream.tcp.retransmits;
        let moved = stream.step(shared, key, ready, &mut self.buffer, wanted);
        shared.told.retransmits += stream.tcp.retransmits - retransmits;
        let is_over = match moved {
            Ok(()) => stream.tcp.is_over(shared.now),
            Err(end) => {
                let name = match end {
                    End::Broken => None,
                    End::Refused(refusal) => Some((refusal.reason, refusal.name)),
                };
                if !stream.tcp.is_reset() {
                    let reset = stream.tcp.reset();
                    send(shared, key, &reset);
                }
                if let Some((reason, name)) = name {
                    refuse(shared, key, reason, name);
                }
                true
            }
        };
        if is_over {
            self.remove(key);
        }
    }

    fn remove(&mut self, key: Key) {
        if let Some(stream) = self.table.remove(&key) {
            if let (Host::Open(socket), true) = (&stream.host, stream.tcp.is_reset()) {
                sys::reset_on_close(socket);
            }
        }
    }

    /// An answer of the name server for a connection to it.
    pub fn answer(&mut self, key: Key, message: &[u8]) {
        let stream = match self.table.get_mut(&key) {
            Some(stream) => stream,
            None => return,
        };
        if let Host::Names(_, waiting) = &mut stream.host {
            *waiting = waiting.saturating_sub(1);
            if stream.tcp.room() > message.len() + 2 {
                stream.tcp.send(&(message.len() as u16).to_be_bytes());
                stream.tcp.send(message);
            }
        }
    }

    /// Resets what a new policy does not allow.
    pub fn judge_again(&mut self, shared: &mut Shared) {
        for key in self.keys() {
            let stream = match self.table.get_mut(&key) {
                Some(stream) => stream,
                None => continue,
            };
            let verdict = match stream.host {
                Host::Names(..) if shared.policy.enabled => continue,
                Host::Names(..) => Verdict::Refuse("disabled"),
                _ => shared
                    .policy
                    .tcp(key.address, key.port, &shared.floor, &shared.pins),
            };
            let was_secret = stream.handed_over
                && !matches!(&stream.name, Some(name) if shared.policy.intercepts(name, key.port));
            let reason = match (verdict, &stream.name) {
                (Verdict::Allow | Verdict::ByName, _) if was_secret => "secret_host",
                (Verdict::Allow, _) => continue,
                (Verdict::Refuse(reason), _) => reason,
                (Verdict::ByName, Some(name))
                    if shared
                        .policy
                        .allows_named(name, key.address, key.port, &shared.pins) =>
                {
                    continue
                }
                // Its first bytes, and each request, are judged by the new rules.
                (Verdict::ByName, None) if stream.by_name => continue,
                (Verdict::ByName, _) => "name",
            };
            let name = stream.name.clone();
            let reset = stream.tcp.reset();
            send(shared, key, &reset);
            refuse(shared, key, reason, name);
            self.remove(key);
        }
    }
}

impl Stream {
    fn step(
        &mut self,
        shared: &mut Shared,
        key: Key,
        ready: bool,
        buffer: &mut [u8],
        wanted: &mut Wanted,
    ) -> Result<(), End> {
        if self.tcp.is_reset() {
            return Err(End::Broken);
        }
        if !self.is_connected(shared, ready)? {
            return Ok(());
        }
        if let Host::Names(..) = self.host {
            self.serve_names(key, wanted);
        } else {
            self.serve_host(shared, key)?;
            if ready {
                self.serve_guest(shared, key, buffer)?;
            }
        }
        self.tcp.outstanding = self.to_host.len();
        let Shared {
            wire,
            guest_mac,
            now,
            ..
        } = shared;
        let route = Route::from(key.address, *guest_mac);
        let full = Cell::new(wire.is_full());
        self.tcp.output(*now, &|| full.get(), &mut |segment| {
            wire.send(&route.tcp(&with_ports(key, segment)));
            full.set(wire.is_full());
        });
        match self.tcp.is_reset() {
            true => Err(End::Broken),
            false => Ok(()),
        }
    }

    fn is_connected(&mut self, shared: &mut Shared, ready: bool) -> Result<bool, End> {
        let (socket, deadline) = match &self.host {
            Host::Dialing(socket, deadline) => (socket, *deadline),
            _ => return Ok(true),
        };
        if !ready {
            if deadline > shared.now {
                return Ok(false);
            }
            shared.told.failed += 1;
            return Err(End::Broken);
        }
        let failed = socket.take_error().map_or(true, |error| error.is_some());
        if failed || socket.peer_addr().is_err() {
            shared.told.failed += 1;
            return Err(End::Broken);
        }
        let socket = socket.try_clone().map_err(|_| End::Broken)?;
        // A socket that refuses is slower, no more.
        let _ = socket.set_nodelay(true);
        shared.told.opened += 1;
        self.host = Host::Open(socket);
        Ok(true)
    }

    fn serve_host(&mut self, shared: &mut Shared, key: Key) -> Result<(), End> {
        if self.to_host.len() < MAX_WAITING {
            let bytes = self.tcp.take_received();
            self.inspect(shared, key, bytes)?;
        }
        self.flush(shared)?;
        if !self.shut && self.tcp.guest_has_ended() && self.to_host.is_empty() {
            if let Some(inspector) = &self.inspector {
                inspector.finish().map_err(End::Refused)?;
            }
            self.shut = true;
            if let Host::Open(socket) = &self.host {
                let _ = socket.shutdown(Shutdown::Write);
            }
        }
        Ok(())
    }

    fn inspect(&mut self, shared: &Shared, key: Key, bytes: Vec<u8>) -> Result<(), End> {
        let bytes = match self.peek(shared, key, bytes)? {
            Some(bytes) => bytes,
            None => return Ok(()),
        };
        self.judge(shared, key, bytes)?;
        if let Host::Undecided = self.host {
            if self.to_host.is_empty() && self.tcp.guest_has_ended() {
                return Err(End::Broken);
            }
            self.host = dial(key, shared.now).map_err(|_| End::Broken)?;
        }
        Ok(())
    }

    /// Bytes to be judged as those of any connection; None: it is not clear yet, or somebody else has them.
    fn peek(&mut self, shared: &Shared, key: Key, bytes: Vec<u8>) -> Result<Option<Vec<u8>>, End> {
        let mut held = match self.peeked.take() {
            Some(held) => held,
            None => return Ok(Some(bytes)),
        };
        held.extend(bytes);
        let (name, is_tls) = match handover::secret_host(shared, key, &held, self.by_name) {
            Seen::Partial if !self.tcp.guest_has_ended() => {
                self.peeked = Some(held);
                return Ok(None);
            }
            Seen::Name { name, is_tls } => (name, is_tls),
            _ => return Ok(Some(held)),
        };
        let (socket, line) =
            handover::connect(&shared.token, (&name, is_tls), key).map_err(|_| {
                End::Refused(Refusal {
                    reason: "interceptor_unavailable",
                    name: Some(name.clone()),
                })
            })?;
        self.host = Host::Open(socket);
        self.to_host.push(&line);
        self.to_host.push(&held);
        self.inspector = None;
        self.name = Some(name);
        self.handed_over = true;
        Ok(None)
    }

    fn judge(&mut self, shared: &Shared, key: Key, bytes: Vec<u8>) -> Result<(), End> {
        let inspector = match &mut self.inspector {
            Some(inspector) => inspector,
            None => {
                self.to_host.push(&bytes);
                return Ok(());
            }
        };
        let may_ask = |name: &str| {
            shared
                .policy
                .allows_named(name, key.address, key.port, &shared.pins)
        };
        let passed = inspector.feed(&bytes, &may_ask).map_err(End::Refused)?;
        self.to_host.push(&passed);
        if let Some(name) = &inspector.name {
            self.name.get_or_insert_with(|| name.clone());
        }
        if inspector.is_done() {
            self.inspector = None;
        }
        Ok(())
    }

    fn flush(&mut self, shared: &mut Shared) -> Result<(), End> {
        let socket = match &mut self.host {
            Host::Open(socket) => socket,
            _ => return Ok(()),
        };
        while !self.to_host.is_empty() {
            let waiting = self.to_host.as_slice();
            let count = waiting.len().min(shared.rates.sent.room(shared.now));
            if count == 0 {
                break;
            }
            match socket.write(&waiting[..count]) {
                Ok(count) => {
                    self.to_host.consume(count);
                    shared.rates.sent.take(count);
                    shared.told.sent += count as u64;
                }
                Err(error) if is_for_later(&error) => break,
                Err(_) => return Err(End::Broken),
            }
        }
        Ok(())
    }

    fn serve_guest(&mut self, shared: &mut Shared, key: Key, buffer: &mut [u8]) -> Result<(), End> {
        while !self.host_ended && self.tcp.room() > 0 && !shared.wire.is_full() {
            let socket = match &mut self.host {
                Host::Open(socket) => socket,
                _ => return Ok(()),
            };
            let room = self.tcp.room().min(shared.rates.received.room(shared.now));
            let count = room.min(buffer.len());
            if count == 0 {
                break;
            }
            match socket.read(&mut buffer[..count]) {
                Ok(0) => {
                    self.host_ended = true;
                    self.tcp.end();
                }
                Ok(count) => {
                    shared.told.received += count as u64;
                    shared.rates.received.take(count);
                    self.answered(shared, key, &buffer[..count])?;
                    self.tcp.send(&buffer[..count]);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_for_later(&error) => break,
                Err(_) => return Err(End::Broken),
            }
        }
        Ok(())
    }

    /// An answer may let go what was held.
    fn answered(&mut self, shared: &mut Shared, key: Key, bytes: &[u8]) -> Result<(), End> {
        let lets_go = match &mut self.inspector {
            Some(inspector) => inspector.answered(bytes).map_err(End::Refused)?,
            None => false,
        };
        if lets_go {
            self.inspect(shared, key, Vec::new())?;
            self.flush(shared)?;
        }
        Ok(())
    }

    fn serve_names(&mut self, key: Key, wanted: &mut Wanted) {
        let (input, waiting) = match &mut self.host {
            Host::Names(input, waiting) => (input, waiting),
            _ => return,
        };
        input.push(&self.tcp.take_received());
        while *waiting < MAX_QUESTIONS {
            let message = match input.take_message() {
                Some(message) => message,
                None => break,
            };
            *waiting += 1;
            wanted.questions.push((key, message));
        }
        self.to_host = Queue::default();
        if *waiting == 0 && self.tcp.guest_has_ended() {
            self.tcp.end();
        }
    }
}

fn dial(key: Key, now: u64) -> io::Result<Host> {
    let socket = sys::start_connect(SocketAddrV4::new(key.address, key.port))?;
    Ok(Host::Dialing(socket, now + DIAL_MS))
}
