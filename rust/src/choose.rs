//! In which order the upstreams of one request are tried, and whether one more attempt is allowed. Pure: `now_ms` comes in.
//!
//! The plan's order is the decision. What happens here is reflex, per worker and short-lived: an upstream that has just
//! failed several times in a row is tried last for a few seconds, and extra attempts stay inside a budget, so that a
//! fault that all providers share (the origin's) is not multiplied by the number of providers.

/// Failures in a row from which an upstream is tried last.
pub const FAILURES_TO_STEP_BACK: u32 = 5;

/// For how long it is tried last, before one request tries it in its place again.
pub const STEP_BACK_MS: u64 = 2_000;

/// All of an upstream's recent outcomes failed, in parts per thousand.
const ALL_FAILED: u64 = 1_000;

/// The recent share of failures from which an upstream steps back although some of its answers are good.
const MOSTLY_FAILING: u64 = 600;

/// One outcome moves the recent failure share by this part of the difference.
const OUTCOME_WEIGHT: u64 = 8;

/// The recent failure share halves in this time without outcomes: old trouble is no evidence.
const FORGET_HALF_MS: u64 = 5_000;

/// What one worker remembers of one upstream of one service.
///
/// | stance | when | tried |
/// |---|---|---|
/// | `Well` | the last outcome was good, or there was none | where the plan's order has it |
/// | `Shaky` | 1 to 4 failures in a row | the same, but nobody steps back behind it |
/// | `SteppedBack` | 5 or more, or most of late; the last one (or the last trial) less than 2 s ago | last, if any other is well |
/// | `Trial` | the same, 2 s over | by one request where the order has it, by the others last |
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    failures_in_row: u32,
    back_until_ms: u64,
    failing_milli: u64,
    seen_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stance {
    Well,
    Shaky,
    SteppedBack,
    Trial,
}

impl Health {
    pub fn succeeded(&mut self, now_ms: u64) {
        self.failing_milli = self.failing_share(now_ms) * (OUTCOME_WEIGHT - 1) / OUTCOME_WEIGHT;
        self.failures_in_row = 0;
        self.seen_ms = now_ms;
    }

    pub fn failed(&mut self, now_ms: u64) {
        let share = self.failing_share(now_ms);
        self.failing_milli = share + (ALL_FAILED - share).div_ceil(OUTCOME_WEIGHT);
        self.failures_in_row = self.failures_in_row.saturating_add(1);
        self.seen_ms = now_ms;
        if self.failures_in_row >= FAILURES_TO_STEP_BACK || self.failing_milli >= MOSTLY_FAILING {
            self.back_until_ms = now_ms.saturating_add(STEP_BACK_MS);
        }
    }

    pub fn stance(&self, now_ms: u64) -> Stance {
        let is_mostly_failing = self.failing_share(now_ms) >= MOSTLY_FAILING;
        match self.failures_in_row {
            0 if !is_mostly_failing => Stance::Well,
            0..FAILURES_TO_STEP_BACK if !is_mostly_failing => Stance::Shaky,
            _ if now_ms < self.back_until_ms => Stance::SteppedBack,
            _ => Stance::Trial,
        }
    }

    /// How many attempts in a row have failed.
    pub fn failures_in_row(&self) -> u32 {
        self.failures_in_row
    }

    /// One request takes the trial: the others keep the upstream last until its outcome is known or 2 s passed.
    pub fn begin_trial(&mut self, now_ms: u64) {
        self.back_until_ms = now_ms.saturating_add(STEP_BACK_MS);
    }

    /// Recent share of failed attempts, 0 to 1000.
    pub fn failing_share(&self, now_ms: u64) -> u64 {
        let halvings = now_ms.saturating_sub(self.seen_ms) / FORGET_HALF_MS;
        self.failing_milli.checked_shr(u32::try_from(halvings).unwrap_or(u32::MAX)).unwrap_or(0)
    }
}

/// The order of attempts: first those in their place (and a trial, if this request may take one), then those that
/// stepped back, both in the plan's order. Every candidate is in the answer once; if none is well, nothing moves: there
/// is nobody to step back for.
///
/// `stances` are in the plan's order; the answer holds positions in it. `trial` is the position that was tried by way
/// of trial: the caller tells its `Health`.
pub fn line_up(stances: &[Stance], may_try: bool) -> (Vec<usize>, Option<usize>) {
    if !stances.contains(&Stance::Well) {
        return ((0..stances.len()).collect(), None);
    }
    let trial = if may_try { stances.iter().position(|stance| *stance == Stance::Trial) } else { None };
    let is_in_place = |position: &usize| {
        matches!(stances[*position], Stance::Well | Stance::Shaky) || Some(*position) == trial
    };
    let (mut first, last): (Vec<usize>, Vec<usize>) = (0..stances.len()).partition(is_in_place);
    first.extend(last);
    (first, trial)
}

