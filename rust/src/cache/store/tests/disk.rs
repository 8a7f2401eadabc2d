//! The disk tier over restarts, damage, kills and full disks.

use super::*;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const DISK_BYTES: u64 = 256 << 20;

fn opened(folder: &Path, disk_bytes: u64) -> Arc<Store<Label>> {
    opened_with(folder, disk_bytes, 32 << 20)
}

/// The threads of a store that was just dropped may still hold the folder.
fn opened_with(folder: &Path, disk_bytes: u64, memory_bytes: u64) -> Arc<Store<Label>> {
    let store = Store::new(limits(memory_bytes));
    for _ in 0..500 {
        match store.attach_disk(folder, disk_bytes) {
            Ok(()) => return store,
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the folder stays locked");
}

async fn flushed(store: &Arc<Store<Label>>) -> bool {
    store.disk().unwrap().flush().await.unwrap()
}

/// What a request without an origin gets.
async fn found(store: &Arc<Store<Label>>, name: &[u8]) -> Option<Arc<Object<Label>>> {
    for _ in 0..10 {
        match store.lookup(store.key(name), &mut any, 0) {
            Lookup::Hit(object) => return Some(object),
            Lookup::Filling(fill) => match fill.wait().await {
                Filled::Object(object) => return Some(object),
                Filled::Alone => return None,
                Filled::Failed => {}
            },
            Lookup::Vacant(_) | Lookup::Alone(_) => return None,
        }
    }
    panic!("looks up for ever");
}

/// The body without an origin: None when it is not all there. Whatever is there must be right.
async fn kept_body(store: &Arc<Store<Label>>, object: &Arc<Object<Label>>) -> Option<Vec<u8>> {
    let mut reader = Reader::new(store, object, 0, None);
    let mut whole = Vec::new();
    loop {
        match reader.next().await {
            Next::Bytes(bytes) => {
                assert!(
                    bytes == octets(object.head.meta.version, reader.at(), bytes.len() as u64),
                    "a wrong byte"
                );
                whole.extend_from_slice(&bytes);
                reader.advance(bytes.len() as u64);
            }
            Next::End => return Some(whole),
            Next::Fetch(_) | Next::Bypass | Next::Broken => return None,
        }
    }
}

fn length_of(version: u64) -> u64 {
    match version % 4 {
        0 => 0,
        1 => version * 37 % 4_000,
        2 => version * 37 % 50_000,
        _ => 4_096 * (version % 7),
    }
}

fn put_version(store: &Arc<Store<Label>>, name: u64, version: u64) {
    let length = length_of(version);
    let shape = if version % 3 == 0 { UNKNOWN } else { known(length) };
    put(store, &name.to_le_bytes(), version, shape, length);
}

async fn filled(folder: &Path, names: u64) {
    let store = opened(folder, DISK_BYTES);
    (0..names).for_each(|name| put_version(&store, name, name));
    assert!(flushed(&store).await);
}

#[tokio::test]
async fn what_was_kept_is_there_after_a_restart_with_the_right_bytes() {
    let folder = tempfile::tempdir().unwrap();
    filled(folder.path(), 300).await;
    for _ in 0..3 {
        let store = opened(folder.path(), DISK_BYTES);
        for name in 0..300_u64 {
            let object = found(&store, &name.to_le_bytes()).await.expect("it was kept");
            assert_eq!(object.head, head(0, name));
            assert_eq!(
                kept_body(&store, &object).await.expect("all of it"),
                octets(name, 0, length_of(name))
            );
        }
        let counts = store.counts().disk.unwrap();
        assert_eq!((counts.damaged, counts.errors), (0, 0));
    }
}

impl PartialEq for Head<Label> {
    fn eq(&self, other: &Self) -> bool {
        (&self.meta, &self.wire, &self.tags) == (&other.meta, &other.wire, &other.tags)
    }
}

#[tokio::test]
async fn what_memory_has_no_room_for_comes_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened_with(folder.path(), DISK_BYTES, 1 << 20);
    for name in 0..400 {
        put_version(&store, name, name);
        assert!(flushed(&store).await);
    }
    assert!(store.counts().evictions > 0);
    let mut whole = 0;
    for name in 0..400_u64 {
        let Some(object) = found(&store, &name.to_le_bytes()).await else { continue };
        whole += usize::from(kept_body(&store, &object).await.is_some());
    }
    assert!(whole > 390, "{whole} of 400");
    assert!(store.counts().disk.unwrap().hits > 100);
}

#[tokio::test]
async fn a_newer_response_is_what_comes_back_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), DISK_BYTES);
    for version in 1..20 {
        put_version(&store, 1, version);
    }
    let object = hit(&store, &1_u64.to_le_bytes()).unwrap();
    let Begin::Mine(guard) = store.begin(object.key(), 0) else { panic!() };
    let refreshed = Head { wire: Bytes::from_static(b"304"), ..object.head.clone() };
    guard.refresh(&object, refreshed).unwrap();
    drop(object);
    assert!(flushed(&store).await);
    drop(store);
    let store = opened(folder.path(), DISK_BYTES);
    let object = found(&store, &1_u64.to_le_bytes()).await.unwrap();
    assert_eq!((object.head.meta.version, &object.head.wire[..]), (19, &b"304"[..]));
    assert_eq!(kept_body(&store, &object).await.unwrap(), octets(19, 0, length_of(19)));
    // One that was fetched without looking at the disk replaces what is there too.
    drop((object, store));
    let store = opened(folder.path(), DISK_BYTES);
    put_version(&store, 1, 21);
    assert!(flushed(&store).await);
    drop(store);
    let store = opened(folder.path(), DISK_BYTES);
    assert_eq!(store.disk().unwrap().counts().heads, 1);
    assert_eq!(found(&store, &1_u64.to_le_bytes()).await.unwrap().head.meta.version, 21);
}

