//! Checks of what strangers could reach or read: dev mode, keys, listeners, secrets, this process' privileges.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use redis::{ConnectionAddr, IntoConnectionInfo};

use super::system::System;
use super::{Finding, Status};
use crate::config::key::KeyPath;
use crate::config::keys::SECTIONS;
use crate::config::{Config, Dialect, Effect, Loaded, Mount, Origin, RoomPattern, Rule, RuleAction};
use crate::outbound;

/// A key shorter than this many bytes can be guessed.
const KEY_BYTES_MIN: usize = 16;

/// What of a configuration is risky, and of the machine's ways to treat the process. `loaded` is missing when the
/// configuration is wrong.
pub(super) fn findings(system: &System, config: &Config, loaded: Option<&Loaded>) -> Vec<Finding> {
    let checks: [Option<Finding>; 9] = [
        Some(dev_mode(config)),
        Some(api_key(config)),
        admin(config),
        Some(rooms(config)),
        loaded.and_then(secrets_on_the_command_line),
        loaded.and_then(|loaded| config_file(loaded.file.as_deref()?, holds_secrets(loaded))),
        redis(config),
        user(system),
        core_dumps(system),
    ];
    checks.into_iter().flatten().collect()
}

fn dev_mode(config: &Config) -> Finding {
    const CHECK: &str = "dev mode";
    let exposed = config.client_addresses().find(|address| !address.ip().is_loopback());
    match (config.auth.dev, exposed) {
        (false, _) if config.auth.insecure => {
            let advice = "remove auth.insecure: with it a later dev = true would open the server to everyone";
            Finding::warn(CHECK, "off, but allowed on every address", advice)
        }
        (false, _) => Finding::ok(CHECK, "off"),
        (true, None) => Finding::warn(
            CHECK,
            "on, for this machine only",
            "set auth.dev = false in production: every token is accepted and every room allowed",
        ),
        (true, Some(address)) => Finding::fail(
            CHECK,
            format!("on, and {address} can be reached from other machines"),
            "set auth.dev = false and remove auth.insecure: everyone may be anyone and join any room",
        ),
    }
}

fn api_key(config: &Config) -> Finding {
    const CHECK: &str = "api key";
    let keys = &config.api.key;
    if keys.is_empty() {
        return match config.auth.dev {
            true => Finding::warn(CHECK, "none, and dev mode opens the API", "set SHARDCAST_API_KEY"),
            false => Finding::ok(CHECK, "none; the API is closed"),
        };
    }
    let short = keys.iter().filter(|key| key.expose().len() < KEY_BYTES_MIN).count();
    let found = match (keys.len(), short) {
        (1, 0) => "1 key".to_owned(),
        (count, 0) => format!("{count} keys"),
        (count, short) => format!("{short} of {count} shorter than {KEY_BYTES_MIN} characters"),
    };
    Finding::judge(CHECK, short == 0, found, "make one that cannot be guessed: openssl rand -hex 32")
}

fn admin(config: &Config) -> Option<Finding> {
    let address = config.admin.listen?;
    let advice = "listen on 127.0.0.1 or an address that only operators and Prometheus reach: it asks for no key, and \
                  tells of load, versions and addresses";
    let found = match address.ip().is_loopback() {
        true => format!("{address}, this machine only"),
        false => format!("{address} can be reached from other machines"),
    };
    Some(Finding::judge("admin access", address.ip().is_loopback(), found, advice))
}

