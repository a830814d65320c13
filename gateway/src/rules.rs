//! What a policy names: hosts, `*.suffix`, addresses and ranges, each with or without ports. The engine has checked and
//! normalised them; what is none of these is refused here all the same.

use std::net::Ipv4Addr;

/// Longest name (RFC 1035, section 2.3.4).
pub const MAX_NAME: usize = 253;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every name.
    AnyName,
    Name(String),
    /// Names that end with this, which begins with a dot.
    Suffix(String),
    Range {
        network: u32,
        mask: u32,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    pub target: Target,
    /// First and last port.
    pub ports: (u16, u16),
}

impl Rule {
    pub fn parse(text: &str) -> Result<Rule, String> {
        let wrong = || format!("{:?} is no rule", text);
        let (host, ports) = match text.split_once(':') {
            Some((host, ports)) => (host, parse_ports(ports).ok_or_else(wrong)?),
            None => (text, (0, 65_535)),
        };
        let target = parse_target(host).ok_or_else(wrong)?;
        Ok(Rule { target, ports })
    }

    pub fn is_address(&self) -> bool {
        matches!(self.target, Target::Range { .. })
    }

    pub fn takes_port(&self, port: u16) -> bool {
        self.ports.0 <= port && port <= self.ports.1
    }

    pub fn takes_address(&self, address: Ipv4Addr) -> bool {
        match self.target {
            Target::Range { network, mask } => u32::from(address) & mask == network,
            _ => false,
        }
    }

    /// `name` is in lower case and without a dot at its end.
    pub fn takes_name(&self, name: &str) -> bool {
        match &self.target {
            Target::AnyName => true,
            Target::Name(wanted) => wanted == name,
            Target::Suffix(end) => name.len() > end.len() && name.ends_with(end.as_str()),
            Target::Range { .. } => false,
        }
    }
}

fn parse_ports(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (0 < first && first <= last).then_some((first, last))
}

fn parse_target(text: &str) -> Option<Target> {
    if text == "*" {
        return Some(Target::AnyName);
    }
    if let Some(range) = parse_range(text) {
        return Some(range);
    }
    match text.strip_prefix("*.") {
        Some(rest) => is_name(rest).then(|| Target::Suffix(format!(".{}", rest))),
        None => is_name(text).then(|| Target::Name(text.to_string())),
    }
}

fn parse_range(text: &str) -> Option<Target> {
    let (address, bits) = text.split_once('/').unwrap_or((text, "32"));
    let address: Ipv4Addr = address.parse().ok()?;
    let bits: u32 = bits.parse().ok().filter(|bits| *bits <= 32)?;
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    let network = u32::from(address);
    (network & !mask == 0).then_some(Target::Range { network, mask })
}

/// Whether this is a host name as rules, questions and certificates hold it: lower case, and no address.
pub fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
    };
    let is_numeric = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    text.len() <= MAX_NAME
        && text.split('.').all(is_label)
        && !text.rsplit('.').next().map_or(true, is_numeric)
}

/// A name as rules hold it, of one that a guest gave; None for what is no name.
pub fn normal_name(text: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(text).ok()?.to_ascii_lowercase();
    let name = text.strip_suffix('.').unwrap_or(&text);
    is_name(name).then(|| name.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Rule {
        Rule::parse(text).unwrap()
    }

    #[test]
    fn reads_rules() {
        assert!(rule("api.example.com").takes_name("api.example.com"));
        assert!(!rule("api.example.com").takes_name("x.api.example.com"));
        assert!(rule("*.example.com").takes_name("a.b.example.com"));
        assert!(!rule("*.example.com").takes_name("example.com"));
        assert!(!rule("*.example.com").takes_name("badexample.com"));
        assert!(rule("*").takes_name("anything.at.all"));
        assert!(rule("a.test:443").takes_port(443));
        assert!(!rule("a.test:443").takes_port(80));
        assert!(rule("a.test:8000-8010").takes_port(8010));
        assert!(rule("192.0.2.0/24").takes_address(Ipv4Addr::new(192, 0, 2, 200)));
        assert!(!rule("192.0.2.0/24").takes_address(Ipv4Addr::new(192, 0, 3, 0)));
        assert!(rule("0.0.0.0/0").takes_address(Ipv4Addr::new(8, 8, 8, 8)));
        assert!(!rule("*").takes_address(Ipv4Addr::new(8, 8, 8, 8)));
    }

    #[test]
    fn refuses_what_is_none() {
        for text in [
            "",
            "*.",
            "*.*",
            "a.*.b",
            "**",
            "a..b",
            ".a",
            "a.test:0",
            "a.test:",
            "a.test:9-1",
            "a.test:70000",
            "1.2.3.4/33",
            "1.2.3.4/8",
            "01.2.3.4",
            "1.2.3",
            "http://a.test",
            "a.test/x",
            "A.test",
            "a b",
            "256.1.1.1",
        ] {
            assert!(Rule::parse(text).is_err(), "{}", text);
        }
    }
}
