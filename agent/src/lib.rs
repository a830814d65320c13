//! The guest agent of Cryobox: PID 1 of a machine, or a server on a unix socket for tests on a host.
//! One thread and one epoll loop (agent.rs); file work runs in jobs (jobs.rs). See docs/PROTOCOL.md.

pub mod agent;
mod beneath;
pub mod boot;
mod capabilities;
mod cgroup;
mod connection;
mod dispatch;
mod endpoints;
mod exec;
mod exec_setup;
pub mod failure;
mod files;
pub mod frame;
mod identity;
mod jobs;
pub mod json;
mod net;
mod ring;
pub mod root;
mod sock_diag;
mod spawn;
mod streams;
pub mod sys;
mod system;
pub mod tar_format;
mod tar_pack;
mod tar_unpack;
mod users;
mod volume;
pub mod warm;
