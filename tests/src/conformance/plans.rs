//! The table of plans: which recordings are not replayed, what the recorder left out, where Shardcast differs on
//! purpose, and which clocks run faster.
//!
//! A recording without an entry is replayed as it is. `docs/protocols/ignis-conformance.md` is written from this
//! table, so its reasons are for readers of that page.

use serde_json::json;

use super::plan::{Plan, Timing};

const KEYS: &str = "Key exchange and encryption are built in and random: clients of the replay have keys of their own, and messages are compared decrypted.";
const NOT_LET_IN: &str =
    "A client whose key exchange failed was never let in: when it goes, the application is told no user.";
const TICKS: &str = "Idle times are exact; recorded pings and FINs come up to 4 s later.";
const BACKPRESSURE: &str = "How much fits before the limit depends on the kernel's socket buffers. Compared instead: a prefix without gaps, shorter than what was sent; then what is sent later or, with `closeOnBackpressureLimit`, the end without a close frame.";
const STAYS_UP: &str = "Without Redis the server stays up and serves its own clients.";

const SEND_K: &str =
    r#"{"dir":"note","data":{"call":{"op":"sendToUser","userId":"u-A","event":"k","data":1}}}"#;
const PUBLISH_K: &str =
    r#"{"dir":"note","data":{"call":{"op":"sendToRoom","room":"ws-default","event":"k","data":1}}}"#;
const SEND_AFTER_CUT: &str =
    r#"{"dir":"note","data":{"call":{"op":"send","payload":{"topic":"after-cut","data":1}}}}"#;
const CUT_REDIS: &str = r#"{"dir":"note","data":{"call":{"op":"cutRedis"}}}"#;
const SHUTDOWN: &str = r#"{"dir":"note","data":{"call":{"op":"shutdown"}}}"#;
const CLIENT_CUTS: &str = r#"{"conn":"A","dir":"close","by":"client","data":{"tcp":"cut"}}"#;
const WAIT_FOR_SLOW: &str = r#"{"dir":"note","data":{"wait":300}}"#;

/// The plan of a recording.
pub(super) fn plan(name: &str) -> Plan {
    plans().into_iter().find(|plan| plan.name == name).unwrap_or_default()
}

/// Every entry, by name.
pub(super) fn plans() -> Vec<Plan> {
    let mut plans = authentication();
    plans.extend(rooms());
    plans.extend(compression());
    plans.extend(encryption());
    plans.extend(redis_and_shutdown());
    plans.extend(idle());
    plans.extend(idle_by_default());
    plans.extend(
        [
            "backpressure-1mb-close-raw-send",
            "backpressure-1mb-close-room-publish",
            "backpressure-1mb-room-publish",
            "backpressure-default-raw-send",
            "backpressure-default-room-publish",
            "backpressure-default-small-raw",
            "backpressure-default-small-room",
        ]
        .map(|name| Plan::of(name).differs(BACKPRESSURE)),
    );
    plans.extend(not_replayed());
    plans.sort_by_key(|plan| plan.name);
    plans
}

