//! Devices of the agent's own /dev, held from before a box's root is there: what its processes make of /dev later is
//! nothing to the agent.

use crate::failure::{Context, Outcome};
use crate::sys;
use std::os::raw::c_char;
use std::os::unix::io::{AsRawFd, IntoRawFd, OwnedFd};
use std::sync::atomic::{AtomicI32, Ordering};

static NULL: AtomicI32 = AtomicI32::new(-1);
static RANDOM: AtomicI32 = AtomicI32::new(-1);
/// The directory of the terminals: its own `ptmx` cannot be removed.
static TERMINALS: AtomicI32 = AtomicI32::new(-1);

/// Opens what is needed later. Without it, as in the test mode, each is opened by its path.
pub fn hold() -> Outcome<()> {
    for (place, path, flags) in [
        (&NULL, "/dev/null\0", sys::O_RDWR),
        (&RANDOM, "/dev/urandom\0", sys::O_RDWR),
        (&TERMINALS, "/dev/pts\0", sys::O_PATH | sys::O_DIRECTORY),
    ] {
        // Held for good.
        place.store(open(path, flags)?.into_raw_fd(), Ordering::Relaxed);
    }
    Ok(())
}

fn open(path: &'static str, flags: i32) -> Outcome<OwnedFd> {
    let fd = unsafe { sys::open(path.as_ptr() as *const c_char, flags | sys::O_CLOEXEC) };
    sys::owned(fd).context(format!("opening {}", path.trim_end_matches('\0')))
}

/// /dev/null, read and write, at least 3.
pub fn null() -> Outcome<OwnedFd> {
    held(&NULL, "/dev/null\0", sys::O_RDWR)
}

/// The random number generator, for its ioctls.
pub fn random() -> Outcome<OwnedFd> {
    held(&RANDOM, "/dev/urandom\0", sys::O_RDONLY)
}

fn held(place: &AtomicI32, path: &'static str, flags: i32) -> Outcome<OwnedFd> {
    match place.load(Ordering::Relaxed) {
        fd if fd < 0 => open(path, flags),
        fd => sys::owned(unsafe { sys::fcntl(fd, sys::F_DUPFD_CLOEXEC, 3) })
            .context(format!("opening {}", path.trim_end_matches('\0'))),
    }
}

/// The master of a new terminal.
pub fn terminal() -> Outcome<OwnedFd> {
    let flags = sys::O_RDWR | sys::O_NOCTTY;
    match TERMINALS.load(Ordering::Relaxed) {
        fd if fd < 0 => open("/dev/ptmx\0", flags),
        fd => {
            let name = b"ptmx\0".as_ptr() as *const c_char;
            sys::owned(unsafe { sys::openat(fd, name, flags | sys::O_CLOEXEC) })
                .context("opening a terminal")
        }
    }
}

/// Gives a pipe or terminal to the user whose standard stream it is: /dev/stdout is opened by its owner, mode and group.
pub fn give(fd: &OwnedFd, uid: u32, gid: u32) -> Outcome<()> {
    sys::check(unsafe { sys::fchown(fd.as_raw_fd(), uid, gid) })
        .map(drop)
        .context("giving a stream to its user")
}
