//! PID 1 from the kernel's hand-over to the port of the host.

use crate::devices;
use crate::failure::{Context, Failure, Outcome};
use crate::modprobe;
use crate::sys;
use crate::sysctls;
use std::ffi::CString;
use std::fs;
use std::io::Write;
use std::os::raw::c_ulong;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::io::OwnedFd;
use std::thread;
use std::time::Duration;

/// Module files, one path a line, in the order in which they are loaded.
const MODULES: &str = "/etc/cryobox/modules";
const PORT_NAME: &str = "cryobox.agent";
/// Drivers find their devices while modules load; this bounds the wait for the port.
const PORT_TRIES: u32 = 2000;
const PORT_PAUSE: Duration = Duration::from_millis(5);
pub const GUEST_DISK: &str = "/dev/vda";
const GUEST_DISK_PLACE: &str = "/guest";
/// Devices of modules that are loaded on first use: path, mode, minor number (Linux, Documentation/admin-guide/devices.txt).
/// Anybody may open the first two: what they allow then is a matter of capabilities.
const ON_DEMAND_DEVICES: [(&str, u32, u64); 3] = [
    ("/dev/fuse", 0o666, 229),
    ("/dev/net/tun", 0o666, 200),
    ("/dev/loop-control", 0o660, 237),
];
const MISC_MAJOR: u64 = 10;

pub fn mount(source: &str, target: &str, kind: &str, flags: c_ulong, data: &str) -> Outcome<()> {
    let text =
        |text: &str| CString::new(text).map_err(|_| Failure::invalid("a path holds a NUL byte"));
    let (source, place, kind, data) = (text(source)?, text(target)?, text(kind)?, text(data)?);
    let done = unsafe {
        sys::mount(
            source.as_ptr(),
            place.as_ptr(),
            kind.as_ptr(),
            flags,
            data.as_ptr() as *const _,
        )
    };
    sys::check(done)
        .map(drop)
        .context(format!("mounting {}", target))
}

/// The kernel's file systems, which the box's root takes over ([`move_kernel_file_systems`]).
fn mount_kernel_file_systems() -> Outcome<()> {
    let plain = sys::MS_NOSUID | sys::MS_NODEV | sys::MS_NOEXEC;
    for (kind, place, flags, data) in [
        ("proc", "/proc", plain, ""),
        ("sysfs", "/sys", plain, ""),
        ("devtmpfs", "/dev", sys::MS_NOSUID, "mode=0755"),
        (
            "devpts",
            "/dev/pts",
            sys::MS_NOSUID | sys::MS_NOEXEC,
            "gid=5,mode=0620,ptmxmode=0666",
        ),
        (
            "tmpfs",
            "/dev/shm",
            sys::MS_NOSUID | sys::MS_NODEV,
            "mode=1777",
        ),
        ("mqueue", "/dev/mqueue", plain, ""),
        ("tmpfs", "/run", sys::MS_NOSUID | sys::MS_NODEV, "mode=0755"),
        ("cgroup2", "/sys/fs/cgroup", plain, ""),
    ] {
        // On devtmpfs and sysfs the places may be there or not.
        let _ = fs::create_dir_all(place);
        mount(kind, place, kind, flags, data)?;
    }
    for (link, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        // A kernel that mounts devtmpfs by itself may have made them.
        let _ = std::os::unix::fs::symlink(target, format!("/dev/{}", link));
    }
    for (path, mode, minor) in ON_DEMAND_DEVICES {
        // The kernel makes them only when their module is there; it is loaded when one of them is opened.
        make_device(path, mode, minor).unwrap_or_else(|failure| log(&failure.message));
    }
    Ok(())
}

/// A character device of the kernel's "misc" group, whatever it holds by itself.
fn make_device(path: &str, mode: u32, minor: u64) -> Outcome<()> {
    if let Some(parent) = std::path::Path::new(path).parent() {
        fs::create_dir_all(parent).context(path)?;
    }
    let name = CString::new(path).map_err(|_| Failure::invalid("a NUL byte"))?;
    let device = MISC_MAJOR << 8 | minor;
    let made = unsafe { sys::mknod(name.as_ptr(), sys::S_IFCHR | mode, device) };
    if made != 0 && sys::errno() != sys::EEXIST {
        return Err(std::io::Error::last_os_error()).context(path);
    }
    // The mode of mknod is cut by the umask.
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).context(path)
}

