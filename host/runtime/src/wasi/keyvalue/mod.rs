//! `wasi:keyvalue`: a module's part of the key-value storage.

pub(crate) mod bindings;
pub(crate) mod interfaces;
mod resources;

use petiole_permits::{KeyValueError, MAX_BATCH_KEYS, MAX_BATCH_SIZE, MAX_KEY, MAX_VALUE, Swap};
use wasmtime::component::{Resource, ResourceTable};

use crate::granted::KeyValueSpace;
use crate::limits::exceeded::wide;
use crate::limits::meter::Meter;
use crate::wasi::keyvalue::bindings::wasi::keyvalue::store::{Error, KeyResponse};
use crate::wasi::keyvalue::resources::Cas;

/// The compare-and-swap operations that a call may have begun: the host keeps the value that each expects.
const MAX_SWAPS: usize = 16;
/// The answer where the storage is down: nothing about where it is.
const DOWN: &str = "the key-value storage can't be used at the moment";

/// The answer to a cursor that no page had.
const NO_CURSOR: &str = "no such cursor";

/// State of `wasi:keyvalue` in one call.
#[derive(Debug, Default)]
pub(crate) struct KeyValueState {
    swaps: usize,
    /// It was logged that the storage fails: once for a call.
    logged: bool,
}

/// The data of a host function of `wasi:keyvalue`.
pub(crate) struct KeyValueView<'a> {
    /// None for a task that is not granted it, in a module where another one is.
    pub(crate) space: Option<&'a KeyValueSpace>,
    pub(crate) state: &'a mut KeyValueState,
    pub(crate) meter: &'a Meter,
    pub(crate) table: &'a mut ResourceTable,
}

/// An operation that is not done: the guest has an error for an answer, or ends.
enum Refused {
    Answer(Error),
    Trap(wasmtime::Error),
}

fn refused(reason: impl Into<String>) -> Refused {
    Refused::Answer(Error::Other(reason.into()))
}

fn fits(value: &[u8]) -> Result<(), Refused> {
    match value.len() {
        0..=MAX_VALUE => Ok(()),
        size => Err(refused(format!(
            "a value of {size} bytes is larger than the limit of {MAX_VALUE}"
        ))),
    }
}

impl From<wasmtime::component::ResourceTableError> for Refused {
    fn from(error: wasmtime::component::ResourceTableError) -> Self {
        Self::Trap(error.into())
    }
}

