//! Memory as the kernel counts it.

use super::*;

/// Resident bytes of this process.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 4_096
}

/// Runs alone, in a process of its own: `cargo test --release -- --ignored resident`.
#[test]
#[ignore = "counts the memory of the whole process, so no other test may run beside it"]
fn resident_memory_stays_within_the_budget() {
    let (budget_bytes, before) = (128 << 20, resident_bytes());
    for (story, lengths) in [
        ("1 KiB", &[1_024_u64][..]),
        ("100 bytes", &[100]),
        ("100 KiB", &[100 << 10]),
        ("10 MiB", &[10 << 20]),
        ("mixed", &[100, 1_024, 5_000, 40_000, 300_000, 1 << 20, 5 << 20]),
        ("shift", &[]),
    ] {
        // One story per process shows what is due to the others' leavings: POLYCDN_TEST_STORY=mixed.
        if std::env::var("POLYCDN_TEST_STORY").is_ok_and(|wanted| wanted != story) {
            continue;
        }
        let store = Store::new(Limits::new(budget_bytes));
        let mut front = Front::new(&store, 1);
        let (mut dice, mut filled, mut name, mut peak) = (Dice(7), 0, 0_u64, 0);
        while filled < budget_bytes * 4 {
            // The shift goes from small to large in one store.
            let length = match lengths.len() as u64 {
                0 => 1_000 << (filled * 10 / (budget_bytes * 4)),
                kinds => lengths[dice.below(kinds) as usize],
            };
            let shape = if dice.below(3) == 0 && length < 10 << 20 { UNKNOWN } else { known(length) };
            put_zeros(&store, name, shape, length);
            filled += length + 500;
            for _ in 0..2 {
                let asked = name.saturating_sub(dice.below(1 + name / 4));
                front.hit(store.key(&asked.to_le_bytes()), &mut any);
            }
            if name % 64 == 0 {
                front.tick();
                peak = peak.max(resident_bytes());
            }
            name += 1;
        }
        let counts = store.counts();
        assert!(counts.used_bytes <= budget_bytes);
        let grown = peak.saturating_sub(before);
        println!(
            "{story:>9}: {:7} objects, counted {:5.1} MiB, resident +{:5.1} MiB of {} MiB",
            counts.objects,
            counts.used_bytes as f64 / 1_048_576.0,
            grown as f64 / 1_048_576.0,
            budget_bytes >> 20
        );
        assert!(grown <= budget_bytes * 115 / 100, "{story}");
    }
}

fn put_zeros(store: &Arc<Store<Label>>, name: u64, shape: Shape, length: u64) {
    let guard = vacant(store, &name.to_le_bytes());
    let mut writer = guard.start(head(0, 1), shape, Span::default()).unwrap();
    let mut left = length;
    while left > 0 {
        let bytes = left.min(65_536);
        writer.push(Bytes::from(vec![7; bytes as usize])).unwrap();
        left -= bytes;
    }
    writer.finish().unwrap();
}
