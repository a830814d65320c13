//! What an execution needs before it starts: its descriptors, its user, its variables.

use crate::failure::{Args, Context, Failure, Outcome};
use crate::json::Value;
use crate::spawn;
use crate::sys;
use crate::users::{self, User};
use std::os::unix::io::{AsRawFd, OwnedFd};

/// The ends of a new process's standard streams that stay with the agent.
#[derive(Default)]
pub struct Ends {
    pub stdin: Option<OwnedFd>,
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
}

/// The name is also that of a directory in the cgroup file system.
pub fn check_name(name: &str) -> Outcome<&str> {
    let fine = name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if fine && (1..=64).contains(&name.len()) {
        Ok(name)
    } else {
        Err(Failure::invalid(format!(
            "exec is {:?}, expected 1 to 64 letters, digits, - or _",
            name
        )))
    }
}

/// None keeps the agent's own user: in the test mode it may not have the right to change.
pub fn resolve_user(spec: Option<&str>, is_init: bool) -> Outcome<Option<User>> {
    if !is_init && spec.map_or(true, str::is_empty) {
        return Ok(None);
    }
    let user = users::resolve(spec.unwrap_or(""))?;
    let own = unsafe { (sys::getuid(), sys::getgid()) };
    if !is_init && own == (user.uid, user.gid) && own.0 != 0 {
        return Ok(None);
    }
    Ok(Some(user))
}

/// The given variables, and HOME from the user's entry where it is missing.
pub fn environment(args: &Args, user: Option<&User>) -> Outcome<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut env = Vec::new();
    match args.0.get("env") {
        None => {}
        Some(Value::Obj(members)) => {
            for (name, value) in members {
                let value = value
                    .as_bytes()
                    .filter(|_| !name.is_empty() && !name.contains(&b'='))
                    .ok_or_else(|| {
                        Failure::invalid("env holds a name with = or a value that is no string")
                    })?;
                env.push((name.clone(), value.to_vec()));
            }
        }
        Some(_) => return Err(Failure::invalid("env is not an object")),
    }
    if !env.iter().any(|(name, _)| name == b"HOME") {
        let home = user
            .and_then(|user| user.home.clone())
            .filter(|home| !home.is_empty());
        env.push((b"HOME".to_vec(), home.unwrap_or_else(|| b"/".to_vec())));
    }
    if !env.iter().any(|(name, _)| name == b"PATH") {
        env.push((b"PATH".to_vec(), spawn::DEFAULT_PATH.to_vec()));
    }
    Ok(env)
}

pub fn terminal_size(args: &Args) -> Outcome<Option<sys::WinSize>> {
    let tty = match args.0.get("tty") {
        None => return Ok(None),
        Some(tty @ Value::Obj(_)) => Args(tty),
        Some(_) => {
            return Err(Failure::invalid(
                "tty is neither null nor an object with cols and rows",
            ))
        }
    };
    Ok(Some(sys::WinSize {
        rows: tty.optional_int("rows", 1, 65535)?.unwrap_or(24) as u16,
        cols: tty.optional_int("cols", 1, 65535)?.unwrap_or(80) as u16,
        x_pixels: 0,
        y_pixels: 0,
    }))
}

pub fn open_terminal(size: &sys::WinSize) -> Outcome<([OwnedFd; 3], Ends)> {
    let path = unsafe { std::ffi::CStr::from_bytes_with_nul_unchecked(b"/dev/ptmx\0") };
    let flags = sys::O_RDWR | sys::O_NOCTTY;
    let master = sys::open_path(path, flags).context("opening /dev/ptmx")?;
    let unlock: i32 = 0;
    let fd = master.as_raw_fd();
    sys::check(unsafe { sys::ioctl(fd, sys::TIOCSPTLCK, &unlock) })
        .context("unlocking a terminal")?;
    let peer_flags = flags | sys::O_CLOEXEC;
    let peer = sys::owned(unsafe { sys::ioctl(fd, sys::TIOCGPTPEER, peer_flags) })
        .context("opening a terminal")?;
    sys::check(unsafe { sys::ioctl(fd, sys::TIOCSWINSZ, size) }).context("sizing a terminal")?;
    let ends = Ends {
        stdin: Some(sys::duplicate(&master).context("dup")?),
        stdout: Some(master),
        stderr: None,
    };
    let stdout = sys::duplicate(&peer).context("dup")?;
    let stderr = sys::duplicate(&peer).context("dup")?;
    Ok(([peer, stdout, stderr], ends))
}

pub fn open_pipes(streams: [Option<u32>; 3]) -> Outcome<([OwnedFd; 3], Ends)> {
    let mut ends = Ends::default();
    let stdin = match streams[0] {
        None => dev_null()?,
        Some(_) => {
            let (reader, writer) = sys::pipe().context("pipe")?;
            ends.stdin = Some(writer);
            reader
        }
    };
    let output = |stream: Option<u32>, end: &mut Option<OwnedFd>| match stream {
        None => dev_null(),
        Some(_) => {
            let (reader, writer) = sys::pipe().context("pipe")?;
            *end = Some(reader);
            Ok(writer)
        }
    };
    let stdout = output(streams[1], &mut ends.stdout)?;
    let stderr = output(streams[2], &mut ends.stderr)?;
    Ok(([stdin, stdout, stderr], ends))
}

fn dev_null() -> Outcome<OwnedFd> {
    let path = unsafe { std::ffi::CStr::from_bytes_with_nul_unchecked(b"/dev/null\0") };
    sys::open_path(path, sys::O_RDWR).context("opening /dev/null")
}

/// By number or by name, with or without SIG (signal(7)).
pub fn signal_number(args: &Args) -> Outcome<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2",
        "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG",
        "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    if let Some(Value::Str(_)) = args.0.get("signal") {
        let upper = args.text("signal")?.to_ascii_uppercase();
        let plain = upper.strip_prefix("SIG").unwrap_or(&upper);
        return match NAMES.iter().position(|known| *known == plain) {
            Some(index) => Ok(index as i32 + 1),
            None => Err(Failure::invalid(format!("there is no signal {:?}", upper))),
        };
    }
    Ok(args.int("signal", 1, 64)? as i32)
}
