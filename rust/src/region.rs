//! Which region a client address lies in: the longest matching prefix, else the default. Pure.

use crate::error::Refusal;
use std::net::IpAddr;

/// Disjoint ranges of addresses, sorted by where they start, made once from nested prefixes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locator {
    v4: Vec<(u32, u16)>,
    v6: Vec<(u128, u16)>,
    /// Length of the longest prefix in use: so many bits of an address can matter (RFC 7871 §7.2.1).
    pub v4_bits: u8,
    pub v6_bits: u8,
}

struct Prefix {
    start: u128,
    end: u128,
    bits: u8,
    region: u16,
}

impl Locator {
    /// From the prefixes of each region in order; region 0 is the default one.
    /// Refuses what is not a prefix, one with host bits set, and one that two regions claim.
    pub fn new<'a>(regions: impl Iterator<Item = &'a [String]>) -> Result<Self, Refusal> {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (region, prefixes) in (0_u16..).zip(regions) {
            for text in prefixes {
                let (address, bits) = parse_prefix(text)?;
                let list = if address.is_ipv4() { &mut v4 } else { &mut v6 };
                list.push(prefix_range(address, bits, region, text)?);
            }
        }
        Ok(Self {
            v4_bits: longest(&v4),
            v6_bits: longest(&v6),
            v4: flatten(v4, u128::from(u32::MAX))?
                .into_iter()
                .map(|(start, region)| (start as u32, region))
                .collect(),
            v6: flatten(v6, u128::MAX)?,
        })
    }

    /// Index of the region of an address; an IPv4 address inside IPv6 counts as IPv4.
    pub fn region_of(&self, address: IpAddr) -> u16 {
        match address.to_canonical() {
            IpAddr::V4(v4) => find(&self.v4, v4.to_bits()),
            IpAddr::V6(v6) => find(&self.v6, v6.to_bits()),
        }
    }
}

fn find<T: Ord + Copy>(ranges: &[(T, u16)], address: T) -> u16 {
    let after = ranges.partition_point(|(start, _)| *start <= address);
    ranges.get(after.wrapping_sub(1)).map_or(0, |(_, region)| *region)
}

fn longest(prefixes: &[Prefix]) -> u8 {
    prefixes.iter().map(|prefix| prefix.bits).max().unwrap_or(0)
}

/// Address and length of "192.0.2.0/24"; an address alone is a prefix of all its bits.
fn parse_prefix(text: &str) -> Result<(IpAddr, u8), Refusal> {
    let wrong =
        || Refusal::never(format!("prefix {text:?} is not an address, or an address, \"/\" and a length"));
    let (address, bits) = text.split_once('/').map_or((text, None), |(address, bits)| (address, Some(bits)));
    let address: IpAddr = address.parse().map_err(|_| wrong())?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let bits: u8 = bits.map_or(Ok(width), str::parse).map_err(|_| wrong())?;
    if bits > width { Err(wrong()) } else { Ok((address, bits)) }
}

fn prefix_range(address: IpAddr, bits: u8, region: u16, text: &str) -> Result<Prefix, Refusal> {
    let (start, width) = match address {
        IpAddr::V4(v4) => (u128::from(v4.to_bits()), 32),
        IpAddr::V6(v6) => (v6.to_bits(), 128),
    };
    let host_bits = width - u32::from(bits);
    let host_mask = u128::MAX.checked_shr(128 - host_bits).unwrap_or(0);
    if start & host_mask != 0 {
        return Err(Refusal::never(format!("prefix {text:?} has bits set beyond its length")));
    }
    Ok(Prefix { start, end: start | host_mask, bits, region })
}

