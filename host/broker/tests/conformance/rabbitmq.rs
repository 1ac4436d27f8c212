//! The RabbitMQ of these tests: the one of `PETIOLE_TEST_AMQP_URL`, or a private node that ends with this
//! process. Private nodes are of this machine's RabbitMQ, or of the one that is unpacked in the folder
//! `PETIOLE_TEST_RABBITMQ`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Connection, ConnectionProperties};
use tokio::sync::{Mutex, MutexGuard};

const START_LIMIT: Duration = Duration::from_secs(120);

/// The node's URL; started at the first call.
pub(crate) async fn url() -> &'static str {
    static URL: OnceLock<String> = OnceLock::new();
    if let Some(url) = URL.get() {
        return url;
    }
    tokio::task::spawn_blocking(|| {
        URL.get_or_init(|| {
            std::env::var("PETIOLE_TEST_AMQP_URL").unwrap_or_else(|_| start_for_all())
        })
        .as_str()
    })
    .await
    .unwrap()
}

/// A node that a test may reconfigure: a private one whatever the environment says, for one test at a time.
pub(crate) async fn own() -> MutexGuard<'static, Node> {
    static OWN: OnceLock<Mutex<Node>> = OnceLock::new();
    tokio::task::spawn_blocking(|| OWN.get_or_init(|| Mutex::new(start_node())))
        .await
        .unwrap()
        .lock()
        .await
}

/// A private node.
pub(crate) struct Node {
    pub(crate) url: String,
    pub(crate) folder: PathBuf,
    /// AMQP's, Erlang's and its port mapper's.
    ports: [u16; 3],
    /// The folder of its RabbitMQ; none where that is this machine's own.
    unpacked: Option<PathBuf>,
    /// Keeps the node's standard input open: it ends when this process does, however it does.
    _process: Child,
}

impl Node {
    /// Runs `rabbitmqctl`, where the node sees its files.
    pub(crate) async fn ctl(&self, arguments: &[&str]) {
        let [port, _, epmd_port] = self.ports;
        let ctl = "/usr/lib/rabbitmq/bin/rabbitmqctl";
        let mut command = match &self.unpacked {
            None => tokio::process::Command::new(ctl),
            Some(unpacked) => {
                let pid = fs::read_to_string(self.folder.join("pid")).unwrap();
                let mut command = tokio::process::Command::new("nsenter");
                command.args(["--mount", "--target", pid.trim(), "chroot"]);
                command.arg(unpacked).arg(ctl);
                command
            }
        };
        let output = command
            .args(["-n", &format!("petiole-{port}@localhost")])
            .args(arguments)
            .env("HOME", &self.folder)
            .env("ERL_EPMD_PORT", epmd_port.to_string())
            .output()
            .await
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
    }
}

/// A plain lapin connection to a node, for what the broker under test does not do.
pub(crate) async fn raw(url: &str) -> Connection {
    Connection::connect(url, ConnectionProperties::default())
        .await
        .unwrap()
}

/// Declares a quorum queue, as Celery's `task_default_queue_type = "quorum"` does.
pub(crate) async fn declare_quorum(queue: &str) {
    declare_quorum_at(url().await, queue).await;
}

pub(crate) async fn declare_quorum_at(url: &str, queue: &str) {
    let connection = raw(url).await;
    let channel = connection.create_channel().await.unwrap();
    let mut arguments = FieldTable::default();
    arguments.insert(
        "x-queue-type".into(),
        AMQPValue::LongString("quorum".into()),
    );
    channel
        .queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments)
        .await
        .unwrap();
    connection.close(200, "done".into()).await.unwrap();
}

fn start_for_all() -> String {
    static NODE: OnceLock<Node> = OnceLock::new();
    NODE.get_or_init(start_node).url.clone()
}

fn start_node() -> Node {
    start_node_with(&[], |_| String::new())
}

/// With plugins, and more of `rabbitmq.conf`, which may name files of the node's folder.
pub(crate) fn start_node_with(plugins: &[&str], more: impl FnOnce(&Path) -> String) -> Node {
    let folder = tempfile::Builder::new()
        .prefix("petiole-rabbitmq-")
        .tempdir()
        .unwrap()
        .keep();
    fs::write(folder.join("more.conf"), more(&folder)).unwrap();
    let plugins = format!("[{}].", plugins.join(","));
    fs::write(folder.join("enabled_plugins"), plugins).unwrap();
    let ports = [free_port(), free_port(), free_port()];
    let unpacked = std::env::var_os("PETIOLE_TEST_RABBITMQ").map(PathBuf::from);
    let nodes = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/nodes");
    let mut process = Command::new(nodes.join("rabbitmq.sh"))
        .arg(&folder)
        .args(ports.map(|port| port.to_string()))
        .args(&unpacked)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let started = Instant::now();
    while !answers(ports[0]) {
        assert!(
            started.elapsed() < START_LIMIT && process.try_wait().unwrap().is_none(),
            "RabbitMQ does not answer: {}",
            fs::read_to_string(folder.join("output")).unwrap_or_default()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    Node {
        url: format!("amqp://guest:guest@127.0.0.1:{}/%2f", ports[0]),
        folder,
        ports,
        unpacked,
        _process: process,
    }
}

/// True if a broker greets there (AMQP 0-9-1 section 4.2.2: the server answers the protocol header).
fn answers(port: u16) -> bool {
    use std::io::{Read, Write};
    let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    stream
        .set_read_timeout(Some(Duration::from_secs(5)))
        .unwrap();
    let mut frame = [0; 1];
    stream.write_all(b"AMQP\0\0\x09\x01").is_ok()
        && stream.read_exact(&mut frame).is_ok()
        && frame == [1]
}

pub(crate) fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
