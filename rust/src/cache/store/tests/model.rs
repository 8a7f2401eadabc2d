//! The store against a plain map: it may forget, but what it gives is what the map says.

use super::*;
use std::collections::HashMap;

/// What must be true of a key: the version that was stored last, or nothing, and whether it was purged softly since.
type Reference = HashMap<u64, (u64, bool)>;

fn tags_of(name: u64) -> [u64; 2] {
    [name % 5, 100 + name % 7]
}

fn purge(store: &Arc<Store<Label>>, reference: &mut Reference, dice: &mut Dice) {
    let depth = if dice.below(2) == 0 { Depth::Hard } else { Depth::Soft };
    let name = dice.below(200);
    let (target, hits): (Target, Box<dyn Fn(u64) -> bool>) = match dice.below(3) {
        0 => (Target::Key(key_hash(&name.to_be_bytes())), Box::new(move |other| other == name)),
        1 => (Target::Tag(name % 5), Box::new(move |other| other % 5 == name % 5)),
        _ => {
            let prefix = name.to_be_bytes()[..7].into();
            (Target::Prefix(prefix), Box::new(move |other| other >> 8 == name >> 8))
        }
    };
    store.purge(target, depth);
    match depth {
        Depth::Hard => reference.retain(|other, _| !hits(*other)),
        Depth::Soft => {
            reference.iter_mut().filter(|(other, _)| hits(**other)).for_each(|(_, (_, stale))| *stale = true)
        }
    }
}

#[test]
fn what_the_store_gives_is_what_a_plain_map_would_give() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for seed in 1..=6 {
        let (mut dice, mut reference) = (Dice(seed), Reference::new());
        let store = Store::new(Limits { purge_names_max: 50, ..limits(400_000) });
        let mut front = Front::new(&store, 1);
        let (mut hits, mut asked) = (0, 0);
        for version in 1..8_000 {
            let name = dice.below(600).min(dice.below(600));
            let (octets_of_name, shape) = (name.to_be_bytes(), known(dice.below(9_000)));
            match dice.below(100) {
                0..30 => {
                    let Begin::Mine(guard) = store.begin(store.key(&octets_of_name), 0) else { panic!() };
                    let made = guard.start(tagged(version, &tags_of(name)), shape, Span::default());
                    let Ok(mut writer) = made else { continue };
                    writer.push(octets(version, 0, shape.length.unwrap())).unwrap();
                    writer.finish().unwrap();
                    reference.insert(name, (version, false));
                }
                30..34 => purge(&store, &mut reference, &mut dice),
                34..36 => {
                    store.tick(0);
                    front.tick();
                }
                _ => {
                    asked += usize::from(reference.contains_key(&name));
                    let Some(object) = front.hit(store.key(&octets_of_name), &mut any) else { continue };
                    hits += 1;
                    let (version, is_stale) = reference.get(&name).expect("it was purged");
                    assert_eq!((object.head.meta.version, object.is_purged_softly()), (*version, *is_stale));
                    let whole = runtime.block_on(body_of(&store, &object)).unwrap();
                    assert!(whole == octets(*version, 0, object.body.length().unwrap()));
                }
            }
        }
        println!("seed {seed}: {hits} of {asked} found, {:?}", store.counts());
        assert!(hits * 2 > asked, "a store that forgets everything is no cache");
    }
}
