//! SQLite: a table of keys and values. Keys are kept as bytes: SQLite's own functions end a text at a NUL.

use std::path::PathBuf;

use async_trait::async_trait;
use petiole_permits::{KeyValue, KeyValueError, Keys, MAX_BATCH_SIZE, PAGE, Swap};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension, params};

use super::database::{Database, DatabaseError, Waits};
use crate::keyvalue::ANSWER_WAIT;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS petiole_keyvalue (key BLOB PRIMARY KEY, value BLOB NOT NULL) STRICT";
const GET: &str = "SELECT value FROM petiole_keyvalue WHERE key = ?1";
const SET: &str = "
INSERT INTO petiole_keyvalue (key, value) VALUES (?1, ?2)
ON CONFLICT (key) DO UPDATE SET value = excluded.value";
const DELETE: &str = "DELETE FROM petiole_keyvalue WHERE key = ?1";
const EXISTS: &str = "SELECT EXISTS (SELECT 1 FROM petiole_keyvalue WHERE key = ?1)";
const LIST: &str = "
SELECT key FROM petiole_keyvalue WHERE key > ?1 AND key < ?2 ORDER BY key";

/// A file that several processes may share.
#[derive(Debug)]
pub(crate) struct SqliteStore {
    database: Database,
}

impl SqliteStore {
    pub(crate) async fn open(path: PathBuf) -> Result<Self, KeyValueError> {
        let database = Database::open(path, Waits::answer(ANSWER_WAIT), |connection| {
            connection.execute_batch(SCHEMA)
        });
        Ok(Self {
            database: database.await?,
        })
    }
}

impl From<DatabaseError> for KeyValueError {
    fn from(error: DatabaseError) -> Self {
        match error.is_passing() {
            true => Self::Unreachable(error.into()),
            false => Self::Refused(error.into()),
        }
    }
}

#[async_trait]
impl KeyValue for SqliteStore {
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, KeyValueError> {
        let keys = keys.to_vec();
        self.database
            .read(move |connection| {
                let mut left = MAX_BATCH_SIZE;
                let mut values = Vec::with_capacity(keys.len());
                for key in &keys {
                    match get(connection, key, &mut left)? {
                        Ok(value) => values.push(value),
                        Err(too_large) => return Ok(Err(too_large)),
                    }
                }
                Ok(Ok(values))
            })
            .await?
    }

    async fn set_many(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), KeyValueError> {
        let set_all = move |connection: &Connection| {
            values
                .iter()
                .try_for_each(|(key, value)| set(connection, key, value))
        };
        Ok(self.database.write(set_all).await?)
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), KeyValueError> {
        let keys = keys.to_vec();
        let delete_all = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(DELETE)?;
            keys.iter()
                .try_for_each(|key| statement.execute([key.as_bytes()]).map(drop))
        };
        Ok(self.database.write(delete_all).await?)
    }

    async fn exists(&self, key: &str) -> Result<bool, KeyValueError> {
        let key = key.to_owned();
        let exists = move |connection: &Connection| {
            let mut statement = connection.prepare_cached(EXISTS)?;
            statement.query_row([key.as_bytes()], |row| row.get(0))
        };
        Ok(self.database.read(exists).await?)
    }

    /// A cursor is the last key of its page.
    async fn list_keys(&self, prefix: &str, cursor: Option<&str>) -> Result<Keys, KeyValueError> {
        let prefix = prefix.to_owned();
        let after = cursor.map(|cursor| format!("{prefix}{cursor}"));
        let list = move |connection: &Connection| {
            list(connection, &prefix, after.unwrap_or_default().as_bytes())
        };
        let keys = self.database.read(list).await?;
        let cursor = (keys.len() == PAGE).then(|| keys.last().cloned()).flatten();
        Ok(Keys { keys, cursor })
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64, KeyValueError> {
        let key = key.to_owned();
        self.database
            .write(move |connection| {
                let value = match get(connection, &key, &mut MAX_BATCH_SIZE.clone())? {
                    Ok(value) => value,
                    Err(too_large) => return Ok(Err(too_large)),
                };
                let sum = value
                    .map_or(Some(0), |value| number(&value))
                    .and_then(|number| number.checked_add(delta));
                let Some(sum) = sum else {
                    return Ok(Err(KeyValueError::NotCountable));
                };
                set(connection, &key, sum.to_string().as_bytes())?;
                Ok(Ok(sum))
            })
            .await?
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Vec<u8>,
    ) -> Result<Swap, KeyValueError> {
        let key = key.to_owned();
        let expected = expected.map(<[u8]>::to_vec);
        self.database
            .write(
                move |connection| match get(connection, &key, &mut MAX_BATCH_SIZE.clone())? {
                    Err(too_large) => Ok(Err(too_large)),
                    Ok(current) if current != expected => Ok(Ok(Swap::Changed(current))),
                    Ok(_) => {
                        set(connection, &key, &value)?;
                        Ok(Ok(Swap::Done))
                    }
                },
            )
            .await?
    }
}

/// The value of a key; its size is taken off `left`, the bytes that may still be read.
fn get(
    connection: &Connection,
    key: &str,
    left: &mut usize,
) -> rusqlite::Result<Result<Option<Vec<u8>>, KeyValueError>> {
    let mut statement = connection.prepare_cached(GET)?;
    let value = statement.query_row([key.as_bytes()], |row| {
        let value = match row.get_ref(0)? {
            ValueRef::Blob(bytes) => bytes,
            // the table is STRICT
            ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) | ValueRef::Text(_) => &[],
        };
        Ok(match left.checked_sub(value.len()) {
            Some(rest) => {
                *left = rest;
                Ok(value.to_vec())
            }
            None => Err(KeyValueError::TooLarge {
                size: (MAX_BATCH_SIZE - *left).saturating_add(value.len()),
                limit: MAX_BATCH_SIZE,
            }),
        })
    });
    value.optional().map(Option::transpose)
}

fn set(connection: &Connection, key: &str, value: &[u8]) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(SET)?;
    statement.execute(params![key.as_bytes(), value]).map(drop)
}

/// The page of keys after `after`, without their prefix.
fn list(connection: &Connection, prefix: &str, after: &[u8]) -> rusqlite::Result<Vec<String>> {
    // No key is just a prefix; and no text has the byte 255, so that `end` sorts after all its keys.
    let first = after.max(prefix.as_bytes());
    let mut end = prefix.as_bytes().to_vec();
    end.push(u8::MAX);
    let mut statement = connection.prepare_cached(LIST)?;
    let rows = statement.query_map(params![first, end], |row| row.get::<_, Vec<u8>>(0))?;
    let texts = rows.filter_map(|key| match key.map(String::from_utf8) {
        Ok(Ok(key)) => key.strip_prefix(prefix).map(|key| Ok(key.to_owned())),
        // a key that is not UTF-8 was not written by a task, and is no cursor
        Ok(Err(_)) => None,
        Err(error) => Some(Err(error)),
    });
    texts.take(PAGE).collect()
}

/// The number in decimal digits, in the only spelling that Redis's `INCRBY` takes.
fn number(digits: &[u8]) -> Option<i64> {
    let digits = std::str::from_utf8(digits).ok()?;
    let number: i64 = digits.parse().ok()?;
    (number.to_string() == digits).then_some(number)
}
