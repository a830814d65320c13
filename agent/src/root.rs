//! root.mount: the box's disk becomes the root of the machine.

use crate::agent::{Agent, Ticket, Timer};
use crate::boot;
use crate::failure::{Args, Context, Failure, Outcome};
use crate::identity::Identity;
use crate::json::Value;
use crate::modprobe;
use crate::net::replace_file;
use crate::object;
use crate::rehearsal::Rehearsal;
use crate::sys;
use crate::warm::FIRST_READS_MS;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::os::unix::io::AsRawFd;

pub const PLACE: &str = "/root";

/// Milliseconds since the last lap, per stage.
struct Laps {
    last: u64,
    laps: Vec<(Vec<u8>, Value)>,
}

impl Laps {
    fn lap(&mut self, name: &str) {
        let now = sys::monotonic_ms();
        self.laps
            .push((name.as_bytes().to_vec(), Value::from(now - self.last)));
        self.last = now;
    }
}

impl Agent {
    /// None when the answer comes later: new host keys take their time.
    pub fn root_mount(&mut self, ticket: Ticket, args: &Args) -> Option<Outcome<Value>> {
        let identity = self.identity.take().unwrap_or_default();
        match self.mount_root(args, &identity) {
            Ok(answer) => self.answer_after_keys(ticket, &identity, answer),
            Err(failure) => {
                self.identity = Some(identity);
                Some(Err(failure))
            }
        }
    }

    fn mount_root(&mut self, args: &Args, identity: &Identity) -> Outcome<Value> {
        if !self.is_init {
            return Err(Failure::new(
                "unsupported",
                "root.mount: the agent is not PID 1 of a machine",
            ));
        }
        if self.run.is_some() {
            return Err(Failure::new(
                "invalid_state",
                "root.mount: a root is mounted already",
            ));
        }
        if self.rehearsal != Rehearsal::None {
            return Err(Failure::new(
                "invalid_state",
                "root.mount: something of a rehearsal is left",
            ));
        }
        let mut laps = Laps {
            last: sys::monotonic_ms(),
            laps: Vec::new(),
        };
        let device = device_of(args)?;
        let read_only = args.flag("readOnly")?;
        mount_disk(device, read_only)?;
        laps.lap("mount");
        if let Some(bytes) = args.optional_int("growToBytes", 1, i64::MAX)? {
            grow(device, bytes as u64)?;
            laps.lap("grow");
        }
        boot::move_kernel_file_systems("", PLACE)?;
        enter()?;
        modprobe::announce();
        laps.lap("enter");
        if !read_only {
            write_files("", args)?;
            identity.write("")?;
            laps.lap("files");
        }
        self.after(FIRST_READS_MS, Timer::FirstReads);
        let run = new_run()?;
        self.run = Some(run.clone());
        Ok(object! { "run" => run, "stagesMs" => Value::Obj(laps.laps) })
    }
}

/// A name of this run of the machine. It is only in memory, so who has it went on from here.
pub fn new_run() -> Outcome<String> {
    let mut bytes = [0; 16];
    sys::random(&mut bytes).context("getrandom")?;
    Ok(bytes.iter().map(|byte| format!("{:02x}", byte)).collect())
}

/// The disk that is to become the root.
pub fn device_of<'a>(args: &'a Args) -> Outcome<&'a str> {
    Ok(args.optional_text("device")?.unwrap_or("/dev/vdb"))
}

/// Lets the kernel read a disk anew; what a file system on it holds stays.
pub fn forget_blocks(disk: &File) -> std::io::Result<()> {
    sys::check(unsafe { sys::ioctl(disk.as_raw_fd(), sys::BLKFLSBUF, 0) }).map(drop)
}

