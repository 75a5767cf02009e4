//! Publications of several sizes, to clients, to users, and to rooms without some of their members.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::fake::post::Answers;
use crate::fake::redis::Redis;
use crate::fake::{Fake, Fault};
use crate::generator::{Outcome, run, run_at};

/// Eight members, 120 publications, of which 20 are warm-up.
const SHORT: &[&str] = &["-n", "8", "-r", "200", "--warmup", "100ms", "-d", "500ms"];

const TO_CLIENT: &[&str] = &["--publish-to", "client"];
const TO_USER: &[&str] = &["--publish-to", "user", "--users", "4"];
const EXCLUDING: &[&str] = &["--exclude", "3"];

fn counts(report: &Value) -> [&Value; 6] {
    let ledger = &report["ledger"];
    let of_ledger = |name: &str| &ledger[name];
    let [expected, delivered, missing, duplicate] =
        ["expected", "delivered", "missing", "duplicate"].map(of_ledger);
    [expected, delivered, missing, duplicate, &report["strangers"], &report["to_excluded"]]
}

fn messages_of(fake: &Fake) -> Vec<Value> {
    let bodies = fake.posts().log().requests.into_iter().map(|(_, body)| body);
    let messages = bodies.flat_map(|body| serde_json::from_str::<Vec<Value>>(&body).expect("an array"));
    messages.filter(|message| message["data"].as_str().expect("data").starts_with("lg1m")).collect()
}

fn run_well(name: &str, arguments: &[&str]) -> (Value, Vec<Value>) {
    let fake = Fake::start(Fault::None, Answers::Plain);
    let (target, publish) =
        (format!("ws://{}/ws", fake.address), format!("http://{}/api/emit", fake.address));
    let Outcome { exit_code, report, stderr, .. } =
        run_at(name, &target, &publish, &[SHORT, arguments].concat());
    assert_eq!((exit_code, stderr.as_str()), (0, ""), "{arguments:?}");
    (report, messages_of(&fake))
}

#[test]
fn every_client_is_addressed_in_turn_and_owed_what_is_addressed_to_it() {
    let (report, messages) = run_well("to-client", TO_CLIENT);
    assert_eq!(counts(&report), [&json!(120), &json!(120), &json!(0), &json!(0), &json!(0), &json!(0)]);
    assert_eq!((&report["scenario"]["to"], &report["scenario"]["rooms"]), (&json!("client"), &json!(8)));
    let targets: Vec<_> = messages.iter().map(|message| message["target"].as_str().expect("an id")).collect();
    assert_eq!(targets.iter().collect::<BTreeSet<_>>().len(), 8);
    assert!(targets.iter().zip(&targets[8..]).all(|(one, next)| one == next), "round robin");
    assert_eq!(messages[0].as_object().map(|message| message.len()), Some(4), "no list of clients left out");
}

#[test]
fn every_connection_of_a_user_is_owed_what_is_addressed_to_the_user() {
    let (report, messages) = run_well("to-user", TO_USER);
    assert_eq!(counts(&report), [&json!(240), &json!(240), &json!(0), &json!(0), &json!(0), &json!(0)]);
    assert_eq!((&report["scenario"]["to"], &report["scenario"]["rooms"]), (&json!("user"), &json!(4)));
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message["target"], format!("loadgen-{}", number % 4));
    }
}

#[test]
fn who_is_left_out_is_owed_nothing_and_others_are_left_out_each_time() {
    let (report, messages) = run_well("exclude", EXCLUDING);
    assert_eq!(counts(&report), [&json!(600), &json!(600), &json!(0), &json!(0), &json!(0), &json!(0)]);
    assert_eq!(report["scenario"]["exclude"], 3);
    let ids = |message: &Value| -> Vec<String> {
        let ids = message["exclude"].as_array().expect("a list");
        ids.iter().map(|id| id.as_str().expect("an id").to_owned()).collect()
    };
    let all: Vec<String> = messages.iter().flat_map(ids).collect();
    assert!(messages.iter().all(|message| ids(message).len() == 3));
    assert!(all.iter().zip(&all[8..]).all(|(one, next)| one == next), "round and round");
}

#[test]
fn several_threads_and_processes_agree_on_who_is_left_out() {
    let core = core_affinity::get_core_ids().unwrap_or_default().first().expect("a core").id.to_string();
    let cores = format!("{core},{core},{core}");
    for (name, arguments) in [("threads", ["--cores", &cores]), ("processes", ["--processes", "2"])] {
        let rooms: &[&str] = &["--rooms", "2", "--rooms-per-connection", "2", "--exclude", "3"];
        for addresses in [TO_CLIENT, TO_USER, EXCLUDING, rooms] {
            let closed = ["-n", "8", "-w", "8", "--warmup", "50ms", "-d", "200ms"];
            let arguments = [closed.as_slice(), &arguments, addresses].concat();
            let Outcome { exit_code, report, stderr, .. } =
                run(&format!("agree-{name}"), Fault::None, &arguments);
            assert_eq!((exit_code, stderr.as_str()), (0, ""), "{name} {addresses:?}");
            assert_eq!(report["to_last_member"]["count"], report["publications"], "{name} {addresses:?}");
        }
    }
}

