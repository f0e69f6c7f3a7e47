//! Extensions: what both ends of ours can do and the reference cannot (DESIGN D1).
//!
//! The client asks by `--ext NAME,…` on tsshd's command line, the server lists
//! what it grants in the `Ext` field of ServerInfo, the client names what it
//! uses in the `Ext` field of BusMessage. A peer that does not know the fields
//! ignores them, and with `Ext` absent on either side our bytes are the
//! reference's. Registry with the exact bytes: `docs/extensions.md`.

use std::fmt;

/// The flag by which the client asks the server program for extensions.
pub const FLAG: &str = "--ext";

/// One extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Ext {
    /// Streams may be opened before the bus is up; the server parks them.
    Early,
    /// StartMessage carries the command as raw bytes for the user's shell.
    Command,
    /// StartMessage carries terminal modes and the size in pixels.
    Modes,
    /// The bus carries signals to the program, and `exit` names the signal that killed it.
    Signal,
    /// A packet sealed in advance tells that the client was killed.
    Goodbye,
    /// KCP: sessions start only after the first key exchange.
    Rekey,
    /// `listen` takes addresses as `-R` spells them and reports the port it was given.
    Listen,
    /// Both sides count the packets that come and tell each other, so that small ones can go
    /// more than once where packets are lost.
    Loss,
    /// An idle session is silent but for one exchange every 25 s.
    Silence,
    /// The server takes packets by TCP as well, at the port it has for UDP.
    Tcp,
    /// A server on the way says farewell to the servers behind it for a client that was killed.
    Farewell,
    /// The server listens at its other addresses as well, and names them.
    Addresses,
    /// A reader that gives a stream up says so to its writer.
    Stop,
}

impl Ext {
    /// All extensions we speak.
    pub const ALL: [Self; 13] = [
        Self::Early,
        Self::Command,
        Self::Modes,
        Self::Signal,
        Self::Goodbye,
        Self::Rekey,
        Self::Listen,
        Self::Loss,
        Self::Silence,
        Self::Tcp,
        Self::Farewell,
        Self::Addresses,
        Self::Stop,
    ];

    /// Returns the name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Early => "early",
            Self::Command => "command",
            Self::Modes => "modes",
            Self::Signal => "signal",
            Self::Goodbye => "goodbye",
            Self::Rekey => "rekey",
            Self::Listen => "listen",
            Self::Loss => "loss",
            Self::Silence => "silence",
            Self::Tcp => "tcp",
            Self::Farewell => "farewell",
            Self::Addresses => "addresses",
            Self::Stop => "stop",
        }
    }
}

/// A set of extensions.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtSet(u32);

impl ExtSet {
    /// No extension: the reference's protocol.
    pub const NONE: Self = Self(0);

    /// Returns the set of everything we speak.
    #[must_use]
    pub fn all() -> Self {
        Ext::ALL.into_iter().collect()
    }

    /// Returns whether `ext` is in the set.
    #[must_use]
    pub const fn has(self, ext: Ext) -> bool {
        self.0 & (1 << ext as u32) != 0
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns what is in both sets.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// Returns the set without `ext`.
    #[must_use]
    pub const fn without(self, ext: Ext) -> Self {
        Self(self.0 & !(1 << ext as u32))
    }

    /// Reads names; unknown ones are ignored.
    #[must_use]
    pub fn from_names<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        names
            .into_iter()
            .filter_map(|name| Ext::ALL.into_iter().find(|ext| ext.name() == name.trim()))
            .collect()
    }

    /// Returns the names, in a fixed order.
    #[must_use]
    pub fn names(self) -> Vec<String> {
        self.iter().map(|ext| ext.name().to_owned()).collect()
    }

    /// Returns the argument of [`FLAG`].
    #[must_use]
    pub fn to_argument(self) -> String {
        self.names().join(",")
    }

    /// Reads the argument of [`FLAG`].
    #[must_use]
    pub fn from_argument(argument: &str) -> Self {
        Self::from_names(argument.split(','))
    }

    fn iter(self) -> impl Iterator<Item = Ext> {
        Ext::ALL.into_iter().filter(move |ext| self.has(*ext))
    }
}

impl FromIterator<Ext> for ExtSet {
    fn from_iter<I: IntoIterator<Item = Ext>>(iter: I) -> Self {
        Self(iter.into_iter().fold(0, |set, ext| set | (1 << ext as u32)))
    }
}

impl fmt::Debug for ExtSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_unknown_ones_are_ignored() {
        assert_eq!(ExtSet::from_argument(&ExtSet::all().to_argument()), ExtSet::all());
        let some = ExtSet::from_argument("early, telepathy,signal");
        assert_eq!(some.names(), ["early", "signal"]);
        assert!(some.has(Ext::Early) && !some.has(Ext::Command));
        assert!(ExtSet::from_argument("").is_empty());
    }
}
