//! Executions: start, attach, signal, end (docs/PROTOCOL.md, section 6).

use crate::agent::{Agent, Child, Ticket, Timer, TimerKey};
use crate::capabilities;
use crate::cgroup::{self, Cgroup};
use crate::exec_setup::{check_name, environment, open_pipes, open_terminal, resolve_user};
use crate::exec_setup::{signal_number, terminal_size, Ends};
use crate::exec_words::{words, Words};
use crate::failure::{Args, Context, Failure, Outcome};
use crate::json::Value;
use crate::object;
use crate::spawn::{self, Plan};
use crate::streams::{Owner, SinkKind, Source};
use crate::sys;
use std::collections::BTreeMap;
use std::os::unix::io::AsRawFd;

/// Running ones, and ended ones whose background processes still hold their output.
const MOST_RUNNING: usize = 1024;
/// The execution of this name is the main command of a box: it is kept as long as the machine runs.
const MAIN: &str = "main";
const MOST_TIMEOUT_MS: i64 = 365 * 24 * 3600 * 1000;
/// Entries of one exec.list answer: they fit a header.
const LIST_PAGE: usize = 200;

pub struct Exec {
    pub name: String,
    pid: i32,
    command: Vec<u8>,
    stdin: Option<u64>,
    stdout: Option<u64>,
    stderr: Option<u64>,
    terminal: bool,
    pub attached: bool,
    cgroup: Option<Cgroup>,
    started_unix_ms: i64,
    started_ms: u64,
    /// Kills it when its time is over; absent once it has ended.
    timeout: Option<TimerKey>,
    timed_out: bool,
    ended: Option<Ended>,
}

#[derive(Clone, Copy)]
struct Ended {
    code: Option<i32>,
    signal: Option<i32>,
    duration_ms: u64,
    settled: bool,
}

impl Exec {
    /// The sources of its outputs.
    pub fn parts(&self) -> [Option<u64>; 2] {
        [self.stdout, self.stderr]
    }

    /// The source of its `stdout` or `stderr`.
    pub fn output(&self, name: &str) -> Option<u64> {
        if name == "stderr" {
            self.stderr
        } else {
            self.stdout
        }
    }

    fn to_value(&self, sources: &BTreeMap<u64, Source>) -> Value {
        let lost = |part: Option<u64>| {
            let source = part.and_then(|id| sources.get(&id));
            source.map_or(0, |source| source.lost)
        };
        let ended = self.ended.filter(|ended| ended.settled);
        object! {
            "exec" => self.name.as_str(),
            "pid" => self.pid,
            "command" => &self.command[..],
            "tty" => self.terminal,
            "state" => if ended.is_some() { "ended" } else { "running" },
            "attached" => self.attached,
            "startedAtUnixMs" => self.started_unix_ms,
            "code" => ended.and_then(|ended| ended.code),
            "signal" => ended.and_then(|ended| ended.signal),
            "timedOut" => self.timed_out,
            "durationMs" => ended.map(|ended| ended.duration_ms),
            "stdoutLost" => lost(self.stdout),
            "stderrLost" => lost(self.stderr),
        }
    }
}

