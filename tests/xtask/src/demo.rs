//! `cargo xtask demo`: a task, its result and its callbacks, as they happen.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::machine::{self, Need};
use crate::node::{self, Data, Node};
use crate::{guests, step};

const CALLBACK_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(30);
// Arguments of `run_task`.
const SUCCEEDS: &str = "[1000]";
const FAILS: &str = "[20000000]";
const ON_SUCCESS: &str = "my_app.tasks.on_success_task";
const ON_ERROR: &str = "my_app.tasks.on_error_task";

/// Sets everything up, shows the flow, and cleans up.
///
/// # Errors
/// If the set-up fails, or the flow does not end as it should.
pub(crate) fn run(root: &Path, rabbitmq: bool) -> Result<()> {
    let needs: &[Need] = if rabbitmq {
        &Need::NODES
    } else {
        &[Need::WasmTarget, Need::Cc]
    };
    machine::prepare(root, needs)?;
    say("Building the worker and the example tasks (the first time takes some minutes)");
    let petiole = guests::build_petiole(root, false)?;
    guests::build(root)?;

    let folder = root
        .join("target/demo")
        .join(std::process::id().to_string());
    std::fs::create_dir_all(&folder)?;
    let shown = if rabbitmq {
        on_rabbitmq(root, &petiole, &folder)
    } else {
        embedded(root, &petiole, &folder)
    };
    std::fs::remove_dir_all(&folder)?;
    shown?;
    how_to_go_on(rabbitmq);
    Ok(())
}

fn embedded(root: &Path, petiole: &Path, folder: &Path) -> Result<()> {
    say("A worker on the embedded broker: one SQLite file, no server");
    let broker = format!("sqlite://{}/broker.db", folder.display());
    let results = format!("sqlite://{}/results.db", folder.display());
    let mut stage = Stage::open(root, petiole, folder, &broker, &results)?;
    stage.upload()?;
    let link = ["--link", ON_SUCCESS, "--link-error", ON_ERROR, "--wait"];

    say("A call that succeeds: the success callback gets its result");
    let succeeds = ["send", "my_app.tasks.run_task", "--args", SUCCEEDS];
    stage.petiole(succeeds.iter().chain(&link))?;
    stage.wait_for(ON_SUCCESS)?;

    say("A call that fails: the error callback gets its id");
    let fails = ["send", "my_app.tasks.run_task", "--args", FAILS];
    if stage.petiole(fails.iter().chain(&link)).is_ok() {
        bail!("the call was to fail");
    }
    stage.wait_for(ON_ERROR)?;
    stage.close()
}

fn on_rabbitmq(root: &Path, petiole: &Path, folder: &Path) -> Result<()> {
    say("A private RabbitMQ node and a private Redis");
    let (amqp, redis) = (Node::rabbitmq(root, Data::Disk)?, Node::redis(root)?);
    println!("{}\n{}", amqp.url, redis.url);
    say("A worker on them");
    let mut stage = Stage::open(root, petiole, folder, &amqp.url, &redis.url)?;
    stage.upload()?;
    say("The producer: real Celery, see tests/system/demo_producer.py");
    step::run(
        step::command(machine::python(root))
            .arg("-u")
            .arg(root.join("tests/system/demo_producer.py"))
            .env("CELERY_BROKER_URL", &amqp.url)
            .env("CELERY_RESULT_BACKEND", &redis.url)
            .current_dir(root),
    )?;
    stage.wait_for(ON_SUCCESS)?;
    stage.wait_for(ON_ERROR)?;
    stage.close()
}

fn how_to_go_on(rabbitmq: bool) {
    say("That was it, and everything is stopped. To go on:");
    println!("  the tasks that ran             tasks-wasm/my_app/src/lib.rs");
    println!(
        "  one function, without a broker target/debug/petiole run target/wasm32-wasip2/release/my_app.wasm run_task --args '{SUCCEEDS}'"
    );
    println!(
        "  a worker to play with          target/debug/petiole dev target/wasm32-wasip2/release/my_app.wasm"
    );
    if !rabbitmq {
        println!("  the same with Celery           cargo xtask demo --rabbitmq");
    }
    println!("  every test                     cargo xtask test");
}

