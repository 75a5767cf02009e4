//! Publications through HTTP servers of all manners and through Redis: each arrives once, and refusals are told.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::fake::post::Answers;
use crate::fake::redis::Redis;
use crate::fake::{Fake, Fault};
use crate::generator::{Outcome, run_at};

/// One member, and publications that go out four at a time.
const SHORT: &[&str] = &["-n", "1", "-w", "4", "--burst", "4", "--warmup", "0s", "-d", "200ms"];

fn run(name: &str, fake: &Fake, publish: &str, arguments: &[&str]) -> Outcome {
    let target = format!("ws://{}/ws", fake.address);
    let arguments = [SHORT, &["--patience", "5s"], arguments].concat();
    run_at(&format!("publishing-{name}"), &target, publish, &arguments)
}

/// A run in which everything published is delivered, probes excepted; returns how many publications that were.
fn run_well(name: &str, fake: &Fake, publish: &str, arguments: &[&str]) -> u64 {
    let Outcome { exit_code, report, stderr, .. } = run(name, fake, publish, arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""), "{name}");
    assert_eq!(report["ledger"]["expected"], report["ledger"]["delivered"], "{name}");
    let count = report["publications"].as_u64().expect("a number");
    assert!(count >= 4, "{name}: {count}");
    count
}

#[test]
fn answers_of_every_kind_are_understood() {
    let table: [(&str, Answers, &[&str]); 5] = [
        ("plain", Answers::Plain, &[]),
        ("chunked", Answers::Chunked, &[]),
        ("chunked-pipelined", Answers::Chunked, &["--publish-pipeline", "3", "--publish-batch", "one"]),
        ("closing", Answers::Closing, &[]),
        ("closing-one", Answers::Closing, &["--publish-batch", "one"]),
    ];
    for (name, answers, arguments) in table {
        let fake = Fake::start(Fault::None, answers);
        run_well(name, &fake, &format!("http://{}/api/emit", fake.address), arguments);
        let log = fake.posts().log();
        let expected = if answers == Answers::Closing { log.requests.len() } else { 1 };
        assert_eq!(log.connections, expected, "{name}");
    }
}

#[test]
fn as_many_requests_are_in_flight_as_asked_for() {
    for (pipeline, expected) in [("1", 1), ("3", 3), ("16", 16)] {
        let fake = Fake::start(Fault::None, Answers::Piled);
        let arguments = ["--publish-batch", "one", "--publish-pipeline", pipeline];
        run_well("pipeline", &fake, &format!("http://{}/", fake.address), &arguments);
        assert_eq!(fake.posts().log().piled_max, expected, "pipeline of {pipeline}");
    }
}

#[test]
fn a_refusal_in_the_middle_ends_the_run() {
    for pipeline in ["1", "3", "64"] {
        let fake = Fake::start(Fault::None, Answers::RefusingTenth);
        let publish = format!("http://{}/", fake.address);
        let arguments = ["--publish-batch", "one", "--publish-pipeline", pipeline];
        let Outcome { exit_code, report, stderr, .. } = run("refusal", &fake, &publish, &arguments);
        assert_eq!((exit_code, report), (3, Value::Null), "{stderr}");
        assert!(stderr.contains("refused a publication: status 500: no queue"), "{stderr}");
    }
}

#[test]
fn requests_left_unanswered_are_told() {
    for answers in [Answers::Closing, Answers::HangingUp] {
        let fake = Fake::start(Fault::None, answers);
        let publish = format!("http://{}/", fake.address);
        let arguments = ["--publish-batch", "one", "--publish-pipeline", "4", "--rooms", "3"];
        let arguments = [arguments.as_slice(), &["--rooms-per-connection", "3"]].concat();
        let Outcome { exit_code, report, stderr, .. } = run("unanswered", &fake, &publish, &arguments);
        assert_eq!((exit_code, report), (3, Value::Null), "{stderr}");
        assert!(stderr.contains("left 2 requests unanswered"), "{answers:?}: {stderr}");
    }
}

#[test]
fn requests_are_what_the_templates_and_headers_say() {
    let fake = Fake::start(Fault::None, Answers::Plain);
    let publish = format!("http://{}/rooms/{{room}}?all", fake.address);
    let body = r#"{"room":{room_json},"message":{"text":"<{stamp}>"}}"#;
    let headers = ["--publish-header", "X-Tenant: a:b", "--publish-header", "content-type: text/plain"];
    let rooms =
        ["--rooms", "2", "--rooms-per-connection", "2", "--room-prefix", "a/b \"", "--publish-key", "k"];
    let arguments =
        [["--publish-body", body, "--publish-batch", "lines"].as_slice(), &headers, &rooms].concat();
    run_well("templates", &fake, &publish, &arguments);
    let host = format!("Host: {}", fake.address);
    for (number, (head, body)) in fake.posts().log().requests.into_iter().enumerate() {
        assert_eq!(head.path, format!("/rooms/a%2Fb%20%22{}?all", number % 2));
        assert_eq!(
            head.headers[..4],
            [host.as_str(), "X-Tenant: a:b", "content-type: text/plain", "Authorization: Bearer k",]
        );
        assert_eq!((head.headers.len(), head.method.as_str()), (5, "POST"));
        let value: Value =
            serde_json::from_str(body.strip_suffix('\n').expect("a whole line")).expect("JSON");
        assert_eq!(value["room"], format!("a/b \"{}", number % 2));
        let text = value["message"]["text"].as_str().expect("text");
        assert!(text.starts_with("<lg1") && text.ends_with("x>") && text.len() == 128, "{text}");
    }
}

