//! Plans, settings and orders: what is taken means one thing, and can be served from.

use crate::dns::zone::Answers;
use crate::document::{canonical, parse_plan, parse_settings};
use crate::purge::{PurgeOrder, Target};
use crate::share::FULL_BP;
use crate::table::Service;

/// Settings, then after a line of their own a plan; or either, or an order to purge, alone.
pub fn document(bytes: &[u8]) {
    let end = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (first, second) = bytes.split_at(end);
    let _ = canonical(bytes);
    check_order(first);
    let (Ok(settings), Ok(plan)) = (parse_settings(first), parse_plan(second)) else { return };
    check_canonical(first);
    check_canonical(second);
    let again = canonical(first).and_then(|bytes| parse_settings(&bytes));
    assert_eq!(again.ok().as_ref(), Some(&settings), "the same in its canonical form");
    let again = canonical(second).and_then(|bytes| parse_plan(&bytes));
    assert_eq!(again.ok().as_ref(), Some(&plan), "the same in its canonical form");
    let Ok(service) = Service::compile(settings, &plan) else { return };
    check_service(&service);
    let _ = Answers::new(&service);
}

/// Of documents that are taken; they hold no fractions, which need not come back as they were.
fn check_canonical(bytes: &[u8]) {
    let Ok(once) = canonical(bytes) else { return };
    assert_eq!(canonical(&once).ok().as_ref(), Some(&once));
    assert!(!once.contains(&b'\n'));
}

/// Nobody can be left without an answer, nor be sent to a provider that is not there.
fn check_service(service: &Service) {
    assert!(!service.hostnames.is_empty() && !service.regions.is_empty());
    for region in &service.regions {
        let is_known = |index: &u16| usize::from(*index) < service.upstreams.len();
        assert!(!region.order.is_empty() && region.order.iter().all(is_known));
        assert_eq!(region.shares.iter().map(|(_, share_bp)| share_bp).sum::<u32>(), FULL_BP);
        assert!(region.shares.iter().all(|(index, _)| is_known(&index)));
        assert!(is_known(&region.shares.pick(7)) && region.ttl_s < 1 << 31);
    }
}

fn check_order(bytes: &[u8]) {
    match PurgeOrder::parse(bytes).map(|order| order.target) {
        Ok(Target::Url { scheme, authority, target } | Target::Prefix { scheme, authority, target }) => {
            assert!(scheme == "http" || scheme == "https");
            assert!(!authority.is_empty() && target.starts_with('/'));
        }
        Ok(Target::Key { key, .. }) => assert!(!key.is_empty()),
        Err(refusal) => assert!(!refusal.to_string().is_empty()),
    }
}
