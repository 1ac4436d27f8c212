//! Lapin's runtime with guarded sockets: Tokio's in all else.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures::Stream;
use futures::io::{AsyncRead, AsyncWrite};
use lapin::tcp::RustlsConnector;
use lapin::uri::AMQPUri;
use lapin::{AsyncTcpStream, Connection, ConnectionProperties};
use rustls::ClientConfig;

use super::stream::Guard;
use super::{Channels, FRAME_MAX};

/// Plain or TLS: the guard is above it.
type Socket = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// Connects, on the current Tokio runtime, by guarded sockets; over TLS where there is a configuration of it.
/// `channels`: those that will deliver.
pub(in super::super) async fn connect(
    mut uri: AMQPUri,
    properties: ConnectionProperties,
    tls: Option<ClientConfig>,
    channels: Channels,
) -> lapin::Result<Connection> {
    let asked = uri.query.frame_max.unwrap_or(FRAME_MAX).min(FRAME_MAX);
    // Lapin's buffers, and what it offers the guard, are made by the larger of these two.
    let asked = asked.max(lapin::protocol::constants::FRAME_MIN_SIZE);
    uri.query.frame_max = Some(asked);
    let frame_max = usize::try_from(asked).unwrap_or(usize::MAX);
    let tokio = Tokio::current();
    let guarded = Guarded {
        tokio: tokio.clone(),
        frame_max,
        channels: channels.clone(),
    };
    let plain = Runtime::new(tokio.clone());
    let tls = tls.map(RustlsConnector::from);
    Connection::connector(
        uri,
        Runtime::new(RuntimeParts::new(tokio, guarded)),
        async move |uri, _| {
            let host = uri.authority.host;
            let addresses = plain.to_socket_addrs((host.clone(), uri.authority.port));
            let mut socket = Socket::connect(&plain, addresses).await?;
            if let Some(tls) = &tls {
                socket = socket.into_rustls(tls, &host).await?;
            }
            Ok(AsyncTcpStream::Plain(Guard::new(
                socket,
                frame_max,
                channels.clone(),
            )))
        },
        properties,
    )
    .await
}

#[derive(Debug, Clone)]
struct Guarded {
    tokio: Tokio,
    frame_max: usize,
    channels: Channels,
}

impl Reactor for Guarded {
    type TcpStream = Guard<Socket>;
    type Sleep = <Tokio as Reactor>::Sleep;

    fn register<H: Read + Write + AsFd + AsRawFd + Send + 'static>(
        &self,
        socket: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        self.tokio.register(socket)
    }

    fn sleep(&self, time: Duration) -> Self::Sleep {
        self.tokio.sleep(time)
    }

    fn interval(&self, time: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(time)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let (frame_max, channels) = (self.frame_max, self.channels.clone());
        let connect = self.tokio.tcp_connect_addr(address);
        async move {
            let socket = AsyncTcpStream::Plain(connect.await?);
            Ok(Guard::new(socket, frame_max, channels))
        }
    }
}