/// Rooms that a client gets without anybody having named them.
fn rooms(config: &Config) -> Finding {
    const CHECK: &str = "room access";
    let auth = &config.auth;
    let is_all = |room: &str| !room.is_empty() && room.bytes().all(|byte| byte == b'*');
    let all = |rooms: &[RoomPattern]| rooms.iter().any(|room| is_all(room.as_str()));
    let is_open = |rule: &Rule| {
        rule.effect == Effect::Allow
            && rule.actions.contains(&RuleAction::Join)
            && rule.roles.is_empty()
            && rule.users.is_empty()
            && rule.claims.is_empty()
            && rule.rooms.iter().any(|room| is_all(room.as_str()))
    };
    if let Some(index) = auth.rules.iter().position(is_open) {
        let who = if auth.anonymous { "everyone, without a token" } else { "every authenticated client" };
        let advice = "give the rule roles, users or claims, or name its rooms: it allows what no rule before it denies";
        return Finding::warn(CHECK, format!("{who}, every room (auth.rules.{index})"), advice);
    }
    if auth.anonymous && all(&auth.rooms) {
        let advice = "name the public rooms in auth.rooms, such as \"public:*\": without a token everyone may join \
                      every room";
        return Finding::warn(CHECK, "everyone, without a token, every room", advice);
    }
    if all(&auth.rooms) {
        let advice = "name the rooms in auth.rooms, and those of each token in its own list";
        return Finding::warn(CHECK, "every authenticated client, every room", advice);
    }
    let is_unlisted =
        |mount: &&Mount| mount.dialect != Dialect::Echo && mount.unlisted_rooms == Effect::Allow;
    if let Some(mount) = config.mounts.iter().find(is_unlisted).filter(|_| !auth.dev) {
        let who = if auth.anonymous { "everyone, without a token" } else { "every authenticated client" };
        let advice = "set the mount's unlisted_rooms = \"deny\" and allow rooms in auth.rooms and auth.rules, or name a \
                      channel_prefix that only public channels begin with";
        let found = format!("{who}, every room on {} that no rule denies", mount.path);
        return Finding::judge(CHECK, !mount.channel_prefix.is_empty(), found, advice);
    }
    let anonymous = if auth.anonymous { "also without a token; " } else { "with a token; " };
    Finding::ok(CHECK, format!("{anonymous}{} patterns for everyone", auth.rooms.len()))
}

/// Keys that hold a secret, with where each was set.
fn secrets(loaded: &Loaded) -> impl Iterator<Item = (KeyPath, Origin)> + '_ {
    let paths = SECTIONS.iter().flat_map(|section| {
        let count = if section.rows.is_some() { section.count(&loaded.config) } else { 1 };
        let keys = section.keys.iter().filter(|key| key.secret);
        keys.flat_map(move |key| (0..count).map(move |index| KeyPath { section, index, key }))
    });
    let is_secret = |path: &KeyPath| {
        // The address of a Redis is a secret only with a password in it, which is masked when it is shown.
        (path.key.show)(&loaded.config, path.index).contains(crate::config::secret::MASK)
    };
    paths.filter(is_secret).map(|path| {
        let origin = loaded.origins.of(&path);
        (path, origin)
    })
}

fn holds_secrets(loaded: &Loaded) -> bool {
    secrets(loaded).any(|(_, origin)| matches!(origin, Origin::File { .. }))
}

/// Everyone on the machine can read the arguments of every process.
fn secrets_on_the_command_line(loaded: &Loaded) -> Option<Finding> {
    let flags = secrets(loaded).filter(|(_, origin)| matches!(origin, Origin::Flag(_)));
    let keys: Vec<_> = flags.map(|(path, _)| path.to_string()).collect();
    let advice = "set it in the environment (an EnvironmentFile= of mode 0600) or in the file: everyone on this machine \
                  can read the arguments of a process";
    let found = format!("{} on the command line", keys.join(", "));
    (!keys.is_empty()).then(|| Finding::warn("secrets", found, advice))
}

/// Who writes the file decides who may do what; who reads it has its secrets.
fn config_file(path: &Path, secrets: bool) -> Option<Finding> {
    const CHECK: &str = "config file";
    let mode = fs::metadata(path).ok()?.mode() & 0o7777;
    let found = format!("{}, mode {mode:04o}", path.display());
    let status = match mode {
        mode if mode & 0o022 != 0 => Status::Fail,
        mode if secrets && mode & 0o004 != 0 => Status::Warn,
        _ => Status::Ok,
    };
    Some(match status {
        Status::Ok => Finding::ok(CHECK, found),
        Status::Warn => {
            Finding::warn(CHECK, format!("{found}, with secrets"), "chmod o= it: everyone can read them")
        }
        Status::Fail => Finding::fail(CHECK, found, "chmod go-w it: others than its owner can write it"),
    })
}

/// Whoever reaches Redis can send to every client.
fn redis(config: &Config) -> Option<Finding> {
    const CHECK: &str = "redis access";
    let info = config.redis.url.as_ref()?.expose().into_connection_info().ok()?;
    let remote = match info.addr() {
        ConnectionAddr::Tcp(host, _) | ConnectionAddr::TcpTls { host, .. } => !outbound::is_loopback(host),
        _ => false,
    };
    let password = info.redis_settings().password().is_some();
    let found = match (remote, password) {
        (false, _) => "on this machine",
        (true, true) => "with a password",
        (true, false) => "on another machine, without a password",
    };
    let advice = "give Redis a password or an ACL user (requirepass, ACL SETUSER) and put it into SHARDCAST_REDIS_URL: \
                  whoever reaches it can publish to every client";
    Some(Finding::judge(CHECK, !remote || password, found.to_owned(), advice))
}

