use cryobox_agent::agent::{Agent, Transport};
use cryobox_agent::failure::{Context, Failure, Outcome};
use cryobox_agent::{boot, modprobe, root, sys};
use std::env;
use std::os::unix::net::UnixListener;
use std::process::exit;
use std::thread;
use std::time::Duration;

/// Long enough for the console to show why, before the kernel panics on a PID 1 that ends.
const LAST_WORDS: Duration = Duration::from_secs(2);

fn main() {
    let pid = unsafe { sys::getpid() };
    let args: Vec<String> = env::args().collect();
    let result = if pid == 1 && args.len() == 1 {
        serve_machine()
    } else if modprobe::is_asked(args.first().map(String::as_str)) {
        modprobe::load(&args[1..])
    } else {
        serve_socket()
    };
    if let Err(failure) = result {
        if pid == 1 {
            boot::log(&format!("cannot go on: {}", failure.message));
            thread::sleep(LAST_WORDS);
        } else {
            eprintln!("cryobox-agent: {}", failure.message);
        }
        exit(1);
    }
}

fn serve_machine() -> Outcome<()> {
    let port = boot::boot()?;
    boot::log("ready");
    let mut agent = Agent::new(Transport::Port, Some(port), true)?;
    agent.warm_up();
    agent.run_loop();
    Ok(())
}

/// `--listen PATH [--once]`: no mounts, no powers; everything else is the same.
fn serve_socket() -> Outcome<()> {
    let args: Vec<String> = env::args().skip(1).collect();
    let path = match args
        .iter()
        .position(|arg| arg == "--listen")
        .and_then(|at| args.get(at + 1))
    {
        Some(path) => path,
        None => {
            return Err(Failure::invalid(
                "usage: cryobox-agent --listen PATH [--once]",
            ))
        }
    };
    boot::open_standard_descriptors();
    unsafe { sys::prctl(sys::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let listener = UnixListener::bind(path).context(path)?;
    listener.set_nonblocking(true).context(path)?;
    let transport = Transport::Socket {
        listener: listener.into(),
        once: args.iter().any(|arg| arg == "--once"),
    };
    let mut agent = Agent::new(transport, None, false)?;
    agent.run = Some(root::new_run()?);
    agent.run_loop();
    Ok(())
}
