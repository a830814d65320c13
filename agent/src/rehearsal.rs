//! root.rehearse, root.leave and root.forget: what the start of a box does, done once on a disk that is thrown away.
//! A machine that has done it once does it faster with the box's own disk: under emulation the kernel's code for it is
//! translated then. Nothing of the disk is left, which each step makes certain; where one fails the machine takes no root.

use crate::agent::Agent;
use crate::boot;
use crate::failure::{Args, Context, Failure, Outcome};
use crate::json::Value;
use crate::object;
use crate::root::{self, PLACE};
use crate::sys;
use std::ffi::CString;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};

/// How much of a disk's begin must have gone: the superblock lies in it, and group descriptors.
const LOOKED_AT_BYTES: usize = 256 * 1024;

/// How far a rehearsal is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rehearsal {
    /// There was none, or nothing of it is left.
    None,
    /// The disk is mounted; programs may be started.
    Mounted,
    /// The disk is unmounted; its blocks may still be there.
    Left,
    /// A step failed.
    Failed,
}

impl Agent {
    /// Mounts the disk and writes what a box's start writes. From then on executions can be started.
    pub fn root_rehearse(&mut self, args: &Args) -> Outcome<Value> {
        self.step(Rehearsal::None, Rehearsal::Mounted, |agent| {
            if !agent.is_init || agent.run.is_some() {
                return Err(Failure::new(
                    "invalid_state",
                    "root.rehearse: not a machine that waits for its root",
                ));
            }
            let device = root::device_of(args)?;
            root::mount_disk(device, false)?;
            if let Some(bytes) = args.optional_int("growToBytes", 1, i64::MAX)? {
                root::grow(device, bytes as u64)?;
            }
            boot::move_kernel_file_systems("", PLACE)?;
            boot::move_kernel_file_systems(PLACE, "")?;
            root::write_files(PLACE, args)?;
            let identity = agent.identity.take().unwrap_or_default();
            identity.write(PLACE)
        })
    }

    /// Unmounts the disk, and makes certain that no file system has it any more.
    pub fn root_leave(&mut self, args: &Args) -> Outcome<Value> {
        self.step(Rehearsal::Mounted, Rehearsal::Left, |agent| {
            if !agent.execs.is_empty() {
                return Err(Failure::new(
                    "invalid_state",
                    "root.leave: there are executions",
                ));
            }
            if let Some(cgroups) = &mut agent.cgroups {
                cgroups.keep_spare();
            }
            root::silence();
            let place = CString::new(PLACE).map_err(|_| Failure::invalid("a NUL byte"))?;
            sys::check(unsafe { sys::umount2(place.as_ptr(), 0) }).context(PLACE)?;
            let device = root::device_of(args)?;
            // With O_EXCL a disk opens only when nothing in the kernel holds it (open(2), "block device").
            let disk = OpenOptions::new()
                .read(true)
                .custom_flags(sys::O_EXCL)
                .open(device)
                .context(device)?;
            root::forget_blocks(&disk).context(device)
        })
    }

    /// After the disk was exchanged for an empty one: nothing of the old one may be read any more.
    pub fn root_forget(&mut self, args: &Args) -> Outcome<Value> {
        self.step(Rehearsal::Left, Rehearsal::None, |_| {
            let device = root::device_of(args)?;
            let disk = File::open(device).context(device)?;
            let mut begin = vec![0; LOOKED_AT_BYTES];
            disk.read_exact_at(&mut begin, 0).context(device)?;
            if begin.iter().any(|byte| *byte != 0) {
                let message = format!("{} still shows what was on it", device);
                return Err(Failure::new("storage_error", message));
            }
            root::forget_blocks(&disk).context(device)
        })
    }

    fn step(
        &mut self,
        from: Rehearsal,
        to: Rehearsal,
        work: impl FnOnce(&mut Agent) -> Outcome<()>,
    ) -> Outcome<Value> {
        if self.rehearsal != from {
            let message = format!("the rehearsal is {:?}, not {:?}", self.rehearsal, from);
            return Err(Failure::new("invalid_state", message));
        }
        self.rehearsal = Rehearsal::Failed;
        work(self)?;
        self.rehearsal = to;
        Ok(object! {})
    }
}
