//! Connections through the ssh login: channels of RFC 4254 §7 and OpenSSH's for unix sockets.
//!
//! As for sessions a pump takes what arrives out of russh at once, because a
//! channel nobody reads would stop the others. A reader that is further behind
//! than [`QUEUE_BYTES`] stalls the connection after all; see
//! docs/decisions/0001-russh.md.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};

use russh::client::{ChannelOpenHandle, Msg};
use russh::{Channel, ChannelMsg, ChannelOpenFailure, ChannelReadHalf, ChannelWriteHalf};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::{Semaphore, mpsc, watch};
use transport::relay::{FarRead, FarWrite};

use super::pipe::{self, PipeReader, PipeWriter};
use super::sink::Sink;
use crate::config::forward::Listen;
use crate::login::{Login, lost_reason};
use crate::remote::{BoxFuture, RemoteError, RemoteListener, RemoteStream, Target, X11Request};

/// Bytes a forwarded connection may have queued here before the whole login stalls.
const QUEUE_BYTES: u32 = 16 * 1024 * 1024;

/// Accepted connections that may wait to be taken over.
const BACKLOG: usize = 128;

/// Opens a channel to `target`.
pub(super) async fn dial(login: &Login, target: Target) -> Result<RemoteStream, RemoteError> {
    login.shared.forgo_first_flight();
    let opened = match &target {
        Target::Tcp { host, port } => {
            // OpenSSH names its own end where the connection is nobody's.
            login.handle.channel_open_direct_tcpip(host, (*port).into(), "127.0.0.1", 65535).await
        }
        Target::Unix(path) => login.handle.channel_open_direct_streamlocal(path).await,
    };
    match opened {
        Ok(channel) => Ok(stream(channel)),
        Err(russh::Error::ChannelOpenFailure(reason)) => {
            Err(RemoteError::Refused { what: "open".into(), reason: words(reason).into() })
        }
        Err(_) => Err(lost_reason(login.shared.ended().await)),
    }
}

/// The reasons of RFC 4254 §5.1 in OpenSSH's words.
fn words(reason: ChannelOpenFailure) -> &'static str {
    match reason {
        ChannelOpenFailure::AdministrativelyProhibited => "administratively prohibited",
        ChannelOpenFailure::ConnectFailed => "connect failed",
        ChannelOpenFailure::UnknownChannelType => "unknown channel type",
        ChannelOpenFailure::ResourceShortage => "resource shortage",
        _ => "unknown reason",
    }
}

/// Asks the server to listen.
pub(super) async fn listen(login: &Login, at: Listen) -> Result<RemoteListener, RemoteError> {
    // A connection it accepts may take the place of the first session's channel.
    login.shared.forgo_first_flight();
    let (accepted, incoming) = mpsc::channel(BACKLOG);
    let listeners = login.shared.listeners.clone();
    let refused = |error| async move {
        match error {
            russh::Error::RequestDenied => Err(RemoteError::Refused {
                what: "listening".into(),
                reason: "the server does not say why".into(),
            }),
            _ => Err(lost_reason(login.shared.ended().await)),
        }
    };
    let (origin, port) = match at {
        Listen::Tcp { host, port } => {
            // As OpenSSH translates it for the server.
            let host = match host.as_deref() {
                None => "localhost",
                Some("*") => "",
                Some(host) => host,
            };
            // Registered first: a connection may come in one flight with the answer.
            let registered = Registered {
                origin: Origin::Tcp(host.to_owned(), port.into()),
                accepted: accepted.clone(),
            };
            listeners.add(registered);
            let requested = Origin::Tcp(host.to_owned(), port.into());
            let granted = match login.handle.tcpip_forward(host, port.into()).await {
                Ok(granted) => granted,
                Err(error) => {
                    listeners.remove(&requested);
                    return refused(error).await;
                }
            };
            let granted = if port == 0 { granted } else { port.into() };
            let origin = Origin::Tcp(host.to_owned(), granted);
            listeners.rename(&requested, origin.clone());
            (origin, u16::try_from(granted).ok().filter(|_| port == 0))
        }
        Listen::Unix(path) => {
            let origin = Origin::Unix(path.clone());
            listeners.add(Registered { origin: origin.clone(), accepted });
            if let Err(error) = login.handle.streamlocal_forward(path).await {
                listeners.remove(&origin);
                return refused(error).await;
            }
            (origin, None)
        }
    };
    let handle = Arc::clone(&login.handle);
    let cancel = OnDrop(Some(move || {
        listeners.remove(&origin);
        spawn(async move {
            // A server that is gone listens no more either.
            let _ = match origin {
                Origin::Tcp(host, port) => handle.cancel_tcpip_forward(host, port).await,
                Origin::Unix(path) => handle.cancel_streamlocal_forward(path).await,
                Origin::Agent | Origin::X11 => Ok(()),
            };
        });
    }));
    Ok(RemoteListener { port, incoming, _guard: Box::new(cancel) })
}

/// Does something when dropped.
struct OnDrop<F: FnOnce()>(Option<F>);

impl<F: FnOnce()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        if let Some(action) = self.0.take() {
            action();
        }
    }
}

/// Spawns what a drop leaves to do; at the very end of the program there is nothing left to do.
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(work);
    }
}

/// Where a connection was accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    Tcp(String, u32),
    Unix(String),
    /// The agent socket of a session.
    Agent,
    /// The display of a session.
    X11,
}

/// The listeners that the server has for us.
#[derive(Clone, Debug, Default)]
pub(crate) struct Listeners(Arc<Mutex<Vec<Registered>>>, Arc<OnceLock<X11Request>>);

#[derive(Debug)]
struct Registered {
    origin: Origin,
    accepted: mpsc::Sender<RemoteStream>,
}