impl Agent {
    pub fn exec_start(&mut self, args: &Args) -> Outcome<Value> {
        let ahead = self.take_words(args);
        let name = check_name(args.text("exec")?)?;
        if self.exec_names.contains_key(name) {
            return Err(Failure::new(
                "already_exists",
                format!("execution {:?} exists already", name),
            ));
        }
        if self.execs.len() - self.exec_finished.len() + self.drains.len() >= MOST_RUNNING {
            let message = format!("{} executions are running already, the limit", MOST_RUNNING);
            return Err(Failure::new("resource_exhausted", message));
        }
        let Words { argv, env } = words(args, &ahead)?;
        let spec = args.optional_text("user")?;
        let user = resolve_user(spec, self.is_init)?;
        let size = terminal_size(args)?;
        let env = environment(env, user.as_ref(), size.is_some());
        let streams = [
            args.stream("stdin")?,
            args.stream("stdout")?,
            args.stream("stderr")?,
        ];
        self.check_streams(&streams)?;
        let timeout = args.optional_int("timeoutMs", 1, MOST_TIMEOUT_MS)?;
        let dropped = capabilities::mask(&args.list("dropCapabilities")?)?;
        let added = capabilities::mask(&args.list("addCapabilities")?)?;
        let (stdio, ends) = match &size {
            Some(size) => open_terminal(size, user.as_ref())?,
            None => open_pipes(streams, user.as_ref())?,
        };
        let cgroup = match &mut self.cgroups {
            Some(cgroups) => Some(cgroups.create().context("creating a cgroup")?),
            None => None,
        };
        let plan = Plan {
            argv: &argv,
            env: &env,
            cwd: args.optional_bytes("cwd")?.unwrap_or(b"/"),
            user: user.as_ref(),
            stdio: [
                stdio[0].as_raw_fd(),
                stdio[1].as_raw_fd(),
                stdio[2].as_raw_fd(),
            ],
            terminal: size.is_some(),
            cgroup: cgroup.as_ref().map(|cgroup| &cgroup.directory),
            dropped,
            added,
            is_init: self.is_init,
        };
        let pid = match spawn::spawn(&plan) {
            Ok(pid) => pid,
            Err(failure) => {
                self.remove_cgroup(cgroup);
                return Err(failure);
            }
        };
        drop(stdio);
        let exec = Exec {
            name: name.to_string(),
            pid,
            command: argv.first().map(|word| word.to_vec()).unwrap_or_default(),
            stdin: None,
            stdout: None,
            stderr: None,
            terminal: size.is_some(),
            attached: true,
            cgroup,
            started_unix_ms: (sys::unix_ns() / 1_000_000) as i64,
            started_ms: sys::monotonic_ms(),
            timeout: None,
            timed_out: false,
            ended: None,
        };
        self.exec_started(exec, ends, streams, timeout)
    }

    fn exec_started(
        &mut self,
        mut exec: Exec,
        ends: Ends,
        streams: [Option<u32>; 3],
        timeout: Option<i64>,
    ) -> Outcome<Value> {
        let key = self.new_key();
        let owner = Owner::Exec(key);
        let pid = exec.pid;
        let kind = if exec.terminal {
            SinkKind::Terminal
        } else {
            SinkKind::Pipe
        };
        if let Some(fd) = ends.stdin {
            exec.stdin = Some(self.add_sink(fd, owner, kind).context("watching stdin")?);
        }
        if let Some(fd) = ends.stdout {
            exec.stdout = Some(
                self.add_source(fd, owner, exec.terminal)
                    .context("watching stdout")?,
            );
        }
        if let Some(fd) = ends.stderr {
            exec.stderr = Some(
                self.add_source(fd, owner, false)
                    .context("watching stderr")?,
            );
        }
        if let (Some(sink), Some(stream)) = (exec.stdin, streams[0]) {
            self.attach_sink(sink, stream);
        }
        for (source, stream) in [(exec.stdout, streams[1]), (exec.stderr, streams[2])] {
            if let (Some(source), Some(stream)) = (source, stream) {
                self.attach_source(source, stream, 0);
            }
        }
        if let Some(timeout) = timeout {
            exec.timeout = Some(self.after(timeout as u64, Timer::ExecTimeout(key)));
        }
        self.exec_names.insert(exec.name.clone(), key);
        self.children.insert(pid, Child::Exec(key));
        self.execs.insert(key, exec);
        Ok(object! { "pid" => pid })
    }

    fn exec_key(&self, args: &Args) -> Outcome<u64> {
        let name = args.text("exec")?;
        self.exec_names
            .get(name)
            .copied()
            .ok_or_else(|| Failure::new("not_found", format!("there is no execution {:?}", name)))
    }

