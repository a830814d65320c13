//! The machine as a whole: freeze, metrics, power.

use crate::agent::{Agent, Ticket, Timer};
use crate::failure::{Args, Context, Failure, Outcome};
use crate::json::Value;
use crate::object;
use crate::sys;
use std::fs::{self, File};
use std::os::unix::io::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

/// A frozen root that nobody thaws would hang the box for ever.
const MOST_FROZEN_MS: i64 = 10 * 60 * 1000;
const DEFAULT_FROZEN_MS: u64 = 60_000;
const DEFAULT_TIMEOUT_MS: u64 = 30_000;
/// From SIGKILL to the end of waiting for processes.
const KILL_MS: u64 = 2_000;
const ROOT: &str = "/";

#[derive(Default)]
pub struct Freeze {
    frozen: Arc<AtomicBool>,
    round: u64,
}

impl Freeze {
    pub fn is_frozen(&self) -> bool {
        self.frozen.load(Ordering::SeqCst)
    }
}

fn thaw() -> Outcome<()> {
    let root = File::open(ROOT).context(ROOT)?;
    sys::check(unsafe { sys::ioctl(root.as_raw_fd(), sys::FITHAW, 0) })
        .map(drop)
        .context("FITHAW")
}

/// What is left of a power off.
pub struct PowerOff {
    killed: bool,
    reboot: bool,
}

impl Agent {
    fn check_init(&self, what: &str) -> Outcome<()> {
        if self.is_init && self.run.is_some() {
            return Ok(());
        }
        Err(Failure::new(
            "unsupported",
            format!("{}: there is no machine with a mounted root", what),
        ))
    }

    /// Nothing may be written while frozen: it would block the job, and the job its thread.
    pub fn check_thawed(&self) -> Outcome<()> {
        if self.freeze.is_frozen() {
            return Err(Failure::new(
                "invalid_state",
                "the file system is frozen; thaw it first",
            ));
        }
        Ok(())
    }

    pub fn sys_freeze(&mut self, ticket: Ticket, args: &Args) -> Outcome<Option<Outcome<Value>>> {
        self.check_init("sys.freeze")?;
        self.check_thawed()?;
        let timeout = args
            .optional_int("timeoutMs", 1, MOST_FROZEN_MS)?
            .map_or(DEFAULT_TIMEOUT_MS, |ms| ms as u64);
        let longest = args
            .optional_int("maxFrozenMs", 1, MOST_FROZEN_MS)?
            .map_or(DEFAULT_FROZEN_MS, |ms| ms as u64);
        self.freeze.round += 1;
        self.after(timeout + longest, Timer::Thaw(self.freeze.round));
        let frozen = self.freeze.frozen.clone();
        Ok(self.job_apart(ticket, move || {
            let started = sys::monotonic_ms();
            let root = File::open(ROOT).context(ROOT)?;
            sys::check(unsafe { sys::ioctl(root.as_raw_fd(), sys::FIFREEZE, 0) })
                .context("FIFREEZE")?;
            frozen.store(true, Ordering::SeqCst);
            let took = sys::monotonic_ms() - started;
            if took > timeout {
                frozen.store(false, Ordering::SeqCst);
                thaw()?;
                let message = format!(
                    "freezing took {} ms, longer than timeoutMs {}",
                    took, timeout
                );
                return Err(Failure::new("timeout", message));
            }
            Ok(object! { "frozenMs" => took })
        }))
    }

    pub fn sys_thaw(&mut self) -> Outcome<Value> {
        self.check_init("sys.thaw")?;
        if !self.freeze.is_frozen() {
            return Err(Failure::new(
                "invalid_state",
                "the file system is not frozen",
            ));
        }
        thaw()?;
        self.freeze.frozen.store(false, Ordering::SeqCst);
        Ok(object! {})
    }

    pub fn thaw_timeout(&mut self, round: u64) {
        if self.freeze.round == round && self.freeze.is_frozen() && thaw().is_ok() {
            self.freeze.frozen.store(false, Ordering::SeqCst);
            self.event_to_host(&object! { "ev" => "thawed", "message" => "frozen for too long" });
        }
    }

    pub fn sys_power_off(&mut self, args: &Args) -> Outcome<Value> {
        if !self.is_init {
            return Err(Failure::new(
                "unsupported",
                "sys.poweroff: the agent is not PID 1 of a machine",
            ));
        }
        let timeout = args
            .optional_int("timeoutMs", 0, MOST_FROZEN_MS)?
            .unwrap_or(5000) as u64;
        self.power_off = Some(PowerOff {
            killed: false,
            reboot: false,
        });
        if self.freeze.is_frozen() {
            self.sys_thaw()?;
        }
        unsafe {
            sys::kill(-1, sys::SIGTERM);
            sys::kill(-1, sys::SIGCONT);
        }
        self.after(timeout, Timer::PowerOff);
        // Without children there is no signal to wait for.
        if unsafe { sys::waitpid(-1, std::ptr::null_mut(), sys::WNOHANG) } < 0 {
            self.after(0, Timer::PowerOff);
        }
        Ok(object! {})
    }

    /// After processes were reaped: is anybody left?
    pub fn power_off_reaped(&mut self) {
        if self.power_off.is_some() && no_children() {
            self.after(0, Timer::PowerOff);
        }
    }

