//! Before the request head: the PROXY protocol header of a listener that only proxies may connect to.
//!
//! Apart from the rest of the input, because what follows it may be TLS.

use shardcast_wire::proxy::{self, HEADER_BYTES_MAX};

use crate::conn::{Conn, HeadBuffer, Phase};
use crate::event::Now;
use crate::ids::ConnId;
use crate::shard::Shard;

impl Shard {
    /// Whether the next bytes of a connection are for [`Shard::handle_proxy_header`].
    pub fn awaits_proxy_header(&self, id: ConnId) -> bool {
        self.conns.get(id).is_some_and(|conn| conn.awaits_proxy_header && conn.phase == Phase::Head)
    }

    /// Bytes arrived before the PROXY header was complete. Returns how many were used; what follows is the
    /// connection's own: its TLS records, or bytes for [`Shard::handle_bytes`].
    pub fn handle_proxy_header(&mut self, now: Now, id: ConnId, input: &[u8]) -> usize {
        if !self.awaits_proxy_header(id) {
            return 0;
        }
        let conn = self.conns.get_mut(id).expect("just looked at");
        let mut bytes = conn.head.take().map(|head| head.bytes).unwrap_or_default();
        let kept = bytes.len();
        self.input_bytes -= kept;
        let taken = input.len().min(HEADER_BYTES_MAX - kept);
        bytes.extend_from_slice(&input[..taken]);
        match proxy::parse(&bytes) {
            Ok(Some(header)) => {
                self.counters.proxied += 1;
                let Conn { awaits_proxy_header, is_unnamed, address, .. } = conn;
                *awaits_proxy_header = false;
                *is_unnamed = header.source.is_none();
                *address = header.source.unwrap_or(*address);
                header.len - kept
            }
            Ok(None) => {
                self.input_bytes += bytes.len();
                conn.head = Some(Box::new(HeadBuffer { bytes, ..HeadBuffer::default() }));
                self.shed_input(now, id);
                input.len()
            }
            Err(_) => {
                self.counters.proxy_malformed += 1;
                self.drop_conn(id);
                input.len()
            }
        }
    }
}
