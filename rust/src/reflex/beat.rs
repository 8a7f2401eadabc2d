//! How often an event stream speaks, and from that, how long its silence is no fault.

/// Gaps between pieces that must be known before silence says anything.
const GAPS_TO_KNOW: u32 = 4;

/// Silence is no fault for so many times the longest gap, and never below the least wait (milliseconds).
const GAPS_TO_DOUBT: u64 = 8;
const SILENCE_MS_MIN: u64 = 2_000;

/// From so many moves in a row that brought nothing on, it is not the upstreams that are silent: there is nothing to
/// tell.
const IN_VAIN_MAX: u32 = 2;

/// One stream's rhythm.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beat {
    gaps: u32,
    longest_ms: u64,
    in_vain: u32,
}

impl Beat {
    /// A piece came after so long.
    pub fn came_after(&mut self, gap_ms: u64) {
        self.gaps = self.gaps.saturating_add(1);
        self.longest_ms = self.longest_ms.max(gap_ms);
        self.in_vain = 0;
    }

    /// It was silent for longer than that, and is asked for elsewhere.
    pub fn was_silent(&mut self) {
        self.in_vain = self.in_vain.saturating_add(1);
    }

    /// How long the next piece is waited for before another upstream is asked; None: as long as may be.
    pub fn patience_ms(&self) -> Option<u64> {
        let is_known = self.gaps >= GAPS_TO_KNOW && self.in_vain < IN_VAIN_MAX;
        let usual_ms = self.longest_ms.saturating_mul(GAPS_TO_DOUBT).max(SILENCE_MS_MIN);
        is_known.then(|| usual_ms.saturating_mul(1 << self.in_vain))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regular(gap_ms: u64) -> Beat {
        let mut beat = Beat::default();
        (0..GAPS_TO_KNOW).for_each(|_| beat.came_after(gap_ms));
        beat
    }

    #[test]
    fn nothing_is_known_of_a_stream_that_just_began() {
        let mut beat = Beat::default();
        beat.came_after(10);
        assert_eq!(beat.patience_ms(), None);
    }

    #[test]
    fn silence_is_measured_by_the_longest_gap() {
        assert_eq!(regular(100).patience_ms(), Some(2_000));
        assert_eq!(regular(1_000).patience_ms(), Some(8_000));
    }

    #[test]
    fn a_stream_that_nobody_goes_on_with_has_nothing_to_tell() {
        let mut beat = regular(1_000);
        beat.was_silent();
        assert_eq!(beat.patience_ms(), Some(16_000));
        beat.was_silent();
        assert_eq!(beat.patience_ms(), None);
        beat.came_after(30_000);
        assert_eq!(beat.patience_ms(), Some(240_000));
    }
}
