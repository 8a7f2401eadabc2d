//! The entries driven without a fuzzer: the corpus as it is, then mutations of it, the same ones in every run.

use super::{ENTRIES, Entry};
use crate::cache::semantics::dice::Dice;
use std::path::{Path, PathBuf};

/// Of every entry; all together take a few seconds. FUZZ_EXECUTIONS in the environment says another number.
const EXECUTIONS: u64 = 20_000;

fn executions() -> u64 {
    let told = std::env::var("FUZZ_EXECUTIONS").ok().and_then(|text| text.parse().ok());
    told.unwrap_or(EXECUTIONS)
}
const INPUT_BYTES_MAX: usize = 2_048;

/// What the readers look for.
const WORDS: [&[u8]; 40] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\t",
    b" ",
    b":",
    b": ",
    b",",
    b";",
    b"=",
    b"\"",
    b"\\",
    b"-",
    b"/",
    b"?",
    b"&",
    b"*",
    b"0",
    b"..",
    b"%2f",
    b"bytes=",
    b"18446744073709551615",
    b"2147483648",
    b"max-age=",
    b"no-store",
    b"private",
    b"W/\"",
    b"content-length: ",
    b"transfer-encoding: chunked\r\n",
    b"connection: close\r\n",
    b"host: a\r\n",
    b"vary: ",
    b"HTTP/1.1",
    b"GET ",
    b"0\r\n\r\n",
    b"\xc0\x0c",
    b"\0\0\x29",
    b"null",
    b"[]",
    b"{}",
];

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus")
}

/// The files of an entry's folder, in the order of their names.
fn seeds(name: &str) -> Vec<Vec<u8>> {
    let folder = std::fs::read_dir(corpus().join(name)).unwrap();
    let mut paths: Vec<PathBuf> = folder.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Shows the input under which a claim did not hold.
struct Shown<'a>(&'a str, &'a [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{} broke on b\"{}\"", self.0, self.1.escape_ascii());
        }
    }
}

fn below(dice: &mut Dice, end: usize) -> usize {
    dice.below(end as u64) as usize
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], dice: &mut Dice) {
    let at = below(dice, input.len() + 1);
    let to = (at + below(dice, 24)).min(input.len());
    let part = || -> Vec<u8> { input[at..to].to_vec() };
    match dice.below(8) {
        0 if at < input.len() => input[at] ^= 1 << dice.below(8),
        1 if at < input.len() => input[at] = dice.byte(),
        2 => drop(input.drain(at..to)),
        3 => drop(input.splice(at..at, part())),
        4 => drop(input.splice(at..to, WORDS[below(dice, WORDS.len())].to_vec())),
        5 => drop(input.splice(at..at, WORDS[below(dice, WORDS.len())].to_vec())),
        6 => input.truncate(at),
        _ => {
            let other = &seeds[below(dice, seeds.len())];
            input.truncate(at);
            input.extend_from_slice(&other[below(dice, other.len() + 1)..]);
        }
    }
    input.truncate(INPUT_BYTES_MAX);
}

/// The corpus of an entry, then mutations of it.
fn drive(name: &str, entry: Entry) {
    let seeds = seeds(name);
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for seed in &seeds {
        let _shown = Shown(name, seed);
        entry(seed);
    }
    for turn in 0..executions() {
        let mut input = seeds[turn as usize % seeds.len()].clone();
        for _ in 0..=dice.below(4) {
            mutate(&mut input, &seeds, &mut dice);
        }
        let _shown = Shown(name, &input);
        entry(&input);
    }
}

#[test]
fn every_claim_holds_for_the_corpus_and_for_mutations_of_it() {
    let is_broken = |name: &str, entry: Entry| std::panic::catch_unwind(|| drive(name, entry)).is_err();
    let broken = ENTRIES.into_iter().filter(|(name, entry)| is_broken(name, *entry));
    let names: Vec<&str> = broken.map(|(name, _)| name).collect();
    assert_eq!(names, [""; 0]);
}

#[test]
fn every_entry_has_a_corpus_and_a_target_and_every_corpus_an_entry() {
    let names: Vec<String> = ENTRIES.iter().map(|(name, _)| (*name).to_owned()).collect();
    let stems = |folder: &str| {
        let files = std::fs::read_dir(corpus().join(folder)).unwrap();
        let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
        let mut stems: Vec<String> = files.map(|file| stem(file.unwrap().path())).collect();
        stems.sort();
        stems
    };
    assert_eq!(stems("."), names);
    assert_eq!(stems("../targets"), names);
}
