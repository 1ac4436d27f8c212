//! Messages in the file. Every function is one step of a transaction.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use petiole_celery::{Destination, Message, Properties};
use petiole_storage::sqlite::rusqlite::types::Type;
use petiole_storage::sqlite::rusqlite::{self, Connection, OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::error;

use crate::memory::{Held, Share};

/// A consumer that has not renewed its lease for this long is taken for dead.
const LEASE: Duration = Duration::from_secs(10);
/// Messages that are set aside in one transaction, at most.
const MAX_UNREADABLE: usize = 100;

/// A message that a consumer has taken.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) id: i64,
    pub(super) redelivered: bool,
    pub(super) destination: Destination,
    pub(super) message: Message,
    /// Memory held for it; none where nobody counts it.
    pub(super) held: Option<Held>,
}

/// A message that can't be read, by its id, and why.
type Unreadable = (i64, rusqlite::Error);

/// The end of a consumer's hold of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Removed,
    Back {
        /// Milliseconds for which it is held back.
        pause: i64,
    },
}

/// The properties that have no column of their own.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Others {
    #[serde(skip_serializing_if = "Option::is_none")]
    timestamp: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    app_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_id: Option<String>,
}

impl Others {
    fn of(properties: &Properties) -> Self {
        Self {
            timestamp: properties.timestamp,
            kind: properties.kind.clone(),
            user_id: properties.user_id.clone(),
            app_id: properties.app_id.clone(),
            cluster_id: properties.cluster_id.clone(),
        }
    }
}

fn to_text(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

fn from_text<T: DeserializeOwned>(row: &Row<'_>, column: &str) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    let index = row.as_ref().column_index(column)?;
    serde_json::from_str(&text)
        .map_err(|error| rusqlite::Error::FromSqlConversionFailure(index, Type::Text, error.into()))
}

/// Milliseconds since 1970.
pub(super) fn now() -> i64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

fn lease_until() -> i64 {
    now().saturating_add(i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX))
}

pub(super) fn declare(connection: &Connection, queue: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR IGNORE INTO queues (name) VALUES (?1)")?
        .execute([queue])?;
    Ok(())
}

fn exists(connection: &Connection, queue: &str) -> rusqlite::Result<bool> {
    connection
        .prepare_cached("SELECT 1 FROM queues WHERE name = ?1")?
        .exists([queue])
}

/// The queue that a destination leads to. A queue has the default exchange and the direct exchange of its
/// name, and there are no others.
pub(super) fn route(connection: &Connection, to: &Destination) -> rusqlite::Result<Option<String>> {
    let queue = to.routing_key.as_str();
    let bound = to.exchange.is_empty() || to.exchange == to.routing_key;
    Ok(if bound && exists(connection, queue)? {
        Some(queue.to_owned())
    } else {
        None
    })
}

pub(super) fn insert(
    connection: &Connection,
    queue: &str,
    available_at: Option<i64>,
    to: &Destination,
    message: &Message,
) -> rusqlite::Result<()> {
    let Message {
        properties,
        headers,
        body,
    } = message;
    let headers = to_text(headers)?;
    let others = to_text(&Others::of(properties))?;
    connection
        .prepare_cached(
            "INSERT INTO messages (queue, available_at, exchange, routing_key, content_type, content_encoding, \
             persistent, priority, correlation_id, reply_to, expiration, message_id, headers, body, properties) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)",
        )?
        .execute(params![
            queue,
            available_at,
            to.exchange,
            to.routing_key,
            properties.content_type,
            properties.content_encoding,
            properties.persistent,
            properties.priority,
            properties.correlation_id,
            properties.reply_to,
            properties.expiration,
            properties.message_id,
            headers,
            &body[..],
            others,
        ])?;
    Ok(())
}

/// True if a consumer of the queue may find something: messages that fall due count whatever their queue.
pub(super) fn any_ready(connection: &Connection, queue: &str) -> rusqlite::Result<bool> {
    let ready = connection
        .prepare_cached("SELECT 1 FROM messages WHERE queue = ?1 AND consumer IS NULL AND available_at IS NULL LIMIT 1")?
        .exists([queue])?;
    Ok(ready
        || connection
            .prepare_cached("SELECT 1 FROM messages WHERE available_at <= ?1 LIMIT 1")?
            .exists([now()])?)
}

/// The number of messages ready in a queue; none where there is no such queue.
pub(super) fn length(connection: &Connection, queue: &str) -> rusqlite::Result<Option<i64>> {
    if !exists(connection, queue)? {
        return Ok(None);
    }
    connection
        .prepare_cached(
            "SELECT count(*) FROM messages WHERE queue = ?1 AND consumer IS NULL \
             AND (available_at IS NULL OR available_at <= ?2)",
        )?
        .query_row(params![queue, now()], |row| row.get(0))
        .optional()
}

pub(super) fn purge(connection: &Connection, queue: &str) -> rusqlite::Result<usize> {
    connection
        .prepare_cached(
            "DELETE FROM messages WHERE queue = ?1 AND consumer IS NULL \
             AND (available_at IS NULL OR available_at <= ?2)",
        )?
        .execute(params![queue, now()])
}

/// Begins or prolongs a consumer's lease.
pub(super) fn lease(connection: &Connection, consumer: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("INSERT OR REPLACE INTO consumers (id, lease_until) VALUES (?1, ?2)")?
        .execute(params![consumer, lease_until()])?;
    Ok(())
}

