//! Starts a process: prepared in the parent, then a child that shares its memory, makes only system calls and ends in
//! execve. The parent waits for that, so a failure is seen at once and nothing is copied.

use crate::capabilities;
use crate::failure::{Failure, Outcome};
use crate::sys;
use crate::users::User;
use std::ffi::{CStr, CString};
use std::os::raw::{c_char, c_void};
use std::os::unix::io::{AsRawFd, OwnedFd, RawFd};

pub const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const STACK_BYTES: usize = 32 * 1024;
/// What services get from a usual init: programs that loop over all descriptors stay fast.
const OPEN_FILES_SOFT: u64 = 1024;
const OPEN_FILES_HARD: u64 = 524_288;

/// Everything a process starts with.
pub struct Plan<'a> {
    pub argv: &'a [&'a [u8]],
    pub env: &'a [(Vec<u8>, Vec<u8>)],
    pub cwd: &'a [u8],
    pub user: Option<&'a User>,
    /// Descriptors for 0, 1 and 2, all at least 3.
    pub stdio: [RawFd; 3],
    pub terminal: bool,
    /// Directory of the cgroup it starts in.
    pub cgroup: Option<&'a OwnedFd>,
    pub dropped: u64,
    pub added: u64,
    pub is_init: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    None,
    Terminal,
    Cwd,
    User,
    Exec,
}

/// What parent and child share. The child writes `stage` and `error` when it fails.
struct Shared {
    candidates: Vec<*const c_char>,
    argv: Vec<*const c_char>,
    env: Vec<*const c_char>,
    cwd: *const c_char,
    stdio: [RawFd; 3],
    terminal: bool,
    join: RawFd,
    user: Option<(u32, u32)>,
    groups: Vec<u32>,
    dropped: u64,
    wanted: Option<(u64, bool)>,
    is_init: bool,
    stage: Stage,
    error: i32,
}

fn c_string(bytes: &[u8]) -> Outcome<CString> {
    CString::new(bytes).map_err(|_| Failure::invalid("an argument or a variable holds a NUL byte"))
}

fn pointers(strings: &[CString]) -> Vec<*const c_char> {
    strings
        .iter()
        .map(|text| text.as_ptr())
        .chain(std::iter::once(std::ptr::null()))
        .collect()
}

/// Runs the plan; the pid of a process that has passed its execve.
pub fn spawn(plan: &Plan) -> Outcome<i32> {
    let command = plan
        .argv
        .first()
        .filter(|name| !name.is_empty())
        .ok_or_else(|| Failure::invalid("argv is empty, expected a command"))?;
    let argv = plan
        .argv
        .iter()
        .map(|text| c_string(text))
        .collect::<Outcome<Vec<_>>>()?;
    let env = plan
        .env
        .iter()
        .map(|(name, value)| c_string(&[name, &b"="[..], value].concat()))
        .collect::<Outcome<Vec<_>>>()?;
    let candidates = candidates(command, plan.env)?;
    let cwd = c_string(plan.cwd)?;
    let mut shared = Shared {
        candidates: pointers(&candidates),
        argv: pointers(&argv),
        env: pointers(&env),
        cwd: cwd.as_ptr(),
        stdio: plan.stdio,
        terminal: plan.terminal,
        join: -1,
        user: plan.user.map(|user| (user.uid, user.gid)),
        groups: plan
            .user
            .map(|user| user.groups.clone())
            .unwrap_or_default(),
        dropped: plan.dropped,
        wanted: wanted_capabilities(plan),
        is_init: plan.is_init,
        stage: Stage::None,
        error: 0,
    };
    let pid = clone_into(&mut shared, plan.cgroup)?;
    if shared.stage == Stage::None {
        return Ok(pid);
    }
    unsafe { sys::waitpid(pid, std::ptr::null_mut(), 0) };
    Err(explain(&shared, command, plan, &candidates))
}

fn candidates(command: &[u8], env: &[(Vec<u8>, Vec<u8>)]) -> Outcome<Vec<CString>> {
    if command.contains(&b'/') {
        return Ok(vec![c_string(command)?]);
    }
    let path = env
        .iter()
        .find(|(name, _)| name == b"PATH")
        .map(|(_, value)| &value[..]);
    path.unwrap_or(DEFAULT_PATH)
        .split(|byte| *byte == b':')
        .map(|directory| {
            let directory = if directory.is_empty() {
                b"."
            } else {
                directory
            };
            c_string(&[directory, b"/", command].concat())
        })
        .collect()
}

