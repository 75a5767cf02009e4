//! Who may connect, and what they may do: from static tokens and JSON Web Tokens to room rules.
//!
//! `key` and `jwk` say what is a key, `jwks` fetches keys, `jwt` finds the one a token is signed with, `claims` reads
//! what it says, `cache` remembers it; what comes out is a [`Principal`], and `rules` says which rooms it may join.

pub mod cache;
pub mod claims;
pub mod jwk;
pub mod jwks;
pub mod jwt;
pub mod key;
pub mod principal;
pub mod rules;
pub mod signing;
#[cfg(test)]
mod tests;

pub use principal::Principal;
