//! Comparisons of sample runs.

use super::*;
use crate::report::{ScenarioFacts, sample};
use crate::scenario::Address;
use crate::verdict::Verdict;

/// A run of a label that spends so much on a delivery and is so late.
fn run(label: &str, cpu_us_per_delivery: f64, p99_us: u64) -> Run {
    let mut run = sample::fanout();
    run.label = Some(label.to_owned());
    run.scenario.target = format!("ws://{label}/ws");
    run.scenario.publish = format!("HTTP at {label}");
    run.server.as_mut().expect("a sample with a server").cpu_us_per_delivery = cpu_us_per_delivery;
    run.to_member.as_mut().expect("a sample with latencies").p99_us = p99_us;
    wrap(run)
}

fn wrap(run: Fanout) -> Run {
    Run { label: run.label.clone().expect("a label"), report: Report::Fanout(Box::new(run)) }
}

fn row<'a>(group: &'a Group, key: &str) -> &'a Row {
    group.rows.iter().find(|row| row.key == key).expect("a row")
}

#[test]
fn the_median_is_the_middle_or_the_mean_of_the_middle_two() {
    assert_eq!(Spread::of(Vec::new()), None);
    let table: &[(&[f64], [f64; 3])] = &[
        (&[3.0], [3.0, 3.0, 3.0]),
        (&[5.0, 1.0], [3.0, 1.0, 5.0]),
        (&[9.0, 1.0, 2.0], [2.0, 1.0, 9.0]),
        (&[4.0, 1.0, 2.0, 9.0], [3.0, 1.0, 9.0]),
    ];
    for (values, expected) in table {
        let Spread { median, min, max, count } = Spread::of(values.to_vec()).expect("some values");
        assert_eq!(([median, min, max], count), (*expected, values.len()), "{values:?}");
    }
}

#[test]
fn runs_are_grouped_by_work_wherever_the_server_is() {
    let altered = |change: fn(&mut ScenarioFacts)| {
        let mut run = sample::fanout();
        change(&mut run.scenario);
        wrap(run)
    };
    let idle = || Run { label: "shardcast".to_owned(), report: Report::Idle(sample::idle()) };
    let runs = vec![
        run("bun", 6.0, 9_000),
        run("shardcast", 3.0, 4_000),
        altered(|facts| facts.connections = 2_000),
        idle(),
        altered(|facts| facts.dialect = "socketio".to_owned()),
        altered(|facts| facts.churn_per_second = 0.0),
        run("bun", 6.2, 9_100),
        idle(),
    ];
    let comparison = Comparison::of(runs);
    assert_eq!((comparison.baseline.as_str(), comparison.last.as_str()), ("bun", "shardcast"));
    let found: Vec<Vec<(&str, usize)>> = comparison
        .groups
        .iter()
        .map(|group| group.columns.iter().map(|column| (column.label.as_str(), column.runs)).collect())
        .collect();
    let expected: [&[(&str, usize)]; 4] =
        [&[("bun", 2), ("shardcast", 2)], &[("shardcast", 1)], &[("shardcast", 2)], &[("shardcast", 1)]];
    assert_eq!(found, expected);
}

#[test]
fn connect_runs_are_beside_those_of_the_same_plan() {
    let connect = |label: &str, cpu_us: f64, in_flight: u32| {
        let mut run = sample::connect();
        run.scenario.target = format!("ws://{label}/ws");
        run.scenario.in_flight = in_flight;
        run.server.as_mut().expect("a sample with a server").cpu_us_per_connect = Some(cpu_us);
        Run { label: label.to_owned(), report: Report::Connect(Box::new(run)) }
    };
    let runs = vec![
        connect("old", 90.0, 64),
        connect("new", 120.0, 64),
        connect("new", 80.0, 8),
        run("new", 2.0, 9),
    ];
    let comparison = Comparison::of(runs);
    assert_eq!(comparison.groups.len(), 3);
    let group = &comparison.groups[0];
    assert_eq!(
        group.work,
        "10,000 attempts to connect, closed loop with 64 under way, each leaves with a goodbye"
    );
    assert_eq!(row(group, "cpu_us_per_connect").ratio_in_words(1, Some(0)).as_deref(), Some("1.33×, worse"));
    assert_eq!(
        comparison.regressions(0.1),
        [format!("{}: CPU time per connection of new is 120 µs, the baseline 90 µs", group.work)]
    );
}