pub fn mount_disk(device: &str, read_only: bool) -> Outcome<()> {
    // The disk behind the device is another one than when this machine was frozen: nothing read then is true.
    let disk = File::open(device).context(device)?;
    forget_blocks(&disk).context(device)?;
    fs::create_dir_all(PLACE).context(PLACE)?;
    let flags = if read_only { sys::MS_RDONLY } else { 0 };
    let options = if read_only {
        "noload"
    } else {
        "noinit_itable,no_prefetch_block_bitmaps,inode_readahead_blks=1"
    };
    boot::mount(device, PLACE, "ext4", flags | sys::MS_NOATIME, options)
}

/// Keeps the kernel from noting the end of a file system; that of a rehearsal is no business of a box.
pub fn silence() {
    // Without it there is a line more in the kernel's log.
    let _ = fs::write("/sys/fs/ext4/vdb/msg_ratelimit_burst", "0");
}

/// Grows the file system to a size, at most that of its disk (EXT4_IOC_RESIZE_FS; never shrinks).
pub fn grow(device: &str, bytes: u64) -> Outcome<()> {
    let disk = File::open(device).context(device)?;
    let mut size: u64 = 0;
    sys::check(unsafe { sys::ioctl(disk.as_raw_fd(), sys::BLKGETSIZE64, &mut size) })
        .context(device)?;
    if bytes > size {
        let message = format!(
            "growToBytes is {}, but {} has {} bytes",
            bytes, device, size
        );
        return Err(Failure::invalid(message));
    }
    let (block_bytes, present) = file_system_size(&disk).context(device)?;
    let blocks = bytes / block_bytes;
    if blocks <= present {
        return Ok(());
    }
    let root = File::open(PLACE).context(PLACE)?;
    let done = unsafe { sys::ioctl(root.as_raw_fd(), sys::EXT4_IOC_RESIZE_FS, &blocks) };
    sys::check(done)
        .map(drop)
        .context("growing the file system")
}

/// Bytes of a block and number of blocks of an ext4 file system, from its superblock (the kernel's
/// Documentation/filesystems/ext4, "Super Block"): statfs(2) leaves out the blocks the file system keeps for itself.
fn file_system_size(disk: &File) -> std::io::Result<(u64, u64)> {
    let mut block = [0; 1024];
    disk.read_exact_at(&mut block, 1024)?;
    let word = |at: usize| {
        u64::from(u32::from_le_bytes([
            block[at],
            block[at + 1],
            block[at + 2],
            block[at + 3],
        ]))
    };
    Ok((1024 << word(0x18).min(6), word(0x150) << 32 | word(0x4)))
}

/// Moves the mount over the root and goes there, as switch_root(8) does.
fn enter() -> Outcome<()> {
    let place = CString::new(PLACE).map_err(|_| Failure::invalid("a NUL byte"))?;
    let (dot, slash) = (b".\0".as_ptr() as *const _, b"/\0".as_ptr() as *const _);
    let none = std::ptr::null();
    unsafe {
        sys::check(sys::chdir(place.as_ptr())).context("entering the root")?;
        sys::check(sys::mount(dot, slash, none, sys::MS_MOVE, none as *const _))
            .context("moving the root")?;
        sys::check(sys::chroot(dot)).context("changing the root")?;
        sys::check(sys::chdir(slash)).context("entering the root")?;
    }
    Ok(())
}

/// Writes what a box needs into a root: `` is the one that is there.
pub fn write_files(root: &str, args: &Args) -> Outcome<()> {
    // A box needs a place for temporary files, whatever its image holds.
    let temporary = format!("{}/tmp", root);
    if fs::metadata(&temporary).is_err() {
        crate::files::make_directory(std::path::Path::new(&temporary), true, Some(0o1777))?;
    }
    for (name, path) in [("hosts", "/etc/hosts"), ("resolvConf", "/etc/resolv.conf")] {
        if let Some(content) = args.optional_bytes(name)? {
            fs::create_dir_all(format!("{}/etc", root)).context("/etc")?;
            replace_file(&format!("{}{}", root, path), content)?;
        }
    }
    Ok(())
}
