use super::*;

// Recorded with the real Ignis: encryption-connected-plain.jsonl.
const CLIENT_D: &str = "+xyNVt/ruG7N7dO+AwpNu6D6DUckwrvvA39GmS2hl9M=";
const CLIENT_PUBLIC: &str =
    "BAH63XBNHbErJSrk/nBjrFNaOyUovbpYe4g9/UrgzLjfs+s3f7seHDZFXwN7LGaroFTSpI4r/xBYDhApTEy6XUM=";
const SERVER_PUBLIC: &str =
    "BM7AhuNHfFflX+0VzD9iIpFxqC7yyZPQhBXjnTr99tO3/GPp1wgwv7iSq4K61iReVaZ+nx2DvMiLwRth9q0GMcU=";
const SHARED_X: &str = "dNrssZRZzhWmWGvCtN5zFAvcd+eVayFLTVgUIGOhgZE=";
const SALT: &str = "PuIg4lHhVESObZsxRZZe0cJjHpCDk08a2zKyPd+qgLI=";
const AES_KEY: &str = "pe88rWWKkURrwuW0FZxej2zpGFok9dYhDx5aSqdXRY4=";
/// IV, ciphertext with tag, plaintext.
const RECORDED: [(&str, &str, &str); 5] = [
    (
        "UnQ79CJPUwLSjnfT",
        "okcLN5tcyvv602fTr7ZeAn/AXcAgpK7wr7DNwV/W4fIAL25KeBlqBuUGmZY6w1bgTOWnMAbmVlqWui/Ps4I=",
        r#"{"event":"secret","data":{"n":1,"s":"héllo"}}"#,
    ),
    (
        "JtQuTa7zv+WjzNXk",
        "SmZE7qwTIk2S6JLgUJN0KEQGh2iBMpUdzjdQUb4G/c8Bpt8EIwdquZzoTY70+K0IVfYRobxr",
        r#"{"event":"room-secret","data":{"n":2}}"#,
    ),
    (
        "+U4un0ABmCTH+PU3",
        "vb0/sU4o0DY8+IJ+1RwEH9LEAuVqQx6wAIXpCPKsR0LilN/LOw7DdCRq89UkK6y4uLc=",
        r#"{"event":"bc-secret","data":[1,2]}"#,
    ),
    (
        "bbpks7EwKW6MvMXt",
        "vaHU1pj3qnXx20BoxJEwEyFku7nuVYGlmgFjOOxBaluTEB1QhWkfo5Rb",
        r#"{"event":"undefined-data"}"#,
    ),
    (
        "JpACkDOcN93V8xpZ",
        "JaCgHSi/GW7rG1My/wt1cz/9pGqMacasL0wbzb1z+iKsDMib4HJ6XWJ9V8YmSaIO3lccMC9JU8I19jmrRoF75Jc+sa5CQMT6nFx0eIQ=",
        r#"{"event":"error","data":{"message":"Invalid message format"}}"#,
    ),
];

fn bytes<const N: usize>(base64: &str) -> [u8; N] {
    STANDARD.decode(base64).unwrap().try_into().unwrap()
}

/// The recorded client, as a side of the exchange.
fn client() -> Entropy {
    Entropy { private_key: Zeroizing::new(bytes(CLIENT_D)), salt: bytes(SALT), iv_start: [0; IV_LEN] }
}

fn frame(cipher: &mut Cipher, message: &str) -> String {
    let mut out = b"before".to_vec();
    cipher.seal(message.as_bytes(), &mut Vec::new(), &mut out);
    let (header_len, payload_len) = frame::frame_len(&out[6..]).unwrap();
    assert_eq!(out[6], 0x81);
    assert_eq!(out.len() - 6, header_len + payload_len);
    assert_eq!(sealed_len(message.len()), header_len + payload_len);
    String::from_utf8(out[6 + header_len..].to_vec()).unwrap()
}

