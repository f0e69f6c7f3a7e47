//! Fixtures of the end-to-end suite: real sshd, real pty, the built binaries.
//!
//! [`World`] is a private ssh host on loopback with everything its clients
//! need; [`Run`] and [`PtyClient`] are clients without and with a terminal;
//! [`Relay`] is a network path that can be slow, cut or re-addressed.
//! The tests themselves are in `tests/`, one file per family of behaviour.
//!
//! Rules. A test body takes a [`Mode`] and runs unchanged in each of them:
//! [`Mode::OpenSsh`] is the oracle, so an expectation that OpenSSH does not
//! meet is a defect of the test. Nothing sleeps for a fixed time in the hope
//! that something has happened: [`wait_until`] and the clients' own waits poll
//! a condition and give up, loudly, after [`DEADLINE`]. No test passes or
//! fails by how fast the machine is. Whatever a world starts dies with it.
//!
//! Not here: anything that looks inside the programs. They are run as
//! processes and judged by what a user or an administrator can see.

mod mode;
pub mod net;
mod pattern;
mod process;
mod pty;
mod relay;
mod run;
mod transcript;
mod wait;
mod world;

pub use mode::{Mode, say_skipped, skip};
pub use pattern::Pattern;
pub use process::Process;
pub use pty::{Modes, PtyBuilder, PtyClient};
pub use relay::{Relay, RelayKind};
pub use run::{Outcome, Run, Running, Stdin};
pub use wait::{DEADLINE, wait_for, wait_until};
pub use world::{HOST, World, WorldBuilder};

/// Defines one `#[test]` per mode for a function that takes a [`Mode`].
///
/// The first word says which modes: `everywhere` (OpenSSH, plain ssh, both
/// carriers of QUIC), `login` (OpenSSH and plain ssh), `tssh` (all but OpenSSH), `link` (both carriers), `quic`
/// (both carriers, where KCP lacks a word for something), `udp`
/// (QUIC on UDP only). The tests are called `function::mode`.
#[macro_export]
macro_rules! in_modes {
    (everywhere, $body:ident) => {
        $crate::in_modes!(
            @ $body openssh OpenSsh, plain Plain, udp Udp, tcp Tcp, kcp Kcp, kcp_tcp KcpTcp
        );
    };
    (tssh, $body:ident) => {
        $crate::in_modes!(@ $body plain Plain, udp Udp, tcp Tcp, kcp Kcp, kcp_tcp KcpTcp);
    };
    (link, $body:ident) => {
        $crate::in_modes!(@ $body udp Udp, tcp Tcp, kcp Kcp, kcp_tcp KcpTcp);
    };
    (login, $body:ident) => { $crate::in_modes!(@ $body openssh OpenSsh, plain Plain); };
    (quic, $body:ident) => { $crate::in_modes!(@ $body udp Udp, tcp Tcp); };
    (udp, $body:ident) => { $crate::in_modes!(@ $body udp Udp, kcp Kcp); };
    (@ $body:ident $($test:ident $mode:ident),+) => {
        mod $body {
            $(
                #[test]
                fn $test() {
                    if !$crate::skip() {
                        super::$body($crate::Mode::$mode);
                    }
                }
            )+
        }
    };
}
