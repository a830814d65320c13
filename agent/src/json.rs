//! JSON (RFC 8259) with limits, for frame headers. Strings are bytes: file names need not be UTF-8, so a byte that
//! is not part of valid UTF-8 travels as the lone surrogate U+DC80..U+DCFF and comes back as that byte.

use std::fmt;

/// Deepest nesting accepted; the protocol needs four.
pub const MAX_DEPTH: usize = 16;

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Vec<u8>),
    Arr(Vec<Value>),
    Obj(Vec<(Vec<u8>, Value)>),
}

#[derive(Debug, PartialEq, Eq)]
pub struct JsonError {
    pub at: usize,
    pub what: &'static str,
}

impl fmt::Display for JsonError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{} at byte {}", self.what, self.at)
    }
}

impl Value {
    /// The member of an object; None for other values, missing members and null.
    pub fn get(&self, key: &str) -> Option<&Value> {
        match self {
            Value::Obj(members) => members
                .iter()
                .find(|(name, _)| name == key.as_bytes())
                .map(|(_, value)| value)
                .filter(|value| **value != Value::Null),
            _ => None,
        }
    }

    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Str(bytes) => Some(bytes),
            _ => None,
        }
    }

    pub fn as_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) => Some(*number),
            _ => None,
        }
    }

    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Value::Bool(flag) => Some(*flag),
            _ => None,
        }
    }

    pub fn as_array(&self) -> Option<&[Value]> {
        match self {
            Value::Arr(items) => Some(items),
            _ => None,
        }
    }

    /// Appends the value as JSON text.
    pub fn write(&self, out: &mut Vec<u8>) {
        match self {
            Value::Null => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Int(number) => out.extend_from_slice(number.to_string().as_bytes()),
            Value::Float(number) if number.is_finite() => {
                out.extend_from_slice(number.to_string().as_bytes())
            }
            Value::Float(_) => out.extend_from_slice(b"null"),
            Value::Str(bytes) => write_string(bytes, out),
            Value::Arr(items) => {
                out.push(b'[');
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    item.write(out);
                }
                out.push(b']');
            }
            Value::Obj(members) => {
                out.push(b'{');
                for (index, (name, value)) in members.iter().enumerate() {
                    if index > 0 {
                        out.push(b',');
                    }
                    write_string(name, out);
                    out.push(b':');
                    value.write(out);
                }
                out.push(b'}');
            }
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Str(text.as_bytes().to_vec())
    }
}
impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Str(text.into_bytes())
    }
}
impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Value {
        Value::Str(bytes.to_vec())
    }
}
impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Bool(flag)
    }
}
impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::Int(number)
    }
}
impl From<i32> for Value {
    fn from(number: i32) -> Value {
        Value::Int(number as i64)
    }
}
impl From<u32> for Value {
    fn from(number: u32) -> Value {
        Value::Int(number as i64)
    }
}
/// Counters beyond 2^63 do not occur; they would read as the largest number.
impl From<u64> for Value {
    fn from(number: u64) -> Value {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Float(number)
    }
}
impl From<Vec<Value>> for Value {
    fn from(items: Vec<Value>) -> Value {
        Value::Arr(items)
    }
}
impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Null, Into::into)
    }
}

/// An object from `"name" => value` pairs.
#[macro_export]
macro_rules! object {
    ($($name:expr => $value:expr),* $(,)?) => {
        $crate::json::Value::Obj(vec![$(($name.as_bytes().to_vec(), $crate::json::Value::from($value))),*])
    };
}

fn write_string(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let mut rest = bytes;
    while !rest.is_empty() {
        let (valid, bad) = match std::str::from_utf8(rest) {
            Ok(_) => (rest.len(), 0),
            Err(error) => (
                error.valid_up_to(),
                error
                    .error_len()
                    .unwrap_or(rest.len() - error.valid_up_to()),
            ),
        };
        for &byte in &rest[..valid] {
            write_escaped(byte, out);
        }
        for &byte in &rest[valid..valid + bad] {
            out.extend_from_slice(format!("\\udc{:02x}", byte).as_bytes());
        }
        rest = &rest[valid + bad..];
    }
    out.push(b'"');
}

