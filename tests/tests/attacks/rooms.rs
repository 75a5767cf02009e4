//! 59 to 66: names of rooms and users that are not what they seem, and joins without measure.

use serde_json::{Value, json};
use shardcast::config::{Mount, Secret, Token, UserId};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::server::{TestServer, WS, emit, one_shard};
use shardcast_wire::ignis::Destination;

use crate::arena::{Arena, Cost, expect_close, text};

const IGNORED: &[(&str, u64)] = &[("messages_ignored", 1)];

fn ask(client: &mut Client, event: &str, rooms: &Value) {
    client.send_json(&json!({"event": event, "data": {"rooms": rooms}}));
    client.settle();
}

fn member(server: &TestServer, rooms: &Value) -> Client {
    let (mut client, _) = server.client("member");
    ask(&mut client, "join", rooms);
    client
}

fn emit_to_room(server: &TestServer, room: &str, number: usize) -> Received {
    server.emit(Destination::Room(room.into()), "e", &number.to_string());
    text(&format!(r#"{{"event":"e","data":{number}}}"#))
}

/// Names that some store, pattern or header would take for others.
fn strange_names() -> Vec<String> {
    let mut names: Vec<_> = [
        "a\0b",
        "a\0",
        "a",
        "a\r\nb",
        "a\nb",
        "*",
        "?",
        "[ab]",
        "a*",
        "{a}",
        "{a,b}",
        "a:b",
        ":a",
        "a:",
        "a::b",
        "WS:x",
        " ws:x",
        "ws-x",
        "café",
        "cafe\u{301}",
        "K",
        "\u{212a}",
        " ",
        "\u{feff}a",
        "\"",
        "\\",
        "\\u0061",
        "$1",
        "../a",
        "#",
        "%00",
        "a_b",
        "a_b_c",
        "room:a",
        "*:*",
        "constructor",
        "__proto__",
        "\u{202e}a",
        "💥",
    ]
    .map(str::to_owned)
    .into();
    names.extend(["x".repeat(255), "x".repeat(256), "💥".repeat(128)]);
    names
}

#[test]
fn attack_59_a_room_is_its_exact_name_and_no_other() {
    let mut arena = Arena::new();
    let names = strange_names();
    arena.attack("59", &[], |arena| {
        let mut clients: Vec<_> = names.iter().map(|name| member(&arena.server, &json!([name]))).collect();
        for (number, name) in names.iter().enumerate() {
            let message = emit_to_room(&arena.server, name, number);
            assert_eq!(clients[number].recv(), message, "room {name:?}");
        }
        for (mut client, name) in clients.into_iter().zip(&names) {
            client.settle();
            assert_eq!(client.take_pending(), [], "room {name:?} received a message for another");
            client.leave();
        }
    });
    let too_long = ["x".repeat(257), "💥".repeat(129), "x".repeat(64 << 10), String::new()];
    for name in &too_long {
        arena.attack("59 a name too long, or none", IGNORED, |arena| {
            let mut client = member(&arena.server, &json!([name]));
            let rooms = arena.server.engine().router().directory().rooms_len();
            emit_to_room(&arena.server, name, 0);
            client.settle();
            assert_eq!(client.take_pending(), []);
            // The default rooms, the broadcast room and the bystander's.
            assert_eq!(rooms, 4);
            client.leave();
        });
    }
    arena.attack("59 names that are no text", IGNORED, |arena| {
        let (mut client, _) = arena.server.client("member");
        let names = r#"[1,null,true,{},["a"],"\ud800"]"#;
        client.send_text(&format!(r#"{{"event":"join","data":{{"rooms":{names}}}}}"#));
        client.settle();
        client.leave();
    });
    arena.end();
}

/// CVE-2026-39972: keys glued together of parts that may hold the glue. Here parts are never glued.
#[test]
fn attack_60_users_rooms_and_clients_of_like_names_are_nobody_elses() {
    let mut config = one_shard();
    config.mounts.push(Mount { path: "/other".to_owned(), ..Mount::default() });
    let mut arena = Arena::with(config);
    arena.attack("60", &[], |arena| {
        let (mut user_a, id) = arena.server.client("a");
        let (mut user_ab, id_ab) = arena.server.client("a_b");
        ask(&mut user_a, "join", &json!(["b_c", "u:a_b", "a_b"]));
        ask(&mut user_ab, "join", &json!(["c", "u:a", "a", &id]));
        let mut other = Client::connect(arena.server.address(), "/other");
        other.authenticate("token", "a");
        ask(&mut other, "join", &json!(["a", "c", "b_c"]));
        let engine = arena.server.engine();
        let user = |user: &str| Destination::User(json!(user).to_string().into());
        for (to, hearers) in [
            (user("a"), [true, false]),
            (user("a_b"), [false, true]),
            (user("a_b_c"), [false, false]),
            (Destination::Room("b_c".into()), [true, false]),
            (Destination::Room("c".into()), [false, true]),
            (Destination::Room("a_b".into()), [true, false]),
            (Destination::Room("a".into()), [false, true]),
            (Destination::Room("a_b_c".into()), [false, false]),
        ] {
            let label = format!("{to:?}");
            emit(engine, to, "e", "1");
            for ((client, id), hears) in [(&mut user_a, &id), (&mut user_ab, &id_ab)].into_iter().zip(hearers)
            {
                // Comes after it on the same way.
                emit(engine, Destination::Client(id.as_str().into()), "next", "1");
                if hears {
                    assert_eq!(client.recv(), text(r#"{"event":"e","data":1}"#), "{label}");
                }
                assert_eq!(client.recv(), text(r#"{"event":"next","data":1}"#), "{label}");
            }
            other.settle();
            assert_eq!(other.take_pending(), [], "{label}: of the other mount");
        }
        // A number is another user than its text, and one's id is nobody else's room.
        emit(engine, Destination::User("1".into()), "e", "1");
        let (mut text_one, id) = arena.server.client("1");
        emit(engine, Destination::User("1".into()), "e", "1");
        emit(engine, Destination::Client(id.as_str().into()), "next", "1");
        assert_eq!(text_one.recv(), text(r#"{"event":"next","data":1}"#));
        [user_a, user_ab, other, text_one].into_iter().for_each(Client::leave);
    });
    arena.end();
}

#[test]
fn attack_61_internal_rooms_cannot_be_joined_or_left() {
    let mut arena = Arena::new();
    for name in ["ws:internal:broadcast", "ws:", "ws:x", "ws:room:x", "ws:client:x"] {
        arena.attack(name, IGNORED, |arena| {
            let mut client = member(&arena.server, &json!([name]));
            assert!(
                arena
                    .server
                    .engine()
                    .router()
                    .directory()
                    .room(shardcast_shard::MountId(0), "ws:x")
                    .is_none()
            );
            ask(&mut client, "leave", &json!([name]));
            // Still reached by broadcasts, once.
            arena.server.emit(Destination::Client("nobody".into()), "e", "0");
            client.settle();
            assert_eq!(client.take_pending(), []);
            client.leave();
        });
    }
    arena.attack("a good name among internal ones", &[], |arena| {
        let mut client = member(&arena.server, &json!(["ws:x", "good", "ws:internal:broadcast"]));
        let message = emit_to_room(&arena.server, "good", 1);
        assert_eq!(client.recv(), message);
        client.leave();
    });
    arena.end();
}

/// Apart from the arena, because its bystander would notice a broadcast, rightly: the client is the healthy one.
#[test]
fn attack_61_leaving_the_internal_room_does_not_stop_broadcasts() {
    let server = TestServer::start(&one_shard());
    let mark = server.meter().mark();
    let (mut client, _) = server.client("member");
    ask(&mut client, "leave", &json!(["ws:internal:broadcast"]));
    server.emit(Destination::Broadcast, "e", "1");
    assert_eq!(client.recv(), text(r#"{"event":"e","data":1}"#));
    client.settle();
    assert_eq!(client.take_pending(), []);
    client.leave();
    Cost::USUAL.expect("61", server.meter().since(&mark));
    server.stop();
}

#[test]
fn attack_62_the_room_beyond_the_limit_is_ignored() {
    let mut config = one_shard();
    config.limits.rooms_per_connection_max = 10;
    let mut arena = Arena::with(config);
    arena.attack("62", &[("joins_refused_limit", 3)], |arena| {
        let names: Vec<_> = (0..11).map(|number| format!("r{number}")).collect();
        // Two default rooms count as well.
        let mut client = member(&arena.server, &json!(names));
        for number in [0, 7] {
            let message = emit_to_room(&arena.server, &names[number], number);
            assert_eq!(client.recv(), message);
        }
        emit_to_room(&arena.server, &names[8], 8);
        client.settle();
        assert_eq!(client.take_pending(), []);
        // A room that is left makes place for another.
        ask(&mut client, "leave", &json!(["r0"]));
        ask(&mut client, "join", &json!(["r8"]));
        let message = emit_to_room(&arena.server, "r8", 9);
        assert_eq!(client.recv(), message);
        client.leave();
    });
    arena.end();
}

#[test]
fn attack_62_rooms_beyond_what_a_shard_may_hold_are_ignored() {
    let mut config = one_shard();
    config.limits.rooms_max = 50;
    let mut arena = Arena::with(config);
    // Besides three rooms that everybody is in, and the bystander's.
    arena.attack("62", &[("joins_refused_rooms_max", 4)], |arena| {
        let names: Vec<_> = (0..50).map(|number| format!("r{number}")).collect();
        let mut client = member(&arena.server, &json!(names));
        let message = emit_to_room(&arena.server, "r45", 45);
        assert_eq!(client.recv(), message);
        emit_to_room(&arena.server, "r46", 46);
        client.settle();
        assert_eq!(client.take_pending(), []);
        client.leave();
    });
    arena.end();
}

#[test]
fn attack_62_twenty_thousand_joins_and_leaves_at_full_speed() {
    let mut arena = Arena::new();
    arena.attack_for(Cost::USUAL.computing(4), "62", &[], |arena| {
        let (mut client, _) = arena.server.client("member");
        for number in 0..10_000 {
            for event in ["join", "leave"] {
                client.send_json(&json!({"event": event, "data": {"rooms": [format!("r{}", number % 100)]}}));
            }
        }
        client.settle();
        assert_eq!(client.take_pending(), []);
        assert_eq!(arena.server.engine().router().directory().rooms_len(), 4);
        client.leave();
    });
    let before = arena.before().clone();
    assert!(before.of("joins") >= 10_000 && before.of("leaves") == 10_000, "{before:?}");
    arena.end();
}

#[test]
fn attack_63_joins_racing_disconnects_leave_nothing_behind() {
    const ROUNDS: u64 = 300;
    let mut arena = Arena::new();
    arena.attack_for(Cost::USUAL.computing(2), "63", &[("hang_ups", ROUNDS)], |arena| {
        for round in 0..ROUNDS {
            let mut client = arena.ws();
            let rooms: Vec<_> = (0..20).map(|number| format!("race-{}", (round + number) % 40)).collect();
            client.send_json(&json!({"event": "authenticate", "data": {"token": "t", "userId": round % 7}}));
            client.send_json(&json!({"event": "join", "data": {"rooms": rooms}}));
            if round % 3 == 0 {
                client.finish();
            } else if round % 3 == 1 {
                client.reset();
                continue;
            }
            // Otherwise closed with data of the server unread, which resets the connection.
        }
    });
    arena.end();
}

#[test]
fn attack_66_the_user_is_the_tokens_whatever_the_client_says() {
    let mut config = one_shard();
    config.auth.dev = false;
    config.auth.rooms = vec![shardcast::config::RoomPattern::new("bystanders")];
    let token = |token: &str, user: &str| Token {
        token: Secret::new(token),
        user: Some(UserId::Text(user.to_owned())),
        ..Token::default()
    };
    config.auth.tokens = vec![token("bystander", "bystander"), token("secret-of-u1", "u1")];
    let mut arena = Arena::with(config);
    arena.attack("66 a user of its own choice", &[], |arena| {
        let mut client = arena.ws();
        let data = client.authenticate("secret-of-u1", "admin");
        assert_eq!(data["userId"], "u1");
        let user = |id: &str| Destination::User(json!(id).to_string().into());
        emit(arena.server.engine(), user("admin"), "secret", "1");
        emit(arena.server.engine(), user("u1"), "own", "2");
        assert_eq!(client.recv(), text(r#"{"event":"own","data":2}"#));
        client.leave();
    });
    arena.attack("66 a second identity", &[("auth_repeated", 1)], |arena| {
        let mut client = arena.ws();
        client.authenticate("secret-of-u1", "admin");
        client.send_json(&json!({"event": "authenticate", "data": {"token": "bystander"}}));
        assert_eq!(client.recv(), text(r#"{"event":"error","data":{"message":"Already authenticated"}}"#));
        client.leave();
    });
    let wrong = ["", "secret-of-u", "secret-of-u1 ", "SECRET-OF-U1", "secret-of-u1\0"];
    for token in wrong {
        let reason = if token.is_empty() { "credentials_missing" } else { "credentials_unknown" };
        let incident = format!("auth_refused.{reason}");
        arena.attack(&format!("66 token {token:?}"), &[(incident.as_str(), 1)], |arena| {
            let mut client = Client::connect(arena.server.address(), WS);
            client.send_json(&json!({"event": "authenticate", "data": {"token": token, "userId": "u1"}}));
            assert_eq!(
                client.recv(),
                text(r#"{"event":"error","data":{"message":"Authentication failed"}}"#)
            );
            expect_close("66", &mut client, 4003, "Authentication failed");
        });
    }
    arena.end();
}
