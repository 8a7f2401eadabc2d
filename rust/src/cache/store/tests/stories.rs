//! Fetches, joiners, ranges, variants, purges: one thing at a time.

use super::*;
use std::time::Duration;

#[tokio::test]
async fn one_fetch_serves_all_waiters_as_the_bytes_arrive() {
    let store = small_store();
    let guard = vacant(&store, b"k");
    let mut waiters = Vec::new();
    for _ in 0..50 {
        let Lookup::Filling(fill) = store.lookup(store.key(b"k"), &mut any, 0) else {
            panic!("a second fetch")
        };
        waiters.push(tokio::spawn(async move {
            match fill.wait().await {
                Filled::Object(object) => object,
                _ => panic!("no object"),
            }
        }));
    }
    tokio::task::yield_now().await;
    assert_eq!(guard.waiting(), 50);
    let mut writer = guard.start(head(0, 1), UNKNOWN, Span::default()).unwrap();
    writer.push(octets(1, 0, 10)).unwrap();
    for waiter in waiters {
        let mut reader = Reader::new(&store, &waiter.await.unwrap(), 0, None);
        let Next::Bytes(bytes) = reader.next().await else { panic!("no first bytes") };
        assert_eq!(bytes, octets(1, 0, 10));
        reader.advance(10);
        assert!(reader.try_next().is_none(), "the rest has not come yet");
    }
    assert_eq!(store.counts().joined, 50);
}

#[tokio::test]
async fn a_dropped_guard_lets_exactly_one_waiter_take_over() {
    let store = small_store();
    let guard = vacant(&store, b"k");
    let Lookup::Filling(fill) = store.lookup(store.key(b"k"), &mut any, 0) else { panic!() };
    drop(guard);
    assert!(matches!(fill.wait().await, Filled::Failed));
    let guard = vacant(&store, b"k");
    assert_eq!(word(&store.lookup(store.key(b"k"), &mut any, 0)), "filling");
    drop(guard);
}

#[tokio::test]
async fn what_may_not_be_kept_makes_nobody_wait_for_a_while() {
    let store = small_store();
    let guard = vacant(&store, b"k");
    let Lookup::Filling(fill) = store.lookup(store.key(b"k"), &mut any, 10_000) else { panic!() };
    guard.release(20_000);
    assert!(matches!(fill.wait().await, Filled::Alone));
    let alone = store.lookup(store.key(b"k"), &mut any, 10_000);
    assert_eq!(word(&alone), "alone");
    assert_eq!(word(&store.lookup(store.key(b"k"), &mut any, 10_000)), "alone");
    assert_eq!(word(&store.lookup(store.key(b"k"), &mut any, 20_001)), "vacant");
    // It turned out to be cacheable after all.
    let Lookup::Alone(guard) = alone else { panic!() };
    guard.start(head(0, 1), known(0), Span::default()).unwrap().finish().unwrap();
    assert_eq!(word(&store.lookup(store.key(b"k"), &mut any, 10_000)), "hit");
}

#[tokio::test]
async fn bodies_of_every_length_come_back_whole() {
    let store = small_store();
    let lengths = [0, 1, 4_095, 4_096, 4_097, 8_191, 8_192, 8_193, 70_000, 100 * 4_096];
    for (number, length) in lengths.into_iter().enumerate() {
        let fixed = Shape { length: Some(length), is_divisible: false };
        for (kind, shape) in [known(length), fixed, UNKNOWN].into_iter().enumerate() {
            for step in [1_000, 4_096, 1 << 20] {
                let name = [number as u8, kind as u8, (step % 251) as u8];
                let mut writer = vacant(&store, &name).start(head(0, 7), shape, Span::default()).unwrap();
                for piece in octets(7, 0, length).chunks(step) {
                    writer.push(Bytes::copy_from_slice(piece)).unwrap();
                }
                let object = writer.finish().unwrap();
                assert_eq!(
                    object.body.whole().is_some(),
                    length <= BLOCK_BYTES,
                    "{length} bytes, kind {kind}"
                );
                assert_eq!(body_of(&store, &object).await.unwrap(), octets(7, 0, length), "{length} bytes");
            }
        }
    }
}

