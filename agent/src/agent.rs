//! The agent itself: one thread, one epoll loop, no polling. What may block runs in jobs (jobs.rs).

use crate::cgroup::Cgroups;
use crate::connection::{Connection, OUT_HARD_BYTES, OUT_SOFT_BYTES};
use crate::exec::Exec;
use crate::exec_finished::Finished;
use crate::failure::{Context, Failure, Outcome};
use crate::frame::{Frame, Item};
use crate::identity::Identity;
use crate::jobs::Jobs;
use crate::json::Value;
use crate::net::Dial;
use crate::object;
use crate::rehearsal::Rehearsal;
use crate::streams::{Sink, Source};
use crate::sys;
use crate::system::{Freeze, PowerOff};
use crate::volume::Volumes;
use crate::warm;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::os::unix::io::{AsRawFd, FromRawFd, OwnedFd};

pub const PROTOCOL: i64 = 1;
/// Input taken from the host before the rest of the loop gets its turn.
const READ_TURNS: usize = 16;
const SCRATCH_BYTES: usize = 64 * 1024;
const EVENTS: usize = 64;

/// What an epoll event belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token {
    Connection,
    Listener,
    Signals,
    Jobs,
    Stream(u64),
    Dial(u64),
}

impl Token {
    fn pack(self) -> u64 {
        match self {
            Token::Connection => 0,
            Token::Listener => 1,
            Token::Signals => 2,
            Token::Jobs => 3,
            Token::Stream(id) => id << 3 | 4,
            Token::Dial(id) => id << 3 | 5,
        }
    }

    fn unpack(data: u64) -> Token {
        match data & 7 {
            0 => Token::Connection,
            1 => Token::Listener,
            2 => Token::Signals,
            3 => Token::Jobs,
            4 => Token::Stream(data >> 3),
            _ => Token::Dial(data >> 3),
        }
    }
}

/// Something to be done at a point of the monotonic clock. One that is not needed any more is cancelled where many or
/// long ones could gather; stale ones find nothing to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timer {
    ExecTimeout(u64),
    Retention,
    Thaw(u64),
    PowerOff,
    DialTimeout(u64),
    Held,
    FirstReads,
}

/// A timer that was set, to cancel it.
pub type TimerKey = (u64, u64);

/// A request to be answered later, perhaps after its connection is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    generation: u64,
    id: i64,
}

/// Where the connection comes from.
pub enum Transport {
    /// The virtio-serial port: one descriptor for ever.
    Port,
    /// A listening unix socket, for tests on the host.
    Socket { listener: OwnedFd, once: bool },
}

pub struct Agent {
    epoll: OwnedFd,
    signals: OwnedFd,
    transport: Transport,
    pub connection: Option<Connection>,
    generation: u64,
    next_key: u64,
    timers: BTreeMap<TimerKey, Timer>,
    pub scratch: Vec<u8>,
    pub sources: BTreeMap<u64, Source>,
    pub sinks: BTreeMap<u64, Sink>,
    pub drains: BTreeMap<u64, OwnedFd>,
    /// Sources that have something to read or to send.
    pub busy: BTreeSet<u64>,
    /// Sources that wait for the connection to take what is queued.
    pub waiting: BTreeSet<u64>,
    pub ring_bytes: usize,
    /// Until when sources whose connection is gone drop nothing.
    pub held_until_ms: Option<u64>,
    pub execs: BTreeMap<u64, Exec>,
    pub exec_names: BTreeMap<String, u64>,
    pub exec_finished: VecDeque<Finished>,
    /// When the oldest ended execution may be forgotten.
    pub retention: Option<TimerKey>,
    /// Arguments that came ahead of their start, by its name.
    pub words: BTreeMap<String, Vec<u8>>,
    pub children: BTreeMap<i32, Child>,
    pub cgroups: Option<Cgroups>,
    /// Executions that have settled and whose cgroups are still there.
    pub settled: Vec<u64>,
    pub dials: BTreeMap<u64, Dial>,
    pub jobs: Jobs,
    /// PID 1 of a machine, with its powers; false in the test mode on a host.
    pub is_init: bool,
    /// The nonce of this run once the root is mounted.
    pub run: Option<String>,
    /// What identity.renew asked for and the root that is not mounted yet is to get.
    pub identity: Option<Identity>,
    pub rehearsal: Rehearsal,
    pub freeze: Freeze,
    pub power_off: Option<PowerOff>,
    pub volumes: Volumes,
    done: bool,
}

