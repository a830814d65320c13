//! Asks the host's name servers. Every question has a socket and a number of its own, so that an answer cannot be guessed.

use crate::dns::{parse_answer, Answer, Question};
use crate::queue::Queue;
use crate::sys::{self, PollFd, POLLIN, POLLOUT};
use crate::wire::is_for_later;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::unix::io::AsRawFd;
use std::time::SystemTime;

/// Questions that wait for an answer at once.
pub const MAX_ASKS: usize = 256;
const TRY_MS: u64 = 2_000;
const TRIES: usize = 2;
const RESOLVER_FILE: &str = "/etc/resolv.conf";
const DNS_PORT: u16 = 53;
/// Longest message by UDP that is read.
const UDP_BYTES: usize = 4096;

enum Socket {
    Udp(UdpSocket),
    Tcp {
        stream: TcpStream,
        out: Queue,
        input: Vec<u8>,
    },
}

struct Ask<R> {
    question: Question,
    reply: R,
    id: u16,
    socket: Socket,
    deadline: u64,
    tries: usize,
}

/// A question that is answered, or that nobody answers.
pub struct Asked<R> {
    pub question: Question,
    pub reply: R,
    pub answer: Option<(Answer, Vec<u8>)>,
}

pub struct Resolver<R> {
    asks: Vec<Ask<R>>,
    random: File,
    read_at: Option<SystemTime>,
    servers: Vec<SocketAddr>,
}

enum Progress {
    Waits,
    Answered(Answer, Vec<u8>),
    Truncated,
    Failed,
}

impl<R> Resolver<R> {
    pub fn new() -> io::Result<Resolver<R>> {
        Ok(Resolver {
            asks: Vec::new(),
            random: File::open("/dev/urandom")?,
            read_at: None,
            servers: Vec::new(),
        })
    }

    pub fn random(&mut self) -> u32 {
        let mut bytes = [0; 4];
        // The kernel's generator does not fail once it is open.
        let _ = self.random.read_exact(&mut bytes);
        u32::from_ne_bytes(bytes)
    }

    /// The servers of the host, read again when the file has changed.
    fn servers(&mut self, given: &[SocketAddr]) -> Vec<SocketAddr> {
        if !given.is_empty() {
            return given.to_vec();
        }
        let changed = fs::metadata(RESOLVER_FILE).and_then(|facts| facts.modified());
        let changed = changed.ok();
        if changed.is_none() || changed != self.read_at {
            let text = fs::read_to_string(RESOLVER_FILE).unwrap_or_default();
            self.servers = nameservers(&text);
            self.read_at = changed;
        }
        self.servers.clone()
    }

    /// Asks; what comes of it is told by `progress`. Gives the question back when it cannot be asked.
    pub fn ask(
        &mut self,
        question: Question,
        reply: R,
        given: &[SocketAddr],
        now: u64,
    ) -> Option<Asked<R>> {
        let servers = self.servers(given);
        let id = self.random() as u16;
        let socket = match servers.first() {
            Some(server) if self.asks.len() < MAX_ASKS => ask_by_udp(*server, &question, id).ok(),
            _ => None,
        };
        match socket {
            Some(socket) => {
                let deadline = now + TRY_MS;
                self.asks.push(Ask {
                    question,
                    reply,
                    id,
                    socket,
                    deadline,
                    tries: 1,
                });
                None
            }
            None => Some(Asked {
                question,
                reply,
                answer: None,
            }),
        }
    }

    pub fn interests(&self, fds: &mut Vec<PollFd>) {
        for ask in &self.asks {
            let (fd, events) = match &ask.socket {
                Socket::Udp(socket) => (socket.as_raw_fd(), POLLIN),
                Socket::Tcp { stream, out, .. } if out.is_empty() => (stream.as_raw_fd(), POLLIN),
                Socket::Tcp { stream, .. } => (stream.as_raw_fd(), POLLOUT),
            };
            fds.push(PollFd {
                fd,
                events,
                found: 0,
            });
        }
    }

    pub fn due(&self) -> Option<u64> {
        self.asks.iter().map(|ask| ask.deadline).min()
    }

