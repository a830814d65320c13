//! Settings of the kernel that differ from its defaults: what programs meet on a developer's machine.

use crate::boot::log;
use std::fs;

/// Path below /proc/sys, value, and why.
const SETTINGS: &[(&str, &str, &str)] = &[
    // The kernel gives a small machine 8192.
    (
        "fs/inotify/max_user_watches",
        "524288",
        "file watchers of bundlers, compilers and editors",
    ),
    (
        "fs/inotify/max_user_instances",
        "1024",
        "one for each watcher; the default is 128",
    ),
    (
        "vm/max_map_count",
        "1048576",
        "search engines, databases and garbage collectors with many maps",
    ),
    (
        "kernel/pid_max",
        "4194304",
        "as init systems set it: ids are not used again soon",
    ),
    (
        "net/ipv4/ping_group_range",
        "0 2147483647",
        "ping by users other than root",
    ),
    (
        "net/ipv4/ip_unprivileged_port_start",
        "0",
        "images whose server binds port 80 as a user of its own",
    ),
];

/// A setting that this kernel does not have is told on the console.
pub fn apply() {
    for (path, value, reason) in SETTINGS {
        if let Err(error) = fs::write(format!("/proc/sys/{}", path), value) {
            log(&format!("sysctl {} ({}): {}", path, reason, error));
        }
    }
}
