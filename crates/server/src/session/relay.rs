//! Carries bytes between a session's stream and its program.
//!
//! Back-pressure both ways and no queue in between: what cannot be sent blocks
//! the program, what the program does not read blocks the client.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::sync::{mpsc, watch};

use super::output::{OutputLog, Presence};
use super::run::{Dropped, Output, Session};
use crate::sys::pty::Master;

/// Read at once: enough to keep a fast link busy, and a pipe's whole content.
const BUFFER_BYTES: usize = 64 * 1024;

/// Most bytes read from a pty after its program has ended: more than the
/// kernel holds (64 KiB and the line discipline's 4 KiB), so that what the
/// program had printed is whole, and little enough that a background job that
/// goes on printing does not keep the session.
const DRAIN_BYTES: usize = 128 * 1024;

/// Where a pty's output goes and what it has to know.
pub(super) struct PtyOutput<'a> {
    pub(super) session: &'a Arc<Session>,
    pub(super) master: &'a Master,
    pub(super) presence: watch::Receiver<Presence>,
    pub(super) log: OutputLog,
    /// Told what the log dropped, once the client is back.
    pub(super) dropped: &'a mpsc::Sender<Dropped>,
}

impl PtyOutput<'_> {
    /// Carries a pty's output until the program has ended or the pty is hung up.
    /// `exited` becomes ready with the program's end.
    pub(super) async fn run(
        mut self,
        send: &mut (impl AsyncWrite + Unpin),
        exited: impl Future<Output = ()>,
    ) -> io::Result<()> {
        let mut buffer = vec![0; BUFFER_BYTES];
        tokio::pin!(exited);
        let mut presence = *self.presence.borrow_and_update();
        loop {
            let has_room = self.log.has_room(presence);
            // Handing over comes before reading: what is read late may never have to be sent.
            let next = self.log.next();
            tokio::select! {
                biased;
                // Before the hang-up: one that comes when the program has ended
                // takes nothing from what it had printed.
                () = &mut exited => break,
                () = self.session.hung_up() => return self.flush(send).await,
                () = self.session.interrupted() => self.log.interrupt(),
                Ok(()) = self.presence.changed() => {
                    presence = *self.presence.borrow_and_update();
                    self.on_presence(presence).await;
                }
                n = send.write(next), if !next.is_empty() => match n? {
                    0 => return Err(io::ErrorKind::WriteZero.into()),
                    n => self.log.advance(n),
                },
                n = self.master.read(&mut buffer), if has_room => match n? {
                    0 => return self.flush(send).await,
                    n => self.take(buffer.get(..n).unwrap_or_default()),
                },
            }
        }
        let mut left = DRAIN_BYTES;
        while left > 0 {
            let Some(n) = self.master.read_now(&mut buffer)?.filter(|n| *n > 0) else { break };
            left = left.saturating_sub(n);
            self.take(buffer.get(..n).unwrap_or_default());
        }
        self.flush(send).await
    }

    /// Takes a piece of output, behind the redraw marker if one is armed.
    fn take(&mut self, piece: &[u8]) {
        if let Some(marker) = self.session.take_redraw_marker(Output::Stdout) {
            // The client looks at nothing in front of it (PROTOCOL §7.8).
            self.log.clear();
            self.log.push(&marker);
        }
        self.log.push(piece);
    }

    async fn on_presence(&mut self, presence: Presence) {
        if !presence.is_away && self.report_gap().await {
            self.session.repaint();
        }
    }

    async fn flush(&mut self, send: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        while !self.log.next().is_empty() {
            match send.write(self.log.next()).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => self.log.advance(n),
            }
        }
        // The client may have come back since.
        self.report_gap().await;
        Ok(())
    }

    /// Reports what was dropped; returns whether anything was.
    async fn report_gap(&mut self) -> bool {
        let Some(gap) = self.log.take_gap() else { return false };
        tracing::info!(?gap, "output was dropped while the client was away");
        // The owner is gone with the connection only.
        let _ = self.dropped.send(Dropped::Output(gap)).await;
        true
    }
}

/// Carries the output of a pipe until it ends, hung up or not.
pub(super) async fn pipe_output(
    session: &Session,
    which: Output,
    mut pipe: impl AsyncRead + Unpin,
    send: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let n = tokio::select! {
            n = pipe.read(&mut buffer) => n?,
            () = session.hung_up() => 0,
        };
        if n == 0 {
            return Ok(());
        }
        forward(session, which, buffer.get(..n), send).await?;
    }
}

