//! `wasi:sockets`: TCP to where the task may go. What is not here is as `wasmtime_wasi` has it; listening
//! and UDP are never allowed.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::vec;

use petiole_permits::Host;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::p2::bindings::sockets::network::{
    ErrorCode, IpAddress, IpAddressFamily, IpSocketAddress,
};
use wasmtime_wasi::p2::bindings::sockets::tcp::HostTcpSocket as _;
use wasmtime_wasi::p2::bindings::sockets::tcp_create_socket::Host as _;
use wasmtime_wasi::p2::pipe::{ClosedInputStream, ClosedOutputStream};
use wasmtime_wasi::p2::{
    DynInputStream, DynOutputStream, DynPollable, Network, Pollable, SocketError, SocketResult,
    TcpSocket, subscribe,
};
use wasmtime_wasi::sockets::WasiSocketsView as _;
use wasmtime_wasi::{WasiView as _, async_trait};

use crate::host::Sandbox;
use crate::wasi::net::egress::{Egress, Unresolved};
use crate::wasi::net::metered::{MeteredInput, MeteredOutput};

/// The version of the interfaces that `wasmtime_wasi` has.
const TCP: &str = "wasi:sockets/tcp@0.2.12";
const TCP_CREATE_SOCKET: &str = "wasi:sockets/tcp-create-socket@0.2.12";
const IP_NAME_LOOKUP: &str = "wasi:sockets/ip-name-lookup@0.2.12";

/// The names that one task may look up. Those who wait for a name to appear need not be quick.
const MAX_LOOKUPS: u32 = 1_000;

/// What a task knows of the network.
#[derive(Default)]
pub(crate) struct Sockets {
    /// What the names it has looked up lead to, with the ports that are granted for them.
    reachable: HashSet<SocketAddr>,
    lookups: u32,
    /// Whether it was logged that there is no network at all.
    warned: bool,
}

/// The addresses of a name, all known from the start: it is looked up while the guest waits.
pub(crate) struct Addresses(vec::IntoIter<IpAddr>);

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {}
}

/// A linker that has `wasi:sockets`, and allows shadowing.
pub(crate) fn add_to_linker(linker: &mut Linker<Sandbox>) -> wasmtime::Result<()> {
    let mut tcp = linker.instance(TCP)?;
    tcp.resource("tcp-socket", ResourceType::host::<TcpSocket>(), drop_socket)?;
    tcp.func_wrap("[method]tcp-socket.start-connect", start_connect)?;
    tcp.func_wrap("[method]tcp-socket.finish-connect", finish_connect)?;

    let mut create = linker.instance(TCP_CREATE_SOCKET)?;
    create.func_wrap("create-tcp-socket", create_tcp_socket)?;

    let mut lookup = linker.instance(IP_NAME_LOOKUP)?;
    let stream = ResourceType::host::<Addresses>();
    lookup.resource("resolve-address-stream", stream, drop_addresses)?;
    lookup.func_wrap_async("resolve-addresses", |store, (network, name)| {
        Box::new(resolve_addresses(store, network, name))
    })?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        resolve_next_address,
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        subscribe_addresses,
    )
}

type Store<'a> = StoreContextMut<'a, Sandbox>;
type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

/// What the guest gets to see, or else what ends it.
fn answer<T>(result: SocketResult<T>) -> Answer<T> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.downcast()?),
    },))
}

fn create_tcp_socket(
    mut store: Store<'_>,
    (family,): (IpAddressFamily,),
) -> Answer<Resource<TcpSocket>> {
    let sandbox = store.data_mut();
    let Some(egress) = sandbox.tcp_egress() else {
        sandbox.warn_no_network();
        sandbox.meter.host_call();
        return Ok((Err(ErrorCode::AccessDenied),));
    };
    let Ok(permit) = Arc::clone(&egress.connections).try_acquire_owned() else {
        sandbox.meter.host_call();
        return Ok((Err(ErrorCode::NewSocketLimit),));
    };
    let socket = sandbox.sockets().create_tcp_socket(family);
    if socket.is_ok() {
        // given back by `drop_socket`, or gone with the sandbox
        permit.forget();
    }
    answer(socket)
}

fn drop_socket(mut store: Store<'_>, rep: u32) -> wasmtime::Result<()> {
    let sandbox = store.data_mut();
    let table = sandbox.ctx().table;
    table.delete(Resource::<TcpSocket>::new_own(rep))?;
    if let Some(egress) = sandbox.tcp_egress() {
        egress.connections.add_permits(1);
    }
    Ok(())
}

fn start_connect(
    mut store: Store<'_>,
    (socket, network, remote): (Resource<TcpSocket>, Resource<Network>, IpSocketAddress),
) -> Answer<()> {
    let sandbox = store.data_mut();
    sandbox.spend_request()?;
    let address = SocketAddr::from(remote);
    if !sandbox.may_connect(address) {
        sandbox.meter.host_call();
        return Ok((Err(ErrorCode::AccessDenied),));
    }
    answer(sandbox.sockets().start_connect(socket, network, remote))
}

