//! Requests, each checked and sent on a connection of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderValue};
use hyper::{Method, Request, Response};
use petiole_permits::{HttpRule, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody};

use crate::wasi::net::egress::{Egress, Unresolved};
use crate::wasi::net::http::error::{MAX_HEAD, not_connected, not_encrypted, refused_by_hyper};
use crate::wasi::net::http::response_body::ResponseBody;
use crate::wasi::net::http::target::{Target, origin_form};
use crate::wasi::net::metered::Metered;

/// The most that a guest may wait for, and what it waits for where it names no time: for name, connection
/// and TLS together,
const MAX_CONNECT: Duration = Duration::from_secs(30);
/// for the response's head,
const MAX_FIRST_BYTE: Duration = Duration::from_secs(300);
/// and between two parts of its body.
const MAX_BETWEEN_BYTES: Duration = Duration::from_secs(60);

/// The fields in the head of a response.
const MAX_FIELDS: usize = 128;

/// A response, and the connection that its body comes over.
pub(super) type Sent = (
    Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

/// Checks the request, and sends it.
pub(super) async fn send(
    egress: &Egress,
    mut request: Request<WasiBody>,
    options: RequestOptions,
) -> Result<Sent, Error> {
    let target = Target::of(request.uri())?;
    check(egress, request.method(), &target)?;
    let authority = target.authority();
    request.headers_mut().insert(
        HOST,
        HeaderValue::from_str(&authority).map_err(|_| Error::HttpRequestUriInvalid)?,
    );
    *request.uri_mut() = origin_form(request.uri())?;

    let patience = at_most(options.connect_timeout, MAX_CONNECT);
    let permit = timeout(patience, Arc::clone(&egress.connections).acquire_owned())
        .await
        .ok()
        .and_then(Result::ok)
        .ok_or(Error::ConnectionLimitReached)?;
    let stream = timeout(patience, connect(egress, &target))
        .await
        .map_err(|_elapsed| Error::ConnectionTimeout)??;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(MAX_HEAD)
        .max_headers(MAX_FIELDS)
        .handshake::<_, WasiBody>(TokioIo::new(stream))
        .await
        .map_err(refused_by_hyper)?;
    let connection = spawn(async move {
        let _permit = permit;
        // a failure shows in the response, or in its body
        let _ = connection.await;
    });
    let answer = timeout(
        at_most(options.first_byte_timeout, MAX_FIRST_BYTE),
        sender.send_request(request),
    );
    let response = answer
        .await
        .map_err(|_elapsed| Error::HttpResponseTimeout)?
        .map_err(refused_by_hyper)?;
    let between = at_most(options.between_bytes_timeout, MAX_BETWEEN_BYTES);
    let response = response.map(|body| ResponseBody::new(body, between).boxed_unsync());
    let rest = Box::new(async move {
        connection.await;
        Ok(())
    });
    Ok((response, rest))
}

fn at_most(asked: Option<Duration>, most: Duration) -> Duration {
    asked.unwrap_or(most).min(most)
}

/// Refuses a request that no rule allows.
fn check(egress: &Egress, method: &Method, target: &Target) -> Result<(), Error> {
    let Target { scheme, host, port } = target;
    let mut rules = egress.granted.http.iter();
    if rules.any(|rule| rule.matches(method.as_str(), *scheme, host, *port)) {
        return Ok(());
    }
    let missing = HttpRule::of_request(method.as_str(), *scheme, host.clone(), *port);
    egress.warn(format_args!("http {missing} is not granted to the task"));
    Err(Error::HttpRequestDenied)
}

/// A connection to one of the target's addresses.
async fn connect(egress: &Egress, target: &Target) -> Result<Box<dyn Stream>, Error> {
    let addresses: Vec<IpAddr> = match egress.addresses(&target.host).await {
        Ok(addresses) => addresses,
        Err(Unresolved::Failed) => {
            return Err(Error::DnsError {
                rcode: None,
                info_code: None,
            });
        }
        Err(Unresolved::TimedOut) => return Err(Error::DnsTimeout),
        Err(Unresolved::Prohibited) => return Err(Error::DestinationIpProhibited),
    };
    let stream = egress
        .dial(&addresses, target.port)
        .await
        .map_err(|error| not_connected(&error))?;
    let stream = Metered::new(stream, &egress.meter);
    Ok(match target.scheme {
        Scheme::Http => Box::new(stream),
        Scheme::Https => Box::new(
            egress
                .encrypt(&target.host, stream)
                .await
                .map_err(|error| not_encrypted(&error))?,
        ),
    })
}

/// A connection, with TLS or without.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}
