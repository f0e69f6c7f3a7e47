//! What is typed, on its way to the program, and the escapes in it.

use std::io;
use std::process::ExitStatus;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::command::{self, Command, Line, PROMPT};
use super::escape::{Escapes, Step};
use super::notice::Keys;
use super::{BUFFER, Local};
use crate::config::LogLevel;
use crate::logging;
use crate::remote::SessionControl;
use crate::report::Reporter;
use crate::sys::tty;

/// What ends a line of input in a terminal in cooked mode; typed for a shell that is left alone.
const END_OF_INPUT: &[u8] = b"\x04";

type Input = Box<dyn AsyncWrite + Send + Unpin>;

pub(super) enum Typed {
    /// Nothing more is typed; the stream is finished as far as it may be.
    EndOfInput(Input),
    Left,
}

/// Whether typing goes on after an escape.
enum Next {
    GoOn,
    /// Nothing more will be typed, and the far end has been told in its own way.
    NoMore,
    Leave,
}

pub(super) async fn type_in(
    mut input: Input,
    local: &Local<'_>,
    control: &dyn SessionControl,
) -> io::Result<Typed> {
    let mut escapes = local.escapes.clone();
    if !local.options.stdin_null
        && let Ok(mut stdin) = local.options.streams.input()
    {
        let mut buffer = vec![0; BUFFER];
        loop {
            let n = match stdin.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(n) => n,
            };
            let typed = buffer.get(..n).unwrap_or_default();
            let keys = local.display.as_ref().map(|display| display.on_keys(typed));
            let typed = match &keys {
                Some(Keys::Leave) => return Ok(Typed::Left),
                Some(Keys::Pass(keys)) => keys,
                None => typed,
            };
            for step in escapes.feed(typed) {
                let mut typing = Typing { local, escapes: &escapes, control, input: &mut input };
                match typing.take(step, &mut stdin).await? {
                    Next::GoOn => {}
                    Next::NoMore => return Ok(Typed::EndOfInput(input)),
                    Next::Leave => return Ok(Typed::Left),
                }
            }
        }
    }
    broken_pipe(input.shutdown().await)?;
    Ok(Typed::EndOfInput(input))
}

/// What one step of the input has to do with.
struct Typing<'a, 'l> {
    local: &'a Local<'l>,
    escapes: &'a Escapes,
    control: &'a dyn SessionControl,
    input: &'a mut Input,
}

impl Typing<'_, '_> {
    async fn take(&mut self, step: Step, stdin: &mut (impl AsyncRead + Unpin)) -> io::Result<Next> {
        let (local, escapes) = (self.local, self.escapes);
        match step {
            Step::Send(bytes) => self.send(&bytes).await?,
            Step::Disconnect => {
                local.say(&escapes.echo(".")).await?;
                return Ok(Next::Leave);
            }
            Step::Help => local.say(&escapes.help()).await?,
            Step::Suspend => {
                local.say(&escapes.echo("^Z [suspend tssh]")).await?;
                match local.raw {
                    Some(raw) => raw.pause(tty::suspend)?,
                    None => tty::suspend()?,
                }
                local.resize_to_streams(self.control);
            }
            Step::Connections => {
                let mut text = escapes.echo("#");
                text.push_str("The following connections are open:\r\n  #0 client-session\r\n");
                for (number, connection) in local.options.forwarder.connections() {
                    text.push_str(&format!("  #{number} {connection}\r\n"));
                }
                local.say(&text).await?;
            }
            Step::Rekey => {
                local.say(&escapes.echo("R")).await?;
                local.remote.renew_keys();
            }
            Step::Quieter => self.change_level("V", LogLevel::quieter).await?,
            Step::Louder => self.change_level("v", LogLevel::louder).await?,
            Step::CommandLine => return self.command_line(stdin).await,
            Step::Background => return self.background().await,
            Step::NotShared(name) => {
                let text = format!("{name} escape not available to multiplexed sessions");
                local.say(&escapes.echo(&text)).await?;
            }
        }
        Ok(Next::GoOn)
    }

