//! Timers of what has ended are gone. A program of its own: the agent gets SIGCHLD on the thread it runs on, which must be
//! the first of its process.

use cryobox_agent::agent::{Agent, Transport};
use cryobox_agent::failure::Args;
use cryobox_agent::json::Value;
use cryobox_agent::object;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

const COMMANDS: usize = 20;
const YEAR_MS: i64 = 365 * 24 * 3600 * 1000;
const LIMIT: Duration = Duration::from_secs(30);

fn main() {
    let path = env::temp_dir().join(format!("cryobox-timers-{}.sock", process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    listener.set_nonblocking(true).unwrap();
    let transport = Transport::Socket {
        listener: listener.into(),
        once: true,
    };
    let mut agent = Agent::new(transport, None, false).unwrap();
    let before = agent.timer_count();
    let pids: Vec<i64> = (0..COMMANDS).map(|i| start(&mut agent, i)).collect();
    assert_eq!(agent.timer_count(), before + COMMANDS);
    let client = UnixStream::connect(&path).unwrap();
    // The loop ends when the connection does, and that is when all commands have been reaped.
    let waiter = thread::spawn(move || {
        let started = Instant::now();
        while pids
            .iter()
            .any(|pid| Path::new(&format!("/proc/{}", pid)).exists())
        {
            assert!(started.elapsed() < LIMIT, "a command does not end");
            thread::sleep(Duration::from_millis(5));
        }
        drop(client);
    });
    agent.run_loop();
    waiter.join().unwrap();
    fs::remove_file(&path).unwrap();
    // One for the oldest of those that are kept for a while, and one for the host that may come back.
    let left = agent.timer_count() - before;
    assert!(left <= 2, "{} timers are left", left);
    println!("test timers of ended commands are gone ... ok");
}

fn start(agent: &mut Agent, i: usize) -> i64 {
    let request = object! {
        "exec" => format!("command-{}", i),
        "argv" => Value::Arr(vec![Value::from("/bin/true")]),
        "timeoutMs" => YEAR_MS,
    };
    let answer = agent.exec_start(&Args(&request)).expect("it starts");
    answer.get("pid").and_then(Value::as_int).unwrap()
}