#[tokio::test]
async fn too_much_and_too_little_are_refused() {
    let store = small_store();
    for is_divisible in [true, false] {
        let shape = Shape { length: Some(10_000), is_divisible };
        let mut long = vacant(&store, b"long").start(head(0, 1), shape, Span::default()).unwrap();
        assert_eq!(long.push(octets(1, 0, 10_001)), Err(Stop::TooLong));
        drop(long);
        let mut short = vacant(&store, b"short").start(head(0, 1), shape, Span::default()).unwrap();
        short.push(octets(1, 0, 9_999)).unwrap();
        let object = Arc::clone(short.object());
        assert_eq!(short.finish().err(), Some(Stop::TooShort));
        assert_eq!(hit(&store, b"short").is_some(), is_divisible, "what can be completed later stays");
        assert_eq!(body_of(&store, &object).await.is_some(), is_divisible);
        for name in [&b"long"[..], b"short"] {
            hit(&store, name).iter().for_each(|object| assert!(store.remove(object)));
        }
    }
}

#[tokio::test]
async fn a_range_of_a_huge_object_fetches_only_its_blocks() {
    let store = Store::new(limits(64 << 20));
    let (length, at) = (100 << 30, 90 << 30);
    let span = Span { from: at, to: Some(at + 2 * BLOCK_BYTES) };
    let mut writer = vacant(&store, b"huge").start(head(0, 1), known(length), span).unwrap();
    writer.push(octets(1, at, 2 * BLOCK_BYTES)).unwrap();
    let object = writer.finish().unwrap();
    let mut reader = Reader::new(&store, &object, at + 100, Some(at + 2 * BLOCK_BYTES + 10));
    let mut fetched = Vec::new();
    let mut bytes_read = 0;
    loop {
        match reader.next().await {
            Next::Bytes(bytes) => {
                assert_eq!(bytes, octets(1, reader.at(), bytes.len() as u64));
                bytes_read += bytes.len();
                reader.advance(bytes.len() as u64);
            }
            Next::Fetch(mut writer) => {
                let (from, to) = writer.range();
                fetched.push((from, to.unwrap()));
                writer.push(octets(1, from, to.unwrap() - from)).unwrap();
                writer.finish().unwrap();
            }
            Next::End => break,
            _ => panic!("no memory or broken"),
        }
    }
    assert_eq!(bytes_read as u64, 2 * BLOCK_BYTES - 90);
    assert_eq!(fetched, [(at + 2 * BLOCK_BYTES, at + 3 * BLOCK_BYTES)]);
    assert_eq!(object.body.blocks_present(), 3);
}

#[tokio::test]
async fn two_ranges_under_way_share_blocks_and_a_lost_fetch_is_taken_over() {
    let store = small_store();
    let span = Span { from: 0, to: Some(BLOCK_BYTES) };
    let mut writer = vacant(&store, b"k").start(head(0, 1), known(10 * BLOCK_BYTES), span).unwrap();
    writer.push(octets(1, 0, BLOCK_BYTES)).unwrap();
    let object = writer.finish().unwrap();
    let mut first = Reader::new(&store, &object, BLOCK_BYTES, Some(3 * BLOCK_BYTES));
    let mut second = Reader::new(&store, &object, BLOCK_BYTES + 5, Some(5 * BLOCK_BYTES));
    let Next::Fetch(mut fetch) = first.next().await else { panic!() };
    assert_eq!(fetch.range(), (BLOCK_BYTES, Some(3 * BLOCK_BYTES)));
    assert!(second.try_next().is_none(), "waits for the first's fetch");
    fetch.push(octets(1, BLOCK_BYTES, 100)).unwrap();
    let Some(Next::Bytes(bytes)) = second.try_next() else { panic!() };
    assert_eq!(bytes, octets(1, BLOCK_BYTES + 5, 95));
    second.advance(95);
    assert!(second.try_next().is_none());
    drop(fetch);
    let Some(Next::Fetch(taken)) = second.try_next() else { panic!("nobody takes over") };
    assert_eq!(taken.range(), (BLOCK_BYTES, Some(5 * BLOCK_BYTES)));
    assert!(first.try_next().is_none(), "now waits for the second's fetch");
}

