//! Rates and tokens of requests: middleware before the routes.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::actor::Actor;
use crate::audit::Entry;
use crate::door::{Peer, Scope, Token, needed};
use crate::error::ApiError;
use crate::state::Api;

/// The words to a client that has no right token.
const NO_RIGHT_TOKEN: &str = "too many requests without a right token from this address";

/// The token that a request shows; in the extensions of each but probes.
#[derive(Clone)]
struct Shown(Result<Arc<Token>, Refused>);

/// The reason to turn a request away.
#[derive(Clone)]
enum Refused {
    NoCertificate,
    NoToken,
    WrongToken,
    /// The token opens other things.
    Scope {
        needed: Vec<Scope>,
    },
}

/// Limits what a token may ask or, where none is right, an address: those who flood it without a token take
/// nothing from those who share it and have one. Not probes: a flood must not make a worker look dead.
pub(super) async fn limit(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if ["/healthz", "/readyz"].contains(&request.uri().path()) {
        return next.run(request).await;
    }
    let Some(peer) = request.extensions().get::<Peer>() else {
        return no_peer().into_response();
    };
    let shown = shown(&api, peer, request.headers());
    let rates = &api.gate.rates;
    let (spent, what) = match &shown.0 {
        Ok(token) => (
            rates.token(&token.name),
            "too many requests with this token",
        ),
        Err(_) => (rates.address(peer.address), NO_RIGHT_TOKEN),
    };
    if let Err(wait) = spent {
        return ApiError::too_many(wait, what).into_response();
    }
    request.extensions_mut().insert(shown);
    next.run(request).await
}

/// Lets a request pass whose client shows what it needs. A token is wanted on loopback too: a web page could
/// send requests there. Handlers find the [`Actor`] in the request's extensions.
pub(super) async fn admit(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let (Some(peer), Some(Shown(token))) = (
        extensions.get::<Peer>().cloned(),
        extensions.get::<Shown>().cloned(),
    ) else {
        return no_peer().into_response();
    };
    let path = request.extensions().get::<MatchedPath>();
    let path = path.map_or("", MatchedPath::as_str);
    let needed = needed(request.method().as_str(), path);
    let asked = (request.method().clone(), request.uri().clone());
    let mut actor = Actor {
        certificate: peer.certificate,
        address: Some(peer.address),
        ..Actor::default()
    };
    let token = match token {
        Ok(token) => token,
        Err(refused) => return turn_away(&api, refused, actor, asked, peer.address).await,
    };
    actor.token = Some(token.name.clone());
    if !token.opens(&needed) {
        let refused = Refused::Scope { needed };
        return turn_away(&api, refused, actor, asked, peer.address).await;
    }
    request.extensions_mut().insert(actor);
    next.run(request).await
}

/// Looks for a right token, of a client that may use one.
fn shown(api: &Api, peer: &Peer, headers: &HeaderMap) -> Shown {
    if api.gate.client_certificates && peer.certificate.is_none() {
        return Shown(Err(Refused::NoCertificate));
    }
    Shown(token(api, headers))
}

fn token(api: &Api, headers: &HeaderMap) -> Result<Arc<Token>, Refused> {
    let given = headers.get(AUTHORIZATION).ok_or(Refused::NoToken)?;
    // The scheme's case does not matter (RFC 9110 section 11.1).
    let given = given
        .as_bytes()
        .split_at_checked(b"bearer ".len())
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case(b"bearer "))
        .map(|(_, token)| token.trim_ascii())
        .ok_or(Refused::NoToken)?;
    let found = api.gate.tokens.find(given).cloned();
    found.ok_or(Refused::WrongToken)
}

/// Only a few of one token, or without a right one of one address, are answered and written to the audit, so that
/// nobody can flood it. What a token opens it opens all the same.
async fn turn_away(
    api: &Api,
    refused: Refused,
    actor: Actor,
    (method, uri): (Method, Uri),
    address: IpAddr,
) -> Response {
    let (spent, what) = match &actor.token {
        Some(token) => (
            api.gate.rates.refused(token),
            "too many requests that this token does not open",
        ),
        None => (api.gate.rates.wrong_token(address), NO_RIGHT_TOKEN),
    };
    if let Err(wait) = spent {
        return ApiError::too_many(wait, what).into_response();
    }
    let reason = refused.message();
    let entry = Entry::turned_away(method.as_str(), uri.path(), reason.clone());
    api.administration.audit.record_async(actor, entry).await;
    let challenge = HeaderValue::from_str(&refused.challenge());
    let mut response = ApiError::new(refused.status(), reason).into_response();
    if let Ok(challenge) = challenge {
        response.headers_mut().insert(WWW_AUTHENTICATE, challenge);
    }
    response
}

impl Refused {
    fn status(&self) -> StatusCode {
        match self {
            Self::NoToken | Self::WrongToken => StatusCode::UNAUTHORIZED,
            Self::NoCertificate | Self::Scope { .. } => StatusCode::FORBIDDEN,
        }
    }

    fn message(&self) -> String {
        match self {
            Self::NoCertificate => {
                "no client certificate: connect with one that the worker's http.tls.client_ca has signed (for the command \
                 line: api_cert and api_key)"
                    .to_owned()
            }
            Self::NoToken => "no bearer token: send `authorization: Bearer TOKEN` (for the command line: PETIOLE_TOKEN, \
                              or run it in the worker's folder)"
                .to_owned(),
            Self::WrongToken => {
                "wrong bearer token (for the command line: PETIOLE_TOKEN, or run it in the worker's folder)".to_owned()
            }
            Self::Scope { needed } => {
                let needed: Vec<_> = needed.iter().map(|scope| scope.as_str()).collect();
                format!(
                    "this token does not open that: it needs one of the scopes {}",
                    needed.join(", ")
                )
            }
        }
    }

    /// RFC 6750 section 3.
    fn challenge(&self) -> String {
        match self {
            Self::NoCertificate | Self::NoToken => "Bearer".to_owned(),
            Self::WrongToken => "Bearer error=\"invalid_token\"".to_owned(),
            Self::Scope { needed } => {
                let scope = needed.first().map_or("admin", |scope| scope.as_str());
                format!("Bearer error=\"insufficient_scope\", scope=\"{scope}\"")
            }
        }
    }
}

/// The server tells every request where it comes from.
fn no_peer() -> ApiError {
    ApiError::fault(
        StatusCode::INTERNAL_SERVER_ERROR,
        "a request came without its address",
    )
}
