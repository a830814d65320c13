//! Bytes that wait: added at the end, taken from the front.

/// A queue of bytes whose content is always one slice.
#[derive(Default)]
pub struct Queue {
    bytes: Vec<u8>,
    start: usize,
}

impl Queue {
    pub fn len(&self) -> usize {
        self.bytes.len() - self.start
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[self.start..]
    }

    pub fn push(&mut self, bytes: &[u8]) {
        // Moving what is left costs no more than what was taken before.
        if self.start > 0 && self.start >= self.len() {
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(bytes);
    }

    /// Takes bytes off the front; at most as many as there are.
    pub fn consume(&mut self, count: usize) {
        self.start += count.min(self.len());
        if self.is_empty() {
            self.bytes.clear();
            self.start = 0;
            // A burst does not keep its memory for ever.
            self.bytes.shrink_to(64 * 1024);
        }
    }

    /// The first message, which has its length in two bytes in front (RFC 1035, section 4.2.2), once it is whole.
    pub fn take_message(&mut self) -> Option<Vec<u8>> {
        let bytes = self.as_slice();
        let head = bytes.get(..2)?;
        let length = usize::from(u16::from_be_bytes([head[0], head[1]]));
        let message = bytes.get(2..2 + length)?.to_vec();
        self.consume(2 + length);
        Some(message)
    }

    /// All that is there.
    pub fn take(&mut self) -> Vec<u8> {
        let taken = self.as_slice().to_vec();
        self.consume(taken.len());
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_order() {
        let mut queue = Queue::default();
        let mut expected = 0u8;
        for round in 0..200u8 {
            queue.push(&[round, round.wrapping_add(100)]);
            if round % 3 != 0 {
                assert_eq!(queue.as_slice()[0], expected);
                queue.consume(2);
                expected += 1;
            }
        }
        let rest: Vec<u8> = (expected..200)
            .flat_map(|round| [round, round.wrapping_add(100)])
            .collect();
        assert_eq!(queue.take(), rest);
        assert!(queue.is_empty());
    }
}
