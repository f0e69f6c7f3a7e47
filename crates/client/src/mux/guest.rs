//! Sessions of other processes on our connection, with the streams they lend us.

use std::io;

use super::channel::Channel;
use super::master::{Master, denied};
use super::message::{NewSession, Reply};
use crate::config::forward::Connect;
use crate::forward;
use crate::remote::{
    BoxFuture, Program, PtyRequest, RemoteError, SessionEnd, SessionRequest, Target,
};
use crate::session::{self, Options, Outcome, Streams};
use crate::sys::stdio::{Output, Stdin, borrow};
use crate::sys::tty;

/// What a client is told when the far host does not do as it asks.
const REFUSED: &str = "Session open refused by peer";

/// Runs a session for a client until its program has ended or the client is gone.
///
/// # Errors
/// The client broke off, or made no sense.
pub(super) async fn session(
    master: &Master,
    channel: &Channel,
    id: u32,
    asked: NewSession,
) -> io::Result<()> {
    // In front of every answer: they are on their way already.
    let input = channel.receive_descriptor().await?;
    let output = channel.receive_descriptor().await?;
    let error = channel.receive_descriptor().await?;
    let _guest = master.guest();
    if !master.permits(&format!("Allow shared connection to {}? ", master.host)).await {
        return channel.send(&denied(id).encode()).await;
    }
    let pty = asked.wants_tty.then(|| PtyRequest {
        term: text(&asked.term),
        size: tty::size_of(borrow(&input)),
        modes: tty::modes_of(borrow(&input)),
    });
    let size = pty.as_ref().map(|pty| pty.size);
    let agent = asked.wants_agent && master.forward_agent();
    let request = SessionRequest {
        program: program(&asked),
        pty,
        env: asked.environment.iter().filter_map(|variable| split(variable)).collect(),
        agent,
        x11: asked.wants_x11,
    };
    let mut gone: BoxFuture<'_, ()> = Box::pin(master.until_gone(channel));
    let opened = tokio::select! {
        opened = master.remote.open_session(request) => opened,
        () = &mut gone => return Ok(()),
    };
    let session = match opened {
        Ok(session) => session,
        Err(error) => return refuse(channel, id, &error).await,
    };
    let number = master.next_session();
    channel.send(&Reply::SessionOpened { id, session: number }.encode()).await?;
    if size.is_some() && session.error.is_some() {
        channel.send(&Reply::TtyAllocFail { session: number }.encode()).await?;
    }
    let options = Options {
        escape: asked.escape,
        stdin_null: false,
        notice: master.notice.filter(|_| !matches!(&*asked.term, b"" | b"dumb")),
        host: &master.host,
        // Said before a session of our own only.
        tell: &|_| {},
        streams: Streams::Lent { input, output, error },
        forwarder: &master.forwarder,
        command_line: false,
        local_commands: false,
        background: &|| Box::pin(async { Err(io::ErrorKind::Unsupported.into()) }),
    };
    let remote = master.remote.as_ref();
    let outcome = session::run_for_guest(remote, session, size, options, gone).await;
    tracing::debug!(?outcome, "the session of another process ended");
    // Whatever else it was, its client learns it from our silence, as from ssh's.
    if let Outcome::Ended(SessionEnd::Exited(status)) = outcome {
        channel.send(&Reply::ExitMessage { session: number, status }.encode()).await?;
    }
    Ok(())
}

/// Leads a client's streams to a port or socket beyond the far host.
///
/// # Errors
/// The client broke off, or made no sense.
pub(super) async fn stdio(
    master: &Master,
    channel: &Channel,
    id: u32,
    connect: Connect,
) -> io::Result<()> {
    let input = channel.receive_descriptor().await?;
    let output = channel.receive_descriptor().await?;
    let _guest = master.guest();
    if !master.permits(&format!("Allow forward to {connect}? ")).await {
        return channel.send(&denied(id).encode()).await;
    }
    let target = match connect {
        Connect::Tcp { host, port } => Target::Tcp { host, port },
        Connect::Unix(path) => Target::Unix(path),
        Connect::Socks => return channel.send(&denied(id).encode()).await,
    };
    let mut gone: BoxFuture<'_, ()> = Box::pin(master.until_gone(channel));
    let dialled = tokio::select! {
        dialled = master.remote.dial(target) => dialled,
        () = &mut gone => return Ok(()),
    };
    let far = match dialled {
        Ok(far) => far,
        Err(error) => return refuse(channel, id, &error).await,
    };
    let session = master.next_session();
    channel.send(&Reply::SessionOpened { id, session }.encode()).await?;
    let (input, output) = (Stdin::of(borrow(&input))?, Output::of(borrow(&output))?);
    tokio::select! {
        ended = forward::conduct(far, Some(input), output) => {
            tracing::debug!(?ended, "the connection of another process ended");
        }
        () = gone => {}
    }
    Ok(())
}

async fn refuse(channel: &Channel, id: u32, error: &RemoteError) -> io::Result<()> {
    tracing::info!(%error, "nothing for another process");
    channel.send(&Reply::Failure { id, reason: REFUSED.into() }.encode()).await
}

fn program(asked: &NewSession) -> Program {
    match asked.is_subsystem {
        true => Program::Subsystem(text(&asked.command)),
        false if asked.command.is_empty() => Program::Shell,
        false => Program::Exec(asked.command.clone()),
    }
}

fn split(variable: &[u8]) -> Option<(String, String)> {
    let variable = std::str::from_utf8(variable).ok()?;
    let (name, value) = variable.split_once('=')?;
    Some((name.to_owned(), value.to_owned()))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
