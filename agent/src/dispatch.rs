//! Requests by name (docs/PROTOCOL.md, section 4).

use crate::agent::{Agent, Ticket, PROTOCOL};
use crate::cancel::Cancel;
use crate::failure::{Args, Context, Failure, Outcome};
use crate::file_write::{self, WriteOptions};
use crate::files;
use crate::frame::Frame;
use crate::identity;
use crate::json::Value;
use crate::net;
use crate::object;
use crate::rehearsal::Rehearsal;
use crate::sock_diag;
use crate::streams::{Owner, SinkKind};
use crate::sys;
use crate::tar_pack::{self, PackOptions};
use crate::tar_unpack::{self, UnpackOptions};
use crate::watch;
use std::fs::File;

/// Set by the build: names the sources it was built from.
pub const BUILD: &str = match option_env!("CRYOBOX_AGENT_BUILD") {
    Some(build) => build,
    None => "unnamed",
};

/// Ready now, or answered later.
type Answer = Option<Outcome<Value>>;

impl Agent {
    pub fn dispatch(&mut self, ticket: Ticket, frame: &Frame) -> Answer {
        let op = match frame.header.get("op").and_then(Value::as_bytes) {
            Some(op) => String::from_utf8_lossy(op).into_owned(),
            None => return Some(Err(Failure::invalid("a request without op"))),
        };
        let args = Args(&frame.header);
        let greeted = self
            .connection
            .as_ref()
            .map_or(false, |connection| connection.greeted);
        if op != "hello" && !greeted {
            return Some(Err(Failure::new(
                "agent_mismatch",
                "the first request must be hello",
            )));
        }
        match op.split_once('.') {
            Some(("exec", verb)) => self.dispatch_exec(ticket, verb, &args, &frame.payload),
            Some(("fs", verb)) => self
                .dispatch_files(ticket, verb, &args)
                .unwrap_or_else(failed),
            Some(("tar", verb)) => self
                .dispatch_tar(ticket, verb, &args)
                .unwrap_or_else(failed),
            Some(("sys", verb)) => self.dispatch_system(ticket, verb, &args, &frame.payload),
            Some(("net", verb)) => self.dispatch_net(ticket, verb, &args),
            Some(("root", "mount")) => self.root_mount(ticket, &args),
            Some(("root", "rehearse")) => Some(self.root_rehearse(&args)),
            Some(("root", "leave")) => Some(self.root_leave(&args)),
            Some(("root", "forget")) => Some(self.root_forget(&args)),
            Some(("volume", "mount")) => self.volume_mount(ticket, &args).unwrap_or_else(failed),
            Some(("identity", "renew")) => self.identity_renew(ticket, &args, &frame.payload),
            _ if op == "hello" => Some(self.hello(&args)),
            _ if op == "cancel" => Some(self.cancel(ticket, &args)),
            _ => Some(Err(unknown(&op))),
        }
    }

    fn hello(&mut self, args: &Args) -> Outcome<Value> {
        let wanted = args.int("protocol", 0, i64::MAX)?;
        if wanted != PROTOCOL {
            let message = format!(
                "the agent speaks protocol {}, the engine {}",
                PROTOCOL, wanted
            );
            return Err(Failure::new("agent_mismatch", message));
        }
        if let Some(connection) = self.connection.as_mut() {
            connection.greeted = true;
        }
        self.hold_longer();
        let state = if self.run.is_some() {
            "ready"
        } else {
            "waiting"
        };
        Ok(object! {
            "protocol" => PROTOCOL,
            "agentVersion" => env!("CARGO_PKG_VERSION"),
            "build" => BUILD,
            "state" => state,
            "run" => self.run.clone(),
        })
    }

    /// The host waits no longer for an earlier request. What is done already stays done.
    fn cancel(&mut self, ticket: Ticket, args: &Args) -> Outcome<Value> {
        let request = self.ticket_of(ticket, args.int("request", 0, i64::MAX)?);
        self.cancel_request(request);
        self.cancel_dial(request);
        Ok(object! {})
    }

