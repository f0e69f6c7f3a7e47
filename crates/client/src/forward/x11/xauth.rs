//! Cookies of the display, from the `xauth` program.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use zeroize::Zeroizing;

use super::display::Display;

/// What the server's cookie lives longer than we use it, so that it does not expire first.
const SLACK: Duration = Duration::from_secs(60);

/// The longest field of a line of `xauth list` that counts.
const LONGEST_FIELD: usize = 512;

/// A protocol's name and a cookie for it.
pub(super) type Cookie = (String, Zeroizing<Vec<u8>>);

/// Reads the cookie that our own programs use.
pub(super) async fn list(xauth: &Path, display: &Display) -> Option<Cookie> {
    cookie(Command::new(xauth).arg("list").arg(display.for_xauth())).await
}

/// Has the X server make a cookie for programs that are not trusted; it expires after `timeout`
/// (zero: never).
pub(super) async fn generate(
    xauth: &Path,
    display: &Display,
    timeout: Duration,
) -> io::Result<Option<Cookie>> {
    let dir = PrivateDir::new()?;
    let file = dir.0.join("xauthfile");
    let mut command = Command::new(xauth);
    command.arg("-f").arg(&file).arg("generate").arg(display.for_xauth());
    command.args(["MIT-MAGIC-COOKIE-1", "untrusted"]);
    if !timeout.is_zero() {
        command.arg("timeout").arg(timeout.saturating_add(SLACK).as_secs().to_string());
    }
    let status = quiet(&mut command).stdout(Stdio::null()).status().await?;
    if !status.success() {
        return Ok(None);
    }
    let mut command = Command::new(xauth);
    command.arg("-f").arg(&file).arg("list").arg(display.for_xauth());
    Ok(cookie(&mut command).await)
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stderr(Stdio::null()).kill_on_drop(true)
}

/// Takes the cookie out of the first line that `xauth list` prints: display, protocol, hex.
async fn cookie(command: &mut Command) -> Option<Cookie> {
    let output = quiet(command).output().await.ok()?;
    let text = Zeroizing::new(String::from_utf8(output.stdout).ok()?);
    let mut words = text.lines().next()?.split_whitespace().skip(1);
    let (protocol, cookie) = (words.next()?, words.next()?);
    if protocol.len() >= LONGEST_FIELD || cookie.len() >= LONGEST_FIELD {
        return None;
    }
    Some((protocol.to_owned(), Zeroizing::new(hex::decode(cookie).ok()?)))
}

/// A directory that only we can enter; gone with this.
struct PrivateDir(std::path::PathBuf);

impl PrivateDir {
    fn new() -> io::Result<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|_| io::ErrorKind::Unsupported)?;
        let path = std::env::temp_dir().join(format!("ssh-{}", hex::encode(random)));
        // Not recursive: one that is there already is somebody else's.
        crate::sys::account::create_private_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for PrivateDir {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            tracing::debug!(%error, "a directory for a cookie stays");
        }
    }
}
