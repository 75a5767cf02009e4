//! The generator against a server whose faults are known.

mod addresses;
mod connecting;
mod dialects;
mod fake;
mod faults;
mod generator;
mod judgement;
mod publishing;
mod trouble;
