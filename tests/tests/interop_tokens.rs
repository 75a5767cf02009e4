//! Tokens as PyJWT makes and checks them: what is good there is good here, and the other way round.
//!
//! Needs what `tests/run` installs: the virtual environment in `tests/interop`.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use shardcast::config::{Choice, Jwks, JwtAlgorithm, JwtKey, Secret};
use shardcast_tests::client::Client;
use shardcast_tests::jwks::{IssuerKey, JwksServer, Manner};
use shardcast_tests::script::interop;
use shardcast_tests::server::{TestServer, WS, config};

const ISSUER: &str = "https://pyjwt.example";

fn python(arguments: &[&str], input: &str) -> Value {
    let mut command = Command::new(interop(".venv/bin/python"));
    command.arg(interop("tokens.py")).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("run tests/run, which makes tests/interop/.venv");
    child.stdin.take().expect("a pipe").write_all(input.as_bytes()).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", output.status);
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn what_pyjwt_signs_lets_its_user_in() {
    let made = python(&["make", ISSUER], "");
    let place = JwksServer::start(Manner::Serve(made["jwks"].to_string()));
    let mut config = config();
    config.auth.dev = false;
    config.jwt.jwks = vec![Jwks { url: place.url(), issuer: ISSUER.to_owned(), ..Jwks::default() }];
    let secret = made["secret"].as_str().expect("a secret");
    config.jwt.keys = vec![JwtKey { secret: Secret::new(secret), ..JwtKey::default() }];
    let server = TestServer::start(&config);
    server.wait_until("the keys are asked for", |counts| counts.of("jwks_fetches") == 1);
    let tokens = made["tokens"].as_array().expect("a list");
    assert_eq!(tokens.len(), JwtAlgorithm::NAMES.len());
    for made in tokens {
        let token = made["token"].as_str().expect("a token");
        let user = format!("user of {}", made["alg"].as_str().expect("a name"));
        assert_eq!(log_in_soon(&server, token), json!(user));
    }
    server.stop();
}

/// The keys may be on their way for the first of them.
fn log_in_soon(server: &TestServer, token: &str) -> Value {
    for _ in 0..100 {
        let mut client = Client::connect(server.address(), WS);
        client.send_json(&json!({"event": "authenticate", "data": {"token": token}}));
        let mut answer = client.recv_json();
        if answer["event"] == "connected" {
            return answer["data"]["userId"].take();
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("{token} is refused: {:?}", server.counts());
}

#[test]
fn what_is_signed_here_is_good_for_pyjwt() {
    let algorithms = JwtAlgorithm::NAMES.iter().map(|(_, algorithm, _)| *algorithm);
    let keys: Vec<_> = algorithms.map(|algorithm| IssuerKey::new(algorithm, "k")).collect();
    let given: Vec<_> = keys
        .iter()
        .map(|key| {
            let public = key.public.as_ref().unwrap_or(&key.private);
            json!({"alg": key.algorithm.name(), "key": public, "token": key.token(&json!({"sub": "u1"}))})
        })
        .collect();
    let said = python(&["check"], &json!(given).to_string());
    let said = said.as_array().expect("a list");
    assert!(said.len() == keys.len() && said.iter().all(|claims| claims["sub"] == "u1"), "{said:?}");
}
