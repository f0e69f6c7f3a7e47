//! Every timer and bound of the proxy, one sentence each.
//!
//! Those with "PROTOCOL" are the reference's and visible to a peer; the others
//! are ours to choose.

use std::time::Duration;

/// Default for how long the first connect, and every single attempt to renew
/// the path, may take (PROTOCOL §11).
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Default for how long the peer may be silent before the path counts as lost
/// (PROTOCOL §11, "heartbeat timeout").
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(3);

/// The shortest heartbeat timeout the server takes from a client: ten round trips of a slow link
/// fit into the default, none into less than this.
pub const HEARTBEAT_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// How long nothing may pass between two of our own peers (extension `silence`) before the client
/// says something: NATs forget a silent mapping after 30 s at the earliest (DESIGN D14).
pub const QUIET: Duration = Duration::from_secs(25);

/// Auth packets are repeated at this pace until the path is proven (PROTOCOL §2.5).
pub const AUTH_INTERVAL: Duration = Duration::from_millis(100);

/// Dummies follow one another at this pace from the ack until the first
/// accepted packet (PROTOCOL §2.5).
pub const DUMMY_INTERVAL: Duration = Duration::from_millis(100);

/// Bytes of a dummy; packets up to this size never reach the transport (PROTOCOL §2.3).
pub const DUMMY_LEN: usize = 16;

/// Pause after an attempt that nothing answered (PROTOCOL §2.5: min(interval,
/// 10 s), and the default interval is 1 s).
pub const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// First spacing of renewals caused by I/O errors; doubles with each, so that
/// a dead interface or forged ICMP cannot make us spin (DESIGN D4).
pub const ERROR_SPACING_MIN: Duration = Duration::from_millis(100);

/// Largest spacing of renewals caused by I/O errors (DESIGN D4).
pub const ERROR_SPACING_MAX: Duration = Duration::from_secs(5);

/// After this long without a missing answer, the next one is acted on at once again.
pub const CALM: Duration = Duration::from_secs(10);

/// Shortest time after which an answer to a UDP packet is overdue (DESIGN D4).
pub const ANSWER_MIN: Duration = Duration::from_millis(250);

/// What is sent this long after anything came in is no acknowledgement of it:
/// QUIC delays those by 25 ms at most, KCP by less.
pub const ANSWER_LULL: Duration = Duration::from_millis(50);

/// By then what came in has been acknowledged, however busy the process is.
pub const ACKNOWLEDGED: Duration = Duration::from_millis(500);

/// How long one way of reaching the server gets at least, before the next one has its turn. It
/// grows from round to round.
pub const MEANS_PATIENCE: Duration = Duration::from_secs(2);

/// How many round trips, where it is known how long one takes, each way gets at least: TCP needs
/// two, and a lost packet should not be the end.
pub const PATIENCE_TRIPS: u32 = 3;

/// First and largest pause between attempts at the best means while another one is in use.
pub const TRY_SPACING_MIN: Duration = Duration::from_secs(1);
/// See [`TRY_SPACING_MIN`].
pub const TRY_SPACING_MAX: Duration = Duration::from_secs(600);

/// Packets that were under way on the old path are still taken for this long
/// after a new one was proven, so that a roam loses nothing.
pub const DRAIN: Duration = Duration::from_secs(1);

/// Shortest time one candidate gets in the first connect, however many there are.
pub const CANDIDATE_MIN: Duration = Duration::from_secs(1);

/// What the client sends to a path it has asked for but not yet heard from,
/// per auth packet sent there: enough for a handshake flight or keystrokes,
/// too little to flood the path with bulk data twice.
pub const COPY_BYTES: u64 = 8 * 1024;

/// The server sends a pending address at most this many times the bytes it
/// received from it, so that a replayed auth packet cannot aim much at a
/// third party (DESIGN D10).
pub const AMPLIFICATION: u64 = 3;

/// The server's TCP listener holds at most this many connections that have
/// not authenticated (DESIGN D10).
pub const TCP_UNAUTHENTICATED_MAX: usize = 4;

/// How long a TCP connection may take to authenticate (DESIGN D10).
pub const TCP_AUTH_TIMEOUT: Duration = Duration::from_secs(3);

/// How long to wait before connections are accepted again, after that failed for lack of
/// descriptors.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
