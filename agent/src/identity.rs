//! identity.renew: what two machines that went on from one state must not share.

use crate::agent::{Agent, Child, Ticket};
use crate::devices;
use crate::failure::{Args, Context, Failure, Outcome};
use crate::json::Value;
use crate::net;
use crate::object;
use crate::root;
use crate::spawn::{self, Plan};
use crate::sys;
use std::fs;
use std::os::unix::io::AsRawFd;

const LEAST_ENTROPY: usize = 64;
const MOST_ENTROPY: usize = 512;
const KEYGEN: &str = "/usr/bin/ssh-keygen";

impl Agent {
    /// None when the answer comes later, from ssh-keygen's end.
    pub fn identity_renew(
        &mut self,
        ticket: Ticket,
        args: &Args,
        entropy: &[u8],
    ) -> Option<Outcome<Value>> {
        match self.renew(args, entropy) {
            Err(failure) => Some(Err(failure)),
            Ok((identity, mut answer)) => {
                if self.run.is_none() {
                    // What lives in files waits for the root, whose mount confirms it.
                    self.identity = Some(identity);
                    return Some(Ok(answer));
                }
                if let Err(failure) = identity.write("") {
                    return Some(Err(failure));
                }
                if let Value::Obj(members) = &mut answer {
                    members.push((b"run".to_vec(), Value::from(self.run.clone())));
                }
                self.answer_after_keys(ticket, &identity, answer)
            }
        }
    }

    fn renew(&mut self, args: &Args, entropy: &[u8]) -> Outcome<(Identity, Value)> {
        if !self.is_init {
            return Err(Failure::new(
                "unsupported",
                "identity.renew: the agent is not PID 1 of a machine",
            ));
        }
        self.check_thawed()?;
        let identity = Identity::read(args)?;
        reseed(entropy)?;
        set_clock(args)?;
        identity.set_host_name()?;
        if let Some(mac) = args.optional_text("mac")? {
            net::set_mac(args.optional_text("interface")?.unwrap_or("eth0"), mac)?;
        }
        if args.flag("newRun")? && self.run.is_some() {
            self.run = Some(root::new_run()?);
        }
        Ok((
            identity,
            object! { "timeUnixNs" => sys::unix_ns().to_string() },
        ))
    }

    /// Answers at once, or when ssh-keygen has ended.
    pub fn answer_after_keys(
        &mut self,
        ticket: Ticket,
        identity: &Identity,
        answer: Value,
    ) -> Option<Outcome<Value>> {
        if !identity.ssh_host_keys || remove_ssh_keys() == 0 || fs::metadata(KEYGEN).is_err() {
            return Some(Ok(answer));
        }
        match keygen() {
            Ok(pid) => {
                self.children.insert(pid, Child::Helper(ticket, answer));
                None
            }
            Err(failure) => Some(Err(failure)),
        }
    }
}

/// The part of an identity that is kept in files of the root.
#[derive(Default)]
pub struct Identity {
    hostname: Option<String>,
    machine_id: Option<String>,
    ssh_host_keys: bool,
}

