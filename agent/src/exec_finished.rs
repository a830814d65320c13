//! Ended executions, which stay for a while so that somebody may attach to them (docs/PROTOCOL.md, section 6).

use crate::agent::{Agent, Timer};
use crate::sys;

/// Ended ones that are kept for a later attach.
const MOST_FINISHED: usize = 256;
/// Output kept for ended executions, all together.
const FINISHED_BYTES: usize = 8 * 1024 * 1024;
const RETENTION_MS: u64 = 5 * 60 * 1000;

/// An ended execution and when it may be forgotten.
pub struct Finished {
    exec: u64,
    until_ms: u64,
}

impl Agent {
    /// Keeps an execution that has settled for its time, and within the limits.
    pub fn keep_finished(&mut self, key: u64) {
        self.exec_finished.push_back(Finished {
            exec: key,
            until_ms: sys::monotonic_ms() + RETENTION_MS,
        });
        self.bound_finished();
        self.plan_retention();
    }

    /// The execution of this key is forgotten by other means.
    pub fn drop_finished(&mut self, key: u64) {
        self.exec_finished.retain(|finished| finished.exec != key);
    }

    /// Forgets those whose time is over.
    pub fn exec_retention(&mut self) {
        let now = sys::monotonic_ms();
        let old: Vec<u64> = self
            .exec_finished
            .iter()
            .filter(|f| f.until_ms <= now)
            .map(|f| f.exec)
            .collect();
        for key in old {
            self.forget(key);
        }
        self.retention = None;
        self.plan_retention();
    }

    /// One timer, for the oldest: hundreds may end each second.
    fn plan_retention(&mut self) {
        let oldest = self.exec_finished.front().map(|finished| finished.until_ms);
        if let (Some(until), None) = (oldest, self.retention) {
            let delay = until.saturating_sub(sys::monotonic_ms());
            self.retention = Some(self.after(delay, Timer::Retention));
        }
    }

    /// Forgets the oldest ended executions beyond the limits; those still being read stay.
    pub fn bound_finished(&mut self) {
        loop {
            let bytes: usize = self
                .exec_finished
                .iter()
                .filter_map(|finished| self.execs.get(&finished.exec))
                .flat_map(|exec| exec.parts())
                .flatten()
                .filter_map(|source| self.sources.get(&source))
                .map(|source| source.ring.capacity())
                .sum();
            if self.exec_finished.len() <= MOST_FINISHED && bytes <= FINISHED_BYTES {
                return;
            }
            let oldest = self
                .exec_finished
                .iter()
                .map(|finished| finished.exec)
                .find(|key| self.execs.get(key).map_or(true, |exec| !exec.attached));
            match oldest {
                Some(key) => self.forget(key),
                None => return,
            }
        }
    }
}