/// Extra attempts, against what the load has earned. Nothing is saved beyond one second's floor, so that over any time in
/// which everybody fails the extra load is the share and not more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    second: u64,
    load: i64,
    extra: i64,
    /// What earlier seconds left, in ten-thousandths of an attempt; debts too.
    left: i64,
}

/// One attempt, in the unit of `Budget::left` and of shares.
const ATTEMPT: i64 = 10_000;

/// How many extra attempts a second are allowed: the larger of a share of the load and a floor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allowance {
    pub share_bp: u64,
    pub floor_per_second: u64,
}

impl Allowance {
    fn share(self) -> i64 {
        i64::try_from(self.share_bp).unwrap_or(ATTEMPT)
    }

    fn floor(self) -> i64 {
        i64::try_from(self.floor_per_second).map_or(i64::MAX / 4, |floor| floor.saturating_mul(ATTEMPT))
    }

    /// One worker's part of a service's allowance: the floor is divided, the share is of the worker's own load.
    pub fn of_worker(share_bp: u64, floor_rps: u64, worker: usize, workers: usize) -> Self {
        let workers = workers.max(1) as u64;
        let remainder = u64::from((worker as u64) < floor_rps % workers);
        Self { share_bp, floor_per_second: floor_rps / workers + remainder }
    }
}

impl Budget {
    /// One ordinary request.
    pub fn add_load(&mut self, now_ms: u64, allowance: Allowance) {
        self.turn(now_ms, allowance);
        self.load += 1;
    }

    pub fn has_room(&mut self, now_ms: u64, allowance: Allowance) -> bool {
        self.turn(now_ms, allowance);
        self.left + self.load * allowance.share() - self.extra * ATTEMPT >= ATTEMPT
    }

    /// One extra attempt, whether it had to ask for room or not.
    pub fn spend(&mut self, now_ms: u64, allowance: Allowance) {
        self.turn(now_ms, allowance);
        self.extra += 1;
    }

    /// A second earns the share of its load, or the floor where that is more.
    fn turn(&mut self, now_ms: u64, allowance: Allowance) {
        let second = now_ms / 1_000;
        let Some(over) = second.checked_sub(self.second).filter(|over| *over > 0) else { return };
        let floor = allowance.floor();
        let quiet = i64::try_from(over - 1).unwrap_or(i64::MAX).saturating_mul(floor);
        let earned = (self.load * allowance.share()).max(floor).saturating_add(quiet);
        let left = self.left.saturating_add(earned).saturating_sub(self.extra * ATTEMPT);
        (self.second, self.load, self.extra) = (second, 0, 0);
        self.left = left.clamp(-floor, floor);
    }
}

/// Whether going on to `next` after `failed` is free: `next` does clearly better of late, so that the fault is
/// `failed`'s own. When both fail alike the fault is likely behind both, and one more attempt is load on it.
pub fn is_clearly_better(next: &Health, failed: &Health, now_ms: u64) -> bool {
    next.failing_share(now_ms) * 2 <= failed.failing_share(now_ms)
}

/// How far an attempt had got when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// Not connected, or TLS not agreed: no byte of the request can have been processed.
    NoConnection,
    /// Some of the request was sent: it may have been carried out.
    Sent,
}

