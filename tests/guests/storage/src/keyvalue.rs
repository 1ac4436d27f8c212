//! Key-value storage. Values are texts here.

use bindings::wasi::keyvalue::{atomics, batch, store};

use atomics::{Cas, CasError};
use store::{Bucket, Error};

mod bindings {
    wit_bindgen::generate!({ path: "../../../wit/deps/keyvalue", world: "imports" });
}

fn bucket() -> Result<Bucket, String> {
    store::open("default").map_err(text)
}

#[petiole::task]
fn kv_open(identifier: String) -> Result<(), String> {
    store::open(&identifier).map(drop).map_err(text)
}

#[petiole::task]
fn kv_get(key: String) -> Result<Option<String>, String> {
    Ok(bucket()?.get(&key).map_err(text)?.map(value))
}

#[petiole::task]
fn kv_set(key: String, value: String) -> Result<(), String> {
    bucket()?.set(&key, value.as_bytes()).map_err(text)
}

#[petiole::task]
fn kv_delete(key: String) -> Result<(), String> {
    bucket()?.delete(&key).map_err(text)
}

#[petiole::task]
fn kv_exists(key: String) -> Result<bool, String> {
    bucket()?.exists(&key).map_err(text)
}

/// One page: its keys, sorted, and the cursor of the next.
#[petiole::task]
fn kv_list(cursor: Option<String>) -> Result<(Vec<String>, Option<String>), String> {
    let mut page = bucket()?.list_keys(cursor.as_deref()).map_err(text)?;
    page.keys.sort();
    Ok((page.keys, page.cursor))
}

#[petiole::task]
fn kv_increment(key: String, delta: i64) -> Result<i64, String> {
    atomics::increment(&bucket()?, &key, delta).map_err(text)
}

/// Sets several, reads several, deletes several.
#[petiole::task]
fn kv_batch(
    set: Vec<(String, String)>,
    get: Vec<String>,
    delete: Vec<String>,
) -> Result<Vec<Option<(String, String)>>, String> {
    let bucket = bucket()?;
    let set: Vec<_> = set
        .into_iter()
        .map(|(key, value)| (key, value.into_bytes()))
        .collect();
    batch::set_many(&bucket, &set).map_err(text)?;
    let found = batch::get_many(&bucket, &get).map_err(text)?;
    batch::delete_many(&bucket, &delete).map_err(text)?;
    Ok(found
        .into_iter()
        .map(|pair| pair.map(|(key, bytes)| (key, value(bytes))))
        .collect())
}

/// Begins a swap, sets the key to `meanwhile` by another way, and swaps: until it is done. Returns what each
/// attempt saw.
#[petiole::task]
fn kv_swap(
    key: String,
    meanwhile: Vec<String>,
    last: String,
) -> Result<Vec<Option<String>>, String> {
    let bucket = bucket()?;
    let mut meanwhile = meanwhile.into_iter();
    let mut seen = Vec::new();
    let mut cas = Cas::new(&bucket, &key).map_err(text)?;
    loop {
        seen.push(cas.current().map_err(text)?.map(value));
        if let Some(other) = meanwhile.next() {
            bucket.set(&key, other.as_bytes()).map_err(text)?;
        }
        match atomics::swap(cas, last.as_bytes()) {
            Ok(()) => return Ok(seen),
            Err(CasError::CasFailed(again)) => cas = again,
            Err(CasError::StoreError(error)) => return Err(text(error)),
        }
    }
}

/// Begins this many swaps, and keeps them.
#[petiole::task]
fn kv_keep_swaps(count: u32) -> Result<u32, String> {
    let bucket = bucket()?;
    let mut kept = Vec::new();
    for n in 0..count {
        let begun = Cas::new(&bucket, "key");
        kept.push(begun.map_err(|error| format!("{n}, then {}", text(error)))?);
    }
    Ok(count)
}

/// Sets values of this many bytes, each under a key of its own.
#[petiole::task]
fn kv_fill(count: u32, bytes: u32) -> Result<u32, String> {
    let bucket = bucket()?;
    let value = vec![b'x'; bytes as usize];
    for n in 0..count {
        bucket.set(&format!("key {n}"), &value).map_err(text)?;
    }
    Ok(count)
}

/// Reads this many keys of that length at once, which are not there.
#[petiole::task]
fn kv_get_missing(count: u32, length: u32) -> Result<u32, String> {
    let keys = vec!["k".repeat(length as usize); count as usize];
    let found = batch::get_many(&bucket()?, &keys).map_err(text)?;
    Ok(found.len() as u32)
}

fn value(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|_| "not a text".to_owned())
}

fn text(error: Error) -> String {
    match error {
        Error::NoSuchStore => "no-such-store".to_owned(),
        Error::AccessDenied => "access-denied".to_owned(),
        Error::Other(reason) => reason,
    }
}
