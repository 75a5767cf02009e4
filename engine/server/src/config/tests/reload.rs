//! What a running server takes over.

use super::*;

#[test]
fn a_reload_applies_what_can_change_and_names_the_rest() {
    let file = TestFile::new("[auth]\nanonymous = true\n[[auth.tokens]]\ntoken = \"a\"\n");
    let running = sources(&file.0, &[], &[]).load().unwrap_or_else(|error| panic!("{error}"));
    let same = running.reload().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!((same.applied, same.ignored), (vec![], vec![]));

    let text = "[server]\nlog_level = \"debug\"\nshards = 2\n[[auth.tokens]]\ntoken = \"b\"\n[[auth.tokens]]\ntoken = \"a\"\n[[mounts]]\npath = \"/x\"\n";
    fs::write(&file.0, text).expect("the file is writable");
    let reload = running.reload().unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(reload.applied, ["server.log_level", "auth.anonymous", "auth.tokens"]);
    assert_eq!(reload.ignored, ["server.shards", "mounts"]);
    let merged = &reload.merged.config;
    assert_eq!((merged.server.log_level, merged.server.shards), (LogLevel::Debug, Auto::Auto));
    assert_eq!((merged.auth.tokens.len(), merged.auth.anonymous), (2, false));
    assert_eq!(merged.mounts, Config::default().mounts);
}

#[test]
fn a_reload_of_a_broken_or_missing_file_is_refused() {
    let file = TestFile::new("");
    let mut from = sources(&file.0, &[], &[]);
    from.file = FileChoice::IfPresent(file.0.clone());
    let running = from.load().unwrap_or_else(|error| panic!("{error}"));
    fs::write(&file.0, "[server]\nlisen = 1\n").expect("the file is writable");
    assert!(running.reload().is_err());
    fs::remove_file(&file.0).expect("the file is there");
    assert!(running.reload().is_err(), "a file that went missing is not an empty one");
    fs::write(&file.0, "").expect("the file is writable");
}

#[test]
fn a_reload_is_checked_against_what_stays_as_it_is() {
    let file = TestFile::new("[server]\nlisten = \"0.0.0.0:80\"\n");
    let running = sources(&file.0, &[], &[]).load().unwrap_or_else(|error| panic!("{error}"));
    // Alone this file is sound; with the address that is already open it would accept every token from anywhere.
    fs::write(&file.0, "[auth]\ndev = true\n").expect("the file is writable");
    let error = running.reload().expect_err("dev mode stays off the open address").to_string();
    assert!(error.contains("dev mode accepts every token"), "{error}");
}
