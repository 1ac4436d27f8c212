//! Values there and back: case by case, on random types, and through guests.

mod canonical;
mod properties;
mod tables;
pub(crate) mod types;
