//! Redis, with Celery's keys, JSON and notifications.

use std::time::Duration;

use futures::future::BoxFuture;
use petiole_celery::wire::SHORT_STRING_LIMIT;
use petiole_celery::{Commit, RunKey, TaskMeta};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, FromRedisValue, RedisError, Script, ServerErrorKind};
use serde_json::Value;

use super::client::{Client, Unanswered};
use super::server::Server;
use crate::results::backend::{BACKEND_WAIT, End, RECORD_LIFE, ResultBackend, whole_seconds};
use crate::results::error::{ResultError, parse, read};

/// Commands that the worker's user needs, besides its keys and channels.
const COMMANDS: &str = "+ping +select +get +getrange +set +setex +publish +evalsha +script|load";
/// Lifetime of the keys that rights are tried on, in seconds.
const RIGHTS_LIFE: u64 = 1;
/// Redis refuses a lifetime whose end it can't count in milliseconds; a century is as good as for ever.
const LONGEST_EXPIRES: u64 = 100 * 365 * 24 * 60 * 60;

/// Results in Redis.
pub(crate) struct RedisBackend {
    name: String,
    /// Seconds; 0 is never.
    expires: u64,
    client: Client,
    commit: Script,
}

impl RedisBackend {
    /// Connects; `name` is the URL, redacted.
    pub(crate) async fn connect(
        name: String,
        server: Server,
        expires: Duration,
    ) -> Result<Self, ResultError> {
        let backend = Self {
            name,
            expires: whole_seconds(expires).unwrap_or(0).min(LONGEST_EXPIRES),
            client: Client::new(server, BACKEND_WAIT),
            commit: Script::new(include_str!("commit.lua")),
        };
        backend
            .ask(|mut connection| async move {
                redis::cmd("PING").query_async::<()>(&mut connection).await
            })
            .await?;
        Ok(backend)
    }

    /// Carries out a command that may be repeated.
    async fn ask<T, F: Future<Output = Result<T, RedisError>>>(
        &self,
        command: impl Fn(MultiplexedConnection) -> F,
    ) -> Result<T, ResultError> {
        let backend = || self.name.clone();
        self.client.ask(command).await.map_err(|error| match error {
            Unanswered::Away(source) => ResultError::Unreachable {
                backend: backend(),
                source,
            },
            Unanswered::Refused(error) => ResultError::Refused {
                backend: backend(),
                is_final: is_final(&error),
                source: error.into(),
            },
        })
    }

    async fn get(&self, key: &str) -> Result<Option<Vec<u8>>, ResultError> {
        self.ask(|mut connection| async move {
            redis::cmd("GET")
                .arg(key)
                .query_async(&mut connection)
                .await
        })
        .await
    }
}

/// True if Redis will answer the same until somebody changes its configuration or data, judged by the error code.
/// Memory, a role or a limit may change in a moment, and so may what an unknown code stands for.
fn is_final(error: &RedisError) -> bool {
    match error.kind() {
        ErrorKind::AuthenticationFailed | ErrorKind::InvalidClientConfig => true,
        ErrorKind::Server(ServerErrorKind::NoPerm | ServerErrorKind::CrossSlot) => true,
        _ => matches!(
            error.code(),
            Some("NOPERM" | "NOAUTH" | "WRONGPASS" | "WRONGTYPE" | "NOPROTO" | "CROSSSLOT")
        ),
    }
}

/// True if the key exists but holds no string: somebody else wrote it.
fn is_of_another_type(error: &(dyn std::error::Error + Send + Sync + 'static)) -> bool {
    let error = error.downcast_ref::<RedisError>();
    error.and_then(RedisError::code) == Some("WRONGTYPE")
}

impl RedisBackend {
    /// Celery's key of a task's result, which is also the channel that readers subscribe to.
    fn key(&self, task_id: &str) -> String {
        format!("{}celery-task-meta-{task_id}", self.client.key_prefix())
    }

    /// Stores a state, unless a run has committed before.
    async fn store_unless(&self, run: Option<&RunKey>, meta: &TaskMeta) -> Result<(), ResultError> {
        let mut keys = vec![self.key(&meta.task_id)];
        keys.extend(run.map(|run| self.run_key(run)));
        let mode = if run.is_some() { "tell" } else { "store" };
        let mut store = self.script(&keys);
        store.arg(self.expires).arg(mode).arg(meta.to_text());
        self.ask(|connection| self.run(&store, connection)).await
    }

    /// A command that runs the script, still without its arguments. Built here, since redis-rs would hold all of
    /// these in memory a second time.
    fn script(&self, keys: &[String]) -> Cmd {
        let mut script = redis::cmd("EVALSHA");
        script.arg(self.commit.get_hash()).arg(keys.len()).arg(keys);
        script
    }

    /// Runs the script, loading it first if Redis does not know it yet.
    async fn run<T: FromRedisValue>(
        &self,
        script: &Cmd,
        mut connection: MultiplexedConnection,
    ) -> Result<T, RedisError> {
        match script.query_async(&mut connection).await {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                let load = self.commit.prepare_invoke();
                load.load_async(&mut connection).await?;
                script.query_async(&mut connection).await
            }
            answer => answer,
        }
    }

    /// Seconds; 0 is never.
    fn record_expires(&self) -> u64 {
        match self.expires {
            0 => 0,
            expires => expires.max(RECORD_LIFE.as_secs()),
        }
    }

    /// The key of a run's record.
    fn run_key(&self, run: &RunKey) -> String {
        format!("{}petiole-run-{run}", self.client.key_prefix())
    }
}

