//! End-to-end, conformance and simulation tests, and the harness they share.
//!
//! The harness owns every process, port and folder a test uses: each is a value whose drop ends it, by process id
//! and on loopback only. Its functions panic on any surprise, naming what happened and what to do, so that a test
//! reads as the scenario alone.

pub mod application;
pub mod binary;
pub mod bun;
pub mod bystander;
pub mod client;
pub mod conformance;
pub mod cost;
pub mod deflate;
pub mod fuzz;
pub mod http;
pub mod jwks;
pub mod ports;
pub mod process;
pub mod redis;
pub mod scenarios;
pub mod script;
pub mod secret;
pub mod server;
pub mod sim;
pub mod tls;
pub mod topic;
