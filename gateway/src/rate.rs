//! How many bytes a second a box may send and get: what goes beyond waits, and so do the connections that it is of. And
//! how often it may do what costs.

use crate::json::Value;

/// What may come at once after a pause: as much as in this time, but at least a datagram.
const BURST_MS: u64 = 100;
const MIN_BURST: u64 = 64 * 1024;
/// The smallest and the largest limit: a slower box would look broken, and a faster one needs none.
const RANGE: std::ops::RangeInclusive<u64> = 1_024..=1_000_000_000_000;

/// How often something may happen.
pub struct Tokens {
    a_second: u64,
    burst: u64,
    left: u64,
    filled_at: u64,
}

impl Tokens {
    pub fn new(a_second: u64, burst: u64) -> Tokens {
        Tokens {
            a_second,
            burst,
            left: burst,
            filled_at: 0,
        }
    }

    /// Whether it may happen now.
    pub fn take(&mut self, now: u64) -> bool {
        let fresh = now.saturating_sub(self.filled_at) * self.a_second / 1000;
        if fresh > 0 {
            self.left = (self.left + fresh).min(self.burst);
            self.filled_at = now;
        }
        let has_one = self.left > 0;
        self.left -= u64::from(has_one);
        has_one
    }
}

/// One direction.
#[derive(Default)]
pub struct Rate {
    /// Bytes a second; None: as many as go.
    limit: Option<u64>,
    /// Thousandths of bytes that may go now; below nothing after a datagram that was larger.
    credit: i64,
    filled_at: u64,
}

impl Rate {
    /// What is under way keeps what it has used.
    fn set(&mut self, limit: Option<u64>, now: u64) {
        self.fill(now);
        if self.limit.is_none() {
            self.credit = 0;
        }
        self.limit = limit;
        self.filled_at = now;
    }

    fn fill(&mut self, now: u64) {
        if let Some(limit) = self.limit {
            let fresh = limit.saturating_mul(now.saturating_sub(self.filled_at));
            let most = (limit * BURST_MS / 1000).max(MIN_BURST) * 1000;
            self.credit = self.credit.saturating_add(fresh as i64).min(most as i64);
            self.filled_at = now;
        }
    }

    /// Bytes that may go now.
    pub fn room(&mut self, now: u64) -> usize {
        self.fill(now);
        match self.limit {
            None => usize::MAX,
            Some(_) => (self.credit / 1000).max(0) as usize,
        }
    }

    pub fn take(&mut self, count: usize) {
        if self.limit.is_some() {
            self.credit = self.credit.saturating_sub(1000 * count as i64);
        }
    }

    /// When something may go again; None: now.
    fn due(&self) -> Option<u64> {
        let limit = self.limit? as i64;
        // Not for every byte.
        let wanted = 1000 * limit.min(1024 * 16) / 4 - self.credit;
        (self.credit < 1000).then(|| self.filled_at + (wanted / limit) as u64 + 1)
    }
}

/// Both directions, seen from the box.
#[derive(Default)]
pub struct Rates {
    pub sent: Rate,
    pub received: Rate,
}

impl Rates {
    /// `{send, receive}` of a policy; what is absent or null is not limited.
    pub fn parse(policy: &Value) -> Result<[Option<u64>; 2], String> {
        let limit = |name: &str| -> Result<Option<u64>, String> {
            match policy.get("rates").and_then(|rates| rates.get(name)) {
                None | Some(Value::Null) => Ok(None),
                Some(value) => value
                    .as_int()
                    .and_then(|limit| u64::try_from(limit).ok())
                    .filter(|limit| RANGE.contains(limit))
                    .map(Some)
                    .ok_or_else(|| format!("rates.{} should be bytes a second", name)),
            }
        };
        Ok([limit("send")?, limit("receive")?])
    }

    pub fn set(&mut self, [sent, received]: [Option<u64>; 2], now: u64) {
        self.sent.set(sent, now);
        self.received.set(received, now);
    }

    /// When one of them that is used up has something again.
    pub fn due(&self) -> Option<u64> {
        [self.sent.due(), self.received.due()]
            .into_iter()
            .flatten()
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lets_go_as_much_as_is_allowed() {
        for limit in [1_024, 10_000, 1_000_000, 1_000_000_000_000] {
            let mut rate = Rate::default();
            assert_eq!(rate.room(0), usize::MAX);
            rate.set(Some(limit), 0);
            let (mut now, mut sent) = (0, 0);
            while now < 60_000 {
                let count = rate.room(now).min(1 << 32);
                rate.take(count);
                sent += count as u64;
                now = match rate.due() {
                    Some(due) => {
                        assert!(due > now, "{}", limit);
                        due
                    }
                    None => now + 1,
                };
            }
            let (least, most) = (limit * 59, limit * 61 + MIN_BURST);
            let capped = (1u64 << 32) * 1000 < least;
            assert!(
                sent <= most && (sent >= least || capped),
                "{} {}",
                limit,
                sent
            );
        }
    }

    #[test]
    fn waits_for_what_was_too_much_and_forgets_a_limit() {
        let mut rate = Rate::default();
        rate.set(Some(1_024), 1_000);
        rate.take(10 * 1_024);
        assert_eq!(rate.room(9_000), 0);
        assert!(rate.room(12_000) > 0);
        rate.set(None, 12_000);
        assert_eq!(rate.room(12_000), usize::MAX);
        assert_eq!(rate.due(), None);
        // A pause of a year gives no more than a burst.
        rate.set(Some(1_024), 13_000);
        assert_eq!(rate.room(31_536_000_000) as u64, MIN_BURST);
    }
}
