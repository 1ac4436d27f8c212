//! Admission: tokens, rates, and places for what takes memory.

mod access;
mod peer;
mod places;
mod rate;

pub use access::{Scope, TokenEntry, generate_token};
pub(crate) use access::{Token, Tokens, needed};
pub(crate) use peer::{Peer, network};
pub(crate) use places::{Place, Places};
pub(crate) use rate::Rates;
