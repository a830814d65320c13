//! The guest's datagrams: a flow is a port of the guest and an address, and has a socket of its own.

use crate::denials::Refused;
use crate::gateway::Shared;
use crate::packet::{Packet, Route};
use crate::policy::Verdict;
use crate::sys::{PollFd, POLLIN};
use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::unix::io::AsRawFd;

const MAX_FLOWS: usize = 256;
const IDLE_MS: u64 = 60_000;
/// Datagrams of one flow that are read before others have their turn.
const TURN: usize = 64;
const READ_BYTES: usize = 65_536;

type Key = (u16, Ipv4Addr, u16);

struct Flow {
    socket: UdpSocket,
    used: u64,
}

pub struct Flows {
    table: HashMap<Key, Flow>,
    buffer: Vec<u8>,
}

impl Default for Flows {
    fn default() -> Flows {
        Flows {
            table: HashMap::new(),
            buffer: vec![0; READ_BYTES],
        }
    }
}

impl Flows {
    /// Sends a datagram of the guest on, or says that it may not.
    pub fn datagram(
        &mut self,
        shared: &mut Shared,
        packet: &Packet,
        ports: (u16, u16),
        content: &[u8],
    ) {
        let key = (ports.0, packet.destination, ports.1);
        if let Verdict::Refuse(reason) = shared.policy.udp(key.1, key.2, &shared.floor) {
            shared.told.refused(Refused {
                reason,
                protocol: "udp",
                name: shared.pins.names(key.1).map(str::to_string),
                address: Some(key.1),
                port: key.2,
            });
            let route = Route::from(packet.destination, shared.guest_mac);
            shared.wire.send(&route.prohibited(packet));
            return;
        }
        if !self.table.contains_key(&key) {
            if self.table.len() >= MAX_FLOWS {
                self.forget_oldest();
            }
            match open(key) {
                Ok(socket) => {
                    shared.told.flows += 1;
                    self.table.insert(key, Flow { socket, used: 0 });
                }
                Err(_) => {
                    shared.told.failed += 1;
                    return;
                }
            }
        }
        if let Some(flow) = self.table.get_mut(&key) {
            flow.used = shared.now;
            // A datagram may be lost, also here.
            if shared.rates.sent.room(shared.now) == 0 {
                return;
            }
            if let Ok(count) = flow.socket.send(content) {
                shared.rates.sent.take(count);
                shared.told.sent += count as u64;
            }
        }
    }

    fn forget_oldest(&mut self) {
        let oldest = self.table.iter().min_by_key(|(_, flow)| flow.used);
        if let Some(key) = oldest.map(|(key, _)| *key) {
            self.table.remove(&key);
        }
    }

    pub fn interests(&self, fds: &mut Vec<PollFd>, keys: &mut Vec<Key>) {
        for (key, flow) in &self.table {
            fds.push(PollFd {
                fd: flow.socket.as_raw_fd(),
                events: POLLIN,
                found: 0,
            });
            keys.push(*key);
        }
    }

    pub fn due(&self) -> Option<u64> {
        self.table.values().map(|flow| flow.used + IDLE_MS).min()
    }

    pub fn forget_idle(&mut self, now: u64) {
        self.table.retain(|_, flow| flow.used + IDLE_MS > now);
    }

    /// Brings what has come to the guest.
    pub fn receive(&mut self, shared: &mut Shared, key: Key) {
        let flow = match self.table.get_mut(&key) {
            Some(flow) => flow,
            None => return,
        };
        let route = Route::from(key.1, shared.guest_mac);
        for _ in 0..TURN {
            if shared.rates.received.room(shared.now) == 0 {
                break;
            }
            let count = match flow.socket.recv(&mut self.buffer) {
                Ok(count) => count,
                Err(_) => break,
            };
            flow.used = shared.now;
            shared.rates.received.take(count);
            shared.told.received += count as u64;
            let frame = route.udp(key.2, key.0, &self.buffer[..count]);
            shared.wire.send(&frame);
        }
    }

    /// Forgets the flows that a new policy does not allow.
    pub fn judge_again(&mut self, shared: &Shared) {
        self.table.retain(|(_, address, port), _| {
            shared.policy.udp(*address, *port, &shared.floor) == Verdict::Allow
        });
    }
}

fn open((_, address, port): Key) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    socket.set_nonblocking(true)?;
    socket.connect(SocketAddr::from((address, port)))?;
    Ok(socket)
}
