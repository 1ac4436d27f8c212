//! The reach of a task into the network, and its bounds: requests and connections of the guest `outbound` to
//! servers of this machine.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::IpAddr;

use ipnet::IpNet;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;

mod http;
mod parts;
mod tcp;
mod tls;

const LIMITS: Limits = Limits {
    memory: 8 * MIB,
    log: 64 * 1024,
    handles: 1_000,
    requests: 100,
    ..super::LIMITS
};

const ALL_OF_THIS_MACHINE: &[&str] = &["127.0.0.0/8"];

/// The test guest, built by `cargo xtask guests` (and by `cargo xtask test`).
pub(crate) fn outbound() -> Vec<u8> {
    let path = "../../target/wasm32-wasip2/release/outbound.wasm";
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .expect("run `cargo xtask guests` first")
}

/// A resolver with answers given in advance. A name that is asked for again has its next answer, and its last one
/// from then on.
#[derive(Debug, Default)]
struct Names {
    answers: Mutex<HashMap<String, VecDeque<Vec<IpAddr>>>>,
    asked: Mutex<Vec<String>>,
}

impl Names {
    fn of(names: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let parse = |texts: &&[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        let answers = names
            .iter()
            .map(|(name, answers)| ((*name).to_owned(), answers.iter().map(parse).collect()));
        Arc::new(Self {
            answers: Mutex::new(answers.collect()),
            asked: Mutex::default(),
        })
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[async_trait::async_trait]
impl Resolver for Names {
    async fn resolve(&self, name: &str) -> io::Result<Vec<IpAddr>> {
        self.asked.lock().unwrap().push(name.to_owned());
        let mut names = self.answers.lock().unwrap();
        let answers = names.get_mut(name).ok_or(io::ErrorKind::NotFound)?;
        if answers.len() > 1 {
            return Ok(answers.pop_front().unwrap());
        }
        Ok(answers.front().unwrap().clone())
    }
}

/// A task's surroundings: its module on a network of its own, and what it is granted there.
struct Sandboxed {
    module: Module,
    granted: Granted,
    limits: Limits,
}

impl Sandboxed {
    async fn new(names: &Arc<Names>) -> Self {
        let roots = rustls::RootCertStore::empty();
        Self::on(Network::new(names.clone(), roots).unwrap()).await
    }

    async fn on(network: Network) -> Self {
        let runtime = HOST.runtime.clone().with_network(network);
        let interfaces = Interfaces {
            http: true,
            ..Interfaces::default()
        };
        let compiler = Compiler::in_process();
        let module = runtime
            .load(
                "outbound",
                binary(&outbound()),
                &HOST.cache,
                &compiler,
                interfaces,
            )
            .await;
        Self {
            module: module.unwrap(),
            granted: Granted::none(),
            limits: LIMITS,
        }
    }

    fn http(mut self, rules: &[String]) -> Self {
        self.granted.http = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        self
    }

    fn tcp(mut self, rules: &[String]) -> Self {
        self.granted.tcp = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        self
    }

    fn networks(mut self, networks: &[&str]) -> Self {
        let parse = |network: &&str| network.parse::<IpNet>().unwrap();
        self.granted.networks = networks.iter().map(parse).collect();
        self
    }

    async fn run(&self, task: &str, args: Value) -> Run {
        let task = self.module.task(task).expect(task);
        let arguments = task
            .bind(args.as_array().unwrap(), &Map::new(), LIMITS.arguments)
            .unwrap();
        let granted = Arc::new(self.granted.clone());
        let progress = watch::Sender::new(None);
        let run = task.call(arguments, context(), self.limits, &granted, &progress);
        run.await.unwrap()
    }

    /// The task's result: its value, or the text of its error.
    async fn call(&self, task: &str, args: Value) -> Result<Value, String> {
        match self.run(task, args).await.outcome {
            Outcome::Success(value) => Ok(value),
            Outcome::Failure { exception, .. } if exception.exc_type == "TaskError" => {
                Err(exception.exc_message[0].as_str().unwrap().to_owned())
            }
            other => panic!("{other:?}"),
        }
    }

    async fn get(&self, url: &str) -> Result<Value, String> {
        self.call("fetch", json!(["GET", url])).await
    }

    /// The same with a timeout of a quarter of a second.
    async fn get_soon(&self, url: &str) -> Result<Value, String> {
        let args = json!(["GET", url, null, null, 250]);
        self.call("fetch", args).await
    }
}

/// A server for as long as it is kept.
struct Server {
    port: u16,
    /// The heads of the requests it had.
    heads: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Server {
    /// Answers every connection by writing `answer`, and closes it.
    async fn answering(address: &str, answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::start(address, move |mut stream: TcpStream| {
            let answer = answer.clone();
            async move {
                let _ = stream.write_all(&answer).await;
            }
        })
        .await
    }

    /// Reads the head of each connection's request, and leaves the rest to `rest`.
    async fn start<F>(address: &str, rest: impl Fn(TcpStream) -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind(address).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = heads.clone();
        let rest = Arc::new(rest);
        let accepting = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (seen, rest) = (seen.clone(), rest.clone());
                tokio::spawn(async move {
                    let head = head(&mut stream).await;
                    seen.lock().unwrap().push(head);
                    rest(stream).await;
                });
            }
        });
        Self {
            port,
            heads,
            accepting,
        }
    }

    fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Up to the empty line, or to the first line of what is no HTTP.
async fn head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while let Ok(byte) = stream.read_u8().await {
        head.push(byte);
        let is_line = byte == b'\n' && !String::from_utf8_lossy(&head).contains("HTTP/1.1");
        if is_line || head.ends_with(b"\r\n\r\n") {
            break;
        }
    }
    String::from_utf8(head).unwrap()
}

fn response(status: &str, fields: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\n{fields}\r\n{body}")
}

/// The lines that the host logs while the guard is kept.
pub(crate) fn logged() -> (Lines, tracing::subscriber::DefaultGuard) {
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .with_ansi(false)
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

impl Lines {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}
