//! The database, over one connection for one statement.

use std::io::ErrorKind;
use std::net::ToSocketAddrs;

use petiole::Error;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::Builder;
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

const INSERT: &str = "insert into task_results (task_id, status, result) values ($1, $2, $3)
    on conflict (task_id) do nothing";
const DEFAULT_PORT: u16 = 5432;

/// Inserts a row; true if it is new.
pub(crate) fn insert(task_id: &str, status: &str, result: Option<&Value>) -> Result<bool, Error> {
    with_client(async |client: &Client| {
        let rows = client
            .execute(INSERT, &[&task_id, &status, &result])
            .await
            .map_err(refused)?;
        Ok(rows == 1)
    })
}

/// Connects to the database of DATABASE_URL for as long as `work` takes.
fn with_client<T>(work: impl AsyncFnOnce(&Client) -> Result<T, Error>) -> Result<T, Error> {
    let url = std::env::var("DATABASE_URL")
        .map_err(|_| Error::fail("KeyError", "the secret DATABASE_URL is not granted"))?;
    let config: Config = url
        .parse()
        .map_err(|_| Error::fail("ValueError", "DATABASE_URL is no PostgreSQL URL"))?;
    Builder::new_current_thread()
        .enable_io()
        .build()?
        .block_on(async {
            let stream = open(&config).await?;
            let (client, connection) = config.connect_raw(stream, NoTls).await.map_err(refused)?;
            let connection = tokio::spawn(connection);
            let done = work(&client).await;
            drop(client); // ends the connection, which tells the server so
            let _ = connection.await;
            done
        })
}

async fn open(config: &Config) -> Result<TcpStream, Error> {
    let (host, port) = address(config)?;
    let connected = match (host, port).to_socket_addrs() {
        Ok(addresses) => TcpStream::connect(&*addresses.collect::<Vec<_>>()).await,
        Err(error) => Err(error),
    };
    connected.map_err(|error| unreachable(&error, &format!("{host}:{port}")))
}

fn address(config: &Config) -> Result<(&str, u16), Error> {
    let port = config.get_ports().first().copied();
    match config.get_hosts().first() {
        Some(Host::Tcp(host)) => Ok((host, port.unwrap_or(DEFAULT_PORT))),
        _ => Err(Error::fail("ValueError", "DATABASE_URL names no host")),
    }
}

fn unreachable(error: &std::io::Error, address: &str) -> Error {
    match error.kind() {
        ErrorKind::PermissionDenied => Error::fail(
            "PermissionError",
            format!("TCP to {address} is not granted"),
        ),
        _ => Error::retry(
            "ConnectionError",
            format!("no database at {address}: {error}"),
        ),
    }
}

/// An error of the database's is final, unless it only can't serve just now.
fn refused(error: tokio_postgres::Error) -> Error {
    match error.code() {
        Some(state) if !is_passing(state) => Error::from(error),
        _ => Error::retry("ConnectionError", error.to_string()),
    }
}

/// By PostgreSQL's appendix A: connection exceptions, transaction rollbacks (a deadlock), insufficient resources,
/// operator intervention (a shutdown).
fn is_passing(state: &SqlState) -> bool {
    let classes = ["08", "40", "53", "57"];
    classes.iter().any(|class| state.code().starts_with(class))
}

#[cfg(test)]
mod tests {
    use super::*;
    use petiole::RetryAt;

    fn is_retry(error: &Error) -> bool {
        matches!(error, Error::Retry(retry) if retry.at == RetryAt::Default)
    }

    #[test]
    fn the_url_tells_where_the_database_is() {
        let of = |url: &str| {
            let config: Config = url.parse().unwrap();
            address(&config).map(|(host, port)| format!("{host}:{port}"))
        };
        assert_eq!(of("postgres://me:secret@db/shop"), Ok("db:5432".into()));
        assert_eq!(
            of("postgres://me@10.0.0.1:6000"),
            Ok("10.0.0.1:6000".into())
        );
        assert!(matches!(of("postgres:///shop"), Err(Error::Fail(_))));
    }

    #[test]
    fn what_passes_is_tried_again() {
        for code in ["08006", "40P01", "53300", "57P01"] {
            assert!(is_passing(&SqlState::from_code(code)), "{code}");
        }
        for code in ["22P02", "23514", "28P01", "3D000", "42P01"] {
            assert!(!is_passing(&SqlState::from_code(code)), "{code}");
        }
        let refused = std::io::Error::from(ErrorKind::ConnectionRefused);
        assert!(is_retry(&unreachable(&refused, "db:5432")));
    }

    #[test]
    fn what_is_not_granted_is_not_tried_again() {
        let denied = std::io::Error::from(ErrorKind::PermissionDenied);
        assert_eq!(
            unreachable(&denied, "db:5432"),
            Error::fail("PermissionError", "TCP to db:5432 is not granted")
        );
        assert_eq!(
            insert("1f", "SUCCESS", None),
            Err(Error::fail(
                "KeyError",
                "the secret DATABASE_URL is not granted"
            ))
        );
    }
}
