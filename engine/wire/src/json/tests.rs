//! Acceptance against `serde_json` (whose `RawValue` skips values by the same grammar as `JSON.parse`, without
//! recursion and without decoding strings), spans and texts against tables taken from V8.

use serde_json::value::RawValue;

use super::*;

/// Valid texts that between them use every rule of the grammar.
const VALID: &[&str] = &[
    "null",
    "true",
    " false ",
    "0",
    "-0",
    "-0.0e+00",
    "1e400",
    "123456789012345678901234567890",
    "1.7976931348623157e308",
    r#""""#,
    r#""\"\\\/\b\f\n\r\t\u00e9\uD83D\ude00""#,
    r#""\ud800""#,
    r#""\udc00\ud800""#,
    "\"\u{7f}\u{2028}é😀, a plain run of more than eight bytes\"",
    "[]",
    "{}",
    " [ ] ",
    "[1,\"a\",[],{},null,[[{}]],-1.5]",
    "\t{ \"a\" : 1 ,\r\n\"b\":[ true , false ] }\n",
    r#"{"a":{"b":{"c":[{"d":"e"}]}},"a":2,"":[]}"#,
    r#"{"event":"join","data":{"rooms":["room-a","room-b"]},"id":7}"#,
    r#"{"serverId":"emitter","type":"room","target":"room-a","event":"x","data":{"n":4.0},"exclude":["a","b"]}"#,
];

/// Texts that only look like JSON.
const INVALID: &[&str] = &[
    "",
    " ",
    "not json",
    "{bad",
    "{'event':'x'}",
    r#"{"event":"heartbeat""#,
    "\u{feff}{}",
    "{}x",
    "{} {}",
    "[1,]",
    "[,1]",
    "[1 2]",
    "{\"a\":1,}",
    "{\"a\"}",
    "{\"a\" 1}",
    "{a:1}",
    "{1:1}",
    "{,}",
    "[}",
    "{]",
    "]",
    "}",
    "01",
    "-",
    "+1",
    ".5",
    "1.",
    "1.e5",
    "1e",
    "1e+",
    "0x10",
    "NaN",
    "Infinity",
    "-Infinity",
    "undefined",
    "tru",
    "truee",
    "nul",
    "True",
    "\"",
    "\"a",
    "\"\\\"",
    r#""\x""#,
    r#""\u12""#,
    r#""\u12g4""#,
    r#""\u+123""#,
    "\"a\nb\"",
    "\"a\tb\"",
    "\"\u{0}\"",
    "\"\u{1f}\"",
    "a plain run of more than eight bytes",
    "\u{a0}1",
    "\u{c}1",
    "1\u{b}",
    "// x\n1",
    "/**/1",
];

/// What a text is to the reference: the span of its value.
fn reference(text: &str) -> Option<&str> {
    serde_json::from_str::<&RawValue>(text).ok().map(RawValue::get)
}

/// xorshift64*: good enough to mutate, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn mutate(&mut self, text: &mut Vec<u8>) {
        const PARTS: &[&[u8]] = &[
            b"{",
            b"}",
            b"[",
            b"]",
            b",",
            b":",
            b"\"",
            b"\\",
            b"\\u",
            b"d800",
            b"0",
            b"1",
            b"-",
            b".",
            b"e",
            b"E+",
            b" ",
            b"\n",
            b"\t",
            b"\x0c",
            b"\0",
            b"true",
            b"null",
            b"\"a\":",
            "é".as_bytes(),
            "\u{2028}".as_bytes(),
            b"99999999999",
            b"\"event\":\"\\u0061\",",
        ];
        let at = self.below(text.len() + 1);
        match self.below(5) {
            0 => text.truncate(at),
            1 if at < text.len() => drop(text.remove(at)),
            2 if at < text.len() => text[at] = self.below(128) as u8,
            3 => {
                let piece = text[at..(at + self.below(12)).min(text.len())].to_vec();
                let to = self.below(text.len() + 1);
                text.splice(to..to, piece);
            }
            _ => drop(text.splice(at..at, PARTS[self.below(PARTS.len())].iter().copied())),
        }
    }
}

#[test]
fn accepts_what_json_parse_accepts() {
    for text in VALID {
        assert_eq!(validate(text), Ok(text.trim()), "{text}");
        assert_eq!(reference(text), Some(text.trim()), "the reference disagrees about {text}");
    }
}