    /// Goes on with every question; `found` are the events of `interests`.
    pub fn progress(&mut self, found: &[PollFd], given: &[SocketAddr], now: u64) -> Vec<Asked<R>> {
        let mut done = Vec::new();
        let servers = self.servers(given);
        // Those that were asked since then have no event yet.
        for index in (0..self.asks.len()).rev() {
            let ready = found.get(index).map_or(false, |fd| fd.found != 0);
            let ask = &mut self.asks[index];
            let mut progress = if ready {
                ask.advance()
            } else {
                Progress::Waits
            };
            if matches!(progress, Progress::Waits) && ask.deadline <= now {
                progress = Progress::Failed;
            }
            match progress {
                Progress::Waits => continue,
                Progress::Truncated | Progress::Failed => {
                    let by_tcp = matches!(progress, Progress::Truncated);
                    let id = self.random() as u16;
                    if self.asks[index].again(&servers, id, by_tcp, now) {
                        continue;
                    }
                    let Ask {
                        question, reply, ..
                    } = self.asks.swap_remove(index);
                    done.push(Asked {
                        question,
                        reply,
                        answer: None,
                    });
                }
                Progress::Answered(answer, message) => {
                    let Ask {
                        question, reply, ..
                    } = self.asks.swap_remove(index);
                    done.push(Asked {
                        question,
                        reply,
                        answer: Some((answer, message)),
                    });
                }
            }
        }
        done
    }
}

impl<R> Ask<R> {
    fn advance(&mut self) -> Progress {
        match self.try_advance() {
            Ok(progress) => progress,
            Err(error) if is_for_later(&error) => Progress::Waits,
            Err(_) => Progress::Failed,
        }
    }

    fn try_advance(&mut self) -> io::Result<Progress> {
        match &mut self.socket {
            Socket::Udp(socket) => {
                let mut buffer = [0; UDP_BYTES];
                let count = socket.recv(&mut buffer)?;
                let message = &buffer[..count];
                Ok(match parse_answer(message, self.id, &self.question) {
                    // Somebody else's.
                    None => Progress::Waits,
                    Some(answer) if answer.is_truncated => Progress::Truncated,
                    Some(answer) => Progress::Answered(answer, message.to_vec()),
                })
            }
            Socket::Tcp { stream, out, input } => {
                if !out.is_empty() {
                    let count = stream.write(out.as_slice())?;
                    out.consume(count);
                    return Ok(Progress::Waits);
                }
                let mut buffer = [0; UDP_BYTES];
                let count = stream.read(&mut buffer)?;
                input.extend_from_slice(&buffer[..count]);
                let length = match input.get(..2) {
                    Some(head) => usize::from(u16::from_be_bytes([head[0], head[1]])),
                    None => 0,
                };
                if input.len() >= 2 && input.len() >= 2 + length {
                    let message = input[2..2 + length].to_vec();
                    return Ok(match parse_answer(&message, self.id, &self.question) {
                        Some(answer) => Progress::Answered(answer, message),
                        None => Progress::Failed,
                    });
                }
                Ok(match count {
                    0 => Progress::Failed,
                    _ => Progress::Waits,
                })
            }
        }
    }

    /// Asks again, the next server or the same one by TCP. False: often enough.
    fn again(&mut self, servers: &[SocketAddr], id: u16, by_tcp: bool, now: u64) -> bool {
        let limit = if by_tcp { TRIES + 1 } else { TRIES };
        if servers.is_empty() || self.tries >= limit {
            return false;
        }
        let index = if by_tcp { self.tries - 1 } else { self.tries };
        let server = servers[index % servers.len()];
        let socket = match by_tcp {
            true => ask_by_tcp(server, &self.question, id),
            false => ask_by_udp(server, &self.question, id),
        };
        self.tries += 1;
        self.deadline = now + TRY_MS;
        self.id = id;
        match socket {
            Ok(socket) => {
                self.socket = socket;
                true
            }
            Err(_) => false,
        }
    }
}

fn ask_by_udp(server: SocketAddr, question: &Question, id: u16) -> io::Result<Socket> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    socket.set_nonblocking(true)?;
    socket.connect(server)?;
    socket.send(&question.ask(id))?;
    Ok(Socket::Udp(socket))
}

fn ask_by_tcp(server: SocketAddr, question: &Question, id: u16) -> io::Result<Socket> {
    let to: SocketAddrV4 = match server {
        SocketAddr::V4(to) => to,
        SocketAddr::V6(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let stream = sys::start_connect(to)?;
    let message = question.ask(id);
    let mut out = Queue::default();
    out.push(&(message.len() as u16).to_be_bytes());
    out.push(&message);
    let input = Vec::new();
    Ok(Socket::Tcp { stream, out, input })
}

/// Addresses of the `nameserver` lines (resolv.conf(5)).
pub fn nameservers(text: &str) -> Vec<SocketAddr> {
    text.lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .filter_map(|rest| rest.split_whitespace().next()?.parse().ok())
        .map(|address| SocketAddr::new(address, DNS_PORT))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_nameservers() {
        let text = "# nameserver 1.1.1.1\nsearch a b\nnameserver 127.0.0.53\n nameserver ::1 # local\nnameserver x\n";
        let expected: Vec<SocketAddr> = vec![
            "127.0.0.53:53".parse().unwrap(),
            "[::1]:53".parse().unwrap(),
        ];
        assert_eq!(nameservers(text), expected);
    }
}
