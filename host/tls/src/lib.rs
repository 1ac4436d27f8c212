//! TLS to the servers that URLs name, as the parameters of Celery's and kombu's URLs ask for it.

mod blocking;
mod tls;

pub use blocking::blocking;
pub use tls::{Check, ClientFiles, ClientPem, Pem, Tls, TlsOptions, is_untrusted};
