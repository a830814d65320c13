//! Work that may block: files and archives. Short jobs run one after the other in the order of their requests; a long
//! one is handed to a thread of its own when its turn comes, so it sees what earlier requests did.

use crate::agent::{Agent, Ticket};
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
/// Enough for walking directories of the deepest path accepted.
const STACK_BYTES: usize = 256 * 1024;

type Work = Box<dyn FnOnce() -> Outcome<Value> + Send>;

/// A job, who asked for it, and the source whose end waits for it.
struct Job {
    ticket: Ticket,
    source: Option<u64>,
    long: bool,
    work: Work,
}

struct Done {
    ticket: Ticket,
    source: Option<u64>,
    result: Outcome<Value>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<Job>,
    lane_running: bool,
    threads: usize,
    pending: usize,
    done: Vec<Done>,
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

    fn finish(&self, done: Done) {
        self.state().done.push(done);
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
        if state.pending >= MOST_JOBS {
            return Err(Failure::new(
                "resource_exhausted",
                format!("{} file operations are under way already", MOST_JOBS),
            ));
        }
        state.queue.push_back(job);
        state.pending += 1;
        if !state.lane_running {
            let shared = self.shared.clone();
            spawn(move || lane(shared))
                .map_err(|error| Failure::io("starting a thread", &error))?;
            state.lane_running = true;
        }
        Ok(())
    }
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
        let job = {
            let mut state = shared.state();
            let free = state.threads < MOST_THREADS;
            match state.queue.pop_front() {
                Some(job) if job.long && free => {
                    state.threads += 1;
                    job
                }
                Some(job) if job.long => {
                    // Goes on when a thread ends.
                    state.queue.push_front(job);
                    state.lane_running = false;
                    return;
                }
                Some(job) => job,
                None => {
                    state.lane_running = false;
                    return;
                }
            }
        };
        if job.long {
            let owner = shared.clone();
            let (ticket, source) = (job.ticket, job.source);
            if let Err(error) = spawn(move || long(owner, job)) {
                shared.state().threads -= 1;
                let result = Err(Failure::io("starting a thread", &error));
                shared.finish(Done {
                    ticket,
                    source,
                    result,
                });
            }
        } else {
            run(&shared, job);
        }
    }
}

fn long(shared: Arc<Shared>, job: Job) {
    run(&shared, job);
    let mut state = shared.state();
    state.threads -= 1;
    if !state.lane_running && !state.queue.is_empty() {
        state.lane_running = true;
        drop(state);
        lane(shared);
    }
}

fn run(shared: &Shared, job: Job) {
    let result = (job.work)();
    shared.finish(Done {
        ticket: job.ticket,
        source: job.source,
        result,
    });
}

impl Agent {
    /// Queues a short job; its result answers the request.
    pub fn short_job(
        &mut self,
        ticket: Ticket,
        work: impl FnOnce() -> Outcome<Value> + Send + 'static,
    ) -> Option<Outcome<Value>> {
        self.job(ticket, None, false, Box::new(work))
    }

    /// Queues a long job, with the source it writes to, if any.
    pub fn long_job(
        &mut self,
        ticket: Ticket,
        source: Option<u64>,
        work: impl FnOnce() -> Outcome<Value> + Send + 'static,
    ) -> Option<Outcome<Value>> {
        self.job(ticket, source, true, Box::new(work))
    }

    fn job(
        &mut self,
        ticket: Ticket,
        source: Option<u64>,
        long: bool,
        work: Work,
    ) -> Option<Outcome<Value>> {
        let job = Job {
            ticket,
            source,
            long,
            work,
        };
        match self.jobs.submit(job) {
            Ok(()) => None,
            Err(failure) => {
                if let Some(source) = source {
                    self.remove_source(source);
                }
                Some(Err(failure))
            }
        }
    }

    pub fn jobs_ready(&mut self) {
        let mut count = [0u8; 8];
        sys::read_some(self.jobs.event_fd(), &mut count);
        let done = {
            let mut state = self.jobs.shared.state();
            let done = std::mem::take(&mut state.done);
            state.pending -= done.len();
            done
        };
        for done in done {
            if let Some(source) = done.source {
                self.release_source(source, done.result.as_ref().err());
            }
            self.reply(done.ticket, done.result);
        }
    }
}
