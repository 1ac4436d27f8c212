//! The body of an outbound request, which somebody reads until the guest has ended it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::runtime::Handle;
use wasmtime_wasi_http::{Error, WasiBody};

/// Reads on where hyper does not: of a GET it takes no body, and of any request none once the connection is
/// gone. A guest that still writes would find its stream closed, which is chance, and take that for the
/// outcome of the request instead of the response or the error that there is. wstd 0.6 does so, by writing
/// the no bytes of an empty body.
pub(super) fn read_to_end(body: WasiBody) -> WasiBody {
    ReadToEnd(Some(body)).boxed_unsync()
}

/// None once it has ended.
struct ReadToEnd(Option<WasiBody>);

impl Body for ReadToEnd {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let Some(body) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = Pin::new(body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.0 = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.0.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.0
            .as_ref()
            .map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl Drop for ReadToEnd {
    /// The guest's end of the body is gone with its call at the latest, and the task with that.
    fn drop(&mut self) {
        if let (Some(mut body), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(async move { while let Some(Ok(_)) = body.frame().await {} });
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use tokio::sync::mpsc;

    struct Written(mpsc::Receiver<Bytes>);

    impl Body for Written {
        type Data = Bytes;
        type Error = Error;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
            let bytes = self.0.poll_recv(cx);
            bytes.map(|bytes| Some(Ok(Frame::data(bytes?))))
        }
    }

    #[tokio::test]
    async fn what_nobody_needs_can_be_written_to_its_end() {
        let (guest, written) = mpsc::channel(1);
        let mut body = read_to_end(Written(written).boxed_unsync());
        guest.send(Bytes::from_static(b"some")).await.unwrap();
        let frame = body.frame().await.unwrap().unwrap();
        assert_eq!(frame.into_data().unwrap(), "some");
        drop(body);
        for _ in 0..10 {
            guest.send(Bytes::from_static(b"more")).await.unwrap();
        }
        assert!(!guest.is_closed());
    }

    #[tokio::test]
    async fn what_has_ended_is_left_alone() {
        let (guest, written) = mpsc::channel(1);
        let mut body = read_to_end(Written(written).boxed_unsync());
        drop(guest);
        assert!(body.frame().await.is_none());
        assert!(body.is_end_stream());
        assert_eq!(body.size_hint().exact(), Some(0));
    }
}
