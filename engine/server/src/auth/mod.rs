//! Who may connect, and what they may do: from static tokens and JSON Web Tokens to room rules.

pub mod principal;

pub use principal::Principal;
