use super::*;
use ClientMessage::{Heartbeat, Ignored, Malformed};

fn other(event: &str) -> ClientMessage<'_> {
    ClientMessage::Other { event: event.into() }
}

fn authenticate(data: &str) -> ClientMessage<'_> {
    ClientMessage::Authenticate { data }
}

fn join<'a>(rooms: &[&'a str]) -> ClientMessage<'a> {
    ClientMessage::Join { rooms: rooms.iter().map(|&room| room.into()).collect() }
}

fn leave<'a>(rooms: &[&'a str]) -> ClientMessage<'a> {
    ClientMessage::Leave { rooms: rooms.iter().map(|&room| room.into()).collect() }
}

/// The rooms of a `join` for these names.
fn asked(names: &[String]) -> usize {
    let names: Vec<_> = names.iter().map(|name| json::quote(name)).collect();
    match parse(&format!(r#"{{"event":"join","data":{{"rooms":[{}]}}}}"#, names.join(","))) {
        ClientMessage::Join { rooms } => rooms.len(),
        message => panic!("{message:?}"),
    }
}

/// The texts of `invalid-json.jsonl`, and more of the kind.
#[test]
fn attack_41_what_is_no_json_is_malformed() {
    let deep = "[".repeat(1 << 20);
    for text in [
        "not json",
        "",
        r#"{"event":"heartbeat""#,
        "{bad",
        "{'event':'x'}",
        "\u{feff}{\"event\":\"heartbeat\"}",
        "{\"event\":\"heartbeat\"}x",
        "{\"event\":\"heartbeat\",}",
        deep.as_str(),
    ] {
        assert_eq!(parse(text), Malformed, "{text:.40}");
    }
}

#[test]
fn what_has_no_event_is_ignored() {
    for text in [
        "null",
        "true",
        "1",
        "\"heartbeat\"",
        "[]",
        "[{\"event\":\"heartbeat\"}]",
        "{}",
        r#"{"data":1}"#,
        r#"{"event":""}"#,
        r#"{"event":0}"#,
        r#"{"event":-0.0}"#,
        r#"{"event":null}"#,
        r#"{"event":false}"#,
        r#"{"Event":"heartbeat"}"#,
        r#"{"event":"heartbeat","event":null}"#,
    ] {
        assert_eq!(parse(text), Ignored, "{text}");
    }
}

#[test]
fn events_are_told_apart_by_meaning() {
    for (text, expected) in [
        (r#"{"event":"heartbeat"}"#, Heartbeat),
        (r#" { "event" : "\u0068eartbeat" , "data":[] } "#, Heartbeat),
        (r#"{"event":"x","event":"heartbeat"}"#, Heartbeat),
        (r#"{"\u0065vent":"heartbeat"}"#, Heartbeat),
        (r#"{"event":"Heartbeat"}"#, other("\"Heartbeat\"")),
        (r#" {"event" : "dup", "event":"rooms" } "#, other("\"rooms\"")),
        (r#"{"event":"connected"}"#, other("\"connected\"")),
        (r#"{"event":"encrypted","data":{"ct":""}}"#, ClientMessage::Encrypted { data: r#"{"ct":""}"# }),
        (r#"{"event":"encrypted"}"#, ClientMessage::Encrypted { data: "null" }),
        (r#"{"event":"a\/\u00e9"}"#, other("\"a/é\"")),
        (r#"{"event":"\ud800"}"#, other(r#""\ud800""#)),
        (r#"{"event":42}"#, other("42")),
        (r#"{"event":true}"#, other("true")),
        (r#"{"event":["join"]}"#, other("[\"join\"]")),
        (r#"{"event":{}}"#, other("{}")),
    ] {
        assert_eq!(parse(text), expected, "{text}");
    }
}

/// The texts of `auth-no-data.jsonl`, and more of the kind.
#[test]
fn authenticate_hands_its_data_on_as_it_is() {
    for (text, data) in [
        (r#"{"event":"authenticate"}"#, "{}"),
        (r#"{"event":"authenticate","data":null}"#, "{}"),
        (r#"{"event":"authenticate","data":"ok"}"#, "\"ok\""),
        (r#"{"event":"authenticate","data":[1,2]}"#, "[1,2]"),
        (r#"{"event":"authenticate","data":0}"#, "0"),
        (r#"{"event":"authenticate","data": {"token":"ok", "n":1.0} }"#, r#"{"token":"ok", "n":1.0}"#),
        (r#"{"data":1,"event":"authenticate","data":2}"#, "2"),
    ] {
        assert_eq!(parse(text), authenticate(data), "{text}");
    }
}

#[test]
fn bad_rooms_are_dropped_one_by_one() {
    for (rooms, expected) in [
        (r#"["a","b","a"]"#, &["a", "b", "a"][..]),
        (r#"["deny-x","room-a"]"#, &["deny-x", "room-a"]),
        (r#"["a",1,null,{},["b"],"","c"]"#, &["a", "c"]),
        (r#"["ws:x","ws:","WS:x"," ws:x","ws-x","ws"]"#, &["WS:x", " ws:x", "ws-x", "ws"]),
        (r#"["ws:internal:broadcast","\u0077s:x"]"#, &[]),
        (r#"["\u00e9\/","\ud800","\ud83d\ude00"]"#, &["é/", "😀"]),
    ] {
        assert_eq!(
            parse(&format!(r#"{{"event":"join","data":{{"rooms":{rooms}}}}}"#)),
            join(expected),
            "{rooms}"
        );
    }
}

/// `ignis.md` §6.1 and §16.1; the texts of `sync-throws.jsonl`.
#[test]
fn a_join_that_names_nothing_of_use_is_empty() {
    for text in [
        r#"{"event":"join"}"#,
        r#"{"event":"join","data":null}"#,
        r#"{"event":"join","data":"abc"}"#,
        r#"{"event":"join","data":["a"]}"#,
        r#"{"event":"join","data":{}}"#,
        r#"{"event":"join","data":{"rooms":null}}"#,
        r#"{"event":"join","data":{"rooms":[]}}"#,
        r#"{"event":"join","data":{"rooms":7}}"#,
        r#"{"event":"join","data":{"rooms":"abc"}}"#,
        r#"{"event":"join","data":{"rooms":{"length":1}}}"#,
        r#"{"event":"join","data":{"rooms":["a"],"rooms":[]}}"#,
    ] {
        assert_eq!(parse(text), join(&[]), "{text}");
        assert_eq!(parse(&text.replace("join", "leave")), leave(&[]), "{text}");
    }
}

/// The texts of `leave.jsonl`, and more of the kind.
#[test]
fn leave_takes_any_name() {
    let long = "x".repeat(300);
    let long_text = format!(r#"{{"event":"leave","data":{{"rooms":["{long}"]}}}}"#);
    for (text, expected) in [
        (
            r#"{"event":"leave","data":{"rooms":["room-a","never-joined"]}}"#,
            leave(&["room-a", "never-joined"]),
        ),
        (r#"{"event":"leave","data":{"rooms":[1,null]}}"#, leave(&[])),
        (
            r#"{"event":"leave","data":{"rooms":["ws:internal:broadcast",""]}}"#,
            leave(&["ws:internal:broadcast", ""]),
        ),
        (long_text.as_str(), leave(&[&long])),
    ] {
        assert_eq!(parse(text), expected, "{text}");
    }
}

#[test]
fn attack_59_room_names_are_bounded_in_utf16_units() {
    for (unit, fits) in [("a", 256), ("é", 256), ("語", 256), ("😀", 128)] {
        assert_eq!(asked(&[unit.repeat(fits)]), 1, "{unit}");
        assert_eq!(asked(&[unit.repeat(fits + 1)]), 0, "{unit}");
    }
    assert_eq!(asked(&["x".repeat(64 * 1024), "é".repeat(255) + "a"]), 1);
}

#[test]
fn attack_59_odd_room_names_stay_as_they_are_and_apart() {
    let names =
        ["a\0b", "a\r\nb", "*", "?", "[x]", "{}", "a:b", "a::b", "e\u{301}", "\u{e9}", "a\u{2028}", "\u{7f}"];
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let json: Vec<_> = names.iter().map(|name| json::quote(name)).collect();
    let text = format!(r#"{{"event":"join","data":{{"rooms":[{}]}}}}"#, json.join(","));
    let ClientMessage::Join { rooms } = parse(&text) else { panic!("{text}") };
    assert_eq!(rooms, names);
}

#[test]
fn attack_60_room_names_are_never_joined_into_one_key() {
    assert_ne!(parse(r#"{"event":"leave","data":{"rooms":["a_b","c"]}}"#), leave(&["a", "b_c"]));
    assert_eq!(parse(r#"{"event":"leave","data":{"rooms":["a_b","c"]}}"#), leave(&["a_b", "c"]));
}

#[test]
fn attack_61_internal_rooms_cannot_be_asked_for() {
    assert_eq!(asked(&[super::super::BROADCAST_ROOM.to_owned(), "ws:room:x".to_owned()]), 0);
}
