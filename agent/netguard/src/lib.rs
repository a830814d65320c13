//! Preloaded into QEMU. Two things that QEMU 7.2 has no option for:
//!
//! - its user-mode network maps the guest's gateway to the host's loopback and reaches link-local addresses, such as a
//!   cloud's metadata service: connections and datagrams to those addresses fail with `EACCES` (`address`);
//! - it opens a memory file for writing also when it maps it privately: where that is not permitted, the file is opened
//!   for reading, so that a machine cannot change memory that others map (`files`).
//!
//! The functions of the C library are replaced by ones of the same name that look at the arguments first.

mod address;
mod files;
mod libc;
mod sockets;

pub use address::{is_refused, nameservers};