/// What a process is to the agent.
pub enum Child {
    Exec(u64),
    /// A helper program; its request is answered when it has ended.
    Helper(Ticket, Value),
}

impl Agent {
    pub fn new(transport: Transport, port: Option<OwnedFd>, is_init: bool) -> Outcome<Agent> {
        unsafe { sys::mallopt(sys::M_ARENA_MAX, 1) };
        let epoll =
            sys::owned(unsafe { sys::epoll_create1(sys::O_CLOEXEC) }).context("epoll_create1")?;
        let mut set = sys::SigSet { words: [0; 16] };
        set.words[0] = 1 << (sys::SIGCHLD - 1);
        sys::check(unsafe { sys::sigprocmask(sys::SIG_BLOCK, &set, std::ptr::null_mut()) })
            .context("sigprocmask")?;
        let signals =
            sys::owned(unsafe { sys::signalfd(-1, &set, sys::O_CLOEXEC | sys::O_NONBLOCK) })
                .context("signalfd")?;
        let jobs = Jobs::new().context("eventfd")?;
        let mut agent = Agent {
            epoll,
            signals,
            transport,
            connection: None,
            generation: 0,
            next_key: 1,
            timers: BTreeMap::new(),
            scratch: vec![0; SCRATCH_BYTES],
            sources: BTreeMap::new(),
            sinks: BTreeMap::new(),
            drains: BTreeMap::new(),
            busy: BTreeSet::new(),
            waiting: BTreeSet::new(),
            ring_bytes: 0,
            held_until_ms: None,
            execs: BTreeMap::new(),
            exec_names: BTreeMap::new(),
            exec_finished: VecDeque::new(),
            retention: None,
            words: BTreeMap::new(),
            children: BTreeMap::new(),
            cgroups: None,
            settled: Vec::new(),
            dials: BTreeMap::new(),
            jobs,
            is_init,
            run: None,
            identity: None,
            rehearsal: Rehearsal::None,
            freeze: Freeze::default(),
            power_off: None,
            volumes: Volumes::default(),
            done: false,
        };
        agent
            .watch_raw(agent.signals.as_raw_fd(), sys::EPOLLIN, Token::Signals)
            .context("epoll_ctl")?;
        agent
            .watch_raw(agent.jobs.event_fd(), sys::EPOLLIN, Token::Jobs)
            .context("epoll_ctl")?;
        if let Transport::Socket { listener, .. } = &agent.transport {
            agent
                .watch_raw(listener.as_raw_fd(), sys::EPOLLIN, Token::Listener)
                .context("epoll_ctl")?;
        }
        if let Some(port) = port {
            agent.connect(port).context("epoll_ctl")?;
        }
        Ok(agent)
    }

    pub fn new_key(&mut self) -> u64 {
        self.next_key += 1;
        self.next_key
    }

    pub fn watch(&self, fd: &OwnedFd, events: u32, token: Token) -> io::Result<()> {
        self.watch_raw(fd.as_raw_fd(), events, token)
    }

    /// Edge-triggered: whoever gets an event reads or writes until the descriptor blocks, or remembers to.
    fn watch_raw(&self, fd: i32, events: u32, token: Token) -> io::Result<()> {
        let mut event = sys::EpollEvent {
            events: events | sys::EPOLLET,
            data: token.pack(),
        };
        sys::check(unsafe {
            sys::epoll_ctl(self.epoll.as_raw_fd(), sys::EPOLL_CTL_ADD, fd, &mut event)
        })
        .map(drop)
    }

    pub fn unwatch(&self, fd: &OwnedFd) {
        let mut event = sys::EpollEvent { events: 0, data: 0 };
        unsafe {
            sys::epoll_ctl(
                self.epoll.as_raw_fd(),
                sys::EPOLL_CTL_DEL,
                fd.as_raw_fd(),
                &mut event,
            )
        };
    }

    pub fn after(&mut self, delay_ms: u64, timer: Timer) -> TimerKey {
        let key = (sys::monotonic_ms().saturating_add(delay_ms), self.new_key());
        self.timers.insert(key, timer);
        key
    }

    pub fn cancel_timer(&mut self, key: TimerKey) {
        self.timers.remove(&key);
    }

    /// How many timers are set.
    pub fn timer_count(&self) -> usize {
        self.timers.len()
    }

