//! What was refused, and how much went through.

use crate::json::Value;
use crate::object;
use crate::rules::normal_name;
use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::{SystemTime, UNIX_EPOCH};

/// Different refusals that are kept; the same one again is counted.
const KEPT: usize = 256;
/// Why the process that puts secrets in refuses.
const ELSEWHERE: [&str; 3] = ["secret_host", "host", "certificate"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denial {
    /// Grows with every change, so that a reader can ask for what is new.
    seq: u64,
    /// Milliseconds since 1970.
    at: u64,
    reason: &'static str,
    protocol: &'static str,
    name: Option<String>,
    address: Option<Ipv4Addr>,
    port: u16,
    count: u64,
}

impl Denial {
    fn to_json(&self) -> Value {
        object! {
            "seq" => self.seq,
            "at" => self.at,
            "reason" => self.reason,
            "protocol" => self.protocol,
            "name" => self.name.clone(),
            "address" => self.address.map(|address| address.to_string()),
            "port" => u32::from(self.port),
            "count" => self.count,
        }
    }
}

/// What was refused, without when and how often.
pub struct Refused {
    pub reason: &'static str,
    pub protocol: &'static str,
    pub name: Option<String>,
    pub address: Option<Ipv4Addr>,
    /// 0: none.
    pub port: u16,
}

#[derive(Default)]
pub struct Told {
    kept: VecDeque<Denial>,
    seq: u64,
    by_reason: BTreeMap<&'static str, u64>,
    /// Bytes that the guest's connections and flows sent out, and got.
    pub sent: u64,
    pub received: u64,
    pub opened: u64,
    pub failed: u64,
    pub flows: u64,
    pub questions: u64,
    pub retransmits: u64,
}

impl Told {
    pub fn refused(&mut self, refused: Refused) {
        *self.by_reason.entry(refused.reason).or_default() += 1;
        self.seq += 1;
        let at = SystemTime::now().duration_since(UNIX_EPOCH);
        let at = at.map_or(0, |since| since.as_millis() as u64);
        let same = self.kept.iter().position(|known| {
            (known.reason, known.protocol, known.address, known.port)
                == (
                    refused.reason,
                    refused.protocol,
                    refused.address,
                    refused.port,
                )
                && known.name == refused.name
        });
        let mut denial = match same.and_then(|index| self.kept.remove(index)) {
            Some(known) => known,
            None => Denial {
                seq: 0,
                at: 0,
                reason: refused.reason,
                protocol: refused.protocol,
                name: refused.name,
                address: refused.address,
                port: refused.port,
                count: 0,
            },
        };
        denial.seq = self.seq;
        denial.at = at;
        denial.count += 1;
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(denial);
    }

    /// Notes what the process that puts secrets in has refused.
    pub fn refused_elsewhere(&mut self, request: &Value) -> Result<Value, String> {
        let text = |name: &str| request.get(name).and_then(Value::as_bytes).unwrap_or(b"");
        let reason = ELSEWHERE
            .iter()
            .find(|reason| reason.as_bytes() == text("reason"));
        let port = request.get("port").and_then(Value::as_int).unwrap_or(0);
        self.refused(Refused {
            reason: reason.ok_or("there is no such reason")?,
            protocol: "tcp",
            name: normal_name(text("name")),
            address: None,
            port: u16::try_from(port).map_err(|_| "there is no such port")?,
        });
        Ok(object! {})
    }

    /// Counters, and the refusals after a number, oldest first.
    pub fn to_json(&self, after: u64, open: usize) -> Value {
        let reasons = self.by_reason.iter().map(|(reason, count)| {
            let count = Value::from(*count);
            (reason.as_bytes().to_vec(), count)
        });
        let new = self.kept.iter().filter(|denial| denial.seq > after);
        object! {
            "sent" => self.sent,
            "received" => self.received,
            "opened" => self.opened,
            "open" => open as u64,
            "failed" => self.failed,
            "flows" => self.flows,
            "questions" => self.questions,
            "retransmits" => self.retransmits,
            "refused" => Value::Obj(reasons.collect()),
            "denials" => new.map(Denial::to_json).collect::<Vec<Value>>(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(port: u16) -> Refused {
        Refused {
            reason: "address",
            protocol: "tcp",
            name: None,
            address: Some(Ipv4Addr::LOCALHOST),
            port,
        }
    }

    #[test]
    fn counts_the_same_once() {
        let mut told = Told::default();
        for port in [1, 2, 1] {
            told.refused(refused(port));
        }
        let shown = told.to_json(0, 0);
        let kept = shown.get("denials").unwrap().as_array().unwrap();
        let ports: Vec<_> = kept
            .iter()
            .map(|denial| {
                (
                    denial.get("port").unwrap().as_int(),
                    denial.get("count").unwrap().as_int(),
                )
            })
            .collect();
        assert_eq!(ports, [(Some(2), Some(1)), (Some(1), Some(2))]);
        let new = told.to_json(2, 0);
        assert_eq!(new.get("denials").unwrap().as_array().unwrap().len(), 1);
        for port in 0..1000 {
            told.refused(refused(port));
        }
        assert_eq!(told.kept.len(), KEPT);
    }
}
