//! Outbound HTTP: `wasi:http/outgoing-handler`, within the rules that the task is granted.

use std::error::Error as _;
use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper::header::{HOST, HeaderName, HeaderValue, TE};
use hyper::http::uri::PathAndQuery;
use hyper::{Method, Request, Response, Uri};
use petiole_permits::{Host, HttpRule, MAX_HOST, MAX_METHOD, Scheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Sleep, timeout};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi::runtime::spawn;
use wasmtime_wasi_http::io::TokioIo;
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{self, ErrorCode};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, FieldMap, ForbiddenHeaderFilter, RequestOptions, WasiBody,
    WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView as _,
};

use crate::host::Sandbox;
use crate::limits::{LimitExceeded, wide};
use crate::wasi::net::egress::{Egress, Unresolved};
use crate::wasi::net::metered::Metered;
use crate::wasi::net::request_body::read_to_end;

/// The most that a guest may wait for, and what it waits for where it names no time: for name, connection
/// and TLS together,
const MAX_CONNECT: Duration = Duration::from_secs(30);
/// for the response's head,
const MAX_FIRST_BYTE: Duration = Duration::from_secs(300);
/// and between two parts of its body.
const MAX_BETWEEN_BYTES: Duration = Duration::from_secs(60);

/// The largest head of a response, in bytes.
const MAX_HEAD: usize = 64 * 1024;
/// And the fields in it.
const MAX_FIELDS: usize = 128;

/// The longest authority, in bytes: a host and a port.
const MAX_AUTHORITY: usize = MAX_HOST + ":65535".len();

/// The size of a guest's `fields`, in bytes, each field counting some 70 more than its text: the host keeps them for
/// as long as the guest likes. `http` has limits for schemes (64 bytes) and paths (64 KiB).
const MAX_FIELDS_SIZE: usize = 32 * 1024;

/// What a guest may write to a request's body at once, in bytes: each body that it has keeps twice as much.
const BODY_CHUNK: usize = 16 * 1024;

/// The version of the interfaces that `wasmtime_wasi_http` has.
const TYPES: &str = "wasi:http/types@0.2.12";
const OUTGOING_HANDLER: &str = "wasi:http/outgoing-handler@0.2.12";

/// A linker that allows shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    types::add_to_linker::<_, WasiHttp>(linker, &LinkOptions::default().into(), Sandbox::http)?;
    let mut types = linker.instance(TYPES)?;
    types.func_wrap("[constructor]outgoing-request", new_request)?;
    types.func_wrap("[method]outgoing-request.set-method", set_method)?;
    types.func_wrap("[method]outgoing-request.set-authority", set_authority)?;
    types.func_wrap("[constructor]fields", new_fields)?;
    types.func_wrap("[static]fields.from-list", fields_from_list)?;
    types.func_wrap("[method]fields.clone", clone_fields)?;
    types.func_wrap("http-error-code", http_error_code)?;
    linker
        .instance(OUTGOING_HANDLER)?
        .func_wrap("handle", handle)
}

/// Counts the request: one that is made and never sent takes the host's memory too.
fn new_request(
    mut store: StoreContextMut<'_, Sandbox>,
    (headers,): (Resource<FieldMap>,),
) -> wasmtime::Result<(Resource<HostOutgoingRequest>,)> {
    let sandbox = store.data_mut();
    sandbox.spend_request()?;
    Ok((types::HostOutgoingRequest::new(
        &mut sandbox.http(),
        headers,
    )?,))
}

/// Refuses what no request has: it would be kept, and a refusal logged, whatever its length.
fn set_method(
    mut store: StoreContextMut<'_, Sandbox>,
    (request, method): (Resource<HostOutgoingRequest>, types::Method),
) -> wasmtime::Result<(Result<(), ()>,)> {
    let mut http = store.data_mut().http();
    if matches!(&method, types::Method::Other(method) if method.len() > MAX_METHOD) {
        return Ok((Err(()),));
    }
    let set = types::HostOutgoingRequest::set_method(&mut http, request, method)?;
    Ok((set,))
}

/// The same.
fn set_authority(
    mut store: StoreContextMut<'_, Sandbox>,
    (request, authority): (Resource<HostOutgoingRequest>, Option<String>),
) -> wasmtime::Result<(Result<(), ()>,)> {
    let mut http = store.data_mut().http();
    if authority
        .as_ref()
        .is_some_and(|text| text.len() > MAX_AUTHORITY)
    {
        return Ok((Err(()),));
    }
    let set = types::HostOutgoingRequest::set_authority(&mut http, request, authority)?;
    Ok((set,))
}

