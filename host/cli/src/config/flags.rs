//! Flags as a layer.

use petiole_permits::url::redact;
use serde::Serialize;
use toml::{Table, Value};

use super::error::ConfigError;
use super::key::Key;
use super::layer::Layer;

/// Flags by their names, as the command line's structs have them: `memory_limit` for `--memory-limit`.
#[derive(Debug, Default)]
pub(crate) struct Flags {
    given: Table,
    /// The reason why one can't be used.
    wrong: Option<String>,
}

impl Flags {
    /// Adds the flags of a command's arguments; those that are not given are none.
    pub(crate) fn with(mut self, args: &impl Serialize) -> Self {
        match Table::try_from(args) {
            Ok(given) => self.given.extend(given),
            // A path that is not UTF-8.
            Err(error) => self.wrong = Some(error.to_string()),
        }
        self
    }

    /// Adds one, where it is given.
    pub(crate) fn set(mut self, name: &str, value: Option<String>) -> Self {
        let given = value.map(|value| (name.to_owned(), value.into()));
        self.given.extend(given);
        self
    }

    pub(super) fn layer(mut self, keys: &[Key]) -> Result<Layer, ConfigError> {
        let invalid = |origin, reason| ConfigError::Value { origin, reason };
        if let Some(reason) = self.wrong {
            return Err(invalid("flags".to_owned(), reason));
        }
        let mut layer = Layer::default();
        for key in keys {
            let Some(flag) = key.flag else { continue };
            let name = flag.trim_start_matches('-').replace('-', "_");
            let Some(value) = self.given.remove(&name) else {
                continue;
            };
            let origin = format!("flag {flag}");
            let value = match value {
                Value::Array(entries) if key.kind.is_table() => {
                    table(key, &entries).map_err(|reason| invalid(origin.clone(), reason))?
                }
                value => value,
            };
            layer.set(&key.path, value, origin);
        }
        match self.given.keys().next() {
            Some(name) => {
                let origin = format!("flag --{}", name.replace('_', "-"));
                Err(invalid(origin, "there is no such setting".to_owned()))
            }
            None => Ok(layer),
        }
    }
}

/// The entries of a table, of which each has a flag.
fn table(key: &Key, entries: &[Value]) -> Result<Value, String> {
    let mut table = Table::new();
    for text in entries.iter().filter_map(Value::as_str) {
        if let Value::Table(entry) = key.read_text(text)? {
            if entry.len() != 1 {
                return Err(format!(
                    "{:?} is {} rules: give the flag once for each",
                    redact(text),
                    entry.len()
                ));
            }
            for (name, value) in entry {
                table.entry(name).or_insert(value);
            }
        }
    }
    Ok(Value::Table(table))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use clap::{Arg, CommandFactory, Parser};

    use super::super::broker::Route;
    use super::super::setting::{InOrder, Setting};
    use super::super::{Config, keys};
    use super::*;
    use crate::cli::{Cli, Command};

    /// Flags whose defaults differ from machine to machine.
    const OF_THE_MACHINE: [&str; 3] = ["--hostname", "--concurrency", "--ca"];

    #[test]
    fn every_flag_of_a_worker_is_a_setting() {
        let args = [
            "petiole",
            "worker",
            "-b",
            "amqp://h",
            "--route",
            "a.*=a",
            "--route",
            "b.*=b",
            "--default-queue",
            "d",
            "--results",
            "rpc://",
            "--store",
            "file://s",
            "-Q",
            "q,r",
            "-c",
            "3",
            "--prefetch-multiplier",
            "2",
            "--http",
            "127.0.0.1:0",
            "-n",
            "n",
            "-l",
            "debug",
            "--log-format",
            "json",
            "--time-limit",
            "5",
            "--soft-time-limit",
            "4",
            "--cpu-time-limit",
            "3",
            "--soft-cpu-time-limit",
            "2",
            "--memory-limit",
            "64M",
            "--result-expires",
            "60",
            "--result-extended",
            "--quarantine-queue",
            "k",
            "--soft-shutdown-timeout",
            "9",
        ];
        let Command::Worker(args) = Cli::try_parse_from(args).unwrap().command else {
            panic!("a worker");
        };
        let layer = Flags::default().with(&args).layer(&keys()).unwrap();
        assert_eq!(layer.text("limits.memory"), Some("64MiB"));
        assert_eq!(layer.text("loglevel"), Some("debug"));
        let nothing = Cli::try_parse_from(["petiole", "worker"]).unwrap().command;
        let Command::Worker(args) = nothing else {
            panic!("a worker");
        };
        let flags = Flags::default().with(&args);
        assert!(flags.given.is_empty(), "{flags:?}");
        let flags = Flags::default().set("no_such", Some(String::new()));
        let error = flags.layer(&keys()).err().unwrap().to_string();
        assert_eq!(error, "flag --no-such: there is no such setting");
    }

    #[test]
    fn every_setting_with_a_flag_has_an_argument_whose_help_tells_its_default() {
        let cli = Cli::command();
        let commands = cli.get_subcommands();
        let arguments: Vec<_> = commands.flat_map(clap::Command::get_arguments).collect();
        let defaults = Config::new(Vec::new()).unwrap().values();
        let mut told = 0;
        for key in keys() {
            let Some(flag) = key.flag else { continue };
            let named = |arg: &&&Arg| arg.get_long() == flag.strip_prefix("--");
            let named: Vec<_> = arguments.iter().filter(named).collect();
            assert!(!named.is_empty(), "{flag} is no argument");
            for argument in named {
                let help = argument.get_help().unwrap().to_string();
                let default = help.split_once("[default: ");
                let Some((_, default)) = default.filter(|_| !OF_THE_MACHINE.contains(&flag)) else {
                    continue;
                };
                let value = match default.trim_end_matches(']') {
                    "none" => None,
                    text => Some(key.read_text(text).unwrap()),
                };
                assert_eq!(value.as_ref(), defaults.get(&key.path), "{flag}");
                told += 1;
            }
        }
        assert!(told > 10, "{told}");
    }

    #[test]
    fn a_route_is_one_rule_and_the_first_of_a_glob_counts() {
        let routes = |rules: &[&str]| {
            let args = rules.iter().flat_map(|rule| ["--route", *rule]);
            let args = ["petiole", "worker"].into_iter().chain(args);
            let Command::Worker(args) = Cli::try_parse_from(args).unwrap().command else {
                panic!("a worker");
            };
            let layer = Flags::default().with(&args).layer(&keys());
            layer.map_err(|error| error.to_string())
        };
        for rule in ["", "a=x,b=y"] {
            let error = routes(&[rule]).err().unwrap();
            assert!(error.contains("rules: give the flag once"), "{error}");
        }
        assert!(routes(&["a"]).is_err());
        assert!(routes(&["a=x", "a=y"]).is_ok());
        let texts = InOrder::<Route>::from_text("a=x,b=y,a=z").unwrap();
        let queues = [("a", "x"), ("b", "y")];
        assert_eq!(
            texts.0,
            queues.map(|(glob, queue)| (glob.to_owned(), Route::Queue(queue.to_owned())))
        );
    }
}