impl RedisBackend {
    /// Tries all that storing and committing need, on keys that nobody reads. The script's commands are also tried by
    /// themselves, since the error code of a script does not tell that one is forbidden.
    async fn try_rights(&self) -> Result<(), ResultError> {
        let prefix = self.client.key_prefix();
        // Longer than the id of any task.
        let nobody = format!("petiole-rights{}", "-".repeat(SHORT_STRING_LIMIT));
        let (result, run) = (self.key(&nobody), format!("{prefix}petiole-run-rights"));
        let mut commands = redis::pipe();
        for key in [&result, &run] {
            commands
                .cmd("GET")
                .arg(key)
                .cmd("GETRANGE")
                .arg(key)
                .arg(0)
                .arg(1);
            commands
                .cmd("SET")
                .arg(key)
                .arg("")
                .arg("EX")
                .arg(RIGHTS_LIFE);
            commands.cmd("SETEX").arg(key).arg(RIGHTS_LIFE).arg("");
        }
        commands.cmd("PUBLISH").arg(&result).arg("{}");
        let commands = &commands;
        self.ask(|mut connection| async move { commands.query_async::<()>(&mut connection).await })
            .await?;
        let mut commit = self.script(&[result, run]);
        commit.arg(RIGHTS_LIFE).arg("replace").arg("{}");
        commit.arg("").arg(RIGHTS_LIFE);
        self.ask(|connection| self.run(&commit, connection)).await
    }
}

impl ResultBackend for RedisBackend {
    /// Errors that may pass (full memory, a replica that may become the primary) keep no worker from starting.
    fn check_rights(&self) -> BoxFuture<'_, Result<(), ResultError>> {
        Box::pin(async move {
            match self.try_rights().await {
                Err(ResultError::Refused {
                    backend,
                    is_final: true,
                    source,
                }) => {
                    let prefix = self.client.key_prefix();
                    Err(ResultError::NotPermitted {
                        backend,
                        rights: format!(
                            "~{prefix}celery-task-meta-* ~{prefix}petiole-run-* &{prefix}celery-task-meta-* {COMMANDS}"
                        ),
                        source,
                    })
                }
                Err(ResultError::Refused { .. }) => Ok(()),
                tried => tried,
            }
        })
    }

    fn probe(&self) -> BoxFuture<'_, Result<(), ResultError>> {
        Box::pin(self.try_rights())
    }

    fn store<'a>(&'a self, meta: &'a TaskMeta) -> BoxFuture<'a, Result<(), ResultError>> {
        Box::pin(async move { self.store_unless(None, meta).await })
    }

    fn tell<'a>(
        &'a self,
        run: &'a RunKey,
        meta: &'a TaskMeta,
    ) -> BoxFuture<'a, Result<(), ResultError>> {
        Box::pin(self.store_unless(Some(run), meta))
    }

    fn commit<'a>(
        &'a self,
        end: End<'a>,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>> {
        Box::pin(async move {
            let results = end.results.iter();
            let mut keys: Vec<_> = results.map(|meta| self.key(&meta.task_id)).collect();
            keys.push(self.run_key(end.run));
            let mode = if end.replaces { "replace" } else { "commit" };
            let mut commit = self.script(&keys);
            commit.arg(self.expires).arg(mode);
            for meta in end.results {
                commit.arg(meta.to_text());
            }
            commit.arg(end.record).arg(self.record_expires());
            let earlier: Option<Vec<u8>> =
                self.ask(|connection| self.run(&commit, connection)).await?;
            earlier
                .map(|record| read(&self.name, end.run, record))
                .transpose()
        })
    }

    fn committed<'a>(
        &'a self,
        run: &'a RunKey,
    ) -> BoxFuture<'a, Result<Option<Commit<'static>>, ResultError>> {
        Box::pin(async move {
            let record = match self.get(&self.run_key(run)).await {
                Err(ResultError::Refused { source, .. }) if is_of_another_type(&*source) => {
                    return Err(ResultError::CorruptRecord {
                        backend: self.name.clone(),
                        run: run.to_string(),
                    });
                }
                record => record?,
            };
            record
                .map(|record| read(&self.name, run, record))
                .transpose()
        })
    }

    fn fetch<'a>(&'a self, task_id: &'a str) -> BoxFuture<'a, Result<Option<Value>, ResultError>> {
        Box::pin(async move {
            let stored = self.get(&self.key(task_id)).await?;
            stored
                .map(|stored| parse(&self.name, task_id, &stored))
                .transpose()
        })
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    fn answered(line: &str) -> RedisError {
        match redis::parse_redis_value(format!("-{line}\r\n").as_bytes()) {
            Ok(redis::Value::ServerError(error)) => error.into(),
            Ok(other) => panic!("{other:?}"),
            Err(error) => error,
        }
    }

    #[test]
    fn each_error_code_is_final_or_passes() {
        for (line, want) in [
            (
                "NOPERM User w has no permissions to run the 'evalsha' command",
                true,
            ),
            ("NOAUTH Authentication required.", true),
            ("WRONGPASS invalid username-password pair", true),
            ("WRONGTYPE Operation against a key", true),
            ("CROSSSLOT Keys in request", true),
            (
                "OOM command not allowed when used memory > 'maxmemory'.",
                false,
            ),
            (
                "READONLY You can't write against a read only replica.",
                false,
            ),
            ("LOADING Redis is loading the dataset in memory", false),
            ("MISCONF Redis is configured to save RDB snapshots", false),
            ("NOREPLICAS Not enough good replicas to write.", false),
            ("BUSY Redis is busy running a script.", false),
            ("MASTERDOWN Link with MASTER is down", false),
            ("CLUSTERDOWN The cluster is down", false),
            ("ERR max number of clients reached", false),
            ("NEWWORD of a later version", false),
        ] {
            assert_eq!(is_final(&answered(line)), want, "{line}");
        }
    }
}
