//! Messages of the bus, the one control stream of a connection (PROTOCOL §7).
//!
//! After BusResponse each direction carries pairs of command and message;
//! only `close` has no message.

use crate::codec;
use crate::json::{Bytes, JsonError, Message, wire_struct};

wire_struct! {
    /// Heartbeat; echoed exactly once, unchanged.
    pub struct Alive {
        /// The client's time of sending, Unix milliseconds.
        "Time" => time: i64,
    }
}

wire_struct! {
    /// Server to client: a session ended. Client to server: kill it (only `id`).
    pub struct Exit {
        /// The session.
        "ID" => id: u64,
        /// Exit status; −1 when a signal killed the program.
        "ExitCode" => exit_code: i64,
        /// Extension `signal`: name of that signal as in RFC 4254 §6.10.
        "Signal" => signal: String,
    }
}

wire_struct! {
    /// New terminal size, or a request to repaint (PROTOCOL §7.8).
    pub struct Resize {
        /// The session.
        "ID" => id: u64,
        /// Columns.
        "Cols" => cols: u32,
        /// Rows.
        "Rows" => rows: u32,
        /// Make the program repaint even if the size is unchanged.
        "Redraw" => redraw: bool,
        /// Put this in front of the first output after the repaint began.
        "Marker" => marker: Bytes,
        /// Extension `modes`: width in pixels.
        "WidthPx" => width_px: u32,
        /// Extension `modes`: height in pixels.
        "HeightPx" => height_px: u32,
    }
}

wire_struct! {
    /// What to keep while the client is away; absent fields stay as they are.
    pub struct Setting {
        /// Keep stale input instead of discarding it.
        "KeepPendingInput" => keep_pending_input: Option<bool>,
        /// Block the program instead of caching and dropping its output.
        "KeepPendingOutput" => keep_pending_output: Option<bool>,
    }
}

wire_struct! {
    /// Key exchange of the KCP transport (PROTOCOL §4.7).
    pub struct Rekey {
        /// Uncompressed P-256 point, 65 bytes.
        "PubKey" => pub_key: Bytes,
    }
}

wire_struct! {
    /// An agent or X11 connection waits to be claimed.
    pub struct Channel {
        /// `x11` or `auth-agent@openssh.com`.
        "ChannelType" => channel_type: String,
        /// Id for the `accept` stream.
        "ID" => id: u64,
    }
}

wire_struct! {
    /// What was or will be discarded after an outage (PROTOCOL §7.6).
    pub struct Discard {
        /// Send this in front of the next input of each session.
        "DiscardMarker" => marker: Bytes,
        /// Stale input that was dropped.
        "DiscardedInput" => input: Bytes,
        /// Lines of output dropped.
        "DiscardedOutputLines" => output_lines: u64,
        /// Bytes of output dropped.
        "DiscardedOutputBytes" => output_bytes: u64,
    }
}

wire_struct! {
    /// Diagnostics of the server, only with `--debug`.
    pub struct Debug {
        /// The text.
        "Msg" => msg: String,
        /// Unix milliseconds.
        "Time" => time: i64,
    }
}

wire_struct! {
    /// A warning for the user.
    pub struct Warning {
        /// As in [`crate::open::Outcome`].
        "Code" => code: u32,
        /// The text.
        "Msg" => msg: String,
    }
}

wire_struct! {
    /// The server asks the client to leave.
    pub struct Quit {
        /// The reason.
        "Msg" => msg: String,
    }
}

wire_struct! {
    /// Extension `signal`: deliver a signal to a session's program.
    pub struct Signal {
        /// The session.
        "ID" => id: u64,
        /// Name as in RFC 4254 §6.10, without `SIG`.
        "Signal" => signal: String,
    }
}

wire_struct! {
    /// Extension `loss`, either direction: counts of packets, duplicates included.
    pub struct Loss {
        /// Packets sent so far.
        "Sent" => sent: u64,
        /// `Sent` of the last such message that came; absent before the first.
        "Echo" => echo: u64,
        /// Packets that had come when it came.
        "Received" => received: u64,
    }
}

macro_rules! directions {
    ($(#[$doc:meta])* $name:ident { $( $(#[$vdoc:meta])* $wire:literal => $variant:ident($body:ident) ),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum $name {
            $( $(#[$vdoc])* $variant($body), )*
        }

        impl $name {
            /// Returns the command and message as one buffer.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                match self {
                    $( Self::$variant(body) => codec::command_and_message($wire, body), )*
                }
            }

            /// Reads the message of command `name`; `None` when the command is
            /// unknown, and then the message is to be dropped.
            ///
            /// # Errors
            /// [`JsonError`] when the message of a known command does not fit.
            pub fn decode(name: &str, body: &[u8]) -> Result<Option<Self>, JsonError> {
                match name {
                    $( $wire => $body::from_json(body).map(|body| Some(Self::$variant(body))), )*
                    _ => Ok(None),
                }
            }
        }
    };
}

/// The command that ends everything; it carries no message.
pub const CLOSE: &str = "close";

directions! {
    /// Client to server; [`CLOSE`] stands apart, having no message.
    ToServer {
        /// Heartbeat.
        "alive" => Alive(Alive),
        /// Kill a session.
        "exit" => Exit(Exit),
        /// Resize or repaint.
        "resize" => Resize(Resize),
        /// What to keep while away.
        "setting" => Setting(Setting),
        /// Key exchange (KCP).
        "rekey" => Rekey(Rekey),
        /// Deliver a signal (extension `signal`).
        "signal" => Signal(Signal),
        /// Counts of packets (extension `loss`).
        "loss" => Loss(Loss),
    }
}

directions! {
    /// Server to client.
    ToClient {
        /// Echo of a heartbeat.
        "alive" => Alive(Alive),
        /// A session ended.
        "exit" => Exit(Exit),
        /// Key exchange (KCP).
        "rekey" => Rekey(Rekey),
        /// A forwarded connection waits.
        "channel" => Channel(Channel),
        /// Discarding after an outage.
        "discard" => Discard(Discard),
        /// Diagnostics.
        "debug" => Debug(Debug),
        /// Warning for the user.
        "error" => Warning(Warning),
        /// Please leave.
        "quit" => Quit(Quit),
        /// Counts of packets (extension `loss`).
        "loss" => Loss(Loss),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_with_status_zero_carries_the_id_only() {
        let exit = ToClient::Exit(Exit { id: 1, ..Exit::default() });
        assert_eq!(exit.encode(), b"\x04exit\x00\x00\x00\x08{\"ID\":1}");
        let killed = Exit::from_json(br#"{"ID":1,"ExitCode":-1}"#).unwrap();
        assert_eq!(killed.exit_code, -1);
    }

    #[test]
    fn an_explicit_false_is_sent_and_absence_means_unchanged() {
        let setting = Setting { keep_pending_input: Some(false), keep_pending_output: None };
        assert_eq!(setting.to_json(), r#"{"KeepPendingInput":false}"#);
        assert_eq!(Setting::from_json(b"{}").unwrap(), Setting::default());
    }

    #[test]
    fn unknown_commands_are_no_error_and_bad_messages_are() {
        assert_eq!(ToServer::decode("telepathy", b"not even json"), Ok(None));
        assert!(ToServer::decode("resize", b"[]").is_err());
        let resize = ToServer::decode("resize", br#"{"ID":1,"Cols":80,"Rows":24}"#).unwrap();
        let expected = Resize { id: 1, cols: 80, rows: 24, ..Resize::default() };
        assert_eq!(resize, Some(ToServer::Resize(expected)));
    }
}