fn user(system: &System) -> Option<Finding> {
    let status = system.text("/proc/self/status")?;
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"))?;
    let effective: u32 = uids.split_whitespace().nth(1)?.parse().ok()?;
    let found = format!("uid {effective}");
    let advice = "run as a user of its own: DynamicUser=yes in a systemd unit, USER in a Dockerfile, runAsNonRoot in \
                  Kubernetes; a port below 1024 needs CAP_NET_BIND_SERVICE only";
    Some(Finding::judge("user", effective != 0, found, advice))
}

/// A dump holds every token and key that was in memory.
fn core_dumps(system: &System) -> Option<Finding> {
    let limits = system.text("/proc/self/limits")?;
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size"))?;
    let soft = line.split_whitespace().next()?;
    let found = if soft == "0" { "off".to_owned() } else { format!("up to {soft} bytes") };
    let advice = "LimitCORE=0 in a systemd unit, --ulimit core=0 in Docker, ulimit -c 0 in a shell: a dump holds every \
                  token and key in memory";
    Some(Finding::judge("core dumps", soft == "0", found, advice))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{RedisUrl, RoomTemplate, Secret, UserId};
    use std::net::SocketAddr;
    use std::os::unix::fs::PermissionsExt;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// The status of one check of `config`, changed by `change`, and that it has advice when it is not ok.
    fn status(check: &str, change: impl FnOnce(&mut Config)) -> Option<Status> {
        let mut config = Config::default();
        change(&mut config);
        let findings = findings(&System::under("/nonexistent"), &config, None);
        for finding in &findings {
            assert_eq!(finding.advice.is_some(), finding.status != Status::Ok, "{finding:?}");
            assert!(!format!("{finding:?}").contains("sesame"), "{finding:?}");
        }
        findings.iter().find(|finding| finding.check == check).map(|finding| finding.status)
    }

    #[test]
    fn a_default_configuration_is_not_risky() {
        let findings = findings(&System::under("/nonexistent"), &Config::default(), None);
        assert!(findings.iter().all(|finding| finding.status == Status::Ok), "{findings:#?}");
        assert_eq!(findings.len(), 4);
    }

    #[test]
    fn what_opens_the_server_to_strangers_is_said() {
        let exposed = |config: &mut Config| config.server.listen = vec![address("0.0.0.0:80")];
        assert_eq!(status("dev mode", |config| config.auth.dev = true), Some(Status::Warn));
        assert_eq!(status("dev mode", |config| config.auth.insecure = true), Some(Status::Warn));
        let both = |config: &mut Config| {
            exposed(config);
            config.auth.dev = true;
        };
        assert_eq!(status("dev mode", both), Some(Status::Fail));
        let by_tls = |config: &mut Config| {
            config.server.tls_listen = vec![address("0.0.0.0:443")];
            config.auth.dev = true;
        };
        assert_eq!(status("dev mode", by_tls), Some(Status::Fail));
        assert_eq!(status("dev mode", exposed), Some(Status::Ok));

        assert_eq!(status("api key", |config| config.auth.dev = true), Some(Status::Warn));
        let keys = |keys: &[&str]| keys.iter().copied().map(Secret::new).collect::<Vec<_>>();
        let long = "sesame-sesame-sesame";
        assert_eq!(status("api key", |config| config.api.key = keys(&[long, "sesame"])), Some(Status::Warn));
        assert_eq!(status("api key", |config| config.api.key = keys(&[long])), Some(Status::Ok));

        assert_eq!(
            status("admin access", |config| config.admin.listen = Some(address("[::]:9"))),
            Some(Status::Warn)
        );
        assert_eq!(status("admin access", |config| config.admin.listen = None), None);
    }

    #[test]
    fn rooms_for_everyone_are_said() {
        let with = |anonymous: bool, rooms: &'static [&'static str]| {
            move |config: &mut Config| {
                config.auth.anonymous = anonymous;
                config.auth.rooms = rooms.iter().copied().map(RoomPattern::new).collect();
            }
        };
        for (anonymous, rooms, expected) in [
            (false, &["public:*"][..], Status::Ok),
            (true, &["public:*"], Status::Ok),
            (true, &[""], Status::Ok),
            (false, &["a", "*"], Status::Warn),
            (true, &["**"], Status::Warn),
        ] {
            assert_eq!(
                status("room access", with(anonymous, rooms)),
                Some(expected),
                "{anonymous} {rooms:?}"
            );
        }
        for (prefix, unlisted_rooms, expected) in [
            ("", Effect::Allow, Status::Warn),
            ("public:", Effect::Allow, Status::Ok),
            ("", Effect::Deny, Status::Ok),
        ] {
            let topics = Mount {
                unlisted_rooms,
                channel_prefix: prefix.to_owned(),
                ..Mount::for_dialect(Dialect::Topic)
            };
            let set = |config: &mut Config| config.mounts = vec![topics];
            assert_eq!(status("room access", set), Some(expected), "{prefix:?} {unlisted_rooms:?}");
        }
    }

    #[test]
    fn a_rule_that_allows_everyone_everything_is_said() {
        let open = || Rule { rooms: vec![RoomTemplate::new("*").expect("a template")], ..Rule::default() };
        let named = || vec![RoomTemplate::new("public:*").expect("a template")];
        for (rule, expected) in [
            (open(), Status::Warn),
            (Rule { rooms: named(), ..open() }, Status::Ok),
            (Rule { effect: Effect::Deny, ..open() }, Status::Ok),
            (Rule { actions: Vec::new(), ..open() }, Status::Ok),
            (Rule { roles: vec!["admin".to_owned()], ..open() }, Status::Ok),
            (Rule { users: vec![UserId::Number(1)], ..open() }, Status::Ok),
        ] {
            let set = |config: &mut Config| config.auth.rules = vec![rule.clone()];
            assert_eq!(status("room access", set), Some(expected), "{rule:?}");
        }
    }

    #[test]
    fn a_redis_elsewhere_wants_a_password() {
        for (url, expected) in [
            ("redis://127.0.0.1", Status::Ok),
            ("redis://localhost:1", Status::Ok),
            ("redis://[::1]:1", Status::Ok),
            ("redis://10.0.0.5", Status::Warn),
            ("redis://redis.internal", Status::Warn),
            ("redis://:sesame@10.0.0.5", Status::Ok),
            ("redis://user:sesame@redis.internal", Status::Ok),
        ] {
            let set = |config: &mut Config| config.redis.url = Some(RedisUrl::new(url));
            assert_eq!(status("redis access", set), Some(expected), "{url}");
        }
    }

    #[test]
    fn secrets_are_looked_for_where_others_can_read_them() {
        let path = std::env::temp_dir().join(format!("shardcast-secrets-{}.toml", std::process::id()));
        fs::write(&path, "").expect("the file can be written");
        let check = |mode: u32, secrets: bool| {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("it is ours");
            config_file(&path, secrets).map(|finding| finding.status)
        };
        for (mode, secrets, expected) in [
            (0o600, true, Status::Ok),
            (0o640, true, Status::Ok),
            (0o644, false, Status::Ok),
            (0o644, true, Status::Warn),
            (0o664, false, Status::Fail),
            (0o602, true, Status::Fail),
        ] {
            assert_eq!(check(mode, secrets), Some(expected), "{mode:o} {secrets}");
        }
        fs::remove_file(&path).expect("it is ours");
    }

    #[test]
    fn a_secret_is_known_by_where_it_was_set() {
        use crate::config::{FileChoice, Flag, Machine, Sources};
        let sources = Sources {
            file: FileChoice::IfPresent("/nonexistent/shardcast.toml".into()),
            env: vec![("SHARDCAST_API_KEY".into(), "sesame-sesame-sesame".into())],
            flags: vec![
                Flag::Set("redis.url=redis://:sesame@h".to_owned()),
                Flag::Set("auth.tokens.0.token=sesame".to_owned()),
            ],
            machine: Machine { cores: 4, files_max: 1_048_576 },
        };
        let mut loaded = sources.load().expect("it is sound");
        loaded.config.auth.tokens[0].user = Some(UserId::Number(1));
        let finding = secrets_on_the_command_line(&loaded).expect("two of them");
        assert_eq!(finding.found, "redis.url, auth.tokens.0.token on the command line");
        assert!(!holds_secrets(&loaded));
        let harmless = Sources { flags: vec![Flag::Set("redis.url=redis://h".to_owned())], ..sources };
        assert_eq!(secrets_on_the_command_line(&harmless.load().expect("it is sound")), None);
    }
}
