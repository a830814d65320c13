//! What an execution needs before it starts: its descriptors, its user, its variables.

use crate::devices;
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

/// What full-screen programs need to know of the terminal, where nobody says it.
const USUAL_TERMINAL: &[u8] = b"xterm";

/// The given variables, and HOME from the user's entry, PATH, and with a terminal TERM, where they are missing.
pub fn environment(
    mut env: Vec<(Vec<u8>, Vec<u8>)>,
    user: Option<&User>,
    terminal: bool,
) -> Vec<(Vec<u8>, Vec<u8>)> {
    if !env.iter().any(|(name, _)| name == b"HOME") {
        let home = user
            .and_then(|user| user.home.clone())
            .filter(|home| !home.is_empty());
        env.push((b"HOME".to_vec(), home.unwrap_or_else(|| b"/".to_vec())));
    }
    if terminal && !env.iter().any(|(name, _)| name == b"TERM") {
        env.push((b"TERM".to_vec(), USUAL_TERMINAL.to_vec()));
    }
    if !env.iter().any(|(name, _)| name == b"PATH") {
        env.push((b"PATH".to_vec(), spawn::DEFAULT_PATH.to_vec()));
    }
    env
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

/// The group that terminals belong to (Debian's base-passwd); devpts is mounted with it.
const TERMINAL_GROUP: u32 = 5;

pub fn open_terminal(size: &sys::WinSize, user: Option<&User>) -> Outcome<([OwnedFd; 3], Ends)> {
    let flags = sys::O_RDWR | sys::O_NOCTTY;
    let master = devices::terminal()?;
    let unlock: i32 = 0;
    let fd = master.as_raw_fd();
    sys::check(unsafe { sys::ioctl(fd, sys::TIOCSPTLCK, &unlock) })
        .context("unlocking a terminal")?;
    let peer_flags = flags | sys::O_CLOEXEC;
    let peer = sys::owned(unsafe { sys::ioctl(fd, sys::TIOCGPTPEER, peer_flags) })
        .context("opening a terminal")?;
    sys::check(unsafe { sys::ioctl(fd, sys::TIOCSWINSZ, size) }).context("sizing a terminal")?;
    if let Some(user) = user.filter(|user| user.uid != 0) {
        devices::give(&peer, user.uid, TERMINAL_GROUP)?;
    }
    let ends = Ends {
        stdin: Some(sys::duplicate(&master).context("dup")?),
        stdout: Some(master),
        stderr: None,
    };
    let stdout = sys::duplicate(&peer).context("dup")?;
    let stderr = sys::duplicate(&peer).context("dup")?;
    Ok(([peer, stdout, stderr], ends))
}

pub fn open_pipes(streams: [Option<u32>; 3], user: Option<&User>) -> Outcome<([OwnedFd; 3], Ends)> {
    let mut ends = Ends::default();
    let new_pipe = || -> Outcome<(OwnedFd, OwnedFd)> {
        let (reader, writer) = sys::pipe().context("pipe")?;
        if let Some(user) = user.filter(|user| user.uid != 0) {
            devices::give(&writer, user.uid, user.gid)?;
        }
        Ok((reader, writer))
    };
    let stdin = match streams[0] {
        None => devices::null()?,
        Some(_) => {
            let (reader, writer) = new_pipe()?;
            ends.stdin = Some(writer);
            reader
        }
    };
    let output = |stream: Option<u32>, end: &mut Option<OwnedFd>| match stream {
        None => devices::null(),
        Some(_) => {
            let (reader, writer) = new_pipe()?;
            *end = Some(reader);
            Ok(writer)
        }
    };
    let stdout = output(streams[1], &mut ends.stdout)?;
    let stderr = output(streams[2], &mut ends.stderr)?;
    Ok(([stdin, stdout, stderr], ends))
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
