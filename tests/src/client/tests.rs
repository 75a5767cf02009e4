//! The client against tungstenite, whose codec is neither the client's nor the server's, and against raw bytes.

use std::net::{Ipv4Addr, TcpListener};
use std::thread::{self, JoinHandle};

use tungstenite::protocol::{CloseFrame, WebSocket};
use tungstenite::{Message, accept};

use super::*;

/// Serves one connection on a free port.
fn serve<T: Send + 'static>(
    handler: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listener");
    let address = listener.local_addr().expect("its address");
    (address, thread::spawn(move || handler(listener.accept().expect("a connection").0)))
}

fn serve_websocket<T: Send + 'static>(
    handler: impl FnOnce(&mut WebSocket<TcpStream>) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    serve(|stream| handler(&mut accept(stream).expect("an upgrade")))
}

/// A client whose server sent `bytes` and then FIN, without any handshake.
fn client_of(bytes: &'static [u8]) -> Client {
    let (address, server) = serve(move |mut stream| stream.write_all(bytes).expect("sending"));
    let client = Client::open(address);
    server.join().expect("the server thread");
    client
}

#[test]
fn messages_of_every_length_class_arrive_as_sent() {
    let lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 200_000];
    let (address, server) = serve_websocket(move |socket| {
        for _ in 0..2 * lengths.len() {
            let message = socket.read().expect("a message");
            socket.send(message).expect("an echo");
        }
    });
    let mut client = Client::connect(address, "/any?query");
    for length in lengths {
        let text = "x".repeat(length);
        client.send_text(&text);
        assert_eq!(client.recv(), Received::Text(text));
        let bytes: Vec<u8> = (0..length).map(|index| index.to_le_bytes()[0]).collect();
        client.send_binary(&bytes);
        assert_eq!(client.recv(), Received::Binary(bytes));
    }
    server.join().expect("the server thread");
    assert_eq!(client.recv(), Received::Eof);
}

#[test]
fn control_frames_are_shown_and_never_answered() {
    let (address, server) = serve_websocket(|socket| {
        socket.send(Message::Ping("p".into())).expect("a ping");
        let ping = socket.read().expect("the client's ping");
        assert_eq!(ping, Message::Ping("q".into()));
        socket.flush().expect("the pong");
        let code = 4003.into();
        socket.close(Some(CloseFrame { code, reason: "Authentication failed".into() })).expect("a close");
        socket.read().expect("the client's close")
    });
    let mut client = Client::connect(address, "/");
    assert_eq!(client.recv(), Received::Ping(b"p".to_vec()));
    client.send_ping(b"q");
    assert_eq!(client.recv(), Received::Pong(b"q".to_vec()));
    assert_eq!(client.recv(), Received::Close(Some(4003), "Authentication failed".to_owned()));
    client.send_close(4003, "bye");
    let Message::Close(Some(close)) = server.join().expect("the server thread") else {
        panic!("no close frame with a code");
    };
    assert_eq!((u16::from(close.code), close.reason.as_str()), (4003, "bye"));
    assert_eq!(client.recv(), Received::Eof);
}

#[test]
fn any_frame_can_be_sent_raw() {
    let (address, server) = serve_websocket(|socket| socket.read().expect("a message"));
    let mut client = Client::connect(address, "/");
    client.send_raw(&masked_frame(opcode::TEXT, b"in ")).expect("sending");
    client.send_raw(&masked_frame(FIN | opcode::PONG, b"")).expect("sending");
    client.send_raw(&masked_frame(FIN | opcode::CONTINUATION, b"pieces")).expect("sending");
    let first = server.join().expect("the server thread");
    assert!(matches!(first, Message::Pong(_)), "{first:?}");
}

#[test]
fn a_refused_upgrade_shows_status_headers_and_body() {
    let mut client =
        client_of(b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain\r\ncontent-length: 4\r\n\r\nnope");
    let response = client.response();
    assert_eq!((response.status, response.body.as_slice()), (404, &b"nope"[..]));
    assert_eq!(response.header("content-type"), Some("text/plain"));
    assert_eq!(response.header("X-Other"), None);
    assert_eq!(client.recv(), Received::Eof);
}

#[test]
fn frames_in_one_segment_are_taken_one_by_one() {
    let mut client = client_of(b"\x81\x01a\x82\x00\x88\x00\x8a\x01z");
    assert_eq!(client.recv(), Received::Text("a".to_owned()));
    assert_eq!(client.recv(), Received::Binary(Vec::new()));
    assert_eq!(client.recv(), Received::Close(None, String::new()));
    assert_eq!(client.recv(), Received::Pong(b"z".to_vec()));
    assert_eq!(client.recv(), Received::Eof);
}

#[test]
fn an_end_inside_a_frame_is_a_cut() {
    assert_eq!(client_of(b"\x81\x05abc").recv(), Received::Cut);
    assert_eq!(client_of(b"\x81").recv(), Received::Cut);
}

#[test]
fn a_quiet_server_is_a_timeout_and_loses_nothing() {
    let (address, server) = serve(|mut stream| {
        stream.write_all(b"\x81\x02a").expect("sending");
        stream.read_exact(&mut [0]).expect("the go-ahead");
        stream.write_all(b"b").expect("sending");
    });
    let mut client = Client::open(address);
    assert_eq!(client.recv_within(Duration::from_millis(20)), Received::Timeout);
    client.send_raw(b"!").expect("sending");
    assert_eq!(client.recv(), Received::Text("ab".to_owned()));
    server.join().expect("the server thread");
}

#[test]
fn a_fence_keeps_what_came_before_it() {
    let (address, server) = serve_websocket(|socket| {
        socket.send(Message::text("before")).expect("sending");
        assert_eq!(socket.read().expect("the fence"), Message::text(NOT_JSON));
        socket.send(Message::text(NOT_JSON_ANSWER)).expect("sending");
        socket.send(Message::text("after")).expect("sending");
    });
    let mut client = Client::connect(address, "/");
    client.fence();
    assert_eq!(client.take_pending(), [Received::Text("before".to_owned())]);
    assert_eq!(client.recv(), Received::Text("after".to_owned()));
    server.join().expect("the server thread");
}

#[test]
fn a_compressed_frame_is_readable_as_a_frame() {
    let frame = client_of(b"\xc1\x01\x00").frame_within(REPLY_WITHIN);
    assert_eq!(frame, Ok(Frame { first_byte: 0xc1, payload: vec![0] }));
}

/// What no server may send, and a part of the complaint.
const FORBIDDEN: [(&[u8], &str); 8] = [
    (b"\x01\x01a", "fragmented"),
    (b"\xc1\x01a", "reserved bit"),
    (b"\x83\x00", "opcode 0x3"),
    (b"\x80\x00", "opcode 0x0"),
    (b"\x81\x81\x00\x00\x00\x00a", "masked"),
    (b"\x81\x7e\x00\x01a", "shortest form"),
    (b"\x88\x01a", "close frame of one byte"),
    (b"\x81\x01\xff", "UTF-8"),
];

#[test]
fn what_no_server_may_send_is_refused() {
    for (bytes, complaint) in FORBIDDEN {
        let mut client = client_of(bytes);
        let panic = thread::spawn(move || client.recv()).join().expect_err("a panic");
        let said = match panic.downcast_ref::<&str>() {
            Some(said) => said,
            None => panic.downcast_ref::<String>().expect("a panic message").as_str(),
        };
        assert!(said.contains(complaint), "{bytes:?}: {said}");
    }
}