#[test]
fn ratios_say_which_is_better_unless_the_spreads_overlap() {
    let runs = vec![
        run("shardcast", 2.0, 4_000),
        run("shardcast", 2.2, 4_200),
        run("bun", 4.1, 4_100),
        run("bun", 4.3, 4_500),
    ];
    let comparison = Comparison::of(runs);
    let group = &comparison.groups[0];
    let cpu = row(group, "cpu_us_per_delivery");
    assert_eq!(cpu.ratio_in_words(1, Some(0)).as_deref(), Some("2.00×, worse"));
    assert_eq!(cpu.ratio_in_words(0, Some(0)), None);
    assert_eq!(cpu.range_in_words(1).as_deref(), Some("4.10 µs to 4.30 µs"));
    assert_eq!(row(group, "p99").ratio_in_words(1, Some(0)).as_deref(), Some("1.05×, within the spread"));
    let text = comparison.to_string();
    for expected in
        ["CPU time per delivery", "4.20 µs  2.00×, worse", "2 runs", "lower is better", "zero in all runs"]
    {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    let expected =
        "| CPU time per delivery (lower is better) | 2.10 µs (2 µs to 2.20 µs) | 4.20 µs  2.00×, worse (";
    assert!(comparison.markdown().contains(expected), "{}", comparison.markdown());
}

#[test]
fn runs_that_must_not_be_believed_are_marked() {
    let mut late = sample::fanout();
    late.verdict = Verdict::GeneratorBusy { share: 0.97 };
    let mut lossy = sample::fanout();
    lossy.ledger.missing = 1;
    let comparison = Comparison::of(vec![wrap(sample::fanout()), wrap(late), wrap(lossy)]);
    let column = &comparison.groups[0].columns[0];
    assert!(column.is_doubted());
    let expected = "3 runs, ! 1 not limited by the server, ! 1 with an inexact ledger";
    assert_eq!(column.runs_in_words(), expected);
    for text in [comparison.to_string(), comparison.markdown(), html::compare::page(&comparison)] {
        assert!(text.contains(expected), "{text}");
    }
}

#[test]
fn only_what_is_worse_beyond_spread_and_tolerance_is_a_regression() {
    let base = || vec![run("old", 2.0, 4_000), run("old", 2.2, 4_000)];
    let table: &[(&str, &[f64], f64, usize)] = &[
        ("better", &[1.0, 1.1], 0.0, 0),
        ("equal", &[2.0, 2.2], 0.0, 0),
        ("within the spread", &[2.1, 9.0], 0.0, 0),
        ("worse within the tolerance", &[2.3, 2.4], 0.05, 0),
        ("worse beyond the tolerance", &[2.4, 2.5], 0.05, 1),
        ("a little worse, nothing tolerated", &[2.201, 2.3], 0.0, 1),
    ];
    for (name, values, tolerance, expected) in table {
        let mut runs = base();
        runs.extend(values.iter().map(|value| run("new", *value, 4_000)));
        let found = Comparison::of(runs).regressions(*tolerance);
        assert_eq!(found.len(), *expected, "{name}: {found:?}");
    }
}

#[test]
fn what_is_missing_or_not_measured_is_a_regression() {
    let mut lossy = sample::fanout();
    lossy.label = Some("new".to_owned());
    lossy.ledger.missing = 1;
    lossy.deliveries_per_second = None;
    let found = Comparison::of(vec![run("old", 2.425, 3_600), wrap(lossy)]).regressions(0.5);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].ends_with("deliveries per second of new was not measured"), "{found:?}");
    assert!(found[1].ends_with("deliveries missing of new is 1, the baseline 0"), "{found:?}");

    let mut other = sample::fanout();
    other.scenario.rooms = 9;
    let found = Comparison::of(vec![run("old", 2.0, 4_000), wrap(other)]).regressions(0.5);
    assert_eq!(found, ["old and shardcast have no work in common"]);
}

