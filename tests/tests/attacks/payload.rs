//! 39 to 41: text that is no UTF-8 and messages that are no JSON, or a great deal of it.

use shardcast_tests::client::{Received, masked_frame, opcode};

use crate::arena::{Arena, Cost, each, expect_close, text};

const FIN: u8 = 0x80;
const MALFORMED: &[(&str, u64)] = &[("messages_malformed", 1)];
const IGNORED: &[(&str, u64)] = &[("messages_ignored", 1)];
const UNAUTHORIZED: &[(&str, u64)] = &[("messages_unauthorized", 1)];
const NOT_JSON_ANSWER: &str = r#"{"event":"error","data":{"message":"Invalid message format"}}"#;
const UNAUTHORIZED_ANSWER: &str = r#"{"event":"error","data":{"message":"Not authenticated"}}"#;

const NOT_UTF8: &[(&str, &[u8])] = &[
    ("overlong slash", b"\xc0\xaf"),
    ("overlong in three bytes", b"\xe0\x80\xaf"),
    ("surrogate", b"\xed\xa0\x80"),
    ("above U+10FFFF", b"\xf4\x90\x80\x80"),
    ("a lone continuation", b"ok\x80"),
    ("five bytes", b"\xf8\x88\x80\x80\x80"),
    ("0xff", b"\xff"),
];

#[test]
fn attack_39_text_that_is_no_utf8_closes_1007_as_soon_as_it_shows() {
    let mut cases = Vec::new();
    for (label, bytes) in NOT_UTF8 {
        cases.push((label.to_string(), masked_frame(FIN | opcode::TEXT, bytes)));
        // No FIN follows: the server must not wait for it.
        cases.push((format!("{label}, first fragment"), masked_frame(opcode::TEXT, bytes)));
        let whole = masked_frame(FIN | opcode::TEXT, &[bytes, &[b'x'; 1000][..]].concat());
        cases.push((format!("{label}, frame cut off"), whole[..whole.len() - 500].to_vec()));
    }
    let cut = [&b"\xe2\x82"[..], b"\x28"];
    cases.push(("cut at the end".to_owned(), masked_frame(FIN | opcode::TEXT, cut[0])));
    let halves = |second: &[u8]| [masked_frame(opcode::TEXT, cut[0]), masked_frame(FIN, second)].concat();
    cases.push(("broken at a fragment's boundary".to_owned(), halves(cut[1])));
    cases.push(("unfinished at a fragment's boundary".to_owned(), halves(b"")));
    each(&cases, |arena, (label, bytes)| {
        arena.attack(&format!("39 {label}"), &[("violations.invalid_utf8", 1)], |arena| {
            let mut client = arena.ws();
            client.send_raw(bytes).expect("sending");
            expect_close(label, &mut client, 1007, "Received invalid UTF-8");
        });
    });
}

#[test]
fn attack_39_a_character_may_lie_across_fragments_and_binary_may_be_anything() {
    let mut arena = Arena::new();
    arena.attack("39 whole across a fragment's boundary", MALFORMED, |arena| {
        let mut client = arena.ws();
        let whole = [masked_frame(opcode::TEXT, b"\xe2\x82"), masked_frame(FIN, b"\xac")].concat();
        client.send_raw(&whole).expect("sending");
        assert_eq!(client.recv(), text(NOT_JSON_ANSWER));
        client.leave();
    });
    arena.attack("39 binary is not checked", MALFORMED, |arena| {
        let mut client = arena.ws();
        client.send_binary(b"\xff\xfe");
        assert_eq!(client.recv(), text(NOT_JSON_ANSWER));
        client.leave();
    });
    arena.end();
}

#[test]
fn attack_40_empty_messages_and_a_megabyte_of_nul() {
    let mut arena = Arena::new();
    let zeros = vec![0; 1 << 20];
    arena.attack("40 empty text and binary", &[("messages_malformed", 2)], |arena| {
        let mut client = arena.ws();
        client.send_text("");
        client.send_binary(b"");
        for _ in 0..2 {
            assert_eq!(client.recv(), text(NOT_JSON_ANSWER));
        }
        client.leave();
    });
    arena.attack("40 NUL at the limit", MALFORMED, |arena| {
        let mut client = arena.ws();
        client.send_binary(&zeros[..131_072]);
        assert_eq!(client.recv(), text(NOT_JSON_ANSWER));
        client.leave();
    });
    arena.attack("40 a megabyte of NUL", &[("violations.message_too_big", 1)], |arena| {
        let mut client = arena.ws();
        client.send_binary(&zeros);
        expect_close("40", &mut client, 1009, "Received too big message");
    });
    arena.attack_for(
        Cost::USUAL.holding(4 << 20),
        "40 a megabyte of NUL where it is allowed",
        &[],
        |arena| {
            let mut client = arena.echo();
            client.send_binary(b"");
            client.send_text("");
            client.send_binary(&zeros);
            assert_eq!(client.recv(), Received::Binary(Vec::new()));
            assert_eq!(client.recv(), text(""));
            assert!(client.recv() == Received::Binary(zeros.clone()), "not the zeros that were sent");
            client.leave();
        },
    );
    arena.end();
}