    pub fn power_off_step(&mut self) {
        let gone = no_children();
        match self.power_off.as_mut() {
            None => return,
            Some(step) if !step.killed && !gone => {
                step.killed = true;
                unsafe { sys::kill(-1, sys::SIGKILL) };
                self.after(KILL_MS, Timer::PowerOff);
                return;
            }
            Some(step) if step.reboot => return,
            Some(step) => step.reboot = true,
        }
        self.flush_now();
        unsafe {
            sys::sync();
            self.volumes.unmount();
            let none = std::ptr::null();
            let root = b"/\0".as_ptr() as *const _;
            sys::mount(
                none,
                root,
                none,
                sys::MS_REMOUNT | sys::MS_RDONLY,
                none as *const _,
            );
            sys::sync();
            sys::reboot(sys::RB_POWER_OFF);
        }
    }

    pub fn sys_metrics(&self) -> Outcome<Value> {
        let mut disk = sys::StatFs::default();
        let root = b"/\0".as_ptr() as *const _;
        sys::check(unsafe { sys::statfs(root, &mut disk) }).context("statfs")?;
        let block = disk.block_size.max(0) as u64;
        let running = self.children.len();
        Ok(object! {
            "uptimeMs" => sys::monotonic_ms(),
            "timeUnixNs" => sys::unix_ns().to_string(),
            "cpu" => cpu(&read("/proc/stat")),
            "memory" => memory(&read("/proc/meminfo")),
            "load" => load(&read("/proc/loadavg")),
            "network" => network(&read("/proc/net/dev")),
            "disk" => object! {
                "totalBytes" => disk.blocks * block,
                "freeBytes" => disk.blocks_free * block,
                "availableBytes" => disk.blocks_available * block,
                "files" => disk.files,
                "freeFiles" => disk.files_free,
            },
            "processes" => running as u64,
            "agent" => object! {
                "cpuTimeUs" => sys::cpu_time_ns() / 1000,
                "ringBytes" => self.ring_bytes as u64,
                "sources" => self.sources.len() as u64,
                "executions" => self.execs.len() as u64,
            },
        })
    }
}

fn no_children() -> bool {
    // Zombies were reaped just before; an error means there is no child at all.
    unsafe { sys::waitpid(-1, std::ptr::null_mut(), sys::WNOHANG) < 0 }
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// /proc/stat, first line, in hundredths of a second (proc(5)).
fn cpu(stat: &str) -> Value {
    let ticks: Vec<u64> = stat
        .lines()
        .next()
        .unwrap_or("")
        .split_ascii_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    let at = |index: usize| ticks.get(index).copied().unwrap_or(0) * 10;
    let cpus = stat
        .lines()
        .filter(|line| line.starts_with("cpu"))
        .count()
        .saturating_sub(1);
    object! {
        "cpus" => cpus as u64,
        "userMs" => at(0) + at(1),
        "systemMs" => at(2) + at(5) + at(6),
        "idleMs" => at(3),
        "waitMs" => at(4),
        "stolenMs" => at(7),
    }
}

fn memory(info: &str) -> Value {
    let field = |name: &str| -> u64 {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
            .and_then(|rest| rest.split_ascii_whitespace().next()?.parse::<u64>().ok())
            .unwrap_or(0)
            * 1024
    };
    object! {
        "totalBytes" => field("MemTotal"),
        "freeBytes" => field("MemFree"),
        "availableBytes" => field("MemAvailable"),
        "cachedBytes" => field("Cached"),
        "swapTotalBytes" => field("SwapTotal"),
        "swapFreeBytes" => field("SwapFree"),
    }
}

fn load(text: &str) -> Value {
    let loads = text.split_ascii_whitespace().take(3);
    Value::Arr(
        loads
            .filter_map(|field| field.parse::<f64>().ok())
            .map(Value::from)
            .collect(),
    )
}

fn network(text: &str) -> Value {
    let interfaces = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(':')?;
        let fields: Vec<u64> = rest
            .split_ascii_whitespace()
            .filter_map(|field| field.parse().ok())
            .collect();
        Some(object! {
            "interface" => name.trim(),
            "receivedBytes" => *fields.first()?,
            "receivedPackets" => *fields.get(1)?,
            "sentBytes" => *fields.get(8)?,
            "sentPackets" => *fields.get(9)?,
        })
    });
    Value::Arr(interfaces.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_proc() {
        let stat =
            "cpu  10 1 5 100 2 0 1 0 0 0\ncpu0 5 1 5 100 2 0 1 0\ncpu1 5 0 0 0 0 0 0 0\nintr 1\n";
        assert_eq!(cpu(stat).get("userMs"), Some(&Value::Int(110)));
        assert_eq!(cpu(stat).get("cpus"), Some(&Value::Int(2)));
        let info = memory("MemTotal:  2048 kB\nMemFree: 1 kB\nCached: x kB\n");
        assert_eq!(info.get("totalBytes"), Some(&Value::Int(2 << 20)));
        assert_eq!(
            load("0.50 1 2 1/100 5"),
            Value::Arr(vec![0.5.into(), 1.0.into(), 2.0.into()])
        );
        let dev = "Inter-| x\n face |bytes\n  lo: 7 8 0 0 0 0 0 0 9 10 0 0 0 0 0 0\n";
        match network(dev) {
            Value::Arr(list) => assert_eq!(list[0].get("sentBytes"), Some(&Value::Int(9))),
            other => panic!("{:?}", other),
        }
    }
}
