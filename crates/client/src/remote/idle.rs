//! [`Timed`]: a far host whose channels are closed when they have been idle for too long
//! (ChannelTimeout).
//!
//! What counts is data, in either direction. A channel that is closed looks to both ends as if
//! the other had gone. Flows of datagrams are no channels and have a limit of their own.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use transport::relay::{FarRead, FarWrite};

use super::{
    BoxFuture, HealthWatch, Remote, RemoteDatagrams, RemoteError, RemoteListener, RemoteSession,
    RemoteStream, RemoteUdpListener, SessionEnd, SessionRequest, Target, X11Request,
};
use crate::config::channel_timeouts::ChannelTimeouts;
use crate::config::forward::Listen;
use crate::report::Reporter;

/// A far host with limits.
pub(crate) struct Timed {
    inner: Arc<dyn Remote>,
    limits: Limits,
}

impl Timed {
    /// Puts limits on the channels of a far host, if there are any.
    pub(crate) fn around(
        inner: Arc<dyn Remote>,
        limits: &ChannelTimeouts,
        reporter: Reporter,
    ) -> Arc<dyn Remote> {
        if limits.is_empty() {
            return inner;
        }
        let global = limits.global().map(Clock::new);
        let by_kind = limits.clone();
        Arc::new(Self { inner, limits: Limits { by_kind, global, reporter } })
    }
}

/// The limits, and what all channels have in common.
#[derive(Clone)]
struct Limits {
    by_kind: ChannelTimeouts,
    global: Option<Arc<Clock>>,
    reporter: Reporter,
}

impl Limits {
    /// Returns what watches over a new channel.
    fn watch(&self, kind: &'static str) -> Watch {
        let own = self.by_kind.of(kind).map(Clock::new);
        let clocks: Vec<_> = own.into_iter().chain(self.global.clone()).collect();
        let watch = Watch { kind, clocks: clocks.into(), reporter: self.reporter };
        watch.touch();
        watch
    }

    /// Puts a limit on each of the connections that come out of a queue.
    fn all(
        &self,
        kind: &'static str,
        mut incoming: mpsc::Receiver<RemoteStream>,
    ) -> mpsc::Receiver<RemoteStream> {
        let (sender, receiver) = mpsc::channel(1);
        let limits = self.clone();
        tokio::spawn(async move {
            loop {
                let stream = tokio::select! {
                    stream = incoming.recv() => stream,
                    () = sender.closed() => None,
                };
                let Some(stream) = stream else { return };
                if sender.send(limits.watch(kind).stream(stream)).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }
}

/// When there was data last.
struct Clock {
    limit: Duration,
    last: Mutex<Instant>,
}

impl Clock {
    fn new(limit: Duration) -> Arc<Self> {
        Arc::new(Self { limit, last: Mutex::new(Instant::now()) })
    }

    fn deadline(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) + self.limit
    }

    /// Waits until there has been no data for too long.
    async fn over(&self) {
        while Instant::now() < self.deadline() {
            sleep_until(self.deadline()).await;
        }
    }
}

/// What watches over one channel.
#[derive(Clone)]
struct Watch {
    kind: &'static str,
    clocks: Arc<[Arc<Clock>]>,
    reporter: Reporter,
}

impl Watch {
    fn touch(&self) {
        let now = Instant::now();
        for clock in self.clocks.iter() {
            *clock.last.lock().unwrap_or_else(PoisonError::into_inner) = now;
        }
    }

    /// Waits until one of the limits is reached; for ever where there is none.
    fn over(&self) -> Over {
        let clocks = self.clocks.clone();
        Box::pin(async move {
            match &*clocks {
                [] => std::future::pending().await,
                [clock] => clock.over().await,
                [own, global, ..] => tokio::select! {
                    () = own.over() => {}
                    () = global.over() => {}
                },
            }
        })
    }

    fn stream(self, stream: RemoteStream) -> RemoteStream {
        RemoteStream {
            read: Box::new(Reading {
                inner: stream.read,
                over: Some(self.over()),
                watch: self.clone(),
            }),
            write: Box::new(Writing { inner: stream.write, watch: self }),
        }
    }

    fn session(self, session: RemoteSession) -> RemoteSession {
        let read = |inner| -> Box<dyn AsyncRead + Send + Unpin> {
            Box::new(Reading { inner, over: Some(self.over()), watch: self.clone() })
        };
        let (over, watch, end) = (self.over(), self.clone(), session.end);
        RemoteSession {
            input: Box::new(Writing { inner: session.input, watch: self.clone() }),
            output: read(session.output),
            error: session.error.map(read),
            control: session.control,
            end: Box::pin(async move {
                tokio::select! {
                    end = end => end,
                    () = over => {
                        watch.reporter.warning(&format_args!(
                            "{} closed: idle for longer than ChannelTimeout allows", watch.kind
                        ));
                        SessionEnd::Unknown
                    }
                }
            }),
        }
    }
}

/// Resolves when a channel has been idle for too long.
type Over = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The half that reads, and ends the channel.
struct Reading<R> {
    inner: R,
    /// `None` once it has ended.
    over: Option<Over>,
    watch: Watch,
}

impl<R: AsyncRead + Unpin> AsyncRead for Reading<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some(over) = &mut this.over else { return Poll::Ready(Ok(())) };
        let before = buf.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut this.inner).poll_read(cx, buf) {
            if buf.filled().len() > before {
                this.watch.touch();
            }
            return Poll::Ready(read);
        }
        std::task::ready!(over.as_mut().poll(cx));
        tracing::info!(kind = this.watch.kind, "channel closed after being idle");
        this.over = None;
        Poll::Ready(Ok(()))
    }
}

