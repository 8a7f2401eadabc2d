//! Memory as the kernel counts it, one process per story, for the allocator keeps what an earlier one left.

use super::*;
use std::process::Command;

const BUDGET_BYTES: u64 = 64 << 20;

/// Lengths of bodies, and the percent of the budget that may be resident. The last goes from small bodies to large ones in
/// one store, the hardest case: what stays of the small ones keeps the pages between them. Here it
/// fills a gigabyte a second, faster than the allocator gives pages back (docs/decisions/0009-allocator.md).
const STORIES: [(&str, &[u64], u64); 5] = [
    ("1 KiB", &[1_024], 115),
    ("100 KiB", &[100 << 10], 115),
    ("10 MiB", &[10 << 20], 115),
    ("mixed", &[100, 1_024, 5_000, 40_000, 300_000, 1 << 20, 5 << 20], 115),
    ("shift", &[], 140),
];

#[test]
#[ignore = "the child of the test below"]
fn child_that_fills_a_store() {
    let wanted = std::env::var("POLYCDN_TEST_STORY").unwrap();
    let (story, lengths, percent_max) = STORIES.into_iter().find(|(story, ..)| *story == wanted).unwrap();
    let before = resident_bytes().unwrap();
    let store = Store::new(Limits::new(BUDGET_BYTES));
    store.press(resident_bytes());
    let mut front = Front::new(&store, 1);
    let (mut dice, mut filled, mut looked, mut name, mut peak) = (Dice(7), 0, 0, 0_u64, 0);
    while filled < BUDGET_BYTES * 4 {
        let length = match lengths.len() as u64 {
            0 => 1_000 << (filled * 10 / (BUDGET_BYTES * 4)),
            kinds => lengths[dice.below(kinds) as usize],
        };
        let shape = if dice.below(3) == 0 && length < 10 << 20 { UNKNOWN } else { known(length) };
        put_bytes(&store, name, shape, length);
        filled += length + 500;
        for _ in 0..2 {
            let asked = name.saturating_sub(dice.below(1 + name / 4));
            front.hit(store.key(&asked.to_le_bytes()), &mut any);
        }
        // As often as in an edge that fills 40 MB a second.
        if filled >= looked + (4 << 20) {
            looked = filled;
            front.tick();
            store.tick(0);
            store.press(resident_bytes());
            peak = peak.max(resident_bytes().unwrap() - before);
        }
        name += 1;
    }
    let (counts, pressed) = (store.counts(), store.pressed_bytes());
    let mib = |bytes: u64| bytes as f64 / 1_048_576.0;
    println!(
        "{story:>8}: {:6} objects, counted {:5.1} MiB (of these {:4.1} pressed), resident +{:5.1} of {:3.0} MiB",
        counts.objects,
        mib(counts.used_bytes),
        mib(pressed),
        mib(peak),
        mib(BUDGET_BYTES)
    );
    assert!(counts.used_bytes <= BUDGET_BYTES + BUDGET_BYTES / 12);
    assert!(peak <= BUDGET_BYTES * percent_max / 100, "{story}");
}

#[test]
fn resident_memory_stays_within_the_budget() {
    let path = module_path!().split_once("::").unwrap().1;
    for (story, ..) in STORIES {
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact", &format!("{path}::child_that_fills_a_store")])
            .env("POLYCDN_TEST_STORY", story)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        told.lines().filter(|line| line.contains("MiB")).for_each(|line| println!("{line}"));
        assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    }
}

fn put_bytes(store: &Arc<Store<Label>>, name: u64, shape: Shape, length: u64) {
    let guard = vacant(store, &name.to_le_bytes());
    let Ok(mut writer) = guard.start(head(0, 1), shape, Span::default()) else { return };
    let mut left = length;
    while left > 0 {
        let bytes = left.min(65_536);
        if writer.push(Bytes::from(vec![7; bytes as usize])).is_err() {
            return;
        }
        left -= bytes;
    }
    writer.finish().unwrap();
}