/// Whether a request may be sent once more without the risk of a second execution (RFC 9110 §9.2.2).
///
/// An Idempotency-Key does not help across providers unless the service says that they share their memory of keys:
/// then the caller knows better.
pub fn may_repeat(method: &[u8], reached: Reached) -> bool {
    reached == Reached::NoConnection
        || matches!(method, b"GET" | b"HEAD" | b"OPTIONS" | b"TRACE" | b"PUT" | b"DELETE")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWED: Allowance = Allowance { share_bp: 2_000, floor_per_second: 10 };

    fn failing(times: u32, now_ms: u64) -> Health {
        let mut health = Health::default();
        (0..times).for_each(|_| health.failed(now_ms));
        health
    }

    #[test]
    fn upstream_steps_back_after_five_failures_and_returns_with_one_success() {
        let mut health = failing(4, 100);
        assert_eq!(health.stance(100), Stance::Shaky);
        health.failed(100);
        assert_eq!(health.stance(100), Stance::SteppedBack);
        assert_eq!(health.stance(2_100), Stance::Trial);
        health.begin_trial(2_100);
        assert_eq!(health.stance(2_100), Stance::SteppedBack);
        health.succeeded(2_200);
        assert_eq!(health.stance(2_200), Stance::Well);
    }

    #[test]
    fn those_that_stepped_back_come_last_in_the_plans_order() {
        use Stance::{Shaky, SteppedBack, Trial, Well};
        assert_eq!(line_up(&[SteppedBack, Shaky, SteppedBack, Well], true), (vec![1, 3, 0, 2], None));
        assert_eq!(line_up(&[Trial, Well, Trial], true), (vec![0, 1, 2], Some(0)));
        assert_eq!(line_up(&[Trial, Well, Trial], false), (vec![1, 0, 2], None));
    }

    #[test]
    fn order_does_not_change_when_nobody_is_well() {
        use Stance::{Shaky, SteppedBack, Trial};
        assert_eq!(line_up(&[SteppedBack; 3], true).0, vec![0, 1, 2]);
        assert_eq!(line_up(&[SteppedBack, Shaky, Trial], true), (vec![0, 1, 2], None));
        assert_eq!(line_up(&[], true).0, Vec::<usize>::new());
    }

    #[test]
    fn every_candidate_is_tried_once_in_any_mixture() {
        let all = [Stance::Well, Stance::Shaky, Stance::SteppedBack, Stance::Trial];
        for code in 0..256_usize {
            let stances: Vec<Stance> = (0..4).map(|digit| all[code / 4_usize.pow(digit) % 4]).collect();
            let (mut order, _) = line_up(&stances, code % 2 == 0);
            order.sort_unstable();
            assert_eq!(order, vec![0, 1, 2, 3]);
        }
    }

    #[test]
    fn extras_stay_within_a_fifth_of_the_load() {
        let mut budget = Budget::default();
        let mut extras = 0;
        for request in 0..10_000_u64 {
            let now_ms = 1_000_000 + request * 5;
            budget.add_load(now_ms, ALLOWED);
            if budget.has_room(now_ms, ALLOWED) {
                budget.spend(now_ms, ALLOWED);
                extras += 1;
            }
        }
        assert!((1_990..=2_010).contains(&extras), "{extras} extra attempts for 10000 requests");
    }

    #[test]
    fn what_calm_seconds_did_not_need_is_not_saved_for_a_storm() {
        let mut budget = Budget::default();
        for request in 0..2_000_u64 {
            budget.add_load(1_000_000 + request * 10, ALLOWED);
        }
        let storm = (0..500_u64).filter(|request| {
            let now_ms = 1_020_000 + request * 10;
            budget.add_load(now_ms, ALLOWED);
            budget.has_room(now_ms, ALLOWED).then(|| budget.spend(now_ms, ALLOWED)).is_some()
        });
        let extras = storm.count();
        assert!((100..=110).contains(&extras), "{extras} extra attempts for 500 requests");
    }

    #[test]
    fn little_load_has_the_floor() {
        let mut budget = Budget::default();
        budget.add_load(5_000, ALLOWED);
        let granted = (0..50)
            .filter(|_| budget.has_room(5_000, ALLOWED).then(|| budget.spend(5_000, ALLOWED)).is_some())
            .count();
        assert_eq!(granted, 10);
        assert!(budget.has_room(6_000, ALLOWED));
    }

    #[test]
    fn workers_share_the_floor_without_losing_or_adding_any() {
        for (floor, workers) in [(10, 1), (10, 3), (1, 4), (0, 2)] {
            let sum: u64 =
                (0..workers).map(|w| Allowance::of_worker(0, floor, w, workers).floor_per_second).sum();
            assert_eq!(sum, floor);
        }
    }

    #[test]
    fn healthy_next_is_free_and_an_equally_sick_one_is_not() {
        let now_ms = 10_000;
        assert!(is_clearly_better(&Health::default(), &failing(1, now_ms), now_ms));
        assert!(!is_clearly_better(&failing(3, now_ms), &failing(3, now_ms), now_ms));
        let mut recovered = failing(20, now_ms);
        (0..6).for_each(|_| recovered.succeeded(now_ms));
        assert!(is_clearly_better(&recovered, &failing(20, now_ms), now_ms));
    }

    #[test]
    fn old_trouble_is_forgotten() {
        let health = failing(20, 0);
        assert!(health.failing_share(0) > 900);
        assert!(health.failing_share(60_000) < 5);
        assert_eq!(health.failing_share(u64::MAX), 0);
    }

    #[test]
    fn a_post_is_sent_again_only_if_nothing_was_sent() {
        assert!(may_repeat(b"POST", Reached::NoConnection));
        assert!(!may_repeat(b"POST", Reached::Sent));
        assert!(!may_repeat(b"PATCH", Reached::Sent));
        assert!(!may_repeat(b"get", Reached::Sent));
        assert!(may_repeat(b"DELETE", Reached::Sent));
    }
}
