//! TLS to the servers that URLs name, as the parameters of Celery's and kombu's URLs ask for it.

mod blocking;
mod host;
mod tls;

pub use blocking::blocking;
pub use host::{TORN, is_torn, split, with_host};
pub use tls::{Check, ClientFiles, ClientPem, Pem, Tls, TlsOptions, is_untrusted};
