use super::*;

fn decode_text(text: &str) -> Result<Envelope<'_>, EnvelopeError> {
    decode(text.as_bytes(), &mut Scratch::default())
}

fn error_name(text: &[u8]) -> &'static str {
    decode(text, &mut Scratch::default()).map_or_else(|error| error.name(), |_| "none")
}

const ID: &str = "bbf37501-294a-44e3-892d-0cc9acf0d441";

#[test]
fn attack_69_a_foreign_message_is_dropped_by_name() {
    let deep = format!(r#"{{"serverId":"s","data":{}"#, "[".repeat(1 << 20));
    for (text, name) in [
        (&b"\xff\xfe"[..], "not_utf8"),
        (b"{\"serverId\":\"\xed\xa0\x80\"}", "not_utf8"),
        (b"hello", "not_json"),
        (b"", "not_json"),
        (b"{\"serverId\":\"s\"} x", "not_json"),
        ("\u{feff}{}".as_bytes(), "not_json"),
        (deep.as_bytes(), "not_json"),
        (b"null", "not_object"),
        (b"[1]", "not_object"),
        (b"\"x\"", "not_object"),
        (b"{}", "no_server_id"),
        (br#"{"serverId":1,"type":"broadcast","event":"x"}"#, "no_server_id"),
        (br#"{"serverId":"s","type":"broadcast"}"#, "no_event"),
        (br#"{"serverId":"s","type":"broadcast","event":null}"#, "no_event"),
        (br#"{"serverId":"s","event":"x"}"#, "unknown_type"),
        (br#"{"serverId":"s","type":"Broadcast","event":"x"}"#, "unknown_type"),
        (br#"{"serverId":"s","type":["room"],"event":"x","target":"r"}"#, "unknown_type"),
        (br#"{"serverId":"s","type":"room","event":"x"}"#, "no_target"),
        (br#"{"serverId":"s","type":"room","target":"","event":"x"}"#, "no_target"),
        (br#"{"serverId":"s","type":"room","target":7,"event":"x"}"#, "no_target"),
        (br#"{"serverId":"s","type":"client","target":null,"event":"x"}"#, "no_target"),
        (br#"{"serverId":"s","type":"user","target":0,"event":"x"}"#, "no_target"),
        (br#"{"serverId":"s","type":"user","target":["u"],"event":"x"}"#, "no_target"),
    ] {
        assert_eq!(error_name(text), name, "{:.60}", String::from_utf8_lossy(text));
    }
}

#[test]
fn attack_69_size_and_exclusions_are_bounded() {
    let mut scratch = Scratch::new(Limits { message_bytes_max: 150, exclude_max: 2 });
    let text = |ids: &[&str]| {
        let ids: Vec<String> = ids.iter().map(|&id| id.to_owned()).collect();
        encode("s", &Destination::Broadcast, &Payload::new("x", None).unwrap(), Some(&ids))
    };
    assert_eq!(decode(&text(&[ID, ID]), &mut scratch).unwrap().exclude.len(), 2);
    assert_eq!(decode(&text(&["a", "b", "c"]), &mut scratch), Err(EnvelopeError::TooManyExcluded));
    let exact = format!(r#"{{"serverId":"s","type":"broadcast","event":"{}"}}"#, "x".repeat(150 - 46));
    assert_eq!(exact.len(), 150);
    assert!(decode(exact.as_bytes(), &mut scratch).is_ok());
    assert_eq!(decode(format!("{exact} ").as_bytes(), &mut scratch), Err(EnvelopeError::TooLarge));
}

#[test]
fn attack_70_a_poison_message_leaves_the_next_one_whole() {
    let good = r#"{"serverId":"s","type":"broadcast","event":"x","data":[1,{"a":"b"}]}"#;
    let expected = decode_text(good).unwrap();
    let deep = format!(r#"{{"serverId":"s","data":{}"#, "[".repeat(60_000));
    let mut scratch = Scratch::default();
    for poison in ["{", "\"\\ud800\"", "{\"serverId\":\"", &deep, "\0", "{\"a\":\"\\"] {
        assert!(decode(poison.as_bytes(), &mut scratch).is_err());
        assert_eq!(decode(good.as_bytes(), &mut scratch).as_ref(), Ok(&expected));
    }
}

#[test]
fn attack_41_what_simd_json_refuses_is_still_read() {
    let deep = format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000));
    let digits = "9".repeat(100_000);
    for data in [r#""\ud800""#, "123456789012345678901234567890", "1e999", &deep, &digits] {
        let text =
            format!(r#"{{"serverId":"emitter","type":"room","target":"r","event":"weird","data":{data}}}"#);
        let envelope = decode_text(&text).unwrap();
        assert_eq!(envelope.data, Some(data));
        assert_eq!(envelope.destination, Destination::Room("r".into()));
    }
}

#[test]
fn routing_is_by_type_and_target() {
    for (members, expected) in [
        (r#""type":"broadcast""#, Destination::Broadcast),
        (r#""type":"broadcast","target":"ignored""#, Destination::Broadcast),
        (r#""type":"room","target":"ws:x""#, Destination::Room("ws:x".into())),
        (r#""type":"room","target":"\u00e9\"""#, Destination::Room("é\"".into())),
        (r#""type":"client","target":"nobody""#, Destination::Client("nobody".into())),
        (r#""type":"user","target":"user-1""#, Destination::User("\"user-1\"".into())),
        (r#""type":"user","target":"\u0075""#, Destination::user(&UserId::from_text("u"))),
        (r#""type":"user","target":42.0"#, Destination::user(&UserId::from_json("42").unwrap())),
        (r#""type":"us\u0065r","target":true"#, Destination::User("true".into())),
    ] {
        let text = format!(r#"{{"serverId":"s",{members},"event":""}}"#);
        assert_eq!(decode_text(&text).unwrap().destination, expected, "{members}");
    }
}

#[test]
fn an_id_that_is_no_text_equals_nobodys() {
    let text = r#"{"serverId":"\ud800","type":"broadcast","event":"x"}"#;
    assert_eq!(decode_text(text).unwrap().server_id, r#""\ud800""#);
    assert_eq!(decode_text(&text.replace(r"\ud800", "")).unwrap().server_id, "");
}

#[test]
fn only_ids_are_excluded_and_only_where_it_means_something() {
    let id = ClientId::parse(ID).unwrap();
    for (kind, exclude, expected) in [
        ("broadcast", format!(r#"["{ID}"]"#), vec![id]),
        ("room", format!(r#"["x",1,null,["{ID}"],"{ID}","{}"]"#, ID.to_uppercase()), vec![id]),
        ("room", "null".to_owned(), vec![]),
        ("room", "[]".to_owned(), vec![]),
        ("room", format!("\"{ID}\""), vec![]),
        ("room", format!(r#"{{"0":"{ID}"}}"#), vec![]),
        ("client", format!(r#"["{ID}"]"#), vec![]),
        ("user", format!(r#"["{ID}"]"#), vec![]),
    ] {
        let text =
            format!(r#"{{"serverId":"s","type":"{kind}","target":"t","event":"x","exclude":{exclude}}}"#);
        assert_eq!(decode_text(&text).unwrap().exclude, expected, "{kind} {exclude}");
    }
}

#[test]
fn what_is_encoded_is_decoded() {
    let user = UserId::from_text("u \"1\"");
    let number = UserId::from_json("42").unwrap();
    for destination in [
        Destination::Broadcast,
        Destination::Room("room é😀/\"*?[x]\r\n\0".into()),
        Destination::Client(ID.into()),
        Destination::user(&user),
        Destination::user(&number),
    ] {
        for data in [None, Some("null"), Some(" {\"a\" : 1.0}\n"), Some(r#""\ud800""#)] {
            let payload = Payload::new("e\u{2028}\n\"", data).unwrap();
            let bytes = encode("server", &destination, &payload, None);
            let envelope = decode(&bytes, &mut Scratch::default()).unwrap();
            assert_eq!(envelope.server_id, "server");
            assert_eq!(envelope.destination, destination);
            assert_eq!(json::unescape(envelope.event).as_deref(), Some("e\u{2028}\n\""));
            assert_eq!(envelope.data, data.map(str::trim));
            assert_eq!(envelope.frame(), payload.frame());
        }
    }
}

#[test]
fn attack_68_names_and_events_cannot_leave_their_string() {
    let payload = Payload::new("x\",\"exclude\":[\"a\r\n", None).unwrap();
    let bytes = encode("s\"", &Destination::Room("r\",\"type\":\"broadcast\r\n".into()), &payload, None);
    assert!(!bytes.iter().any(|byte| *byte < 0x20));
    let envelope = decode(&bytes, &mut Scratch::default()).unwrap();
    assert_eq!(envelope.destination, Destination::Room("r\",\"type\":\"broadcast\r\n".into()));
    for data in ["", "1,\"exclude\":[]", "{}}", "\"", "x", "1 2"] {
        assert!(Payload::new("x", Some(data)).is_err(), "{data}");
    }
}

#[test]
fn a_message_has_the_channel_of_its_destination() {
    for (destination, expected) in [
        (Destination::Broadcast, "ws:broadcast"),
        (Destination::Room("room-a".into()), "ws:room:room-a"),
        (Destination::Client(ID.into()), "ws:client:bbf37501-294a-44e3-892d-0cc9acf0d441"),
        (Destination::User(r#""user-1\"""#.into()), "ws:user:user-1\""),
        (Destination::User("42".into()), "ws:user:42"),
    ] {
        assert_eq!(channel(&destination), expected);
        let patterns =
            CHANNEL_PATTERNS.iter().filter(|pattern| expected.starts_with(pattern.trim_end_matches('*')));
        assert_eq!(patterns.count(), usize::from(destination != Destination::Broadcast));
    }
}

#[test]
fn an_empty_exclusion_is_written() {
    let payload = Payload::new("e", Some("{\"n\":5}")).unwrap();
    let encoded = |exclude: Option<&[String]>| {
        String::from_utf8(encode(EMITTER_ID, &Destination::Room("r".into()), &payload, exclude)).unwrap()
    };
    let head = r#"{"serverId":"emitter","type":"room","target":"r","event":"e","data":{"n":5}"#;
    assert_eq!(encoded(None), format!("{head}}}"));
    assert_eq!(encoded(Some(&[])), format!("{head},\"exclude\":[]}}"));
    assert_eq!(
        encoded(Some(&["a".to_owned(), "b\"".to_owned()])),
        format!("{head},\"exclude\":[\"a\",\"b\\\"\"]}}")
    );
}
