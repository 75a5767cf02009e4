//! The whole server over real sockets: what backends and clients see, on one shard and two, on io_uring and epoll,
//! alone and with others on one Redis.

mod api;
mod cluster;
mod compression;
mod crowd;
mod encryption;
mod hooks;
mod mount_ports;
mod rooms_by_name;
mod scenarios;
mod tls;
mod tokens;
mod topic_surroundings;
mod webhooks;