#[test]
fn faults_with_addressed_messages_are_counted_exactly() {
    let table: [(&[&str], Fault, [u64; 6], &str); 6] = [
        (TO_CLIENT, Fault::Drop, [120, 108, 12, 0, 0, 0], "client 4: 3 missing"),
        (TO_USER, Fault::Drop, [240, 228, 12, 0, 0, 0], "loadgen-0: 6 missing"),
        (EXCLUDING, Fault::Drop, [600, 588, 12, 0, 0, 0], "loadgen-0: 12 missing"),
        (EXCLUDING, Fault::Repeat, [600, 600, 0, 12, 0, 0], "loadgen-0: 0 missing, 12 duplicate"),
        (EXCLUDING, Fault::Leak, [600, 600, 0, 0, 0, 36], "36 deliveries to members who were excluded"),
        (TO_CLIENT, Fault::Leak, [120, 120, 0, 0, 84, 0], "84 deliveries to members who had not joined"),
    ];
    for (addresses, fault, expected, text) in table {
        let Outcome { exit_code, report, stderr, .. } = run("addressed", fault, &[SHORT, addresses].concat());
        let found = counts(&report).map(|count| count.as_u64().expect("a number"));
        assert_eq!((found, exit_code), (expected, 1), "{addresses:?} {fault:?}: {stderr}");
        assert!(stderr.contains(text), "{addresses:?} {fault:?}: {stderr}");
    }
}

#[test]
fn a_server_that_does_not_tell_who_clients_are_is_of_no_use() {
    let table = [
        (TO_CLIENT, "connected without a client id that is a UUID"),
        (EXCLUDING, "connected without a client id that is a UUID"),
        (TO_USER, "connected as nobody, not as the user \"loadgen-0\""),
    ];
    for (addresses, text) in table {
        let Outcome { exit_code, report, stderr, .. } =
            run("nameless", Fault::Nameless, &[SHORT, addresses].concat());
        assert_eq!((exit_code, report), (3, Value::Null), "{addresses:?}");
        assert!(stderr.contains(text), "{stderr}");
    }
}

#[test]
fn clients_that_come_back_are_addressed_by_the_id_they_have_then() {
    let arguments =
        ["-n", "8", "-r", "400", "--warmup", "100ms", "-d", "2s", "--churn", "8", "--publish-to", "client"];
    let Outcome { exit_code, report, stderr, .. } = run("new-ids", Fault::None, &arguments);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    assert!(report["reconnects"]["count"].as_u64() >= Some(8), "{}", report["reconnects"]);
    assert_eq!(counts(&report)[2..], [&json!(0); 4]);
}

#[test]
fn visitors_beside_addressed_messages_are_neither_owed_nor_left_out() {
    for (addresses, expected) in [(TO_CLIENT, 120), (TO_USER, 240), (EXCLUDING, 600)] {
        let arguments = [addresses, &["--visitors", "100"]].concat();
        let (report, messages) = run_well("addressed-visitors", &arguments);
        let expected = json!(expected);
        assert_eq!(counts(&report), [&expected, &expected, &json!(0), &json!(0), &json!(0), &json!(0)]);
        let visitors = &report["visitors"];
        assert!(visitors["attempts"].as_u64() >= Some(30), "{addresses:?} {visitors}");
        assert_eq!(
            (&visitors["live"], &visitors["lost"]),
            (&visitors["attempts"], &json!(0)),
            "{addresses:?}"
        );
        let named = |message: &Value| message["exclude"].as_array().map_or(1, Vec::len);
        let expected = if addresses == EXCLUDING { 3 } else { 1 };
        assert!(messages.iter().all(|message| named(message) == expected), "{addresses:?}");
    }
}

#[test]
fn sizes_are_taken_in_turn_and_requests_stay_small_enough() {
    let sizes =
        ["--size", "54,4096,65536", "-w", "64", "--burst", "64", "-n", "2", "--warmup", "0s", "-d", "200ms"];
    let fake = Fake::start(Fault::None, Answers::Plain);
    let (target, publish) =
        (format!("ws://{}/ws", fake.address), format!("http://{}/api/emit", fake.address));
    let Outcome { exit_code, report, stderr, .. } = run_at("sizes", &target, &publish, &sizes);
    assert_eq!((exit_code, stderr.as_str()), (0, ""));
    let scenario = &report["scenario"];
    assert_eq!(
        (&scenario["data_sizes"], &scenario["data_bytes"]),
        (&json!([54, 4096, 65536]), &json!(23228))
    );
    for (number, message) in messages_of(&fake).iter().enumerate() {
        assert_eq!(message["data"].as_str().expect("data").len() + 2, [54, 4096, 65536][number % 3]);
    }
    // More than one and less than a mebibyte, which is what Shardcast takes.
    let bodies = fake.posts().log().requests;
    let longest = bodies.iter().map(|(_, body)| body.len()).max();
    assert!(longest > Some(400_000) && longest < Some(1 << 19), "{longest:?}");
}

#[test]
fn redis_has_a_channel_a_client_and_a_user() {
    let redis = Redis::start();
    let fake = Fake::start(Fault::None, Answers::Plain);
    let server = fake.clone();
    redis.subscribe(move |channel, text| {
        let message: Value = serde_json::from_str(text).expect("JSON");
        let (kind, target) = (message["type"].as_str(), message["target"].as_str());
        assert_eq!(channel, format!("ws:{}:{}", kind.expect("a type"), target.expect("a target")));
        server.deliver(text).expect("members");
    });
    let (target, publish) = (format!("ws://{}/ws", fake.address), redis.url(":p@ss/word@"));
    for (addresses, expected) in [(TO_CLIENT, 120), (TO_USER, 240), (EXCLUDING, 600)] {
        let arguments = [SHORT, addresses, &["--size", "54,65536"]].concat();
        let Outcome { exit_code, report, stderr, .. } =
            run_at("redis-addresses", &target, &publish, &arguments);
        assert_eq!((exit_code, stderr.as_str()), (0, ""), "{addresses:?}");
        let expected = json!(expected);
        assert_eq!(counts(&report)[..3], [&expected, &expected, &json!(0)], "{addresses:?}");
    }
}
