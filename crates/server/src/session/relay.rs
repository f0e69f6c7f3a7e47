//! Carries bytes between a session's stream and its program.
//!
//! Back-pressure both ways and no queue in between: what cannot be sent blocks
//! the program, what the program does not read blocks the client.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::process::ChildStdin;
use tokio::sync::mpsc;

use super::run::{Output, Session};
use crate::sys::pty::Master;

/// Read at once: enough to keep a fast link busy, and a pipe's whole content.
const BUFFER_BYTES: usize = 64 * 1024;

/// Most bytes read from a pty after its program has ended: more than the
/// kernel holds (64 KiB and the line discipline's 4 KiB), so that what the
/// program had printed is whole, and little enough that a background job that
/// goes on printing does not keep the session.
const DRAIN_BYTES: usize = 128 * 1024;

/// Carries a pty's output until the program has ended or the pty is hung up.
/// `exited` becomes ready with the program's end.
pub(super) async fn pty_output(
    session: &Session,
    master: &Master,
    send: &mut (impl AsyncWrite + Unpin),
    exited: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    tokio::pin!(exited);
    loop {
        tokio::select! {
            biased;
            // Before the hang-up: one that comes when the program has ended
            // takes nothing from what it had printed.
            () = &mut exited => break,
            () = session.hung_up() => return Ok(()),
            n = master.read(&mut buffer) => match n? {
                0 => return Ok(()),
                n => forward(session, Output::Stdout, buffer.get(..n), send).await?,
            },
        }
    }
    let mut left = DRAIN_BYTES;
    while left > 0 {
        let Some(n) = master.read_now(&mut buffer)?.filter(|n| *n > 0) else { break };
        left = left.saturating_sub(n);
        forward(session, Output::Stdout, buffer.get(..n), send).await?;
    }
    Ok(())
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
    dropped: &mpsc::Sender<Vec<u8>>,
) {
    input(session, &mut recv, Sink::Pty(master), dropped).await;
}

/// Carries input to a pipe until the client ends it, and closes it then.
pub(super) async fn pipe_input(
    session: &Session,
    mut recv: impl AsyncRead + Unpin,
    pipe: ChildStdin,
    dropped: &mpsc::Sender<Vec<u8>>,
) {
    input(session, &mut recv, Sink::Pipe(pipe), dropped).await;
}

/// Where input goes.
enum Sink<'a> {
    Pty(&'a Master),
    Pipe(ChildStdin),
}

impl Sink<'_> {
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
    dropped: &mpsc::Sender<Vec<u8>>,
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
            let _ = dropped.send(report).await;
        }
        is_open = n > 0;
        let written = tokio::select! {
            written = sink.put(&clean) => written,
            () = session.hung_up() => return,
        };
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
        let session = Session::for_test();
        session.end();
        let mut out = Vec::new();
        pty_output(&session, &master, &mut out, std::future::ready(())).await.unwrap();
        assert_eq!((out.len(), out.last()), (4000, Some(&b'x')));
    }
}