    pub fn exec_of(&self, args: &Args) -> Outcome<(u64, &Exec)> {
        let key = self.exec_key(args)?;
        let exec = self.execs.get(&key);
        exec.map(|exec| (key, exec))
            .ok_or_else(|| Failure::new("internal", "a name without an execution"))
    }

    pub fn exec_attach(&mut self, ticket: Ticket, args: &Args) -> Option<Outcome<Value>> {
        match self.attach(args) {
            Ok((key, value)) => {
                // Answered first: data may follow in the same turn.
                self.reply(ticket, Ok(value));
                self.exec_check(key);
                None
            }
            Err(failure) => Some(Err(failure)),
        }
    }

    fn attach(&mut self, args: &Args) -> Outcome<(u64, Value)> {
        let streams = [
            args.stream("stdin")?,
            args.stream("stdout")?,
            args.stream("stderr")?,
        ];
        self.check_streams(&streams)?;
        let from = [
            args.optional_int("stdoutFrom", 0, i64::MAX)?.unwrap_or(0) as u64,
            args.optional_int("stderrFrom", 0, i64::MAX)?.unwrap_or(0) as u64,
        ];
        let (key, exec) = self.exec_of(args)?;
        if exec.attached {
            let message = format!(
                "execution {:?} is attached already; detach it first",
                exec.name
            );
            return Err(Failure::new("conflict", message));
        }
        let (pid, stdin, parts) = (exec.pid, exec.stdin, exec.parts());
        let state = exec.to_value(&self.sources);
        let mut at = [0; 2];
        for (index, part) in parts.iter().enumerate() {
            if let (Some(source), Some(stream)) = (part, streams[index + 1]) {
                at[index] = self.attach_source(*source, stream, from[index]);
            }
        }
        if let (Some(sink), Some(stream)) = (stdin, streams[0]) {
            self.attach_sink(sink, stream);
        }
        let accepted = stdin
            .and_then(|sink| self.sinks.get(&sink))
            .map_or(0, |sink| sink.accepted());
        if let Some(exec) = self.execs.get_mut(&key) {
            exec.attached = true;
        }
        let value = object! {
            "pid" => pid,
            "stdoutAt" => at[0],
            "stderrAt" => at[1],
            "stdoutDropped" => at[0].saturating_sub(from[0]),
            "stderrDropped" => at[1].saturating_sub(from[1]),
            "stdinAccepted" => accepted,
            "stdin" => stdin.is_some(),
            "stdout" => parts[0].is_some(),
            "stderr" => parts[1].is_some(),
            "state" => state.get("state").cloned().unwrap_or(Value::Null),
            "startedAtUnixMs" => state.get("startedAtUnixMs").cloned().unwrap_or(Value::Null),
            "tty" => state.get("tty").cloned().unwrap_or(Value::Null),
        };
        Ok((key, value))
    }

    pub fn exec_detach(&mut self, args: &Args) -> Outcome<Value> {
        let key = self.exec_key(args)?;
        self.detach(key);
        Ok(object! {})
    }

    fn detach(&mut self, key: u64) {
        let (stdin, parts) = match self.execs.get_mut(&key) {
            Some(exec) => {
                exec.attached = false;
                (exec.stdin, exec.parts())
            }
            None => return,
        };
        for source in parts.iter().flatten() {
            self.detach_source(*source);
        }
        if let Some(sink) = stdin {
            self.detach_sink(sink);
        }
    }

    /// After the connection is gone: nothing is attached any more.
    pub fn exec_detach_all(&mut self) {
        for exec in self.execs.values_mut() {
            exec.attached = false;
        }
    }

