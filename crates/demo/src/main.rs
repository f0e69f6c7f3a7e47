//! The program behind `cargo xtask demo`: a session over QUIC on one machine.
//!
//! Starts a private ssh server in this process, logs in to it with `tssh --udp`
//! under a key and a configuration made for the occasion, and hands the
//! terminal over. Everything is in one temporary directory, the home of the
//! session included; it is removed at the end. The exit status is tssh's.
//!
//! Not here: building. `tssh` and `tsshd` are expected beside this program.
#![forbid(unsafe_code)]

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitCode, ExitStatus};

use anyhow::Context;
use tempfile::TempDir;
use tssh_devsshd::{Config, DevSshd, KeyPair};

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    run(&words).unwrap_or_else(|err| {
        say(&format!("demo: {err:#}"));
        ExitCode::from(255)
    })
}

/// Runs a login shell, or `words` as one command.
fn run(words: &[String]) -> anyhow::Result<ExitCode> {
    let own = std::env::current_exe().context("where is the demo itself?")?;
    let binaries = own.parent().context("a program is in a directory")?;
    let dir = tempfile::Builder::new().prefix("tssh-demo-").tempdir()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let status = runtime.block_on(session(words, &dir, binaries))?;
    dir.close().context("the demo's directory cannot be removed")?;
    Ok(exit_code(status))
}

#[expect(clippy::print_stderr, reason = "the one place that prints")]
fn say(line: &str) {
    eprintln!("{line}");
}

async fn session(words: &[String], dir: &TempDir, binaries: &Path) -> anyhow::Result<ExitStatus> {
    let user = ["USER", "LOGNAME"].iter().find_map(|name| std::env::var(name).ok());
    let user = user.filter(|user| !user.is_empty()).unwrap_or_else(|| "demo".into());
    let key = KeyPair::generate().context("cannot make a key")?;
    let home = dir.path().join("home");
    fs::create_dir(&home)?;
    let server = DevSshd::start(Config {
        user: user.clone(),
        authorized_key: Some(key.public.clone()),
        home,
        set_env: locale(),
        ..Config::default()
    })
    .await
    .context("cannot start the demo's ssh server")?;
    let config = lay_out(dir.path(), &user, &key, &server, binaries)?;

    let mut tssh = tokio::process::Command::new(binaries.join("tssh"));
    tssh.arg("-F").arg(config).args(["--udp", "demo"]);
    if words.is_empty() {
        let addr = server.addr();
        say(&format!("demo: a shell over QUIC, behind a private ssh server on {addr}"));
    } else {
        tssh.arg(
            shlex::try_join(words.iter().map(String::as_str)).context("a word has a NUL byte")?,
        );
    }
    let mut child = tssh.spawn().context("cannot start tssh")?;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status.context("tssh is lost")?,
            // The terminal sends it to tssh as well, and what tssh makes of it counts.
            _ = tokio::signal::ctrl_c() => {}
        }
    };
    server.stop().await;
    Ok(status)
}

/// Writes the files of the client and returns the path of its configuration.
fn lay_out(
    dir: &Path,
    user: &str,
    key: &KeyPair,
    server: &DevSshd,
    binaries: &Path,
) -> anyhow::Result<PathBuf> {
    let mut id = fs::OpenOptions::new();
    let mut id = id.write(true).create_new(true).mode(0o600).open(dir.join("id"))?;
    id.write_all(key.private.as_bytes())?;
    fs::write(dir.join("known_hosts"), server.known_hosts_line())?;
    // The remote command line has no quoting: a path of ours is free of spaces.
    symlink(binaries.join("tsshd"), dir.join("tsshd"))?;
    let config = dir.join("config");
    let port = server.addr().port();
    let dir = dir.display();
    fs::write(
        &config,
        format!(
            "Host demo\n\
             \tHostName 127.0.0.1\n\
             \tPort {port}\n\
             \tUser {user}\n\
             \tIdentityFile \"{dir}/id\"\n\
             \tIdentitiesOnly yes\n\
             \tIdentityAgent none\n\
             \tPreferredAuthentications publickey\n\
             \tUserKnownHostsFile \"{dir}/known_hosts\"\n\
             \tGlobalKnownHostsFile /dev/null\n\
             \tStrictHostKeyChecking yes\n\
             \t#!! TsshdPath {dir}/tsshd\n"
        ),
    )?;
    Ok(config)
}

/// Returns the variables without which a terminal shows only ASCII.
fn locale() -> Vec<(String, String)> {
    std::env::vars().filter(|(name, _)| name == "LANG" || name.starts_with("LC_")).collect()
}

/// Returns the exit code a shell would give for this end.
fn exit_code(status: ExitStatus) -> ExitCode {
    let code = match (status.code(), status.signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => 128 + signal,
        (None, None) => 255,
    };
    ExitCode::from(u8::try_from(code).unwrap_or(255))
}
