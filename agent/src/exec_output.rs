//! What is kept of the output of an execution, for who is not attached to it (docs/PROTOCOL.md, section 6).

use crate::agent::{Agent, Ticket};
use crate::failure::{Args, Failure, Outcome};
use crate::json::Value;
use crate::object;
use std::io::Write;

impl Agent {
    /// Answered when all of it was sent.
    pub fn exec_output(&mut self, ticket: Ticket, args: &Args) -> Outcome<Option<Outcome<Value>>> {
        let output = args.text("output")?;
        if output != "stdout" && output != "stderr" {
            let message = format!("output is {:?}, expected stdout or stderr", output);
            return Err(Failure::invalid(message));
        }
        let source = self.exec_of(args)?.1.output(output);
        let ring = source
            .and_then(|source| self.sources.get(&source))
            .map(|source| &source.ring);
        let (at, kept) = ring.map_or((0, Vec::new()), |ring| {
            let (first, second) = ring.slices(ring.base(), ring.len());
            (ring.base(), [first, second].concat())
        });
        self.source_job(ticket, args, move |mut out| {
            // A reader that has gone wants nothing more.
            let _ = out.write_all(&kept);
            Ok(object! { "at" => at, "bytes" => kept.len() as u64 })
        })
    }
}
