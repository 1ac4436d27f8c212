//! Redis: a key is a key, a value is a string.

use std::fmt;

use async_trait::async_trait;
use petiole_permits::{KeyValue, KeyValueError, Keys, MAX_BATCH_SIZE, PAGE, Swap};
use redis::{Cmd, Script, ScriptInvocation, cmd};
use tokio::time::{Instant, timeout_at};

use super::client::{Client, Unanswered};
use super::server::Server;
use crate::keyvalue::ANSWER_WAIT;

/// `SCAN` commands, among all keys of the server, before an empty page is returned.
const SCANS: usize = 10;

/// Values in Redis. No command is repeated: others may have changed the values after the first try.
pub(crate) struct RedisStore {
    client: Client,
    get_many: Script,
    swap: Script,
}

impl RedisStore {
    pub(crate) async fn connect(server: Server) -> Result<Self, KeyValueError> {
        let store = Self {
            client: Client::new(server, ANSWER_WAIT),
            get_many: Script::new(include_str!("get_many.lua")),
            swap: Script::new(include_str!("swap.lua")),
        };
        store.ask::<()>(&cmd("PING")).await?;
        Ok(store)
    }

    async fn ask<T: redis::FromRedisValue>(&self, command: &Cmd) -> Result<T, Unanswered> {
        self.client
            .ask_once(|mut connection| async move { command.query_async(&mut connection).await })
            .await
    }

    async fn run<T: redis::FromRedisValue>(
        &self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, Unanswered> {
        self.client
            .ask_once(|mut connection| async move { script.invoke_async(&mut connection).await })
            .await
    }
}

impl From<Unanswered> for KeyValueError {
    fn from(error: Unanswered) -> Self {
        match error {
            Unanswered::Away(source) => Self::Unreachable(source),
            Unanswered::Refused(error) => Self::Refused(error.into()),
        }
    }
}

/// The error for a script that answers with a size instead of values.
fn too_large(size: usize) -> KeyValueError {
    KeyValueError::TooLarge {
        size,
        limit: MAX_BATCH_SIZE,
    }
}

#[async_trait]
impl KeyValue for RedisStore {
    async fn get_many(&self, keys: &[String]) -> Result<Vec<Option<Vec<u8>>>, KeyValueError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut script = self.get_many.prepare_invoke();
        for key in keys {
            script.key(key);
        }
        let (size, values): (usize, Option<Vec<Option<Vec<u8>>>>) =
            self.run(script.arg(MAX_BATCH_SIZE)).await?;
        values.ok_or_else(|| too_large(size))
    }

    async fn set_many(&self, values: Vec<(String, Vec<u8>)>) -> Result<(), KeyValueError> {
        if values.is_empty() {
            return Ok(());
        }
        let mut command = cmd("MSET");
        for (key, value) in values {
            command.arg(key).arg(value);
        }
        Ok(self.ask(&command).await?)
    }

    async fn delete_many(&self, keys: &[String]) -> Result<(), KeyValueError> {
        if keys.is_empty() {
            return Ok(());
        }
        Ok(self.ask(cmd("UNLINK").arg(keys)).await?)
    }

    async fn exists(&self, key: &str) -> Result<bool, KeyValueError> {
        Ok(self.ask(cmd("EXISTS").arg(key)).await?)
    }

    async fn list_keys(&self, prefix: &str, cursor: Option<&str>) -> Result<Keys, KeyValueError> {
        let pattern = format!("{}*", escaped(prefix));
        let mut position: u64 = match cursor {
            None => 0,
            Some(cursor) => cursor
                .parse()
                .map_err(|_| KeyValueError::Cursor(cursor.to_owned()))?,
        };
        let first = position;
        let deadline = Instant::now() + ANSWER_WAIT;
        for _ in 0..SCANS {
            let mut scan = cmd("SCAN");
            scan.arg(position).arg("MATCH").arg(&pattern);
            let answer = self.ask(scan.arg("COUNT").arg(PAGE));
            // The first one ends by itself, in the same time: cut off, it would leave its connection as it is.
            let (next, found): (u64, Vec<Vec<u8>>) = match position == first {
                true => answer.await?,
                false => match timeout_at(deadline, answer).await {
                    Ok(answer) => answer?,
                    Err(_elapsed) => break,
                },
            };
            position = next;
            let keys: Vec<_> = found
                .into_iter()
                // A key that is not UTF-8 was not written by a task.
                .filter_map(|key| String::from_utf8(key).ok())
                .filter_map(|key| key.strip_prefix(prefix).map(str::to_owned))
                .collect();
            if !keys.is_empty() || position == 0 {
                let cursor = (position != 0).then(|| position.to_string());
                return Ok(Keys { keys, cursor });
            }
        }
        Ok(Keys {
            keys: Vec::new(),
            cursor: Some(position.to_string()),
        })
    }

    async fn increment(&self, key: &str, delta: i64) -> Result<i64, KeyValueError> {
        match self.ask(cmd("INCRBY").arg(key).arg(delta)).await {
            // Other errors of a well-formed INCRBY have codes of their own (OOM, READONLY).
            Err(Unanswered::Refused(error))
                if matches!(error.code(), Some("ERR" | "WRONGTYPE")) =>
            {
                Err(KeyValueError::NotCountable)
            }
            answer => Ok(answer?),
        }
    }

    async fn compare_and_swap(
        &self,
        key: &str,
        expected: Option<&[u8]>,
        value: Vec<u8>,
    ) -> Result<Swap, KeyValueError> {
        let mut script = self.swap.key(key);
        script.arg(value).arg(MAX_BATCH_SIZE).arg(expected);
        let (done, size, current): (bool, usize, Option<Vec<u8>>) = self.run(&script).await?;
        match current {
            _ if done => Ok(Swap::Done),
            None if size > MAX_BATCH_SIZE => Err(too_large(size)),
            current => Ok(Swap::Changed(current)),
        }
    }
}

/// Escapes a text so that a pattern matches it literally.
fn escaped(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '^' | '-' | '\\') {
            pattern.push('\\');
        }
        pattern.push(c);
    }
    pattern
}

impl fmt::Debug for RedisStore {
    /// The server's own would show the password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisStore").finish_non_exhaustive()
    }
}