#[test]
fn other_sizes_addresses_and_exclusions_are_other_work() {
    let changes: [fn(&mut ScenarioFacts); 3] = [
        |facts| facts.data_sizes = vec![54, 202],
        |facts| facts.to = Address::User,
        |facts| facts.exclude = 3,
    ];
    for change in changes {
        let mut other = sample::fanout();
        change(&mut other.scenario);
        let comparison = Comparison::of(vec![run("old", 2.0, 4_000), wrap(other.clone())]);
        assert_eq!(comparison.groups.len(), 2, "{:?}", other.scenario);
        assert_ne!(comparison.groups[0].work, comparison.groups[1].work);
    }
    // A report from before there were any of these did none of them.
    let mut before = serde_json::to_value(Report::Fanout(Box::new(sample::fanout()))).expect("plain data");
    let facts = before["scenario"].as_object_mut().expect("facts");
    assert!(facts.remove("to").is_some() && facts.remove("exclude").is_some());
    let before: Report = serde_json::from_value(before).expect("a report");
    assert!(is_same_work(&before, &wrap(sample::fanout()).report));
}

#[test]
fn hostile_labels_stay_text() {
    let hostile = "<script>|`x`\n[a](b)";
    let comparison = Comparison::of(vec![run("a", 2.0, 1), run(hostile, 2.0, 1)]);
    let markdown = comparison.markdown();
    assert!(markdown.contains("&lt;script>\\|\\`x\\` \\[a\\](b) |"), "{markdown}");
    assert!(!html::compare::page(&comparison).contains("<script"));
}

#[test]
fn a_report_comes_back_from_its_json_as_it_was() {
    let reports = [
        Report::Fanout(Box::new(sample::fanout())),
        Report::Idle(sample::idle()),
        Report::Search(Box::new(sample::search())),
    ];
    for report in reports {
        let text = serde_json::to_string(&report).expect("plain data");
        let back: Report = serde_json::from_str(&text).expect("its own text");
        // Too long to be shown.
        assert!(format!("{back:?}") == format!("{report:?}"));
    }
}

#[test]
fn files_without_a_label_have_their_name_and_mistakes_are_named() {
    let folder = std::env::temp_dir().join(format!("loadgen-compare-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).expect("a file");
        path
    };
    let json = |report: &Report| serde_json::to_string(report).expect("plain data");
    let unlabelled = Report::Fanout(Box::new(Fanout { label: None, ..sample::fanout() }));
    let good = write("before.json", &json(&unlabelled));
    let search = write("search.json", &json(&Report::Search(Box::new(sample::search()))));
    let broken = write("broken.json", "{\"mode\":\"fanout\"}");
    let absent = folder.join("absent.json");

    let options = |files: Vec<PathBuf>| CompareOptions {
        files,
        html: Some(folder.join("page.html")),
        markdown: false,
        metrics: Vec::new(),
        tolerance: Some(0.0),
    };
    let (text, worse) = carry_out(&options(vec![good.clone(), good.clone()])).expect("two good files");
    assert!(text.starts_with("baseline: before;"), "{text}");
    assert_eq!(worse, ["before and before have no work in common"]);
    assert!(fs::read_to_string(folder.join("page.html")).expect("a page").starts_with("<!doctype html>"));
    let chosen = CompareOptions {
        metrics: vec![metric("p99").expect("a metric")],
        tolerance: None,
        ..options(vec![good.clone()])
    };
    let (text, _) = carry_out(&chosen).expect("a good file");
    assert!(text.contains("p99 publish → member") && !text.contains("p50 publish"), "{text}");
    for (path, expected) in [(search, "is a search"), (broken, "is not a report"), (absent, "cannot read")] {
        let error = carry_out(&options(vec![good.clone(), path])).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
    let below = CompareOptions { tolerance: Some(-1.0), ..options(vec![good]) };
    assert!(matches!(carry_out(&below), Err(CompareError::Tolerance { .. })));
    fs::remove_dir_all(&folder).expect("the folder goes");
}
