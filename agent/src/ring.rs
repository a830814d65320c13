//! A byte buffer that knows the stream offsets of what it holds and grows only when needed.

const SMALLEST: usize = 4096;

/// Holds the bytes from offset `base` to offset `end` of a stream.
#[derive(Default)]
pub struct Ring {
    data: Vec<u8>,
    /// Index in `data` of the byte at `base`.
    head: usize,
    base: u64,
    len: usize,
}

impl Ring {
    pub fn base(&self) -> u64 {
        self.base
    }

    pub fn end(&self) -> u64 {
        self.base + self.len as u64
    }

    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory it takes.
    pub fn capacity(&self) -> usize {
        self.data.len()
    }

    /// Appends, growing as needed; the caller keeps it within its limit by `drop_until`.
    pub fn push(&mut self, bytes: &[u8]) {
        self.reserve(self.len + bytes.len());
        let tail = (self.head + self.len) % self.data.len().max(1);
        let first = bytes.len().min(self.data.len() - tail);
        self.data[tail..tail + first].copy_from_slice(&bytes[..first]);
        self.data[..bytes.len() - first].copy_from_slice(&bytes[first..]);
        self.len += bytes.len();
    }

    fn reserve(&mut self, needed: usize) {
        if needed > self.data.len() {
            self.resize(needed.max(SMALLEST).next_power_of_two());
        }
    }

    fn resize(&mut self, capacity: usize) {
        let mut data = Vec::with_capacity(capacity);
        let (first, second) = self.slices(self.base, self.len);
        data.extend_from_slice(first);
        data.extend_from_slice(second);
        data.resize(capacity, 0);
        self.data = data;
        self.head = 0;
    }

    /// Forgets what lies before `offset`.
    pub fn drop_until(&mut self, offset: u64) {
        let count = (offset.saturating_sub(self.base) as usize).min(self.len);
        self.base += count as u64;
        self.len -= count;
        self.head = if self.len == 0 {
            0
        } else {
            (self.head + count) % self.data.len()
        };
    }

    /// Gives back memory that is not needed for what it holds now.
    pub fn shrink(&mut self) {
        if self.len == 0 {
            self.data = Vec::new();
            self.head = 0;
        } else if self.len.next_power_of_two().max(SMALLEST) < self.data.len() {
            self.resize(self.len);
        }
    }

    /// Up to `count` bytes from `offset` on, in two parts; nothing where it holds nothing.
    pub fn slices(&self, offset: u64, count: usize) -> (&[u8], &[u8]) {
        if offset < self.base || offset >= self.end() {
            return (&[], &[]);
        }
        let skip = (offset - self.base) as usize;
        let count = count.min(self.len - skip);
        let start = (self.head + skip) % self.data.len();
        let first = count.min(self.data.len() - start);
        (
            &self.data[start..start + first],
            &self.data[..count - first],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn behaves_like_a_plain_vector() {
        let mut ring = Ring::default();
        let mut all: Vec<u8> = Vec::new();
        let mut seed = 1u64;
        for round in 0..5000 {
            seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1);
            let count = (seed >> 33) as usize % 3000;
            let piece: Vec<u8> = (0..count).map(|i| (i * 7 + round) as u8).collect();
            ring.push(&piece);
            all.extend_from_slice(&piece);
            let floor = all.len().saturating_sub(8000) as u64;
            ring.drop_until(floor);
            if round % 97 == 0 {
                ring.shrink();
            }
            assert_eq!(ring.end(), all.len() as u64);
            let (a, b) = ring.slices(ring.base(), usize::MAX);
            assert_eq!([a, b].concat(), &all[ring.base() as usize..]);
            assert!(ring.capacity() <= 16384);
        }
    }
}
