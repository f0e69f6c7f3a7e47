//! Diagnostics, only with `--debug`: into a file of the temporary directory,
//! and to the client over the bus.
//!
//! Without `--debug` nothing is recorded. Keys and what is typed never get
//! here: nothing that holds them is ever formatted.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Arc, Mutex};

use tokio::sync::mpsc;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;

/// The messages, for the bus. Some are left out when the client does not keep up.
pub(crate) type Messages = mpsc::Receiver<String>;

/// Messages that may wait for the bus.
const QUEUE: usize = 256;

/// Starts to record; `None` when no file can be made or it was started before.
pub(crate) fn start() -> Option<Messages> {
    let (sender, messages) = mpsc::channel(QUEUE);
    let log = Log(Arc::new((Mutex::new(open().ok()?), sender)));
    // Not the layers below in detail: what they say of a packet that carries a
    // message to the bus would make the next one.
    let targets =
        Targets::new().with_default(LevelFilter::INFO).with_target("tsshd", LevelFilter::DEBUG);
    let lines = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(move || log.clone());
    tracing_subscriber::registry().with(lines.with_filter(targets)).try_init().ok()?;
    Some(messages)
}

/// Makes a new file that only the user can read.
fn open() -> io::Result<File> {
    let mut random = [0; 8];
    getrandom::fill(&mut random).map_err(|error| io::Error::other(error.to_string()))?;
    let name =
        format!("tsshd_debug_{}_{:016x}.log", std::process::id(), u64::from_le_bytes(random));
    let path = std::env::temp_dir().join(name);
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// The file and the way to the bus. Each write is one message.
#[derive(Clone)]
struct Log(Arc<(Mutex<File>, mpsc::Sender<String>)>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let (file, sender) = &*self.0;
        let text = String::from_utf8_lossy(bytes).trim_end().to_owned();
        // A client that does not keep up misses some; the file has them all.
        let _ = sender.try_send(text);
        file.lock().unwrap_or_else(std::sync::PoisonError::into_inner).write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
