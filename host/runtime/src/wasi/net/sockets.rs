//! `wasi:sockets`: TCP to where the task may go. What is not here is as `wasmtime_wasi` has it; listening
//! and UDP are never allowed.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::vec;

use petiole_permits::Host;
use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};
use wasmtime_wasi::async_trait;
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
use wasmtime_wasi::sockets::WasiSocketsCtxView;

use crate::limits::meter::Meter;
use crate::wasi::net::egress::{Egress, Unresolved};
use crate::wasi::net::metered::{MeteredInput, MeteredOutput};
use crate::wasi::versioned;

/// The names that one task may look up. Those who wait for a name to appear need not be quick.
const MAX_LOOKUPS: u32 = 1_000;

/// A task's knowledge of the network.
#[derive(Default)]
pub(crate) struct Sockets {
    /// Addresses of the names it has looked up, with the ports that are granted for them.
    reachable: HashSet<SocketAddr>,
    lookups: u32,
    /// It was logged that there is no network at all.
    warned: bool,
}

/// The addresses of a name, all known from the start: it is looked up while the guest waits.
pub(crate) struct Addresses(vec::IntoIter<IpAddr>);

#[async_trait]
impl Pollable for Addresses {
    async fn ready(&mut self) {}
}

/// The data of a host function of `wasi:sockets`.
pub(crate) struct SocketsView<'a> {
    pub(crate) wasi: WasiSocketsCtxView<'a>,
    pub(crate) state: &'a mut Sockets,
    pub(crate) egress: Option<&'a Arc<Egress>>,
    pub(crate) meter: &'a Arc<Meter>,
    pub(crate) task_id: &'a str,
}

/// A linker that has `wasi:sockets`, and allows shadowing.
pub(crate) fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> SocketsView<'_>,
) -> wasmtime::Result<()> {
    let mut tcp = linker.instance(&versioned("wasi:sockets/tcp"))?;
    let socket = ResourceType::host::<TcpSocket>();
    tcp.resource("tcp-socket", socket, move |mut store, rep| {
        view(store.data_mut()).drop_socket(rep)
    })?;
    tcp.func_wrap(
        "[method]tcp-socket.start-connect",
        move |mut store: StoreContextMut<'_, T>, (socket, network, remote)| {
            view(store.data_mut()).start_connect(socket, network, remote)
        },
    )?;
    tcp.func_wrap(
        "[method]tcp-socket.finish-connect",
        move |mut store: StoreContextMut<'_, T>, (socket,)| {
            view(store.data_mut()).finish_connect(socket)
        },
    )?;

    let mut create = linker.instance(&versioned("wasi:sockets/tcp-create-socket"))?;
    create.func_wrap(
        "create-tcp-socket",
        move |mut store: StoreContextMut<'_, T>, (family,)| {
            view(store.data_mut()).create_tcp_socket(family)
        },
    )?;

    let mut lookup = linker.instance(&versioned("wasi:sockets/ip-name-lookup"))?;
    let stream = ResourceType::host::<Addresses>();
    lookup.resource("resolve-address-stream", stream, move |mut store, rep| {
        view(store.data_mut()).drop_addresses(rep)
    })?;
    lookup.func_wrap_async(
        "resolve-addresses",
        move |mut store: StoreContextMut<'_, T>, (network, name)| {
            Box::new(async move {
                let mut view = view(store.data_mut());
                view.resolve_addresses(network, name).await
            })
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.resolve-next-address",
        move |mut store: StoreContextMut<'_, T>, (addresses,)| {
            view(store.data_mut()).resolve_next_address(&addresses)
        },
    )?;
    lookup.func_wrap(
        "[method]resolve-address-stream.subscribe",
        move |mut store: StoreContextMut<'_, T>, (addresses,)| {
            view(store.data_mut()).subscribe_addresses(addresses)
        },
    )
}

type Answer<T> = wasmtime::Result<(Result<T, ErrorCode>,)>;

/// An answer to the guest, or the error that ends it.
fn answer<T>(result: SocketResult<T>) -> Answer<T> {
    Ok((match result {
        Ok(value) => Ok(value),
        Err(error) => Err(error.downcast()?),
    },))
}

