//! Capabilities by name (capabilities(7), include/uapi/linux/capability.h).

use crate::failure::{Failure, Outcome};
use crate::sys;

const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];
const VERSION_3: u32 = 0x2008_0522;

/// The bits of a list of names such as `CAP_NET_ADMIN`, `net_admin` or `ALL`.
pub fn mask(names: &[&[u8]]) -> Outcome<u64> {
    names.iter().try_fold(0, |bits, name| {
        let upper = String::from_utf8_lossy(name).to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if plain == "ALL" {
            return Ok((1 << NAMES.len()) - 1);
        }
        match NAMES.iter().position(|known| *known == plain) {
            Some(bit) => Ok(bits | 1 << bit),
            None => Err(Failure::invalid(format!(
                "there is no capability {:?}",
                upper
            ))),
        }
    })
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Before the change of user: nothing the process executes can get `dropped` again; permitted ones outlive the change.
/// Only system calls: runs between clone and exec.
pub fn before_user(dropped: u64, kept: u64) {
    for bit in 0..NAMES.len() as u64 {
        if dropped >> bit & 1 == 1 {
            unsafe { sys::prctl(sys::PR_CAPBSET_DROP, bit, 0, 0, 0) };
        }
    }
    if kept != 0 {
        unsafe { sys::prctl(sys::PR_SET_KEEPCAPS, 1, 0, 0, 0) };
    }
}

/// After the change of user: exactly `wanted`, which also pass an exec as a user who is not root. False on failure.
pub fn after_user(wanted: u64, ambient: bool) -> bool {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |shift: u32| Data {
        effective: (wanted >> shift) as u32,
        permitted: (wanted >> shift) as u32,
        inheritable: if ambient { (wanted >> shift) as u32 } else { 0 },
    };
    let data = [half(0), half(32)];
    if unsafe { sys::syscall(sys::nr::CAPSET, &header, data.as_ptr()) } != 0 {
        return false;
    }
    if ambient {
        for bit in 0..NAMES.len() as u64 {
            if wanted >> bit & 1 == 1 {
                unsafe {
                    sys::prctl(
                        sys::PR_CAP_AMBIENT,
                        sys::PR_CAP_AMBIENT_RAISE as u64,
                        bit,
                        0,
                        0,
                    )
                };
            }
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_names() {
        assert_eq!(mask(&[b"CAP_CHOWN", b"net_admin"]).unwrap(), 1 | 1 << 12);
        assert_eq!(mask(&[b"ALL"]).unwrap().count_ones(), 41);
        assert_eq!(mask(&[]).unwrap(), 0);
        assert!(mask(&[b"CAP_FLY"]).unwrap_err().message.contains("CAP_FLY"));
    }
}
