//! Pages of sample reports: nothing hostile gets in, nothing foreign is asked for, nothing is missing.

use super::*;
use crate::latency::Percentiles;
use crate::report::compare::{Comparison, Run};
use crate::report::{Connect, Fanout, Idle, Timeline, sample};

/// Pages of everything there is, by name.
fn pages() -> Vec<(&'static str, String)> {
    let bare = Fanout {
        label: None,
        server: None,
        deliveries_per_second: None,
        to_member: None,
        to_last_member: None,
        member_curve: Vec::new(),
        reconnects: None,
        slow_readers: None,
        timeline: Timeline::default(),
        ..sample::fanout()
    };
    let mut blind = sample::fanout();
    for point in &mut blind.timeline.points {
        (point.p50_us, point.p99_us, point.max_us) = (None, None, None);
        (point.server_cores, point.server_resident_bytes) = (None, None);
    }
    let of_points =
        |count| Report::Fanout(Box::new(Fanout { timeline: sample::timeline(count), ..sample::fanout() }));
    [
        ("fanout", of_points(120)),
        ("fanout-600", of_points(600)),
        ("fanout-1", of_points(1)),
        ("fanout-bare", Report::Fanout(Box::new(bare))),
        ("fanout-blind", Report::Fanout(Box::new(blind))),
        ("fanout-mismatch", Report::Fanout(Box::new(mismatch()))),
        ("idle", Report::Idle(sample::idle())),
        ("idle-empty", Report::Idle(Idle { steps: Vec::new(), ..sample::idle() })),
        ("connect", Report::Connect(Box::new(sample::connect()))),
        ("connect-bare", Report::Connect(Box::new(bare_connect()))),
        ("search", Report::Search(Box::new(sample::search()))),
    ]
    .map(|(name, report)| (name, page(&report)))
    .into_iter()
    .chain([("compare", compare::page(&Comparison::of(runs())))])
    .collect()
}

/// Three servers with three runs of two kinds of work; one run of the last measured its generator.
fn runs() -> Vec<Run> {
    let mut runs = Vec::new();
    for (nth, label) in ["shardcast", "bun", "a server with a long name"].into_iter().enumerate() {
        for turn in 0..3_u32 {
            let factor = 1.0 + nth as f64 * 0.8 + f64::from(turn) * 0.04;
            let mut run = Fanout { label: Some(label.to_owned()), ..sample::fanout() };
            let server = run.server.as_mut().expect("a sample with a server");
            server.cpu_us_per_delivery *= factor;
            server.bytes_per_connection = server.bytes_per_connection.map(|bytes| bytes * factor);
            run.deliveries_per_second = run.deliveries_per_second.map(|rate| (rate / factor).round());
            if nth == 2 && turn == 2 {
                run.verdict = crate::verdict::Verdict::GeneratorBusy { share: 0.97 };
            }
            runs.push(Run { label: label.to_owned(), report: Report::Fanout(Box::new(run)) });
        }
        runs.push(Run {
            label: label.to_owned(),
            report: Report::Idle(Idle { label: Some(label.to_owned()), ..sample::idle() }),
        });
    }
    runs
}

/// Nothing came to be live, and nobody watched.
fn bare_connect() -> Connect {
    let mut run = Connect { label: None, server: None, connects_per_second: None, ..sample::connect() };
    (run.outcome.to_upgraded, run.outcome.to_live, run.generator.send_lag) = (None, None, None);
    run.requirements.clear();
    run
}

fn mismatch() -> Fanout {
    let mut run = sample::fanout();
    let ledger = &mut run.ledger;
    (ledger.missing, ledger.delivered, ledger.duplicate) = (1_234, ledger.delivered - 1_234, 7);
    run.inexact_rooms = (0..14).map(|room| (format!("room-{room}"), run.ledger)).collect();
    run.verdict = crate::verdict::Verdict::GeneratorBusy { share: 0.96 };
    run.deliveries_per_second = None;
    run.losses.lost = 3;
    run.losses.reasons.insert("connection reset by peer".to_owned(), 3);
    run
}

#[test]
fn a_page_refers_to_nothing_outside_and_runs_no_script() {
    for (name, page) in pages() {
        for foreign in
            ["http:", "https:", "//", "<script", "<link", "<img", "@import", "url(", "src=", "href="]
        {
            // The URL of the server under test is text.
            let page = page.replace("ws://127.0.0.1:8080/ws", "");
            assert!(!page.contains(foreign), "{name} has {foreign}");
        }
    }
}

