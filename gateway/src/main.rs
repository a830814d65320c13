//! `cryobox-gateway`: run in a machine's directory, with the token of its control socket as a line on its standard input.
//! Ends with 0 when the machine has ended, else with 1 and a line on its standard error.

use cryobox_gateway::control::Control;
use cryobox_gateway::gateway::Gateway;
use cryobox_gateway::sys;
use cryobox_gateway::wire::Wire;
use std::fs;
use std::io::{self, BufRead};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::exit;
use std::thread;
use std::time::{Duration, Instant};

/// Where QEMU listens for the other end of its card.
const CARD: &str = "net.sock";
const CONTROL: &str = "gateway.sock";
/// QEMU makes that socket in a thread of its own, and tells nobody when it listens: it may be asked before.
const CARD_TIMEOUT: Duration = Duration::from_secs(10);
const CARD_RETRY: Duration = Duration::from_millis(2);

/// Whether the card may listen later: the machine's directory is there, with the socket that was made in it.
fn is_early(error: &io::Error) -> bool {
    let refused = matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused
    );
    refused && Path::new(CONTROL).exists()
}

fn connect_card() -> io::Result<UnixStream> {
    let end = Instant::now() + CARD_TIMEOUT;
    loop {
        match UnixStream::connect(CARD) {
            Err(error) if is_early(&error) && Instant::now() < end => thread::sleep(CARD_RETRY),
            connected => return connected,
        }
    }
}

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
    let wire = Wire::new(connect_card()?)?;
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
