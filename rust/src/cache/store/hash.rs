//! Two hashes: one that a stranger cannot aim (keys of requests), one that finds damage (records on disk). Pure.

/// Secret of the hash of request keys: whoever does not know it cannot fill one bucket with chosen keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Secret(pub u64, pub u64);

struct Sip {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl Sip {
    #[inline]
    fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
    }

    #[inline]
    fn take(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.v0 ^= word;
    }
}

impl Secret {
    /// SipHash-1-3 of `bytes` (Aumasson and Bernstein 2012, with the rounds of the standard library's maps; its own
    /// cannot be given a secret that outlives the process, which the disk tier needs).
    #[inline]
    pub fn hash(self, bytes: &[u8]) -> u64 {
        let mut sip = Sip {
            v0: self.0 ^ 0x736f_6d65_7073_6575,
            v1: self.1 ^ 0x646f_7261_6e64_6f6d,
            v2: self.0 ^ 0x6c79_6765_6e65_7261,
            v3: self.1 ^ 0x7465_6462_7974_6573,
        };
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            sip.take(little_endian(word));
        }
        sip.take(little_endian(words.remainder()) | (bytes.len() as u64) << 56);
        sip.v2 ^= 0xff;
        for _ in 0..3 {
            sip.round();
        }
        sip.v0 ^ sip.v1 ^ sip.v2 ^ sip.v3
    }
}

/// Up to eight bytes as a number.
#[inline]
fn little_endian(bytes: &[u8]) -> u64 {
    match bytes.try_into() {
        Ok(eight) => u64::from_le_bytes(eight),
        Err(_) => bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    }
}

const PRIMES: [u64; 5] = [
    0x9e37_79b1_85eb_ca87,
    0xc2b2_ae3d_27d4_eb4f,
    0x1656_67b1_9e37_79f9,
    0x85eb_ca77_c2b2_ae63,
    0x27d4_eb2f_1656_67c5,
];

#[inline]
fn xx_round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIMES[1])).rotate_left(31).wrapping_mul(PRIMES[0])
}

/// XXH64 (xxhash.com, specification 0.1.1): not a secret, but any damage by accident is found but for one in 2^64.
pub fn checksum(bytes: &[u8], seed: u64) -> u64 {
    let mut stripes = bytes.chunks_exact(32);
    let mut sum = if bytes.len() < 32 {
        seed.wrapping_add(PRIMES[4])
    } else {
        let mut lanes = [
            seed.wrapping_add(PRIMES[0]).wrapping_add(PRIMES[1]),
            seed.wrapping_add(PRIMES[1]),
            seed,
            seed.wrapping_sub(PRIMES[0]),
        ];
        for stripe in &mut stripes {
            for (lane, word) in lanes.iter_mut().zip(stripe.chunks_exact(8)) {
                *lane = xx_round(*lane, little_endian(word));
            }
        }
        lanes.iter().fold(joined(&lanes), |sum, lane| {
            (sum ^ xx_round(0, *lane)).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3])
        })
    };
    sum = sum.wrapping_add(bytes.len() as u64);
    finished(tail(sum, stripes.remainder()))
}

fn joined(lanes: &[u64; 4]) -> u64 {
    lanes
        .iter()
        .zip([1, 7, 12, 18])
        .fold(0, |sum: u64, (lane, turn)| sum.wrapping_add(lane.rotate_left(turn)))
}

fn tail(mut sum: u64, rest: &[u8]) -> u64 {
    let mut words = rest.chunks_exact(8);
    for word in &mut words {
        sum ^= xx_round(0, little_endian(word));
        sum = sum.rotate_left(27).wrapping_mul(PRIMES[0]).wrapping_add(PRIMES[3]);
    }
    let mut bytes = words.remainder();
    if let Some((four, rest)) = bytes.split_at_checked(4) {
        sum ^= little_endian(four).wrapping_mul(PRIMES[0]);
        sum = sum.rotate_left(23).wrapping_mul(PRIMES[1]).wrapping_add(PRIMES[2]);
        bytes = rest;
    }
    for byte in bytes {
        sum = (sum ^ u64::from(*byte).wrapping_mul(PRIMES[4])).rotate_left(11).wrapping_mul(PRIMES[0]);
    }
    sum
}

fn finished(mut sum: u64) -> u64 {
    sum = (sum ^ (sum >> 33)).wrapping_mul(PRIMES[1]);
    sum = (sum ^ (sum >> 29)).wrapping_mul(PRIMES[2]);
    sum ^ (sum >> 32)
}

/// One number of two, well mixed (the finaliser of SplitMix64).
#[inline]
pub fn mixed(first: u64, second: u64) -> u64 {
    let mut sum = first.wrapping_add(second.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    sum = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    sum = (sum ^ (sum >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    sum ^ (sum >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::Hasher;

    #[test]
    fn sip_hash_is_the_standard_librarys_for_the_same_secret() {
        let bytes: Vec<u8> = (0..100).collect();
        for length in 0..bytes.len() {
            let mut theirs = std::hash::DefaultHasher::new();
            theirs.write(&bytes[..length]);
            assert_eq!(Secret(0, 0).hash(&bytes[..length]), theirs.finish(), "{length} bytes");
        }
        assert_ne!(Secret(0, 1).hash(b"key"), Secret(0, 0).hash(b"key"));
    }

    #[test]
    fn checksum_is_xxh64() {
        // Vectors of the reference implementation's own self test and of its specification.
        assert_eq!(checksum(b"", 0), 0xef46_db37_51d8_e999);
        assert_eq!(checksum(b"a", 0), 0xd24e_c4f1_a98c_6e5b);
        assert_eq!(checksum(b"abc", 0), 0x44bc_2cf5_ad77_0999);
        assert_eq!(checksum(b"Nobody inspects the spammish repetition", 0), 0xfbce_a83c_8a37_8bf1);
    }

    #[test]
    fn any_changed_bit_changes_the_checksum() {
        let mut bytes: Vec<u8> = (0..77).collect();
        let sum = checksum(&bytes, 7);
        for bit in 0..bytes.len() * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(checksum(&bytes, 7), sum, "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
