//! Names as AMQP's short strings.

use lapin::types::ShortString;

use crate::{BrokerError, PublishError};

/// `ShortString::from` panics over 255 bytes; this does not.
pub(super) fn short(what: &str, text: &str) -> Result<ShortString, PublishError> {
    ShortString::try_new(text).map_err(|_| PublishError::Invalid {
        reason: format!("the {what} has {} bytes, over the limit of 255", text.len()),
    })
}

pub(super) fn queue_name(queue: &str) -> Result<ShortString, BrokerError> {
    let refuse = |reason: String| BrokerError::Queue {
        queue: queue.to_owned(),
        reason,
    };
    if queue.is_empty() {
        return Err(refuse("a queue's name can't be empty".to_owned()));
    }
    ShortString::try_new(queue).map_err(|_| {
        refuse(format!(
            "its name has {} bytes, over the limit of 255",
            queue.len()
        ))
    })
}
