//! `shardcast serve`: the process from start to the last connection.

use std::io;
use std::time::Duration;

use shardcast_wire::topic::TENANT;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::application::Application;
use crate::audit;
use crate::config::{Choice, Config, Dialect, Loaded, Mount};
use crate::driver::files;
use crate::logs::{self, Logs};
use crate::outbound::post::OutboundError;
use crate::threads::{Server, StartError};

/// How often the log says what it left out.
const SUPPRESSED_INTERVAL: Duration = Duration::from_secs(10);

/// Why `serve` ended badly.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The application's webhooks cannot be reached at all.
    #[error("webhooks")]
    Webhooks(#[from] OutboundError),
    /// The kernel refuses signal handlers or an event loop.
    #[error("cannot watch for signals: {0}")]
    Signals(io::Error),
}

/// Runs until SIGTERM or SIGINT has drained the process. SIGHUP reloads the configuration.
pub fn serve(loaded: Loaded) -> Result<(), ServeError> {
    let logs = logs::init(&loaded.config.server);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Err(error) = files::raise_limit() {
        tracing::warn!(%error, "cannot raise the limit on open files; connections beyond it are refused");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(ServeError::Signals)?;
    // Before anything listens: without a handler a signal ends the process, and whoever connected, at once.
    let signals = runtime.block_on(async { Signals::watch() }).map_err(ServeError::Signals)?;
    let application = Application::new(&loaded.config)?;
    let server = Server::start(&loaded.config, application.hooks())?;
    announce(&server, &loaded.config);
    runtime.block_on(obey(signals, server, loaded, &application, &logs));
    Ok(())
}

async fn obey(
    mut signals: Signals,
    mut server: Server,
    mut loaded: Loaded,
    application: &Application,
    logs: &Logs,
) {
    let mut suppressed = tokio::time::interval(SUPPRESSED_INTERVAL);
    loop {
        tokio::select! {
            asked = signals.next() => match asked {
                Asked::Reload => reload(&mut server, &mut loaded, application, logs),
                Asked::Stop => break,
            },
            _ = suppressed.tick() => logs.tell_suppressed(),
        }
    }
    logs.tell_suppressed();
    tracing::info!(period = ?loaded.config.server.drain_period, "draining; a second signal ends at once");
    let audit = server.engine().audit().clone();
    let ended = tokio::task::spawn_blocking(|| {
        server.drain();
        server.join();
    });
    tokio::select! {
        _ = ended => tracing::info!("drained"),
        () = async { while signals.next().await != Asked::Stop {} } => {
            tracing::warn!("second signal: ending at once");
            audit.finish(true);
            std::process::exit(1);
        }
    }
}

/// What a signal asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Stop,
    Reload,
}

/// The signals that are watched for.
struct Signals {
    term: Signal,
    int: Signal,
    hup: Signal,
}

