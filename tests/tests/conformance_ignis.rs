//! Every recorded Ignis conversation against Shardcast, and some against Ignis itself.
//!
//! `docs/protocols/ignis-conformance.md` lists what is replayed and how; to write it anew:
//! `SHARDCAST_WRITE_PAGES=1 cargo test -p shardcast-tests --test conformance_ignis page`.

use std::fs;
use std::path::Path;

use shardcast_tests::conformance::{self, Against, Outcome, Replay, page};

/// Replays all recordings; every line of the report is printed, and none may be a failure.
fn replay_all(against: Against) {
    let recordings = conformance::recordings(&conformance::fixtures());
    report(&conformance::replay_all(&recordings, against));
}

fn report(replays: &[Replay]) {
    let mut failed = 0;
    for replay in replays {
        println!("{replay}");
        failed += usize::from(matches!(replay.outcome, Outcome::Failed { .. }));
    }
    assert_eq!(failed, 0, "{failed} of {} recordings differ; see above", replays.len());
}

#[test]
fn shardcast_with_one_shard_answers_as_recorded() {
    replay_all(Against::Shardcast { shards: 1 });
}

#[test]
fn shardcast_with_three_shards_answers_as_recorded() {
    replay_all(Against::Shardcast { shards: 3 });
}

/// Flows that touch every part of the runner; the real server passing them shows that the runner is fair.
#[test]
fn ignis_itself_passes_its_recordings() {
    let flows =
        ["auth-ok", "auth-throws", "binary-frame", "emitter", "join-accepted", "leave", "protocol-errors"];
    let flows =
        flows.into_iter().chain(["server-api-local", "two-servers-send", "invalid-json", "heartbeat"]);
    let recordings = conformance::recordings(&conformance::fixtures());
    let chosen: Vec<_> = flows
        .map(|name| recordings.iter().find(|recording| recording.name == name).expect("a recording").clone())
        .collect();
    report(&conformance::replay_all(&chosen, Against::Ignis));
}

#[test]
fn the_page_says_what_the_plans_say() {
    let page = page::render(&conformance::recordings(&conformance::fixtures()));
    if std::env::var_os(page::WRITE_VARIABLE).is_some() {
        fs::create_dir_all(page::path().parent().expect("a folder")).expect("making the folder");
        fs::write(page::path(), &page).expect("writing the page");
    }
    let committed = fs::read_to_string(page::path()).unwrap_or_default();
    assert!(
        committed == page,
        "{} is out of date; write it anew: {}=1 cargo test -p shardcast-tests --test conformance_ignis page",
        page::path().display(),
        page::WRITE_VARIABLE
    );
}

/// Where the recordings come from lies beside the repository on some machines; there, the copies must be whole.
#[test]
fn the_recordings_are_those_we_were_given() {
    let given = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/ignis");
    if !given.exists() {
        return;
    }
    let ours = conformance::recordings(&conformance::fixtures());
    for recording in conformance::recordings(&given) {
        let copy = ours.iter().find(|ours| ours.name == recording.name);
        assert_eq!(copy, Some(&recording), "{}: copy it to tests/fixtures/ignis", recording.name);
    }
}
