//! Servers that URLs name, as Celery and kombu 5.7 read them: Redis and its Sentinel, and TLS for them and for AMQP.

mod blocking;
mod host;
mod redis;
mod tls;

pub use blocking::blocking;
pub use host::{TORN, is_torn, with_host};
pub use redis::{Server, redacted};
pub use tls::{Check, ClientFiles, Tls, TlsOptions, is_untrusted};
