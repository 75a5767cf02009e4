//! The topic dialect over real sockets and real Redis: what the protocol promises (`acceptance`), and what it means for
//! whoever operates it.

mod acceptance;
mod instances;
mod limits;
mod neighbours;
mod order;
mod sessions;
mod slow;
mod snapshots;
mod tenants;