impl FarRead for Reading<Box<dyn FarRead>> {
    fn abort(&mut self) {
        self.inner.abort();
    }
}

/// The half that writes.
struct Writing<W> {
    inner: W,
    watch: Watch,
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Writing<W> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = std::task::ready!(Pin::new(&mut self.inner).poll_write(cx, buf))?;
        self.watch.touch();
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl FarWrite for Writing<Box<dyn FarWrite>> {
    fn stopped(&self) -> Pin<Box<dyn Future<Output = bool> + Send>> {
        let (stopped, over) = (self.inner.stopped(), self.watch.over());
        Box::pin(async move {
            tokio::select! {
                broke = stopped => broke,
                () = over => false,
            }
        })
    }
}

/// What ChannelTimeout calls a connection to `target`.
fn kind_of(target: &Target) -> &'static str {
    match target {
        Target::Tcp { .. } => "direct-tcpip",
        Target::Unix(_) => "direct-streamlocal@openssh.com",
    }
}

impl Remote for Timed {
    fn open_session(
        &self,
        request: SessionRequest,
    ) -> BoxFuture<'_, Result<RemoteSession, RemoteError>> {
        Box::pin(async move {
            let session = self.inner.open_session(request).await?;
            Ok(self.limits.watch("session").session(session))
        })
    }

    fn dial(&self, target: Target) -> BoxFuture<'_, Result<RemoteStream, RemoteError>> {
        let kind = kind_of(&target);
        Box::pin(async move {
            let stream = self.inner.dial(target).await?;
            Ok(self.limits.watch(kind).stream(stream))
        })
    }

    fn dial_with_farewell(
        &self,
        target: Target,
        farewell: Vec<u8>,
    ) -> BoxFuture<'_, Result<RemoteStream, RemoteError>> {
        let kind = kind_of(&target);
        Box::pin(async move {
            let stream = self.inner.dial_with_farewell(target, farewell).await?;
            Ok(self.limits.watch(kind).stream(stream))
        })
    }

    fn listen(&self, at: Listen) -> BoxFuture<'_, Result<RemoteListener, RemoteError>> {
        let kind = match &at {
            Listen::Tcp { .. } => "forwarded-tcpip",
            Listen::Unix(_) => "forwarded-streamlocal@openssh.com",
        };
        Box::pin(async move {
            let listener = self.inner.listen(at).await?;
            Ok(RemoteListener { incoming: self.limits.all(kind, listener.incoming), ..listener })
        })
    }

    fn carries_datagrams(&self) -> bool {
        self.inner.carries_datagrams()
    }

    fn dial_udp(&self, target: Target) -> BoxFuture<'_, Result<RemoteDatagrams, RemoteError>> {
        self.inner.dial_udp(target)
    }

    fn dial_udp_with_farewell(
        &self,
        target: Target,
        farewell: Vec<u8>,
    ) -> BoxFuture<'_, Result<RemoteDatagrams, RemoteError>> {
        self.inner.dial_udp_with_farewell(target, farewell)
    }

    fn listen_udp(&self, at: Listen) -> BoxFuture<'_, Result<RemoteUdpListener, RemoteError>> {
        self.inner.listen_udp(at)
    }

    fn forward_agent(&self) -> mpsc::Receiver<RemoteStream> {
        self.limits.all("agent-connection", self.inner.forward_agent())
    }

    fn forward_x11(&self, x11: X11Request) -> mpsc::Receiver<RemoteStream> {
        self.limits.all("x11-connection", self.inner.forward_x11(x11))
    }

    fn closed(&self) -> BoxFuture<'_, RemoteError> {
        self.inner.closed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.inner.close()
    }

    fn renew_keys(&self) {
        self.inner.renew_keys();
    }

    fn roams(&self) -> bool {
        self.inner.roams()
    }

    fn datagram_size(&self) -> Option<usize> {
        self.inner.datagram_size()
    }

    fn health(&self) -> Option<Box<dyn HealthWatch>> {
        self.inner.health()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(5);

    fn limits(words: &[&str]) -> Limits {
        let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
        let by_kind = crate::config::channel_timeouts::parse(&words).expect("sound");
        let global = by_kind.global().map(Clock::new);
        Limits { by_kind, global, reporter: Reporter::new() }
    }

    fn reading(limits: &Limits) -> (DuplexStream, Reading<DuplexStream>) {
        let (far, inner) = duplex(100);
        let watch = limits.watch("direct-tcpip");
        (far, Reading { inner, over: Some(watch.over()), watch })
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_ends_when_it_has_been_idle_for_its_limit_and_no_sooner() {
        let (mut far, mut near) = reading(&limits(&["direct-*=5s"]));
        let begun = Instant::now();
        let mut byte = [0];
        for _ in 0..3 {
            tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
            far.write_all(b"x").await.expect("room");
            assert_eq!(near.read(&mut byte).await.expect("open"), 1);
        }
        assert_eq!(near.read(&mut byte).await.expect("ended"), 0);
        assert_eq!(begun.elapsed().as_secs(), 4 * 3 + 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_channel_of_another_kind_has_no_limit() {
        let (_far, mut near) = reading(&limits(&["session=5s"]));
        let read = tokio::time::timeout(LIMIT * 100, near.read_u8()).await;
        assert!(read.is_err(), "it waits");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_said_on_one_channel_keeps_all_open_where_the_limit_is_global() {
        let limits = limits(&["global=5s"]);
        let ((mut busy, mut heard), (_far, mut quiet)) = (reading(&limits), reading(&limits));
        let talk = async {
            for _ in 0..4 {
                tokio::time::sleep(LIMIT - Duration::from_secs(1)).await;
                busy.write_all(b"x").await.expect("room");
                heard.read_u8().await.expect("open");
            }
        };
        let begun = Instant::now();
        let mut byte = [0];
        let (read, ()) = tokio::join!(quiet.read(&mut byte), talk);
        assert_eq!(read.expect("ended"), 0);
        assert_eq!(begun.elapsed().as_secs(), 4 * 4 + 5);
    }

    /// A host that refuses everything and keeps what it was to say in our place.
    #[derive(Default)]
    struct Keeps(Mutex<Vec<Vec<u8>>>);

    impl Keeps {
        fn refuse<T: Send>(&self, farewell: Vec<u8>) -> BoxFuture<'_, Result<T, RemoteError>> {
            self.0.lock().expect("sound").push(farewell);
            Box::pin(async { Err(RemoteError::Lost { reason: "refused".into() }) })
        }
    }

    impl Remote for Keeps {
        fn open_session(
            &self,
            _: SessionRequest,
        ) -> BoxFuture<'_, Result<RemoteSession, RemoteError>> {
            self.refuse(vec![])
        }

        fn dial(&self, _: Target) -> BoxFuture<'_, Result<RemoteStream, RemoteError>> {
            self.refuse(vec![])
        }

        fn dial_with_farewell(
            &self,
            _: Target,
            farewell: Vec<u8>,
        ) -> BoxFuture<'_, Result<RemoteStream, RemoteError>> {
            self.refuse(farewell)
        }

        fn dial_udp_with_farewell(
            &self,
            _: Target,
            farewell: Vec<u8>,
        ) -> BoxFuture<'_, Result<RemoteDatagrams, RemoteError>> {
            self.refuse(farewell)
        }

        fn listen(&self, _: Listen) -> BoxFuture<'_, Result<RemoteListener, RemoteError>> {
            self.refuse(vec![])
        }

        fn forward_agent(&self) -> mpsc::Receiver<RemoteStream> {
            mpsc::channel(1).1
        }

        fn closed(&self) -> BoxFuture<'_, RemoteError> {
            Box::pin(std::future::pending())
        }

        fn close(&self) -> BoxFuture<'_, ()> {
            Box::pin(std::future::ready(()))
        }

        fn roams(&self) -> bool {
            true
        }
    }

    #[tokio::test]
    async fn a_jump_host_with_limits_still_takes_our_leave_for_us() {
        let inner = Arc::new(Keeps::default());
        let timed = Timed { inner: inner.clone(), limits: limits(&["direct-*=5s"]) };
        let target = || Target::Tcp { host: "next".into(), port: 1 };
        assert!(timed.dial_with_farewell(target(), vec![1]).await.is_err());
        assert!(timed.dial_udp_with_farewell(target(), vec![2]).await.is_err());
        assert_eq!(*inner.0.lock().expect("sound"), [[1], [2]]);
    }
}
