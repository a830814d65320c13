//! Tells a job that nobody waits for it any more, whatever it is waiting for.

use crate::failure::{Context, Failure, Outcome};
use crate::sys;
use std::fmt::Display;
use std::io;
use std::os::raw::c_ulong;
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

/// A descriptor that says it is ready and then is not, as devices without poll do, is asked again after this.
const RETRY_MS: i32 = 20;

/// Shared by a job and the agent's loop.
#[derive(Default)]
pub struct Cancel {
    set: AtomicBool,
    /// Made by the first wait: most jobs never wait for anything but their stream.
    event: Mutex<Option<OwnedFd>>,
}

impl Cancel {
    pub fn new() -> Arc<Cancel> {
        Arc::default()
    }

    fn event(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        // A panic inside the lock ends the program (panic = abort): there is no poison to see.
        match self.event.lock() {
            Ok(guard) => guard,
            Err(poisoned) => poisoned.into_inner(),
        }
    }

    /// Ends every wait, now and later.
    pub fn set(&self) {
        let event = self.event();
        self.set.store(true, Ordering::SeqCst);
        if let Some(event) = &*event {
            sys::write_some(event.as_raw_fd(), &1u64.to_ne_bytes());
        }
    }

    pub fn is_set(&self) -> bool {
        self.set.load(Ordering::SeqCst)
    }

    /// Err when the job is to end: what it was about to do must not be done.
    pub fn check(&self, what: impl Display) -> Outcome<()> {
        if self.is_set() {
            let message = format!("{}: nobody waits for it any more", what);
            return Err(Failure::new("cancelled", message));
        }
        Ok(())
    }

    /// Waits until a descriptor can be written. Err when cancelled meanwhile.
    pub fn wait_writable(&self, fd: RawFd, again: bool, what: impl Display) -> Outcome<()> {
        let event = self.event_fd().context("eventfd")?;
        let mut fds = [
            sys::PollFd::new(event, sys::POLLIN),
            sys::PollFd::new(fd, sys::POLLOUT),
        ];
        let (count, timeout) = if again { (1, RETRY_MS) } else { (2, -1) };
        // Interrupted or not: the caller tries to write, and comes back.
        unsafe { sys::poll(fds.as_mut_ptr(), count as c_ulong, timeout) };
        self.check(what)
    }

    /// Waits until a descriptor can be read, or for so long (-1: without end). Err when cancelled meanwhile.
    pub fn wait_readable(&self, fd: RawFd, timeout_ms: i32, what: impl Display) -> Outcome<()> {
        let event = self.event_fd().context("eventfd")?;
        let mut fds = [
            sys::PollFd::new(event, sys::POLLIN),
            sys::PollFd::new(fd, sys::POLLIN),
        ];
        // Interrupted or not: the caller tries to read, and comes back.
        unsafe { sys::poll(fds.as_mut_ptr(), 2, timeout_ms) };
        self.check(what)
    }

    /// Lives as long as the token. Ready from the start when it is set already.
    fn event_fd(&self) -> io::Result<RawFd> {
        let mut event = self.event();
        if event.is_none() {
            let initial = u32::from(self.is_set());
            let flags = sys::O_CLOEXEC | sys::O_NONBLOCK;
            *event = Some(sys::owned(unsafe { sys::eventfd(initial, flags) })?);
        }
        Ok(event.as_ref().map_or(-1, |event| event.as_raw_fd()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    #[test]
    fn ends_a_wait() {
        let (_reader, writer) = sys::pipe().unwrap();
        sys::set_nonblocking(writer.as_raw_fd()).unwrap();
        while let sys::Io::Done(_) = sys::write_some(writer.as_raw_fd(), &[0; 4096]) {}
        let cancel = Cancel::new();
        let waiter = {
            let cancel = cancel.clone();
            thread::spawn(move || cancel.wait_writable(writer.as_raw_fd(), false, "a pipe"))
        };
        cancel.set();
        assert_eq!(waiter.join().unwrap().unwrap_err().code, "cancelled");
        assert!(cancel.check("later").is_err());
    }

    #[test]
    fn waits_for_room_only() {
        let (_reader, writer) = sys::pipe().unwrap();
        let cancel = Cancel::new();
        assert!(cancel
            .wait_writable(writer.as_raw_fd(), false, "a pipe")
            .is_ok());
        assert!(cancel
            .wait_writable(writer.as_raw_fd(), true, "a pipe")
            .is_ok());
    }
}