#[test]
fn attack_41_refuses_what_json_parse_refuses() {
    for text in INVALID {
        assert!(validate(text).is_err(), "{text:?}");
        assert!(members(text, ["event"]).is_err(), "{text:?}");
        assert_eq!(reference(text), None, "the reference disagrees about {text:?}");
    }
}

#[test]
fn mutated_texts_are_judged_as_the_reference_judges() {
    let seed = 0x5eed_0041;
    let mut random = Random(seed);
    let mut indexer = Indexer::default();
    let mut accepted = 0;
    for round in 0..60_000 {
        let mut bytes = VALID[random.below(VALID.len())].as_bytes().to_vec();
        for _ in 0..1 + random.below(3) {
            random.mutate(&mut bytes);
        }
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        let expected = reference(text);
        accepted += usize::from(expected.is_some());
        assert_eq!(validate(text).ok(), expected, "seed {seed:#x}, round {round}: {text:?}");
        let wanted = ["event", "data", "a", ""];
        let scanned = members(text, wanted);
        assert_eq!(scanned.is_ok(), expected.is_some(), "seed {seed:#x}, round {round}: {text:?}");
        assert_eq!(indexer.members(text, wanted), scanned, "seed {seed:#x}, round {round}: {text:?}");
        assert!(
            expected.is_some() || !indexer.accepts(text),
            "simd-json accepts what it should not: seed {seed:#x}, round {round}: {text:?}"
        );
    }
    assert!(accepted > 5_000, "too few valid texts ({accepted}) to mean anything");
}

#[test]
fn every_cut_of_a_text_ends_early() {
    for text in VALID.iter().filter(|text| text.starts_with(['{', '[', '"'])) {
        for cut in (1..text.len()).filter(|&cut| text.is_char_boundary(cut)) {
            assert_eq!(validate(&text[..cut]), Err(JsonError::Truncated), "{:?}", &text[..cut]);
        }
    }
}

#[test]
fn an_error_says_where() {
    for (text, at) in
        [("01", 1), ("{} x", 3), ("[1,]", 3), ("{\"a\"1}", 4), ("\"abcdefghij\n\"", 11), ("\u{feff}1", 0)]
    {
        assert_eq!(validate(text), Err(JsonError::Unexpected { at }), "{text:?}");
    }
}

#[test]
fn every_byte_ends_a_plain_run_or_does_not() {
    for position in 0..24 {
        for byte in (0..=0x7f).map(char::from) {
            let text = format!("\"{}{byte}{}\"", "é".repeat(position), "x".repeat(16));
            assert_eq!(validate(&text).ok(), reference(&text), "{byte:?} after {position} characters");
        }
    }
}

#[test]
fn attack_41_depth_costs_a_bit_a_level_and_has_an_end() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [1, 63, 64, 65, 127, 128, 129, 1_000, 10_000, DEPTH_MAX] {
        let text = nested(depth);
        assert_eq!(validate(&text), Ok(&*text), "{depth}");
        let mut crossed = text.clone();
        crossed.replace_range(depth..=depth, "}");
        assert_eq!(validate(&crossed), Err(JsonError::Unexpected { at: depth }), "{depth}");
    }
    assert_eq!(validate(&nested(DEPTH_MAX + 1)), Err(JsonError::TooDeep));
    assert_eq!(validate(&"[".repeat(1_000_000)), Err(JsonError::TooDeep));
    let objects = format!("{}1{}", "{\"a\":[".repeat(5_000), "]}".repeat(5_000));
    assert_eq!(validate(&objects), Ok(&*objects));
    assert_eq!(
        Indexer::default().members(&objects, ["a"]).unwrap().unwrap()[0],
        Some(&objects[5..objects.len() - 1])
    );
}

#[test]
fn attack_40_a_megabyte_of_nul_is_refused_at_its_first_byte() {
    assert_eq!(validate(&"\0".repeat(1 << 20)), Err(JsonError::Unexpected { at: 0 }));
}

#[test]
fn attack_41_a_huge_number_is_only_a_span() {
    let number = "9".repeat(1 << 20);
    let text = format!("{{\"data\":{number}}}");
    assert_eq!(members(&text, ["data"]), Ok(Some([Some(&*number)])));
    assert_eq!(Indexer::default().members(&text, ["data"]), Ok(Some([Some(&*number)])));
}

