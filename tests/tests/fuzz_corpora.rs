//! Replays the corpora of the fuzz targets and every input that once failed, without libFuzzer.
//!
//! `SHARDCAST_FUZZ_INPUT` is a file that `reproduce` runs; its folder or the beginning of its name says which target it
//! is for (`tests/fuzz/README.md`).

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use shardcast_tests::fuzz::memory::{self, Counting};
use shardcast_tests::fuzz::{INPUT_BYTES_MAX, TARGETS, Target, explain_shard};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Files in one corpus.
const FILES_MAX: usize = 300;
/// All corpora together, bytes.
const BYTES_MAX: u64 = 1_500_000;
/// Events shown of a failure of the target `shard`.
const EVENTS: usize = 60;

fn fuzz_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz")
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry of a folder").path()).collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> String {
    path.file_stem().expect("a name").to_string_lossy().into_owned()
}

/// What is committed of a target: its corpus, which is minimised, and what once failed, which stays.
fn inputs(target: &Target) -> Vec<PathBuf> {
    let corpus = entries(&fuzz_folder().join("corpus").join(target.name));
    assert!(!corpus.is_empty(), "{} has no corpus", target.name);
    assert!(corpus.len() <= FILES_MAX, "{} has {} files: minimise it", target.name, corpus.len());
    let found = fuzz_folder().join("found").join(target.name);
    corpus.into_iter().chain(if found.is_dir() { entries(&found) } else { Vec::new() }).collect()
}

/// Runs every input of a target; the names of those that fail.
fn replay(target: &Target) -> Vec<String> {
    let mut failed = Vec::new();
    for path in inputs(target) {
        let input = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert!(input.len() <= INPUT_BYTES_MAX, "{} has {} bytes", path.display(), input.len());
        if catch_unwind(|| target.run(&input)).is_err() {
            failed.push(path.display().to_string());
        }
    }
    failed
}

#[test]
fn every_input_of_every_corpus_passes() {
    let (_, counted) = memory::peak_of(|| vec![0_u8; 1_000]);
    assert_eq!(counted, 1_000, "memory is counted");
    let failed: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = TARGETS.iter().map(|target| scope.spawn(|| replay(target))).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a corpus that can be read")).collect()
    });
    assert!(
        failed.is_empty(),
        "to see one again: SHARDCAST_FUZZ_INPUT=<file>, test `reproduce`:\n{failed:#?}"
    );
}

#[test]
fn targets_files_and_corpora_are_the_same() {
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names.len(), TARGETS.len(), "names are unique");
    for folder in ["corpus", "fuzz_targets"] {
        let found: BTreeSet<_> = entries(&fuzz_folder().join(folder)).iter().map(|path| stem(path)).collect();
        assert_eq!(found, names, "what is in {folder}");
    }
    let found = entries(&fuzz_folder().join("found"));
    assert!(found.iter().all(|path| names.contains(&stem(path))), "what is in found: {found:?}");
    let manifest = fs::read_to_string(fuzz_folder().join("Cargo.toml")).expect("the manifest");
    for name in names {
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} is no [[bin]]");
        let target = fs::read_to_string(fuzz_folder().join(format!("fuzz_targets/{name}.rs")));
        let target = target.expect("the target's file");
        assert!(target.contains(&format!("target!(\"{name}\");")), "{name}.rs runs another target");
    }
}

#[test]
fn corpora_are_small() {
    let files = TARGETS.iter().flat_map(inputs);
    let bytes: u64 = files.map(|path| fs::metadata(path).expect("a file").len()).sum();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes in all corpora: minimise them");
}

/// Runs the input of a failure; without one there is nothing to do.
#[test]
fn reproduce() {
    let Some(path) = std::env::var_os("SHARDCAST_FUZZ_INPUT").map(PathBuf::from) else { return };
    let folder = stem(path.parent().expect("a folder"));
    let name = stem(&path);
    let is_meant = |target: &&Target| folder == target.name || name.starts_with(&format!("{}-", target.name));
    let target = TARGETS.iter().find(is_meant).expect("a folder or file named after a target");
    let input = fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if target.name == "shard"
        && let Err(report) = explain_shard(&input, EVENTS)
    {
        panic!("\n{report}");
    }
    target.run(&input);
}
