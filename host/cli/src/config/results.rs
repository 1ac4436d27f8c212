//! The result backend.

use petiole_permits::ServiceUrl;
use petiole_storage::results;

use super::error::ConfigError;
use super::key::settings;
use super::units::Seconds;
use super::url::check_server;

settings! {
    /// The result backend.
    ResultSettings with origins {
        /// `disabled://` for nowhere.
        url: ServiceUrl = "disabled://".into(),
            Url "results" ["PETIOLE_RESULT_BACKEND", "CELERY_RESULT_BACKEND"] "--results";
        /// The time for which results are kept.
        expires: Seconds = Seconds(results::RESULT_EXPIRES),
            Plain "result_expires" ["PETIOLE_RESULT_EXPIRES"] "--result-expires";
        /// True if they have the task's name, arguments, worker and queue, and what it used.
        extended: bool = false,
            Plain "result_extended" ["PETIOLE_RESULT_EXTENDED"] "--result-extended";
    }
}

impl ResultSettings {
    /// Checks that the URL can be used.
    pub(crate) fn check_url(&self) -> Result<(), ConfigError> {
        let checked = results::mode(&self.url).map(drop);
        let checked = checked.map_err(|error| error.to_string());
        let ours = "PETIOLE_RESULT_BACKEND or --results";
        check_server(&self.origins, "results", ours, checked)
    }

    /// Checks that the certificates and keys that the URL names can be read.
    pub(super) fn check_files(&self) -> Result<(), ConfigError> {
        results::check_files(&self.url)
            .map_err(|error| self.origins.wrong("results", error.to_string()))
    }
}