#[tokio::test]
async fn a_range_far_ahead_of_a_full_fetch_does_not_wait_for_it() {
    let store = small_store();
    let length = 1_000 * BLOCK_BYTES;
    let mut full = vacant(&store, b"k").start(head(0, 1), known(length), Span::default()).unwrap();
    full.push(octets(1, 0, 10)).unwrap();
    let object = hit(&store, b"k").unwrap();
    let mut near = Reader::new(&store, &object, 3 * BLOCK_BYTES, None);
    assert!(near.try_next().is_none());
    let mut far = Reader::new(&store, &object, 900 * BLOCK_BYTES, Some(900 * BLOCK_BYTES + 1));
    let Some(Next::Fetch(mut fetch)) = far.try_next() else { panic!() };
    fetch.push(octets(1, 900 * BLOCK_BYTES, BLOCK_BYTES)).unwrap();
    fetch.finish().unwrap();
    // The full fetch passes over what is there.
    full.push(octets(1, 10, length - 10)).unwrap();
    full.finish().unwrap();
    assert_eq!(body_of(&store, &object).await.unwrap(), octets(1, 0, length));
}

#[test]
fn variants_stand_side_by_side_up_to_the_limit() {
    let store = Store::new(Limits { variants_max: 3, ..limits(8 << 20) });
    for (variant, version) in [(1, 1), (2, 2), (1, 3), (3, 4), (4, 5)] {
        let Begin::Mine(guard) = store.begin(store.key(b"k"), 0) else { panic!() };
        guard.start(head(variant, version), known(0), Span::default()).unwrap().finish().unwrap();
    }
    let found = |variant: u8| {
        let object = store.find(store.key(b"k"), &mut |label: &Label| label.variant == variant);
        object.map(|object| object.head.meta.version)
    };
    assert_eq!([1, 2, 3, 4].map(found), [Some(3), None, Some(4), Some(5)]);
    assert_eq!(store.counts().objects, 3);
}

#[test]
fn fetches_in_different_lanes_do_not_wait_for_each_other() {
    struct Lane(u64);
    impl Select<Label> for Lane {
        fn matches(&mut self, _: &Label) -> bool {
            false
        }
        fn lane(&self) -> u64 {
            self.0
        }
    }
    let store = small_store();
    let one = store.lookup(store.key(b"k"), &mut Lane(1), 0);
    let two = store.lookup(store.key(b"k"), &mut Lane(2), 0);
    let again = store.lookup(store.key(b"k"), &mut Lane(1), 0);
    assert_eq!([&one, &two, &again].map(word), ["vacant", "vacant", "filling"]);
}

#[tokio::test]
async fn a_refresh_keeps_the_body_and_shows_the_new_head_at_once() {
    let store = small_store();
    put(&store, b"k", 1, known(9_000), 9_000);
    let mut front = Front::new(&store, 1);
    let key = store.key(b"k");
    let old = front.hit(key, &mut any).unwrap();
    let Begin::Mine(guard) = store.begin(key, 0) else { panic!() };
    let fresh = guard.refresh(&old, head(0, 2)).unwrap();
    assert!(!old.is_live());
    assert_eq!(front.hit(key, &mut any).unwrap().head.meta.version, 2);
    assert!(Arc::ptr_eq(&fresh.body, &old.body));
    assert_eq!(store.counts().objects, 1);
}

#[test]
fn a_million_objects_of_one_tag_are_purged_in_under_ten_milliseconds() {
    let store = Store::new(Limits::new(2 << 30));
    let tag = tag_hash(b"www", b"everything");
    let objects: u32 = if cfg!(debug_assertions) { 200_000 } else { 1_000_000 };
    for name in 0..objects {
        let guard = vacant(&store, &name.to_le_bytes());
        guard.start(tagged(1, &[tag]), known(0), Span::default()).unwrap().finish().unwrap();
    }
    assert_eq!(store.counts().objects, u64::from(objects));
    let begun = crate::clock::moment();
    store.purge(Target::Tag(tag), Depth::Hard);
    let taken = begun.elapsed();
    println!("{objects} objects of one tag purged in {taken:?}");
    assert!(taken < Duration::from_millis(10));
    assert!((0..objects).step_by(997).all(|name| hit(&store, &name.to_le_bytes()).is_none()));
    for _ in 0..1_000 {
        store.tick(0);
    }
    assert_eq!(store.counts().objects, 0, "the walk afterwards gives the memory back");
}

