//! Messages in quarantine.

use clap::{Args, Subcommand};

use crate::config::from_text;

#[derive(Debug, Args)]
pub(crate) struct QuarantineArgs {
    #[command(subcommand)]
    pub command: QuarantineCommand,
    /// amqp://, pyamqp://, amqps:// (several separated by `;`), or sqlite://PATH
    #[arg(short, long, value_name = "URL", global = true)]
    pub broker: Option<String>,
    /// The queue that keeps them [default: petiole.quarantine]
    #[arg(long, value_name = "QUEUE", global = true)]
    pub quarantine_queue: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum QuarantineCommand {
    /// Messages that are kept, the oldest first
    List {
        /// At most this many
        #[arg(long, value_name = "N", default_value = "100", value_parser = from_text::<std::num::NonZeroU16>)]
        limit: std::num::NonZeroU16,
    },
    /// One message: properties, headers, body, and why it is kept
    Show {
        /// As `petiole quarantine list` prints it: the message's, or its task's
        id: String,
    },
    /// Send a message to where it was to go or came from, and remove it from quarantine
    Retry(ChosenArgs),
    /// Remove a message for good
    Drop(ChosenArgs),
}

/// One message, or all of them.
#[derive(Debug, Args)]
pub(crate) struct ChosenArgs {
    /// As `petiole quarantine list` prints it: the message's, or its task's
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    pub id: Option<String>,
    /// All that are there now, instead of one
    #[arg(long)]
    pub all: bool,
}
