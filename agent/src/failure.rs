//! Why an operation failed, in the words of the engine's error catalogue.

use crate::json::Value;
use crate::object;
use crate::sys;
use std::io;

#[derive(Clone, Debug)]
pub struct Failure {
    /// A code of the catalogue (src/errors.ts).
    pub code: &'static str,
    /// What failed, what was expected, what was got.
    pub message: String,
    /// What to do, where the catalogue's words would be of something else.
    pub hint: Option<&'static str>,
}

pub type Outcome<T> = Result<T, Failure>;

impl Failure {
    pub fn new(code: &'static str, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
            hint: None,
        }
    }

    pub fn hint(mut self, hint: &'static str) -> Failure {
        self.hint = Some(hint);
        self
    }

    pub fn invalid(message: impl Into<String>) -> Failure {
        Failure::new("invalid_argument", message)
    }

    /// A failed system call, with what was being done.
    pub fn io(what: impl std::fmt::Display, error: &io::Error) -> Failure {
        let code = match error.raw_os_error() {
            Some(sys::ENOENT) => "not_found",
            Some(sys::EEXIST) => "already_exists",
            Some(sys::EACCES) | Some(sys::EPERM) => "permission_denied",
            Some(sys::ENOTDIR) | Some(sys::EISDIR) | Some(sys::ELOOP) => "invalid_argument",
            Some(sys::EINVAL) | Some(sys::ENAMETOOLONG) | Some(sys::EXDEV) => "invalid_argument",
            Some(sys::ENOTEMPTY) | Some(sys::EROFS) | Some(sys::EBUSY) => "invalid_state",
            // A running program, a lease, a pipe whose reader has gone: it may be different the next time.
            Some(sys::ETXTBSY) | Some(sys::EAGAIN) | Some(sys::EPIPE) => "invalid_state",
            Some(sys::ENOSPC) | Some(sys::EDQUOT) => "disk_full",
            Some(sys::ENOTSUP) | Some(sys::ENXIO) | Some(sys::ENODEV) => "unsupported",
            _ => "storage_error",
        };
        Failure {
            hint: kernel_hint(code),
            ..Failure::new(code, format!("{}: {}", what, error))
        }
    }

    pub fn to_value(&self) -> Value {
        object! { "code" => self.code, "message" => bounded(&self.message), "hint" => self.hint }
    }
}

/// Longest message that goes to the host: what was asked for is in it, and every byte of it may take six in JSON.
const MAX_MESSAGE_BYTES: usize = 4096;

/// A message cut in the middle where it is too long for the header of a frame: both of its ends say something.
fn bounded(message: &str) -> String {
    if message.len() <= MAX_MESSAGE_BYTES {
        return message.to_string();
    }
    let half = MAX_MESSAGE_BYTES / 2;
    let start = (0..=half).rev().find(|&at| message.is_char_boundary(at));
    let end = (message.len() - half..=message.len()).find(|&at| message.is_char_boundary(at));
    format!(
        "{}...{}",
        &message[..start.unwrap_or(0)],
        &message[end.unwrap_or(message.len())..]
    )
}

/// The catalogue speaks of the host and its keys; these come from the kernel of the guest.
fn kernel_hint(code: &str) -> Option<&'static str> {
    Some(match code {
        "permission_denied" => {
            "The guest's kernel refused it: look at owner, mode and attributes in the box."
        }
        "disk_full" => "Free space in the box, or make one with a larger disk.",
        "storage_error" => "The guest's kernel reported it: see dmesg in the box.",
        "unsupported" => "What is at this path cannot do that: look at its type with stat.",
        "invalid_state" => "Look in the box for what stands in the way, and try again.",
        _ => return None,
    })
}

/// Adds what was being done to a failed system call.
pub trait Context<T> {
    fn context(self, what: impl std::fmt::Display) -> Outcome<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, what: impl std::fmt::Display) -> Outcome<T> {
        self.map_err(|error| Failure::io(what, &error))
    }
}

/// Reads members of a request, naming the one that is wrong.
pub struct Args<'a>(pub &'a Value);

impl<'a> Args<'a> {
    pub fn bytes(&self, name: &str) -> Outcome<&'a [u8]> {
        self.optional_bytes(name)?
            .ok_or_else(|| Failure::invalid(format!("{} is missing, expected a string", name)))
    }

    pub fn optional_bytes(&self, name: &str) -> Outcome<Option<&'a [u8]>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Str(bytes)) if bytes.contains(&0) => {
                Err(Failure::invalid(format!("{} holds a NUL byte", name)))
            }
            Some(Value::Str(bytes)) => Ok(Some(bytes)),
            Some(_) => Err(Failure::invalid(format!("{} is not a string", name))),
        }
    }

    pub fn text(&self, name: &str) -> Outcome<&'a str> {
        self.optional_text(name)?
            .ok_or_else(|| Failure::invalid(format!("{} is missing, expected a string", name)))
    }

    pub fn optional_text(&self, name: &str) -> Outcome<Option<&'a str>> {
        self.optional_bytes(name)?
            .map(|bytes| {
                std::str::from_utf8(bytes)
                    .map_err(|_| Failure::invalid(format!("{} is not UTF-8", name)))
            })
            .transpose()
    }

    pub fn optional_int(&self, name: &str, least: i64, most: i64) -> Outcome<Option<i64>> {
        match self.0.get(name) {
            None => Ok(None),
            Some(Value::Int(number)) if (least..=most).contains(number) => Ok(Some(*number)),
            Some(_) => Err(Failure::invalid(format!(
                "{} is not a whole number from {} to {}",
                name, least, most
            ))),
        }
    }

    pub fn int(&self, name: &str, least: i64, most: i64) -> Outcome<i64> {
        self.optional_int(name, least, most)?.ok_or_else(|| {
            Failure::invalid(format!("{} is missing, expected a whole number", name))
        })
    }

    pub fn flag(&self, name: &str) -> Outcome<bool> {
        match self.0.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Failure::invalid(format!("{} is not true or false", name))),
        }
    }

    /// A list of strings; empty when absent.
    pub fn list(&self, name: &str) -> Outcome<Vec<&'a [u8]>> {
        let items = match self.0.get(name) {
            None => return Ok(Vec::new()),
            Some(Value::Arr(items)) => items,
            Some(_) => return Err(Failure::invalid(format!("{} is not a list", name))),
        };
        items
            .iter()
            .map(|item| {
                item.as_bytes()
                    .filter(|bytes| !bytes.contains(&0))
                    .ok_or_else(|| {
                        Failure::invalid(format!("{} holds something that is no string", name))
                    })
            })
            .collect()
    }

    /// A stream id; 0 or absent means none.
    pub fn stream(&self, name: &str) -> Outcome<Option<u32>> {
        let id = self.optional_int(name, 0, u32::MAX as i64)?.unwrap_or(0);
        Ok(Some(id as u32).filter(|id| *id != 0))
    }
}