#[test]
fn members_are_found_by_meaning_and_the_last_counts() {
    for (text, expected) in [
        ("{}", Some([None, None])),
        (" [{\"a\":1}] ", None),
        ("null", None),
        ("\"a\"", None),
        (r#" { "a" : 1 , "b" : [ 2 ] } "#, Some([Some("1"), Some("[ 2 ]")])),
        (r#"{"a":1,"a":{"b":3}}"#, Some([Some("{\"b\":3}"), None])),
        (r#"{"\u0061":1,"\u0062":" x "}"#, Some([Some("1"), Some("\" x \"")])),
        (r#"{"A":1,"aa":2,"":3,"\ud800":4,"\"a\"":5}"#, Some([None, None])),
        (r#"{"x":{"a":1,"b":2},"y":[{"a":1}],"b":null}"#, Some([None, Some("null")])),
        ("{\"é\":\"😀\",\"a\":\"é\",\"b\":-1.50 \n}", Some([Some("\"é\""), Some("-1.50")])),
    ] {
        assert_eq!(members(text, ["a", "b"]), Ok(expected), "{text}");
        assert_eq!(Indexer::default().members(text, ["a", "b"]), Ok(expected), "{text}");
    }
}

#[test]
fn ordinary_texts_go_by_the_index() {
    let mut indexer = Indexer::default();
    for text in VALID.iter().filter(|text| text.starts_with('{')) {
        assert!(indexer.accepts(text), "{text}");
    }
}

#[test]
fn an_indexer_forgets_the_text_before() {
    let mut indexer = Indexer::default();
    let long = format!("{{\"a\":\"{}\"}}", "x".repeat(5_000));
    for text in [long.as_str(), "{\"a\":1}", "{\"a\":", "{\"a\":2}", "[", "{\"b\":[1,2,3]}", long.as_str()] {
        assert_eq!(indexer.members(text, ["a"]), members(text, ["a"]), "{text:.20}");
    }
}

#[test]
fn elements_are_yielded_in_order() {
    for (text, expected) in [
        ("[]", &[][..]),
        ("[ ]", &[]),
        ("[1]", &["1"]),
        ("[ \"a\" , [1,2] ,{\"b\":[]}, null ]", &["\"a\"", "[1,2]", "{\"b\":[]}", "null"]),
        ("{\"length\":1}", &[]),
        ("\"abc\"", &[]),
        ("null", &[]),
        ("[1,x,2]", &["1"]),
        ("[1 2]", &["1"]),
        ("", &[]),
    ] {
        assert_eq!(elements(text).collect::<Vec<_>>(), expected, "{text}");
    }
}

#[test]
fn falsy_is_what_javascript_takes_for_false() {
    for raw in ["null", "false", "\"\"", "0", "-0", "0.0", "0e5", "-0.0E-7", "1e-400", "0.0000e999999999999"]
    {
        assert!(is_falsy(raw), "{raw}");
    }
    for raw in ["true", "\"0\"", "\" \"", "\"\\u0000\"", "1", "-1", "5e-324", "1e400", "[]", "{}", "[0]"] {
        assert!(!is_falsy(raw), "{raw}");
    }
}

#[test]
fn unescape_yields_text_and_refuses_lone_surrogates() {
    for (raw, expected) in [
        (r#""""#, Some("")),
        (r#""plain é""#, Some("plain é")),
        (r#""\"\\\/\b\f\n\r\t""#, Some("\"\\/\u{8}\u{c}\n\r\t")),
        (r#""a\u00E9b\u0000""#, Some("aéb\0")),
        (r#""\ud83d\ude00!""#, Some("😀!")),
        (r#""\ud800""#, None),
        (r#""\ud800x\udc00""#, None),
        (r#""\ude00\ud83d""#, None),
        (r#""\ud83d\ud83d\ude00""#, None),
        (r#""\ud83d\\ude00""#, None),
        ("1", None),
    ] {
        assert_eq!(unescape(raw).as_deref(), expected, "{raw}");
    }
    assert!(matches!(unescape("\"borrowed\""), Some(std::borrow::Cow::Borrowed(_))));
}

/// Right-hand sides are `JSON.stringify(JSON.parse(raw))` of V8.
#[test]
fn strings_are_normalised_as_json_stringify_writes_them() {
    for (raw, expected) in [
        (r#""""#, r#""""#),
        (r#""\u00e9\/\u002F""#, "\"é//\""),
        (r#""\"\\\b\f\n\r\t""#, r#""\"\\\b\f\n\r\t""#),
        (r#""\u0008\u000C\u000a\u000D\u0009\u0022\u005C""#, r#""\b\f\n\r\t\"\\""#),
        (r#""\u0000\u001F\u007f\u0080""#, "\"\\u0000\\u001f\u{7f}\u{80}\""),
        (r#""\u2028\u2029\uFEFF\uffff""#, "\"\u{2028}\u{2029}\u{feff}\u{ffff}\""),
        (r#""\uD83D\uDE00""#, "\"😀\""),
        (r#""\uD800\uD83D\uDE00\uDC00""#, "\"\\ud800😀\\udc00\""),
        ("\"\u{2028}é\"", "\"\u{2028}é\""),
    ] {
        assert_eq!(normalize_string(raw), expected, "{raw}");
        assert_eq!(normalize_string(expected), expected, "not stable: {raw}");
    }
}

#[test]
fn quote_is_json_stringify_and_reads_back() {
    assert_eq!(
        quote("a\"\\/\u{7}\u{8}\u{b}\u{1f}\n\r\t\u{c}\u{7f}\u{2028}é😀"),
        "\"a\\\"\\\\/\\u0007\\b\\u000b\\u001f\\n\\r\\t\\f\u{7f}\u{2028}é😀\""
    );
    let all: String = (0..0x3000_u32).filter_map(char::from_u32).collect();
    let quoted = quote(&all);
    assert_eq!(validate(&quoted), Ok(&*quoted));
    assert_eq!(unescape(&quoted).as_deref(), Some(&*all));
    assert_eq!(serde_json::from_str::<String>(&quoted).unwrap(), all);
    assert_eq!(normalize_string(&quoted), quoted);
}

/// Right-hand sides are `JSON.stringify(JSON.parse(raw))` of V8.
#[test]
fn numbers_are_normalised_as_javascript_writes_doubles() {
    for (raw, expected) in NUMBERS {
        assert_eq!(normalize_number(raw).as_deref(), Some(*expected), "{raw}");
    }
    for raw in ["1e400", "-1e309", "x", "", "\"1\""] {
        assert_eq!(normalize_number(raw), None, "{raw}");
    }
}

const NUMBERS: &[(&str, &str)] = &[
    ("0", "0"),
    ("-0", "0"),
    ("0.0", "0"),
    ("-0e5", "0"),
    ("1e-400", "0"),
    ("1", "1"),
    ("-1", "-1"),
    ("42", "42"),
    ("42.0", "42"),
    ("4.2e1", "42"),
    ("1.0", "1"),
    ("1e3", "1000"),
    ("1E+3", "1000"),
    ("100", "100"),
    ("1500", "1500"),
    ("1.5", "1.5"),
    ("-1.50", "-1.5"),
    ("0.1", "0.1"),
    ("0.5e-1", "0.05"),
    ("123.456", "123.456"),
    ("999999999999999", "999999999999999"),
    ("1000000000000000", "1000000000000000"),
    ("9007199254740993", "9007199254740992"),
    ("12345678901234567890", "12345678901234567000"),
    ("1e20", "100000000000000000000"),
    ("123456789012345680000", "123456789012345680000"),
    ("1e21", "1e+21"),
    ("1.5e21", "1.5e+21"),
    ("-1e21", "-1e+21"),
    ("1.2345e22", "1.2345e+22"),
    ("1e100", "1e+100"),
    ("1.7976931348623157e308", "1.7976931348623157e+308"),
    ("0.000001", "0.000001"),
    ("0.00000123", "0.00000123"),
    ("0.0000001", "1e-7"),
    ("1e-7", "1e-7"),
    ("1.5e-7", "1.5e-7"),
    ("-1.23e-10", "-1.23e-10"),
    ("5e-324", "5e-324"),
    ("2.2250738585072014e-308", "2.2250738585072014e-308"),
    ("0.30000000000000004", "0.30000000000000004"),
    ("1e15", "1000000000000000"),
    ("1e16", "10000000000000000"),
    ("123456789.125", "123456789.125"),
    ("18014398509481985", "18014398509481984"),
];
