//! The `windows` step of `cargo xtask test`: what is portable stays portable (DESIGN D12).
//!
//! The client and the layers below it, drivers included, are checked for Windows by a
//! cross-compile that stops short of linking. The server is for Unix
//! (docs/decisions/0035). Needs a C compiler for the target, because of ring.

use crate::shell;

/// Returns why the check cannot be made here, after trying to install what it needs.
pub(crate) fn why_not() -> Option<String> {
    if !shell::has_target(TARGET) {
        return Some(format!("{TARGET} is not installed and cannot be added"));
    }
    if shell::works(&[COMPILER, "--version"]) {
        return None;
    }
    if shell::can_apt() && shell::apt_install(&[COMPILER_PACKAGE]).is_ok() {
        return None;
    }
    Some(format!("{COMPILER} is missing ({COMPILER_PACKAGE} on Debian)"))
}

/// Checks the client and the layers for Windows. Ask [`why_not`] first.
///
/// # Errors
/// When one does not compile.
pub(crate) fn run() -> anyhow::Result<()> {
    let mut command =
        shell::cargo(["check", "--quiet", "--lib", "--bins", "--locked", "--target", TARGET]);
    for package in PACKAGES {
        command.args(["-p", package]);
    }
    command.args(["--features", "tssh-proxy/driver"]);
    shell::run(command)
}

const TARGET: &str = "x86_64-pc-windows-gnu";
const COMPILER: &str = "x86_64-w64-mingw32-gcc";
const COMPILER_PACKAGE: &str = "gcc-mingw-w64-x86-64";
const PACKAGES: [&str; 7] =
    ["tssh-proto", "tssh-proxy", "tssh-transport", "tssh-testkit", "tssh-tty", "tssh-host", "tssh"];
