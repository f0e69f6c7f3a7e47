//! Identifiers that travel on the wire, each a type of its own.

use std::fmt;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}", self.0)
            }
        }
    };
}

id! {
    /// Names one client to the server; stays the same over every path (PROTOCOL §2.2).
    ClientId
}
id! {
    /// Names the server process; every ack carries it (PROTOCOL §2.2).
    ServerId
}
id! {
    /// Orders the paths of one client: a newer path has a greater serial (PROTOCOL §2.2).
    PathSerial
}
id! {
    /// Names a session within one server process; chosen by the client (PROTOCOL §6.4).
    SessionId
}
id! {
    /// Names an accepted connection or a UDP channel; chosen by the server (PROTOCOL §6.7, §6.9).
    ChannelId
}

impl PathSerial {
    /// The serial of extension `goodbye`: no path, but the end of the client.
    pub const GOODBYE: Self = Self(u64::MAX);

    /// Returns the serial of the next path. Saturates: 2^64 renewals do not happen.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl SessionId {
    /// Returns the id after this one, skipping zero, which is "absent" on the wire.
    #[must_use]
    pub const fn next(self) -> Self {
        match self.0.wrapping_add(1) {
            0 => Self(1),
            n => Self(n),
        }
    }
}
