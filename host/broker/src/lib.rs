//! Brokers: RabbitMQ by lapin, and an embedded one on SQLite, behind one trait.

mod amqp;
mod broker;
mod delivery;
mod embedded;
mod error;
mod memory;
mod rules;
mod said;
mod url;

use std::sync::Arc;

use petiole_permits::ServiceUrl;
use petiole_tls::blocking;

pub use broker::{Broker, MESSAGES, Terms};
pub use delivery::{Deliveries, Delivery, Receipt, Unsettled};
pub use error::{Answer, BrokerError, PublishError, Unanswered};
pub use petiole_celery::wire::{BODY_LIMIT, DELAY_LIMIT};
pub use url::{check, check_files};

/// Connects to the broker of a URL: `amqp://`, `amqps://` (several separated by `;`), `sqlite://PATH`, as
/// [`check`] reads them.
///
/// `memory`: bytes of the unsettled messages that all consumers are delivered, together. Each consumer may have one
/// message beyond them. A message without room stays in its queue, or goes back to it, until there is some.
///
/// # Errors
/// When the URL can't be read, or no broker of it answers.
pub async fn connect(url: &ServiceUrl, memory: usize) -> Result<Arc<dyn Broker>, BrokerError> {
    let named = url.clone();
    blocking(move || check_files(&named)).await?;
    match url::parse(url)? {
        url::BrokerUrl::Amqp(targets) => Ok(Arc::new(amqp::Amqp::connect(targets, memory).await?)),
        url::BrokerUrl::Sqlite(path) => Ok(Arc::new(embedded::Embedded::open(path, memory).await?)),
    }
}