#[tokio::test]
async fn purges_hold_over_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let store = opened(folder.path(), DISK_BYTES);
    let put = |name: &[u8], tags: &[u64]| {
        let Begin::Mine(guard) = store.begin(store.key(name), 0) else { panic!() };
        guard.start(tagged(1, tags), known(0), Span::default()).unwrap().finish().unwrap();
    };
    for (name, tags) in
        [(&b"k/1"[..], &[1][..]), (b"k/2", &[2]), (b"p/3", &[3]), (b"k/4", &[4]), (b"k/5", &[5])]
    {
        put(name, tags);
    }
    let purges = [
        (Target::Key(key_hash(b"k/1")), Depth::Hard),
        (Target::Tag(2), Depth::Hard),
        (Target::Prefix(b"p/".as_slice().into()), Depth::Hard),
        (Target::Tag(4), Depth::Soft),
    ];
    for (target, depth) in purges {
        assert!(store.purge(target, depth).unwrap().await.unwrap());
    }
    put(b"k/1", &[2]);
    assert!(flushed(&store).await);
    drop(store);
    for _ in 0..3 {
        let store = opened(folder.path(), DISK_BYTES);
        assert!(found(&store, b"k/1").await.is_some(), "fetched after the purges");
        assert!(found(&store, b"k/2").await.is_none());
        assert!(found(&store, b"p/3").await.is_none());
        assert!(found(&store, b"k/4").await.unwrap().is_purged_softly());
        assert!(!found(&store, b"k/5").await.unwrap().is_purged_softly());
    }
}

#[tokio::test]
async fn no_damage_ever_gives_a_wrong_byte() {
    let sound = tempfile::tempdir().unwrap();
    filled(sound.path(), 120).await;
    drop(opened(sound.path(), DISK_BYTES)); // Once more, so that there are two sessions.
    let mut kept = 0;
    for seed in 1..=40 {
        let (folder, mut dice) = (tempfile::tempdir().unwrap(), Dice(seed * 7_919));
        for file in sorted(sound.path()) {
            let mut bytes = written(&sound.path().join(&file));
            if seed % 3 == 0 && file != "purges" && dice.below(3) == 0 {
                bytes.truncate(dice.below(bytes.len() as u64 + 1) as usize);
            }
            let is_small = file == "identity" || file == "purges";
            let hits = if is_small { dice.below(8) / 7 } else { dice.below(12) };
            for _ in 0..hits {
                let length = bytes.len() as u64;
                if length > 0 {
                    bytes[dice.below(length) as usize] ^= 1 << dice.below(8);
                }
            }
            fs::write(folder.path().join(&file), bytes).unwrap();
        }
        let store = opened(folder.path(), DISK_BYTES);
        for name in 0..120_u64 {
            let Some(object) = found(&store, &name.to_le_bytes()).await else { continue };
            assert_eq!(object.head, head(0, name));
            kept += usize::from(kept_body(&store, &object).await.is_some());
        }
    }
    println!("{kept} of {} objects outlived the damage", 120 * 40);
    assert!(kept > 120);
}

