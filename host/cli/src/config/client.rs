//! The commands' way to a worker's HTTP API.

use petiole_permits::ServiceUrl;
use std::path::PathBuf;

use super::error::ConfigError;
use super::key::settings;
use super::url::api_url;

settings! {
    /// The commands' way to a worker's HTTP API.
    ClientSettings with origins {
        /// The API's URL.
        api: Option<ServiceUrl> = None,
            Url "api" ["PETIOLE_API"] "--to";
        /// The authority of the API's certificate: a PEM file.
        ca: Option<PathBuf> = None,
            Plain "api_ca" ["PETIOLE_API_CA"] "--ca";
        /// Shown to the API: a PEM file.
        cert: Option<PathBuf> = None,
            Plain "api_cert" ["PETIOLE_API_CERT"];
        /// Its private key.
        key: Option<PathBuf> = None,
            Plain "api_key" ["PETIOLE_API_KEY"];
    }
}

impl ClientSettings {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        if let Some(Err(reason)) = self.api.as_ref().map(api_url) {
            return Err(self.origins.wrong("api", reason));
        }
        let (cert, key) = (&self.cert, &self.key);
        self.origins
            .check_both(("api_cert", cert.is_some()), ("api_key", key.is_some()))
    }
}