    fn connect(&mut self, fd: OwnedFd) -> io::Result<()> {
        sys::set_nonblocking(fd.as_raw_fd())?;
        self.watch(&fd, sys::EPOLLIN | sys::EPOLLOUT, Token::Connection)?;
        self.generation += 1;
        self.connection = Some(Connection::new(fd, self.generation));
        Ok(())
    }

    /// Runs until a listener with `once` has served its connection. On a machine: for ever.
    pub fn run_loop(&mut self) {
        let mut events = [sys::EpollEvent { events: 0, data: 0 }; EVENTS];
        while !self.done {
            let timeout = self.next_wait();
            let count = unsafe {
                sys::epoll_wait(
                    self.epoll.as_raw_fd(),
                    events.as_mut_ptr(),
                    EVENTS as i32,
                    timeout,
                )
            };
            for event in events.iter().take(count.max(0) as usize) {
                let (bits, data) = (event.events, event.data);
                self.event(bits, Token::unpack(data));
            }
            self.turn();
        }
    }

    fn next_wait(&self) -> i32 {
        let readable = self.connection.as_ref().map_or(false, |c| {
            c.readable && !c.hung_up && c.backlog() <= OUT_HARD_BYTES
        });
        if readable || !self.busy.is_empty() {
            return 0;
        }
        match self.timers.keys().next() {
            None => -1,
            Some((at, _)) => at.saturating_sub(sys::monotonic_ms()).min(i32::MAX as u64) as i32,
        }
    }

    fn event(&mut self, bits: u32, token: Token) {
        match token {
            Token::Connection => {
                if let Some(connection) = self.connection.as_mut() {
                    connection.readable |=
                        bits & (sys::EPOLLIN | sys::EPOLLHUP | sys::EPOLLERR) != 0;
                    connection.writable |= bits & sys::EPOLLOUT != 0;
                    // A port that opens again reports itself writable.
                    if bits & sys::EPOLLHUP != 0 {
                        connection.hung_up = true;
                    } else if matches!(self.transport, Transport::Port) {
                        connection.hung_up = false;
                    }
                }
                self.connection_check();
            }
            Token::Listener => self.accept(),
            Token::Signals => self.signals_ready(),
            Token::Jobs => self.jobs_ready(),
            Token::Stream(id) => self.stream_event(id),
            Token::Dial(id) => self.dial_event(id),
        }
    }

    fn turn(&mut self) {
        self.read_requests();
        self.pump();
        self.fire_timers();
        if let Some(connection) = self.connection.as_mut() {
            connection.flush();
            if connection.backlog() < OUT_SOFT_BYTES / 2 {
                self.busy.append(&mut self.waiting);
            }
        }
        self.remove_settled_cgroups();
        self.connection_check();
    }

    fn fire_timers(&mut self) {
        let now = sys::monotonic_ms();
        while let Some((&(at, key), &timer)) = self.timers.iter().next() {
            if at > now {
                return;
            }
            self.timers.remove(&(at, key));
            match timer {
                Timer::ExecTimeout(exec) => self.exec_timeout(exec),
                Timer::Retention => self.exec_retention(),
                Timer::Thaw(round) => self.thaw_timeout(round),
                Timer::PowerOff => self.power_off_step(),
                Timer::DialTimeout(id) => self.dial_timeout(id),
                Timer::Held => self.release_held(),
                Timer::FirstReads => warm::read_ahead(),
            }
        }
    }

    fn accept(&mut self) {
        let listener = match &self.transport {
            Transport::Socket { listener, .. } if self.connection.is_none() => listener.as_raw_fd(),
            _ => return,
        };
        let listener = std::mem::ManuallyDrop::new(unsafe {
            std::os::unix::net::UnixListener::from_raw_fd(listener)
        });
        if let Ok((stream, _)) = listener.accept() {
            if self.connect(stream.into()).is_err() {
                self.connection = None;
            }
        }
    }

    /// Handles a transport that has gone: executions go on, everything of the dialogue ends.
    fn connection_check(&mut self) {
        let gone = self
            .connection
            .as_ref()
            .map_or(false, |connection| connection.hung_up);
        if !gone {
            return;
        }
        self.reset_connection();
        match &self.transport {
            Transport::Port => {
                if let Some(connection) = self.connection.as_mut() {
                    connection.resync();
                    connection.readable = false;
                }
            }
            Transport::Socket { once, .. } => {
                self.done = *once;
                self.connection = None;
                self.accept();
            }
        }
    }

