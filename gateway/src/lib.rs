//! The other end of a box's network card. QEMU's `-netdev stream` brings Ethernet frames over a unix socket; this process
//! ends the guest's connections, judges them by the box's policy, and opens those of the host instead. Nothing that the
//! guest sends leaves the host as it is.

#[path = "../../agent/src/json.rs"]
pub mod json;

pub mod control;
pub mod denials;
pub mod dhcp;
pub mod dns;
pub mod forwarder;
pub mod gateway;
pub mod handover;
pub mod http;
pub mod packet;
pub mod peek;
pub mod policy;
pub mod queue;
pub mod rate;
pub mod replies;
pub mod resolver;
pub mod rules;
pub mod streams;
pub mod sys;
pub mod tcp;
pub mod tls;
pub mod udp;
pub mod wire;
