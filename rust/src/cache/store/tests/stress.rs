//! Many threads at once, for a bounded number of turns: no byte of one version in another, no budget passed.

use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

const THREADS: u64 = 4;
const TURNS: u64 = 6_000;
const NAMES: u64 = 300;

/// 0 to 40 000 bytes, by version.
fn length_of(version: u64) -> u64 {
    let length = super::hash::mixed(version, 1);
    if length % 4 == 0 { length % 40_000 } else { length % 3_000 }
}

async fn checked(store: &Arc<Store<Label>>, object: &Arc<Object<Label>>) {
    let version = object.head.meta.version;
    if let Some(whole) = body_of(store, object).await {
        assert!(whole == octets(version, 0, length_of(version)), "version {version} has other bytes");
    }
}

async fn fetch(store: &Arc<Store<Label>>, guard: FillGuard<Label>, version: u64, dice: &mut Dice) {
    match dice.below(20) {
        0 => return drop(guard),
        1 => return guard.release(dice.below(3)),
        _ => {}
    }
    let length = length_of(version);
    let shape = match dice.below(3) {
        0 => UNKNOWN,
        is_divisible => Shape { length: Some(length), is_divisible: is_divisible == 1 },
    };
    let Ok(mut writer) = guard.start(head(0, version), shape, Span::default()) else { return };
    let fate = dice.below(10);
    for piece in octets(version, 0, length).chunks(1 + dice.below(6_000) as usize) {
        if fate == 0 && dice.below(4) == 0 || writer.push(Bytes::copy_from_slice(piece)).is_err() {
            return;
        }
        tokio::task::yield_now().await;
    }
    let object = writer.finish().unwrap();
    checked(store, &object).await;
}

async fn turn(store: &Arc<Store<Label>>, front: &mut Front<Label>, versions: &AtomicU64, dice: &mut Dice) {
    // Low names are asked for often.
    let name = dice.below(NAMES).min(dice.below(NAMES)).to_le_bytes();
    let key = store.key(&name);
    if let Some(object) = front.hit(key, &mut any) {
        checked(store, &object).await;
        if dice.below(50) == 0
            && let Begin::Mine(guard) = store.begin(key, 0)
        {
            guard.refresh(&object, object.head.clone());
        }
        return;
    }
    match store.lookup(key, &mut any, dice.below(3_000)) {
        Lookup::Hit(object) => checked(store, &object).await,
        Lookup::Filling(fill) => {
            if let Filled::Object(object) = fill.wait().await {
                checked(store, &object).await;
            }
        }
        Lookup::Vacant(guard) | Lookup::Alone(guard) => {
            fetch(store, guard, versions.fetch_add(1, Ordering::Relaxed), dice).await;
        }
    }
    match dice.below(300) {
        0 => drop(store.purge(Target::Key(key_hash(&name)), Depth::Hard)),
        1 => drop(store.purge(Target::Prefix(name[..1].into()), Depth::Soft)),
        2 => store.tick(0),
        3 => front.tick(),
        _ => {}
    }
}

/// All turns of all threads; `slack_bytes` is what may be counted beyond the budget.
fn run(store: &Arc<Store<Label>>, slack_bytes: u64) {
    let versions = AtomicU64::new(1);
    std::thread::scope(|scope| {
        for seed in 1..=THREADS {
            let versions = &versions;
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
                // Several tasks on one thread, so that one waits for another's fetch on the same thread too.
                let task = async |task: u64| {
                    let (mut front, mut dice) = (Front::new(store, 16), Dice(seed * 1_000 + task));
                    for _ in 0..TURNS / 4 {
                        turn(store, &mut front, versions, &mut dice).await;
                        let counts = store.counts();
                        assert!(counts.used_bytes <= counts.budget_bytes + slack_bytes, "{counts:?}");
                    }
                };
                runtime.block_on(async { tokio::join!(task(1), task(2), task(3), task(4)) });
            });
        }
    });
    let counts = store.counts();
    println!("{counts:?}");
    assert!(counts.hits > 0 && counts.evictions > 0 && counts.joined > 0);
}

#[test]
fn threads_never_see_torn_bytes_and_never_pass_the_budget() {
    let store = Store::new(limits(1_500_000));
    run(&store, 0);
    // Nothing leaks: with all gone, what is left is what an empty store takes.
    store.purge(Target::Prefix([].into()), Depth::Hard);
    for _ in 0..10 {
        store.tick(0);
    }
    assert_eq!(store.counts().objects, 0);
    assert_eq!(store.counts().used_bytes, Store::<Label>::new(limits(1_500_000)).counts().used_bytes);
}

#[test]
fn threads_never_see_torn_bytes_with_a_disk_behind_the_memory() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(limits(1_500_000));
    store.attach_disk(folder.path(), 16 << 20).unwrap();
    run(&store, 300_000);
    let disk = store.counts().disk.unwrap();
    assert!(disk.hits > 100 && disk.errors == 0, "{disk:?}");
}