    async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        broken_pipe(self.input.write_all(bytes).await)?;
        // The end of a chunk, in the sense of PROTOCOL §7.6.
        broken_pipe(self.input.flush().await)
    }

    async fn change_level(&mut self, name: &str, to: fn(LogLevel) -> LogLevel) -> io::Result<()> {
        let level = to(logging::level());
        logging::set_level(level);
        let text = format!("{name} [LogLevel {}]", level.name());
        self.local.say(&self.escapes.echo(&text)).await
    }

    /// Leaves the terminal to the shell here, as soon as that can be had: the program is told the
    /// end of its input, and this process waits unseen for connections to end.
    async fn background(&mut self) -> io::Result<Next> {
        let (local, options) = (self.local, &self.local.options);
        local.say(&self.escapes.echo("& [backgrounded]")).await?;
        if let Some(raw) = local.raw {
            raw.suspend()?;
        }
        if let Err(error) = (options.background)().await {
            if let Some(raw) = local.raw {
                raw.resume()?;
            }
            let text = format!("cannot go to the background: {error}\r\n");
            local.say(&text).await?;
            return Ok(Next::GoOn);
        }
        if let Some(display) = &local.display {
            display.retire();
        }
        options.forwarder.stop_listening();
        self.send(END_OF_INPUT).await?;
        Ok(Next::NoMore)
    }

    /// Asks for a command and carries it out; the program's output waits meanwhile.
    async fn command_line(&mut self, stdin: &mut (impl AsyncRead + Unpin)) -> io::Result<Next> {
        let (local, options) = (self.local, &self.local.options);
        if !options.command_line {
            local.say("\r\ncommandline disabled\r\n").await?;
            return Ok(Next::GoOn);
        }
        let _turn = local.turn.lock().await;
        local.say(PROMPT).await?;
        let mut line = Line::default();
        let mut buffer = [0; 256];
        let text = loop {
            let n = match stdin.read(&mut buffer).await {
                Ok(0) | Err(_) => return Ok(Next::GoOn),
                Ok(n) => n,
            };
            let typed = buffer.get(..n).unwrap_or_default();
            let typed = match local.display.as_ref().map(|display| display.on_keys(typed)) {
                Some(Keys::Leave) => return Ok(Next::Leave),
                Some(Keys::Pass(keys)) => keys,
                None => typed.to_vec(),
            };
            let (shown, done) = line.feed(&typed);
            options.streams.error()?.write_all(&shown).await?;
            match done {
                Some(command::Typed::Line(text)) => break text,
                Some(command::Typed::Cancelled) => return Ok(Next::GoOn),
                None => {}
            }
        };
        let reporter = Reporter::new();
        match Command::parse(&text, options.local_commands) {
            Command::Nothing => {}
            Command::Help => command::help(reporter, options.local_commands),
            Command::Bad(why) => reporter.remark(&why),
            Command::Add(side, forward) => {
                command::add(options.forwarder, side, forward, reporter).await;
            }
            Command::Cancel(side, listen) => {
                command::cancel(options.forwarder, side, &listen, reporter);
            }
            Command::Local(text) => {
                self.run_here(&text).await?;
            }
        }
        Ok(Next::GoOn)
    }

    /// Runs a command of the user's, who has the terminal as it was meanwhile.
    async fn run_here(&mut self, text: &str) -> io::Result<Option<ExitStatus>> {
        let local = self.local;
        let away = local.away();
        if let Some(raw) = local.raw {
            raw.suspend()?;
        }
        let status = crate::local_command::run(text).await;
        if let Some(raw) = local.raw {
            raw.resume()?;
        }
        drop(away);
        local.resize_to_streams(self.control);
        match status {
            Ok(status) => Ok(Some(status)),
            Err(error) => {
                Reporter::new().plain_error(&format_args!("cannot run the command: {error}"));
                Ok(None)
            }
        }
    }
}

impl Local<'_> {
    /// Prints something of ours beside the program's streams.
    pub(super) async fn say(&self, text: &str) -> io::Result<()> {
        if let Some(display) = &self.display {
            display.make_room(&mut self.options.streams.output()?).await?;
        }
        self.options.streams.error()?.write_all(text.as_bytes()).await
    }
}

/// Whatever stops us from writing to the far program, it is its input that broke.
fn broken_pipe(result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| io::Error::new(io::ErrorKind::BrokenPipe, error))
}
