//! Whether a message is run: pure, given the registry and the time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use petiole_celery::{Refusal, Request, Undecodable};
use petiole_runtime::{Arguments, Limits};

use crate::registered::RegisteredTask;
use crate::registry::Registry;

/// The longest that a broker holds a message back: 28 binary digits of seconds, which is what Celery's
/// native delayed delivery has.
const LONGEST_DELAY: SignedDuration = SignedDuration::from_secs((1 << 28) - 1);

pub(crate) enum Admitted {
    Run(Box<Ready>),
    Postpone {
        request: Box<Request>,
        until: Timestamp,
    },
    Refuse {
        request: Box<Request>,
        refusal: Refusal,
    },
    Quarantine(Box<Undecodable>),
}

/// A request whose arguments fit its task.
pub(crate) struct Ready {
    pub(crate) request: Request,
    pub(crate) task: Arc<RegisteredTask>,
    pub(crate) arguments: Arguments,
    pub(crate) limits: Limits,
}

pub(crate) fn admit(
    received: Result<Request, Box<Undecodable>>,
    registry: &Registry,
    now: Timestamp,
) -> Admitted {
    let request = match received {
        Ok(request) => Box::new(request),
        Err(undecodable) => return Admitted::Quarantine(undecodable),
    };
    if request.expires.is_some_and(|expires| expires <= now) {
        return Admitted::Refuse {
            request,
            refusal: Refusal::Expired,
        };
    }
    if let Some(refusal) = request.unsupported() {
        return Admitted::Refuse { request, refusal };
    }
    if let Some(until) = request.eta.filter(|eta| *eta > now) {
        return postpone(request, until, now);
    }
    let Some(task) = registry.task(&request.task) else {
        let refusal = Refusal::UnknownTask {
            task: request.task.clone(),
        };
        return Admitted::Refuse { request, refusal };
    };
    match task.task.bind(&request.args, &request.kwargs) {
        Ok(arguments) => {
            let limits = limits(&request, &task);
            Admitted::Run(Box::new(Ready {
                request: *request,
                task,
                arguments,
                limits,
            }))
        }
        Err(misfit) => Admitted::Refuse {
            request,
            refusal: Refusal::Arguments {
                reason: misfit.to_string(),
            },
        },
    }
}

fn postpone(request: Box<Request>, until: Timestamp, now: Timestamp) -> Admitted {
    if until.duration_since(now) <= LONGEST_DELAY {
        return Admitted::Postpone { request, until };
    }
    let reason = format!(
        "eta {until} is more than {} s away",
        LONGEST_DELAY.as_secs()
    );
    Admitted::Refuse {
        request,
        refusal: Refusal::Malformed { reason },
    }
}

/// The task's limits; a message's `timelimit` may lower them, never raise them.
fn limits(request: &Request, task: &RegisteredTask) -> Limits {
    let mut limits = task.limits;
    if let Some(hard) = request.time_limits.hard {
        limits.time = limits.time.min(hard);
    }
    limits.soft_time = match (limits.soft_time, request.time_limits.soft) {
        (Some(ours), Some(theirs)) => Some(ours.min(theirs)),
        (ours, theirs) => ours.or(theirs),
    };
    limits
}