    fn reset_connection(&mut self) {
        self.drop_streams();
        self.cancel_all_jobs();
        self.exec_detach_all();
        self.dials.clear();
        self.words.clear();
        self.generation += 1;
        if let Some(connection) = self.connection.as_mut() {
            connection.reset();
            self.generation = self.generation.max(connection.generation);
            connection.generation = self.generation;
        }
    }

    fn read_requests(&mut self) {
        let mut scratch = std::mem::take(&mut self.scratch);
        for _ in 0..READ_TURNS {
            let more = match self.connection.as_mut() {
                Some(connection) => connection.read(&mut scratch),
                None => false,
            };
            if !more {
                break;
            }
            std::mem::swap(&mut self.scratch, &mut scratch);
            while let Some(item) = self.connection.as_mut().and_then(|c| c.next_item()) {
                self.item(item);
            }
            std::mem::swap(&mut self.scratch, &mut scratch);
        }
        self.scratch = scratch;
        self.connection_check();
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Preamble(nonce) => {
                self.reset_connection();
                if let Some(connection) = self.connection.as_mut() {
                    connection.answer_preamble(&nonce);
                }
            }
            Item::Broken(why) => self.broken(&why),
            Item::Frame(frame) => self.frame(frame),
        }
    }

    /// Says what was wrong, and waits for a new preamble. Never ends the agent or an execution. What is there already is
    /// looked through for one: a new engine's preamble is no frame of the old one's dialogue.
    fn broken(&mut self, why: &str) {
        self.reset_connection();
        if let Some(connection) = self.connection.as_mut() {
            connection.scan();
            connection.send(&object! { "ev" => "broken", "message" => why });
        }
    }

    fn frame(&mut self, frame: Frame) {
        if let Some(stream) = frame.header.get("s").and_then(Value::as_int) {
            let known = u32::try_from(stream).unwrap_or(0);
            if let Err(why) = self.stream_frame(known, frame) {
                self.broken(&format!("stream {}: {}", stream, why));
            }
            return;
        }
        let id = match frame.header.get("id").and_then(Value::as_int) {
            Some(id) => id,
            None => return self.broken("a frame that is neither a request nor of a stream"),
        };
        let ticket = Ticket {
            generation: self.connection.as_ref().map_or(0, |c| c.generation),
            id,
        };
        if let Some(answer) = self.dispatch(ticket, &frame) {
            self.reply(ticket, answer);
        }
    }

    /// Answers a request, unless its connection is gone.
    pub fn reply(&mut self, ticket: Ticket, answer: Outcome<Value>) {
        if let Some(connection) = self.connection.as_mut() {
            if connection.generation == ticket.generation {
                let header = match answer {
                    Ok(value) => object! { "re" => ticket.id, "ok" => value },
                    Err(failure) => object! { "re" => ticket.id, "error" => failure.to_value() },
                };
                connection.send(&header);
            }
        }
    }

    /// The ticket of another request of the same dialogue.
    pub fn ticket_of(&self, ticket: Ticket, id: i64) -> Ticket {
        Ticket { id, ..ticket }
    }

    /// Whether the connection that asked is still there.
    pub fn is_current(&self, ticket: Ticket) -> bool {
        self.connection
            .as_ref()
            .map_or(false, |c| c.generation == ticket.generation)
    }

    pub fn event_to_host(&mut self, event: &Value) {
        if let Some(connection) = self.connection.as_mut() {
            if connection.greeted {
                connection.send(event);
            }
        }
    }

    fn signals_ready(&mut self) {
        let mut info = [0u8; 128];
        while let sys::Io::Done(_) = sys::read_some(self.signals.as_raw_fd(), &mut info) {}
        loop {
            let mut status = 0;
            let pid = unsafe { sys::waitpid(-1, &mut status, sys::WNOHANG) };
            if pid <= 0 {
                break;
            }
            match self.children.remove(&pid) {
                Some(Child::Exec(exec)) => self.exec_reaped(exec, status),
                Some(Child::Helper(ticket, answer)) => {
                    let answer = if status == 0 {
                        Ok(answer)
                    } else {
                        Err(Failure::new(
                            "execution_failed",
                            format!("the helper program ended with status {:#x}", status),
                        ))
                    };
                    self.reply(ticket, answer);
                }
                None => {}
            }
        }
        self.power_off_reaped();
    }

    /// Sends what is queued, as far as the transport takes it at once.
    pub fn flush_now(&mut self) {
        if let Some(connection) = self.connection.as_mut() {
            connection.flush();
        }
    }
}