    fn dispatch_exec(&mut self, ticket: Ticket, verb: &str, args: &Args, payload: &[u8]) -> Answer {
        Some(match verb {
            "start" if self.run.is_none() && self.rehearsal != Rehearsal::Mounted => Err(
                Failure::new("invalid_state", "exec.start: no root is mounted yet"),
            ),
            "words" => self.exec_words(args, payload),
            "start" => self.exec_start(args),
            "attach" => return self.exec_attach(ticket, args),
            "detach" => self.exec_detach(args),
            "list" => self.exec_list(args),
            "get" => self.exec_get(args),
            "output" => return self.exec_output(ticket, args).unwrap_or_else(failed),
            "signal" => self.exec_signal(args),
            "kill" => self.exec_kill(args),
            "resize" => self.exec_resize(args),
            "forget" => self.exec_forget(args),
            _ => Err(unknown(verb)),
        })
    }

    fn dispatch_files(&mut self, ticket: Ticket, verb: &str, args: &Args) -> Outcome<Answer> {
        if !matches!(verb, "stat" | "list" | "read" | "readlink" | "watch") {
            self.check_thawed()?;
        }
        let path = files::path_of(args, "path")?;
        Ok(match verb {
            "stat" => {
                let follow = args.flag("follow")?;
                self.short_job(ticket, move || files::stat(&path, follow))
            }
            "list" => self.source_job(ticket, args, move |out| files::list(&path, out))?,
            "read" => {
                let offset = args.optional_int("offset", 0, i64::MAX)?.unwrap_or(0) as u64;
                let length = args
                    .optional_int("length", 0, i64::MAX)?
                    .map(|length| length as u64);
                self.source_job(ticket, args, move |out| {
                    files::read(&path, offset, length, out)
                })?
            }
            "watch" => {
                let recursive = args.flag("recursive")?;
                let (source, out) = self.stream_source(args)?;
                self.watch_job(ticket, source, move |cancel| {
                    watch::watch(&path, recursive, out, cancel)
                })
            }
            "write" => {
                let options = WriteOptions::read(args)?;
                self.sink_job(ticket, args, move |input, cancel| {
                    file_write::write(&options, input, cancel)
                })?
            }
            "mkdir" => {
                let (recursive, mode) = (args.flag("recursive")?, files::mode_of(args)?);
                self.short_job(ticket, move || {
                    files::make_directory(&path, recursive, mode)
                })
            }
            "remove" => {
                let (recursive, force) = (args.flag("recursive")?, args.flag("force")?);
                self.short_job(ticket, move || files::remove(&path, recursive, force))
            }
            "rename" => {
                let to = files::path_of(args, "to")?;
                let overwrite = args.flag("overwrite")?;
                self.short_job(ticket, move || files::rename(&path, &to, overwrite))
            }
            "chmod" => {
                let mode = args.int("mode", 0, 0o7777)? as u32;
                self.short_job(ticket, move || files::change_mode(&path, mode))
            }
            "chown" => {
                let (uid, gid) = (files::id_of(args, "uid")?, files::id_of(args, "gid")?);
                let follow = args.flag("follow")?;
                self.short_job(ticket, move || files::change_owner(&path, uid, gid, follow))
            }
            "symlink" => {
                let target = args.bytes("target")?.to_vec();
                self.short_job(ticket, move || files::make_symlink(&target, &path))
            }
            "readlink" => self.short_job(ticket, move || files::read_symlink(&path)),
            _ => return Err(unknown(verb)),
        })
    }

    fn dispatch_tar(&mut self, ticket: Ticket, verb: &str, args: &Args) -> Outcome<Answer> {
        let path = files::path_of(args, "path")?;
        match verb {
            "pack" => {
                let options = PackOptions {
                    path,
                    follow: args.flag("followSymlinks")?,
                    include_parent: args.flag("includeParent")?,
                };
                self.source_job(ticket, args, move |out| tar_pack::pack(&options, out))
            }
            "unpack" => {
                self.check_thawed()?;
                let options = UnpackOptions {
                    path,
                    overwrite: args
                        .0
                        .get("overwrite")
                        .and_then(Value::as_bool)
                        .unwrap_or(true),
                    rename_single: args.flag("renameSingle")?,
                    keep_owner: args.flag("keepOwner")?,
                };
                self.sink_job(ticket, args, move |input, cancel| {
                    tar_unpack::unpack(&options, input, cancel)
                })
            }
            _ => Err(unknown(verb)),
        }
    }

