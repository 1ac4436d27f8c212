//! Admission of a message to its run: pure, given its task and the time.

use std::sync::Arc;

use jiff::Timestamp;
use petiole_celery::{Lineage, Message, Refusal, Request, RetrySettings, Undecodable};
use petiole_permits::Limits;
use petiole_runtime::{Arguments, HostFault};

use crate::catalog::active::Found;
use crate::catalog::registered::RegisteredTask;

pub(crate) enum Admitted {
    Run(Box<Ready>),
    Not(NotRun),
}

/// The course of a message that is not run.
pub(crate) enum NotRun {
    Postpone {
        request: Box<Request>,
        until: Timestamp,
    },
    /// Its module is not loaded here, which may be over by then.
    AwaitModule {
        request: Box<Request>,
        until: Timestamp,
    },
    /// The worker could not run it, for a reason that is none of its own.
    AwaitHost {
        request: Box<Request>,
        fault: HostFault,
        task: Arc<RegisteredTask>,
    },
    /// Other tasks have the memory that it needs.
    AwaitMemory {
        request: Box<Request>,
    },
    Refuse {
        request: Box<Request>,
        refusal: Refusal,
    },
    Quarantine(Box<Undecodable>),
}

/// A request whose arguments fit its task.
pub(crate) struct Ready {
    pub(crate) request: Box<Request>,
    pub(crate) task: Arc<RegisteredTask>,
    pub(crate) arguments: Arguments,
    pub(crate) limits: Limits,
    pub(crate) retry: RetrySettings,
}

impl Ready {
    /// The message that it came in; everything else is gone.
    pub(crate) fn into_message(self) -> Message {
        self.request.message
    }
}

/// Decides whether a message is run. `sent_limit`: the [policy](petiole_celery::plan::Policy)'s.
pub(crate) fn admit(request: Request, found: Found, sent_limit: usize, now: Timestamp) -> Admitted {
    let request = Box::new(request);
    if request.expires.is_some_and(|expires| expires <= now) {
        return Admitted::Not(NotRun::Refuse {
            request,
            refusal: Refusal::Expired,
        });
    }
    if let Some(refusal) = request.unsupported(sent_limit) {
        return Admitted::Not(NotRun::Refuse { request, refusal });
    }
    if let Some(until) = request.eta.filter(|eta| *eta > now) {
        return Admitted::Not(NotRun::Postpone { request, until });
    }
    let task = match found {
        Found::Task(task) => task,
        Found::NotLoaded { again } => {
            let until = now.saturating_add(again).unwrap_or(now);
            return Admitted::Not(NotRun::AwaitModule { request, until });
        }
        Found::Refused { module, reason } => {
            let refusal = Refusal::ModuleRefused {
                task: request.task.clone(),
                module: module.to_string(),
                reason: reason.to_string(),
            };
            return Admitted::Not(NotRun::Refuse { request, refusal });
        }
        Found::Unknown => {
            let refusal = Refusal::UnknownTask {
                task: request.task.clone(),
            };
            return Admitted::Not(NotRun::Refuse { request, refusal });
        }
    };
    let limits = limits(&request, task.limits);
    let Request { args, kwargs, .. } = &*request;
    match task.task.bind(args, kwargs, limits.arguments) {
        Ok(arguments) => Admitted::Run(Box::new(Ready {
            retry: retry(&request, task.retry),
            request,
            task,
            arguments,
            limits,
        })),
        Err(misfit) => Admitted::Not(NotRun::Refuse {
            request,
            refusal: misfit.into(),
        }),
    }
}

