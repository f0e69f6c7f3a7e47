//! A running program and its channel: bytes both ways, signals, size, status.
//!
//! Ends as sshd's sessions do: without a pty when the program has ended and
//! nobody holds its output any more; with one when the program has ended and
//! what it wrote has been read.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::time::Duration;

use pty_process::{OwnedReadPty, Pty, Size};
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelId, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};
use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::process::{Child, ChildStdin};

use crate::program::{Group, Program};

/// Carries a program's bytes until it ends or the client closes the channel.
pub(crate) async fn run(channel: Channel<Msg>, handle: Handle, program: Program) {
    let Program { child, group, pty } = program;
    let id = channel.id();
    let (input, output) = channel.split();
    match pty {
        Some(pty) => on_pty(child, &group, pty, input, &output, &handle).await,
        None => on_pipes(child, &group, input, &output, &handle).await,
    }
    .then(|| group.release());
    // The client may have closed first; there is nobody to tell then.
    let _ = handle.eof(id).await;
    let _ = handle.close(id).await;
}

/// Returns whether the program ended by itself.
async fn on_pty(
    child: Child,
    group: &Group,
    pty: Pty,
    mut input: ChannelReadHalf,
    output: &ChannelWriteHalf<Msg>,
    handle: &Handle,
) -> bool {
    let (read, mut write) = pty.into_split();
    let mut ended = std::pin::pin!(pump_pty(read, output.make_writer(), child));
    let status = loop {
        let message = tokio::select! {
            status = &mut ended => break status,
            message = input.wait() => message,
        };
        match message {
            Some(ChannelMsg::Data { data }) => {
                // A program that does not read must not keep us from noticing its end.
                tokio::select! {
                    status = &mut ended => break status,
                    _ = write.write_all(&data) => {}
                }
            }
            Some(ChannelMsg::WindowChange { col_width, row_height, pix_width, pix_height }) => {
                // The pty may be gone already; its size no longer matters then.
                let _ = write.resize(size(col_width, row_height, pix_width, pix_height));
            }
            Some(ChannelMsg::Signal { signal }) => forward(group, &signal),
            None | Some(ChannelMsg::Close) => return false,
            Some(_) => {}
        }
    };
    report(handle, output.id(), status).await;
    true
}

/// Carries the pty's output to the client until the program has ended and the pty is quiet.
async fn pump_pty(
    mut pty: OwnedReadPty,
    mut to_client: impl AsyncWrite + Unpin,
    mut child: Child,
) -> io::Result<ExitStatus> {
    let mut status = None;
    let mut buf = vec![0; 32 * 1024];
    loop {
        tokio::select! {
            read = pty.read(&mut buf) => match read {
                Ok(n) if n > 0 => to_client.write_all(&buf[..n]).await?,
                // EIO: nobody has the other side open any more.
                _ => break,
            },
            ended = child.wait(), if status.is_none() => status = Some(ended?),
            // A background job may hold the pty for ever; sshd does not wait for it either.
            () = tokio::time::sleep(QUIET), if status.is_some() => break,
        }
    }
    match status {
        Some(status) => Ok(status),
        None => child.wait().await,
    }
}

/// Returns whether the program ended by itself.
async fn on_pipes(
    mut child: Child,
    group: &Group,
    input: ChannelReadHalf,
    output: &ChannelWriteHalf<Msg>,
    handle: &Handle,
) -> bool {
    let stdin = child.stdin.take();
    let stdout = copy(child.stdout.take(), output.make_writer());
    let stderr = copy(child.stderr.take(), output.make_writer_ext(Some(STDERR)));
    let status = async {
        let status = child.wait().await;
        report(handle, output.id(), status).await;
    };
    tokio::select! {
        _ = async { tokio::join!(stdout, stderr, status) } => true,
        () = feed(input, stdin, group) => false,
    }
}

/// Carries one output to the client; a client that has gone is noticed elsewhere.
async fn copy(from: Option<impl AsyncRead + Unpin>, mut to: impl AsyncWrite + Unpin) {
    if let Some(mut from) = from {
        let _ = tokio::io::copy(&mut from, &mut to).await;
    }
}

/// Writes the client's bytes to the program; returns when the client closes the channel.
async fn feed(mut input: ChannelReadHalf, mut stdin: Option<ChildStdin>, group: &Group) {
    loop {
        match input.wait().await {
            Some(ChannelMsg::Data { data }) => {
                if let Some(pipe) = &mut stdin
                    && pipe.write_all(&data).await.is_err()
                {
                    // The program closed its input: the rest is for nobody.
                    stdin = None;
                }
            }
            Some(ChannelMsg::Eof) => stdin = None,
            Some(ChannelMsg::Signal { signal }) => forward(group, &signal),
            None | Some(ChannelMsg::Close) => return,
            Some(_) => {}
        }
    }
}

async fn report(handle: &Handle, id: ChannelId, status: io::Result<ExitStatus>) {
    let Ok(status) = status else { return };
    // Errors: the client has gone, and with it the interest.
    let _ = match status.signal() {
        Some(signal) => {
            let name = signal_name(signal);
            let core = status.core_dumped();
            handle.exit_signal_request(id, name, core, String::new(), String::new()).await
        }
        None => {
            let code = u32::try_from(status.code().unwrap_or(255)).unwrap_or(255);
            handle.exit_status_request(id, code).await
        }
    };
}

/// Returns a terminal size; numbers beyond what a terminal can have are cut.
pub(crate) fn size(cols: u32, rows: u32, width_px: u32, height_px: u32) -> Size {
    let cut = |n: u32| u16::try_from(n).unwrap_or(u16::MAX);
    Size::new_with_pixel(cut(rows), cut(cols), cut(width_px), cut(height_px))
}

/// Sends a signal the client asked for; names this system does not know are ignored, as by sshd.
fn forward(group: &Group, signal: &Sig) {
    let asked = std::mem::discriminant(signal);
    let known = SIGNALS.iter().find(|(name, _)| std::mem::discriminant(name) == asked);
    if let Some((_, signal)) = known {
        group.signal(*signal);
    }
}

fn signal_name(number: i32) -> Sig {
    SIGNALS
        .iter()
        .find(|(_, signal)| signal.as_raw() == number)
        .map_or_else(|| Sig::Custom(format!("{number}@tssh")), |(name, _)| name.clone())
}

/// The signals RFC 4254 §6.10 names.
const SIGNALS: [(Sig, Signal); 12] = [
    (Sig::ABRT, Signal::ABORT),
    (Sig::ALRM, Signal::ALARM),
    (Sig::FPE, Signal::FPE),
    (Sig::HUP, Signal::HUP),
    (Sig::ILL, Signal::ILL),
    (Sig::INT, Signal::INT),
    (Sig::KILL, Signal::KILL),
    (Sig::PIPE, Signal::PIPE),
    (Sig::QUIT, Signal::QUIT),
    (Sig::SEGV, Signal::SEGV),
    (Sig::TERM, Signal::TERM),
    (Sig::USR1, Signal::USR1),
];

/// SSH_EXTENDED_DATA_STDERR of RFC 4254 §5.2.
const STDERR: u32 = 1;

/// How long a pty must be quiet after its program's end to count as drained.
const QUIET: Duration = Duration::from_millis(50);