fn new_fields(
    mut store: StoreContextMut<'_, Sandbox>,
    (): (),
) -> wasmtime::Result<(Resource<FieldMap>,)> {
    let mut http = one_more_fields(store.data_mut())?;
    Ok((types::HostFields::new(&mut http)?,))
}

type Listed = Result<Resource<FieldMap>, types::HeaderError>;

fn fields_from_list(
    mut store: StoreContextMut<'_, Sandbox>,
    (entries,): (Vec<(String, Vec<u8>)>,),
) -> wasmtime::Result<(Listed,)> {
    let mut http = one_more_fields(store.data_mut())?;
    Ok((match types::HostFields::from_list(&mut http, entries) {
        Ok(fields) => Ok(fields),
        Err(error) => Err(error.downcast()?),
    },))
}

fn clone_fields(
    mut store: StoreContextMut<'_, Sandbox>,
    (fields,): (Resource<FieldMap>,),
) -> wasmtime::Result<(Resource<FieldMap>,)> {
    let mut http = one_more_fields(store.data_mut())?;
    Ok((types::HostFields::clone(&mut http, fields)?,))
}

/// Counts the `fields` that there are: a guest may have more handles than the host has memory for full ones.
fn one_more_fields(sandbox: &mut Sandbox) -> Result<WasiHttpCtxView<'_>, LimitExceeded> {
    let meter = Arc::clone(&sandbox.meter);
    let http = sandbox.http();
    let entries = http.table.iter_mut();
    let fields = entries.filter(|entry| entry.is::<FieldMap>()).count();
    meter.fields(wide(fields).saturating_add(1))?;
    Ok(http)
}

/// What ended a body, by its name. `wasmtime_wasi_http` 48 knows none of its own errors here.
fn http_error_code(
    mut store: StoreContextMut<'_, Sandbox>,
    (error,): (Resource<types::IoError>,),
) -> wasmtime::Result<(Option<ErrorCode>,)> {
    let http = store.data_mut().http();
    let error = http.table.get(&error)?;
    let ended = error.downcast_ref::<Error>().map(|error| match error {
        Error::ConnectionReadTimeout => ErrorCode::ConnectionReadTimeout,
        Error::HttpResponseIncomplete => ErrorCode::HttpResponseIncomplete,
        Error::ConnectionTerminated => ErrorCode::ConnectionTerminated,
        _ => ErrorCode::HttpProtocolError,
    });
    Ok((ended.or_else(|| error.downcast_ref().cloned()),))
}

type Handled = Result<Resource<HostFutureIncomingResponse>, ErrorCode>;

fn handle(
    mut store: StoreContextMut<'_, Sandbox>,
    (request, options): (
        Resource<HostOutgoingRequest>,
        Option<Resource<RequestOptions>>,
    ),
) -> wasmtime::Result<(Handled,)> {
    Ok((match store.data_mut().http().handle(request, options) {
        Ok(response) => Ok(response),
        Err(error) => Err(error.downcast()?),
    },))
}

/// With the size that fields may have.
pub(crate) fn context() -> WasiHttpCtx {
    let mut context = WasiHttpCtx::new();
    context.set_field_size_limit(MAX_FIELDS_SIZE);
    context
}

/// What `wasmtime_wasi_http` asks about requests, and has them sent by.
pub(crate) struct Hooks {
    /// None only where there is no `wasi:http` to ask.
    pub(crate) egress: Option<Arc<Egress>>,
}

type Sent = (
    Response<WasiBody>,
    Box<dyn Future<Output = Result<(), Error>> + Send>,
);

impl WasiHttpHooks for Hooks {
    fn forbidden_header_filter(&mut self) -> ForbiddenHeaderFilter {
        Arc::new(is_forbidden)
    }

    /// It is set when the request is sent, to the host that was checked.
    fn set_host_header(&mut self) -> bool {
        false
    }

    fn send_request(
        &mut self,
        request: Request<WasiBody>,
        options: Option<RequestOptions>,
        _: Box<dyn Future<Output = Result<(), Error>> + Send>,
    ) -> Box<dyn Future<Output = Result<Sent, Error>> + Send> {
        let egress = self.egress.clone();
        let request = request.map(read_to_end);
        Box::new(async move {
            let egress = egress.ok_or(Error::HttpRequestDenied)?;
            send(&egress, request, options.unwrap_or_default()).await
        })
    }