fn write_escaped(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'"' => out.extend_from_slice(b"\\\""),
        b'\\' => out.extend_from_slice(b"\\\\"),
        b'\n' => out.extend_from_slice(b"\\n"),
        0..=0x1f => out.extend_from_slice(format!("\\u{:04x}", byte).as_bytes()),
        _ => out.push(byte),
    }
}

/// Reads one JSON value that fills the whole input.
pub fn parse(input: &[u8]) -> Result<Value, JsonError> {
    let mut reader = Reader { input, at: 0 };
    let value = reader.value(0)?;
    reader.blank();
    if reader.at != input.len() {
        return Err(reader.error("text after the value"));
    }
    Ok(value)
}

struct Reader<'a> {
    input: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn error(&self, what: &'static str) -> JsonError {
        JsonError { at: self.at, what }
    }

    fn peek(&self) -> Option<u8> {
        self.input.get(self.at).copied()
    }

    fn blank(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn expect(&mut self, byte: u8, what: &'static str) -> Result<(), JsonError> {
        if self.peek() != Some(byte) {
            return Err(self.error(what));
        }
        self.at += 1;
        Ok(())
    }

    fn word(&mut self, word: &str, value: Value) -> Result<Value, JsonError> {
        if !self.input[self.at..].starts_with(word.as_bytes()) {
            return Err(self.error("an unknown word"));
        }
        self.at += word.len();
        Ok(value)
    }

    fn value(&mut self, depth: usize) -> Result<Value, JsonError> {
        if depth > MAX_DEPTH {
            return Err(self.error("nesting too deep"));
        }
        self.blank();
        match self.peek() {
            None => Err(self.error("the text ends too early")),
            Some(b'{') => self.object(depth),
            Some(b'[') => self.array(depth),
            Some(b'"') => Ok(Value::Str(self.string()?)),
            Some(b't') => self.word("true", Value::Bool(true)),
            Some(b'f') => self.word("false", Value::Bool(false)),
            Some(b'n') => self.word("null", Value::Null),
            Some(_) => self.number(),
        }
    }

    fn object(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut members = Vec::new();
        self.blank();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Obj(members));
        }
        loop {
            self.blank();
            if self.peek() != Some(b'"') {
                return Err(self.error("a member without a name"));
            }
            let name = self.string()?;
            self.blank();
            self.expect(b':', "a colon is missing")?;
            members.push((name, self.value(depth + 1)?));
            self.blank();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.expect(b'}', "an object that does not end")?;
            return Ok(Value::Obj(members));
        }
    }

    fn array(&mut self, depth: usize) -> Result<Value, JsonError> {
        self.at += 1;
        let mut items = Vec::new();
        self.blank();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::Arr(items));
        }
        loop {
            items.push(self.value(depth + 1)?);
            self.blank();
            if self.peek() == Some(b',') {
                self.at += 1;
                continue;
            }
            self.expect(b']', "an array that does not end")?;
            return Ok(Value::Arr(items));
        }
    }

    fn number(&mut self) -> Result<Value, JsonError> {
        let start = self.at;
        while matches!(
            self.peek(),
            Some(b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E')
        ) {
            self.at += 1;
        }
        let text = std::str::from_utf8(&self.input[start..self.at]).unwrap_or("");
        if text.is_empty() || text.starts_with('+') || text.starts_with('.') {
            return Err(self.error("not a value"));
        }
        if let Ok(number) = text.parse::<i64>() {
            return Ok(Value::Int(number));
        }
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() => Ok(Value::Float(number)),
            _ => Err(self.error("a number that is none")),
        }
    }

    fn string(&mut self) -> Result<Vec<u8>, JsonError> {
        self.at += 1;
        let mut out = Vec::new();
        loop {
            let start = self.at;
            while !matches!(self.peek(), None | Some(b'"' | b'\\' | 0..=0x1f)) {
                self.at += 1;
            }
            let plain = &self.input[start..self.at];
            if std::str::from_utf8(plain).is_err() {
                return Err(self.error("a string that is not UTF-8"));
            }
            out.extend_from_slice(plain);
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => self.escape(&mut out)?,
                _ => return Err(self.error("a string that does not end")),
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        self.at += 1;
        let byte = self
            .peek()
            .ok_or_else(|| self.error("a string that does not end"))?;
        self.at += 1;
        match byte {
            b'"' | b'\\' | b'/' => out.push(byte),
            b'b' => out.push(8),
            b'f' => out.push(12),
            b'n' => out.push(b'\n'),
            b'r' => out.push(b'\r'),
            b't' => out.push(b'\t'),
            b'u' => return self.unicode(out),
            _ => return Err(self.error("an unknown escape")),
        }
        Ok(())
    }

    fn unicode(&mut self, out: &mut Vec<u8>) -> Result<(), JsonError> {
        let unit = self.hex4()?;
        if (0xdc80..=0xdcff).contains(&unit) {
            out.push((unit - 0xdc00) as u8);
            return Ok(());
        }
        let mut code = unit as u32;
        if (0xd800..0xdc00).contains(&unit) && self.input[self.at..].starts_with(b"\\u") {
            self.at += 2;
            let low = self.hex4()?;
            if !(0xdc00..0xe000).contains(&low) {
                return Err(self.error("half of a surrogate pair"));
            }
            code = 0x10000 + ((unit as u32 - 0xd800) << 10) + (low as u32 - 0xdc00);
        }
        let letter = char::from_u32(code).ok_or_else(|| self.error("half of a surrogate pair"))?;
        let mut utf8 = [0; 4];
        out.extend_from_slice(letter.encode_utf8(&mut utf8).as_bytes());
        Ok(())
    }

    fn hex4(&mut self) -> Result<u16, JsonError> {
        let digits = self.input.get(self.at..self.at + 4);
        let text = digits.and_then(|digits| std::str::from_utf8(digits).ok());
        let unit = text
            .filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))
            .and_then(|text| u16::from_str_radix(text, 16).ok())
            .ok_or_else(|| self.error("an escape without four hex digits"))?;
        self.at += 4;
        Ok(unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_back() {
        let text = br#"{"a":[1,-2,3.5,true,null],"b":"x\"\\\n\u00e9\ud83d\ude00"}"#;
        let value = parse(text).unwrap();
        assert_eq!(parse(&value.to_bytes()).unwrap(), value);
        let word = value.get("b").unwrap().as_bytes().unwrap();
        assert_eq!(word, "x\"\\\n\u{e9}\u{1f600}".as_bytes());
    }

    #[test]
    fn carries_bytes_that_are_not_utf8() {
        let name = Value::Str(vec![b'a', 0xff, 0xc3, 0xa9, 0x80]);
        let text = name.to_bytes();
        assert_eq!(text, b"\"a\\udcff\xc3\xa9\\udc80\"");
        assert_eq!(parse(&text).unwrap(), name);
    }

    #[test]
    fn refuses_what_is_not_json() {
        for text in [
            "",
            "{",
            "[1",
            "{\"a\"}",
            "{a:1}",
            "\"\\x\"",
            "\"\n\"",
            "1 2",
            "tru",
            "+1",
            "\"\\ud800\"",
            "1e999",
        ] {
            assert!(parse(text.as_bytes()).is_err(), "{}", text);
        }
        assert!(parse("[".repeat(1000).as_bytes()).is_err());
        assert!(parse(b"\"\xff\"").is_err());
    }
}
