//! Rules that involve more than one value, or the machine.

use super::*;

#[test]
fn rules_across_values_are_enforced() {
    let tokens = |tokens: &[&str]| -> String {
        tokens.iter().map(|token| format!("[[auth.tokens]]\ntoken = {token}\n")).collect()
    };
    let cases = [
        ("[server]\nlisten = []", "server.listen: no address to listen on"),
        (
            "[server]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
            "server.listen: 127.0.0.1:1 is listed twice",
        ),
        (
            "[admin]\nlisten = \"127.0.0.1:8080\"",
            "admin.listen: 127.0.0.1:8080 is also an address for clients",
        ),
        ("[admin]\nlisten = \"0.0.0.0:8080\"", "admin.listen: 0.0.0.0:8080 is also an address for clients"),
        (
            "[auth]\ndev = true\n[server]\nlisten = \"0.0.0.0:80\"",
            "auth.dev: dev mode accepts every token, and 0.0.0.0:80",
        ),
        (
            "[server]\nconnections_max = 100000",
            "server.connections_max: 100000 connections need 100320 open files and the limit is 100000",
        ),
        ("[server]\nproxy_protocol = \"required\"", "server.proxy_protocol: no proxy is trusted"),
        (
            "[server]\nclient_address_header = \"X Y\"",
            "server.client_address_header: \"X Y\" is no name of a header",
        ),
        (
            "[server]\nclient_address_header = \"\"",
            "server.client_address_header: \"\" is no name of a header",
        ),
        ("mounts = []", "mounts.0.path: no mount"),
        ("[[mounts]]\npath = \"ws\"", "mounts.0.path: \"ws\" does not begin with"),
        ("[[mounts]]\npath = \"/a?b\"", "mounts.0.path: no request has the path"),
        ("[[mounts]]\npath = \"/a/../b\"", "mounts.0.path: no request has the path"),
        ("[[mounts]]\npath = \"/é\"", "mounts.0.path: no request has the path"),
        ("[[mounts]]\n[[mounts]]\n", "mounts.1.path: \"/ws\" is the path of another mount"),
        ("[[mounts]]\ndefault_rooms = [\"\"]", "mounts.0.default_rooms: a room's name is empty"),
        (
            "[[mounts]]\ndefault_rooms = [\"a\", \"a\", \"a\"]",
            "mounts.0.default_rooms: the room \"a\" is listed twice",
        ),
        (
            "[[mounts]]\ndefault_rooms = [\"ws:x\"]",
            "mounts.0.default_rooms: the room name \"ws:x\" begins with",
        ),
        (
            "[limits]\nroom_name_bytes_max = 16\n[[mounts]]\ndefault_rooms = \"12345678901234567\"",
            "mounts.0.default_rooms: the room name \"12345678901234567\" is longer",
        ),
        ("[limits]\nrooms_per_connection_max = 1", "mounts.0.default_rooms: 2 default rooms"),
        ("[limits]\noutbox_bytes_total_max = \"8MiB\"", "mounts.0.outbox_bytes_max: one connection's outbox"),
        ("[api]\nkey = [\"\"]", "api.key: an API key must be visible ASCII"),
        ("[api]\nkey = \"with space in the middle\"", "api.key: an API key must be visible ASCII"),
        (
            "[api]\nkey = [\"0123456789abcdef\", \"0123456789abcdef\"]",
            "api.key: the same value is listed before",
        ),
        (&tokens(&["\"\""]), "auth.tokens.0.token: missing or empty"),
        ("[server]\ntls_listen = \"127.0.0.1:1\"\n[tls]\nkey = \"k\"", "tls.certificate: missing"),
        ("[server]\ntls_listen = \"127.0.0.1:1\"\n[tls]\ncertificate = \"c\"", "tls.key: missing"),
        (
            &format!("[server]\ntls_listen = \"127.0.0.1:1\"\n{CERTIFIED}[[tls.certificates]]\nkey = \"k\""),
            "tls.certificates.0.certificate: missing",
        ),
        (
            &format!("[server]\ntls_listen = \"127.0.0.1:8080\"\n{CERTIFIED}"),
            "server.tls_listen: 127.0.0.1:8080 is also an address without TLS",
        ),
        (
            &format!("[server]\ntls_listen = \"0.0.0.0:1\"\n{CERTIFIED}[auth]\ndev = true"),
            "auth.dev: dev mode accepts every token, and 0.0.0.0:1 can be reached",
        ),
        ("[[auth.tokens]]\nuser = \"x\"", "auth.tokens.0.token: missing or empty"),
        (&tokens(&["\"a\"", "\"b\"", "\"a\""]), "auth.tokens.2.token: the same value is listed before"),
        ("[[mounts]]\ndialect = \"echo\"\nencryption = \"required\"", "only the ignis dialect encrypts"),
        (
            "[[mounts]]\ndialect = \"topic\"\nencryption = \"optional\"",
            "mounts.0.encryption: only the ignis dialect encrypts",
        ),
        (
            "[[mounts]]\ndialect = \"topic\"\nchannel_prefix = \"t:{tenant}\"",
            "mounts.0.channel_prefix: \"t:{tenant}\" cannot stand before topics: after {tenant} there must be",
        ),
        (
            "[[mounts]]\ndialect = \"topic\"\nchannel_prefix = \"ws:x:\"",
            "mounts.0.channel_prefix: \"ws:x:\" begins with \"ws:\", which is kept from clients",
        ),
        (
            "[[mounts]]\ndialect = \"topic\"\nchannel_prefix = \"__x\"\nreserved_channels = \"mine:\"",
            "mounts.0.channel_prefix: \"__x\" begins with \"__\", which is kept from clients",
        ),
        (
            "[[mounts]]\ndialect = \"topic\"\nreserved_channels = [\"a\", \"\"]",
            "mounts.0.reserved_channels: an empty text reserves every channel",
        ),
        ("[[mounts]]\nlisten = \"127.0.0.1:8080\"", "mounts.0.listen: 127.0.0.1:8080 is also an address"),
        (
            "[[mounts]]\nlisten = [\"127.0.0.1:1\", \"127.0.0.1:1\"]",
            "mounts.0.listen: 127.0.0.1:1 is also an address of another listener",
        ),
        (
            "[[mounts]]\nlisten = \"127.0.0.1:1\"\n[[mounts]]\ndialect = \"topic\"\nlisten = \"0.0.0.0:1\"",
            "mounts.1.listen: 0.0.0.0:1 is also an address of another listener",
        ),
        (
            "[auth]\ndev = true\n[[mounts]]\nlisten = \"0.0.0.0:81\"",
            "auth.dev: dev mode accepts every token, and 0.0.0.0:81",
        ),
    ];
    for (text, expected) in cases {
        let found = refused(text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:#?}");
    }
}

/// Names for a certificate and its key; what is in the files is not looked at here.
const CERTIFIED: &str = "[tls]\ncertificate = \"c\"\nkey = \"k\"\n";

#[test]
fn what_is_allowed_at_the_edge_of_a_rule_loads() {
    let cases = [
        "[auth]\ndev = true\ninsecure = true\n[server]\nlisten = \"0.0.0.0:80\"",
        "[auth]\ndev = true\n[server]\nlisten = [\"127.9.9.9:80\", \"[::1]:80\"]",
        "[server]\nlisten = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"",
        "[server]\nlisten = \"127.0.0.1:80\"\n[admin]\nlisten = \"127.0.0.2:80\"",
        "[server]\nconnections_max = 99680",
        &format!("[server]\nlisten = []\ntls_listen = \"0.0.0.0:443\"\n{CERTIFIED}"),
        "[limits]\nrooms_per_connection_max = 2",
        "[[mounts]]\npath = \"/\"\n[[mounts]]\npath = \"/a.b/%20/c..d\"",
        "[[mounts]]\ndialect = \"echo\"\ndefault_rooms = \"ws:x\"",
        "[[mounts]]\ndialect = \"topic\"\nlisten = [\"127.0.0.1:1\", \"[::1]:1\", \"127.0.0.1:0\", \"127.0.0.1:0\"]",
        "[[mounts]]\ndialect = \"topic\"\nchannel_prefix = \"t:{tenant}:\"\n[[mounts]]\ndialect = \"topic\"\npath = \"/b\"",
    ];
    for text in cases {
        loaded(text, &[], &[]);
    }
}

#[test]
fn doubtful_settings_are_warned_of() {
    let quiet = "[api]\nkey = \"0123456789abcdef\"\n[[auth.tokens]]\ntoken = \"a\"\n";
    assert_eq!(warnings(quiet), [""; 0]);
    let cases = [
        ("[auth]\nanonymous = true", "so the API refuses every request"),
        ("[api]\nkey = \"short\"\n[auth]\nanonymous = true", "may be guessed"),
        ("[api]\nkey = \"0123456789abcdef\"", "nobody can authenticate"),
        ("[auth]\ndev = true", "dev mode: every token"),
        (&format!("{quiet}[auth]\ninsecure = true"), "no effect without auth.dev"),
        (&format!("{quiet}[audit]\nrequired = true"), "no effect without audit.file"),
        (&format!("{quiet}[admin]\nlisten = \"0.0.0.0:9\""), "the admin listener asks for no key"),
        (&format!("{quiet}[[mounts]]\n[[mounts]]\npath = \"/b\""), "only the first ignis mount"),
        (&format!("{quiet}[server]\nlisten = \"0.0.0.0:80\""), "every web page may connect"),
        (
            &format!("{quiet}[server]\ntrusted_proxies = [\"10.0.0.0/8\", \"::/0\"]"),
            "every address is a trusted proxy",
        ),
        (&format!("{quiet}{CERTIFIED}"), "not used: server.tls_listen is empty"),
        (&format!("{quiet}[server]\nshards = 5"), "5 shards are pinned to 4 cores"),
        (&format!("{quiet}[[mounts]]\nencryption_inbound = \"required\""), "no effect unless"),
        (
            &format!("{quiet}[[mounts]]\nclose_codes = \"explicit\""),
            "has no effect: a mount of the ignis dialect does not look at it",
        ),
        (
            &format!("{quiet}[[mounts]]\ndialect = \"topic\"\ndefault_rooms = \"news\""),
            "has no effect: a mount of the topic dialect does not look at it",
        ),
        (
            &format!("{quiet}[[mounts]]\ndialect = \"echo\"\nauth_timeout = \"1s\""),
            "has no effect: a mount of the echo dialect does not look at it",
        ),
        (
            &format!("{quiet}[redis]\nurl = \"redis://h\"\n[[mounts]]\ndialect = \"topic\""),
            "clients can subscribe to every channel of this Redis",
        ),
        (
            &format!("{quiet}{}", topics_beside_tenants("channel_prefix = \"t:\"")),
            "clients of this mount can name channels of the mount /topics",
        ),
        (
            &format!("{quiet}{}", topics_beside_tenants("")),
            "clients of this mount can name channels of the mount /topics",
        ),
        (
            &format!("{quiet}[[mounts]]\ndialect = \"topic\"\ntopic_bytes_max = 2000"),
            "longer than limits.room_name_bytes_max (1024 bytes)",
        ),
    ];
    for (text, expected) in cases {
        let found = warnings(text);
        assert!(found.len() == 1 && found[0].contains(expected), "{text}: {found:#?}");
    }
    for harmless in ["unlisted_rooms = \"deny\"", "channel_prefix = \"live:\""] {
        let text =
            format!("{quiet}[redis]\nurl = \"redis://h\"\n[[mounts]]\ndialect = \"topic\"\n{harmless}");
        assert_eq!(warnings(&text), [""; 0], "{harmless}");
    }
    for harmless in [
        "channel_prefix = \"live:\"",
        "channel_prefix = \"t:{tenant}:\"",
        "reserved_channels = \"t:\"",
        "unlisted_rooms = \"deny\"",
    ] {
        assert_eq!(warnings(&format!("{quiet}{}", topics_beside_tenants(harmless))), [""; 0], "{harmless}");
    }
    assert_eq!(warnings("[auth]\ndev = true\n[[auth.tokens]]\ntoken = \"a\"").len(), 2);

    let mut few = sources(&TestFile::new(quiet).0, &[], &[]);
    few.file = FileChoice::IfPresent("/nonexistent/shardcast.toml".into());
    few.machine.files_max = 1_024;
    let found = few.load().expect("few files are no problem").warnings;
    assert!(
        found.iter().any(|warning| warning.to_string().contains("leaves room for 704 connections")),
        "{found:?}"
    );
}

/// A topic mount with `keys` beside one whose clients have channels by tenant.
fn topics_beside_tenants(keys: &str) -> String {
    let tenants = "[[mounts]]\ndialect = \"topic\"\nchannel_prefix = \"t:{tenant}:\"\n";
    format!("{tenants}[[mounts]]\ndialect = \"topic\"\npath = \"/all\"\n{keys}")
}

#[test]
fn in_dev_mode_a_redis_that_any_page_can_read_is_warned_of() {
    let dev = "[auth]\ndev = true\n[redis]\nurl = \"redis://h\"\n";
    let found = warnings(dev);
    assert!(
        found.len() == 2 && found.iter().any(|found| found.contains("every page in a browser")),
        "{found:#?}"
    );
    for harmless in ["channel_prefix = \"x:\"", "origins = \"http://localhost:3000\""] {
        assert_eq!(
            warnings(&format!("{dev}[[mounts]]\ndialect = \"topic\"\n{harmless}")).len(),
            1,
            "{harmless}"
        );
    }
}

#[test]
fn more_mounts_than_a_byte_numbers_are_refused() {
    let mounts: String = (0..257).map(|at| format!("[[mounts]]\npath = \"/{at}\"\n")).collect();
    assert_eq!(refused(&mounts), ["FILE:514: mounts.256.path: 257 mounts are more than 256"]);
}

#[test]
fn a_rule_is_not_blamed_on_a_value_that_was_refused_for_itself() {
    assert_eq!(refused("[[auth.tokens]]\ntoken = 5").len(), 1);
}
