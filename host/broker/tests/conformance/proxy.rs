//! A TCP proxy whose connections a test can cut, and which can swallow methods on their way.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Class and method ids (AMQP 0-9-1 section 1.3).
pub(crate) type Method = (u16, u16);
pub(crate) const BASIC_CONSUME: Method = (60, 20);
pub(crate) const BASIC_CANCEL: Method = (60, 30);
pub(crate) const BASIC_PUBLISH: Method = (60, 40);
pub(crate) const BASIC_ACK: Method = (60, 80);
pub(crate) const CONFIRM_SELECT: Method = (85, 10);

/// The longest start of a connection that is no frame: the protocol header.
const PROTOCOL_HEADER: usize = 8;
/// Type, channel and size of a frame.
const HEAD: usize = 7;
const TYPE_METHOD: u8 = 1;

/// Count of a method's frames, and what to do with the next ones.
#[derive(Default)]
struct Watched {
    came: usize,
    /// Number of the next ones that do not arrive.
    swallow: usize,
    /// Number of the next ones that end what arrives of their channels.
    mute: usize,
}

type Methods = Arc<Mutex<HashMap<Method, Watched>>>;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    cuts: watch::Sender<u64>,
    refuses: Arc<AtomicBool>,
    accepted: Arc<AtomicUsize>,
    methods: Methods,
}

impl Proxy {
    pub(crate) async fn start(target: String) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let proxy = Self {
            address: listener.local_addr().unwrap(),
            cuts: watch::Sender::new(0),
            refuses: Arc::default(),
            accepted: Arc::default(),
            methods: Arc::default(),
        };
        let cuts = proxy.cuts.clone();
        let (refuses, accepted) = (Arc::clone(&proxy.refuses), Arc::clone(&proxy.accepted));
        let methods = Arc::clone(&proxy.methods);
        tokio::spawn(async move {
            while let Ok((inner, _)) = listener.accept().await {
                if refuses.load(Ordering::SeqCst) {
                    continue;
                }
                accepted.fetch_add(1, Ordering::SeqCst);
                let (target, mut cut) = (target.clone(), cuts.subscribe());
                let methods = Arc::clone(&methods);
                tokio::spawn(async move {
                    let Ok(outer) = TcpStream::connect(target).await else {
                        return;
                    };
                    tokio::select! {
                        _ = relay(inner, outer, methods) => {}
                        _ = cut.changed() => {}
                    }
                });
            }
        });
        proxy
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

    /// Keeps the next `count` frames of a method without content from the other side, and lets all else pass.
    pub(crate) fn swallow(&self, method: Method, count: usize) {
        let mut methods = self.methods.lock().unwrap();
        methods.entry(method).or_default().swallow = count;
    }

    /// Keeps the next `count` frames of a method from the other side, and with them all that comes on their channels,
    /// as if the broker's end of those were stuck.
    pub(crate) fn mute(&self, method: Method, count: usize) {
        let mut methods = self.methods.lock().unwrap();
        methods.entry(method).or_default().mute = count;
    }

    /// Number of a method's frames that have come from either side.
    pub(crate) fn came(&self, method: Method) -> usize {
        let methods = self.methods.lock().unwrap();
        methods.get(&method).map_or(0, |watched| watched.came)
    }
}

/// Ends with the first of the two directions that does.
async fn relay(inner: TcpStream, outer: TcpStream, methods: Methods) -> io::Result<()> {
    let (from_client, to_client) = inner.into_split();
    let (from_broker, mut to_broker) = outer.into_split();
    let mut from_client = BufReader::new(from_client);
    let mut header = [0; PROTOCOL_HEADER];
    from_client.read_exact(&mut header).await?;
    to_broker.write_all(&header).await?;
    tokio::select! {
        ended = frames(from_client, to_broker, &methods) => ended,
        ended = frames(BufReader::new(from_broker), to_client, &methods) => ended,
    }
}

async fn frames(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    methods: &Methods,
) -> io::Result<()> {
    let mut frame = vec![0; HEAD];
    let mut muted = HashSet::new();
    loop {
        frame.truncate(HEAD);
        from.read_exact(&mut frame).await?;
        let size = u32::from_be_bytes(frame[3..HEAD].try_into().unwrap());
        // And the octet at its end.
        frame.resize(HEAD + usize::try_from(size).unwrap() + 1, 0);
        from.read_exact(&mut frame[HEAD..]).await?;
        if !swallowed(&frame, methods, &mut muted) {
            to.write_all(&frame).await?;
        }
    }
}

fn swallowed(frame: &[u8], methods: &Methods, muted: &mut HashSet<u16>) -> bool {
    let short = |at: usize| u16::from_be_bytes(frame[at..at + 2].try_into().unwrap());
    let channel = short(1);
    if frame[0] != TYPE_METHOD {
        return muted.contains(&channel);
    }
    let method = (short(HEAD), short(HEAD + 2));
    let mut methods = methods.lock().unwrap();
    let watched = methods.entry(method).or_default();
    watched.came += 1;
    if watched.mute > 0 {
        watched.mute -= 1;
        muted.insert(channel);
    }
    let swallowed = watched.swallow > 0;
    watched.swallow = watched.swallow.saturating_sub(1);
    swallowed || muted.contains(&channel)
}
