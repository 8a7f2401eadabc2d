//! Which provider a client gets, so that shares hold and a client seldom moves. Pure.
//!
//! Weighted rendezvous hashing (Thaler and Ravishankar 1998; weights by -ln(u)/w, as in Schindelhauer and
//! Schomaker 2005): every provider draws a number from (client, service, provider) and the smallest wins. When
//! shares change, only clients whose smallest number changes owner move: moving x % of the shares moves about x %
//! of the clients, and nobody moves between two providers whose shares did not change.

use std::net::IpAddr;

/// All of something, in basis points (`model/units.py`).
pub const FULL_BP: u32 = 10_000;

/// Bits of an address that tell one client network from another: a /24 and a /56 are what one site gets.
pub const V4_BITS: u8 = 24;
pub const V6_BITS: u8 = 56;

#[derive(Clone, Debug, PartialEq)]
struct Part {
    upstream: u16,
    share_bp: u32,
    seed: u64,
}

/// The shares of one region, ready to be drawn from; those of zero are left out, at least one is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Shares {
    first: Part,
    rest: Vec<Part>,
}

impl Shares {
    /// From (index of the upstream, its name, its share); None when no share is above zero.
    pub fn new<'a>(service: &str, parts: impl Iterator<Item = (u16, &'a str, u32)>) -> Option<Self> {
        let mut parts = parts.filter(|(_, _, share_bp)| *share_bp > 0).map(|(upstream, name, share_bp)| {
            Part { upstream, share_bp, seed: text_seed(text_seed(0, service), name) }
        });
        let first = parts.next()?;
        Some(Self { first, rest: parts.collect() })
    }

    /// Index of the upstream for a client (`client_key`).
    pub fn pick(&self, client: u64) -> u16 {
        if self.rest.is_empty() {
            return self.first.upstream;
        }
        let mut best = (self.first.draw(client), self.first.upstream);
        for part in &self.rest {
            let drawn = part.draw(client);
            if drawn < best.0 {
                best = (drawn, part.upstream);
            }
        }
        best.1
    }

    /// (index of the upstream, share in basis points), only those above zero, in the plan's order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, u32)> {
        std::iter::once(&self.first).chain(&self.rest).map(|part| (part.upstream, part.share_bp))
    }
}

impl Part {
    /// An exponential variate of rate `share_bp`: the smallest of several is this part's with its share's chance.
    fn draw(&self, client: u64) -> f64 {
        let uniform = ((mix(client ^ self.seed) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -uniform.ln() / f64::from(self.share_bp)
    }
}

/// One number for all clients of a /24 or a /56.
pub fn client_key(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(v4) => mix(u64::from(v4.to_bits() >> (32 - V4_BITS))),
        IpAddr::V6(v6) => mix((v6.to_bits() >> (128 - V6_BITS)) as u64 | 1 << 63),
    }
}

/// Every bit of the input changes half of the output (splitmix64, Steele, Lea and Flood 2014).
fn mix(input: u64) -> u64 {
    let step = input.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let step = (step ^ (step >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let step = (step ^ (step >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    step ^ (step >> 31)
}

fn text_seed(seed: u64, text: &str) -> u64 {
    text.bytes().fold(mix(seed ^ text.len() as u64), |seed, byte| mix(seed ^ u64::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    const CLIENTS: u32 = 40_000;

    fn shares(parts: &[(u16, u32)]) -> Shares {
        let names = ["akamai", "fastly", "own", "cloudflare"];
        Shares::new("www", parts.iter().map(|(index, bp)| (*index, names[usize::from(*index)], *bp))).unwrap()
    }

    fn picks(parts: &[(u16, u32)]) -> Vec<u16> {
        let shares = shares(parts);
        (0..CLIENTS).map(|number| shares.pick(client_key(Ipv4Addr::from_bits(number << 8).into()))).collect()
    }

    /// Share in basis points, with the margin of four standard deviations.
    fn assert_share(count: usize, share_bp: u32) {
        let share = f64::from(share_bp) / f64::from(FULL_BP);
        let margin = 4.0 * (share * (1.0 - share) * f64::from(CLIENTS)).sqrt();
        let expected = share * f64::from(CLIENTS);
        assert!((count as f64 - expected).abs() <= margin, "{count} is not {expected} +- {margin}");
    }

    #[test]
    fn every_provider_gets_its_share() {
        let parts = [(0, 6_000), (1, 2_500), (2, 1_490), (3, 10)];
        let picks = picks(&parts);
        for (index, share_bp) in parts {
            assert_share(picks.iter().filter(|pick| **pick == index).count(), share_bp);
        }
    }

    #[test]
    fn moving_a_share_moves_as_many_clients_and_no_others() {
        let before = picks(&[(0, 5_000), (1, 3_000), (2, 2_000)]);
        let after = picks(&[(0, 4_000), (1, 4_000), (2, 2_000)]);
        let moved: Vec<(u16, u16)> = before
            .iter()
            .zip(&after)
            .filter(|(old, new)| old != new)
            .map(|(old, new)| (*old, *new))
            .collect();
        assert!(moved.iter().all(|(old, new)| *old == 0 || *new == 1), "only away from 0 or towards 1");
        // Through rendezvous some go 0 -> 2 and 2 -> 1 in equal number: still less than 13 % move for 10 %.
        assert!(moved.len() >= CLIENTS as usize * 9 / 100 && moved.len() <= CLIENTS as usize * 13 / 100);
    }

    #[test]
    fn losing_a_provider_moves_only_its_clients() {
        let before = picks(&[(0, 5_000), (1, 3_000), (2, 2_000)]);
        let after = picks(&[(0, 0), (1, 6_000), (2, 4_000)]);
        assert!(before.iter().zip(&after).all(|(old, new)| *old == 0 || old == new));
    }

    #[test]
    fn one_network_is_one_client_and_the_order_of_the_shares_does_not_matter() {
        let key = |text: &str| client_key(text.parse().unwrap());
        assert_eq!(key("192.0.2.1"), key("192.0.2.254"));
        assert_eq!(key("::ffff:192.0.2.1"), key("192.0.2.1"));
        assert_ne!(key("192.0.2.1"), key("192.0.3.1"));
        assert_eq!(key("2001:db8:0:1::1"), key("2001:db8:0:ff::1"));
        assert_ne!(key("2001:db8:0:100::1"), key("2001:db8:0:1::1"));
        assert_eq!(picks(&[(0, 7_000), (1, 3_000)]), picks(&[(1, 3_000), (0, 7_000)]));
    }
}
