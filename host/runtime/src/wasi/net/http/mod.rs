//! `wasi:http`: outbound requests, within the rules that the task is granted.

mod error;
mod request_body;
mod response_body;
mod send;
mod target;

use std::sync::Arc;

use hyper::Request;
use hyper::header::{HeaderName, TE};
use petiole_permits::{MAX_HOST, MAX_METHOD};
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource};
use wasmtime_wasi_http::p2::bindings::LinkOptions;
use wasmtime_wasi_http::p2::bindings::http::outgoing_handler::Host as _;
use wasmtime_wasi_http::p2::bindings::http::types::{self, ErrorCode};
use wasmtime_wasi_http::p2::types::{HostFutureIncomingResponse, HostOutgoingRequest};
use wasmtime_wasi_http::{
    DEFAULT_FORBIDDEN_HEADERS, Error, FieldMap, ForbiddenHeaderFilter, RequestOptions, WasiBody,
    WasiHttp, WasiHttpCtx, WasiHttpCtxView, WasiHttpHooks, WasiHttpView,
};

use crate::limits::exceeded::{LimitExceeded, wide};
use crate::limits::meter::Meter;
use crate::wasi::net::egress::Egress;
use crate::wasi::net::http::request_body::read_to_end;
use crate::wasi::net::http::send::{Sent, send};
use crate::wasi::versioned;

/// The longest authority, in bytes: a host and a port.
const MAX_AUTHORITY: usize = MAX_HOST + ":65535".len();

/// The size of a guest's `fields`, in bytes, each field counting some 70 more than its text: the host keeps them for
/// as long as the guest likes. `http` has limits for schemes (64 bytes) and paths (64 KiB).
const MAX_FIELDS_SIZE: usize = 32 * 1024;

/// The bytes that a guest may write to a request's body at once: each body that it has keeps twice as much.
const BODY_CHUNK: usize = 16 * 1024;

/// A linker that has `wasi:io`, and allows shadowing. `meter`: what requests are counted on.
pub(crate) fn add_to_linker<T: WasiHttpView + 'static>(
    linker: &mut Linker<T>,
    meter: fn(&T) -> &Arc<Meter>,
) -> wasmtime::Result<()> {
    types::add_to_linker::<_, WasiHttp>(linker, &LinkOptions::default().into(), T::http)?;
    let mut types = linker.instance(&versioned("wasi:http/types"))?;
    types.func_wrap(
        "[constructor]outgoing-request",
        // counted: one that is made and never sent takes the host's memory too
        move |mut store: StoreContextMut<'_, T>, (headers,)| {
            meter(store.data()).counts.request()?;
            let http = &mut store.data_mut().http();
            Ok((types::HostOutgoingRequest::new(http, headers)?,))
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-method",
        |mut store: StoreContextMut<'_, T>, (request, method)| {
            set_method(&mut store.data_mut().http(), request, method)
        },
    )?;
    types.func_wrap(
        "[method]outgoing-request.set-authority",
        |mut store: StoreContextMut<'_, T>, (request, authority)| {
            set_authority(&mut store.data_mut().http(), request, authority)
        },
    )?;
    types.func_wrap(
        "[constructor]fields",
        move |mut store: StoreContextMut<'_, T>, (): ()| {
            let mut http = one_more_fields(store.data_mut(), meter)?;
            Ok((types::HostFields::new(&mut http)?,))
        },
    )?;
    types.func_wrap(
        "[static]fields.from-list",
        move |mut store: StoreContextMut<'_, T>, (entries,)| {
            let mut http = one_more_fields(store.data_mut(), meter)?;
            fields_from_list(&mut http, entries)
        },
    )?;
    types.func_wrap(
        "[method]fields.clone",
        move |mut store: StoreContextMut<'_, T>, (fields,)| {
            let mut http = one_more_fields(store.data_mut(), meter)?;
            Ok((types::HostFields::clone(&mut http, fields)?,))
        },
    )?;
    types.func_wrap(
        "http-error-code",
        |mut store: StoreContextMut<'_, T>, (error,)| {
            http_error_code(&store.data_mut().http(), &error)
        },
    )?;
    linker
        .instance(&versioned("wasi:http/outgoing-handler"))?
        .func_wrap(
            "handle",
            |mut store: StoreContextMut<'_, T>, (request, options)| {
                handle(&mut store.data_mut().http(), request, options)
            },
        )
}

/// Refuses a method that no request has: it would be kept, and a refusal logged, whatever its length.
fn set_method(
    http: &mut WasiHttpCtxView<'_>,
    request: Resource<HostOutgoingRequest>,
    method: types::Method,
) -> wasmtime::Result<(Result<(), ()>,)> {
    if matches!(&method, types::Method::Other(method) if method.len() > MAX_METHOD) {
        return Ok((Err(()),));
    }
    Ok((types::HostOutgoingRequest::set_method(
        http, request, method,
    )?,))
}

/// Refuses an authority that no request has, in the same way.
fn set_authority(
    http: &mut WasiHttpCtxView<'_>,
    request: Resource<HostOutgoingRequest>,
    authority: Option<String>,
) -> wasmtime::Result<(Result<(), ()>,)> {
    if authority
        .as_ref()
        .is_some_and(|text| text.len() > MAX_AUTHORITY)
    {
        return Ok((Err(()),));
    }
    Ok((types::HostOutgoingRequest::set_authority(
        http, request, authority,
    )?,))
}

type Listed = Result<Resource<FieldMap>, types::HeaderError>;

fn fields_from_list(
    http: &mut WasiHttpCtxView<'_>,
    entries: Vec<(String, Vec<u8>)>,
) -> wasmtime::Result<(Listed,)> {
    Ok((match types::HostFields::from_list(http, entries) {
        Ok(fields) => Ok(fields),
        Err(error) => Err(error.downcast()?),
    },))
}

/// Counts the `fields` that there are: a guest may have more handles than the host has memory for full ones.
fn one_more_fields<T: WasiHttpView>(
    data: &mut T,
    meter: fn(&T) -> &Arc<Meter>,
) -> Result<WasiHttpCtxView<'_>, LimitExceeded> {
    let meter = Arc::clone(meter(data));
    let http = data.http();
    let entries = http.table.iter_mut();
    let fields = entries.filter(|entry| entry.is::<FieldMap>()).count();
    meter.counts.fields(wide(fields).saturating_add(1))?;
    Ok(http)
}

/// The name of what ended a body. `wasmtime_wasi_http` 48 knows none of its own errors here.
fn http_error_code(
    http: &WasiHttpCtxView<'_>,
    error: &Resource<types::IoError>,
) -> wasmtime::Result<(Option<ErrorCode>,)> {
    let error = http.table.get(error)?;
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
    http: &mut WasiHttpCtxView<'_>,
    request: Resource<HostOutgoingRequest>,
    options: Option<Resource<RequestOptions>>,
) -> wasmtime::Result<(Handled,)> {
    Ok((match http.handle(request, options) {
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

/// The host's part of `wasmtime_wasi_http`: rules for fields, and the sending of requests.
pub(crate) struct Hooks {
    /// None only where there is no `wasi:http` to ask.
    pub(crate) egress: Option<Arc<Egress>>,
}

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