    /// A long job that writes to a stream. The stream ends when the job has succeeded, and is reset when it failed.
    pub fn source_job(
        &mut self,
        ticket: Ticket,
        args: &Args,
        work: impl FnOnce(File) -> Outcome<Value> + Send + 'static,
    ) -> Outcome<Answer> {
        let (source, out) = self.stream_source(args)?;
        let work = move |_: &Cancel| work(out);
        Ok(self.long_job(ticket, Some(source), None, work))
    }

    /// The stream a request names, and where a job writes to it; its end waits for the job.
    fn stream_source(&mut self, args: &Args) -> Outcome<(u64, File)> {
        let stream = args
            .stream("stream")?
            .ok_or_else(|| Failure::invalid("stream is missing"))?;
        self.check_streams(&[Some(stream)])?;
        let (reader, writer) = sys::pipe().context("pipe")?;
        let source = self
            .add_source(reader, Owner::Connection, false)
            .context("epoll_ctl")?;
        if let Some(source) = self.sources.get_mut(&source) {
            source.hold_end = true;
        }
        self.attach_source(source, stream, 0);
        Ok((source, writer.into()))
    }

    /// A long job that reads from a stream. It is cancelled when the stream is cut off.
    fn sink_job(
        &mut self,
        ticket: Ticket,
        args: &Args,
        work: impl FnOnce(File, &Cancel) -> Outcome<Value> + Send + 'static,
    ) -> Outcome<Answer> {
        let stream = args
            .stream("stream")?
            .ok_or_else(|| Failure::invalid("stream is missing"))?;
        self.check_streams(&[Some(stream)])?;
        let (reader, writer) = sys::pipe().context("pipe")?;
        let sink = self
            .add_sink(writer, Owner::Connection, SinkKind::Pipe)
            .context("epoll_ctl")?;
        self.attach_sink(sink, stream);
        let work = move |cancel: &Cancel| work(reader.into(), cancel);
        Ok(self.long_job(ticket, None, Some(sink), work))
    }

    fn dispatch_system(
        &mut self,
        ticket: Ticket,
        verb: &str,
        args: &Args,
        payload: &[u8],
    ) -> Answer {
        Some(match verb {
            "ping" => Ok(object! { "echo" => args.0.get("echo").cloned().unwrap_or(Value::Null) }),
            "freeze" => return self.sys_freeze(ticket, args).unwrap_or_else(failed),
            "thaw" => self.sys_thaw(),
            "sync" => {
                return self.job_apart(ticket, || {
                    unsafe { sys::sync() };
                    Ok(object! {})
                })
            }
            "metrics" => self.sys_metrics(),
            "clock" => identity::set_clock(args)
                .map(|()| object! { "timeUnixNs" => sys::unix_ns().to_string() }),
            "reseed" => identity::reseed(payload).map(|()| object! {}),
            "poweroff" => self.sys_power_off(args),
            "dropCaches" => std::fs::write("/proc/sys/vm/drop_caches", "3")
                .context("drop_caches")
                .map(|()| object! {}),
            _ => Err(unknown(verb)),
        })
    }

    fn dispatch_net(&mut self, ticket: Ticket, verb: &str, args: &Args) -> Answer {
        match verb {
            "dial" => match self.net_dial(ticket, args) {
                Ok(()) => None,
                Err(failure) => Some(Err(failure)),
            },
            "configure" if !self.is_init => Some(Err(Failure::new(
                "unsupported",
                "net.configure: the agent is not PID 1 of a machine",
            ))),
            "configure" => Some(self.check_thawed().and_then(|()| net::configure(args))),
            "resetConnections" if !self.is_init => Some(Err(Failure::new(
                "unsupported",
                "net.resetConnections: not PID 1 of a machine",
            ))),
            "resetConnections" => Some(sock_diag::reset_connections()),
            _ => Some(Err(unknown(verb))),
        }
    }
}

fn failed(failure: Failure) -> Answer {
    Some(Err(failure))
}

fn unknown(op: &str) -> Failure {
    Failure::new(
        "unsupported",
        format!("the agent knows no operation {:?}", op),
    )
}