#[test]
fn batches_hold_what_is_published_together() {
    let table = [("one", 1), ("lines", 4), ("array", 4)];
    for (batch, expected) in table {
        let fake = Fake::start(Fault::None, Answers::Plain);
        let publish = format!("http://{}/", fake.address);
        run_well("batches", &fake, &publish, &["--publish-batch", batch]);
        let (_, body) = fake.posts().log().requests.pop().expect("requests");
        let publications: Vec<Value> = match batch {
            "array" => serde_json::from_str(&body).expect("an array"),
            _ => body.lines().map(|line| serde_json::from_str(line).expect("an object")).collect(),
        };
        assert_eq!(publications.len(), expected, "{batch}");
        for mut publication in publications {
            assert!(publication["data"].take().as_str().is_some_and(|data| data.starts_with("lg1m")));
            let target = json!({ "type": "room", "target": "loadgen-0", "event": "loadgen", "data": null });
            assert_eq!(publication, target, "{batch}");
        }
    }
}

#[test]
fn redis_takes_publications_after_login_on_any_channel() {
    let redis = Redis::start();
    let channel_and_body = ["--publish-channel", "push.{room}", "--publish-body", r#"["{room}",{data}]"#];
    let ignis = r#"{"serverId":"emitter","type":"room","target":"loadgen-1","event":"loadgen","data":"lg1"#;
    let table: [(&str, &str, &[&str], &str, &str); 3] = [
        ("loader:p%40ss%2Fword@", "/3", &channel_and_body, "push.loadgen-1", r#"["loadgen-1","lg1"#),
        (":p@ss/word@", "", &channel_and_body, "push.loadgen-1", r#"["loadgen-1","lg1"#),
        (":p@ss/word@", "/0", &[], "ws:room:loadgen-1", ignis),
    ];
    let fake = Fake::start(Fault::None, Answers::Plain);
    let heard: Arc<Mutex<Vec<(String, String)>>> = Arc::default();
    let (server, log) = (fake.clone(), Arc::clone(&heard));
    redis.subscribe(move |channel, text| {
        log.lock().expect("no panic").push((channel.to_owned(), text.to_owned()));
        server.deliver(text).expect("members");
    });
    for (login, database, arguments, channel, text) in table {
        let rooms = ["--rooms", "2", "--rooms-per-connection", "2"];
        let arguments = [arguments, &rooms].concat();
        let count = run_well("redis", &fake, &format!("{}{database}", redis.url(login)), &arguments);
        let heard = std::mem::take(&mut *heard.lock().expect("no panic"));
        let (messages, probes): (Vec<_>, Vec<_>) = heard.iter().partition(|(_, text)| text.contains("lg1m"));
        assert_eq!((messages.len() as u64, probes.len() % 2), (count, 0), "{login}");
        for (number, (heard_channel, heard_text)) in messages.into_iter().enumerate() {
            let is_second = number % 2 == 1;
            assert_eq!(heard_channel == channel, is_second, "{heard_channel}");
            assert_eq!(heard_text.starts_with(text), is_second, "{heard_text}");
        }
    }
}

#[test]
fn redis_tells_why_it_refuses() {
    let redis = Redis::start();
    let fake = Fake::start(Fault::None, Answers::Plain);
    let table = [
        ("", "", "refused a publication: -NOAUTH"),
        ("loader:wrong@", "", "refused AUTH: -WRONGPASS"),
        (":p@ss/word@", "/99", "refused SELECT: -ERR DB index is out of range"),
    ];
    for (login, database, expected) in table {
        let publish = format!("{}{database}", redis.url(login));
        let Outcome { exit_code, report, stderr, .. } = run("refused", &fake, &publish, &[]);
        assert_eq!((exit_code, report), (3, Value::Null), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
}

#[test]
fn mistakes_are_told_before_anything_starts() {
    let fake = Fake::start(Fault::None, Answers::Plain);
    let publish = format!("http://{}/", fake.address);
    let table: [(&str, &[&str], &str); 4] = [
        ("rediss://127.0.0.1:1", &[], "TLS is not spoken here"),
        (
            &publish,
            &["--publish-body", "{dta}"],
            "publish_body = \"{dta}\": {dta} is no placeholder, did you mean {data}?",
        ),
        (&publish, &["--publish-header", "Host: other"], "Host is set by the generator"),
        (&publish, &["--publish-pipeline", "1025"], "publish_pipeline = 1025 is out of bounds: 1 to 1024"),
    ];
    for (publish, arguments, expected) in table {
        let Outcome { exit_code, report, stderr, .. } = run("mistakes", &fake, publish, arguments);
        assert_eq!((exit_code, report), (2, Value::Null), "{stderr}");
        assert!(stderr.contains(expected), "{stderr}");
    }
    assert_eq!(fake.posts().log().connections, 0);
}
