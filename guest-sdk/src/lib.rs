//! Write [Celery](https://docs.celeryq.dev) tasks in Rust, which a Petiole worker runs as sandboxed
//! WebAssembly.
//!
//! ```
//! /// Adds up the squares of the numbers below `n`.
//! #[petiole::task]
//! fn sum_of_squares(n: u64) -> Result<u64, petiole::Error> {
//!     if n > 1_000_000 {
//!         return Err(petiole::Error::fail("ValueError", format!("n is {n}: at most 1000000")));
//!     }
//!     Ok((0..n).map(|i| i * i).sum())
//! }
//!
//! # fn main() {
//! assert_eq!(sum_of_squares(4), Ok(14)); // the function stays a function, so it can be tested
//! # }
//! ```
//!
//! The crate is a `cdylib`, built by `cargo build --release --target wasm32-wasip2`. Its component, pushed
//! as `my_app.tasks`, answers the Celery task `my_app.tasks.sum_of_squares`.
//!
//! - Arguments and results of a task: a [`Type`], derived for your own structs and enums.
//! - Its failure, or what it asks for instead of a result: [`Error`].
//! - Its request: [`context()`]. Its progress: [`progress()`]. Its log: [`log`], and anything printed.
//! - Sending other tasks: [`send`].
//! - Testing it: [`testing`], in an ordinary `cargo test`.

extern crate self as petiole;

#[doc(hidden)]
pub mod abi;
pub mod context;
mod error;
#[cfg(target_arch = "wasm32")]
mod host;
mod json;
pub mod log;
mod progress;
mod request;
mod send;
mod signature;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;

#[cfg(not(target_arch = "wasm32"))]
use testing as host;

pub use abi::Type;
pub use context::context;
pub use error::{Error, Failure, Reject, Retry, RetryAt};
pub use json::Json;
pub use progress::progress;
pub use request::Request;
pub use send::send;
pub use signature::Signature;

/// Gives a struct or enum a WIT type, so that tasks can take and return it.
///
/// A struct with named fields becomes a record, an enum whose cases hold nothing an enum, any other enum a
/// variant (each case holds one value or none). Names become kebab-case; `#[petiole(name = "...")]`
/// on the type sets its name, which has to be different from that of any other type of the component.
///
/// ```
/// #[derive(petiole::Type)]
/// struct Report {
///     rows: u64,
///     warnings: Vec<Warning>,
/// }
///
/// #[derive(petiole::Type)]
/// enum Warning {
///     EmptyColumn(String),
///     NoHeader,
/// }
/// ```
pub use petiole_macros::Type;

/// Makes a function a task: its name in kebab-case is what the component exports.
///
/// The types of its parameters and of its result are [`Type`]s; the result may be missing, or a
/// `Result<T, E>` whose `E` is [`Error`] or any other [`Type`]. The function's doc comment and the names of
/// its parameters are what `petiole tasks` shows. A function with exactly the parameters
/// `args: Vec<Json>` and `kwargs: Vec<(String, Json)>` takes whatever it is called with.
pub use petiole_macros::task;
