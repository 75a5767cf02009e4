//! A plain HTTP connection, kept alive: for the API, health and metrics.

use std::net::SocketAddr;

use serde_json::Value;

use crate::client::{Client, Response};

/// A connection for one request after the other.
#[derive(Debug)]
pub struct Http {
    client: Client,
    host: SocketAddr,
}

impl Http {
    /// Connects.
    ///
    /// # Panics
    /// When nothing listens there.
    pub fn connect(address: SocketAddr) -> Self {
        Self { client: Client::open(address), host: address }
    }

    /// Sends one request and reads its answer. `headers` are whole lines, each with its CRLF.
    ///
    /// # Panics
    /// When no well-formed answer arrives.
    pub fn request(&mut self, method: &str, path: &str, headers: &str, body: &str) -> Response {
        let request = request(self.host, method, path, headers, body);
        self.client.send_raw(request.as_bytes()).expect("sending a request");
        self.client.response()
    }

    /// `GET`.
    ///
    /// # Panics
    /// As [`Http::request`].
    pub fn get(&mut self, path: &str) -> Response {
        self.request("GET", path, "", "")
    }

    /// `POST /api/emit` with one or many messages.
    ///
    /// # Panics
    /// When the answer is not 200.
    pub fn emit(&mut self, messages: &Value) -> Value {
        let answer = self.request("POST", "/api/emit", "", &messages.to_string());
        assert_eq!(answer.status, 200, "{answer:?}");
        json(&answer)
    }

    /// The connection itself, for what no HTTP library sends.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }
}

/// The bytes of a request, with its `Host` and `Content-Length`.
pub fn request(host: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> String {
    let length = body.len();
    format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n{headers}\r\n{body}")
}

/// The body of an answer as JSON.
///
/// # Panics
/// When it is none.
pub fn json(answer: &Response) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("no JSON ({error}): {answer:?}"))
}
