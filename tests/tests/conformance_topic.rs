//! Every recorded conversation of the topic-session protocol against Shardcast.
//!
//! `docs/protocols/topic-conformance.md` lists what is replayed and how; to write it anew:
//! `SHARDCAST_WRITE_PAGES=1 cargo test -p shardcast-tests --test conformance_topic page`.

use std::fs;
use std::path::Path;

use shardcast::config::SnapshotMode;
use shardcast_tests::topic::recording::{fixture, recordings};
use shardcast_tests::topic::replay::{Outcome, replay_all};
use shardcast_tests::topic::{page, plans};

/// Replays all recordings; every line of the report is printed, and none may be a failure.
fn replay(shards: usize, snapshots: SnapshotMode) {
    let replays = replay_all(&recordings(&fixture()), shards, snapshots);
    replays.iter().for_each(|replay| println!("{replay}"));
    let failed: Vec<_> = replays
        .iter()
        .filter(|replay| replay.outcome == Outcome::Failed)
        .map(|replay| &replay.name)
        .collect();
    assert!(failed.is_empty(), "these differ; see above: {failed:?}");
}

#[test]
fn shardcast_with_one_shard_answers_as_recorded() {
    replay(1, SnapshotMode::Json);
}

#[test]
fn shardcast_with_three_shards_answers_as_recorded() {
    replay(3, SnapshotMode::Json);
}

#[test]
fn with_strings_for_snapshots_even_those_are_as_recorded() {
    replay(2, SnapshotMode::String);
}

#[test]
fn every_plan_fits_its_recording() {
    let recordings = recordings(&fixture());
    let planned = recordings.iter().map(|recording| {
        let plan = plans::plan(&recording.name);
        let lines = plans::applied(&plan, &recording.lines);
        usize::from(
            lines != recording.lines || plan.skip.is_some() || plan.is_binary || plan.timing.is_some(),
        )
    });
    assert_eq!(planned.sum::<usize>(), 12, "a plan of a recording that is not there");
}

#[test]
fn the_page_says_what_the_plans_say() {
    let page = page::render(&recordings(&fixture()));
    if std::env::var_os(page::WRITE_VARIABLE).is_some() {
        fs::write(page::path(), &page).expect("writing the page");
    }
    let committed = fs::read_to_string(page::path()).unwrap_or_default();
    assert!(
        committed == page,
        "{} is out of date; write it anew: {}=1 cargo test -p shardcast-tests --test conformance_topic page",
        page::path().display(),
        page::WRITE_VARIABLE
    );
}

/// Where the recordings come from lies beside the repository on some machines; there, the copy must be whole.
#[test]
fn the_recordings_are_those_we_were_given() {
    let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/topic/reference.txt");
    if given.exists() {
        assert_eq!(recordings(&given), recordings(&fixture()), "copy it to tests/fixtures/topic");
    }
}