/// The names in a folder, always in the same order, so that a seed means the same damage on every file system.
fn sorted(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

/// A file without a segment's preallocated zeros. Other files may end in a zero that belongs to them.
fn written(path: &Path) -> Vec<u8> {
    let mut bytes = fs::read(path).unwrap();
    if !path.file_name().unwrap().to_str().unwrap().starts_with("segment-") {
        return bytes;
    }
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    bytes.truncate(length);
    bytes
}

#[tokio::test]
async fn segments_are_reused_within_the_budget_and_reads_stay_right() {
    let folder = tempfile::tempdir().unwrap();
    let disk_bytes = 8 << 20;
    for round in 0..2_u64 {
        let store = opened_with(folder.path(), disk_bytes, 3 << 20);
        let mut whole = 0;
        for name in 0..1_500_u64 {
            let version = round * 10_000 + name;
            put_version(&store, name, version);
            if name % 10 == 0 {
                assert!(flushed(&store).await);
                let older = name.saturating_sub(name % 300).to_le_bytes();
                if let Some(object) = found(&store, &older).await {
                    whole += usize::from(kept_body(&store, &object).await.is_some());
                }
            }
        }
        assert!(whole > 20);
    }
    let blocks =
        |entry: fs::DirEntry| std::os::unix::fs::MetadataExt::blocks(&entry.metadata().unwrap()) * 512;
    let used: u64 = fs::read_dir(folder.path()).unwrap().map(|entry| blocks(entry.unwrap())).sum();
    assert!(used <= disk_bytes + disk_bytes / 8, "{used} bytes");
}

#[tokio::test]
async fn a_full_disk_is_passed_by() {
    let folder = tempfile::tempdir().unwrap();
    for segment in 0..32 {
        std::os::unix::fs::symlink("/dev/full", folder.path().join(format!("segment-{segment:04}"))).unwrap();
    }
    // An identity of the right sizes, so that the links are not deleted as another store's.
    fs::create_dir(folder.path().join("other")).unwrap();
    drop(opened(&folder.path().join("other"), DISK_BYTES));
    fs::copy(folder.path().join("other/identity"), folder.path().join("identity")).unwrap();
    let store = opened(folder.path(), DISK_BYTES);
    for name in 0..50 {
        put_version(&store, name, name);
    }
    flushed(&store).await;
    let counts = store.counts().disk.unwrap();
    assert!(counts.is_off && counts.errors >= 3, "{counts:?}");
    for name in 0..50_u64 {
        let object = hit(&store, &name.to_le_bytes()).unwrap();
        assert_eq!(body_of(&store, &object).await.unwrap(), octets(name, 0, length_of(name)));
    }
    store.tick(1_000);
    store.tick(20_000);
    assert!(store.counts().disk.unwrap().is_off);
    store.tick(31_000);
    assert!(!store.counts().disk.unwrap().is_off, "it is tried again");
}

#[test]
fn a_folder_serves_one_store_and_too_small_a_budget_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let first = opened(folder.path(), DISK_BYTES);
    let second = Store::<Label>::new(limits(8 << 20));
    let kind = second.attach_disk(folder.path(), DISK_BYTES).unwrap_err().kind();
    assert_eq!(kind, std::io::ErrorKind::WouldBlock);
    let kind = second.attach_disk(&folder.path().join("small"), 1 << 20).unwrap_err().kind();
    assert_eq!(kind, std::io::ErrorKind::InvalidInput);
    drop(first);
}

