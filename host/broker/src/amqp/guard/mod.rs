//! A guard between lapin and its socket (decision 12): what a publisher puts into a message reaches lapin only
//! in a form that lapin can read, and nothing leaves that is not whole, well-formed frames of the size that was
//! agreed.
//!
//! Lapin 4.12 ends the connection over a content header that it can't read, after which the broker delivers the
//! message again, for ever. It also reads headers by recursion, and can send half a frame when one is larger
//! than its buffer.

mod frame;
mod inbound;
mod kit;
mod methods;
mod outbound;
mod passed;
mod properties;
mod restore;
mod stream;

pub(super) use kit::connect;
pub(super) use passed::{Channels, Passed};
pub(super) use restore::{mark, restore};

use std::fmt::Write;
use std::sync::LazyLock;

use lapin::BasicProperties;
use lapin::message::Delivery;
use lapin::protocol::basic::gen_properties;
use uuid::Uuid;

use crate::PublishError;

/// Bytes; RabbitMQ's default. Asked for where a URL asks for no less.
pub(super) const FRAME_MAX: u32 = 131_072;
/// Bytes of a content header's properties that are kept. A publisher's own fit a frame; the broker adds to them
/// on their way (`x-death`), and then sends them whole, in one frame over `frame_max`.
const HEADER_LIMIT: usize = 262_144;

/// A secret of this process, so that no publisher can write a mark of ours.
static SECRET: LazyLock<String> = LazyLock::new(|| Uuid::new_v4().simple().to_string());

/// Location of a delivery's real properties, written in the place of `cluster_id`, alone in a content header. The
/// properties themselves, as they came, are the first bytes of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    /// Bytes of the body that are properties.
    kept: usize,
    /// Bytes that the properties had.
    whole: usize,
    /// The exchange or the routing key was no UTF-8.
    names: bool,
}

impl Mark {
    fn text(&self) -> String {
        let mut text = SECRET.clone();
        let names = u8::from(self.names);
        // Writing to a string does not fail.
        let _ = write!(text, ":{}:{}:{names}", self.kept, self.whole);
        text
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(SECRET.as_str())?.split(':').skip(1);
        Some(Self {
            kept: parts.next()?.parse().ok()?,
            whole: parts.next()?.parse().ok()?,
            names: parts.next()? == "1",
        })
    }
}

/// In the place of a mark, where the guard has left the body and the properties of a delivery out: for want of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Bytes that it would take.
    pub(super) bytes: u64,
}

impl LeftOut {
    fn text(self) -> String {
        format!("{}:left out:{}", *SECRET, self.bytes)
    }

    fn read(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix(SECRET.as_str())?.split(':').skip(1);
        let bytes = match parts.next()? {
            "left out" => parts.next()?.parse().ok()?,
            _ => return None,
        };
        Some(Self { bytes })
    }

    /// The guard's note on a delivery that it left out.
    pub(super) fn of(delivery: &Delivery) -> Option<Self> {
        let text = delivery.properties.cluster_id().as_ref()?;
        Self::read(text.as_str())
    }
}

/// Checks that a message's content header fits one frame, as AMQP wants it (0-9-1 section 4.2.6.1). Lapin would write a
/// larger one nevertheless.
///
/// # Errors
/// [`PublishError::Invalid`] with both sizes.
pub(super) fn fits(properties: &BasicProperties, frame_max: u32) -> Result<(), PublishError> {
    let encoded =
        gen_properties(properties)(Vec::new().into()).map_err(|error| PublishError::Invalid {
            reason: format!("the headers can't be encoded: {error:?}"),
        })?;
    let size = encoded.into_inner().0.len() + frame::CONTENT + frame::OVERHEAD;
    if size > usize::try_from(frame_max).unwrap_or(usize::MAX) {
        return Err(PublishError::Invalid {
            reason: format!(
                "the properties and headers take a frame of {size} bytes, over the broker's limit of {frame_max}"
            ),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
