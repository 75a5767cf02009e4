//! Ports on which one mount answers alone.

use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use shardcast::config::{Config, Dialect, Mount, ProxyProtocol};
use shardcast_tests::client::{Client, Received};
use shardcast_tests::http::Http;
use shardcast_tests::server::{ECHO, TestServer, WS, config, with_echo};
use shardcast_wire::origin::OriginPattern;

/// An echo mount with a port of its own, beside Ignis.
fn with_port(change: impl FnOnce(&mut Config)) -> TestServer {
    let mut config = with_echo(config());
    config.mounts[1].listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    change(&mut config);
    TestServer::start(&config)
}

fn expect_echo(client: &mut Client) {
    client.send_text("over");
    assert_eq!(client.recv(), Received::Text("over".to_owned()));
}

#[test]
fn a_mount_answers_on_its_own_port_at_its_path_and_at_the_root_and_no_other_does() {
    let server = with_port(|_| ());
    let port = server.mount_address();
    assert_ne!(port, server.address());
    let before = server.counts();
    for path in [ECHO, "/", "/?a=b", "/echo?token=x"] {
        let mut client = Client::connect(port, path);
        expect_echo(&mut client);
        client.leave();
    }
    // On the port of all it is where it was, and nowhere else.
    let mut client = Client::connect(server.address(), ECHO);
    expect_echo(&mut client);
    client.leave();
    assert_eq!(Client::open(server.address()).upgrade("/", "").status, 404);
    server.expect_incidents("good", &before, &[]);

    for path in [WS, "/nowhere"] {
        let answer = Client::open(port).upgrade(path, "");
        assert_eq!((answer.status, answer.header("connection")), (404, Some("close")), "{path}");
    }
    for request in ["GET / ", "GET /echo ", "POST /api/emit ", "GET /api/rooms "] {
        let mut client = Client::open(port);
        let request = format!("{request}HTTP/1.1\r\nHost: a\r\n\r\n");
        client.send_raw(request.as_bytes()).expect("sent");
        let answer = client.response();
        assert_eq!((answer.status, answer.header("upgrade")), (426, Some("websocket")), "{request}");
        assert_eq!(String::from_utf8_lossy(&answer.body), "Upgrade Required", "{request}");
        assert_eq!(client.recv(), Received::Eof);
    }
    let refused = [("refused_heads.not_upgrade", 4), ("refused_heads.upgrade_path", 2)];
    server.expect_incidents("bad", &before, &refused);
    assert_eq!(Http::connect(server.address()).get("/api/rooms").status, 200);
    server.expect_empty("everybody left");
}

#[test]
fn what_applies_to_connections_applies_on_such_a_port_as_well() {
    let proxied = |config: &mut Config| {
        config.server.proxy_protocol = ProxyProtocol::Required;
        config.server.trusted_proxies = vec!["127.0.0.0/8".parse().expect("a network")];
        config.limits.connections_per_address_max = Some(1);
        config.mounts[1].origins = vec![OriginPattern::parse("https://a.example").expect("an origin")];
    };
    let server = with_port(proxied);
    let open = |source: &str| {
        let mut client = Client::open(server.mount_address());
        let header = format!("PROXY TCP4 {source} 192.0.2.1 1 80\r\n");
        client.send_raw(header.as_bytes()).expect("sent");
        client
    };
    let mut first = open("203.0.113.7");
    assert_eq!(first.upgrade("/", "Origin: https://a.example\r\n").status, 101);
    expect_echo(&mut first);
    assert_eq!(open("203.0.113.8").upgrade("/", "Origin: https://b.example\r\n").status, 403);
    assert_eq!(open("203.0.113.7").upgrade("/", "").status, 429);
    first.leave();
    server.drain();
    server.stop();
}

#[test]
fn a_port_that_is_taken_is_named_by_its_key() {
    let first = with_port(|_| ());
    let mut config = config();
    config.mounts.push(Mount { listen: vec![first.mount_address()], ..Mount::for_dialect(Dialect::Topic) });
    let rules = shardcast::application::Application::new(&config).expect("rules");
    let Err(error) = shardcast::threads::Server::start(&config, rules.hooks()) else { panic!("it is taken") };
    let error = error.to_string();
    assert!(error.contains("(mounts.listen)") && error.contains("another process listens there"), "{error}");
    TcpStream::connect(first.mount_address()).expect("the first still listens");
}