impl Identity {
    fn read(args: &Args) -> Outcome<Identity> {
        let identity = Identity {
            hostname: args.optional_text("hostname")?.map(str::to_string),
            machine_id: args.optional_text("machineId")?.map(str::to_string),
            ssh_host_keys: args.flag("sshHostKeys")?,
        };
        if let Some(name) = &identity.hostname {
            let fine = (1..=64).contains(&name.len())
                && name.bytes().all(|byte| byte > b' ' && byte != b'/');
            if !fine {
                return Err(Failure::invalid(format!(
                    "hostname is {:?}, expected 1 to 64 letters",
                    name
                )));
            }
        }
        if let Some(id) = &identity.machine_id {
            if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                return Err(Failure::invalid(format!(
                    "machineId is {:?}, expected 32 hex digits",
                    id
                )));
            }
        }
        Ok(identity)
    }

    fn set_host_name(&self) -> Outcome<()> {
        match &self.hostname {
            None => Ok(()),
            Some(name) => {
                sys::check(unsafe { sys::sethostname(name.as_ptr() as *const _, name.len()) })
                    .map(drop)
                    .context("sethostname")
            }
        }
    }

    /// Writes its files into a root: `` is the one that is there.
    pub fn write(&self, root: &str) -> Outcome<()> {
        if self.hostname.is_some() || self.machine_id.is_some() {
            fs::create_dir_all(format!("{}/etc", root)).context("/etc")?;
        }
        if let Some(name) = &self.hostname {
            let path = format!("{}/etc/hostname", root);
            net::replace_file(&path, format!("{}\n", name).as_bytes())?;
        }
        if let Some(id) = &self.machine_id {
            let line = format!("{}\n", id);
            net::replace_file(&format!("{}/etc/machine-id", root), line.as_bytes())?;
            // D-Bus keeps a copy where it is no link to the first.
            let copy = format!("{}/var/lib/dbus/machine-id", root);
            if fs::symlink_metadata(&copy).map_or(false, |found| found.is_file()) {
                net::replace_file(&copy, line.as_bytes())?;
            }
        }
        Ok(())
    }
}

/// Sets the wall clock from `timeUnixNs`, a string: the number is larger than JSON's readers keep exactly.
pub fn set_clock(args: &Args) -> Outcome<()> {
    let text = args.text("timeUnixNs")?;
    let ns: i64 = text.parse().ok().filter(|ns| *ns > 0).ok_or_else(|| {
        Failure::invalid(format!("timeUnixNs is {:?}, expected nanoseconds", text))
    })?;
    let time = sys::Timespec {
        sec: ns / 1_000_000_000,
        nsec: ns % 1_000_000_000,
    };
    sys::check(unsafe { sys::clock_settime(sys::CLOCK_REALTIME, &time) })
        .map(drop)
        .context("clock_settime")
}

/// Credits fresh bytes to the kernel's pool and makes it use them at once (random(4)).
pub fn reseed(entropy: &[u8]) -> Outcome<()> {
    if !(LEAST_ENTROPY..=MOST_ENTROPY).contains(&entropy.len()) {
        return Err(Failure::invalid(format!(
            "{} bytes of entropy, expected {} to {}",
            entropy.len(),
            LEAST_ENTROPY,
            MOST_ENTROPY
        )));
    }
    let device = devices::random()?;
    // struct rand_pool_info: bits, bytes, data.
    let mut info = Vec::with_capacity(8 + entropy.len());
    info.extend_from_slice(&(entropy.len() as i32 * 8).to_ne_bytes());
    info.extend_from_slice(&(entropy.len() as i32).to_ne_bytes());
    info.extend_from_slice(entropy);
    let fd = device.as_raw_fd();
    sys::check(unsafe { sys::ioctl(fd, sys::RNDADDENTROPY, info.as_ptr()) })
        .context("RNDADDENTROPY")?;
    sys::check(unsafe { sys::ioctl(fd, sys::RNDRESEEDCRNG, 0) })
        .map(drop)
        .context("RNDRESEEDCRNG")
}

fn remove_ssh_keys() -> usize {
    let entries = match fs::read_dir("/etc/ssh") {
        Ok(entries) => entries,
        Err(_) => return 0,
    };
    entries
        .flatten()
        .filter(|entry| {
            let name = entry.file_name();
            let name = name.to_string_lossy();
            name.starts_with("ssh_host_") && (name.ends_with("_key") || name.ends_with("_key.pub"))
        })
        .filter(|entry| fs::remove_file(entry.path()).is_ok())
        .count()
}

fn keygen() -> Outcome<i32> {
    let null = devices::null()?;
    let fd = null.as_raw_fd();
    spawn::spawn(&Plan {
        argv: &[KEYGEN.as_bytes(), b"-A"],
        env: &[(b"PATH".to_vec(), spawn::DEFAULT_PATH.to_vec())],
        cwd: b"/",
        user: None,
        stdio: [fd, fd, fd],
        terminal: false,
        cgroup: None,
        dropped: 0,
        added: 0,
        is_init: true,
    })
}
