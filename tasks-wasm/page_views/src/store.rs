//! Numbers in key-value storage, as `increment` keeps them: decimal digits.

use petiole::Error;

use bindings::wasi::keyvalue::{atomics, store};

mod bindings {
    wit_bindgen::generate!({ path: "../../wit/deps/keyvalue", world: "imports" });
}

pub(crate) use store::Bucket;

/// The longest key that a worker takes, in bytes.
const MAX_KEY: usize = 1024;

/// Fails for a key that can't be used, since the storage's error for it is the same as when it is down, and
/// retries would not help.
pub(crate) fn check(key: &str) -> Result<(), Error> {
    match key.len() {
        1..=MAX_KEY => Ok(()),
        size => Err(Error::fail(
            "ValueError",
            format!("a key of {size} bytes is longer than the limit of {MAX_KEY}"),
        )),
    }
}

/// The bucket that each module has of its own.
pub(crate) fn open() -> Result<Bucket, Error> {
    store::open("default").map_err(failed)
}

/// Adds to a number, which is 0 where there is none, and returns the sum.
pub(crate) fn add(bucket: &Bucket, key: &str, delta: u32) -> Result<u64, Error> {
    let sum = atomics::increment(bucket, key, delta.into()).map_err(failed)?;
    Ok(sum.try_into()?)
}

pub(crate) fn number(bucket: &Bucket, key: &str) -> Result<u64, Error> {
    match bucket.get(key).map_err(failed)? {
        Some(digits) => Ok(String::from_utf8(digits)?.parse()?),
        None => Ok(0),
    }
}

fn failed(error: store::Error) -> Error {
    match error {
        store::Error::NoSuchStore => Error::fail("KeyError", "there is no such bucket"),
        store::Error::AccessDenied => Error::fail("PermissionError", "the bucket is not granted"),
        store::Error::Other(reason) => Error::retry("StoreError", reason),
    }
}
