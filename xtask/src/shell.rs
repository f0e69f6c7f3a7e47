//! Running other programs, and saying what is going on.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use anyhow::{Context, bail};

/// Writes one line to stderr, where all of xtask's own words go.
#[expect(clippy::print_stderr, reason = "the one place that prints")]
pub(crate) fn say(line: &str) {
    eprintln!("{line}");
}

/// Returns the root of the repository.
///
/// That is the tree cargo runs us in, which need not be the one we were built
/// in: several work trees may share a target directory.
pub(crate) fn root() -> &'static Path {
    static ROOT: LazyLock<PathBuf> = LazyLock::new(|| {
        let package = std::env::var_os("CARGO_MANIFEST_DIR");
        let package = package.unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        Path::new(&package).parent().unwrap_or(Path::new(".")).to_owned()
    });
    &ROOT
}

/// Returns a cargo command that runs in the repository.
///
/// It is the cargo we were started by, so that one toolchain does everything.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args).current_dir(root());
    command
}

/// Returns a command by its words, run in the repository.
pub(crate) fn command(words: &[&str]) -> Command {
    let mut command = Command::new(words.first().copied().unwrap_or_default());
    command.args(words.get(1..).unwrap_or_default()).current_dir(root());
    command
}

/// Runs a command with our own input and output.
///
/// # Errors
/// When it cannot be started or does not end with status 0.
pub(crate) fn run(mut command: Command) -> anyhow::Result<()> {
    let text = format!("{command:?}");
    let status = command.status().with_context(|| format!("cannot start {text}"))?;
    if !status.success() {
        bail!("{text} ended with {status}");
    }
    Ok(())
}

/// Runs a command and returns its standard output; its stderr stays ours.
///
/// # Errors
/// When it cannot be started, does not end with status 0, or does not print text.
pub(crate) fn output(mut command: Command) -> anyhow::Result<String> {
    let text = format!("{command:?}");
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot start {text}"))?;
    if !output.status.success() {
        bail!("{text} ended with {}", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{text} does not print text"))
}

/// Returns whether a command can be started and ends with status 0; silent.
pub(crate) fn works(words: &[&str]) -> bool {
    let quiet =
        command(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    quiet.is_ok_and(|status| status.success())
}

/// Returns whether we are root and can install Debian packages.
pub(crate) fn can_apt() -> bool {
    works(&["sh", "-c", "test \"$(id -u)\" = 0 && command -v apt-get"])
}

/// Installs Debian packages; a mirror that cannot be reached is an error.
pub(crate) fn apt_install(packages: &[&str]) -> anyhow::Result<()> {
    let quiet = |words: &[&str]| {
        let mut command = command(words);
        command.env("DEBIAN_FRONTEND", "noninteractive").stdin(Stdio::null()).stdout(Stdio::null());
        run(command)
    };
    quiet(&["apt-get", "update", "-qq"])?;
    let words = ["apt-get", "install", "-y", "-qq", "--no-install-recommends"];
    quiet(&[&words, packages].concat())
}

/// Returns whether a compilation target is installed, after trying to add it.
pub(crate) fn has_target(target: &str) -> bool {
    let sysroot = command(&["rustc", "--print", "sysroot"]).output().ok();
    let sysroot = sysroot.and_then(|output| String::from_utf8(output.stdout).ok());
    let lib = |root: String| Path::new(root.trim()).join("lib/rustlib").join(target).join("lib");
    sysroot.map(lib).is_some_and(|lib| lib.is_dir()) || works(&["rustup", "target", "add", target])
}

/// Returns the directory of the binaries of this build: ours is one of them.
///
/// # Errors
/// When the system does not say where we are.
pub(crate) fn binaries() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("where is xtask itself?")?;
    Ok(own.parent().context("a program is in a directory")?.to_owned())
}