fn nested(depth: usize) -> String {
    "[".repeat(depth) + &"]".repeat(depth)
}

#[test]
fn attack_41_json_that_breaks_parsers() {
    let event = |data: &str| format!(r#"{{"event":"x","data":{data}}}"#);
    let digits = "9".repeat(60_000);
    // Whatever is JSON reaches the rule that a stranger may not send it.
    let accepted = [
        ("depth 10,000", event(&nested(10_000))),
        ("depth 60,000", event(&nested(60_000))),
        ("a huge number", event("1e999999999")),
        ("a long number", event(&digits)),
        ("a long fraction", event(&format!("0.{digits}e-{digits}"))),
        ("duplicate keys", r#"{"event":"heartbeat","event":"x","data":1,"data":2}"#.to_owned()),
        ("an escaped key", r#"{"\u0065vent":"x"}"#.to_owned()),
        ("lone surrogates", event(r#""\ud800 \udfff""#)),
        ("a lone surrogate as the event", r#"{"event":"\ud800"}"#.to_owned()),
        ("escaped NUL", event(r#""\u0000""#)),
        ("many keys", format!(r#"{{{}"event":"x"}}"#, r#""k":0,"#.repeat(15_000))),
    ];
    each(&accepted, |arena, (label, message)| {
        answered(arena, label, message, UNAUTHORIZED, UNAUTHORIZED_ANSWER);
    });
    let refused = [
        ("open brackets", "[".repeat(131_072)),
        ("open objects", r#"{"a":"#.repeat(26_000)),
        ("closing brackets", "]".repeat(131_072)),
        ("a BOM", format!("\u{feff}{}", event("1"))),
        ("trailing junk", event("1") + "x"),
        ("two values", event("1") + &event("1")),
        ("a comma too many", r#"{"event":"x",}"#.to_owned()),
        ("a leading zero", event("01")),
        ("a plus", event("+1")),
        ("NaN", event("NaN")),
        ("single quotes", "{'event':'x'}".to_owned()),
        ("a comment", event("/**/1")),
        ("half an escape", event(r#""\u00"#)),
        ("a raw control character", event("\"\n\"")),
        ("only blanks", " ".repeat(131_072)),
    ];
    each(&refused, |arena, (label, message)| answered(arena, label, message, MALFORMED, NOT_JSON_ANSWER));
    let ignored =
        ["null", "[]", "1e400", r#""event""#, r#"{"event":null}"#, r#"{"event":-0}"#, r#"{"Event":"x"}"#];
    each(&ignored, |arena, message| {
        arena.attack(&format!("41 {message}"), IGNORED, |arena| {
            let mut client = arena.ws();
            client.send_text(message);
            client.settle();
            assert_eq!(client.take_pending(), [], "{message}");
            client.leave();
        });
    });
}

fn answered(arena: &mut Arena, label: &str, message: &str, incidents: &[(&str, u64)], answer: &str) {
    arena.attack(&format!("41 {label}"), incidents, |arena| {
        let mut client = arena.ws();
        client.send_text(message);
        assert_eq!(client.recv(), text(answer), "{label}");
        client.leave();
    });
}

#[test]
fn attack_41_a_token_hidden_in_deep_or_broken_json_lets_nobody_in() {
    let mut arena = Arena::new();
    let data = [
        nested(10_000),
        "1".to_owned(),
        r#"{"token":{"token":"x"}}"#.to_owned(),
        r#"{"token":""}"#.to_owned(),
    ];
    for data in data {
        arena.attack(&format!("41 {:.20}", data), &[("auth_refused.credentials_missing", 1)], |arena| {
            let mut client = arena.ws();
            client.send_text(&format!(r#"{{"event":"authenticate","data":{data}}}"#));
            assert_eq!(
                client.recv(),
                text(r#"{"event":"error","data":{"message":"Authentication failed"}}"#)
            );
            expect_close("41", &mut client, 4003, "Authentication failed");
        });
    }
    arena.end();
}