/// The functions that take the place of others.
impl SocketsView<'_> {
    fn create_tcp_socket(&mut self, family: IpAddressFamily) -> Answer<Resource<TcpSocket>> {
        let Some(egress) = self.tcp_egress() else {
            self.warn_no_network();
            return Ok((Err(ErrorCode::AccessDenied),));
        };
        let Ok(permit) = egress.connections.try_acquire() else {
            return Ok((Err(ErrorCode::NewSocketLimit),));
        };
        let socket = self.wasi.create_tcp_socket(family);
        if socket.is_ok() {
            // given back by `drop_socket`, or gone with the sandbox
            permit.forget();
        }
        answer(socket)
    }

    fn drop_socket(&mut self, rep: u32) -> wasmtime::Result<()> {
        self.wasi
            .table
            .delete(Resource::<TcpSocket>::new_own(rep))?;
        if let Some(egress) = self.tcp_egress() {
            egress.connections.add_permits(1);
        }
        Ok(())
    }

    fn start_connect(
        &mut self,
        socket: Resource<TcpSocket>,
        network: Resource<Network>,
        remote: IpSocketAddress,
    ) -> Answer<()> {
        self.meter.counts.request()?;
        if !self.may_connect(SocketAddr::from(remote)) {
            return Ok((Err(ErrorCode::AccessDenied),));
        }
        answer(self.wasi.start_connect(socket, network, remote))
    }

    fn finish_connect(
        &mut self,
        socket: Resource<TcpSocket>,
    ) -> Answer<(Resource<DynInputStream>, Resource<DynOutputStream>)> {
        let connected = self.wasi.finish_connect(socket);
        if let Ok((input, output)) = &connected {
            let input: &mut DynInputStream = self.wasi.table.get_mut(input)?;
            let inner = std::mem::replace(input, Box::new(ClosedInputStream));
            *input = Box::new(MeteredInput::new(inner, self.meter));
            let output: &mut DynOutputStream = self.wasi.table.get_mut(output)?;
            let inner = std::mem::replace(output, Box::new(ClosedOutputStream));
            *output = Box::new(MeteredOutput::new(inner, self.meter));
        }
        answer(connected)
    }

    async fn resolve_addresses(
        &mut self,
        network: Resource<Network>,
        name: String,
    ) -> Answer<Resource<Addresses>> {
        self.wasi.table.get(&network)?;
        answer(match self.look_up(&name).await {
            Ok(addresses) => {
                let addresses = Addresses(addresses.into_iter());
                self.wasi.table.push(addresses).map_err(Into::into)
            }
            Err(code) => Err(SocketError::from(code)),
        })
    }

    fn resolve_next_address(
        &mut self,
        addresses: &Resource<Addresses>,
    ) -> Answer<Option<IpAddress>> {
        let addresses = self.wasi.table.get_mut(addresses)?;
        Ok((Ok(addresses.0.next().map(IpAddress::from)),))
    }

    fn subscribe_addresses(
        &mut self,
        addresses: Resource<Addresses>,
    ) -> wasmtime::Result<(Resource<DynPollable>,)> {
        Ok((subscribe(self.wasi.table, addresses)?,))
    }

    fn drop_addresses(&mut self, rep: u32) -> wasmtime::Result<()> {
        self.wasi
            .table
            .delete(Resource::<Addresses>::new_own(rep))?;
        Ok(())
    }
}

/// Checks of addresses and names.
impl<'a> SocketsView<'a> {
    /// None where the task is granted no TCP.
    fn tcp_egress(&self) -> Option<&'a Egress> {
        let egress = self.egress.map(AsRef::as_ref);
        egress.filter(|egress| !egress.granted.tcp.is_empty())
    }

    /// True if a rule names the address, or a name that it was looked up for; logs it where not.
    fn may_connect(&mut self, address: SocketAddr) -> bool {
        let Some(egress) = self.tcp_egress() else {
            self.warn_no_network();
            return false;
        };
        let address = SocketAddr::new(address.ip().to_canonical(), address.port());
        let literal = Host::Address(address.ip());
        let mut rules = egress.granted.tcp.iter();
        let granted = self.state.reachable.contains(&address)
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
        if self.state.lookups >= MAX_LOOKUPS {
            egress.warn(format_args!(
                "the task has looked up {MAX_LOOKUPS} names: that is the limit"
            ));
            return Err(ErrorCode::TemporaryResolverFailure);
        }
        self.state.lookups += 1;
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
            self.state.reachable.extend(addresses.iter().map(with_port));
        }
        Ok(addresses)
    }

    fn warn_no_network(&mut self) {
        if !std::mem::replace(&mut self.state.warned, true) {
            tracing::warn!(
                target: "petiole", task_id = self.task_id,
                "a TCP connection was refused: the task is granted no `tcp`"
            );
        }
    }
}
