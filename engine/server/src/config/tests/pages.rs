//! The table of keys against the structs, and the pages written from it.

use super::*;

#[test]
fn every_key_sets_its_own_field_and_no_other() {
    let samples = [
        "false",
        "true",
        "7",
        "auto",
        "70",
        "7KiB",
        "2MiB",
        "32MiB",
        "7s",
        "70s",
        "0s",
        "127.0.0.1:7",
        "10.0.0.0/8",
        "https://a.example",
        "7/s",
        "required",
        "redis://h",
        "epoll",
        "json",
        "warn",
        "echo",
        "disconnect",
        "/seven",
        "kick",
        "deny",
        "",
        "plan=pro",
        "base64",
        "HS512",
        "1.3",
        "required",
        "http://seven/",
        "rooms",
        "allow",
        "exact",
        "string",
        "lossy",
        "explicit",
    ];
    let all = |config: &Config| -> Vec<(String, String)> {
        let keys = SECTIONS
            .iter()
            .flat_map(|section| section.keys.iter().map(move |key| KeyPath { section, index: 0, key }));
        keys.map(|path| (path.to_string(), (path.key.write)(config, 0))).collect()
    };
    let mut base = Config::default();
    base.auth.tokens.push(Token::default());
    base.auth.rules.push(Rule::default());
    base.jwt.keys.push(JwtKey::default());
    base.jwt.jwks.push(Jwks::default());
    base.tls.certificates.push(TlsCertificate::default());
    for (name, default) in all(&base) {
        let path = KeyPath::parse(&name).unwrap_or_else(|_| panic!("{name} parses"));
        let mut config = base.clone();
        let set = |sample: &&str| {
            let raw = Raw::Bare((*sample).to_owned());
            (path.key.set)(&mut config, 0, &raw).is_ok() && (path.key.write)(&config, 0) != default
        };
        assert!(
            samples.iter().any({
                let mut set = set;
                move |sample| set(sample)
            }),
            "{name} can be set"
        );
        assert_ne!(config, base, "{name} changes the struct");
        let changed: Vec<_> =
            all(&base).into_iter().zip(all(&config)).filter(|(a, b)| a != b).map(|(a, _)| a.0).collect();
        assert_eq!(changed, std::slice::from_ref(&name));

        let mut copied = base.clone();
        (path.key.copy)(&mut copied, &config, 0);
        assert_eq!(copied, config, "{name} is copied");
        assert_eq!(
            KeyPath::parse_env(&path.env()).map(|path| path.id()),
            Ok(path.id()),
            "{name} in the environment"
        );
    }
}

#[test]
fn names_of_environment_variables_are_unique() {
    let paths = SECTIONS
        .iter()
        .flat_map(|section| section.keys.iter().map(move |key| KeyPath { section, index: 0, key }));
    let mut names: Vec<_> = paths.map(|path| path.env()).collect();
    let count = names.len();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), count);
    assert!(!names.iter().any(|name| name == load::FILE_VARIABLE));
}

#[test]
fn the_default_file_loads_to_the_defaults_with_and_without_its_comments() {
    let file = render::default_file();
    assert_eq!(loaded(&file, &[], &[]).config, Config::default());
    let set: String = file
        .lines()
        .map(|line| {
            line.strip_prefix('#').filter(|rest| !rest.starts_with(' ') && !rest.is_empty()).unwrap_or(line)
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let found = refused(&set);
    let required = [
        "auth.tokens.0.token: missing or empty",
        "auth.rules.0.rooms: missing or empty",
        "auth.jwt.keys.0.secret: has no key",
        "auth.jwt.jwks.0.url",
        "auth.jwt.jwks.0.issuer: missing",
    ];
    assert_eq!(found.len(), required.len(), "{found:#?}");
    for (found, required) in found.iter().zip(required) {
        assert!(found.contains(required), "{found} is not {required}");
    }
    let secret = format!("secret = \"{}\"", "s".repeat(32));
    let set = set.replace("token = \"\"", "token = \"t\"").replace("\nsecret = \"\"", &format!("\n{secret}"));
    let set = without_tables(&set, &["[[auth.rules]]", "[[auth.jwt.jwks]]", "[[tls.certificates]]"]);
    let mut config = loaded(&set, &[], &[]).config;
    assert_eq!((config.auth.tokens.len(), config.jwt.keys.len()), (1, 1));
    config.auth.tokens.clear();
    config.jwt.keys.clear();
    assert_eq!(config, Config::default());
}

/// A file without these tables.
fn without_tables(text: &str, headers: &[&str]) -> String {
    let mut is_left_out = false;
    let kept = text.lines().filter(|line| {
        if line.starts_with('[') {
            is_left_out = headers.contains(line);
        }
        !is_left_out
    });
    kept.flat_map(|line| [line, "\n"]).collect()
}

#[test]
fn the_effective_configuration_is_toml_that_masks_secrets_and_names_origins() {
    let text = "[api]\nkey = [\"sesame-sesame-sesame\"]\n[[auth.tokens]]\ntoken = \"sesame\"\n";
    let loaded = loaded(text, &[("SHARDCAST_REDIS_URL", "redis://u:sesame@h:1")], &["server.pin=false"]);
    let page = render::effective(&loaded);
    assert!(!page.contains("sesame"), "{page}");
    assert!(
        !format!("{loaded:?}")
            .replace("SHARDCAST_REDIS_URL\", \"redis://u:sesame@h:1", "")
            .contains("sesame")
    );
    let file = loaded.file.as_ref().expect("a file was read").display().to_string();
    for expected in [
        "url = \"redis://u:********@h:1\"  # environment variable SHARDCAST_REDIS_URL".to_owned(),
        "pin = false  # flag --set server.pin".to_owned(),
        "shards = \"auto\"  # default; 4 on this machine".to_owned(),
        format!("token = \"********\"  # {file}:4"),
        format!("key = [\"********\"]  # {file}:2"),
    ] {
        assert!(page.lines().any(|line| line == expected), "{expected} in {page}");
    }
    assert_eq!(page.parse::<toml::Table>().map(|table| table.len()), Ok(11));
}

#[test]
fn the_reference_page_is_what_the_table_of_keys_says() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let committed = fs::read_to_string(&page).unwrap_or_default();
    assert!(
        committed == render::reference(),
        "docs/configuration.md is out of date; write it anew: shardcast config --reference > docs/configuration.md"
    );
}
