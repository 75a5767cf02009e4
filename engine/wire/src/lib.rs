//! Bytes to values and back. Pure: no I/O, no clock, no threads, no randomness.
//!
//! - [`frame`] RFC 6455 frame headers and whole frames; [`message`] fragments, UTF-8 and control rules;
//!   [`deflate`] permessage-deflate; [`close`] every close code we send; [`http`] request heads and the upgrade; [`date`] the two date texts.
//! - [`origin`] which pages may connect; [`forwarded`] and [`proxy`] for whom a proxy connects.
//! - [`json`] a validating scanner that yields spans, so that `data` is spliced and never re-serialised.
//! - One module a dialect: [`ignis`], [`topic`].
#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

pub mod close;
pub mod date;
pub mod deflate;
pub mod forwarded;
pub mod frame;
pub mod http;
pub mod ignis;
pub mod json;
pub mod message;
pub mod origin;
pub mod proxy;
pub mod topic;
