//! Random bytes for the property tests: xorshift from a fixed seed.

pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    pub fn byte(&mut self) -> u8 {
        self.next().to_le_bytes()[3]
    }

    /// Mostly pieces of what the parsers look for, sometimes any byte.
    pub fn text(&mut self, pieces: &[&str]) -> Vec<u8> {
        let mut out = Vec::new();
        for _ in 0..self.below(12) {
            match self.below(4) {
                0 => out.push(self.byte()),
                _ => out.extend_from_slice(pieces[self.below(pieces.len() as u64) as usize].as_bytes()),
            }
        }
        out
    }
}