/// The set to have after the change of user, when it is not the usual one.
fn wanted_capabilities(plan: &Plan) -> Option<(u64, bool)> {
    let root = plan.user.map_or(true, |user| user.uid == 0);
    let all = capabilities::mask(&[b"ALL"]).unwrap_or(0);
    match (root, plan.dropped, plan.added) {
        (true, 0, _) => None,
        (true, dropped, added) => Some((all & !dropped | added, false)),
        (false, _, 0) => None,
        (false, dropped, added) => Some((added & !dropped, true)),
    }
}

fn clone_into(shared: &mut Shared, cgroup: Option<&OwnedFd>) -> Outcome<i32> {
    let mut stack = vec![0u128; STACK_BYTES / 16];
    let blocked = block_signals();
    let mut result = match cgroup {
        Some(directory) => clone3(
            shared,
            &mut stack,
            directory.as_raw_fd() as u64,
            sys::CLONE_INTO_CGROUP,
        ),
        None => clone3(shared, &mut stack, 0, 0),
    };
    if let (true, Some(directory)) = (result < 0, cgroup) {
        // Kernels before 5.7 cannot start a process in a cgroup: there the child joins it.
        let procs = unsafe {
            sys::openat(
                directory.as_raw_fd(),
                b"cgroup.procs\0".as_ptr() as *const c_char,
                sys::O_WRONLY | sys::O_CLOEXEC,
            )
        };
        let procs =
            sys::owned(procs).map_err(|error| Failure::io("opening cgroup.procs", &error))?;
        shared.join = procs.as_raw_fd();
        result = clone3(shared, &mut stack, 0, 0);
    }
    unsafe { sys::sigprocmask(sys::SIG_SETMASK, &blocked, std::ptr::null_mut()) };
    if result < 0 {
        let error = std::io::Error::from_raw_os_error(-result as i32);
        return Err(Failure::new(
            "execution_failed",
            format!("starting a process: {}", error),
        ));
    }
    Ok(result as i32)
}

fn block_signals() -> sys::SigSet {
    let all = sys::SigSet {
        words: [u64::MAX; 16],
    };
    let mut old = sys::SigSet { words: [0; 16] };
    unsafe { sys::sigprocmask(sys::SIG_SETMASK, &all, &mut old) };
    old
}

/// clone3(2) with CLONE_VM and CLONE_VFORK: the child runs [`child`] on its own stack while this thread waits.
fn clone3(shared: &mut Shared, stack: &mut [u128], cgroup: u64, flags: u64) -> i64 {
    let args = sys::CloneArgs {
        flags: sys::CLONE_VM | sys::CLONE_VFORK | flags,
        exit_signal: sys::SIGCHLD as u64,
        stack: stack.as_mut_ptr() as u64,
        stack_size: std::mem::size_of_val(stack) as u64,
        cgroup,
        ..Default::default()
    };
    let argument = shared as *mut Shared as *mut c_void;
    unsafe { raw_clone3(&args, argument) }
}

#[cfg(target_arch = "x86_64")]
unsafe fn raw_clone3(args: &sys::CloneArgs, argument: *mut c_void) -> i64 {
    let result: i64;
    std::arch::asm!(
        "syscall",
        "test rax, rax",
        "jnz 2f",
        "xor ebp, ebp",
        "mov rdi, r12",
        "call r13",
        "ud2",
        "2:",
        inlateout("rax") sys::nr::CLONE3 => result,
        in("rdi") args as *const sys::CloneArgs,
        in("rsi") std::mem::size_of::<sys::CloneArgs>(),
        in("r12") argument,
        in("r13") child as extern "C" fn(*mut c_void) -> !,
        lateout("rcx") _,
        lateout("r11") _,
    );
    result
}

#[cfg(target_arch = "aarch64")]
unsafe fn raw_clone3(args: &sys::CloneArgs, argument: *mut c_void) -> i64 {
    let result: i64;
    std::arch::asm!(
        "svc 0",
        "cbnz x0, 2f",
        "mov x29, xzr",
        "mov x0, x21",
        "blr x22",
        "brk 1",
        "2:",
        inlateout("x0") args as *const sys::CloneArgs => result,
        in("x1") std::mem::size_of::<sys::CloneArgs>(),
        in("x8") sys::nr::CLONE3,
        in("x21") argument,
        in("x22") child as extern "C" fn(*mut c_void) -> !,
    );
    result
}

/// The child: no allocation, no lock, nothing but system calls.
extern "C" fn child(argument: *mut c_void) -> ! {
    let shared = unsafe { &mut *(argument as *mut Shared) };
    let (stage, error) = become_process(shared);
    shared.stage = stage;
    shared.error = error;
    unsafe { sys::_exit(127) }
}

