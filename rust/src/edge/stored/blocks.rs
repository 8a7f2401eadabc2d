//! What to ask an origin for where a client wants a part: whole blocks around it, so that seeking in a large object costs
//! no more than that, and what comes can be kept. Pure.

use crate::cache::semantics::fields::{digits, members};
use crate::cache::semantics::range::{ContentRange, Span, Wanted, wanted};

/// The Range to ask for, given the one that the client sent; None: the whole is to be asked for. Of several ranges it is
/// that of the first: its answer tells the length, and then the others are fetched by their blocks.
pub fn blocks_around(range: &[u8], block_bytes: u64, ranges_max: usize) -> Option<String> {
    // Any length will do to tell a right field from a wrong one.
    if !matches!(wanted(range, u64::MAX - 1, ranges_max), Wanted::One(_) | Wanted::Many(_)) {
        return None;
    }
    let first = members(range.get(6..)?).map(<[u8]>::trim_ascii).find(|member| !member.is_empty())?;
    let dash = first.iter().position(|byte| *byte == b'-')?;
    let (from, to) = (first.get(..dash)?, digits(first.get(dash + 1..)?));
    let Some(from) = digits(from) else {
        // Where the last block begins is not known: a block less a byte more has it for sure.
        return Some(format!("bytes=-{}", to?.saturating_add(block_bytes - 1)));
    };
    let from = from / block_bytes * block_bytes;
    match to {
        Some(to) => {
            let last = (to / block_bytes).saturating_add(1).saturating_mul(block_bytes) - 1;
            Some(format!("bytes={from}-{last}"))
        }
        None if from == 0 => None,
        None => Some(format!("bytes={from}-")),
    }
}

/// What of an origin's part the client wants: how it lies in the whole, and how many bytes of the part come before it. None:
/// it is not one range that lies in that part.
pub fn cut_out(range: &[u8], part: &ContentRange) -> Option<(Span, u64)> {
    let length = part.complete.unwrap_or(part.last + 1);
    let Wanted::One(span) = wanted(range, length, 1) else { return None };
    part.covers(span).then(|| (span, span.first - part.first))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(range: &str) -> Option<String> {
        blocks_around(range.as_bytes(), 100, 3)
    }

    #[test]
    fn a_range_becomes_the_blocks_around_it() {
        for (range, blocks) in [
            ("bytes=0-0", "bytes=0-99"),
            ("bytes=99-100", "bytes=0-199"),
            ("bytes=250-250", "bytes=200-299"),
            ("bytes=250-", "bytes=200-"),
            ("bytes=-1", "bytes=-100"),
            ("bytes=-500", "bytes=-599"),
            ("BYTES= 250-260 ", "bytes=200-299"),
            ("bytes=250-260,-5", "bytes=200-299"),
            ("bytes=,-5,0-1", "bytes=-104"),
        ] {
            assert_eq!(around(range).as_deref(), Some(blocks), "{range}");
        }
    }

    #[test]
    fn the_whole_is_asked_for_from_its_first_byte_on_and_where_the_range_is_to_be_ignored() {
        for range in
            ["bytes=0-", "bytes=99-", "bytes=5-4", "bytes=-0", "bytes=x-1", "items=0-1", "bytes=", ""]
        {
            assert_eq!(around(range), None, "{range}");
        }
        assert_eq!(around("bytes=0-1,200-201,400-401,600-601"), None, "more ranges than are served");
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let most = u64::MAX;
        assert_eq!(around(&format!("bytes=-{most}")), Some(format!("bytes=-{most}")));
        assert_eq!(around(&format!("bytes=0-{most}")), Some(format!("bytes=0-{}", most - 1)));
    }

    #[test]
    fn a_wider_part_is_cut_to_what_was_wanted() {
        let part = ContentRange { first: 100, last: 299, complete: Some(1_000) };
        let cut = |range: &str, part: &ContentRange| {
            cut_out(range.as_bytes(), part).map(|(span, before)| (span.first, span.last, before))
        };
        assert_eq!(cut("bytes=150-160", &part), Some((150, 160, 50)));
        assert_eq!(cut("bytes=100-299", &part), Some((100, 299, 0)));
        assert_eq!(cut("bytes=290-310", &part), None);
        assert_eq!(cut("bytes=150-151,250-251", &part), None);
        let end = ContentRange { first: 900, last: 999, complete: None };
        assert_eq!(cut("bytes=-10", &end), Some((990, 999, 90)));
        assert_eq!(cut("bytes=950-", &end), Some((950, 999, 50)));
    }
}
