//! The control plane over real loopback sockets, with mailboxes but no shards behind it.

mod admin;
mod api;
mod connections;
mod metrics;
mod plane;