#[test]
fn no_figure_is_nonsense() {
    for (name, page) in pages() {
        for nonsense in ["NaN", "inf,", "inf\"", "inf ", "Some(", "None)"] {
            assert!(!page.contains(nonsense), "{name} has {nonsense}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("aria-label=").count(), "{name}");
        for element in ["svg", "figure", "table", "section", "div", "p", "text", "title", "dl"] {
            let open =
                page.matches(&format!("<{element}>")).count() + page.matches(&format!("<{element} ")).count();
            assert_eq!(open, page.matches(&format!("</{element}>")).count(), "{name}: {element}");
        }
    }
}

#[test]
fn hostile_text_stays_text() {
    let hostile = "</title><script>alert('x')</script>\"&";
    let mut run = sample::fanout();
    run.label = Some(hostile.to_owned());
    run.scenario.target = hostile.to_owned();
    run.scenario.spread = hostile.to_owned();
    run.scenario.rooms = 2;
    run.scenario.publish = hostile.to_owned();
    run.inexact_rooms = vec![(hostile.to_owned(), run.ledger)];
    run.unstamped.insert(hostile.to_owned(), 1);
    run.losses.lost = 1;
    run.losses.reasons.insert(hostile.to_owned(), 1);
    run.generator.threads[0].name = hostile.to_owned();
    run.requirements[0].requirement = hostile.to_owned();
    run.requirements[0].reason = Some(hostile.to_owned());
    let mut search = sample::search();
    search.slo = hostile.to_owned();
    search.knees[0].reason = hostile.to_owned();
    search.knees[0].steps[0].note = hostile.to_owned();
    search.best = Some(run.clone());
    let mut connect = sample::connect();
    connect.label = Some(hostile.to_owned());
    connect.scenario.target = hostile.to_owned();
    connect.outcome.reasons.insert(hostile.to_owned(), 1);
    connect.requirements[0].requirement = hostile.to_owned();
    for report in
        [Report::Fanout(Box::new(run)), Report::Search(Box::new(search)), Report::Connect(Box::new(connect))]
    {
        let page = page(&report);
        assert!(!page.contains("<script") && !page.contains("'x'"), "{page}");
        assert!(page.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;"));
    }
}

#[test]
fn what_was_found_is_told_in_words_and_figures() {
    let page = page(&Report::Fanout(Box::new(sample::fanout())));
    for expected in [
        "2025-10-09 08:53 UTC",
        "Every message reached every member, once and in order",
        "1,000 connections, 1 room, 1 joined by each; open loop with 400 a second. 48,000 publications",
        "<dd>400,000/s",
        "<dd>3.60 ms",
        "<dd>2.75 KiB",
        "✓ exact",
        "✗ not met",
    ] {
        assert!(page.contains(expected), "{expected:?} is not in\n{page}");
    }
}

#[test]
fn a_latency_of_nothing_is_drawn_where_powers_of_ten_begin() {
    let zero = Percentiles { count: 1, p50_us: 0, p90_us: 0, p99_us: 0, p999_us: 0, max_us: 0 };
    let mut run = Fanout { to_member: Some(zero), timeline: sample::timeline(3), ..sample::fanout() };
    run.timeline.points[0].p50_us = Some(0);
    let page = page(&Report::Fanout(Box::new(run)));
    assert!(page.contains("p50: 0.00100 ms to"), "{page}");
}

#[test]
fn steps_that_measured_nothing_at_all_do_not_stretch_the_axis() {
    let mut search = sample::search();
    search.knees[0].steps[0].measured = Some(0.0);
    let page = page(&Report::Search(Box::new(search)));
    assert!(page.contains("aria-label") && !page.contains(">0.000"), "{page}");
}

/// Writes the pages into the target directory, to be looked at: `cargo test -p shardcast-loadgen -- --ignored pages`.
#[test]
#[ignore = "writes files to look at"]
fn sample_pages_are_written() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/pages");
    std::fs::create_dir_all(&folder).expect("a folder");
    for (name, page) in pages() {
        std::fs::write(folder.join(format!("{name}.html")), page).expect("a page");
    }
    for (nth, run) in runs().iter().enumerate() {
        let path = folder.join(format!("{nth}-{}.json", run.label));
        std::fs::write(path, serde_json::to_string(&run.report).expect("plain data")).expect("a report");
    }
}
