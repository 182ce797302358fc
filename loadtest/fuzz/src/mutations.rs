//! Simple seeded mutations of seeds, for tests without coverage.

/// Endless inputs made from seeds by flips, cuts, repeats and splices.
#[derive(Debug)]
pub struct Mutations<'a> {
    seeds: &'a [Vec<u8>],
    random: fastrand::Rng,
}

/// Bytes that are often special for parsers.
const SPECIAL_BYTES: [u8; 12] = [
    0, 1, 0x0a, 0x0d, b' ', b'"', b'%', b',', b'{', 0x7f, 0x80, 0xff,
];
/// Maximum length of an input in bytes.
const MAX_INPUT_BYTES: usize = 4 << 10;

impl<'a> Mutations<'a> {
    /// Mutations of `seeds`, which must not be empty.
    #[must_use]
    pub fn new(seeds: &'a [Vec<u8>], seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { seeds, random }
    }

    fn below(&mut self, below: usize) -> usize {
        self.random.usize(..below.max(1))
    }

    fn mutate(&mut self, bytes: &mut Vec<u8>) {
        let at = self.below(bytes.len());
        let end = (at + 1 + self.below(16)).min(bytes.len());
        match self.below(7) {
            0 if at < bytes.len() => bytes[at] ^= 1 << self.below(8),
            1 if at < bytes.len() => bytes[at] = SPECIAL_BYTES[self.below(SPECIAL_BYTES.len())],
            2 => bytes.insert(at, SPECIAL_BYTES[self.below(SPECIAL_BYTES.len())]),
            3 if at < bytes.len() => drop(bytes.drain(at..end)),
            4 if at < bytes.len() => {
                let again = bytes[at..end].to_vec();
                let times = self.below(40);
                (0..times).for_each(|_| drop(bytes.splice(at..at, again.iter().copied())));
            }
            5 => bytes.truncate(at),
            _ => {
                let other = &self.seeds[self.below(self.seeds.len())];
                let from = self.below(other.len());
                let tail = other[from..].to_vec();
                bytes.truncate(at);
                bytes.extend(tail);
            }
        }
        bytes.truncate(MAX_INPUT_BYTES);
    }
}

impl Iterator for Mutations<'_> {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let number = self.below(self.seeds.len());
        let mut bytes = self.seeds.get(number)?.clone();
        for _ in 0..=self.below(4) {
            self.mutate(&mut bytes);
        }
        Some(bytes)
    }
}
