//! One cgroup (v2) per execution: every process it leads to can be found and killed, whatever session it moved to.
//! Where there is no cgroup2, processes are found by session and parent in /proc.

use crate::sys;
use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::raw::c_char;
use std::os::unix::io::{AsRawFd, OwnedFd};

/// Rounds of killing by /proc: processes that fork meanwhile are found in the next one.
const KILL_ROUNDS: usize = 10;

const PLACE: &str = "/sys/fs/cgroup/cryobox";

/// A cgroup of one execution.
pub struct Cgroup {
    pub name: String,
    pub directory: OwnedFd,
}

/// The cgroups of all executions.
pub struct Cgroups {
    parent: OwnedFd,
    created: u64,
    /// Made in advance: making one takes longer than starting a program in it.
    spare: Option<Cgroup>,
}

impl Cgroups {
    /// None where there is no cgroup2.
    pub fn open() -> Option<Cgroups> {
        fs::create_dir_all(PLACE).ok()?;
        let parent = File::open(PLACE).ok()?.into();
        Some(Cgroups {
            parent,
            created: 0,
            spare: None,
        })
    }

    /// A cgroup that no process was ever in.
    pub fn create(&mut self) -> io::Result<Cgroup> {
        match self.spare.take() {
            Some(spare) => Ok(spare),
            None => self.make(),
        }
    }

    /// Makes the cgroup that the next execution takes.
    pub fn keep_spare(&mut self) {
        self.spare = self.make().ok();
    }

    /// Removes a cgroup; it stays while processes are in it, and false is returned.
    pub fn remove(&self, name: &str) -> bool {
        let path = match CString::new(name) {
            Ok(path) => path,
            Err(_) => return false,
        };
        let fd = self.parent.as_raw_fd();
        unsafe { sys::unlinkat(fd, path.as_ptr(), sys::AT_REMOVEDIR) == 0 }
    }

    fn make(&mut self) -> io::Result<Cgroup> {
        self.created += 1;
        let name = self.created.to_string();
        let directory = create(&self.parent, &name)?;
        Ok(Cgroup { name, directory })
    }
}

/// Creates a cgroup in `parent` and opens it.
fn create(parent: &OwnedFd, name: &str) -> io::Result<OwnedFd> {
    let path = CString::new(name)?;
    let made = unsafe { sys::mkdirat(parent.as_raw_fd(), path.as_ptr(), 0o755) };
    if made != 0 && sys::errno() != sys::EEXIST {
        return Err(io::Error::last_os_error());
    }
    let flags = sys::O_DIRECTORY | sys::O_CLOEXEC;
    sys::owned(unsafe { sys::openat(parent.as_raw_fd(), path.as_ptr(), flags) })
}

/// Kills every process in a cgroup (cgroup.kill, Linux 5.14). False where that cannot be.
pub fn kill(directory: &OwnedFd) -> bool {
    let path = b"cgroup.kill\0".as_ptr() as *const c_char;
    let flags = sys::O_WRONLY | sys::O_CLOEXEC;
    match sys::owned(unsafe { sys::openat(directory.as_raw_fd(), path, flags) }) {
        Ok(file) => File::from(file).write_all(b"1").is_ok(),
        Err(_) => false,
    }
}

/// Kills the processes of a session and all their descendants.
pub fn kill_session(session: i32) {
    for _ in 0..KILL_ROUNDS {
        let processes = processes();
        let mut doomed: Vec<i32> = Vec::new();
        loop {
            let before = doomed.len();
            for process in &processes {
                let ours = process.session == session || doomed.contains(&process.parent);
                if ours && !process.dead && !doomed.contains(&process.pid) {
                    doomed.push(process.pid);
                }
            }
            if doomed.len() == before {
                break;
            }
        }
        if doomed.is_empty() {
            return;
        }
        for pid in doomed {
            unsafe { sys::kill(pid, sys::SIGKILL) };
        }
    }
}

struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    dead: bool,
}

fn processes() -> Vec<Process> {
    let entries = match fs::read_dir("/proc") {
        Ok(entries) => entries,
        Err(_) => return Vec::new(),
    };
    entries
        .flatten()
        .filter_map(|entry| {
            let pid = entry.file_name().to_str()?.parse().ok()?;
            parse_stat(
                pid,
                &fs::read_to_string(format!("/proc/{}/stat", pid)).ok()?,
            )
        })
        .collect()
}

/// `/proc/PID/stat` (proc(5)): the name in parentheses may hold anything.
fn parse_stat(pid: i32, stat: &str) -> Option<Process> {
    let rest = &stat[stat.rfind(')')? + 1..];
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    Some(Process {
        pid,
        parent: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        dead: matches!(*fields.first()?, "Z" | "X"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_a_name_full_of_traps() {
        let process = parse_stat(7, "7 (a) b (c)) S 3 7 5 0 -1 4194560").unwrap();
        assert_eq!(
            (process.parent, process.session, process.dead),
            (3, 5, false)
        );
        assert!(parse_stat(7, "7 (gone").is_none());
    }
}
