//! How each recording is replayed, and where Shardcast differs from the reference on purpose (`topic.md` §5 to §9).

use std::time::Duration;

use shardcast::config::Mount;

/// Changes the times of a mount.
pub type Adjust = fn(&mut Mount);

/// How one recording is replayed.
#[derive(Default)]
pub struct Plan {
    /// Why it is not.
    pub skip: Option<&'static str>,
    /// Where we differ.
    pub deviations: Vec<Deviation>,
    /// Lines that the recorder wrote differently from what was on the wire.
    pub restored: Vec<Deviation>,
    /// Whether the client sends binary messages.
    pub is_binary: bool,
    /// Other times, with what to say of them.
    pub timing: Option<(&'static str, Adjust)>,
}

/// Lines that are replaced, and why.
pub struct Deviation {
    /// Why.
    pub reason: &'static str,
    /// What.
    pub edits: Vec<Edit>,
}

/// A line that is replaced.
pub struct Edit {
    /// Its index.
    pub line: usize,
    /// What it must be, so that no plan outlives its recording; a part of it is enough.
    pub recorded: &'static str,
    /// What stands there instead.
    pub ours: &'static [&'static str],
}

/// What differs in all recordings.
pub const EVERYWHERE: &[&str] = &[
    "A session is 128 random bits of its connection alone; the reference's is the address of the client in base64, the \
     same for everybody behind it. The id of a recording stands for ours.",
    "A payload that is JSON is the snapshot, as the protocol's description has it; the reference makes a string of its \
     text. With `snapshot_mode = \"string\"` Shardcast does as the reference, and all recordings are replayed a second \
     time so, as they were recorded.",
    "A channel is unsubscribed `redis.unsubscribe_linger` after the last client left it, and not at once: what is \
     subscribed on Redis is compared once it is so.",
];

const NO_LEAK: &str = "Nothing is done for a request whose session or fields are wrong; the reference disconnects and does \
                       it all the same, which leaves a subscription of Redis behind.";

const NOT_A_STRING: &str = "A `context` that is missing or no string ends the connection; in the reference it ends in an \
                            exception, and the client hears nothing.";

const M8: &str = r#"S:  {"action":"connect","message":"client disconnect"}"#;
const CLOSE: &str = r#"CLOSE 1005 """#;
const NO_CHANNELS: &str = "R: PUBSUB CHANNELS []";

fn deviation(reason: &'static str, edits: Vec<Edit>) -> Plan {
    Plan { deviations: vec![Deviation { reason, edits }], ..Plan::default() }
}

fn restored(reason: &'static str, edits: Vec<Edit>) -> Plan {
    Plan { restored: vec![Deviation { reason, edits }], ..Plan::default() }
}

const fn edit(line: usize, recorded: &'static str, ours: &'static [&'static str]) -> Edit {
    Edit { line, recorded, ours }
}

/// The plan for the recording of that name.
pub fn plan(name: &str) -> Plan {
    match name {
        "bad jwt then subscribe" => restored(
            "The recorder cut the token off, whose signature was not that of its key.",
            vec![edit(
                2,
                r#"C: {"action":"authorization""#,
                &[r#"C: {"action":"authorization","session":"MTI3LjAuMC4x","context":"<TAMPERED>"}"#],
            )],
        ),
        "missing session" => restored(
            "The end of the connection before this one was written down late.",
            vec![edit(3, CLOSE, &[])],
        ),
        "bad session id subscribe after auth" => {
            deviation(NO_LEAK, vec![edit(7, r#"R: PUBSUB CHANNELS ["t4"]"#, &[NO_CHANNELS])])
        }
        "empty context" => deviation(NO_LEAK, vec![edit(7, r#"R: PUBSUB CHANNELS [""]"#, &[NO_CHANNELS])]),
        "missing context" => deviation(
            NOT_A_STRING,
            vec![edit(
                4,
                r#"C: {"action":"subscribe""#,
                &[r#"C: {"action":"subscribe","session":"MTI3LjAuMC4x"}"#, M8, CLOSE],
            )],
        ),
        "context non-string number" | "context object" => deviation(
            NOT_A_STRING,
            vec![edit(5, NO_CHANNELS, &[M8, CLOSE, NO_CHANNELS]), edit(6, CLOSE, &[])],
        ),
        "binary json" => Plan { is_binary: true, ..Plan::default() },
        "idle unauth (HB 4s)" => Plan {
            timing: Some(("`auth_timeout` 1 s.", |mount| mount.auth_timeout = Duration::from_secs(1))),
            ..Plan::default()
        },
        "idle auth (HB 4s)" => Plan {
            timing: Some(("`ping_interval` 1 s.", |mount| mount.ping_interval = Duration::from_secs(1))),
            ..Plan::default()
        },
        "client disconnects; channel left?" => deviation(
            "A client that leaves leaves its topics; in the reference they stay subscribed.",
            vec![edit(7, "after close [ 'leak' ]", &[NO_CHANNELS]), edit(8, "after hb [ 'leak' ]", &[])],
        ),
        "two clients same ip" => Plan {
            skip: Some(
                "Shows what follows from sessions that clients share, and only the server's side of it. That a session is \
                 its connection's alone, that a client may unsubscribe from a topic that only others have, and that \
                 requests may be pipelined is tested in `tests/tests/topic`.",
            ),
            ..Plan::default()
        },
        _ => Plan::default(),
    }
}

/// The lines of a recording as this plan has them.
///
/// # Panics
/// When the recording is not the one that the plan was made for.
pub fn applied(plan: &Plan, lines: &[String]) -> Vec<String> {
    let mut lines: Vec<Vec<String>> = lines.iter().map(|line| vec![line.clone()]).collect();
    for edit in plan.deviations.iter().chain(&plan.restored).flat_map(|deviation| &deviation.edits) {
        let recorded = &lines[edit.line];
        assert!(
            matches!(&recorded[..], [line] if line.starts_with(edit.recorded)),
            "line {} is {recorded:?}, not {}",
            edit.line,
            edit.recorded
        );
        lines[edit.line] = edit.ours.iter().map(|&line| line.to_owned()).collect();
    }
    lines.concat()
}
