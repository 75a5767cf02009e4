//! The page that says what of the recordings Shardcast replays.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use super::plans::{self, Deviation, Plan};
use super::recording::Recording;

/// Set to write the page anew instead of checking it.
pub const WRITE_VARIABLE: &str = "SHARDCAST_WRITE_PAGES";

/// Where the page is.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocols/topic-conformance.md")
}

const HEAD: &str = "\
# Conformance with the topic-session protocol

<!-- Written by the test `conformance_topic` from `tests/src/topic/plans.rs`. Do not edit by hand. -->

Conversations recorded with the reference implementation on Node 20 and Redis 7 (`tests/fixtures/topic`) are replayed
against Shardcast by `cargo test -p shardcast-tests --test conformance_topic`, with one shard and with several. The test
plays the client and whoever publishes on Redis, and compares every frame byte for byte, the order of frames, pings, close
frames, how many subscribers a publication reached, and what is subscribed on Redis.
";

/// The page's text.
pub fn render(recordings: &[Recording]) -> String {
    let plans: Vec<(&str, Plan)> =
        recordings.iter().map(|recording| (recording.name.as_str(), plans::plan(&recording.name))).collect();
    let skipped = plans.iter().filter(|(_, plan)| plan.skip.is_some()).count();
    let differing = plans.iter().filter(|(_, plan)| !plan.deviations.is_empty()).count();
    let mut page = HEAD.to_owned();
    push(
        &mut page,
        format_args!(
            "\nOf {} recordings {} are replayed, {differing} of these with differences of their own made on purpose; \
             {skipped} is not replayed.\n",
            plans.len(),
            plans.len() - skipped
        ),
    );
    page.push_str("\n## Differences made on purpose\n\nIn all recordings:\n\n");
    for reason in plans::EVERYWHERE {
        push(&mut page, format_args!("- {reason}\n"));
    }
    page.push_str("\nIn some:\n\n| recordings | difference |\n|---|---|\n");
    grouped(&mut page, &plans, |plan| reasons(&plan.deviations));
    page.push_str("\n## Not replayed\n\n| recordings | reason |\n|---|---|\n");
    grouped(&mut page, &plans, |plan| plan.skip.into_iter().collect());
    page.push_str("\n## Other clocks\n\n| recordings | in the test |\n|---|---|\n");
    grouped(&mut page, &plans, |plan| plan.timing.map(|(note, _)| note).into_iter().collect());
    page.push_str("\n## Restored lines\n\n| recordings | what the recorder did |\n|---|---|\n");
    grouped(&mut page, &plans, |plan| reasons(&plan.restored));
    page.push_str("\n## Replayed as recorded\n\n");
    for (name, _) in plans.iter().filter(|(_, plan)| plan.skip.is_none() && plan.deviations.is_empty()) {
        push(&mut page, format_args!("- {name}\n"));
    }
    page
}

fn reasons(deviations: &[Deviation]) -> Vec<&'static str> {
    deviations.iter().map(|deviation| deviation.reason).collect()
}

/// One row for each text, with all the recordings it is about.
fn grouped(page: &mut String, plans: &[(&str, Plan)], texts: impl Fn(&Plan) -> Vec<&'static str>) {
    let mut rows: Vec<(&str, Vec<&str>)> = Vec::new();
    for (name, plan) in plans {
        for text in texts(plan) {
            match rows.iter_mut().find(|(known, _)| *known == text) {
                Some((_, names)) => names.push(name),
                None => rows.push((text, vec![name])),
            }
        }
    }
    for (text, names) in rows {
        push(page, format_args!("| {} | {text} |\n", names.join(", ")));
    }
}

fn push(page: &mut String, text: fmt::Arguments<'_>) {
    page.write_fmt(text).expect("strings take all text");
}