/// Moves the kernel's file systems, each with what is mounted below it, to another root. `` is the one that is there.
pub fn move_kernel_file_systems(from: &str, root: &str) -> Outcome<()> {
    for place in ["/proc", "/sys", "/dev", "/run"] {
        let target = format!("{}{}", root, place);
        // An image need not hold the places.
        if fs::metadata(&target).is_err() {
            let _ = fs::create_dir_all(&target);
        }
        mount(&format!("{}{}", from, place), &target, "", sys::MS_MOVE, "")?;
    }
    Ok(())
}

/// A line on the machine's console.
pub fn log(message: &str) {
    if let Ok(mut console) = fs::OpenOptions::new().write(true).open("/dev/console") {
        // Nobody is left to tell when the console fails.
        let _ = console.write_all(format!("cryobox-agent: {}\n", message).as_bytes());
    }
}

/// Makes the machine ready, up to the open port.
pub fn boot() -> Outcome<OwnedFd> {
    open_standard_descriptors();
    mount_kernel_file_systems()?;
    open_standard_descriptors();
    devices::hold()?;
    sysctls::apply();
    // Ctrl-Alt-Del and reboot requests of the console are no business of a guest without one.
    unsafe { sys::reboot(sys::RB_DISABLE_CAD) };
    let _ = fs::write("/proc/self/oom_score_adj", "-1000");
    raise_open_files();
    load_modules();
    mount_guest_disk();
    find_port()
}

/// Descriptors 0 to 2 must be taken: children expect theirs elsewhere (spawn.rs).
pub fn open_standard_descriptors() {
    for path in ["/dev/console\0", "/dev/null\0"] {
        loop {
            let fd = unsafe { sys::open(path.as_ptr() as *const _, sys::O_RDWR | sys::O_NOCTTY) };
            if !(0..=2).contains(&fd) {
                if fd > 2 {
                    drop(sys::owned(fd));
                }
                break;
            }
        }
    }
}

fn raise_open_files() {
    let files = sys::RLimit {
        soft: 65_536,
        hard: 1_048_576,
    };
    unsafe { sys::setrlimit(sys::RLIMIT_NOFILE, &files) };
}

/// Loads what is listed and gives its memory back. What cannot be loaded is told on the console: a driver that is
/// really missing shows by the device that is not there.
fn load_modules() {
    let list = fs::read_to_string(MODULES).unwrap_or_default();
    for path in list
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Err(failure) = modprobe::insert(path) {
            log(&format!("module {}", failure.message));
        }
        let _ = fs::remove_file(path);
    }
}

fn mount_guest_disk() {
    if fs::metadata(GUEST_DISK).is_err() || fs::create_dir_all(GUEST_DISK_PLACE).is_err() {
        return;
    }
    if let Err(failure) = mount(GUEST_DISK, GUEST_DISK_PLACE, "ext4", sys::MS_RDONLY, "") {
        // The disk may be empty or not be there at all: nothing here depends on it.
        log(&failure.message);
    }
}

fn find_port() -> Outcome<OwnedFd> {
    for _ in 0..PORT_TRIES {
        if let Some(device) = port_device() {
            if let Ok(port) = fs::OpenOptions::new().read(true).write(true).open(device) {
                return Ok(port.into());
            }
        }
        thread::sleep(PORT_PAUSE);
    }
    Err(Failure::new(
        "machine_failed",
        format!("there is no port {}", PORT_NAME),
    ))
}

fn port_device() -> Option<String> {
    for entry in fs::read_dir("/sys/class/virtio-ports").ok()?.flatten() {
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim_end() == PORT_NAME {
            return Some(format!("/dev/{}", entry.file_name().to_str()?));
        }
    }
    None
}