fn become_process(shared: &Shared) -> (Stage, i32) {
    reset_signals();
    unsafe {
        sys::setsid();
        for (target, fd) in shared.stdio.iter().enumerate() {
            sys::dup2(*fd, target as i32);
        }
        if shared.join >= 0 {
            sys::write(shared.join, b"0".as_ptr() as *const c_void, 1);
        }
        if shared.terminal && sys::ioctl(0, sys::TIOCSCTTY, 0) != 0 {
            return (Stage::Terminal, sys::errno());
        }
        if shared.is_init {
            init_only();
        }
        sys::umask(0o022);
        if sys::chdir(shared.cwd) != 0 {
            return (Stage::Cwd, sys::errno());
        }
    }
    if let Err(error) = change_user(shared) {
        return (Stage::User, error);
    }
    (Stage::Exec, execute(shared))
}

fn reset_signals() {
    let default = sys::SigAction {
        handler: 0,
        mask: sys::SigSet { words: [0; 16] },
        flags: 0,
        restorer: 0,
    };
    for signal in 1..=64 {
        unsafe { sys::sigaction(signal, &default, std::ptr::null_mut()) };
    }
    let none = sys::SigSet { words: [0; 16] };
    unsafe { sys::sigprocmask(sys::SIG_SETMASK, &none, std::ptr::null_mut()) };
}

/// Undoes what the agent has only for itself as PID 1.
unsafe fn init_only() {
    let path = b"/proc/self/oom_score_adj\0".as_ptr() as *const c_char;
    let file = sys::open(path, sys::O_WRONLY | sys::O_CLOEXEC);
    if file >= 0 {
        sys::write(file, b"0".as_ptr() as *const c_void, 1);
    }
    let files = sys::RLimit {
        soft: OPEN_FILES_SOFT,
        hard: OPEN_FILES_HARD,
    };
    sys::setrlimit(sys::RLIMIT_NOFILE, &files);
}

/// Raw system calls: the library's functions would change every thread of the agent, whose memory this is.
fn change_user(shared: &Shared) -> Result<(), i32> {
    let keep = shared
        .wanted
        .map_or(0, |(wanted, ambient)| if ambient { wanted } else { 0 });
    capabilities::before_user(shared.dropped, keep);
    if let Some((uid, gid)) = shared.user {
        let done = unsafe {
            sys::syscall(
                sys::nr::SETGROUPS,
                shared.groups.len(),
                shared.groups.as_ptr(),
            ) == 0
                && sys::syscall(sys::nr::SETRESGID, gid, gid, gid) == 0
                && sys::syscall(sys::nr::SETRESUID, uid, uid, uid) == 0
        };
        if !done {
            return Err(sys::errno());
        }
    }
    match shared.wanted {
        Some((wanted, ambient)) if !capabilities::after_user(wanted, ambient) => Err(sys::errno()),
        _ => Ok(()),
    }
}

/// Tries every candidate, as execvp(3) does; the most telling error.
fn execute(shared: &Shared) -> i32 {
    let mut error = sys::ENOENT;
    for path in shared.candidates.iter().filter(|path| !path.is_null()) {
        unsafe { sys::execve(*path, shared.argv.as_ptr(), shared.env.as_ptr()) };
        match sys::errno() {
            sys::ENOENT | sys::ENOTDIR => {}
            sys::EACCES => error = sys::EACCES,
            other => return other,
        }
    }
    error
}

fn explain(shared: &Shared, command: &[u8], plan: &Plan, candidates: &[CString]) -> Failure {
    let command = String::from_utf8_lossy(command);
    let error = std::io::Error::from_raw_os_error(shared.error);
    match shared.stage {
        Stage::Cwd => Failure::new(
            "cwd_not_found",
            format!(
                "working directory {:?}: {}",
                String::from_utf8_lossy(plan.cwd),
                error
            ),
        ),
        Stage::User => Failure::new(
            "execution_failed",
            format!("changing to the user: {}", error),
        ),
        // A path that is too long is nowhere.
        Stage::Exec if shared.error == sys::ENOENT || shared.error == sys::ENAMETOOLONG => {
            match candidates.iter().find(|path| exists(path)) {
                Some(path) => Failure::new(
                    "command_not_executable",
                    format!(
                        "{}: its interpreter or loader is missing",
                        path.to_string_lossy()
                    ),
                ),
                None => Failure::new(
                    "command_not_found",
                    format!("command not found: {:?}", command),
                ),
            }
        }
        Stage::Exec if shared.error == sys::E2BIG => Failure::new(
            "payload_too_large",
            format!("{}: arguments and environment: {}", command, error),
        )
        .hint("Write what is large to a file or to stdin."),
        Stage::Exec if shared.error == sys::EACCES || shared.error == sys::ENOEXEC => {
            Failure::new("command_not_executable", format!("{}: {}", command, error))
        }
        _ => Failure::new("execution_failed", format!("{}: {}", command, error)),
    }
}

fn exists(path: &CStr) -> bool {
    sys::open_path(path, sys::O_PATH).is_ok()
}