impl Signals {
    /// Takes over from the kernel's defaults. Inside a runtime only.
    fn watch() -> io::Result<Self> {
        Ok(Self {
            term: signal(SignalKind::terminate())?,
            int: signal(SignalKind::interrupt())?,
            hup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.term.recv() => Asked::Stop,
            _ = self.int.recv() => Asked::Stop,
            _ = self.hup.recv() => Asked::Reload,
        }
    }
}

/// Applies what of the configuration can change at run time; a broken one changes nothing.
fn reload(server: &mut Server, loaded: &mut Loaded, application: &Application, logs: &Logs) {
    match loaded.reload() {
        Err(error) => {
            let problems: Vec<_> = error.problems.iter().map(ToString::to_string).collect();
            reload_refused(server, &loaded.config, &problems);
        }
        Ok(reload) => {
            let prepared = match application.prepare(&reload.merged.config) {
                Ok(prepared) => prepared,
                Err(error) => {
                    return reload_refused(server, &loaded.config, &[format!("webhooks: {error}")]);
                }
            };
            let audited = server.engine().audit().wants(audit::Kind::Reload);
            if let Err(error) = server.reload(&reload.merged.config) {
                return reload_refused(server, &loaded.config, &[format!("tls: {error}")]);
            }
            *loaded = reload.merged;
            application.reload(&loaded.config, prepared);
            let reloaded = || audit::Event::reloaded(&reload.applied, &reload.ignored);
            server.engine().audit().record_reload(audited, reloaded);
            for warning in &loaded.warnings {
                tracing::warn!("{warning}");
            }
            logs.set_level(loaded.config.server.log_level);
            tracing::info!(applied = ?reload.applied, "configuration reloaded");
            if !reload.ignored.is_empty() {
                tracing::warn!(keys = ?reload.ignored, "these keys changed but need a restart");
            }
        }
    }
}

fn reload_refused(server: &Server, config: &Config, problems: &[String]) {
    tracing::error!(problems = problems.len(), "reload refused, everything stays as it was");
    problems.iter().for_each(|problem| tracing::error!("{problem}"));
    let audit = server.engine().audit();
    audit.record(audit::Kind::Reload, || audit::Event::reload_refused(problems.len()));
    // Whoever rotates logs sends the same signal.
    audit.reload(&config.audit);
}

/// Says where the server is and how to use it.
fn announce(server: &Server, config: &Config) {
    let status = server.engine().status();
    tracing::info!(
        shards = status.shards.len(),
        io = status.io_driver,
        redis = config.redis.url.is_some(),
        "shardcast {} is up",
        env!("CARGO_PKG_VERSION")
    );
    let plain = server.addresses().first().map(|address| ("ws", address));
    let secure = server.tls_addresses().first().map(|address| ("wss", address));
    for (mount, address) in server.mount_addresses() {
        if let Some(mount) = config.mounts.get(usize::from(mount.0)) {
            tracing::info!("{} on ws://{address}/, a port of its own", mount.dialect.name());
        }
    }
    for mount in &config.mounts {
        let name = mount.dialect.name();
        for (scheme, address) in plain.iter().chain(&secure) {
            tracing::info!("{name} on {scheme}://{address}{}", mount.path);
        }
    }
    if let Some(admin) = server.admin_address() {
        tracing::info!("health and metrics on http://{admin}/");
    }
    if let (true, Some((_, address))) = (config.auth.dev, plain) {
        eprint!("{}", try_it(&address.to_string(), config));
    }
}

/// What a newcomer can paste, shown in dev mode.
fn try_it(address: &str, config: &Config) -> String {
    let topics = config.mounts.iter().find(|mount| mount.dialect == Dialect::Topic);
    let topics = topics.map(|mount| try_topics(address, mount, config)).unwrap_or_default();
    let Some(mount) = config.mounts.iter().find(|mount| mount.dialect == Dialect::Ignis) else {
        return topics;
    };
    let ignis = format!(
        r#"
  Dev mode: every token is accepted. Try it in a browser console:

    ws = new WebSocket("ws://{address}{path}"); ws.onmessage = m => console.log(m.data)
    ws.send('{{"event":"authenticate","data":{{"token":"me"}}}}')
    ws.send('{{"event":"join","data":{{"rooms":["chat"]}}}}')

  or with `websocat ws://{address}{path}`, typing the same two JSON lines. Then, from another terminal:

    {program} emit room chat hello '{{"text":"hi"}}' --api http://{address}
    curl -d '{{"type":"room","target":"chat","event":"hello","data":{{"text":"hi"}}}}' http://{address}/api/emit

  and the client sees {{"event":"hello","data":{{"text":"hi"}}}}

"#,
        path = mount.path,
        program = program(),
    );
    [ignis, topics].concat()
}

/// The same for topics, in a line or two.
fn try_topics(address: &str, mount: &Mount, config: &Config) -> String {
    let publish = match config.redis.url {
        // Whose tenant it is, is not known here.
        _ if mount.channel_prefix.contains(TENANT) => return String::new(),
        Some(_) => format!("redis-cli PUBLISH {}chat '{{\"text\":\"hi\"}}'", mount.channel_prefix),
        None => format!(
            "{} emit topic {}chat '{{\"text\":\"hi\"}}' --api http://{address}",
            program(),
            mount.channel_prefix
        ),
    };
    format!(
        r#"  Topics, on ws://{address}{path}: the server says a session, put it for SID and subscribe; then publish:

    {{"action":"subscribe","session":"SID","context":"chat"}}
    {publish}

"#,
        path = mount.path,
    )
}

fn program() -> String {
    std::env::args().next().unwrap_or_else(|| "shardcast".to_owned())
}