    fn p2_outgoing_body_chunk_size(&mut self) -> usize {
        BODY_CHUNK
    }
}

/// Fields that are about the connection, which is the host's.
fn is_forbidden(name: &HeaderName) -> bool {
    DEFAULT_FORBIDDEN_HEADERS.contains(name) || *name == TE
}

/// Where a request goes.
struct Target {
    scheme: Scheme,
    host: Host,
    port: u16,
}

impl Target {
    fn of(uri: &Uri) -> Result<Self, Error> {
        let scheme = match uri.scheme_str() {
            Some("http") => Scheme::Http,
            Some("https") => Scheme::Https,
            _ => return Err(Error::HttpProtocolError),
        };
        let authority = uri.authority().ok_or(Error::HttpRequestUriInvalid)?;
        // a user name in front of the host misleads whoever reads the URL
        if authority.as_str().contains('@') {
            return Err(Error::HttpRequestUriInvalid);
        }
        let host = authority.host().parse();
        let port = match authority.port() {
            None => scheme.default_port(),
            Some(port) => port.as_u16(),
        };
        // what follows the host is a port, or else no URL
        let text = authority.as_str();
        let has_port = authority.port().is_some();
        if port == 0 || (!has_port && text.len() != authority.host().len()) {
            return Err(Error::HttpRequestUriInvalid);
        }
        Ok(Self {
            scheme,
            host: host.map_err(|_| Error::HttpRequestUriInvalid)?,
            port,
        })
    }

    /// For the header, as RFC 9112 section 3.2 has it.
    fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// Checks the request, and sends it.
async fn send(
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
        // what goes wrong shows in the response, or in its body
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
    let response = response.map(|body| Timed::new(body, between).boxed_unsync());
    let rest = Box::new(async move {
        connection.await;
        Ok(())
    });
    Ok((response, rest))
}

fn at_most(asked: Option<Duration>, most: Duration) -> Duration {
    asked.unwrap_or(most).min(most)
}

/// Whether a rule allows the request.
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

/// `/path?query`: with an authority in it, a proxy would take the request elsewhere.
fn origin_form(uri: &Uri) -> Result<Uri, Error> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    path.parse().map_err(|_| Error::HttpRequestUriInvalid)
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

fn not_connected(error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Error::ConnectionRefused,
        io::ErrorKind::TimedOut => Error::ConnectionTimeout,
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => {
            Error::DestinationIpUnroutable
        }
        _ => Error::DestinationUnavailable,
    }
}

fn not_encrypted(error: &io::Error) -> Error {
    let cause = error.get_ref().and_then(|cause| cause.downcast_ref());
    match cause {
        Some(rustls::Error::InvalidCertificate(_)) => Error::TlsCertificateError,
        Some(rustls::Error::AlertReceived(alert)) => Error::TlsAlertReceived {
            alert_id: Some((*alert).into()),
            alert_message: None,
        },
        _ => Error::TlsProtocolError,
    }
}

fn refused_by_hyper(error: hyper::Error) -> Error {
    if error.is_parse_too_large() {
        Error::HttpResponseHeaderSectionSize(u32::try_from(MAX_HEAD).ok())
    } else if error.is_incomplete_message() {
        Error::HttpResponseIncomplete
    } else if error.is_canceled() || error.is_closed() {
        Error::ConnectionTerminated
    } else {
        let cause = error.source().and_then(|cause| cause.downcast_ref());
        match cause.map(io::Error::kind) {
            Some(io::ErrorKind::UnexpectedEof) => Error::HttpResponseIncomplete,
            Some(io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe) => {
                Error::ConnectionTerminated
            }
            _ => Error::HttpProtocolError,
        }
    }
}

/// A response's body, none of whose parts may take longer than a while.
struct Timed {
    body: Incoming,
    between: Duration,
    /// Since when the guest waits for the next part; it may let parts wait for as long as it likes.
    waiting: Option<Pin<Box<Sleep>>>,
}

impl Timed {
    fn new(body: Incoming, between: Duration) -> Self {
        Self {
            body,
            between,
            waiting: None,
        }
    }
}

impl Body for Timed {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Ready(frame) => {
                self.waiting = None;
                Poll::Ready(frame.map(|frame| frame.map_err(refused_by_hyper)))
            }
            Poll::Pending => {
                let between = self.between;
                let sleep = self
                    .waiting
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(between)));
                ready!(sleep.as_mut().poll(cx));
                Poll::Ready(Some(Err(Error::ConnectionReadTimeout)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
