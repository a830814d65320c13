//! What the guest may reach. The order: what no box reaches, then what is allowed, then what is denied, then the rest.

use crate::json::Value;
use crate::rate::Rates;
use crate::rules::{Rule, Target};
use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};

/// Most rules of a policy: both lists, and hosts of secrets.
pub const MAX_RULES: usize = 1024;
/// Addresses whose names are remembered; the oldest is forgotten first.
const MAX_PINS: usize = 4096;
/// Names of one address that are remembered.
const MAX_NAMES: usize = 64;

/// What is to happen with a connection to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Allow,
    /// Allowed for the names of this address: what the guest sends first has to say one of them.
    ByName,
    Refuse(&'static str),
}

/// Who may reach the private ranges (RFC 1918, RFC 6598).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Private {
    Allow,
    /// Those that an address of the list names.
    Listed,
    Deny,
}

#[derive(Clone, Debug)]
pub struct Policy {
    pub enabled: bool,
    allow: Vec<Rule>,
    deny: Vec<Rule>,
    /// Hosts of the box's secrets, each with its ports.
    intercept: Vec<Rule>,
    /// Whether what neither list names is reached.
    pub open: bool,
    private: Private,
    /// Who is asked for names; empty: those of the host.
    pub resolvers: Vec<SocketAddr>,
    /// Bytes a second that are sent and got; None: any.
    pub rates: [Option<u64>; 2],
}

impl Policy {
    /// Nothing is reached: until there is a policy.
    pub fn closed() -> Policy {
        Policy {
            enabled: false,
            allow: Vec::new(),
            deny: Vec::new(),
            intercept: Vec::new(),
            open: false,
            private: Private::Deny,
            resolvers: Vec::new(),
            rates: [None, None],
        }
    }

    /// `{mode, allow, deny, intercept, otherwise, private, resolvers, rates}`; the last of them, and `intercept`, may be absent.
    pub fn parse(value: &Value) -> Result<Policy, String> {
        let choice = |name: &str, choices: &[&str]| -> Result<usize, String> {
            let given = value.get(name).and_then(Value::as_bytes).unwrap_or(b"");
            choices
                .iter()
                .position(|choice| choice.as_bytes() == given)
                .ok_or_else(|| format!("{} should be one of {}", name, choices.join(", ")))
        };
        let rules = |name: &str| -> Result<Vec<Rule>, String> {
            texts(value, name)?
                .iter()
                .map(|text| Rule::parse(text))
                .collect()
        };
        let (allow, deny) = (rules("allow")?, rules("deny")?);
        if allow.len() + deny.len() > MAX_RULES {
            return Err(format!("at most {} rules", MAX_RULES));
        }
        if !deny.iter().all(Rule::is_address) {
            return Err("deny should hold addresses and ranges".to_string());
        }
        let intercept = match value.get("intercept") {
            Some(_) => rules("intercept")?,
            None => Vec::new(),
        };
        if intercept.len() > MAX_RULES || intercept.iter().any(Rule::is_address) {
            return Err(format!("intercept should be at most {} names", MAX_RULES));
        }
        let resolvers = texts(value, "resolvers")?
            .iter()
            .map(|text| {
                text.parse()
                    .map_err(|_| format!("{:?} is no resolver", text))
            })
            .collect::<Result<Vec<SocketAddr>, String>>()?;
        Ok(Policy {
            enabled: choice("mode", &["disabled", "enabled"])? == 1,
            allow,
            deny,
            intercept,
            open: choice("otherwise", &["refuse", "allow"])? == 1,
            private: [Private::Allow, Private::Listed, Private::Deny]
                [choice("private", &["allow", "listed", "deny"])?],
            resolvers,
            rates: Rates::parse(value)?,
        })
    }

    fn lists(&self, address: Ipv4Addr, port: u16) -> bool {
        self.allow
            .iter()
            .any(|rule| rule.takes_address(address) && rule.takes_port(port))
    }

    /// Whether a rule allows this name at this port; without a port, at any.
    pub fn allows_name(&self, name: &str, port: Option<u16>) -> bool {
        self.allow
            .iter()
            .any(|rule| rule.takes_name(name) && port.map_or(true, |port| rule.takes_port(port)))
    }

    /// Whether a port is one at which a secret may be used.
    pub fn intercepts_port(&self, port: u16) -> bool {
        self.intercept.iter().any(|rule| rule.takes_port(port))
    }

    /// Whether a name is a secret's host at this port.
    pub fn intercepts(&self, name: &str, port: u16) -> bool {
        self.intercept
            .iter()
            .any(|rule| rule.takes_port(port) && rule.takes_name(name))
    }

