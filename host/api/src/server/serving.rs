//! An API from the worker's start: until there is what it serves from, it answers its probes.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::connections;
use super::listen::Listening;
use crate::error::ApiError;
use crate::routes::{health, router};
use crate::state::{Api, Gate};

/// The time for what was begun, at shutdown. Only an upload takes longer that is still being compiled, and has changed
/// nothing.
const UNATTENDED: Duration = Duration::from_secs(30);

/// The seconds that a client does best to wait before it asks again.
const AGAIN: u64 = 2;

/// An API that is served until it is closed.
pub struct Serving {
    /// Its address from this machine.
    pub url: String,
    /// A token that was made up for it.
    pub generated: Option<String>,
    /// The limits on who gets in.
    pub gate: Gate,
    front: Arc<Front>,
    closing: CancellationToken,
    serving: JoinHandle<()>,
}

/// The API is no longer served.
#[derive(Debug, thiserror::Error)]
#[error("the http api ended early")]
pub struct ApiEnded(#[source] JoinError);

struct Front {
    /// The thing that the worker waits for at its start.
    waits_for: Mutex<&'static str>,
    /// Once it waits for nothing.
    router: OnceLock<Router>,
}

impl Listening {
    /// Answers probes from now on.
    pub fn serve(self) -> Serving {
        let Self {
            listener,
            url,
            generated,
            gate,
            tls,
        } = self;
        let front = Arc::new(Front {
            waits_for: Mutex::new("its start"),
            router: OnceLock::new(),
        });
        let closing = CancellationToken::new();
        let answering = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&front));
        let serving = connections::serve(answering, listener, tls, closing.clone());
        Serving {
            url,
            generated,
            gate,
            front,
            closing,
            serving: tokio::spawn(serving),
        }
    }
}

impl Serving {
    /// Names the thing that is waited for at the start, for `/readyz` to say.
    pub fn waits_for(&self, what: &'static str) {
        let waits_for = self.front.waits_for.lock();
        *waits_for.unwrap_or_else(PoisonError::into_inner) = what;
    }

    /// Serves everything from now on.
    pub fn open(&self, api: Api) {
        // Once: there is one worker.
        let _ = self.front.router.set(router(api));
    }

    /// Ends when open requests are answered, and what they began is done.
    ///
    /// # Errors
    /// When it had ended before.
    pub async fn close(self) -> Result<(), ApiEnded> {
        self.closing.cancel();
        self.serving.await.map_err(ApiEnded)?;
        let work = &self.gate.work;
        work.close();
        if tokio::time::timeout(UNATTENDED, work.wait()).await.is_err() {
            tracing::error!(target: "petiole", "http api: {} requests are cut off", work.len());
        }
        Ok(())
    }
}

async fn answer(State(front): State<Arc<Front>>, request: Request) -> Response {
    if let Some(router) = front.router.get() {
        let Ok(response) = router.clone().oneshot(request).await;
        return response;
    }
    let path = request.uri().path();
    if path == "/healthz" {
        return health::healthz().await.into_response();
    }
    let waits_for = *front
        .waits_for
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let reason = format!("the worker waits for {waits_for}");
    if path == "/readyz" {
        return health::unready(&reason).into_response();
    }
    ApiError::new(
        StatusCode::SERVICE_UNAVAILABLE,
        format!("not ready: {reason}"),
    )
    .retry_after(AGAIN)
    .into_response()
}