/// The task's limits; what the message says may lower them, never raise them: its `timelimit`, what the task
/// that sent it left for it, and the runs that it had before.
fn limits(request: &Request, mut limits: Limits) -> Limits {
    if let Some(hard) = request.time_limits.hard {
        limits.time = limits.time.min(hard);
    }
    let soft = match (limits.soft_time, request.time_limits.soft) {
        (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
        (ours, theirs) => ours.or(theirs),
    };
    // One that is not below the hard one would never be reached.
    limits.soft_time = soft.filter(|soft| *soft < limits.time);
    if let Some(Lineage { descendants, depth }) = request.lineage {
        limits.descendants = limits.descendants.min(descendants);
        limits.depth = limits.depth.min(depth);
    }
    let retries = usize::try_from(request.retries).unwrap_or(usize::MAX);
    limits.descendants = limits.descendants.saturating_sub(retries);
    limits
}

/// The task's retries. One that a guest has sent may ask for no more than were left for it.
fn retry(request: &Request, retry: RetrySettings) -> RetrySettings {
    let left = request
        .lineage
        .and_then(|left| u32::try_from(left.descendants).ok());
    RetrySettings {
        most_retries: retry
            .most_retries
            .min(left.unwrap_or(u32::MAX))
            .max(retry.max_retries),
        ..retry
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use petiole_celery::Properties;
    use serde_json::{Value, json};

    use super::*;

    fn request(headers: &Value) -> Request {
        let mut all = json!({"task": "a.b", "id": "1"});
        all.as_object_mut()
            .unwrap()
            .extend(headers.as_object().unwrap().clone());
        let properties = Properties {
            content_type: Some("application/json".into()),
            ..Properties::default()
        };
        let message = Message {
            properties,
            headers: all.as_object().unwrap().clone(),
            body: b"[[], {}, {}]".as_slice().into(),
        };
        Request::decode(message, |_| usize::MAX).unwrap()
    }

    #[test]
    fn retries_that_a_guest_asks_for_come_of_what_was_left_for_it() {
        let task = RetrySettings {
            max_retries: 3,
            most_retries: 10_000,
            default_retry_delay: Duration::ZERO,
        };
        for (descendants, most) in [
            (None, 10_000),
            (Some(50_000), 10_000),
            (Some(7), 7),
            (Some(0), 3),
        ] {
            let headers = match descendants {
                None => json!({}),
                Some(left) => json!({"x-petiole-descendants": left, "x-petiole-depth": 1}),
            };
            let retry = retry(&request(&headers), task);
            assert_eq!(
                retry,
                RetrySettings {
                    most_retries: most,
                    ..task
                }
            );
        }
    }

    #[test]
    fn a_message_lowers_limits_and_never_raises_them() {
        let task = crate::catalog::defaults::tests::limits();
        let seconds = Duration::from_secs;
        let table = [
            (json!({}), (seconds(300), Some(seconds(250)))),
            (
                json!({"timelimit": [10, 5]}),
                (seconds(10), Some(seconds(5))),
            ),
            (json!({"timelimit": [10, null]}), (seconds(10), None)),
            (json!({"timelimit": [10, 10]}), (seconds(10), None)),
            (
                json!({"timelimit": [null, 5]}),
                (seconds(300), Some(seconds(5))),
            ),
            (
                json!({"timelimit": [900, 800]}),
                (seconds(300), Some(seconds(250))),
            ),
            (
                json!({"timelimit": [0, 0]}),
                (seconds(300), Some(seconds(250))),
            ),
        ];
        for (headers, expected) in table {
            let limits = limits(&request(&headers), task);
            assert_eq!((limits.time, limits.soft_time), expected, "{headers}");
        }
        let table = [
            (
                json!({"x-petiole-descendants": 7, "x-petiole-depth": 0}),
                (7, 0),
            ),
            (
                json!({"x-petiole-descendants": 20_000, "x-petiole-depth": 200}),
                (10_000, 100),
            ),
            (json!({}), (10_000, 100)),
            (json!({"retries": 3}), (9_997, 100)),
            (
                json!({"retries": 3, "x-petiole-descendants": 2, "x-petiole-depth": 1}),
                (0, 1),
            ),
        ];
        for (headers, expected) in table {
            let limits = limits(&request(&headers), task);
            assert_eq!((limits.descendants, limits.depth), expected, "{headers}");
        }
    }
}
