//! Loading a module when the kernel asks for it. The kernel runs this program by the path in /proc/sys/kernel/modprobe as
//! `PATH -q -- NAME`; tools of iptables run the same. Modules and their index lie on the guest disk, not in the memory
//! that all boxes share.

use crate::boot;
use crate::failure::{Context, Failure, Outcome};
use crate::sys;
use std::fs::{self, File};
use std::os::raw::c_int;
use std::os::unix::io::AsRawFd;

/// This program, whatever the root of a box holds.
pub const SELF: &str = "/proc/1/exe";
const SETTING: &str = "/proc/sys/kernel/modprobe";
/// A directory that every root has, covered in a mount namespace that ends with this process.
const PLACE: &str = "/run";
const MODULES: &str = "/run/modules";

/// Lets the kernel find this program. Called when a box's root is there: nothing of it is in a golden memory.
pub fn announce() {
    if let Err(error) = fs::write(SETTING, SELF) {
        boot::log(&format!("{}: {}", SETTING, error));
    }
}

/// Whether this process is to load modules.
pub fn is_asked(program: Option<&str>) -> bool {
    let name = program.map(|path| path.rsplit('/').next().unwrap_or(path));
    program == Some(SELF) || name == Some("modprobe")
}

/// Loads what the arguments name; options are passed over.
pub fn load(args: &[String]) -> Outcome<()> {
    open_guest_disk()?;
    let index = fs::read_to_string(format!("{}/index", MODULES)).context("the index of modules")?;
    for wanted in args.iter().filter(|arg| !arg.starts_with('-')) {
        let name = wanted.replace('-', "_");
        let files = index
            .lines()
            .map(|line| line.split(' '))
            .find_map(|mut words| (words.next() == Some(&name)).then_some(words))
            .ok_or_else(|| Failure::new("not_found", format!("there is no module {}", wanted)))?;
        for file in files {
            insert(&format!("{}/{}.ko", MODULES, file))?;
        }
    }
    Ok(())
}

/// The disk is mounted where no box sees it; here it is mounted once more, for this process alone.
fn open_guest_disk() -> Outcome<()> {
    sys::check(unsafe { sys::unshare(sys::CLONE_NEWNS) }).context("unshare")?;
    boot::mount("", "/", "", sys::MS_REC | sys::MS_PRIVATE, "")?;
    boot::mount(boot::GUEST_DISK, PLACE, "ext4", sys::MS_RDONLY, "")
}

/// Loads a module; one that is there already is none to load.
pub fn insert(path: &str) -> Outcome<()> {
    let file = File::open(path).context(path)?;
    let options = b"\0";
    let done = unsafe {
        sys::syscall(
            sys::nr::FINIT_MODULE,
            file.as_raw_fd(),
            options.as_ptr(),
            0 as c_int,
        )
    };
    if done != 0 && sys::errno() != sys::EEXIST {
        return Err(std::io::Error::last_os_error()).context(path);
    }
    Ok(())
}