/// Sends one piece of output, behind the redraw marker if one is armed.
async fn forward(
    session: &Session,
    which: Output,
    piece: Option<&[u8]>,
    send: &mut (impl AsyncWrite + Unpin),
) -> io::Result<()> {
    if let Some(marker) = session.take_redraw_marker(which) {
        send.write_all(&marker).await?;
    }
    send.write_all(piece.unwrap_or_default()).await
}

/// Carries input to a pty until the client ends it or the pty is hung up.
pub(super) async fn pty_input(
    session: &Session,
    mut recv: impl AsyncRead + Unpin,
    master: &Master,
    dropped: &mpsc::Sender<Dropped>,
) {
    input(session, &mut recv, Sink::Pty(master), dropped).await;
}

/// Carries input to a pipe until the client ends it, and closes it then.
pub(super) async fn pipe_input(
    session: &Session,
    mut recv: impl AsyncRead + Unpin,
    pipe: ChildStdin,
    dropped: &mpsc::Sender<Dropped>,
) {
    input(session, &mut recv, Sink::Pipe(pipe), dropped).await;
}

/// Where input goes.
enum Sink<'a> {
    Pty(&'a Master),
    Pipe(ChildStdin),
}

impl Sink<'_> {
    /// Whether these bytes have made the terminal drop its output.
    fn interrupts(&self, bytes: &[u8]) -> bool {
        match self {
            Self::Pty(master) => master.interrupts(bytes),
            Self::Pipe(_) => false,
        }
    }

    async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Pty(master) => {
                // Typed where no program holds the terminal: lost, as on any
                // terminal. That is no end of anything; above all, what the last
                // program has printed may still be on its way to the client.
                if let Err(error) = master.write_all(bytes).await {
                    tracing::debug!(%error, "nobody takes a terminal's input");
                }
                Ok(())
            }
            Self::Pipe(pipe) => pipe.write_all(bytes).await,
        }
    }
}

async fn input(
    session: &Session,
    recv: &mut (impl AsyncRead + Unpin),
    mut sink: Sink<'_>,
    dropped: &mpsc::Sender<Dropped>,
) {
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut clean = Vec::new();
    let mut is_open = true;
    while is_open {
        let n = tokio::select! {
            n = recv.read(&mut buffer) => n,
            () = session.hung_up() => return,
        };
        let n = match n {
            Ok(n) => n,
            Err(error) => {
                // Told before the pipe is closed: what was cut off must not
                // look like the end of the input.
                tracing::debug!(%error, "input is cut off");
                return session.end();
            }
        };
        clean.clear();
        let report = session.filter_input(buffer.get(..n).unwrap_or_default(), &mut clean);
        if let Some(report) = report.filter(|report| !report.is_empty()) {
            // The owner is gone with the connection only.
            let _ = dropped.send(Dropped::Input(report)).await;
        }
        is_open = n > 0;
        let written = tokio::select! {
            written = sink.put(&clean) => written,
            () = session.hung_up() => return,
        };
        if sink.interrupts(&clean) {
            session.interrupt();
        }
        if let Err(error) = written {
            tracing::debug!(%error, "the program takes no more input");
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::pty;
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
    use tokio::process::{Child, Command};

    /// A terminal whose program has run `line` and ended, and nobody has read or waited.
    fn ended(line: &str) -> (Master, Child) {
        let (master, slave) = pty::open().unwrap();
        let mut command = Command::new("sh");
        command.args(["-c", line]);
        let child = slave.spawn(command).unwrap();
        let program = Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
        waitid(WaitId::Pid(program), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT).unwrap();
        (master, child)
    }

    #[tokio::test]
    async fn keys_for_a_terminal_nobody_holds_are_taken_and_lost() {
        let (master, _child) = ended("true");
        let (mut client, recv) = tokio::io::duplex(4);
        let (dropped, _reports) = mpsc::channel(1);
        let session = Session::for_test();
        let typing = async {
            for _ in 0..100 {
                client.write_all(b"key").await.unwrap();
            }
            drop(client);
        };
        tokio::join!(pty_input(&session, recv, &master, &dropped), typing);
    }

    #[tokio::test]
    async fn a_hang_up_behind_the_program_s_end_takes_nothing_of_its_output() {
        let (master, mut child) = ended("stty -opost; printf %4000s x");
        child.wait().await.unwrap();
        let session = Arc::new(Session::for_test());
        session.end();
        let mut out = Vec::new();
        let (dropped, _reports) = mpsc::channel(1);
        let (_client, presence) = watch::channel(Presence::default());
        let log = OutputLog::new(0);
        let output =
            PtyOutput { session: &session, master: &master, presence, log, dropped: &dropped };
        output.run(&mut out, std::future::ready(())).await.unwrap();
        assert_eq!((out.len(), out.last()), (4000, Some(&b'x')));
    }
}