    pub fn exec_list(&self, args: &Args) -> Outcome<Value> {
        let after = args.optional_text("after")?.unwrap_or("");
        let mut names = self
            .exec_names
            .range::<str, _>((std::ops::Bound::Excluded(after), std::ops::Bound::Unbounded));
        let page: Vec<Value> = names
            .by_ref()
            .take(LIST_PAGE)
            .filter_map(|(_, key)| self.execs.get(key))
            .map(|exec| exec.to_value(&self.sources))
            .collect();
        let more = names.next().is_some();
        Ok(object! { "executions" => page, "more" => more })
    }

    pub fn exec_get(&self, args: &Args) -> Outcome<Value> {
        Ok(self.exec_of(args)?.1.to_value(&self.sources))
    }

    pub fn exec_signal(&mut self, args: &Args) -> Outcome<Value> {
        let signal = signal_number(args)?;
        let (_, exec) = self.exec_of(args)?;
        let pid = exec.pid;
        if exec.ended.is_some() {
            return Err(has_ended(exec));
        }
        let group = unsafe { sys::kill(-pid, signal) };
        let done = if group == 0 {
            0
        } else {
            unsafe { sys::kill(pid, signal) }
        };
        sys::check(done).context(format!("signal {} to process {}", signal, pid))?;
        Ok(object! {})
    }

    pub fn exec_kill(&mut self, args: &Args) -> Outcome<Value> {
        let (key, _) = self.exec_of(args)?;
        self.kill_all_of(key);
        Ok(object! {})
    }

    /// Kills every process of an execution, also those that outlived its first one.
    fn kill_all_of(&self, key: u64) {
        let exec = match self.execs.get(&key) {
            Some(exec) => exec,
            None => return,
        };
        let by_cgroup = exec
            .cgroup
            .as_ref()
            .map_or(false, |cgroup| cgroup::kill(&cgroup.directory));
        // After the end the number of its session may belong to somebody else.
        if !by_cgroup && exec.ended.is_none() {
            cgroup::kill_session(exec.pid);
        }
    }

    pub fn exec_resize(&mut self, args: &Args) -> Outcome<Value> {
        let size = sys::WinSize {
            rows: args.int("rows", 1, 65535)? as u16,
            cols: args.int("cols", 1, 65535)? as u16,
            x_pixels: 0,
            y_pixels: 0,
        };
        let (_, exec) = self.exec_of(args)?;
        if !exec.terminal {
            return Err(Failure::new(
                "invalid_state",
                "the execution has no terminal",
            ));
        }
        let master = exec
            .stdout
            .and_then(|source| self.source_fd(source))
            .ok_or_else(|| has_ended(exec))?;
        sys::check(unsafe { sys::ioctl(master.as_raw_fd(), sys::TIOCSWINSZ, &size) })
            .context("resizing")?;
        Ok(object! {})
    }

    pub fn exec_forget(&mut self, args: &Args) -> Outcome<Value> {
        let (key, exec) = self.exec_of(args)?;
        if exec.ended.map_or(true, |ended| !ended.settled) {
            let message = format!("execution {:?} is still running; kill it first", exec.name);
            return Err(Failure::new("invalid_state", message));
        }
        self.forget(key);
        Ok(object! {})
    }

    /// Removes what is left of an execution, its output as well.
    pub fn forget(&mut self, key: u64) {
        self.detach(key);
        self.drop_finished(key);
        if let Some(exec) = self.execs.remove(&key) {
            for source in exec.parts().iter().flatten() {
                self.remove_source(*source);
            }
            if let Some(sink) = exec.stdin {
                self.remove_sink(sink);
            }
            self.exec_names.remove(&exec.name);
            self.remove_cgroup(exec.cgroup);
        }
    }

    fn remove_cgroup(&self, cgroup: Option<Cgroup>) {
        if let (Some(cgroups), Some(cgroup)) = (&self.cgroups, cgroup) {
            // One with background processes stays.
            cgroups.remove(&cgroup.name);
        }
    }