impl Listeners {
    /// Takes a channel that the server opens, if it was asked for.
    pub(crate) async fn accept(
        &self,
        at: &Origin,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
    ) {
        match self.find(at).map(mpsc::Sender::try_reserve_owned) {
            Some(Ok(place)) => {
                reply.accept().await;
                place.send(stream(channel));
            }
            Some(Err(_)) => reply.reject(ChannelOpenFailure::ResourceShortage).await,
            None => reply.reject(ChannelOpenFailure::ConnectFailed).await,
        }
    }

    /// Takes the agent's connections from now on.
    pub(super) fn serve_agent(&self) -> mpsc::Receiver<RemoteStream> {
        let (accepted, incoming) = mpsc::channel(BACKLOG);
        self.add(Registered { origin: Origin::Agent, accepted });
        incoming
    }

    /// Returns whether they are taken.
    pub(crate) fn serves_agent(&self) -> bool {
        self.lock().iter().any(|registered| registered.origin == Origin::Agent)
    }

    /// Takes connections to the display from now on.
    pub(super) fn serve_x11(&self, x11: X11Request) -> mpsc::Receiver<RemoteStream> {
        let (accepted, incoming) = mpsc::channel(BACKLOG);
        self.add(Registered { origin: Origin::X11, accepted });
        // A second call is against the rules; the first one's cookie stays.
        let _ = self.1.set(x11);
        incoming
    }

    /// Returns what sessions say of the display, where they may reach it.
    pub(crate) fn x11(&self) -> Option<X11Request> {
        self.1.get().cloned()
    }

    /// Finds who asked. Servers spell addresses in ways of their own; the port decides then.
    fn find(&self, at: &Origin) -> Option<mpsc::Sender<RemoteStream>> {
        let all = self.lock();
        let same_port = |registered: &&Registered| match (&registered.origin, at) {
            (Origin::Tcp(_, ours), Origin::Tcp(_, theirs)) => ours == theirs,
            _ => false,
        };
        let found = all.iter().find(|registered| registered.origin == *at);
        found.or_else(|| all.iter().find(same_port)).map(|found| found.accepted.clone())
    }

    fn add(&self, registered: Registered) {
        self.lock().push(registered);
    }

    fn remove(&self, origin: &Origin) {
        let mut all = self.lock();
        if let Some(at) = all.iter().position(|registered| registered.origin == *origin) {
            all.swap_remove(at);
        }
    }

    fn rename(&self, from: &Origin, to: Origin) {
        if let Some(found) = self.lock().iter_mut().find(|registered| registered.origin == *from) {
            found.origin = to;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Registered>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes a connection of a channel.
pub(crate) fn stream(channel: Channel<Msg>) -> RemoteStream {
    let (read, write) = channel.split();
    let budget = Arc::new(Semaphore::new(QUEUE_BYTES as usize));
    let (queue, pipe) = pipe::pipe(&budget, QUEUE_BYTES);
    let (state_in, state) = watch::channel(State::Open);
    tokio::spawn(pump(read, queue, state_in));
    let writer = Box::pin(write.make_writer());
    let life = Arc::new(Life(Some(write)));
    RemoteStream {
        read: Box::new(Reader { pipe, state: state.clone(), _life: Arc::clone(&life) }),
        write: Box::new(Sink::new(
            writer,
            Box::pin(closed(state.clone())),
            Kept { state, _life: life },
        )),
    }
}

/// What is known of a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Data may come.
    Open,
    /// The far side has said everything.
    Ended,
    /// The far side is done with the channel.
    Closed,
    /// The connection ended under it.
    Lost,
}

/// Takes what arrives out of russh.
async fn pump(mut channel: ChannelReadHalf, queue: PipeWriter, state: watch::Sender<State>) {
    let mut queue = Some(queue);
    while let Some(message) = channel.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                if let Some(queue) = &queue {
                    queue.write(data).await;
                }
            }
            ChannelMsg::Eof => {
                // In this order: the reader looks at the state when its queue ends.
                state.send_replace(State::Ended);
                queue = None;
            }
            ChannelMsg::Close => {
                state.send_replace(State::Closed);
                return;
            }
            _ => {}
        }
    }
    if *state.borrow() != State::Closed {
        state.send_replace(State::Lost);
    }
}

async fn closed(mut state: watch::Receiver<State>) {
    // Without its sender the channel is gone as well.
    let _ = state.wait_for(|state| matches!(state, State::Closed | State::Lost)).await;
}

/// Closes the channel once both halves are gone.
struct Life(Option<ChannelWriteHalf<Msg>>);

impl Drop for Life {
    fn drop(&mut self) {
        if let Some(channel) = self.0.take() {
            spawn(async move {
                // The connection may be gone; then so is the channel.
                let _ = channel.close().await;
            });
        }
    }
}

struct Reader {
    pipe: PipeReader,
    state: watch::Receiver<State>,
    _life: Arc<Life>,
}

impl AsyncRead for Reader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.pipe).poll_read(cx, buf))?;
        let ended = buf.filled().len() == before && buf.remaining() > 0;
        if ended && *self.state.borrow() == State::Lost {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Poll::Ready(Ok(()))
    }
}

impl FarRead for Reader {
    /// ssh has no word for it; the channel's close says enough.
    fn abort(&mut self) {}
}

/// What a connection's writing end keeps.
struct Kept {
    state: watch::Receiver<State>,
    _life: Arc<Life>,
}

impl FarWrite for Sink<Kept> {
    fn stopped(&self) -> BoxFuture<'static, bool> {
        let state = self.kept.state.clone();
        Box::pin(async {
            closed(state).await;
            false
        })
    }
}
