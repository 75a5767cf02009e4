//! The section `webhooks`.

use super::*;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn section(lines: &str) -> String {
    format!("[api]\nkey = \"0123456789abcdef\"\n[webhooks]\n{lines}\n")
}

#[test]
fn a_webhook_that_would_be_unsigned_or_overheard_or_go_nowhere_is_refused() {
    let secret = format!("secret = \"{SECRET}\"\n");
    let ask = "hooks = [\"authenticate\"]\n";
    let cases = [
        (format!("{ask}{secret}"), "webhooks.url: missing"),
        (format!("{ask}url = \"https://h/\""), "webhooks.secret: missing; requests must be signed"),
        (
            format!("{ask}url = \"https://h/\"\nsecret = \"hunter2\""),
            "webhooks.secret: a key is \"whsec_\" and",
        ),
        (
            format!("{ask}url = \"https://h/\"\nsecret = [\"{SECRET}\", \"{SECRET}\"]"),
            "webhooks.secret: the same key is listed before",
        ),
        (format!("{ask}{secret}url = \"http://app:3000/\""), "webhooks.url: plain http:// is for loopback"),
        (format!("{ask}{secret}url = \"http://8.8.8.8/\""), "webhooks.url: plain http:// is for loopback"),
        (
            format!("{secret}url = \"https://h/\"\nhooks = [\"rooms\", \"rooms\"]"),
            "webhooks.hooks: a hook is listed twice",
        ),
        (format!("{secret}url = \"https://h/\"\nhooks = \"room\""), "did you mean \"rooms\""),
        (format!("{ask}{secret}url = \"https://u:hunter2@h/\""), "webhooks.url"),
    ];
    for (lines, expected) in cases {
        let found = refused(&section(&lines));
        assert!(found.len() == 1 && found[0].contains(expected), "{lines}: {found:#?}");
        assert!(!found[0].contains("hunter2"), "{found:?}");
    }
}

#[test]
fn webhooks_that_are_safe_load_and_doubtful_ones_are_warned_of() {
    let asks = format!("hooks = \"authenticate\"\nsecret = \"{SECRET}\"\n");
    for url in
        ["https://app.example.com/hook?key=1", "http://127.0.0.1:3000/", "http://[::1]/", "http://10.0.0.1/"]
    {
        assert_eq!(warnings(&section(&format!("{asks}url = \"{url}\""))), [""; 0], "{url}");
    }
    assert_eq!(warnings(&section(&format!("{asks}url = \"http://app/\"\ninsecure = true"))), [""; 0]);
    let https = format!("{asks}url = \"https://h/\"\n");
    let cases = [
        (section("url = \"https://h/\"") + "[auth]\nanonymous = true", "has no effect: list"),
        (section(&https) + "[auth]\nanonymous = true", "the application authenticates every client"),
        (section(&https) + "[limits]\nhook_timeout = \"9s\"", "longer than limits.hook_timeout"),
    ];
    for (text, expected) in cases {
        let found = warnings(&text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:#?}");
    }
}