fn finish_connect(
    mut store: Store<'_>,
    (socket,): (Resource<TcpSocket>,),
) -> Answer<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
    let sandbox = store.data_mut();
    let connected = sandbox.sockets().finish_connect(socket);
    let meter = Arc::clone(&sandbox.meter);
    if let Ok((input, output)) = &connected {
        let table = sandbox.ctx().table;
        let input: &mut DynInputStream = table.get_mut(input)?;
        let inner = std::mem::replace(input, Box::new(ClosedInputStream));
        *input = Box::new(MeteredInput::new(inner, &meter));
        let output: &mut DynOutputStream = table.get_mut(output)?;
        let inner = std::mem::replace(output, Box::new(ClosedOutputStream));
        *output = Box::new(MeteredOutput::new(inner, &meter));
    }
    answer(connected)
}

async fn resolve_addresses(
    mut store: Store<'_>,
    network: Resource<Network>,
    name: String,
) -> Answer<Resource<Addresses>> {
    let sandbox = store.data_mut();
    sandbox.ctx().table.get(&network)?;
    answer(match sandbox.look_up(&name).await {
        Ok(addresses) => {
            let addresses = Addresses(addresses.into_iter());
            sandbox.ctx().table.push(addresses).map_err(Into::into)
        }
        Err(code) => Err(SocketError::from(code)),
    })
}

fn resolve_next_address(
    mut store: Store<'_>,
    (addresses,): (Resource<Addresses>,),
) -> Answer<Option<IpAddress>> {
    let addresses = store.data_mut().ctx().table.get_mut(&addresses)?;
    Ok((Ok(addresses.0.next().map(IpAddress::from)),))
}

fn subscribe_addresses(
    mut store: Store<'_>,
    (addresses,): (Resource<Addresses>,),
) -> wasmtime::Result<(Resource<DynPollable>,)> {
    Ok((subscribe(store.data_mut().ctx().table, addresses)?,))
}

fn drop_addresses(mut store: Store<'_>, rep: u32) -> wasmtime::Result<()> {
    let table = store.data_mut().ctx().table;
    table.delete(Resource::<Addresses>::new_own(rep))?;
    Ok(())
}

impl Sandbox {
    /// None where the task is granted no TCP.
    fn tcp_egress(&self) -> Option<Arc<Egress>> {
        let egress = self.egress.as_ref();
        egress
            .filter(|egress| !egress.granted.tcp.is_empty())
            .cloned()
    }

    /// Whether a rule names the address, or a name that it was looked up for; logs it where not.
    fn may_connect(&mut self, address: SocketAddr) -> bool {
        let Some(egress) = self.tcp_egress() else {
            self.warn_no_network();
            return false;
        };
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let literal = Host::Address(address.ip());
        let mut rules = egress.granted.tcp.iter();
        let granted = self.network.reachable.contains(&address)
            || rules.any(|rule| rule.matches(&literal, address.port()));
        if !granted {
            egress.warn(format_args!("tcp {address} is not granted to the task"));
        }
        granted
    }

    /// The addresses of a name that rules are for, as far as they may be reached.
    async fn look_up(&mut self, name: &str) -> Result<Vec<IpAddr>, ErrorCode> {
        // no lookup, and nothing that connecting would not check
        if let Ok(address) = name.parse::<IpAddr>() {
            return Ok(vec![address.to_canonical()]);
        }
        let Some(egress) = self.tcp_egress() else {
            self.warn_no_network();
            return Err(ErrorCode::PermanentResolverFailure);
        };
        let host = name.parse().map_err(|_| ErrorCode::InvalidArgument)?;
        if let Host::Address(address) = host {
            return Ok(vec![address]);
        }
        let rules = egress.granted.tcp.iter();
        let ports: Vec<u16> = rules
            .filter(|rule| rule.host().matches(&host))
            .map(petiole_permits::TcpRule::port)
            .collect();
        if ports.is_empty() {
            egress.warn(format_args!("tcp {host} is not granted to the task"));
            return Err(ErrorCode::PermanentResolverFailure);
        }
        if self.network.lookups >= MAX_LOOKUPS {
            egress.warn(format_args!(
                "the task has looked up {MAX_LOOKUPS} names: that is the limit"
            ));
            return Err(ErrorCode::TemporaryResolverFailure);
        }
        self.network.lookups += 1;
        let addresses = egress
            .addresses(&host)
            .await
            .map_err(|unresolved| match unresolved {
                Unresolved::Failed => ErrorCode::NameUnresolvable,
                Unresolved::TimedOut => ErrorCode::TemporaryResolverFailure,
                Unresolved::Prohibited => ErrorCode::PermanentResolverFailure,
            })?;
        for port in ports {
            let with_port = |address: &IpAddr| SocketAddr::new(*address, port);
            self.network
                .reachable
                .extend(addresses.iter().map(with_port));
        }
        Ok(addresses)
    }

    fn warn_no_network(&mut self) {
        if !std::mem::replace(&mut self.network.warned, true) {
            tracing::warn!(
                target: "petiole", task_id = self.task_id(),
                "a TCP connection was refused: the task is granted no `tcp`"
            );
        }
    }
}
