//! Arguments and variables too long for one header: they come ahead, in pieces, as exec.words.

use crate::agent::Agent;
use crate::exec_setup::check_name;
use crate::failure::{Args, Failure, Outcome};
use crate::json::Value;
use crate::object;

/// Of all commands whose start has not come: the kernel takes 2 MiB for one.
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// What a command is given.
pub struct Words<'a> {
    pub argv: Vec<&'a [u8]>,
    pub env: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Agent {
    /// A piece: strings, each with a NUL behind it. Kept until the start, or the end of the dialogue.
    pub fn exec_words(&mut self, args: &Args, payload: &[u8]) -> Outcome<Value> {
        let name = check_name(args.text("exec")?)?;
        let kept: usize = self.words.values().map(Vec::len).sum();
        if kept + payload.len() > MOST_BYTES {
            let message = format!(
                "over {} bytes of arguments wait for their start",
                MOST_BYTES
            );
            return Err(Failure::new("resource_exhausted", message));
        }
        let words = self.words.entry(name.to_string()).or_default();
        words.extend_from_slice(payload);
        Ok(object! {})
    }

    pub fn take_words(&mut self, args: &Args) -> Vec<u8> {
        args.text("exec")
            .ok()
            .and_then(|name| self.words.remove(name))
            .unwrap_or_default()
    }
}

/// From the request itself, or with `words`, the number of arguments, from what came ahead.
pub fn words<'a>(args: &Args<'a>, ahead: &'a [u8]) -> Outcome<Words<'a>> {
    let count = match args.optional_int("words", 1, i64::MAX)? {
        Some(count) => count as usize,
        None => {
            let argv = args.list("argv")?;
            return Ok(Words {
                argv,
                env: variables(args)?,
            });
        }
    };
    let whole = ahead
        .strip_suffix(&[0])
        .ok_or_else(|| Failure::invalid("exec.words did not end with a NUL"))?;
    let mut strings = whole.split(|byte| *byte == 0);
    let argv: Vec<&[u8]> = strings.by_ref().take(count).collect();
    if argv.len() != count {
        return Err(Failure::invalid(
            "exec.words holds fewer arguments than words",
        ));
    }
    let env = strings.map(variable).collect::<Outcome<_>>()?;
    Ok(Words { argv, env })
}

fn variable(text: &[u8]) -> Outcome<(Vec<u8>, Vec<u8>)> {
    match text.iter().position(|byte| *byte == b'=') {
        Some(at) if at > 0 => Ok((text[..at].to_vec(), text[at + 1..].to_vec())),
        _ => Err(Failure::invalid(
            "exec.words holds a variable without a name",
        )),
    }
}

fn variables(args: &Args) -> Outcome<Vec<(Vec<u8>, Vec<u8>)>> {
    let members = match args.0.get("env") {
        None => return Ok(Vec::new()),
        Some(Value::Obj(members)) => members,
        Some(_) => return Err(Failure::invalid("env is not an object")),
    };
    let mut env = Vec::with_capacity(members.len());
    for (name, value) in members {
        let value = value
            .as_bytes()
            .filter(|_| !name.is_empty() && !name.contains(&b'='))
            .ok_or_else(|| {
                Failure::invalid("env holds a name with = or a value that is no string")
            })?;
        env.push((name.clone(), value.to_vec()));
    }
    Ok(env)
}