    /// The names that are listed whole.
    pub fn exact_names(&self) -> impl Iterator<Item = &str> {
        self.allow.iter().filter_map(|rule| match &rule.target {
            Target::Name(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// Whether answers for a name may hold this address: those that lead inside are left out.
    pub fn may_name(&self, address: Ipv4Addr, floor: &Floor) -> bool {
        let is_kept = is_private(address)
            && match self.private {
                Private::Allow => false,
                Private::Listed => !self.allow.iter().any(|rule| rule.takes_address(address)),
                Private::Deny => true,
            };
        !floor.holds(address) && !is_kept
    }

    /// The address rules alone; `ByName` when they leave it to the names.
    fn by_address(&self, address: Ipv4Addr, port: u16, floor: &Floor) -> Verdict {
        if !self.enabled {
            return Verdict::Refuse("disabled");
        }
        if floor.holds(address) {
            return Verdict::Refuse("floor");
        }
        let is_listed = self.lists(address, port);
        let is_kept = is_private(address)
            && match self.private {
                Private::Allow => false,
                Private::Listed => !is_listed,
                Private::Deny => true,
            };
        if is_kept {
            return Verdict::Refuse("floor");
        }
        if is_listed {
            return Verdict::Allow;
        }
        let is_denied = |rule: &Rule| rule.takes_address(address) && rule.takes_port(port);
        match (self.open, self.deny.iter().any(is_denied)) {
            (true, false) => Verdict::Allow,
            (true, true) => Verdict::Refuse("address"),
            (false, _) => Verdict::ByName,
        }
    }

    /// What is to happen with a TCP connection.
    pub fn tcp(&self, address: Ipv4Addr, port: u16, floor: &Floor, pins: &Pins) -> Verdict {
        match self.by_address(address, port, floor) {
            Verdict::ByName if !pins.any(address, |name| self.allows_name(name, Some(port))) => {
                Verdict::Refuse("address")
            }
            verdict => verdict,
        }
    }

    /// What is to happen with a datagram: a name in it cannot be seen, so no list of names allows one.
    pub fn udp(&self, address: Ipv4Addr, port: u16, floor: &Floor) -> Verdict {
        match self.by_address(address, port, floor) {
            Verdict::ByName => Verdict::Refuse("udp"),
            verdict => verdict,
        }
    }

    /// Whether a connection that was found to be for a name may go on.
    pub fn allows_named(&self, name: &str, address: Ipv4Addr, port: u16, pins: &Pins) -> bool {
        self.allows_name(name, Some(port)) && pins.any(address, |pinned| pinned == name)
    }
}

fn texts(value: &Value, name: &str) -> Result<Vec<String>, String> {
    let wrong = || format!("{} should be a list of texts", name);
    let items = value
        .get(name)
        .and_then(Value::as_array)
        .ok_or_else(wrong)?;
    items
        .iter()
        .map(|item| {
            let bytes = item.as_bytes().ok_or_else(wrong)?;
            String::from_utf8(bytes.to_vec()).map_err(|_| wrong())
        })
        .collect()
}

fn is_private(address: Ipv4Addr) -> bool {
    let [a, b, ..] = address.octets();
    address.is_private() || (a == 100 && b & 0xc0 == 64)
}

/// What no box reaches, whatever its lists say: this host, its links, and what is no single host.
#[derive(Clone, Debug, Default)]
pub struct Floor {
    /// Addresses of this host's interfaces.
    pub own: Vec<Ipv4Addr>,
}

impl Floor {
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        let [a, b, c, _] = address.octets();
        a == 0
            || address.is_loopback()
            || address.is_link_local()
            // Multicast, reserved, broadcast.
            || a >= 224
            // The network of the box itself.
            || (a, b, c) == (10, 0, 2)
            || self.own.contains(&address)
    }
}

/// Which names the guest was told for an address.
#[derive(Default)]
pub struct Pins {
    names: HashMap<Ipv4Addr, (u64, Vec<String>)>,
    clock: u64,
}

impl Pins {
    pub fn add(&mut self, address: Ipv4Addr, name: &str) {
        self.clock += 1;
        let clock = self.clock;
        let (used, names) = self.names.entry(address).or_default();
        *used = clock;
        if !names.iter().any(|known| known == name) {
            if names.len() == MAX_NAMES {
                names.remove(0);
            }
            names.push(name.to_string());
        }
        if self.names.len() > MAX_PINS {
            let oldest = self.names.iter().min_by_key(|(_, (used, _))| *used);
            if let Some(address) = oldest.map(|(address, _)| *address) {
                self.names.remove(&address);
            }
        }
    }

    pub fn any(&self, address: Ipv4Addr, test: impl Fn(&str) -> bool) -> bool {
        self.names
            .get(&address)
            .map_or(false, |(_, names)| names.iter().any(|name| test(name)))
    }

    /// The names of an address, for what is told of a refusal.
    pub fn names(&self, address: Ipv4Addr) -> Option<&str> {
        let (_, names) = self.names.get(&address)?;
        names.last().map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object;

    fn list(items: &[&str]) -> Value {
        Value::Arr(items.iter().map(|item| Value::from(*item)).collect())
    }

    fn policy(allow: &[&str], deny: &[&str], otherwise: &str, private: &str) -> Policy {
        let value = object! {
            "mode" => "enabled", "allow" => list(allow), "deny" => list(deny),
            "otherwise" => otherwise, "private" => private, "resolvers" => list(&[]),
        };
        Policy::parse(&value).unwrap()
    }

    const A: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
    const B: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 8);

    #[test]
    fn allows_by_the_names_that_were_told() {
        let policy = policy(&["a.test:443"], &[], "refuse", "deny");
        let (floor, mut pins) = (Floor::default(), Pins::default());
        assert_eq!(
            policy.tcp(A, 443, &floor, &pins),
            Verdict::Refuse("address")
        );
        pins.add(A, "a.test");
        pins.add(B, "b.test");
        assert_eq!(policy.tcp(A, 443, &floor, &pins), Verdict::ByName);
        assert_eq!(policy.tcp(A, 80, &floor, &pins), Verdict::Refuse("address"));
        assert_eq!(
            policy.tcp(B, 443, &floor, &pins),
            Verdict::Refuse("address")
        );
        assert_eq!(policy.udp(A, 443, &floor), Verdict::Refuse("udp"));
        assert!(policy.allows_named("a.test", A, 443, &pins));
        assert!(!policy.allows_named("a.test", B, 443, &pins));
        assert!(!policy.allows_named("b.test", B, 443, &pins));
    }

    #[test]
    fn puts_the_floor_before_all_lists() {
        let policy = policy(&["0.0.0.0/0"], &[], "allow", "allow");
        let own = Ipv4Addr::new(198, 51, 100, 3);
        let floor = Floor { own: vec![own] };
        for text in [
            "127.0.0.1",
            "169.254.169.254",
            "0.1.2.3",
            "224.0.0.1",
            "255.255.255.255",
            "10.0.2.2",
        ] {
            let address = text.parse().unwrap();
            assert_eq!(
                policy.tcp(address, 80, &floor, &Pins::default()),
                Verdict::Refuse("floor"),
                "{}",
                text
            );
        }
        assert_eq!(policy.udp(own, 53, &floor), Verdict::Refuse("floor"));
        assert_eq!(policy.tcp(A, 80, &floor, &Pins::default()), Verdict::Allow);
    }

    #[test]
    fn keeps_private_ranges_for_who_is_listed() {
        let private = Ipv4Addr::new(10, 9, 8, 7);
        let (floor, mut pins) = (Floor::default(), Pins::default());
        pins.add(private, "a.test");
        let asked = |allow: &[&str], otherwise: &str, setting: &str| {
            policy(allow, &[], otherwise, setting).tcp(private, 80, &floor, &pins)
        };
        assert_eq!(
            asked(&["a.test"], "refuse", "listed"),
            Verdict::Refuse("floor")
        );
        assert_eq!(asked(&["a.test"], "refuse", "allow"), Verdict::ByName);
        assert_eq!(asked(&["10.9.0.0/16"], "refuse", "listed"), Verdict::Allow);
        assert_eq!(
            asked(&["10.9.0.0/16"], "refuse", "deny"),
            Verdict::Refuse("floor")
        );
        assert_eq!(asked(&[], "allow", "listed"), Verdict::Refuse("floor"));
        assert_eq!(asked(&[], "allow", "allow"), Verdict::Allow);
    }

    #[test]
    fn denies_ranges_that_the_list_does_not_allow() {
        let policy = policy(&["203.0.113.7"], &["203.0.113.0/24"], "allow", "deny");
        let (floor, pins) = (Floor::default(), Pins::default());
        assert_eq!(policy.tcp(A, 80, &floor, &pins), Verdict::Allow);
        assert_eq!(policy.tcp(B, 80, &floor, &pins), Verdict::Refuse("address"));
        assert_eq!(
            policy.tcp(Ipv4Addr::new(203, 0, 114, 1), 80, &floor, &pins),
            Verdict::Allow
        );
    }

    #[test]
    fn bounds_what_it_remembers() {
        let mut pins = Pins::default();
        for number in 0..10_000u32 {
            pins.add(Ipv4Addr::from(number), "a.test");
            pins.add(A, &format!("x{}.test", number));
        }
        assert!(pins.names.len() <= MAX_PINS);
        assert_eq!(pins.names[&A].1.len(), MAX_NAMES);
    }
}