fn say(what: &str) {
    println!("\n\x1b[1m{what}\x1b[0m");
}

/// A running worker, and its log.
struct Stage {
    root: PathBuf,
    petiole: PathBuf,
    settings: Vec<(&'static str, String)>,
    worker: Child,
    lines: Receiver<String>,
    /// Lines that nobody has waited for yet.
    seen: Vec<String>,
}

impl Stage {
    fn open(
        root: &Path,
        petiole: &Path,
        folder: &Path,
        broker: &str,
        results: &str,
    ) -> Result<Self> {
        let [http] = node::free_ports()?;
        let settings = vec![
            ("PETIOLE_BROKER_URL", broker.to_owned()),
            ("PETIOLE_RESULT_BACKEND", results.to_owned()),
            ("PETIOLE_API", format!("http://127.0.0.1:{http}")),
            (
                "PETIOLE_TOKEN",
                format!("token-of-the-demo-{}", std::process::id()),
            ),
        ];
        println!("$ petiole worker");
        let mut worker = step::command(petiole)
            .arg("worker")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .env(
                "PETIOLE_STORE",
                format!("file://{}/modules", folder.display()),
            )
            .env("PETIOLE_CACHE", folder.join("cache"))
            .env("PETIOLE_HTTP", format!("127.0.0.1:{http}"))
            .env_remove("RUST_BACKTRACE")
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("could not start the worker")?;
        let (sender, lines) = channel();
        show(worker.stdout.take(), sender.clone());
        show(worker.stderr.take(), sender);
        let mut stage = Self {
            root: root.into(),
            petiole: petiole.into(),
            settings,
            worker,
            lines,
            seen: Vec::new(),
        };
        node::wait_ready(&mut stage.worker, http)?;
        Ok(stage)
    }

    fn upload(&self) -> Result<()> {
        say("The tasks are uploaded while it runs");
        self.petiole(
            [
                "push",
                "target/wasm32-wasip2/release/my_app.wasm",
                "--name",
                "my_app.tasks",
            ]
            .iter(),
        )?;
        self.petiole(["tasks"].iter())
    }

    /// Runs a command, and shows it as one would type it.
    fn petiole<'a>(&self, arguments: impl Iterator<Item = &'a &'a str>) -> Result<()> {
        let mut command = Command::new("petiole");
        command.args(arguments);
        println!("$ {}", step::show(&command));
        step::run(
            step::command(&self.petiole)
                .args(command.get_args())
                .envs(self.settings.iter().map(|(name, value)| (name, value)))
                .current_dir(&self.root),
        )
    }

    /// Waits until the worker says that the task has succeeded.
    fn wait_for(&mut self, task: &str) -> Result<()> {
        let deadline = Instant::now() + CALLBACK_DEADLINE;
        let is_it = |line: &String| line.contains(task) && line.contains("succeeded");
        while !self.seen.iter().any(is_it) {
            let left = deadline.saturating_duration_since(Instant::now());
            let line = self
                .lines
                .recv_timeout(left)
                .with_context(|| format!("{task} has not been called"))?;
            self.seen.push(line);
        }
        Ok(())
    }

    /// A warm shutdown.
    fn close(mut self) -> Result<()> {
        say("The worker is asked to stop");
        step::run(step::command("kill").args(["-TERM", &self.worker.id().to_string()]))?;
        let deadline = Instant::now() + STOP_DEADLINE;
        loop {
            match self.worker.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => bail!("the worker ended with {status}"),
                None if Instant::now() > deadline => bail!("the worker did not stop"),
                None => thread::sleep(Duration::from_millis(50)),
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.worker.kill();
        let _ = self.worker.wait();
    }
}

/// Prints the worker's lines as they come, and hands them on.
fn show(output: Option<impl std::io::Read + Send + 'static>, lines: Sender<String>) {
    let Some(output) = output else { return };
    thread::spawn(move || {
        for line in BufReader::new(output)
            .lines()
            .map_while(std::io::Result::ok)
        {
            println!("  worker | {line}");
            let _ = lines.send(line);
        }
    });
}