impl<'a> KeyValueView<'a> {
    fn space(&self) -> Result<&'a KeyValueSpace, Refused> {
        self.space.ok_or(Refused::Answer(Error::AccessDenied))
    }

    /// The storage, and the whole key: whatever a guest's key is, it stands behind its module's prefix.
    fn at(&self, key: &str) -> Result<(&'a KeyValueSpace, String), Refused> {
        let space = self.space()?;
        match key.len() {
            0 => Err(refused("a key has at least one byte")),
            1..=MAX_KEY => Ok((space, format!("{}{key}", space.prefix))),
            size => Err(refused(format!(
                "a key of {size} bytes is longer than the limit of {MAX_KEY}"
            ))),
        }
    }

    fn at_many<'k>(
        &self,
        keys: impl ExactSizeIterator<Item = &'k String>,
    ) -> Result<(&'a KeyValueSpace, Vec<String>), Refused> {
        if keys.len() > MAX_BATCH_KEYS {
            return Err(refused(format!(
                "a batch of {} keys is larger than the limit of {MAX_BATCH_KEYS}",
                keys.len()
            )));
        }
        let keys = keys.map(|key| Ok(self.at(key)?.1));
        Ok((self.space()?, keys.collect::<Result<_, Refused>>()?))
    }

    /// Counts what will be stored.
    fn spend(&self, key: &str, value: &[u8]) -> Result<(), Refused> {
        fits(value)?;
        let bytes = wide(key.len()).saturating_add(wide(value.len()));
        let spent = self.meter.counts.disk(bytes);
        spent.map_err(|exceeded| Refused::Trap(exceeded.into()))?;
        self.meter.counts.sent(bytes);
        Ok(())
    }

    /// Counts what came from the storage.
    fn received(&self, texts: impl IntoIterator<Item: AsRef<[u8]>>) {
        let sizes = texts.into_iter().map(|text| wide(text.as_ref().len()));
        self.meter.counts.received(sizes.sum());
    }

    fn failed(&mut self, error: KeyValueError) -> Refused {
        match error {
            KeyValueError::TooLarge { .. } | KeyValueError::NotCountable => {
                refused(error.to_string())
            }
            KeyValueError::Cursor(_) => refused(NO_CURSOR),
            KeyValueError::Unreachable(ref source) | KeyValueError::Refused(ref source) => {
                if !std::mem::replace(&mut self.state.logged, true) {
                    tracing::warn!(%error, cause = %source, "a task can't use the key-value storage");
                }
                refused(DOWN)
            }
        }
    }

    /// Begins a compare-and-swap operation. Other programs may have stored larger values than a task may, and
    /// each is kept.
    fn begin(&mut self, cas: Cas) -> Result<Resource<Cas>, Refused> {
        cas.expected.as_deref().map_or(Ok(()), fits)?;
        if self.state.swaps >= MAX_SWAPS {
            return Err(refused(format!(
                "a task may have {MAX_SWAPS} compare-and-swap handles at once: drop some"
            )));
        }
        let cas = self.table.push(cas)?;
        self.state.swaps = self.state.swaps.saturating_add(1);
        Ok(cas)
    }

    fn end(&mut self, cas: Resource<Cas>) -> wasmtime::Result<Cas> {
        let cas = self.table.delete(cas)?;
        self.state.swaps = self.state.swaps.saturating_sub(1);
        Ok(cas)
    }

    async fn get(&mut self, key: &str) -> Result<Option<Vec<u8>>, Refused> {
        let (space, key) = self.at(key)?;
        self.get_whole(space, &key).await
    }

    /// `key`: prefix and all.
    async fn get_whole(
        &mut self,
        space: &KeyValueSpace,
        key: &str,
    ) -> Result<Option<Vec<u8>>, Refused> {
        let value = space.store.get(key).await;
        let value = value.map_err(|error| self.failed(error))?;
        self.received(&value);
        Ok(value)
    }

    async fn set(&mut self, key: &str, value: Vec<u8>) -> Result<(), Refused> {
        let (space, key) = self.at(key)?;
        self.spend(&key, &value)?;
        let set = space.store.set(&key, value).await;
        set.map_err(|error| self.failed(error))
    }

    async fn delete(&mut self, key: &str) -> Result<(), Refused> {
        let (space, key) = self.at(key)?;
        let deleted = space.store.delete(&key).await;
        deleted.map_err(|error| self.failed(error))
    }

    async fn exists(&mut self, key: &str) -> Result<bool, Refused> {
        let (space, key) = self.at(key)?;
        let exists = space.store.exists(&key).await;
        exists.map_err(|error| self.failed(error))
    }

    async fn list_keys(&mut self, cursor: Option<String>) -> Result<KeyResponse, Refused> {
        let space = self.space()?;
        // those that there are come from keys
        if cursor.as_ref().is_some_and(|cursor| cursor.len() > MAX_KEY) {
            return Err(refused(NO_CURSOR));
        }
        let listed = space
            .store
            .list_keys(&space.prefix, cursor.as_deref())
            .await;
        let page = listed.map_err(|error| self.failed(error))?;
        self.received(&page.keys);
        Ok(KeyResponse {
            keys: page.keys,
            cursor: page.cursor,
        })
    }

    async fn increment(&mut self, key: &str, delta: i64) -> Result<i64, Refused> {
        let (space, key) = self.at(key)?;
        self.spend(&key, &delta.to_le_bytes())?;
        let sum = space.store.increment(&key, delta).await;
        sum.map_err(|error| self.failed(error))
    }

    async fn get_many(
        &mut self,
        keys: Vec<String>,
    ) -> Result<Vec<Option<(String, Vec<u8>)>>, Refused> {
        let (space, whole) = self.at_many(keys.iter())?;
        let values = space.store.get_many(&whole).await;
        let values = values.map_err(|error| self.failed(error))?;
        self.received(values.iter().flatten());
        let pairs = keys.into_iter().zip(values);
        Ok(pairs
            .map(|(key, value)| value.map(|value| (key, value)))
            .collect())
    }

    async fn set_many(&mut self, pairs: Vec<(String, Vec<u8>)>) -> Result<(), Refused> {
        let (space, keys) = self.at_many(pairs.iter().map(|(key, _)| key))?;
        let size: usize = pairs.iter().map(|(_, value)| value.len()).sum();
        if size > MAX_BATCH_SIZE {
            return Err(refused(format!(
                "a batch of {size} bytes is larger than the limit of {MAX_BATCH_SIZE}"
            )));
        }
        let values: Vec<_> = keys
            .into_iter()
            .zip(pairs)
            .map(|(key, (_, value))| (key, value))
            .collect();
        for (key, value) in &values {
            self.spend(key, value)?;
        }
        let set = space.store.set_many(values).await;
        set.map_err(|error| self.failed(error))
    }

    async fn delete_many(&mut self, keys: Vec<String>) -> Result<(), Refused> {
        let (space, keys) = self.at_many(keys.iter())?;
        let deleted = space.store.delete_many(&keys).await;
        deleted.map_err(|error| self.failed(error))
    }

    /// The new handle where the key had another value than expected.
    async fn swap(&mut self, cas: Cas, value: Vec<u8>) -> Result<Option<Resource<Cas>>, Refused> {
        let space = self.space()?;
        self.spend(&cas.key, &value)?;
        let swapped = space
            .store
            .compare_and_swap(&cas.key, cas.expected.as_deref(), value)
            .await;
        match swapped.map_err(|error| self.failed(error))? {
            Swap::Done => Ok(None),
            Swap::Changed(expected) => {
                self.received(&expected);
                let key = cas.key;
                self.begin(Cas { key, expected }).map(Some)
            }
        }
    }
}