fn authentication() -> Vec<Plan> {
    vec![
        // The slow check ends after the client has gone, and must find nobody to welcome.
        Plan::of("auth-client-close-during").restore(8, WAIT_FOR_SLOW),
        Plan::of("auth-disconnect-during").restore(5, CLIENT_CUTS).restore(5, WAIT_FOR_SLOW),
        Plan::of("auth-timeout-default").timed(Timing::new(1.0, [(4, 4_990..=7_000)])),
        Plan::of("auth-timeout-short").timed(Timing::new(1.0, [(4, 295..=2_000)])),
        // Were the timer extended by the frames at half its time, it would end at 2250 ms.
        Plan::of("auth-timeout-error-frames-dont-extend").timed(
            Timing::new(5.0, [(7, 1_490..=2_150)])
                .options(r#"{"authTimeout":1500}"#, "All times ×5, so that a late timer shows."),
        ),
        // 300 ms of silence, then three times the timeout from `authenticate` on.
        Plan::of("auth-in-progress-timeout").timed(
            Timing::new(2.0, [(5, 2_090..=4_000)])
                .options(r#"{"authTimeout":600}"#, "All times ×2 but the 700 ms that a check takes."),
        ),
        Plan::of("heartbeat-timeout").timed(Timing::new(2.0, [(21, 1_000..=3_000)]).options(
            r#"{"heartbeatInterval":400,"heartbeatTimeout":1000}"#,
            "All times ×2, so that a busy machine keeps up with the beats.",
        )),
        Plan::of("emitter-unauth-client-id")
            .differs(
                "A client that is not authenticated receives neither direct nor own-room messages. The replay \
                 has it authenticate without an end, which tells the test its id.",
            )
            .instead(
                4,
                r#"{"conn":"U","dir":"c>s","op":"text","data":"{\"event\":\"authenticate\",\"data\":{\"token\":\"hang\"}}"}"#,
            )
            .without_lines([7, 10, 17]),
    ]
}

fn rooms() -> Vec<Plan> {
    let id = "b1378c97-de63-46ec-8911-87d39f85f157";
    let long = "x".repeat(300);
    let rooms = json!([
        id,
        "ws:internal:broadcast",
        "ws-default",
        "ws-notification",
        "inject",
        "not-requested",
        long
    ]);
    let text = format!(
        r#"{{"event":"rooms","data":{{"rooms":{rooms},"encrypted":false,"state":"authenticated"}}}}"#
    );
    let injected = json!({"conn": "A", "dir": "s>c", "op": "text", "data": text}).to_string();
    vec![
        Plan::of("upgrade-variants")
            .differs("In responses to what is no upgrade, `Content-Length` comes before `Date`.")
            .headers_in_any_order(),
        Plan::of("join-accepted")
            .restore(10, r#"{"dir":"note","data":{"call":{"op":"sendToRoom","room":"room-a","event":"hello","data":{"x":1}}}}"#)
            .restore(13, r#"{"dir":"note","data":{"call":{"op":"sendToRoom","room":"room-a","event":"hello","data":{"x":2}}}}"#),
        Plan::of("join-rejoin-other-client-id")
            .restore(11, r#"{"dir":"note","data":{"call":{"op":"sendToRoom","room":"dd8a9c7e-bb12-4750-8256-d5b1c93a2996","event":"to-a-room","data":1}}}"#)
            .restore(13, r#"{"dir":"note","data":{"call":{"op":"sendToClient","clientId":"dd8a9c7e-bb12-4750-8256-d5b1c93a2996","event":"to-a-client","data":1}}}"#),
        Plan::of("join-validate-injects")
            .restore(10, r#"{"dir":"note","data":{"call":{"op":"broadcast","event":"once","data":1}}}"#)
            .restore(13, r#"{"dir":"note","data":{"call":{"op":"broadcast","event":"gone","data":1}}}"#)
            .differs("In the list of its rooms, the broadcast room that the application had a client join comes before the default rooms, where the client subscribed to it.")
            .without_lines([9])
            .instead(9, &injected),
        Plan::of("leave")
            .restore(11, r#"{"dir":"note","data":{"call":{"op":"sendToRoom","room":"room-a","event":"x","data":0}}}"#)
            .restore(12, r#"{"dir":"note","data":{"call":{"op":"sendToRoom","room":"room-b","event":"x","data":1}}}"#),
    ]
}

fn compression() -> Vec<Plan> {
    let data = "c".repeat(104);
    let call = json!({"dir": "note", "data": {"call": {"op": "broadcast", "event": "b", "data": data}}});
    let text = format!(r#"{{"event":"b","data":"{data}"}}"#);
    let heard = json!({"conn": "A", "dir": "s>c", "op": "text", "rsv": 4, "data": text});
    vec![
        Plan::of("permessage-deflate-on")
            .restore(7, &call.to_string())
            .differs(
                "Compressed bytes depend on the compressor. Compared instead: that the same messages come compressed, \
                 and what they inflate to.",
            )
            .without_lines([7])
            .instead(7, &heard.to_string()),
    ]
}

fn encryption() -> Vec<Plan> {
    let call = |call: String| format!(r#"{{"dir":"note","data":{{"call":{call}}}}}"#);
    let client = |id: &str, rest: &str| call(format!(r#"{{"op":"sendToClient","clientId":"{id}",{rest}}}"#));
    let room = |rest: &str| call(format!(r#"{{"op":"sendToRoom","room":"ws-default",{rest}}}"#));
    let broadcast = |rest: &str| call(format!(r#"{{"op":"broadcast",{rest}}}"#));
    let (plain, required) = ("3e680751-e757-49c8-a8c6-3ce6c7b29a33", "e8abd627-f648-4726-9d12-05678bd6e62c");
    vec![
        Plan::of("encryption-connected-plain")
            .differs(KEYS)
            .restore(7, &client(plain, r#""event":"secret","data":{"n":1,"s":"héllo"}"#))
            .restore(9, &room(r#""event":"room-secret","data":{"n":2}"#))
            .restore(11, &broadcast(r#""event":"bc-secret","data":[1,2]"#))
            .restore(13, &client(plain, r#""event":"undefined-data""#)),
        Plan::of("encryption-required")
            .differs(KEYS)
            .differs(
                "`connected` is sent readable, since nobody could make a key of it otherwise. The recording has no key, \
                 so lengths are compared. Nothing the application says is sent in clear or dropped.",
            )
            .without_lines([5, 6, 11, 12])
            .instead(
                5,
                r#"{"conn":"A","dir":"s>c","op":"text","data":"{\"event\":\"connected\",\"data\":{\"id\":\"e8abd627-f648-4726-9d12-05678bd6e62c\",\"userId\":\"u1\",\"time\":\"2026-11-22T01:54:37.067Z\",\"serverPublicKey\":\"<SERVER-PUBLIC-KEY>\",\"salt\":\"<SALT>\"}}"}"#,
            )
            .restore(8, &client(required, r#""event":"secret","data":{"n":1}"#))
            .restore(9, &room(r#""event":"room-secret","data":{"n":2}"#))
            .restore(10, &broadcast(r#""event":"bc-secret","data":{"n":3}"#)),
        Plan::of("encryption-missing-key").differs(NOT_LET_IN).without_lines([8]).instead(
            8,
            r#"{"dir":"note","data":{"serverCallbacks":[{"cb":"authenticate","data":{"token":"ok","userId":"u1"}},{"cb":"disconnected","clientId":"a0142406-9849-43ca-9b9e-403ba1aeb6e5"}]}}"#,
        ),
        Plan::of("encryption-handshake-throws")
            .differs(NOT_LET_IN)
            .differs("Nothing throws in the built-in key exchange but a key that is none; the replay sends one.")
            .without_lines([4, 8])
            .instead(4, r#"{"conn":"A","dir":"c>s","op":"text","data":"{\"event\":\"authenticate\",\"data\":{\"token\":\"ok\",\"userId\":\"u1\",\"publicKey\":\"AAAA\"}}"}"#)
            .instead(
                8,
                r#"{"dir":"note","data":{"serverCallbacks":[{"cb":"authenticate","data":{"token":"ok","userId":"u1","publicKey":"AAAA"}},{"cb":"disconnected","clientId":"456aac42-39ba-45d8-8c65-3db1a3bdec03"}]}}"#,
            ),
        Plan::of("encryption-no-handshakefn")
            .differs(NOT_LET_IN)
            .without_lines([7])
            .instead(
                7,
                r#"{"dir":"note","data":{"serverCallbacks":[{"cb":"authenticate","data":{"token":"ok","userId":"u1"}},{"cb":"disconnected","clientId":"647f758b-ec0b-42ca-b0e0-5a1279760395"}]}}"#,
            )
            .differs("Where encryption is required there is a key exchange, so a client without a key is told before it is closed.")
            .instead(5, r#"{"conn":"A","dir":"s>c","op":"text","data":"{\"event\":\"error\",\"data\":{\"message\":\"Encryption handshake failed\"}}"}"#),
        Plan::of("encryption-optional")
            .restore(10, &room(r#""event":"plain-room","data":1"#))
            .restore(14, &room(r#""event":"after","data":1"#)),
    ]
}

fn redis_and_shutdown() -> Vec<Plan> {
    vec![
        Plan::of("component-redis-connection-lost")
            .restore(7, CUT_REDIS)
            .restore(9, SEND_AFTER_CUT)
            .differs(STAYS_UP)
            .without_lines([10, 11]),
        Plan::of("redis-connection-lost")
            .restore(29, CUT_REDIS)
            .restore(30, SEND_AFTER_CUT)
            .differs(STAYS_UP)
            .without_lines([32, 33, 35])
            .instead(
                35,
                r#"{"conn":"A","dir":"s>c","op":"text","data":"{\"event\":\"rooms\",\"data\":{\"rooms\":[\"426daacd-5b5b-4b4f-9700-48ce6b24f1c1\",\"ws-default\",\"ws-notification\"],\"encrypted\":false,\"state\":\"authenticated\"}}"}"#,
            ),
        Plan::of("redis-resp-startup")
            .restore(22, r#"{"dir":"note","data":{"call":{"op":"send","payload":{"topic":"x","data":1}}}}"#)
            .restore(26, SHUTDOWN),
        Plan::of("shutdown")
            .restore(8, SHUTDOWN)
            .differs("A server that shuts down takes no new connections, so that clients come back elsewhere.")
            .without_lines([15, 16, 17, 18, 20])
            .instead(20, r#"{"dir":"note","data":{"refusesConnections":true}}"#)
            .instead(
                20,
                r#"{"dir":"note","data":{"serverCallbacks":[{"cb":"authenticate","data":{"token":"ok","userId":"u-A"}},{"cb":"connected","clientId":"adb3a660-f5c8-44f0-8f0d-dc0d42192442","userId":"u-A","metadata":{"role":"tester"}},{"cb":"disconnected","clientId":"adb3a660-f5c8-44f0-8f0d-dc0d42192442","userId":"u-A"},{"cb":"disconnected","clientId":"8159ffac-be5b-414c-bff1-478e95878ade"}]}}"#,
            ),
    ]
}

fn idle() -> Vec<Plan> {
    let resets = |name, line, lines: std::ops::RangeInclusive<usize>| {
        let timing = Timing::new(0.4, [])
            .options(r#"{"serverOptions":{"idleTimeout":4}}"#, "`idleTimeout` 4 s, a message every 1.2 s.");
        lines.fold(Plan::of(name).timed(timing), |plan, before| plan.restore(before, line))
    };
    vec![
        resets("idle-send-resets-ping", SEND_K, 6..=14),
        resets("idle-publish-resets-ping", PUBLISH_K, 6..=13),
        Plan::of("idle-nopings-10s")
            .timed(
                Timing::new(0.2, [(6, 1_990..=4_000)])
                    .options(r#"{"serverOptions":{"idleTimeout":2}}"#, "`idleTimeout` 2 s."),
            )
            .differs(TICKS),
        Plan::of("idle-pings-10s-nopong")
            .timed(Timing::new(1.0, [(6, 5_990..=7_900), (7, 9_980..=11_900)]))
            .differs(TICKS),
        Plan::of("idle-value-0").timed(Timing::new(0.2, [])),
        Plan::of("idle-value-960").timed(Timing::new(0.2, [])),
        Plan::of("idle-value-1").timed(Timing::new(1.0, [(6, 490..=2_000), (7, 990..=3_000)])).differs(TICKS),
    ]
}

fn idle_by_default() -> Vec<Plan> {
    vec![
        Plan::of("idle-default60-nopong")
            .timed(
                Timing::new(0.2, [(6, 7_990..=10_500), (7, 11_980..=14_500)])
                    .options(r#"{"serverOptions":{"idleTimeout":12}}"#, "`idleTimeout` 12 s."),
            )
            .long(Timing::new(1.0, [(6, 43_990..=46_500), (7, 59_980..=62_500)]))
            .differs(TICKS),
        Plan::of("idle-defaults-heartbeat-close")
            .timed(Timing::new(0.1, [(6, 4_990..=7_000), (8, 9_980..=12_000), (10, 9_000..=13_000)]).options(
                r#"{"heartbeatInterval":3000,"heartbeatTimeout":9000,"serverOptions":{"idleTimeout":9}}"#,
                "Heartbeat every 3 s, timeout 9 s; `idleTimeout` 9 s.",
            ))
            .long(Timing::new(1.0, [(6, 43_990..=46_500), (8, 87_980..=92_500), (10, 90_000..=121_000)]))
            .differs(TICKS),
    ]
}

fn not_replayed() -> Vec<Plan> {
    vec![
        Plan::skip(
            "encryption-enabled-without-transformer",
            "Shows what a client misses that is marked as encrypted and has no key; Shardcast has no such clients.",
        ),
        Plan::skip("redis-keyprefix", "Shows a Redis client library; no server takes part."),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_plan_fits_its_recording() {
        let recordings = crate::conformance::recordings(&crate::conformance::fixtures());
        for plan in plans() {
            let recording = recordings.iter().find(|recording| recording.name == plan.name);
            plan.applied_to(recording.unwrap_or_else(|| panic!("no recording {}", plan.name)));
        }
    }
}
