//! What the engine says to the gateway and asks it: lines of JSON over a unix socket. The first line of a connection is
//! `{"token"}`, which the machine beside it, of the same user, does not know.

use crate::json::{self, Value};
use crate::object;
use crate::queue::Queue;
use crate::sys::{PollFd, POLLIN, POLLOUT};
use crate::wire::is_for_later;
use std::io::{self, Read, Write};
use std::os::unix::io::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};

const MAX_LINE: usize = 256 * 1024;
const MAX_CLIENTS: usize = 16;
/// Answers that a client has not read yet: then it is let go.
const MAX_OUT: usize = 1024 * 1024;

struct Client {
    stream: UnixStream,
    input: Queue,
    out: Queue,
    is_known: bool,
    is_over: bool,
}

pub struct Control {
    listener: UnixListener,
    token: Vec<u8>,
    clients: Vec<Client>,
}

/// What the engine asks for.
pub type Answer<'a> = dyn FnMut(&Value) -> Result<Value, String> + 'a;

impl Control {
    pub fn new(listener: UnixListener, token: Vec<u8>) -> io::Result<Control> {
        listener.set_nonblocking(true)?;
        Ok(Control {
            listener,
            token,
            clients: Vec::new(),
        })
    }

    /// What whoever speaks for this gateway has to know.
    pub fn token(&self) -> &[u8] {
        &self.token
    }

    /// The listener first, then the clients.
    pub fn interests(&self, fds: &mut Vec<PollFd>) {
        fds.push(PollFd {
            fd: self.listener.as_raw_fd(),
            events: POLLIN,
            found: 0,
        });
        for client in &self.clients {
            let writes = if client.out.is_empty() { 0 } else { POLLOUT };
            fds.push(PollFd {
                fd: client.stream.as_raw_fd(),
                events: POLLIN | writes,
                found: 0,
            });
        }
    }

    pub fn progress(&mut self, found: &[PollFd], answer: &mut Answer) {
        for (client, event) in self.clients.iter_mut().zip(&found[1..]) {
            if event.found != 0 {
                let result = client.serve(&self.token, answer);
                client.is_over |= result.is_err();
            }
        }
        self.clients.retain(|client| !client.is_over);
        if found[0].found != 0 {
            self.accept();
        }
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            // One that came without the token and waits makes room.
            if self.clients.len() >= MAX_CLIENTS {
                let stranger = self.clients.iter().position(|client| !client.is_known);
                self.clients.remove(stranger.unwrap_or(0));
            }
            if stream.set_nonblocking(true).is_ok() {
                self.clients.push(Client {
                    stream,
                    input: Queue::default(),
                    out: Queue::default(),
                    is_known: false,
                    is_over: false,
                });
            }
        }
    }
}

impl Client {
    fn serve(&mut self, token: &[u8], answer: &mut Answer) -> io::Result<()> {
        self.read()?;
        while let Some(end) = self.input.as_slice().iter().position(|byte| *byte == b'\n') {
            let line = self.input.as_slice()[..end].to_vec();
            self.input.consume(end + 1);
            let request = json::parse(&line).map_err(|_| io::ErrorKind::InvalidData)?;
            if !self.is_known {
                let given = request.get("token").and_then(Value::as_bytes);
                if !is_same(given.unwrap_or(b""), token) {
                    return Err(io::ErrorKind::PermissionDenied.into());
                }
                self.is_known = true;
                continue;
            }
            let reply = match answer(&request) {
                Ok(value) => object! { "ok" => value },
                Err(message) => object! { "error" => message },
            };
            let mut text = reply.to_bytes();
            text.push(b'\n');
            self.out.push(&text);
        }
        if self.input.len() > MAX_LINE || self.out.len() > MAX_OUT {
            return Err(io::ErrorKind::InvalidData.into());
        }
        self.write()
    }

    fn read(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        while self.input.len() <= MAX_LINE {
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.input.push(&buffer[..count]),
                Err(error) if is_for_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.write(self.out.as_slice()) {
                Ok(count) => self.out.consume(count),
                Err(error) if is_for_later(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Takes the same time wherever they differ.
fn is_same(given: &[u8], token: &[u8]) -> bool {
    let differs = given.iter().zip(token).fold(0, |sum, (a, b)| sum | (a ^ b));
    !token.is_empty() && given.len() == token.len() && differs == 0
}
