//! What a page promises about the sources, held against them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Numbers of the catalogue of attacks.
const NUMBERS: std::ops::RangeInclusive<u32> = 1..=84;

/// Environment variable that makes the test write the page's last column anew.
const WRITE: &str = "SHARDCAST_WRITE_PAGES";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Files with Rust in them, but what Cargo makes.
fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            if !matches!(path.file_name().and_then(|name| name.to_str()), Some("target" | "node_modules")) {
                sources(&path, found);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The numbers in the name of a test: `attack_69_and_70_…` has two.
fn numbers(name: &str) -> Vec<u32> {
    let rest = name.strip_prefix("attack_").unwrap_or_default();
    rest.split('_')
        .take_while(|word| *word == "and" || word.parse::<u32>().is_ok())
        .filter_map(|word| word.parse().ok())
        .collect()
}

/// Files with tests of each attack, relative to the root.
fn tested() -> BTreeMap<u32, BTreeSet<String>> {
    let (root, mut files) = (root(), Vec::new());
    for folder in ["engine", "tests"] {
        sources(&root.join(folder), &mut files);
    }
    let mut tested: BTreeMap<u32, BTreeSet<String>> = BTreeMap::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        let mut is_test = false;
        for line in text.lines().map(str::trim) {
            let name =
                line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split_once('('));
            if let Some((name, _)) = name {
                let relative = file.strip_prefix(&root).expect("below it").display().to_string();
                if std::mem::take(&mut is_test) {
                    for number in numbers(name) {
                        tested.entry(number).or_default().insert(relative.clone());
                    }
                }
            }
            is_test |= matches!(line, "#[test]" | "#[tokio::test]");
        }
    }
    tested
}

/// The last cell of a row: links to the files, after what the page says by hand (`open: …`, `unused`).
fn cell(by_hand: &str, files: Option<&BTreeSet<String>>) -> String {
    let links = files.into_iter().flatten().map(|file| {
        let name = file.trim_start_matches("tests/tests/").trim_start_matches("engine/");
        format!("[{name}](../{file})")
    });
    let by_hand = Some(by_hand.to_owned()).filter(|text| !text.is_empty());
    by_hand.into_iter().chain(links).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_attack_of_the_catalogue_has_a_test_or_is_said_to_be_open() {
    let path = root().join("docs/security-tests.md");
    let page = fs::read_to_string(&path).expect("the page");
    let tested = tested();
    let writes = std::env::var_os(WRITE).is_some();
    let (mut seen, mut expected) = (BTreeSet::new(), String::new());
    let mut wrong = Vec::new();
    for line in page.lines() {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let number = cells.first().and_then(|cell| cell.parse::<u32>().ok());
        let (Some(number), [_, attack, last]) = (number, &cells[..]) else {
            expected.push_str(&format!("{line}\n"));
            continue;
        };
        assert!(seen.insert(number), "{number} has two rows");
        let mut by_hand = last.split(", [").next().filter(|text| !text.starts_with('[')).unwrap_or_default();
        let files = tested.get(&number);
        match (files, by_hand) {
            (None, "") => wrong.push(format!("{number} has no test: write one, or say `open: …`")),
            (Some(_), open) if writes && (open.starts_with("open:") || open == "unused") => by_hand = "",
            (Some(_), open) if open.starts_with("open:") || open == "unused" => {
                wrong.push(format!("{number} has a test: take `{open}` off, or say `in part: …`"));
            }
            (Some(_), _) | (None, _) => {}
        }
        expected.push_str(&format!("| {number} | {attack} | {} |\n", cell(by_hand, files)));
    }
    let missing: Vec<_> = NUMBERS.filter(|number| !seen.contains(number)).collect();
    assert!(missing.is_empty(), "no rows for {missing:?}");
    assert!(wrong.is_empty(), "{wrong:#?}");
    if writes {
        fs::write(&path, &expected).expect("writing the page");
    } else {
        assert!(
            page == expected,
            "the page is out of date; write it anew: {WRITE}=1 cargo test -p shardcast-tests --test tidy"
        );
    }
}

#[test]
fn the_numbers_of_a_test_are_at_the_beginning_of_its_name() {
    assert_eq!(numbers("attack_69_and_70_malformed_messages"), [69, 70]);
    assert_eq!(numbers("attack_07_bad_keys_end_500_and_other_versions_426"), [7]);
    assert!(numbers("pin_3_things").is_empty());
}