    /// Removes the cgroups of executions that have settled: after the host was told, since it takes its time.
    pub fn remove_settled_cgroups(&mut self) {
        for key in std::mem::take(&mut self.settled) {
            let cgroup = self.execs.get_mut(&key).map(|exec| &mut exec.cgroup);
            if let (Some(cgroups), Some(cgroup)) = (&self.cgroups, cgroup) {
                // Whose cgroup is gone has no process left to be killed: its descriptor goes, too.
                if cgroup.as_ref().map_or(false, |it| cgroups.remove(&it.name)) {
                    *cgroup = None;
                }
            }
        }
    }

    pub fn exec_timeout(&mut self, key: u64) {
        match self.execs.get_mut(&key) {
            Some(exec) if exec.ended.is_none() => exec.timed_out = true,
            _ => return,
        }
        self.kill_all_of(key);
    }

    /// The first process has ended, with a status of waitpid(2).
    pub fn exec_reaped(&mut self, key: u64, status: i32) {
        let exec = match self.execs.get_mut(&key) {
            Some(exec) => exec,
            None => return,
        };
        let signal = status & 0x7f;
        exec.ended = Some(Ended {
            code: if signal == 0 {
                Some(status >> 8 & 0xff)
            } else {
                None
            },
            signal: if signal == 0 { None } else { Some(signal) },
            duration_ms: sys::monotonic_ms() - exec.started_ms,
            settled: false,
        });
        let (stdin, parts) = (exec.stdin.take(), exec.parts());
        if let Some(timeout) = exec.timeout.take() {
            self.cancel_timer(timeout);
        }
        if let Some(sink) = stdin {
            self.remove_sink(sink);
        }
        for source in parts.iter().flatten() {
            self.end_source(*source);
        }
        self.exec_check(key);
    }

    /// Settles an execution whose process has ended and whose output is all taken, and tells the host when it has
    /// got all of it.
    pub fn exec_check(&mut self, key: u64) {
        let exec = match self.execs.get(&key) {
            Some(exec) => exec,
            None => return,
        };
        let parts: Vec<u64> = exec.parts().iter().flatten().copied().collect();
        let ended = match exec.ended {
            Some(ended) => ended,
            None => return,
        };
        let sources = || parts.iter().filter_map(|id| self.sources.get(id));
        if !sources().all(|source| source.ended) {
            return;
        }
        let delivered = sources().all(|source| {
            source
                .outlet
                .as_ref()
                .map_or(true, |outlet| outlet.end_sent)
        });
        if !ended.settled {
            self.settle(key);
        }
        let attached = self.execs.get(&key).map_or(false, |exec| exec.attached);
        if attached && delivered {
            if let Some(event) = self.execs.get(&key).map(|exec| end_event("exit", exec)) {
                self.event_to_host(&event);
            }
            self.detach(key);
            self.bound_finished();
        }
    }

    fn settle(&mut self, key: u64) {
        match self
            .execs
            .get_mut(&key)
            .and_then(|exec| exec.ended.as_mut())
        {
            Some(ended) => ended.settled = true,
            None => return,
        }
        self.settled.push(key);
        if let Some(exec) = self.execs.get(&key).filter(|exec| exec.name == MAIN) {
            // Whether or not somebody is attached to it; before its `exit` if somebody is.
            let event = end_event("ended", exec);
            self.event_to_host(&event);
            return;
        }
        self.keep_finished(key);
    }
}

fn end_event(name: &str, exec: &Exec) -> Value {
    object! {
        "ev" => name,
        "exec" => exec.name.as_str(),
        "code" => exec.ended.and_then(|ended| ended.code),
        "signal" => exec.ended.and_then(|ended| ended.signal),
        "timedOut" => exec.timed_out,
        "startedAtUnixMs" => exec.started_unix_ms,
        "durationMs" => exec.ended.map(|ended| ended.duration_ms),
    }
}

fn has_ended(exec: &Exec) -> Failure {
    Failure::new(
        "invalid_state",
        format!("execution {:?} has ended", exec.name),
    )
}