/// Where the region changes, walking up the addresses; two prefixes are disjoint or one holds the other.
fn flatten(mut prefixes: Vec<Prefix>, last: u128) -> Result<Vec<(u128, u16)>, Refusal> {
    prefixes.sort_by_key(|prefix| (prefix.start, prefix.bits));
    for (left, right) in prefixes.iter().zip(prefixes.iter().skip(1)) {
        let is_same = (left.start, left.bits) == (right.start, right.bits);
        if is_same && left.region != right.region {
            return Err(Refusal::never(format!(
                "one prefix of {} bits belongs to two regions (numbers {} and {})",
                left.bits, left.region, right.region
            )));
        }
    }
    let mut changes: Vec<(u128, u16)> = vec![(0, 0)];
    let mut open: Vec<(u128, u16)> = Vec::new();
    for prefix in &prefixes {
        close_before(&mut open, &mut changes, prefix.start);
        change(&mut changes, prefix.start, prefix.region);
        open.push((prefix.end, prefix.region));
    }
    while let Some((end, _)) = open.pop() {
        if end < last {
            change(&mut changes, end + 1, open.last().map_or(0, |(_, region)| *region));
        }
    }
    Ok(changes)
}

fn close_before(open: &mut Vec<(u128, u16)>, changes: &mut Vec<(u128, u16)>, start: u128) {
    while open.last().is_some_and(|(end, _)| *end < start) {
        let closed = open.pop();
        let outer = open.last().map_or(0, |(_, region)| *region);
        closed.into_iter().for_each(|(end, _)| change(changes, end + 1, outer));
    }
}

fn change(changes: &mut Vec<(u128, u16)>, start: u128, region: u16) {
    match changes.last_mut() {
        Some(newest) if newest.0 == start => newest.1 = region,
        _ => changes.push((start, region)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn locator(regions: &[&[&str]]) -> Result<Locator, Refusal> {
        let owned: Vec<Vec<String>> =
            regions.iter().map(|list| list.iter().map(|text| (*text).to_owned()).collect()).collect();
        Locator::new(owned.iter().map(Vec::as_slice))
    }

    #[test]
    fn the_longest_prefix_wins_and_the_rest_is_the_default() {
        let found = locator(&[
            &[],
            &["10.0.0.0/8", "2001:db8::/32"],
            &["10.1.0.0/16", "10.255.255.255"],
            &["10.1.2.0/24", "2001:db8:1::/48", "255.255.255.255/32"],
        ])
        .unwrap();
        let cases = [
            ("9.255.255.255", 0),
            ("10.0.0.0", 1),
            ("10.0.255.255", 1),
            ("10.1.0.0", 2),
            ("10.1.1.255", 2),
            ("10.1.2.0", 3),
            ("10.1.2.255", 3),
            ("10.1.3.0", 2),
            ("10.2.0.0", 1),
            ("10.255.255.254", 1),
            ("10.255.255.255", 2),
            ("11.0.0.0", 0),
            ("255.255.255.255", 3),
            ("0.0.0.0", 0),
            ("::", 0),
            ("2001:db8::1", 1),
            ("2001:db8:1::1", 3),
            ("2001:db8:2::", 1),
            ("2001:db9::", 0),
            ("::ffff:10.1.2.9", 3),
        ];
        for (address, region) in cases {
            assert_eq!(found.region_of(address.parse().unwrap()), region, "{address}");
        }
        assert_eq!((found.v4_bits, found.v6_bits), (32, 48));
    }

    #[test]
    fn the_whole_address_space_can_belong_to_a_region() {
        let found = locator(&[&[], &["0.0.0.0/0", "::/0"]]).unwrap();
        assert_eq!(found.region_of("255.255.255.255".parse().unwrap()), 1);
        assert_eq!(found.region_of("::1".parse().unwrap()), 1);
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in ["10.0.0.0/33", "10.0.0.1/8", "x", "10.0.0.0/", "", "::1/64", "10.0.0.0/-1"] {
            assert!(locator(&[&[text]]).is_err(), "{text}");
        }
        assert!(locator(&[&["10.0.0.0/8"], &["10.0.0.0/8"]]).is_err());
        assert!(locator(&[&["10.0.0.0/8", "10.0.0.0/8"]]).is_ok());
    }
}
