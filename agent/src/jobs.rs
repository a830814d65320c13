//! Work that may block: files and archives. Short jobs run one after the other in the order of their requests; a long
//! one is handed to a thread of its own when its turn comes, so it sees what earlier requests did. Every job ends when
//! nobody waits for it any more: the request was cancelled, its stream was reset, or the dialogue is over.

use crate::agent::{Agent, Ticket};
use crate::cancel::Cancel;
use crate::connection::End;
use crate::failure::{Failure, Outcome};
use crate::json::Value;
use crate::sys;
use std::collections::VecDeque;
use std::io;
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// Requests waiting or running; a host that sends more gets `resource_exhausted`.
const MOST_JOBS: usize = 256;
/// Threads of long jobs.
const MOST_THREADS: usize = 32;
/// Watched directories: each has a thread, and an inotify instance, of which programs of the box want some too.
const MOST_WATCHES: usize = 32;
/// Enough for walking directories of the deepest path accepted.
const STACK_BYTES: usize = 256 * 1024;

type Work = Box<dyn FnOnce(&Cancel) -> Outcome<Value> + Send>;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Short,
    Long,
    /// Starts at once on a thread that no transfer can take: for the machine as a whole.
    Apart,
    /// As that, and lasts for as long as the host wants to know what happens.
    Watch,
}

/// Who asked for a job, and what ends with it.
#[derive(Clone)]
struct Order {
    ticket: Ticket,
    kind: Kind,
    /// Its end waits for the job.
    source: Option<u64>,
    sink: Option<u64>,
    cancel: Arc<Cancel>,
}

struct Job {
    order: Order,
    work: Work,
}

struct Done {
    order: Order,
    result: Outcome<Value>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    running: Vec<Order>,
    lane_running: bool,
    threads: usize,
    done: Vec<Done>,
}

impl State {
    fn pending(&self) -> usize {
        self.queue.len() + self.running.len() + self.done.len()
    }

    /// The first job that can begin. While all threads are taken, short ones overtake the long ones that wait.
    fn next(&mut self) -> Option<Job> {
        let free = self.threads < MOST_THREADS;
        let at = self
            .queue
            .iter()
            .position(|job| free || job.order.kind == Kind::Short)?;
        let job = self.queue.remove(at)?;
        self.begin(&job);
        Some(job)
    }

    fn begin(&mut self, job: &Job) {
        self.running.push(job.order.clone());
        if job.order.kind == Kind::Long {
            self.threads += 1;
        }
    }
}

struct Shared {
    state: Mutex<State>,
    event: OwnedFd,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A panic inside the lock ends the program (panic = abort): there is no poison to see.
        match self.state.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    fn finish(&self, order: Order, result: Outcome<Value>) {
        let mut state = self.state();
        state
            .running
            .retain(|running| !Arc::ptr_eq(&running.cancel, &order.cancel));
        state.done.push(Done { order, result });
        drop(state);
        sys::write_some(self.event.as_raw_fd(), &1u64.to_ne_bytes());
    }
}

pub struct Jobs {
    shared: Arc<Shared>,
}

impl Jobs {
    pub fn new() -> io::Result<Jobs> {
        let event = sys::owned(unsafe { sys::eventfd(0, sys::O_CLOEXEC | sys::O_NONBLOCK) })?;
        Ok(Jobs {
            shared: Arc::new(Shared {
                state: Mutex::new(State::default()),
                event,
            }),
        })
    }

    pub fn event_fd(&self) -> RawFd {
        self.shared.event.as_raw_fd()
    }

    fn submit(&self, job: Job) -> Outcome<()> {
        let mut state = self.shared.state();
        if state.pending() >= MOST_JOBS {
            return Err(Failure::new(
                "resource_exhausted",
                format!("{} file operations are under way already", MOST_JOBS),
            ));
        }
        if matches!(job.order.kind, Kind::Apart | Kind::Watch) {
            let watches = |running: &&Order| running.kind == Kind::Watch;
            if job.order.kind == Kind::Watch
                && state.running.iter().filter(watches).count() >= MOST_WATCHES
            {
                return Err(too_many_watches());
            }
            state.begin(&job);
            drop(state);
            on_thread(&self.shared, job);
            return Ok(());
        }
        state.queue.push_back(job);
        if !state.lane_running {
            let shared = self.shared.clone();
            if let Err(error) = spawn(move || lane(shared)) {
                state.queue.pop_back();
                return Err(no_thread(&error));
            }
            state.lane_running = true;
        }
        Ok(())
    }

    /// Takes jobs back: those that have not begun are done with, the others are told. Returns what ends with them.
    fn cancel(&self, which: impl Fn(&Order) -> bool) -> Vec<Order> {
        let mut state = self.shared.state();
        let (gone, kept): (VecDeque<Job>, VecDeque<Job>) = std::mem::take(&mut state.queue)
            .into_iter()
            .partition(|job| which(&job.order));
        state.queue = kept;
        let mut orders: Vec<Order> = state
            .running
            .iter()
            .filter(|order| which(order))
            .cloned()
            .collect();
        drop(state);
        for job in gone {
            orders.push(job.order.clone());
            let failure = Failure::new("cancelled", "cancelled before it began");
            self.shared.finish(job.order, Err(failure));
        }
        for order in &orders {
            order.cancel.set();
        }
        orders
    }
}

fn too_many_watches() -> Failure {
    let message = format!(
        "{} directories of the box are watched already",
        MOST_WATCHES
    );
    Failure::new("resource_exhausted", message).hint("Close other watches of the box.")
}

