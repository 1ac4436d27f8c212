//! A socket whose bytes pass the guard both ways.

use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::io::{AsyncRead, AsyncWrite};
use tracing::error;

use super::Channels;
use super::frame::Fault;
use super::inbound::Inbound;
use super::outbound::Outbound;

/// Bytes read from the socket at once.
const CHUNK: usize = 64 * 1024;

/// The guarded socket. What it refuses ends the connection.
pub(in super::super) struct Guard<S> {
    socket: S,
    inbound: Inbound,
    outbound: Outbound,
    chunk: Box<[u8]>,
    /// Bytes that lapin may read, and how many of them it has read.
    ready: Vec<u8>,
    taken: usize,
    fault: Option<Fault>,
}

impl<S> Guard<S> {
    pub(super) fn new(socket: S, frame_max: usize, channels: Channels) -> Self {
        Self {
            socket,
            inbound: Inbound::new(frame_max, channels),
            outbound: Outbound::new(frame_max),
            chunk: vec![0; CHUNK].into(),
            ready: Vec::new(),
            taken: 0,
            fault: None,
        }
    }

    /// All that is to be read was right, as far as it has come.
    fn sound(&self) -> io::Result<()> {
        match &self.fault {
            Some(fault) => Err(io::Error::new(io::ErrorKind::InvalidData, fault.clone())),
            None => Ok(()),
        }
    }

    fn check(&mut self, result: Result<(), Fault>) -> io::Result<()> {
        if let Err(fault) = result {
            error!(%fault, "the connection to the broker is ended");
            self.fault = Some(fault);
        }
        self.sound()
    }

    fn admit(&mut self, offered: [&[u8]; 2]) -> io::Result<()> {
        self.sound()?;
        let admitted = self.outbound.admit(offered);
        self.inbound.frame_max = self.outbound.frame_max;
        self.check(admitted)
    }

    /// Moves what is ready.
    fn give(&mut self, to: &mut [u8]) -> usize {
        let rest = self.ready.get(self.taken..).unwrap_or_default();
        let count = rest.len().min(to.len());
        if let (Some(to), Some(from)) = (to.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        self.taken += count;
        count
    }
}

impl<S: AsyncRead + Unpin> Guard<S> {
    /// Reads from the socket until something is ready; false at its end.
    fn fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<bool>> {
        while self.taken >= self.ready.len() {
            self.sound()?;
            self.ready.clear();
            self.ready.shrink_to(2 * CHUNK);
            self.taken = 0;
            let count = ready!(Pin::new(&mut self.socket).poll_read(context, &mut self.chunk))?;
            if count == 0 {
                return Poll::Ready(Ok(false));
            }
            let came = self.chunk.get(..count).unwrap_or_default();
            let pushed = self.inbound.push(came, &mut self.ready);
            // Bytes that were right before a fault are lapin's still.
            if self.check(pushed).is_err() && !self.ready.is_empty() {
                break;
            }
        }
        Poll::Ready(Ok(true))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guard<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        Poll::Ready(Ok(match ready!(guard.fill(context))? {
            true => guard.give(to),
            false => 0,
        }))
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        to: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        Poll::Ready(Ok(match ready!(guard.fill(context))? {
            true => to.iter_mut().map(|to| guard.give(to)).sum(),
            false => 0,
        }))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guard<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[u8],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        guard.admit([from, &[]])?;
        let count = ready!(Pin::new(&mut guard.socket).poll_write(context, from))?;
        guard.outbound.written(count);
        Poll::Ready(Ok(count))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let guard = self.get_mut();
        let offered = match from {
            [] => [&[][..], &[]],
            [one] => [&**one, &[]],
            [one, other] => [&**one, &**other],
            // Lapin's buffer is a ring: it has two parts.
            more => {
                return Poll::Ready(
                    guard
                        .check(Err(Fault(format!(
                            "{} buffers were offered, not 2",
                            more.len()
                        ))))
                        .map(|()| 0),
                );
            }
        };
        guard.admit(offered)?;
        let count = ready!(Pin::new(&mut guard.socket).poll_write_vectored(context, from))?;
        guard.outbound.written(count);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_flush(context)
    }

    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().socket).poll_close(context)
    }
}
