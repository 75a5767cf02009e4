//! What the help teaches, what flags mean, and what `emit` would publish.

use clap::CommandFactory;

use serde_json::value::RawValue;
use shardcast_emitter::Target;

use super::emit::{EmitError, Via};
use super::*;
use crate::config::{FileChoice, Machine, Sources};

fn parse(line: &str) -> Cli {
    parse_args(&line.split_whitespace().collect::<Vec<_>>())
}

fn parse_args(args: &[&str]) -> Cli {
    let args = iter::once(&"shardcast").chain(args);
    Cli::try_parse_from(args).unwrap_or_else(|error| panic!("{error}"))
}

fn emit(args: &[&str]) -> EmitArgs {
    match parse_args(args).command {
        Some(Command::Emit(args)) => args,
        _ => panic!("{args:?} is not emit"),
    }
}

fn loaded(flags: &[&str]) -> Loaded {
    let sources = Sources {
        file: FileChoice::IfPresent("/nonexistent/shardcast.toml".into()),
        env: Vec::new(),
        flags: parse_args(flags).config.into_flags(),
        machine: Machine { cores: 2, files_max: 100_000 },
    };
    sources.load().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_explains_each_of_its_arguments() {
    fn visit(command: &mut clap::Command, path: &str) {
        let path = format!("{path} {}", command.get_name());
        assert!(
            command.get_about().is_some_and(|about| !about.to_string().is_empty()),
            "{path} says what it does"
        );
        let help = command.render_long_help().to_string();
        let args: Vec<_> = command.get_arguments().cloned().collect();
        for arg in args {
            let explained = arg.get_help().is_some_and(|help| !help.to_string().is_empty());
            assert!(explained, "{path}: {} is explained", arg.get_id());
            let name = arg
                .get_long()
                .map_or_else(|| format!("<{}>", arg.get_id()).to_uppercase(), |long| format!("--{long}"));
            assert!(help.contains(&name), "{path} --help mentions {name}:\n{help}");
        }
        assert!(help.lines().all(|line| line.len() <= 120), "{path} --help fits a terminal:\n{help}");
        command
            .get_subcommands_mut()
            .filter(|command| command.get_name() != "help")
            .for_each(|command| visit(command, &path));
    }
    let mut cli = Cli::command();
    cli.build();
    visit(&mut cli, "");
}

#[test]
fn every_example_in_the_help_parses() {
    fn examples(command: &clap::Command) -> Vec<String> {
        let own = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = own
            .lines()
            .map(|line| line.trim().to_owned())
            .filter(|line| line.contains("shardcast ") && !line.contains(": "));
        lines.chain(command.get_subcommands().flat_map(examples)).collect()
    }
    let all = examples(&Cli::command());
    assert!(all.len() >= 10, "{all:#?}");
    for example in all {
        // Only quotes and the shell's operators matter to how these lines are split.
        let (_, line) = example.split_once("shardcast ").expect("filtered for it");
        let line = line
            .split(" > ")
            .next()
            .and_then(|line| line.split(" && ").next())
            .expect("a split has a first part");
        let args = line.split('\'').enumerate().flat_map(|(index, part)| {
            if index % 2 == 1 { vec![part] } else { part.split_whitespace().collect() }
        });
        let parsed = Cli::try_parse_from(iter::once("shardcast").chain(args));
        assert!(parsed.is_ok(), "{example}");
    }
}

#[test]
fn flags_may_stand_before_or_after_the_command() {
    for line in
        ["--config x.toml check --shards 2", "check -c x.toml --shards=2", "--shards 2 --config x.toml check"]
    {
        let cli = parse(line);
        assert!(matches!(cli.command, Some(Command::Check)));
        assert_eq!(cli.config.config.as_deref(), Some("x.toml".as_ref()), "{line}");
        assert_eq!(cli.config.shards.as_deref(), Some("2"), "{line}");
    }
    assert!(parse("--dev").command.is_none());
}

#[test]
fn emit_takes_a_target_an_event_and_json() {
    let cases: [(&[&str], Target, &[&str], &str); 4] = [
        (
            &["emit", "room", "chat", "message", r#"{"a": 1}"#, "--exclude", "x", "--exclude", "y"],
            Target::room("chat"),
            &["x", "y"],
            r#"{"a": 1}"#,
        ),
        (&["emit", "user", "u1", "message", "\"text\""], Target::user("u1"), &[], "\"text\""),
        (&["emit", "client", "c1", "message", "-"], Target::client("c1"), &[], "[1, 2]"),
        (&["emit", "broadcast", "message", " null "], Target::Broadcast, &[], "null"),
    ];
    for (args, target, exclude, data) in cases {
        let message = emit(args).to.into_message(&b"[1, 2]\n"[..]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((&message.target, message.event.as_deref()), (&target, Some("message")));
        assert_eq!(message.data.as_deref().map(RawValue::get), Some(data));
        assert_eq!(message.exclude.unwrap_or_default(), exclude);
    }
}

#[test]
fn emit_takes_a_channel_and_json_for_a_topic() {
    for (args, data) in
        [(["emit", "topic", "a:b", " {\"n\": 1.0} "], "{\"n\": 1.0}"), (["emit", "topic", "a:b", "-"], "7")]
    {
        let message = emit(&args).to.into_message(&b"7\n"[..]).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((&message.target, message.event.as_deref()), (&Target::Topic("a:b".to_owned()), None));
        assert_eq!(message.data.as_deref().map(RawValue::get), Some(data));
    }
}

#[test]
fn emit_refuses_what_cannot_be_published() {
    let refuse = |args: &[&str]| emit(args).to.into_message(&b""[..]).expect_err("it cannot be published");
    assert!(matches!(refuse(&["emit", "room", "chat", "message", "text"]), EmitError::Data(_)));
    assert!(matches!(refuse(&["emit", "room", "chat", "message", "-"]), EmitError::Data(_)));
    assert!(matches!(refuse(&["emit", "room", "", "message", "1"]), EmitError::Empty("target")));
    assert!(matches!(refuse(&["emit", "broadcast", "", "1"]), EmitError::Empty(_)));
    assert!(matches!(refuse(&["emit", "topic", "", "1"]), EmitError::Empty("channel")));
    assert!(matches!(refuse(&["emit", "topic", "chat", "text"]), EmitError::Data(_)));
}

#[test]
fn emit_goes_through_the_api_if_named_else_redis_else_the_own_address() {
    let api = |url: &str, key: Option<&str>| Via::Api {
        url: url.to_owned(),
        key: key.map(crate::config::Secret::new),
    };
    type Case<'a> = (&'a [&'a str], Option<&'a str>, Option<&'a str>, Via);
    let cases: [Case<'_>; 5] = [
        (&[], None, None, api("http://127.0.0.1:8080", None)),
        (
            &["--listen", "0.0.0.0:9000", "--set", "api.key=k1,k2"],
            None,
            None,
            api("http://127.0.0.1:9000", Some("k1")),
        ),
        (&["--listen", "[::]:9000"], None, Some("k"), api("http://[::1]:9000", Some("k"))),
        (&["--redis-url", "redis://h"], None, None, Via::Redis(crate::config::RedisUrl::new("redis://h"))),
        (&["--redis-url", "redis://h"], Some("http://a"), Some("k"), api("http://a", Some("k"))),
    ];
    for (flags, url, key, expected) in cases {
        let via = Via::choose(url.map(str::to_owned), key.map(str::to_owned), &loaded(flags));
        assert_eq!(via, expected, "{flags:?}");
        assert!(!format!("{via:?}").contains("\"k"), "keys are masked");
    }
}
