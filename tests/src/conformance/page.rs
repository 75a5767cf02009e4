//! The page that says what of the recordings Shardcast replays.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

use super::plan::Plan;
use super::plans;
use super::recording::Recording;

/// Set to write the page anew instead of checking it.
pub const WRITE_VARIABLE: &str = "SHARDCAST_WRITE_PAGES";

/// Where the page is.
pub fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/protocols/ignis-conformance.md")
}

const HEAD: &str = "\
# Conformance with Ignis

<!-- Written by the test `conformance_ignis` from `tests/src/conformance/plans.rs`. Do not edit by hand. -->

Conversations recorded with Ignis 0.0.7 on Bun 1.4.5 and Redis 7 (`tests/fixtures/ignis`) are replayed against
Shardcast by `cargo test -p shardcast-tests --test conformance_ignis`, with one shard and with several. The test
plays the clients, the application and the emitter, and compares every frame, its order on its connection, close codes
and reasons, FINs, HTTP responses, silences, what is published on Redis, and what the application is asked. Ids, times
and ports may differ; each id of a recording stands for one of ours throughout.

Data of messages is compared as JSON: Shardcast passes it on as it was written, without spelling it anew. The envelope
around it is compared byte for byte.

The real Ignis passes the same test with flows that touch every part of it.

Not compared anywhere: how the Redis client library greets and leaves (`CLIENT SETINFO`, `INFO`, `QUIT`), and
observations of the inside of the recorded process.
";

/// The page's text.
pub fn render(recordings: &[Recording]) -> String {
    let plans: Vec<(&str, Plan)> =
        recordings.iter().map(|recording| (recording.name.as_str(), plans::plan(&recording.name))).collect();
    let skipped = plans.iter().filter(|(_, plan)| plan.skip.is_some()).count();
    let differing = plans.iter().filter(|(_, plan)| !plan.deviations.is_empty()).count();
    let mut page = HEAD.to_owned();
    let (count, replayed) = (plans.len(), plans.len() - skipped);
    push(
        &mut page,
        format_args!(
            "\nOf {count} recordings {replayed} are replayed, {differing} of these with differences made on \
             purpose; {skipped} are not replayed.\n"
        ),
    );
    push(
        &mut page,
        format_args!("\n## Differences made on purpose\n\n| recordings | difference |\n|---|---|\n"),
    );
    let reasons = |plan: &Plan| plan.deviations.iter().map(|deviation| deviation.reason.to_owned()).collect();
    grouped(&mut page, &plans, reasons);
    push(&mut page, format_args!("\n## Not replayed\n\n| recordings | reason |\n|---|---|\n"));
    grouped(&mut page, &plans, |plan| plan.skip.map(str::to_owned).into_iter().collect());
    faster_clocks(&mut page, &plans);
    restored_steps(&mut page, &plans);
    push(&mut page, format_args!("\n## Replayed as recorded\n\n"));
    for (name, _) in plans.iter().filter(|(_, plan)| plan.skip.is_none() && plan.deviations.is_empty()) {
        push(&mut page, format_args!("- `{name}`\n"));
    }
    page
}

fn faster_clocks(page: &mut String, plans: &[(&str, Plan)]) {
    push(
        page,
        format_args!(
            "\n## Other clocks\n\nOf the flows that test timers, these run with other times than recorded; those \
             marked † as recorded when\n`{}` is set.\n\n| recording | in the test |\n|---|---|\n",
            super::LONG_VARIABLE
        ),
    );
    for (name, plan) in plans {
        let Some(timing) = plan.timing.as_ref().filter(|timing| timing.scale != 1.0) else { continue };
        let mark = if plan.long_timing.is_some() { " †" } else { "" };
        let options = if timing.note.is_empty() { String::new() } else { format!("{} ", timing.note) };
        push(page, format_args!("| `{name}`{mark} | {options}Pauses ×{}. |\n", timing.scale));
    }
}

fn restored_steps(page: &mut String, plans: &[(&str, Plan)]) {
    push(
        page,
        format_args!(
            "\n## Restored steps\n\nRecordings show what was on the wire. What the recorder did elsewhere without a \
             line of its own is put back where its\neffect shows: calls of the server's API, a client or Redis cut \
             off.\n\n| recording | step | before lines |\n|---|---|---|\n"
        ),
    );
    for (name, plan) in plans {
        let mut steps: Vec<(&str, Vec<String>)> = Vec::new();
        for insertion in &plan.restored {
            let line = insertion.line.as_str();
            let call = line
                .strip_prefix(r#"{"dir":"note","data":{"call":"#)
                .and_then(|rest| rest.strip_suffix("}}"));
            let (step, before) = (call.unwrap_or(line), insertion.before.to_string());
            match steps.iter_mut().find(|(known, _)| *known == step) {
                Some((_, lines)) => lines.push(before),
                None => steps.push((step, vec![before])),
            }
        }
        for (step, lines) in steps {
            push(page, format_args!("| `{name}` | `{step}` | {} |\n", lines.join(", ")));
        }
    }
}

/// One row for each text, with all the recordings it is about.
fn grouped(page: &mut String, plans: &[(&str, Plan)], texts: impl Fn(&Plan) -> Vec<String>) {
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for (name, plan) in plans {
        for text in texts(plan) {
            match rows.iter_mut().find(|(known, _)| *known == text) {
                Some((_, names)) => names.push(format!("`{name}`")),
                None => rows.push((text, vec![format!("`{name}`")])),
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
