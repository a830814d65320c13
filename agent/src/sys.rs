//! The C library as far as the agent uses it: functions, structures and numbers of Linux (include/uapi) for
//! 64-bit little-endian machines. Values that differ between architectures are marked with `cfg`.

use std::ffi::CStr;
use std::io;
use std::os::raw::{c_char, c_int, c_long, c_uint, c_ulong, c_void};
use std::os::unix::io::{AsRawFd, FromRawFd, OwnedFd, RawFd};

#[cfg_attr(target_arch = "x86_64", repr(C, packed))]
#[cfg_attr(not(target_arch = "x86_64"), repr(C))]
#[derive(Clone, Copy)]
pub struct EpollEvent {
    pub events: u32,
    pub data: u64,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct SigSet {
    pub words: [u64; 16],
}

#[repr(C)]
pub struct SigAction {
    pub handler: usize,
    pub mask: SigSet,
    pub flags: c_int,
    pub restorer: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct Timespec {
    pub sec: i64,
    pub nsec: i64,
}

#[repr(C)]
pub struct WinSize {
    pub rows: u16,
    pub cols: u16,
    pub x_pixels: u16,
    pub y_pixels: u16,
}

#[repr(C)]
pub struct RLimit {
    pub soft: u64,
    pub hard: u64,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct StatFs {
    pub kind: i64,
    pub block_size: i64,
    pub blocks: u64,
    pub blocks_free: u64,
    pub blocks_available: u64,
    pub files: u64,
    pub files_free: u64,
    pub fsid: [i32; 2],
    pub name_length: i64,
    pub fragment_size: i64,
    pub flags: i64,
    pub spare: [i64; 4],
}

/// `struct open_how` of openat2(2).
#[repr(C)]
pub struct OpenHow {
    pub flags: u64,
    pub mode: u64,
    pub resolve: u64,
}

/// `struct clone_args` of clone3(2), up to `cgroup`.
#[repr(C)]
#[derive(Default)]
pub struct CloneArgs {
    pub flags: u64,
    pub pidfd: u64,
    pub child_tid: u64,
    pub parent_tid: u64,
    pub exit_signal: u64,
    pub stack: u64,
    pub stack_size: u64,
    pub tls: u64,
    pub set_tid: u64,
    pub set_tid_size: u64,
    pub cgroup: u64,
}

/// `struct pollfd`.
#[repr(C)]
pub struct PollFd {
    pub fd: c_int,
    pub events: i16,
    pub found: i16,
}

impl PollFd {
    pub fn new(fd: RawFd, events: i16) -> PollFd {
        let found = 0;
        PollFd { fd, events, found }
    }
}

extern "C" {
    pub fn epoll_create1(flags: c_int) -> c_int;
    pub fn epoll_ctl(epfd: c_int, op: c_int, fd: c_int, event: *mut EpollEvent) -> c_int;
    pub fn epoll_wait(epfd: c_int, events: *mut EpollEvent, max: c_int, timeout: c_int) -> c_int;
    pub fn poll(fds: *mut PollFd, count: c_ulong, timeout: c_int) -> c_int;
    pub fn signalfd(fd: c_int, mask: *const SigSet, flags: c_int) -> c_int;
    pub fn eventfd(initial: c_uint, flags: c_int) -> c_int;
    pub fn inotify_init1(flags: c_int) -> c_int;
    pub fn inotify_add_watch(fd: c_int, path: *const c_char, mask: c_uint) -> c_int;
    pub fn inotify_rm_watch(fd: c_int, watch: c_int) -> c_int;
    pub fn sigprocmask(how: c_int, set: *const SigSet, old: *mut SigSet) -> c_int;
    pub fn sigaction(signal: c_int, action: *const SigAction, old: *mut SigAction) -> c_int;
    pub fn pipe2(fds: *mut c_int, flags: c_int) -> c_int;
    pub fn read(fd: c_int, buffer: *mut c_void, count: usize) -> isize;
    pub fn write(fd: c_int, buffer: *const c_void, count: usize) -> isize;
    pub fn dup2(from: c_int, to: c_int) -> c_int;
    pub fn fcntl(fd: c_int, command: c_int, ...) -> c_int;
    pub fn ioctl(fd: c_int, request: c_ulong, ...) -> c_int;
    pub fn open(path: *const c_char, flags: c_int, ...) -> c_int;
    pub fn openat(dir: c_int, path: *const c_char, flags: c_int, ...) -> c_int;
    pub fn mkdirat(dir: c_int, path: *const c_char, mode: c_uint) -> c_int;
    pub fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int;
    pub fn renameat(a: c_int, from: *const c_char, b: c_int, to: *const c_char) -> c_int;
    pub fn linkat(
        a: c_int,
        from: *const c_char,
        b: c_int,
        to: *const c_char,
        flags: c_int,
    ) -> c_int;
    pub fn symlinkat(target: *const c_char, dir: c_int, path: *const c_char) -> c_int;
    pub fn unshare(flags: c_int) -> c_int;
    pub fn mknod(path: *const c_char, mode: c_uint, dev: u64) -> c_int;
    pub fn mknodat(dir: c_int, path: *const c_char, mode: c_uint, dev: u64) -> c_int;
    pub fn fchownat(
        dir: c_int,
        path: *const c_char,
        uid: c_uint,
        gid: c_uint,
        flags: c_int,
    ) -> c_int;
    pub fn fallocate(fd: c_int, mode: c_int, offset: i64, length: i64) -> c_int;
    pub fn fchmod(fd: c_int, mode: c_uint) -> c_int;
    pub fn fchown(fd: c_int, uid: c_uint, gid: c_uint) -> c_int;
    pub fn utimensat(
        dir: c_int,
        path: *const c_char,
        times: *const Timespec,
        flags: c_int,
    ) -> c_int;
    pub fn futimens(fd: c_int, times: *const Timespec) -> c_int;
    pub fn flistxattr(fd: c_int, list: *mut c_char, size: usize) -> isize;
    pub fn fgetxattr(fd: c_int, name: *const c_char, value: *mut c_void, size: usize) -> isize;
    pub fn fsetxattr(
        fd: c_int,
        name: *const c_char,
        value: *const c_void,
        size: usize,
        flags: c_int,
    ) -> c_int;
    pub fn statfs(path: *const c_char, out: *mut StatFs) -> c_int;
    pub fn fstatfs(fd: c_int, out: *mut StatFs) -> c_int;
    pub fn mount(
        source: *const c_char,
        target: *const c_char,
        kind: *const c_char,
        flags: c_ulong,
        data: *const c_void,
    ) -> c_int;
    pub fn umount2(target: *const c_char, flags: c_int) -> c_int;
    pub fn chroot(path: *const c_char) -> c_int;
    pub fn chdir(path: *const c_char) -> c_int;
    pub fn reboot(command: c_int) -> c_int;
    pub fn sync();
    pub fn sethostname(name: *const c_char, length: usize) -> c_int;
    pub fn clock_gettime(clock: c_int, out: *mut Timespec) -> c_int;
    pub fn clock_settime(clock: c_int, time: *const Timespec) -> c_int;
    pub fn kill(pid: c_int, signal: c_int) -> c_int;
    pub fn waitpid(pid: c_int, status: *mut c_int, options: c_int) -> c_int;
    pub fn setsid() -> c_int;
    pub fn _exit(status: c_int) -> !;
    pub fn execve(
        path: *const c_char,
        argv: *const *const c_char,
        env: *const *const c_char,
    ) -> c_int;
    pub fn prctl(option: c_int, ...) -> c_int;
    pub fn umask(mode: c_uint) -> c_uint;
    pub fn getuid() -> c_uint;
    pub fn getgid() -> c_uint;
    pub fn getpid() -> c_int;
    pub fn setrlimit(resource: c_int, limit: *const RLimit) -> c_int;
    pub fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    pub fn connect(fd: c_int, address: *const c_void, length: c_uint) -> c_int;
    pub fn getsockopt(
        fd: c_int,
        level: c_int,
        name: c_int,
        value: *mut c_void,
        length: *mut c_uint,
    ) -> c_int;
    pub fn shutdown(fd: c_int, how: c_int) -> c_int;
    pub fn syscall(number: c_long, ...) -> c_long;
    pub fn mallopt(parameter: c_int, value: c_int) -> c_int;
    fn __errno_location() -> *mut c_int;
}

#[cfg(target_arch = "x86_64")]
pub mod nr {
    use std::os::raw::c_long;
    pub const SETGROUPS: c_long = 116;
    pub const SETRESUID: c_long = 117;
    pub const SETRESGID: c_long = 119;
    pub const CAPSET: c_long = 126;
    pub const FINIT_MODULE: c_long = 313;
    pub const GETRANDOM: c_long = 318;
    pub const CLONE3: c_long = 435;
    pub const OPENAT2: c_long = 437;
}
#[cfg(target_arch = "aarch64")]
pub mod nr {
    use std::os::raw::c_long;
    pub const SETGROUPS: c_long = 159;
    pub const SETRESUID: c_long = 147;
    pub const SETRESGID: c_long = 149;
    pub const CAPSET: c_long = 91;
    pub const FINIT_MODULE: c_long = 273;
    pub const GETRANDOM: c_long = 278;
    pub const CLONE3: c_long = 435;
    pub const OPENAT2: c_long = 437;
}

pub const POLLIN: i16 = 0x1;
pub const POLLOUT: i16 = 0x4;
pub const EPOLLIN: u32 = 0x1;
pub const EPOLLOUT: u32 = 0x4;
pub const EPOLLERR: u32 = 0x8;
pub const EPOLLHUP: u32 = 0x10;
pub const EPOLLET: u32 = 1 << 31;
pub const EPOLL_CTL_ADD: c_int = 1;
pub const EPOLL_CTL_DEL: c_int = 2;

pub const O_RDONLY: c_int = 0;
pub const O_WRONLY: c_int = 1;
pub const O_RDWR: c_int = 2;
pub const O_CREAT: c_int = 0o100;
pub const O_EXCL: c_int = 0o200;
pub const O_NOCTTY: c_int = 0o400;
pub const O_APPEND: c_int = 0o2000;
pub const O_NONBLOCK: c_int = 0o4000;
pub const O_CLOEXEC: c_int = 0o2000000;
pub const O_PATH: c_int = 0o10000000;
#[cfg(target_arch = "x86_64")]
pub const O_DIRECTORY: c_int = 0o200000;
#[cfg(target_arch = "x86_64")]
pub const O_NOFOLLOW: c_int = 0o400000;
#[cfg(target_arch = "aarch64")]
pub const O_DIRECTORY: c_int = 0o40000;
#[cfg(target_arch = "aarch64")]
pub const O_NOFOLLOW: c_int = 0o100000;
pub const O_TMPFILE: c_int = 0o20000000 | O_DIRECTORY;
pub const AT_FDCWD: c_int = -100;
pub const AT_SYMLINK_NOFOLLOW: c_int = 0x100;
pub const AT_SYMLINK_FOLLOW: c_int = 0x400;
pub const AT_EMPTY_PATH: c_int = 0x1000;
pub const AT_REMOVEDIR: c_int = 0x200;
pub const F_DUPFD_CLOEXEC: c_int = 1030;
pub const F_GETFL: c_int = 3;
pub const F_SETFL: c_int = 4;
pub const FALLOC_FL_KEEP_SIZE: c_int = 1;
pub const RESOLVE_NO_MAGICLINKS: u64 = 0x02;
pub const RESOLVE_BENEATH: u64 = 0x08;
pub const RESOLVE_IN_ROOT: u64 = 0x10;

pub const S_IFMT: u32 = 0o170000;
pub const S_IFIFO: u32 = 0o010000;
pub const S_IFCHR: u32 = 0o020000;
pub const S_IFBLK: u32 = 0o060000;

pub const EPERM: i32 = 1;
pub const ENOENT: i32 = 2;
pub const EINTR: i32 = 4;
pub const EIO: i32 = 5;
pub const ENXIO: i32 = 6;
pub const E2BIG: i32 = 7;
pub const ENOEXEC: i32 = 8;
pub const EAGAIN: i32 = 11;
pub const EACCES: i32 = 13;
pub const EBUSY: i32 = 16;
pub const EEXIST: i32 = 17;
pub const EXDEV: i32 = 18;
pub const ENODEV: i32 = 19;
pub const ENOTDIR: i32 = 20;
pub const EISDIR: i32 = 21;
pub const EINVAL: i32 = 22;
pub const EMFILE: i32 = 24;
pub const ECONNREFUSED: i32 = 111;
pub const ETXTBSY: i32 = 26;
pub const ENOSPC: i32 = 28;
pub const EROFS: i32 = 30;
pub const EPIPE: i32 = 32;
pub const ENAMETOOLONG: i32 = 36;
pub const ENOSYS: i32 = 38;
pub const ENOTEMPTY: i32 = 39;
pub const ELOOP: i32 = 40;
pub const ENOTSUP: i32 = 95;
pub const EINPROGRESS: i32 = 115;
pub const EDQUOT: i32 = 122;

pub const SIG_BLOCK: c_int = 0;
pub const SIG_SETMASK: c_int = 2;
pub const SIGKILL: c_int = 9;
pub const SIGTERM: c_int = 15;
pub const SIGCHLD: c_int = 17;
pub const SIGCONT: c_int = 18;
pub const WNOHANG: c_int = 1;
pub const CLONE_VM: u64 = 0x100;
pub const CLONE_VFORK: u64 = 0x4000;
pub const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

pub const TIOCSCTTY: c_ulong = 0x540e;
pub const TIOCSWINSZ: c_ulong = 0x5414;
pub const FIONREAD: c_ulong = 0x541b;
pub const TIOCSPTLCK: c_ulong = 0x4004_5431;
pub const TIOCGPTPEER: c_ulong = 0x5441;
pub const BLKROSET: c_ulong = 0x125d;
pub const BLKFLSBUF: c_ulong = 0x1261;
pub const BLKGETSIZE64: c_ulong = 0x8008_1272;
pub const EXT4_IOC_RESIZE_FS: c_ulong = 0x4008_6610;
pub const FIFREEZE: c_ulong = 0xc004_5877;
pub const FITHAW: c_ulong = 0xc004_5878;
pub const RNDADDENTROPY: c_ulong = 0x4008_5203;
pub const RNDRESEEDCRNG: c_ulong = 0x5207;

pub const MS_RDONLY: c_ulong = 1;
pub const MS_NOSUID: c_ulong = 2;
pub const MS_NODEV: c_ulong = 4;
pub const MS_NOEXEC: c_ulong = 8;
pub const MS_REMOUNT: c_ulong = 32;
pub const MS_NOATIME: c_ulong = 1024;
pub const MS_MOVE: c_ulong = 8192;
pub const MS_REC: c_ulong = 16384;
pub const MS_PRIVATE: c_ulong = 1 << 18;
pub const CLONE_NEWNS: c_int = 0x0002_0000;
pub const MNT_DETACH: c_int = 2;
pub const RB_POWER_OFF: c_int = 0x4321_fedc;
pub const RB_DISABLE_CAD: c_int = 0;

pub const CLOCK_REALTIME: c_int = 0;
pub const CLOCK_MONOTONIC: c_int = 1;
pub const CLOCK_PROCESS_CPUTIME_ID: c_int = 2;

pub const AF_INET: c_int = 2;
pub const AF_INET6: c_int = 10;
pub const AF_NETLINK: c_int = 16;
pub const SOCK_STREAM: c_int = 1;
pub const SOCK_DGRAM: c_int = 2;
pub const SOCK_RAW: c_int = 3;
pub const SOCK_CLOEXEC: c_int = 0o2000000;
pub const SOCK_NONBLOCK: c_int = 0o4000;
pub const SOL_SOCKET: c_int = 1;
pub const SO_ERROR: c_int = 4;
pub const SHUT_WR: c_int = 1;

pub const PR_SET_KEEPCAPS: c_int = 8;
pub const PR_CAPBSET_DROP: c_int = 24;
pub const PR_CAP_AMBIENT: c_int = 47;
pub const PR_CAP_AMBIENT_RAISE: c_int = 2;
pub const PR_SET_CHILD_SUBREAPER: c_int = 36;
pub const RLIMIT_NOFILE: c_int = 7;
pub const M_ARENA_MAX: c_int = -8;

/// The calling thread's errno; safe to call between clone and exec.
pub fn errno() -> i32 {
    unsafe { *__errno_location() }
}

/// A return value of -1 as the error in errno.
pub fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

/// A new file descriptor, or the error in errno.
pub fn owned(result: c_int) -> io::Result<OwnedFd> {
    let fd = check(result)?;
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A pipe, close-on-exec: (read end, write end).
pub fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut fds = [0; 2];
    check(unsafe { pipe2(fds.as_mut_ptr(), O_CLOEXEC) })?;
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

/// Another descriptor for the same open file, close-on-exec and at least 3.
pub fn duplicate(fd: &OwnedFd) -> io::Result<OwnedFd> {
    owned(unsafe { fcntl(fd.as_raw_fd(), F_DUPFD_CLOEXEC, 3) })
}

pub fn set_nonblocking(fd: RawFd) -> io::Result<()> {
    let flags = check(unsafe { fcntl(fd, F_GETFL) })?;
    check(unsafe { fcntl(fd, F_SETFL, flags | O_NONBLOCK) }).map(drop)
}

pub fn open_path(path: &CStr, flags: c_int) -> io::Result<OwnedFd> {
    owned(unsafe { open(path.as_ptr(), flags | O_CLOEXEC) })
}

/// What a non-blocking read or write came to.
pub enum Io {
    Done(usize),
    /// Nothing to do before the next readiness event.
    Blocked,
    Failed(i32),
}

fn outcome(result: isize) -> Option<Io> {
    if result >= 0 {
        return Some(Io::Done(result as usize));
    }
    match errno() {
        EINTR => None,
        EAGAIN => Some(Io::Blocked),
        error => Some(Io::Failed(error)),
    }
}

pub fn read_some(fd: RawFd, buffer: &mut [u8]) -> Io {
    loop {
        let result = unsafe { read(fd, buffer.as_mut_ptr() as *mut c_void, buffer.len()) };
        if let Some(done) = outcome(result) {
            return done;
        }
    }
}

pub fn write_some(fd: RawFd, bytes: &[u8]) -> Io {
    loop {
        let result = unsafe { write(fd, bytes.as_ptr() as *const c_void, bytes.len()) };
        if let Some(done) = outcome(result) {
            return done;
        }
    }
}

fn clock(id: c_int) -> Timespec {
    let mut time = Timespec { sec: 0, nsec: 0 };
    unsafe { clock_gettime(id, &mut time) };
    time
}

/// Milliseconds of the clock that never jumps.
pub fn monotonic_ms() -> u64 {
    let time = clock(CLOCK_MONOTONIC);
    time.sec as u64 * 1000 + time.nsec as u64 / 1_000_000
}

/// Nanoseconds of CPU time this process has used.
pub fn cpu_time_ns() -> u64 {
    let time = clock(CLOCK_PROCESS_CPUTIME_ID);
    time.sec as u64 * 1_000_000_000 + time.nsec as u64
}

/// Nanoseconds since 1970 by the wall clock.
pub fn unix_ns() -> i128 {
    let time = clock(CLOCK_REALTIME);
    time.sec as i128 * 1_000_000_000 + time.nsec as i128
}

/// Fills a buffer from the kernel's random number generator.
pub fn random(buffer: &mut [u8]) -> io::Result<()> {
    let got = unsafe {
        syscall(
            nr::GETRANDOM,
            buffer.as_mut_ptr(),
            buffer.len(),
            0 as c_uint,
        )
    };
    if got as usize == buffer.len() {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}