fn no_thread(error: &io::Error) -> Failure {
    let message = format!("starting a thread: {}", error);
    Failure::new("resource_exhausted", message)
        .hint("End processes in the box, or give it more memory.")
}

fn spawn(work: impl FnOnce() + Send + 'static) -> io::Result<()> {
    thread::Builder::new()
        .stack_size(STACK_BYTES)
        .spawn(work)
        .map(drop)
}

/// Takes jobs in order; ends when there are none, so that an idle agent has one thread.
fn lane(shared: Arc<Shared>) {
    loop {
        let mut state = shared.state();
        let job = match state.next() {
            Some(job) => job,
            // What waits for a thread goes on when one ends.
            None => {
                state.lane_running = false;
                return;
            }
        };
        drop(state);
        if job.order.kind == Kind::Long {
            on_thread(&shared, job);
        } else {
            run(&shared, job);
        }
    }
}

fn on_thread(shared: &Arc<Shared>, job: Job) {
    let owner = shared.clone();
    let order = job.order.clone();
    let kind = order.kind;
    let ended = move |shared: Arc<Shared>| {
        let mut state = shared.state();
        if kind == Kind::Long {
            state.threads -= 1;
        }
        if !state.lane_running && !state.queue.is_empty() {
            state.lane_running = true;
            drop(state);
            lane(shared);
        }
    };
    let started = spawn(move || {
        run(&owner, job);
        ended(owner);
    });
    if let Err(error) = started {
        if kind == Kind::Long {
            shared.state().threads -= 1;
        }
        shared.finish(order, Err(no_thread(&error)));
    }
}

fn run(shared: &Shared, job: Job) {
    let result = (job.work)(&job.order.cancel);
    shared.finish(job.order, result);
}

impl Agent {
    /// Queues a short job; its result answers the request.
    pub fn short_job(
        &mut self,
        ticket: Ticket,
        work: impl FnOnce() -> Outcome<Value> + Send + 'static,
    ) -> Option<Outcome<Value>> {
        self.job(ticket, None, None, Kind::Short, Box::new(|_| work()))
    }

    /// Queues a long job, with the source it writes to or the sink it reads from.
    pub fn long_job(
        &mut self,
        ticket: Ticket,
        source: Option<u64>,
        sink: Option<u64>,
        work: impl FnOnce(&Cancel) -> Outcome<Value> + Send + 'static,
    ) -> Option<Outcome<Value>> {
        self.job(ticket, source, sink, Kind::Long, Box::new(work))
    }

    /// Starts a job that lasts, with the source it writes to.
    pub fn watch_job(
        &mut self,
        ticket: Ticket,
        source: u64,
        work: impl FnOnce(&Cancel) -> Outcome<Value> + Send + 'static,
    ) -> Option<Outcome<Value>> {
        self.job(ticket, Some(source), None, Kind::Watch, Box::new(work))
    }

    /// Starts a job that waits for no other: freezing the file system, writing caches.
    pub fn job_apart(
        &mut self,
        ticket: Ticket,
        work: impl FnOnce() -> Outcome<Value> + Send + 'static,
    ) -> Option<Outcome<Value>> {
        self.job(ticket, None, None, Kind::Apart, Box::new(|_| work()))
    }

    fn job(
        &mut self,
        ticket: Ticket,
        source: Option<u64>,
        sink: Option<u64>,
        kind: Kind,
        work: Work,
    ) -> Option<Outcome<Value>> {
        let cancel = Cancel::new();
        if let Some(sink) = sink.and_then(|sink| self.sinks.get_mut(&sink)) {
            sink.cut_off = Some(cancel.clone());
        }
        let order = Order {
            ticket,
            kind,
            source,
            sink,
            cancel,
        };
        match self.jobs.submit(Job { order, work }) {
            Ok(()) => None,
            Err(failure) => {
                self.end_streams(source, sink, Some(&failure));
                Some(Err(failure))
            }
        }
    }

    /// The host waits no longer for a request: its job ends, and so do the job's streams.
    pub fn cancel_request(&mut self, ticket: Ticket) {
        self.cancel_jobs(|order| order.ticket == ticket);
    }

    /// The dialogue is over, and nobody waits for any job of it.
    pub fn cancel_all_jobs(&mut self) {
        self.cancel_jobs(|_| true);
    }

    /// The host has given up the stream of a job.
    pub fn cancel_job_of_stream(&mut self, end: End) {
        match end {
            End::Out(id) => self.cancel_jobs(|order| order.source == Some(id)),
            End::In(id) => self.cancel_jobs(|order| order.sink == Some(id)),
        }
    }

    fn cancel_jobs(&mut self, which: impl Fn(&Order) -> bool) {
        for order in self.jobs.cancel(which) {
            // The job may stand at its pipe: closing this end wakes it.
            let failure = Failure::new("cancelled", "the request was cancelled");
            self.end_streams(order.source, order.sink, Some(&failure));
        }
    }

    fn end_streams(&mut self, source: Option<u64>, sink: Option<u64>, failure: Option<&Failure>) {
        if let Some(source) = source {
            self.release_source(source, failure);
        }
        if let Some(sink) = sink {
            self.remove_sink(sink);
        }
    }

    pub fn jobs_ready(&mut self) {
        let mut count = [0u8; 8];
        sys::read_some(self.jobs.event_fd(), &mut count);
        let done = std::mem::take(&mut self.jobs.shared.state().done);
        for Done { order, result } in done {
            self.end_streams(order.source, order.sink, result.as_ref().err());
            self.reply(order.ticket, result);
        }
    }
}