/// Prolongs a consumer's lease, and gives back what the dead have. True if the consumer still had it.
pub(super) fn renew(connection: &Connection, consumer: &str) -> rusqlite::Result<bool> {
    let alive = connection
        .prepare_cached("UPDATE consumers SET lease_until = ?2 WHERE id = ?1")?
        .execute(params![consumer, lease_until()])?;
    let dead: Vec<String> = connection
        .prepare_cached("SELECT id FROM consumers WHERE lease_until < ?1")?
        .query_map([now()], |row| row.get(0))?
        .collect::<Result<_, _>>()?;
    for consumer in dead {
        release(connection, &consumer)?;
    }
    Ok(alive == 1)
}

/// Ends a consumer: all that it has goes back.
pub(super) fn release(connection: &Connection, consumer: &str) -> rusqlite::Result<()> {
    connection
        .prepare_cached("UPDATE messages SET consumer = NULL, redelivered = 1 WHERE consumer = ?1")?
        .execute([consumer])?;
    connection
        .prepare_cached("DELETE FROM consumers WHERE id = ?1")?
        .execute([consumer])?;
    Ok(())
}

/// Gives a consumer at most `limit` messages, by priority, then in the order of their arrival, as long as `share` has
/// memory for the next one; none to one that has lost its lease. One that can't be read is set aside: it would be at
/// the head of its queue for ever.
pub(super) fn take(
    connection: &Connection,
    queue: &str,
    consumer: &str,
    limit: usize,
    share: Option<&Arc<Share>>,
) -> rusqlite::Result<Vec<Taken>> {
    if !connection
        .prepare_cached("SELECT 1 FROM consumers WHERE id = ?1")?
        .exists([consumer])?
    {
        return Ok(Vec::new());
    }
    connection
        .prepare_cached("UPDATE messages SET available_at = NULL WHERE available_at <= ?1")?
        .execute([now()])?;
    let (taken, unreadable) = next(connection, queue, limit, share)?;
    let mut take = connection.prepare_cached("UPDATE messages SET consumer = ?2 WHERE id = ?1")?;
    for taken in &taken {
        take.execute(params![taken.id, consumer])?;
    }
    let mut set_aside =
        connection.prepare_cached("UPDATE messages SET available_at = ?2 WHERE id = ?1")?;
    for (id, error) in unreadable {
        error!(queue, id, %error, "a message can't be read, and is set aside in the file");
        set_aside.execute(params![id, i64::MAX])?;
    }
    Ok(taken)
}

/// The messages that are next in a queue, and before them those that can't be read.
fn next(
    connection: &Connection,
    queue: &str,
    limit: usize,
    share: Option<&Arc<Share>>,
) -> rusqlite::Result<(Vec<Taken>, Vec<Unreadable>)> {
    let mut statement = connection.prepare_cached(
        "SELECT id, redelivered, exchange, routing_key, content_type, content_encoding, persistent, priority, \
         correlation_id, reply_to, expiration, message_id, headers, body, properties, \
         length(body) + length(CAST(headers AS BLOB)) AS size FROM messages \
         WHERE queue = ?1 AND consumer IS NULL AND available_at IS NULL ORDER BY ifnull(priority, 0) DESC, id",
    )?;
    let mut rows = statement.query([queue])?;
    let (mut taken, mut unreadable) = (Vec::new(), Vec::new());
    while taken.len() < limit
        && unreadable.len() < MAX_UNREADABLE
        && let Some(row) = rows.next()?
    {
        let held = match share {
            Some(share) => match share.hold(row.get::<_, i64>("size")?.cast_unsigned()) {
                Some(held) => Some(held),
                None => break,
            },
            None => None,
        };
        match read(row, held) {
            Ok(message) => taken.push(message),
            Err(error) => unreadable.push((row.get("id")?, error)),
        }
    }
    Ok((taken, unreadable))
}

fn read(row: &Row<'_>, held: Option<Held>) -> rusqlite::Result<Taken> {
    let headers: Map<String, Value> = from_text(row, "headers")?;
    let others: Others = from_text(row, "properties")?;
    Ok(Taken {
        id: row.get("id")?,
        redelivered: row.get("redelivered")?,
        destination: Destination {
            exchange: row.get("exchange")?,
            routing_key: row.get("routing_key")?,
        },
        message: Message {
            properties: Properties {
                content_type: row.get("content_type")?,
                content_encoding: row.get("content_encoding")?,
                persistent: row.get("persistent")?,
                priority: row.get("priority")?,
                correlation_id: row.get("correlation_id")?,
                reply_to: row.get("reply_to")?,
                expiration: row.get("expiration")?,
                message_id: row.get("message_id")?,
                timestamp: others.timestamp,
                kind: others.kind,
                user_id: others.user_id,
                app_id: others.app_id,
                cluster_id: others.cluster_id,
            },
            headers,
            body: row.get::<_, Vec<u8>>("body")?.into(),
        },
        held,
    })
}

/// Ends a consumer's hold of a message. True if it still had it.
pub(super) fn end(
    connection: &Connection,
    consumer: &str,
    id: i64,
    end: End,
) -> rusqlite::Result<bool> {
    let changed = match end {
        End::Removed => connection
            .prepare_cached("DELETE FROM messages WHERE id = ?1 AND consumer = ?2")?
            .execute(params![id, consumer])?,
        End::Back { pause } => {
            let available_at = if pause > 0 {
                Some(now().saturating_add(pause))
            } else {
                None
            };
            connection
                .prepare_cached(
                    "UPDATE messages SET consumer = NULL, redelivered = 1, available_at = ?3 \
                     WHERE id = ?1 AND consumer = ?2",
                )?
                .execute(params![id, consumer, available_at])?
        }
    };
    Ok(changed == 1)
}
