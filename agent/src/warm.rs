//! What every box does after its restore, done once before the machine is frozen: the memory that the kernel takes for
//! it is then the golden machine's, which all boxes share, and not each box's own.

use crate::agent::Agent;
use crate::boot;
use crate::cgroup::Cgroups;
use crate::failure::{Context, Outcome};
use crate::net;
use crate::spawn::{self, Plan};
use crate::sys;
use std::fs::{self, File};
use std::os::unix::io::AsRawFd;

/// The kernel's own value.
const INODE_READ_AHEAD: &str = "32";
/// From the mount of the root to reading inodes ahead as usual.
pub const FIRST_READS_MS: u64 = 1000;

/// Reads inodes ahead as usual again.
pub fn read_ahead() {
    // Without it reading is only slower.
    let _ = fs::write("/sys/fs/ext4/vdb/inode_readahead_blks", INODE_READ_AHEAD);
}

impl Agent {
    /// What fails here is only not saved.
    pub fn warm_up(&mut self) {
        self.cgroups = Cgroups::open();
        for done in [net::prepare(), self.run_once()] {
            if let Err(failure) = done {
                boot::log(&failure.message);
            }
        }
    }

    /// Runs this program as an execution would be; it ends at once with its usage.
    fn run_once(&mut self) -> Outcome<()> {
        let null = File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .context("/dev/null")?;
        let fd = null.as_raw_fd();
        let cgroup = match &mut self.cgroups {
            Some(cgroups) => Some(cgroups.create().context("creating a cgroup")?),
            None => None,
        };
        let pid = spawn::spawn(&Plan {
            argv: &[b"/init", b"--help"],
            env: &[],
            cwd: b"/",
            user: None,
            stdio: [fd, fd, fd],
            terminal: false,
            cgroup: cgroup.as_ref().map(|cgroup| &cgroup.directory),
            dropped: 0,
            added: 0,
            is_init: true,
        })?;
        unsafe { sys::waitpid(pid, std::ptr::null_mut(), 0) };
        if let (Some(cgroups), Some(cgroup)) = (&mut self.cgroups, cgroup) {
            cgroups.remove(&cgroup.name);
            cgroups.keep_spare();
        }
        Ok(())
    }
}
