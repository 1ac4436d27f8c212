//! A private `redis-server` on a free port, without persistence.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::PATIENCE;

pub(crate) struct RedisServer {
    pub(crate) port: u16,
    pub(crate) folder: TempDir,
    options: Vec<String>,
    process: Option<Child>,
}

impl RedisServer {
    pub(crate) async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With more options, as on redis-server's command line; `%d` stands for its folder.
    pub(crate) async fn start_with(options: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), options).await
    }

    pub(crate) async fn start_in(folder: TempDir, options: &[&str]) -> Self {
        let path = folder.path().display().to_string();
        let options = options
            .iter()
            .map(|option| option.replace("%d", &path))
            .collect();
        let mut server = Self {
            port: free_port(),
            folder,
            options,
            process: None,
        };
        // Somebody else may take the port before redis-server does.
        for _ in 0..5 {
            if server.listens().await {
                return server;
            }
            server.port = free_port();
        }
        panic!(
            "redis-server exits: run it with {:?} to see why",
            server.options
        );
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Starts it again on its port, empty.
    pub(crate) async fn restart(&mut self) {
        assert!(self.listens().await, "port {} is taken", self.port);
    }

    /// Starts the process and waits until it listens; false if it ended instead.
    async fn listens(&mut self) -> bool {
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.folder.path())
            .args(&self.options)
            .stdout(Stdio::null())
            .spawn()
            .expect(
                "redis-server can't be started: install it (Debian: apt-get install redis-server)",
            );
        let process = self.process.insert(process);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let connects = std::net::TcpStream::connect(("127.0.0.1", self.port)).is_ok();
            if process.try_wait().unwrap().is_some() {
                return false;
            }
            if connects {
                return true;
            }
            assert!(
                Instant::now() < deadline,
                "redis-server does not listen after {PATIENCE:?}"
            );
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it by SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    /// A connection of the test's own.
    pub(crate) async fn client(&self) -> redis::aio::MultiplexedConnection {
        redis::Client::open(self.url())
            .unwrap()
            .get_multiplexed_async_connection()
            .await
            .unwrap()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
