use std::error::Error;
use std::fmt::Debug;

use async_trait::async_trait;

/// The longest key that a task may use, in bytes; its module's prefix comes on top.
pub const MAX_KEY: usize = 1024;
/// The largest value, in bytes.
pub const MAX_VALUE: usize = 1024 * 1024;
/// The keys of one batch.
pub const MAX_BATCH_KEYS: usize = 1000;
/// The values of one batch together, in bytes.
pub const MAX_BATCH_SIZE: usize = 8 * 1024 * 1024;
/// The keys of one page of [`KeyValue::list_keys`]. Redis may give a few more.
pub const PAGE: usize = 1000;

/// Storage for values that tasks keep between runs: `wasi:keyvalue`. Keys are whole, prefix and all, and any text is
/// one; values are any bytes.
///
/// Every function answers within a time that the implementation names. Who calls sees to the sizes of what
/// is stored and to the number of keys; implementations see to the sizes of what they return.
#[async_trait]
pub trait KeyValue: Send + Sync + Debug {
    /// The values of keys, in their order; none where there is none.
    ///
    /// # Errors
    /// [`KeyValueError::TooLarge`] where they are more than [`MAX_BATCH_SIZE`] together.
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, KeyValueError>;

    /// Sets each key to its value; of a key that is there twice, to the last one.
    ///
    /// # Errors
    /// When the store fails; some may be set then.
    async fn set_many(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), KeyValueError>;

    /// Deletes keys; that there is none is no error.
    ///
    /// # Errors
    /// When the store fails; some may be deleted then.
    async fn delete_many(&self, keys: &[String]) -> Result<(), KeyValueError>;

    /// True if there is such a key.
    ///
    /// # Errors
    /// When the store fails.
    async fn exists(&self, key: &str) -> Result<bool, KeyValueError>;

    /// Keys that begin with `prefix`, each without it, in no order: the page after `cursor`, or the first
    /// one. A key that is there all the time is on some page; one may be on two.
    ///
    /// # Errors
    /// [`KeyValueError::Cursor`] for a cursor that none of its pages had.
    async fn list_keys(&self, prefix: &str, cursor: Option<&str>) -> Result<Keys, KeyValueError>;

    /// Adds to a number, kept as decimal digits; where there is none, to 0. Returns the sum. Two that add at
    /// once both count.
    ///
    /// # Errors
    /// [`KeyValueError::NotCountable`] where the value is no 64-bit number, or the sum would be none.
    async fn increment(&self, key: &str, delta: i64) -> Result<i64, KeyValueError>;

    /// Sets a key to `value` if it still has the value `expected`, none for no such key; at once, so that of
    /// two with the same expectation one gets the other's value back.
    ///
    /// # Errors
    /// [`KeyValueError::TooLarge`] where what is there instead is more than [`MAX_BATCH_SIZE`].
    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Vec<u8>,
    ) -> Result<Swap, KeyValueError>;

    /// The value of a key; none where there is none.
    ///
    /// # Errors
    /// [`KeyValueError::TooLarge`] where it is more than [`MAX_BATCH_SIZE`].
    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        let values = self.get_many(&[key.to_owned()]).await?;
        Ok(values.into_iter().next().flatten())
    }

    /// Sets a key to a value.
    ///
    /// # Errors
    /// When the store fails.
    async fn set(&self, key: &str, value: Vec<u8>) -> Result<(), KeyValueError> {
        self.set_many(vec![(key.to_owned(), value)]).await
    }

    /// Deletes a key; that there is none is no error.
    ///
    /// # Errors
    /// When the store fails.
    async fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.delete_many(&[key.to_owned()]).await
    }
}

/// A page of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    /// Without their prefix; may be empty although more follow.
    pub keys: Vec<String>,
    /// The start of the next page; none after the last one.
    pub cursor: Option<String>,
}

/// The outcome of a [`KeyValue::compare_and_swap`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// The key has the new value.
    Done,
    /// The key has this value, not the one that was expected; none for no such key.
    Changed(Option<Vec<u8>>),
}

/// The storage did not do what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum KeyValueError {
    /// No answer in time, or no connection; it may be back later.
    #[error("the key-value storage can't be reached")]
    Unreachable(#[source] Box<dyn Error + Send + Sync>),
    /// It answers that it won't: out of memory, read-only, disk full, a key that holds no plain value.
    #[error("the key-value storage refuses")]
    Refused(#[source] Box<dyn Error + Send + Sync>),
    /// Stored is more than can be returned at once.
    #[error("{size} bytes are stored there, more than the {limit} that can be read at once")]
    TooLarge {
        /// In bytes.
        size: usize,
        /// In bytes.
        limit: usize,
    },
    /// No number to add to.
    #[error("the value is no 64-bit number, or would be none after the addition")]
    NotCountable,
    /// A page that begins nowhere.
    #[error("{0:?} is no cursor of a list of keys")]
    Cursor(String),
}
