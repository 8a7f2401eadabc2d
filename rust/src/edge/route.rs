//! Whom a request may try: the plan's order, and what budgets and recent failures make of it.

use crate::choose::{Stance, is_clearly_better, line_up};
use crate::count::Reason;
use crate::edge::destination::Destination;
use crate::edge::worker::{Edge, Site};
use std::rc::Rc;

/// The way of one request's service in the client's region.
#[derive(Clone)]
pub struct Route {
    pub edge: Rc<Edge>,
    pub site: Rc<Site>,
    pub region: u16,
}

impl Route {
    pub fn destination(&self, provider: u16) -> Option<Rc<Destination>> {
        self.site.destinations.get(usize::from(provider)).map(Rc::clone)
    }

    /// Providers in the order in which they are to be tried; `may_try`: also one that is on trial.
    pub fn line_up(&self, may_try: bool) -> Vec<u16> {
        let now_ms = self.edge.now_ms();
        let planned = &self.site.service.region(self.region).order;
        let destination = |provider: &u16| self.site.destinations.get(usize::from(*provider));
        let stance = |provider| destination(provider).map_or(Stance::SteppedBack, |one| one.stance(now_ms));
        if planned.iter().all(|provider| stance(provider) == Stance::Well) {
            return planned.to_vec();
        }
        let stances: Vec<Stance> = planned.iter().map(stance).collect();
        let (positions, trial) = line_up(&stances, may_try);
        if let Some(destination) = trial.and_then(|position| planned.get(position)).and_then(destination) {
            destination.begin_trial(now_ms);
        }
        positions.into_iter().filter_map(|position| planned.get(position).copied()).collect()
    }

    /// The first attempt of a request; never an extra one.
    pub fn begin(&self, destination: &Destination) {
        let now_ms = self.edge.now_ms();
        let site = &self.site;
        site.budget.borrow_mut().add_load(now_ms, site.allowance);
        site.hedges.borrow_mut().add_load(now_ms, site.hedge_allowance);
        destination.budget.borrow_mut().add_load(now_ms, site.allowance);
    }

    /// Whether one more attempt is free (Some(true)), charged to the budgets (Some(false)) or refused by them.
    pub fn go_on(&self, failed: &Destination, next: &Destination) -> Option<bool> {
        let now_ms = self.edge.now_ms();
        if is_clearly_better(&next.health(), &failed.health(), now_ms) {
            next.budget.borrow_mut().add_load(now_ms, self.site.allowance);
            return Some(true);
        }
        self.spend(next).then_some(false)
    }

    /// Whether another may be asked while the first is still silent; charged if so.
    pub fn may_hedge(&self, next: &Destination) -> bool {
        let (now_ms, allowance) = (self.edge.now_ms(), self.site.hedge_allowance);
        let is_allowed = next.stance(now_ms) == Stance::Well
            && self.site.hedges.borrow_mut().has_room(now_ms, allowance)
            && self.spend(next);
        if is_allowed {
            self.site.hedges.borrow_mut().spend(now_ms, allowance);
        }
        is_allowed
    }

    /// Whether another may be asked while the first is silent to everybody; charged if so, as any attempt more is.
    pub fn may_leave_silent(&self, next: &Destination) -> bool {
        next.stance(self.edge.now_ms()) == Stance::Well && self.spend(next)
    }

    fn spend(&self, next: &Destination) -> bool {
        let now_ms = self.edge.now_ms();
        let (mut service, mut own) = (self.site.budget.borrow_mut(), next.budget.borrow_mut());
        let is_allowed =
            service.has_room(now_ms, self.site.allowance) && own.has_room(now_ms, self.site.allowance);
        if is_allowed {
            service.spend(now_ms, self.site.allowance);
            own.spend(now_ms, self.site.allowance);
        }
        is_allowed
    }

    /// An attempt that was free counts after all.
    pub fn charge(&self) {
        self.site.budget.borrow_mut().spend(self.edge.now_ms(), self.site.allowance);
    }

    pub fn count(&self, provider: u16, reason: Reason, first_byte_ms: u32) {
        self.edge.counts.attempt(&self.site.service, provider, self.region, reason, first_byte_ms);
    }
}