#[test]
fn hard_purges_take_away_and_soft_purges_make_stale() {
    let store = small_store();
    let mut front = Front::new(&store, 1);
    let targets = |name: &[u8]| {
        [Target::Key(key_hash(name)), Target::Tag(5), Target::Prefix(b"www/a/".as_slice().into())]
    };
    for depth in [Depth::Soft, Depth::Hard] {
        for target in targets(b"www/a/1") {
            for name in [&b"www/a/1"[..], b"www/b/1"] {
                let Begin::Mine(guard) = store.begin(store.key(name), 0) else { panic!() };
                let tags: &[u64] = if name == b"www/a/1" { &[4, 5] } else { &[4] };
                guard.start(tagged(1, tags), known(0), Span::default()).unwrap().finish().unwrap();
                assert!(front.hit(store.key(name), &mut any).is_some());
            }
            store.purge(target.clone(), depth);
            let found = front.hit(store.key(b"www/a/1"), &mut any);
            match depth {
                Depth::Hard => assert!(found.is_none(), "{target:?}"),
                Depth::Soft => assert!(found.unwrap().is_purged_softly(), "{target:?}"),
            }
            let other = front.hit(store.key(b"www/b/1"), &mut any).unwrap();
            assert!(!other.is_purged_softly(), "{target:?}");
        }
    }
}

#[tokio::test]
async fn a_purge_during_a_fetch_holds_for_what_the_fetch_brings() {
    let store = small_store();
    let guard = vacant(&store, b"k");
    let Lookup::Filling(fill) = store.lookup(store.key(b"k"), &mut any, 0) else { panic!() };
    store.purge(Target::Tag(5), Depth::Hard);
    assert!(guard.start(tagged(1, &[5]), known(0), Span::default()).is_err());
    assert!(matches!(fill.wait().await, Filled::Alone));
    // Also when the head had come before.
    let mut writer = vacant(&store, b"k").start(tagged(1, &[5]), known(3), Span::default()).unwrap();
    store.purge(Target::Tag(5), Depth::Hard);
    writer.push(octets(1, 0, 3)).unwrap();
    let object = writer.finish().unwrap();
    assert!(hit(&store, b"k").is_none());
    assert_eq!(body_of(&store, &object).await.unwrap(), octets(1, 0, 3), "who reads it already goes on");
}

#[test]
fn a_front_lets_go_of_what_was_evicted() {
    let store = Store::<Label>::new(limits(8 << 20));
    let mut front = Front::new(&store, 1);
    let used_before = store.counts().used_bytes;
    for name in 0..100_u32 {
        put(&store, &name.to_le_bytes(), 1, known(1_000), 1_000);
        for _ in 0..3 {
            assert!(front.hit(store.key(&name.to_le_bytes()), &mut any).is_some());
        }
    }
    store.purge(Target::Prefix([].into()), Depth::Hard);
    for _ in 0..10 {
        store.tick(0);
    }
    assert!(store.counts().used_bytes > used_before + 50_000);
    front.tick();
    assert_eq!(store.counts().used_bytes, used_before);
}

#[tokio::test]
async fn a_forgotten_key_is_gone_and_nothing_that_was_on_its_way_is_kept() {
    let store = small_store();
    put(&store, b"k", 1, known(100), 100);
    put(&store, b"other", 1, known(100), 100);
    assert!(store.forget(store.key(b"k")).is_none(), "there is no disk");
    assert!(hit(&store, b"k").is_none() && hit(&store, b"other").is_some());
    let early = vacant(&store, b"k");
    store.forget(store.key(b"k"));
    assert!(early.start(head(0, 1), known(100), Span::default()).is_err());
    put(&store, b"k", 2, known(100), 100);
    let writer = vacant(&store, b"long").start(head(0, 1), UNKNOWN, Span::default()).unwrap();
    store.forget(store.key(b"long"));
    writer.finish().unwrap();
    assert!(hit(&store, b"long").is_none(), "its body came later");
    assert_eq!(hit(&store, b"k").unwrap().head.meta.version, 2);
}
