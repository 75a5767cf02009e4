//! Holds the recorder's observations against ours.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::backpressure::Flood;
use super::flow::{Checked, Difference, Flow};
use super::poll;
use crate::client::Received;

/// Observations of the inside of the recorded server, or of the recorder's own doing, that have no counterpart.
const NOT_COMPARED: &[&str] = &[
    "ctl",
    "stillUpAfterCut",
    "afterShutdown",
    "lastActivityMovedByHeartbeat",
    "lastActivityMovedByPing",
    "lastActivityMovedByInvalidJson",
    "observation",
    "state",
    "event",
    "fields",
];

impl Flow<'_> {
    /// Checks a note.
    pub(super) fn note(&mut self, note: &Value) -> Checked {
        let Some(fields) = note.as_object() else {
            // A remark of the recorder.
            return Ok(());
        };
        let has = |key: &str| fields.contains_key(key);
        if let Some(callbacks) = note["serverCallbacks"].as_array() {
            return self.callbacks(callbacks);
        }
        if let Some(clients) = note["clients"].as_array() {
            return self.clients(clients);
        }
        if let Some(ids) = note["serverIds"].as_array() {
            for (server, id) in ids.iter().enumerate() {
                let ours = self.target.server_id(server);
                self.bindings.bind(id.as_str().expect("ids are text"), &ours);
            }
            return Ok(());
        }
        if let Some(id) = note["unauthenticatedClientId"].as_str() {
            return self.learn_id(id);
        }
        if has("sendReturnHistogram") {
            self.flood = Some(Flood::run(self)?);
            return Ok(());
        }
        if has("received") {
            let flood = self.flood.as_ref().expect("the flood comes first");
            return flood.expect(note);
        }
        if let Some(key) = note["aesKey_b64"].as_str() {
            self.secrets.note_key(key);
            return Ok(());
        }
        if let Some(message) = note.get("decrypted").or_else(|| note.get("decryptedErrorEvent")) {
            let same = self.secrets.heard(message);
            return same
                .then_some(())
                .ok_or_else(|| Difference::new(format!("to have heard {message}"), "another"));
        }
        if has("head") {
            // Repeats the response of the line before.
            return Ok(());
        }
        if has("refusesConnections") {
            return self.refuses_connections();
        }
        if has("reply") {
            return self.reply(&note["reply"]);
        }
        if has("secondsAlive") {
            return self.alive(note);
        }
        if has("offenderClosed") {
            let labels: Vec<String> = self.conns.keys().cloned().collect();
            return labels.iter().try_for_each(|label| self.expect_open(label));
        }
        if let Some(closed) = note.get("closed").or_else(|| note.get("closedByServer")) {
            let label = note["label"].as_str().map_or_else(|| self.last_conn.clone(), str::to_owned);
            return self.closed(&label, closed, &note["closeFrame"]);
        }
        if has("aClosed") {
            for (key, frame) in fields {
                let label = key.strip_suffix("Closed").unwrap_or(key).to_uppercase();
                self.closed(&label, &json!(*frame != false), frame)?;
            }
            return Ok(());
        }
        match fields.keys().find(|key| !NOT_COMPARED.contains(&key.as_str())) {
            None => Ok(()),
            Some(key) => Err(Difference::new("a note that the runner understands", key)),
        }
    }

    /// Ends every connection and compares what the application was asked: for each client in order, and
    /// authentications in order.
    fn callbacks(&mut self, recorded: &[Value]) -> Checked {
        self.expect_nothing_more()?;
        self.conns.clear();
        let recorded = recorded.iter().filter(|entry| entry["cb"] != "sendcb" && entry["cb"] != "handshake");
        let recorded: Vec<Value> = recorded.map(|entry| self.bindings.apply_to_json(entry)).collect();
        let expected = self.grouped(&recorded);
        if self.target.asked().is_none() {
            return Ok(());
        }
        let same = poll(|| (self.grouped(&self.target.asked()?) == expected).then_some(()));
        same.ok_or_else(|| {
            let got = self.target.asked().map(|asked| self.grouped(&asked));
            Difference::new(format!("the application to be asked {expected:?}"), got)
        })
    }

    /// Entries by client. Clients that were never told their id are one group.
    fn grouped(&self, entries: &[Value]) -> BTreeMap<String, Vec<Value>> {
        let mut groups: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for entry in entries {
            let mut entry = entry.clone();
            let id = entry.as_object_mut().and_then(|fields| fields.remove("clientId"));
            let group = match id.as_ref().and_then(Value::as_str) {
                None => "authentications",
                Some(id) if self.bindings.knows(id) => id,
                Some(_) => "untold",
            };
            groups.entry(group.to_owned()).or_default().push(entry);
        }
        groups
    }

    /// Id, user and rooms of the recorded clients; without any, those that were there are gone.
    fn clients(&mut self, recorded: &[Value]) -> Checked {
        for client in recorded {
            let client = self.bindings.apply_to_json(client);
            let id = client["id"].as_str().expect("clients have ids");
            let mut expected = json!({"id": id, "rooms": client["rooms"]});
            if let Some(user) = client.get("userId") {
                expected["userId"] = user.clone();
            }
            let got = self.target.client(id);
            if got.as_ref() != Some(&expected) {
                return Err(Difference::new(format!("the client {expected}"), got));
            }
        }
        if !recorded.is_empty() {
            return Ok(());
        }
        for id in self.bindings.all() {
            let is_gone = poll(|| self.target.client(&id).is_none().then_some(()));
            is_gone.ok_or_else(|| Difference::new("no client to be left", &id))?;
        }
        Ok(())
    }

    fn learn_id(&mut self, recorded: &str) -> Checked {
        let id = poll(|| self.target.last_authenticating());
        let id = id.ok_or_else(|| Difference::new("a client that authenticates", "none"))?;
        self.bindings.bind(recorded, &id);
        Ok(())
    }

    fn refuses_connections(&mut self) -> Checked {
        let address = self.target.address(0);
        match std::net::TcpStream::connect(address) {
            Err(_) => Ok(()),
            Ok(_) => Err(Difference::new("new connections to be refused", "one was accepted")),
        }
    }

    /// A message of which only the length and the beginning were kept.
    fn reply(&mut self, reply: &Value) -> Checked {
        let conn = Self::conn(&mut self.conns, &self.last_conn)?;
        conn.text_count += 1;
        match conn.client.recv() {
            Received::Text(text)
                if reply["length"] == text.len()
                    && text.starts_with(reply["head"].as_str().unwrap_or("?")) =>
            {
                Ok(())
            }
            got => {
                let mut got = format!("{got:?}");
                got.truncate(200);
                Err(Difference::new(format!("the reply {reply}"), got))
            }
        }
    }

    /// The state of an idle flow at its end. A connection that is open was silent until now.
    fn alive(&mut self, note: &Value) -> Checked {
        let closed = note.get("closed").cloned().unwrap_or_else(|| json!(!note["closeFrame"].is_null()));
        let label = self.conns.keys().next().cloned().unwrap_or_default();
        self.closed(&label, &closed, &note["closeFrame"])?;
        let conn = Self::conn(&mut self.conns, &label)?;
        let counted = |kind: &str| note["counts"][kind].as_u64().unwrap_or_default();
        if (conn.text_count, conn.ping_count) == (counted("text"), counted("ping")) {
            return Ok(());
        }
        let got = format!("{} texts, {} pings", conn.text_count, conn.ping_count);
        Err(Difference::new(format!("these counts: {}", note["counts"]), got))
    }

    /// Whether a connection ended, and with which close frame.
    fn closed(&mut self, label: &str, closed: &Value, frame: &Value) -> Checked {
        if *closed == false {
            return self.expect_open(label);
        }
        let conn = Self::conn(&mut self.conns, label)?;
        let got = conn.close_frame.as_ref().map(|(code, reason)| json!({"code": code, "reason": reason}));
        if conn.ended && got.clone().unwrap_or_default() == *frame {
            return Ok(());
        }
        Err(Difference::new(format!("{label} to have been closed with {frame}"), (conn.ended, got)))
    }
}
