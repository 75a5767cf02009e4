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
        let in_arena = |file: &String| file.starts_with("tests/tests/attacks/");
        if files.is_some_and(|files| !files.iter().any(in_arena)) {
            wrong.push(format!(
                "{number} has no test beside a healthy client, with bounds: see tests/tests/attacks"
            ));
        }
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

/// Sources of the engine without their tests, by path.
fn engine_sources() -> Vec<(String, String)> {
    let mut files = Vec::new();
    sources(&root().join("engine"), &mut files);
    let all = files.into_iter().map(|file| {
        let text = fs::read_to_string(&file).expect("a source");
        let code = text.split("#[cfg(test)]").next().expect("there is a first").to_owned();
        (file.strip_prefix(root()).expect("below it").display().to_string(), code)
    });
    all.filter(|(name, _)| !name.contains("/tests/") && !name.ends_with("/tests.rs")).collect()
}

/// The lines of `code` that compare the text of a secret itself, or a code of authentication, in a way that ends at
/// the first byte that differs.
fn hasty(code: &str) -> Vec<&str> {
    const COMPARES: [&str; 9] =
        ["==", "!=", ".eq(", ".ne(", "cmp(", "starts_with(", "ends_with(", ".contains(", "matches!("];
    let compares = |line: &str| COMPARES.iter().any(|how| line.contains(how));
    let secret = |line: &str| {
        [".expose()", "hmac::sign", ".sign()", "TAG", "mac"].iter().any(|what| match *what {
            "mac" => line.split(|c: char| !c.is_alphanumeric()).any(|word| word == "mac"),
            what => line.contains(what),
        })
    };
    let length = |line: &str| line.contains(".expose().len()");
    code.lines()
        .map(str::trim)
        .filter(|line| !line.starts_with("//") && secret(line) && compares(line) && !length(line))
        .collect()
}

/// Secrets have one comparison, `subtle`'s, which reads both to their end: an address, a key and a token cannot be
/// compared otherwise by mistake. The signatures of tokens are the business of jsonwebtoken, which leaves HMACs to
/// aws-lc (`CRYPTO_memcmp`); tags of AES-GCM and tickets of TLS are that of aws-lc and rustls; webhooks are signed
/// here and verified elsewhere.
#[test]
fn attack_57_secrets_are_compared_in_constant_time_only() {
    let sources = engine_sources();
    let mut wrong: Vec<_> = sources
        .iter()
        .flat_map(|(file, code)| hasty(code).into_iter().map(move |line| (file, line)))
        .collect();
    // No comparison: whether one was given at all.
    wrong.retain(|(_, line)| !line.contains(".expose().is_empty()"));
    assert!(wrong.is_empty(), "compare with Secret::is: {wrong:#?}");
    // The types that hold them take their `==` from nobody but that function.
    for (file, kind) in [("config/secret.rs", "Secret"), ("auth/cache.rs", "TokenHash")] {
        let (_, code) = sources.iter().find(|(name, _)| name.ends_with(file)).expect("the file");
        let (before, _) = code.split_once(&format!("pub struct {kind}(")).expect("the type");
        let derive = before.lines().rfind(|line| line.starts_with("#[derive(")).expect("a derive");
        assert!(!derive.contains("Eq") && !derive.contains("Ord"), "{kind}: {derive}");
        let (_, body) = code.split_once(&format!("impl PartialEq for {kind} {{")).expect("its ==");
        assert!(code.contains(".ct_eq(") && !body.split("\n}").next().expect("it").contains("=="), "{kind}");
    }
    assert!(!hasty("if token.expose() == given {").is_empty());
    assert!(!hasty("ours.expose().as_bytes().starts_with(given)").is_empty());
    assert!(hasty("let short = key.expose().len() < 32 || a == b;").is_empty());
}

/// A function of the folder of attacks that starts a server has it in an arena or a siege, or asks what it cost.
#[test]
fn no_attack_goes_without_a_bound_on_its_cost() {
    let mut files = Vec::new();
    sources(&root().join("tests/tests/attacks"), &mut files);
    let mut wrong = Vec::new();
    let (mut functions, mut starts) = (0, 0);
    for file in files {
        let text = fs::read_to_string(&file).expect("a source");
        for function in text.split("\nfn ").skip(1) {
            functions += 1;
            if !["TestServer::start", "TestServer::with_hooks", "Binary::"]
                .iter()
                .any(|how| function.contains(how))
            {
                continue;
            }
            starts += 1;
            if !["Arena::", "Siege::", "proxied(", ".meter()"].iter().any(|bound| function.contains(bound)) {
                wrong.push((file.clone(), function.split('(').next().unwrap_or_default().to_owned()));
            }
        }
    }
    assert!(functions > 100 && starts > 5, "{functions} functions, {starts} of which start servers");
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_numbers_of_a_test_are_at_the_beginning_of_its_name() {
    assert_eq!(numbers("attack_69_and_70_malformed_messages"), [69, 70]);
    assert_eq!(numbers("attack_07_bad_keys_end_500_and_other_versions_426"), [7]);
    assert!(numbers("pin_3_things").is_empty());
}
