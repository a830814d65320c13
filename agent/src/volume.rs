//! volume.mount: a disk that outlives the box comes to a place in its root, and leaves it in order at the end.

use crate::agent::{Agent, Ticket};
use crate::boot;
use crate::failure::{Args, Context, Failure, Outcome};
use crate::json::Value;
use crate::object;
use crate::sys;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::raw::c_int;
use std::os::unix::fs::FileExt;
use std::os::unix::io::AsRawFd;
use std::sync::{Arc, Mutex};

const BLOCK_DEVICES: &str = "/sys/block";
/// s_feature_incompat and its flag INCOMPAT_RECOVER (the kernel's Documentation/filesystems/ext4, "Super Block").
const FEATURES_AT: u64 = 1024 + 0x60;
const NEEDS_RECOVERY: u32 = 0x4;

/// Places in the order in which volumes were mounted.
#[derive(Default, Clone)]
pub struct Volumes(Arc<Mutex<Vec<String>>>);

impl Volumes {
    fn add(&self, place: &str) {
        if let Ok(mut places) = self.0.lock() {
            places.push(place.to_string());
        }
    }

    /// Takes all of them out, the last first; what is still in use is made read-only, which writes its journal too.
    pub fn unmount(&self) {
        let places = self
            .0
            .lock()
            .map_or_else(|_| Vec::new(), |mut list| std::mem::take(&mut *list));
        for place in places.iter().rev() {
            let place = match CString::new(place.as_str()) {
                Ok(place) => place,
                Err(_) => continue,
            };
            unsafe {
                if sys::umount2(place.as_ptr(), 0) != 0 {
                    let none = std::ptr::null();
                    let flags = sys::MS_REMOUNT | sys::MS_RDONLY;
                    sys::mount(none, place.as_ptr(), none, flags, none as *const _);
                }
            }
        }
    }
}

impl Agent {
    pub fn volume_mount(&mut self, ticket: Ticket, args: &Args) -> Outcome<Option<Outcome<Value>>> {
        if !self.is_init || self.run.is_none() {
            return Err(Failure::new(
                "unsupported",
                "volume.mount: there is no machine with a mounted root",
            ));
        }
        self.check_thawed()?;
        let serial = args.text("serial")?.to_string();
        let place = args.text("path")?.to_string();
        let read_only = args.flag("readOnly")?;
        if !place.starts_with('/') {
            return Err(Failure::invalid(format!(
                "path is {:?}, expected an absolute one",
                place
            )));
        }
        let volumes = self.volumes.clone();
        // Replaying a journal may take a while.
        Ok(self.job_apart(ticket, move || {
            mount(&find(&serial)?, &place, read_only)?;
            volumes.add(&place);
            Ok(object! {})
        }))
    }
}

/// The device file of a disk with a serial number.
fn find(serial: &str) -> Outcome<String> {
    for entry in fs::read_dir(BLOCK_DEVICES)
        .context(BLOCK_DEVICES)?
        .flatten()
    {
        let found = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
        if found.trim_end() == serial {
            return Ok(format!("/dev/{}", entry.file_name().to_string_lossy()));
        }
    }
    Err(Failure::new(
        "not_found",
        format!("there is no disk with the serial {:?}", serial),
    ))
}

fn mount(device: &str, place: &str, read_only: bool) -> Outcome<()> {
    let disk = File::open(device).context(device)?;
    // The disk behind the device is another one than when this machine was frozen: nothing read then is true.
    sys::check(unsafe { sys::ioctl(disk.as_raw_fd(), sys::BLKFLSBUF, 0) }).context(device)?;
    if read_only {
        if needs_recovery(&disk).context(device)? {
            return Err(Failure::new(
                "invalid_state",
                format!(
                    "{} was not unmounted in order, and its journal cannot be replayed read-only",
                    place
                ),
            ));
        }
        let on: c_int = 1;
        sys::check(unsafe { sys::ioctl(disk.as_raw_fd(), sys::BLKROSET, &on) }).context(device)?;
    }
    fs::create_dir_all(place).context(place)?;
    let flags = if read_only { sys::MS_RDONLY } else { 0 };
    boot::mount(
        device,
        place,
        "ext4",
        flags | sys::MS_NOATIME,
        "noinit_itable",
    )
}

fn needs_recovery(disk: &File) -> std::io::Result<bool> {
    let mut features = [0; 4];
    disk.read_exact_at(&mut features, FEATURES_AT)?;
    Ok(u32::from_le_bytes(features) & NEEDS_RECOVERY != 0)
}
