//! `cryobox-gateway`: run in a machine's directory, with the token of its control socket as a line on its standard input.
//! Ends with 0 when the machine has ended, else with 1 and a line on its standard error.

use cryobox_gateway::control::Control;
use cryobox_gateway::gateway::Gateway;
use cryobox_gateway::sys;
use cryobox_gateway::wire::Wire;
use std::fs;
use std::io::{self, BufRead};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::exit;

/// Where QEMU listens for the other end of its card.
const CARD: &str = "net.sock";
const CONTROL: &str = "gateway.sock";

fn run() -> io::Result<()> {
    sys::lock_down();
    let mut token = String::new();
    io::stdin().lock().read_line(&mut token)?;
    let token = token.trim_end().as_bytes().to_vec();
    if token.len() < 32 {
        let what = "the token on the standard input is missing";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
    }
    // One that was killed leaves its socket.
    match fs::remove_file(CONTROL) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    let control = Control::new(UnixListener::bind(CONTROL)?, token)?;
    let wire = Wire::new(UnixStream::connect(CARD)?)?;
    println!("ready");
    Gateway::new(wire, control)?.run()
}

fn main() {
    match run() {
        Ok(()) => (),
        // QEMU has ended with frames under way.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => (),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => (),
        Err(error) => {
            eprintln!("cryobox-gateway: {}", error);
            exit(1);
        }
    }
}
