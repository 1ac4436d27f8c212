//! Flags as a layer.

use super::ConfigError;
use super::env::route;
use super::file::{InOrder, Written};
use super::http::WrittenHttp;
use super::limits::WrittenLimits;
use crate::cli::{BrokerArgs, LimitArgs, NodeArgs, ResultsArgs, TargetArgs, WorkerArgs};

impl Written {
    /// Adds the flags of a broker.
    pub(crate) fn with_broker(mut self, args: BrokerArgs) -> Result<Self, ConfigError> {
        self.broker = args.broker;
        self.default_queue = args.default_queue;
        let routes = args
            .routes
            .iter()
            .map(|rule| route(rule))
            .collect::<Result<_, _>>();
        self.routes = InOrder(routes.map_err(|reason| ConfigError::Value {
            origin: "flag --route".to_owned(),
            reason,
        })?);
        Ok(self)
    }

    /// Adds the flags of a result backend.
    pub(crate) fn with_results(mut self, args: ResultsArgs) -> Self {
        self.results = args.results;
        self
    }

    /// Adds the flags that say which modules a command works on.
    pub(crate) fn with_target(mut self, args: TargetArgs) -> Self {
        self.api = args.to;
        self.api_ca = args.ca;
        self.store = args.store;
        self
    }

    /// Adds the flags of a node.
    pub(crate) fn with_node(self, args: NodeArgs) -> Self {
        Self {
            queues: args.queues,
            concurrency: args.concurrency,
            prefetch_multiplier: args.prefetch_multiplier,
            hostname: args.hostname,
            loglevel: args.loglevel,
            log_format: args.log_format,
            result_expires: args.result_expires,
            result_extended: args.result_extended.then_some(true),
            quarantine_queue: args.quarantine_queue,
            soft_shutdown_timeout: args.soft_shutdown_timeout,
            http: WrittenHttp {
                addr: args.http,
                ..WrittenHttp::default()
            },
            ..self
        }
        .with_limits(args.limits)
    }

    /// Adds the flags of a task's limits.
    pub(crate) fn with_limits(mut self, args: LimitArgs) -> Self {
        self.limits = WrittenLimits {
            time: args.time_limit,
            soft_time: args.soft_time_limit,
            cpu_time: args.cpu_time_limit,
            soft_cpu_time: args.soft_cpu_time_limit,
            memory: args.memory_limit,
            ..WrittenLimits::default()
        };
        self
    }

    /// The flags of `petiole worker`.
    pub(crate) fn of_worker(args: WorkerArgs) -> Result<Self, ConfigError> {
        let mut written = Self::default()
            .with_broker(args.broker)?
            .with_results(args.results)
            .with_node(args.node);
        written.store = args.store;
        Ok(written)
    }
}
