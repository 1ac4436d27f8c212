//! `sentinel://`: results follow the primary.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use petiole_celery::State;
use petiole_storage::results::RESULT_EXPIRES;
use serde_json::json;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use super::suite::{connect, meta};
use crate::PATIENCE;
use crate::redis_server::{RedisServer, free_port};

/// A Sentinel that watches one primary, by the name `m`.
struct Sentinel {
    port: u16,
    process: Child,
    _folder: TempDir,
}

impl Sentinel {
    fn start(primary: &RedisServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, file) = (free_port(), folder.path().join("sentinel.conf"));
        let conf = format!(
            "port {port}\nbind 127.0.0.1\ndir {}\nsentinel monitor m 127.0.0.1 {} 1\n\
             sentinel down-after-milliseconds m 500\nsentinel failover-timeout m 3000\n",
            folder.path().display(),
            primary.port
        );
        fs::write(&file, conf).unwrap();
        let process = Command::new("redis-server")
            .arg(&file)
            .arg("--sentinel")
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            port,
            process,
            _folder: folder,
        }
    }

    /// Waits until it has seen the primary's replica, to which it could fail over.
    async fn sees_a_replica(&self) {
        let deadline = Instant::now() + PATIENCE;
        while !self.replicas().await.is_ok_and(|count| count == 1) {
            assert!(Instant::now() < deadline, "the sentinel sees no replica");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn replicas(&self) -> redis::RedisResult<usize> {
        let client = redis::Client::open(format!("redis://127.0.0.1:{}", self.port))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        let replicas: Vec<std::collections::HashMap<String, String>> = redis::cmd("SENTINEL")
            .arg(&["REPLICAS", "m"])
            .query_async(&mut connection)
            .await?;
        let up = |replica: &&std::collections::HashMap<String, String>| {
            replica
                .get("master-link-status")
                .is_some_and(|link| link == "ok")
        };
        Ok(replicas.iter().filter(up).count())
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn results_follow_the_primary() {
    let mut primary = RedisServer::start().await;
    let port = primary.port.to_string();
    let _replica = RedisServer::start_with(&["--replicaof", "127.0.0.1", &port]).await;
    let sentinel = Sentinel::start(&primary);
    sentinel.sees_a_replica().await;

    // The first sentinel does not exist.
    let url = format!(
        "sentinel://127.0.0.1:1/0;sentinel://127.0.0.1:{}?master_name=m&global_keyprefix=app",
        sentinel.port
    );
    let backend = connect(&url, RESULT_EXPIRES).await;
    let before = meta(State::Success, json!("before"));
    backend.store(&before).await.unwrap();
    primary.kill();

    let after = meta(State::Success, json!("after"));
    let deadline = Instant::now() + PATIENCE;
    while let Err(error) = backend.store(&after).await {
        assert!(Instant::now() < deadline, "{error:?}");
    }
    let fetched = backend.fetch(&after.task_id).await.unwrap();
    assert_eq!(fetched, Some(after.to_json()));
}
