//! A TCP proxy whose connections a test can cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    cuts: watch::Sender<u64>,
    refuses: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn start(target: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cuts = watch::Sender::new(0);
        let refuses = Arc::new(AtomicBool::new(false));
        let accepted = Arc::new(AtomicUsize::new(0));
        tokio::spawn({
            let (cuts, refuses, accepted) =
                (cuts.clone(), Arc::clone(&refuses), Arc::clone(&accepted));
            async move {
                while let Ok((mut inner, _)) = listener.accept().await {
                    if refuses.load(Ordering::SeqCst) {
                        continue;
                    }
                    accepted.fetch_add(1, Ordering::SeqCst);
                    let (target, mut cut) = (target.clone(), cuts.subscribe());
                    tokio::spawn(async move {
                        let Ok(mut outer) = TcpStream::connect(target).await else {
                            return;
                        };
                        tokio::select! {
                            _ = copy_bidirectional(&mut inner, &mut outer) => {}
                            _ = cut.changed() => {}
                        }
                    });
                }
            }
        });
        Self {
            address,
            cuts,
            refuses,
            accepted,
        }
    }

    /// Ends all its connections.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Ends at once what connects from now on, or no longer.
    pub(crate) fn refuse(&self, refuses: bool) {
        self.refuses.store(refuses, Ordering::SeqCst);
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }
}