/// Writes and purges until it is killed; tells on its output what was confirmed.
#[test]
#[ignore = "the child of the test below"]
fn child_that_is_killed() {
    let folder = std::env::var("POLYCDN_TEST_FOLDER").unwrap();
    let start: u64 = std::env::var("POLYCDN_TEST_START").unwrap().parse().unwrap();
    let store = opened(Path::new(&folder), 64 << 20);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for version in start.. {
        put_version(&store, version % 97, version);
        if version % 50 == 0 {
            let name = (version / 50 % 97).to_le_bytes();
            let confirmed = store.purge(Target::Key(key_hash(&name)), Depth::Hard).unwrap();
            assert!(runtime.block_on(confirmed).unwrap());
            println!("purged {} {version}", version / 50 % 97);
        }
    }
}

#[tokio::test]
async fn a_killed_process_leaves_nothing_wrong_behind() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let path = module_path!().split_once("::").unwrap().1;
    let (mut start, mut kept) = (1_u64, 0);
    for kill in 0..12_u64 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--ignored", "--nocapture", "--exact", &format!("{path}::child_that_is_killed")])
            .env("POLYCDN_TEST_FOLDER", folder.path())
            .env("POLYCDN_TEST_START", start.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut purged = std::collections::HashMap::new();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        for line in lines.map_while(Result::ok) {
            let words: Vec<&str> = line.split(' ').collect();
            if let ["purged", name, version] = words[..] {
                start = version.parse().unwrap();
                purged.insert(name.parse::<u64>().unwrap(), start);
                if purged.len() as u64 > 3 + kill * 3 {
                    let _ = child.kill();
                }
            }
        }
        child.wait().unwrap();
        start += 1_000;
        let store = opened(folder.path(), 64 << 20);
        for name in 0..97_u64 {
            let Some(object) = found(&store, &name.to_le_bytes()).await else { continue };
            let version = object.head.meta.version;
            assert_eq!(version % 97, name);
            let purged_at = purged.get(&name).copied().unwrap_or(0);
            assert!(version >= purged_at, "{name} was purged at {purged_at} and is there as {version}");
            kept += usize::from(kept_body(&store, &object).await.is_some());
        }
    }
    println!("{kept} objects found whole after 12 kills");
    assert!(kept > 300);
}

#[tokio::test]
async fn a_hundred_thousand_objects_are_ready_quickly_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let objects = if cfg!(debug_assertions) { 20_000 } else { 100_000_u64 };
    let open = || {
        let store = Store::<Label>::new(Limits::new(512 << 20));
        store.attach_disk(folder.path(), 2 << 30).map(|()| store)
    };
    let store = open().unwrap();
    for name in 0..objects {
        put(&store, &name.to_le_bytes(), name, known(1_000), 1_000);
        if name % 10_000 == 0 {
            flushed(&store).await;
        }
    }
    assert!(flushed(&store).await);
    drop(store);
    let waited = crate::clock::moment();
    let (store, taken) = loop {
        let begun = crate::clock::moment();
        match open() {
            Ok(store) => {
                assert!(found(&store, &77_u64.to_le_bytes()).await.is_some());
                break (store, begun.elapsed());
            }
            Err(_) => assert!(waited.elapsed() < Duration::from_secs(5)),
        }
    };
    println!("{} objects: first hit {taken:?} after the start", store.disk().unwrap().counts().heads);
    assert_eq!(store.disk().unwrap().counts().heads, objects);
    assert!(taken < Duration::from_secs(1));
}

#[tokio::test]
async fn a_forgotten_key_does_not_come_back_from_disk() {
    let folder = tempfile::tempdir().unwrap();
    for is_on_disk_alone in [false, true] {
        let store = opened(folder.path(), DISK_BYTES);
        put(&store, b"k", 1, known(10_000), 10_000);
        put(&store, b"other", 9, known(100), 100);
        assert!(flushed(&store).await);
        if is_on_disk_alone {
            store.remove(&hit(&store, b"k").unwrap());
        }
        let writer = vacant(&store, b"late").start(head(0, 1), UNKNOWN, Span::default()).unwrap();
        for name in [b"k".as_slice(), b"late".as_slice()] {
            if let Some(written) = store.forget(store.key(name)) {
                assert!(written.await.unwrap());
            }
            assert!(found(&store, name).await.is_none());
        }
        writer.finish().unwrap();
        assert!(flushed(&store).await);
        drop(store);
        let store = opened(folder.path(), DISK_BYTES);
        assert!(found(&store, b"k").await.is_none() && found(&store, b"late").await.is_none());
        assert!(found(&store, b"other").await.is_some());
    }
}