fn data(event: &str) -> &str {
    event.strip_prefix(r#"{"event":"encrypted","data":"#).unwrap().strip_suffix('}').unwrap()
}

#[test]
fn the_recorded_client_derives_the_recorded_key() {
    let agreement = agree(SERVER_PUBLIC, HKDF_INFO, &client()).unwrap();
    assert_eq!(STANDARD.encode(agreement.key()), AES_KEY);
    assert_eq!(agreement.texts(), (CLIENT_PUBLIC.to_owned(), SALT.to_owned()));
    let derived = derive(&STANDARD.decode(SHARED_X).unwrap(), &bytes::<32>(SALT), HKDF_INFO);
    assert_eq!(STANDARD.encode(*derived), AES_KEY);
    assert_ne!(agree(SERVER_PUBLIC, "another", &client()).unwrap().key(), agreement.key());
}

#[test]
fn recorded_messages_open_and_seal_byte_for_byte() {
    for (iv, ct, plaintext) in RECORDED {
        let mut cipher = Cipher::new(&bytes(AES_KEY), bytes(iv));
        let expected = format!(r#"{{"event":"encrypted","data":{{"iv":"{iv}","ct":"{ct}"}}}}"#);
        assert_eq!(frame(&mut cipher, plaintext), expected);
        assert_eq!(cipher.open(data(&expected)).as_deref(), Ok(plaintext));
    }
}

#[test]
fn both_sides_of_an_exchange_understand_each_other() {
    let server = Entropy::from_random(&std::array::from_fn(|index| index as u8 + 1));
    let server = agree(CLIENT_PUBLIC, HKDF_INFO, &server).unwrap();
    let (public_key, _) = server.texts();
    let client = Entropy { salt: server.salt, iv_start: [7; IV_LEN], ..client() };
    let client = agree(&public_key, HKDF_INFO, &client).unwrap();
    let (mut there, mut here) = (server.cipher(), client.cipher());
    for len in [0, 1, 2, 100, 65_000, 200_000] {
        let message = "x".repeat(len);
        assert_eq!(here.open(data(&frame(&mut there, &message))).as_ref(), Ok(&message));
        assert_eq!(there.open(data(&frame(&mut here, &message))).as_ref(), Ok(&message));
    }
}

#[test]
fn no_iv_is_used_twice() {
    let mut start = [0xff; IV_LEN];
    start[0] = 1;
    let mut cipher = Cipher::new(&[3; KEY_LEN], start);
    let ivs: Vec<_> = (0..3).map(|_| cipher.next_iv()).collect();
    let mut carried = [0; IV_LEN];
    carried[0] = 2;
    let mut after = carried;
    after[11] = 1;
    assert_eq!(ivs, [start, carried, after]);
    let mut last = Cipher::new(&[3; KEY_LEN], [0xff; IV_LEN]);
    last.next_iv();
    assert_eq!(last.next_iv(), [0; IV_LEN], "counting goes on at zero");
}

#[test]
fn a_public_key_that_is_none_is_refused() {
    let mut off_curve = bytes::<65>(CLIENT_PUBLIC);
    off_curve[64] ^= 1;
    let compressed = [&[3], &bytes::<65>(CLIENT_PUBLIC)[1..33]].concat();
    let hybrid = [&[6], &bytes::<65>(CLIENT_PUBLIC)[1..]].concat();
    let unpadded = CLIENT_PUBLIC.trim_end_matches('=').to_owned();
    for key in [
        String::new(),
        "AAAA".to_owned(),
        "not base64!".to_owned(),
        STANDARD.encode([0; 65]),
        STANDARD.encode([4; 65]),
        STANDARD.encode(off_curve),
        STANDARD.encode(compressed),
        STANDARD.encode(hybrid),
        STANDARD.encode([0]),
        CLIENT_PUBLIC.replace('/', "_"),
        format!("{CLIENT_PUBLIC}\n"),
        format!(" {CLIENT_PUBLIC}"),
        format!("{CLIENT_PUBLIC}AAAA"),
        CLIENT_PUBLIC.replace("XUM=", "XUN="),
        unpadded,
        "A".repeat(1_000_000),
    ] {
        let refused = agree(&key, HKDF_INFO, &client()).unwrap_err();
        assert_eq!(refused, AgreeError::PublicKey, "{}", &key[..key.len().min(100)]);
    }
}

#[test]
fn a_private_key_out_of_range_is_drawn_again() {
    for scalar in [[0; 32], [0xff; 32]] {
        let entropy = Entropy { private_key: Zeroizing::new(scalar), ..client() };
        assert_eq!(agree(SERVER_PUBLIC, HKDF_INFO, &entropy).unwrap_err(), AgreeError::PrivateKey);
    }
}

#[test]
fn what_was_not_made_with_the_key_does_not_open() {
    let (iv, ct, plaintext) = RECORDED[0];
    let cipher = Cipher::new(&bytes(AES_KEY), [0; IV_LEN]);
    let event = |iv: &str, ct: &str| format!(r#"{{"iv":"{iv}","ct":"{ct}"}}"#);
    assert_eq!(cipher.open(&event(iv, &ct.replace('/', "\\/"))).as_deref(), Ok(plaintext), "escaped");
    let mut forged = STANDARD.decode(ct).unwrap();
    forged[0] ^= 1;
    for data in [
        event(iv, &STANDARD.encode(&forged)),
        event("JtQuTa7zv+WjzNXk", ct),
        event("AAAA", "BBBB"),
        event(iv, "AAAA"),
        event(iv, ""),
        event("", ct),
        event(iv, &ct[1..]),
        event(&format!("{iv}AAAA"), ct),
        format!(r#"{{"iv":"{iv}"}}"#),
        format!(r#"{{"iv":"{iv}","ct":7}}"#),
        format!(r#"{{"iv":["{iv}"],"ct":"{ct}"}}"#),
        format!(r#"["{iv}","{ct}"]"#),
        "null".to_owned(),
        "7".to_owned(),
        String::new(),
    ] {
        assert_eq!(cipher.open(&data), Err(Undecryptable), "{data}");
    }
    let other = Cipher::new(&[9; KEY_LEN], [0; IV_LEN]);
    assert_eq!(other.open(&event(iv, ct)), Err(Undecryptable));
}

#[test]
fn what_opens_to_no_text_is_no_message() {
    let mut cipher = Cipher::new(&[1; KEY_LEN], [0; IV_LEN]);
    let mut out = Vec::new();
    cipher.seal(b"\xff\xfe", &mut Vec::new(), &mut out);
    let (header_len, _) = frame::frame_len(&out).unwrap();
    let event = std::str::from_utf8(&out[header_len..]).unwrap();
    assert_eq!(cipher.open(data(event)), Err(Undecryptable));
}

#[test]
fn neither_key_shows_itself() {
    let agreement = agree(SERVER_PUBLIC, HKDF_INFO, &client()).unwrap();
    let shown = format!("{agreement:?} {:?}", agreement.cipher());
    assert_eq!(shown, "Agreement { .. } Cipher { .. }");
}
