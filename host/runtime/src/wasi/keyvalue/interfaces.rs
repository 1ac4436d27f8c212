//! The functions of `wasi:keyvalue`, by its interfaces.

use wasmtime::component::{HasData, Resource};

use crate::wasi::keyvalue::bindings::wasi::keyvalue::{atomics, batch, store};
use crate::wasi::keyvalue::resources::{Bucket, Cas};
use crate::wasi::keyvalue::{KeyValueView, Refused, fits};
use atomics::CasError;
use store::{Error, KeyResponse};

/// The names of the one bucket that there is.
const BUCKETS: [&str; 2] = ["default", ""];
pub(crate) struct HasKeyValue;

impl HasData for HasKeyValue {
    type Data<'a> = KeyValueView<'a>;
}

/// An answer to the guest; the outer error ends it.
type Answer<T> = wasmtime::Result<Result<T, Error>>;

fn answer<T>(done: Result<T, Refused>) -> Answer<T> {
    match done {
        Ok(value) => Ok(Ok(value)),
        Err(Refused::Answer(error)) => Ok(Err(error)),
        Err(Refused::Trap(error)) => Err(error),
    }
}

impl store::Host for KeyValueView<'_> {
    async fn open(&mut self, identifier: String) -> Answer<Resource<Bucket>> {
        answer(if !BUCKETS.contains(&identifier.as_str()) {
            Err(Refused::Answer(Error::NoSuchStore))
        } else {
            self.space().and_then(|_| Ok(self.table.push(Bucket)?))
        })
    }
}

impl store::HostBucket for KeyValueView<'_> {
    async fn get(&mut self, _: Resource<Bucket>, key: String) -> Answer<Option<Vec<u8>>> {
        answer(self.get(&key).await)
    }

    async fn set(&mut self, _: Resource<Bucket>, key: String, value: Vec<u8>) -> Answer<()> {
        answer(self.set(&key, value).await)
    }

    async fn delete(&mut self, _: Resource<Bucket>, key: String) -> Answer<()> {
        answer(self.delete(&key).await)
    }

    async fn exists(&mut self, _: Resource<Bucket>, key: String) -> Answer<bool> {
        answer(self.exists(&key).await)
    }

    async fn list_keys(
        &mut self,
        _: Resource<Bucket>,
        cursor: Option<String>,
    ) -> Answer<KeyResponse> {
        answer(self.list_keys(cursor).await)
    }

    async fn drop(&mut self, bucket: Resource<Bucket>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for KeyValueView<'_> {
    async fn increment(&mut self, _: Resource<Bucket>, key: String, delta: i64) -> Answer<i64> {
        answer(self.increment(&key, delta).await)
    }

    async fn swap(
        &mut self,
        cas: Resource<Cas>,
        value: Vec<u8>,
    ) -> wasmtime::Result<Result<(), CasError>> {
        let cas = self.end(cas)?;
        match self.swap(cas, value).await {
            Ok(None) => Ok(Ok(())),
            Ok(Some(cas)) => Ok(Err(CasError::CasFailed(cas))),
            Err(Refused::Answer(error)) => Ok(Err(CasError::StoreError(error))),
            Err(Refused::Trap(error)) => Err(error),
        }
    }
}

impl atomics::HostCas for KeyValueView<'_> {
    async fn new(&mut self, _: Resource<Bucket>, key: String) -> Answer<Resource<Cas>> {
        let expected = match self.get(&key).await {
            Ok(expected) => expected,
            Err(failure) => return answer(Err(failure)),
        };
        let begun = self
            .at(&key)
            .and_then(|(_, key)| self.begin(Cas { key, expected }));
        answer(begun)
    }

    /// Read anew: from here on the swap expects what the guest sees.
    async fn current(&mut self, cas: Resource<Cas>) -> Answer<Option<Vec<u8>>> {
        let key = self.table.get(&cas)?.key.clone();
        let current = match self.space() {
            Ok(space) => self.get_whole(space, &key).await,
            Err(failure) => Err(failure),
        };
        let current = current.and_then(|current| {
            current.as_deref().map_or(Ok(()), fits)?;
            self.table.get_mut(&cas)?.expected.clone_from(&current);
            Ok(current)
        });
        answer(current)
    }

    async fn drop(&mut self, cas: Resource<Cas>) -> wasmtime::Result<()> {
        self.end(cas).map(drop)
    }
}

impl batch::Host for KeyValueView<'_> {
    async fn get_many(
        &mut self,
        _: Resource<Bucket>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        answer(self.get_many(keys).await)
    }

    async fn set_many(&mut self, _: Resource<Bucket>, pairs: Vec<(String, Vec<u8>)>) -> Answer<()> {
        answer(self.set_many(pairs).await)
    }

    async fn delete_many(&mut self, _: Resource<Bucket>, keys: Vec<String>) -> Answer<()> {
        answer(self.delete_many(keys).await)
    }
}
