//! Which authentication method comes next.
//!
//! Pure: the server's list goes in, a method comes out. The order is that of
//! PreferredAuthentications; a method is asked again until it is exhausted,
//! and an exhausted one never comes back. Source: `authmethod_get` in OpenSSH
//! 9.2's sshconnect2.c.

use russh::MethodKind;

use crate::config::settings::Settings;

/// The methods we know how to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    PublicKey,
    KeyboardInteractive,
    Password,
}

impl Method {
    fn named(name: &str) -> Option<Self> {
        match name {
            "publickey" => Some(Self::PublicKey),
            "keyboard-interactive" => Some(Self::KeyboardInteractive),
            "password" => Some(Self::Password),
            // gssapi-with-mic and hostbased stand in the default list; we do neither.
            _ => None,
        }
    }

    /// Returns how the wire calls it.
    pub(super) fn name(self) -> &'static str {
        (&self.kind()).into()
    }

    fn kind(self) -> MethodKind {
        match self {
            Self::PublicKey => MethodKind::PublicKey,
            Self::KeyboardInteractive => MethodKind::KeyboardInteractive,
            Self::Password => MethodKind::Password,
        }
    }
}

/// The methods that may still be tried, in order of preference.
#[derive(Debug)]
pub(super) struct Plan {
    left: Vec<Method>,
}

impl Plan {
    /// `secrets` says whether a password may be sent to this host at all: not
    /// to one whose key has changed.
    pub(super) fn new(settings: &Settings, secrets: bool) -> Self {
        // Where nobody can be asked there may be answers.
        let answered = secrets && (!settings.batch_mode || !settings.answers.is_empty());
        let allowed = |method: &Method| match method {
            Method::PublicKey => settings.pubkey_authentication,
            Method::KeyboardInteractive => settings.kbd_interactive_authentication && answered,
            Method::Password => settings.password_authentication && answered,
        };
        let mut left = Vec::new();
        for name in &settings.preferred_authentications {
            if let Some(method) = Method::named(name)
                && allowed(&method)
                && !left.contains(&method)
            {
                left.push(method);
            }
        }
        Self { left }
    }

    /// Returns the method to try before the server has said what it offers.
    pub(super) fn first(&self) -> Option<Method> {
        self.left.first().copied()
    }

    /// Returns the method to try now that the server has offered these.
    pub(super) fn next(&self, offered: &[MethodKind]) -> Option<Method> {
        self.left.iter().copied().find(|method| offered.contains(&method.kind()))
    }

    /// Takes a method out for good.
    pub(super) fn exhaust(&mut self, method: Method) {
        self.left.retain(|&left| left != method);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(methods: &[Method]) -> Plan {
        Plan { left: methods.to_vec() }
    }

    const ALL: [Method; 3] = [Method::PublicKey, Method::KeyboardInteractive, Method::Password];

    #[test]
    fn preference_decides_not_the_servers_order() {
        let offered =
            [MethodKind::Password, MethodKind::KeyboardInteractive, MethodKind::PublicKey];
        assert_eq!(plan(&ALL).next(&offered), Some(Method::PublicKey));
    }

    #[test]
    fn an_exhausted_method_does_not_come_back_when_the_list_changes() {
        let mut plan = plan(&ALL);
        plan.exhaust(Method::PublicKey);
        assert_eq!(
            plan.next(&[MethodKind::PublicKey, MethodKind::Password]),
            Some(Method::Password)
        );
        assert_eq!(plan.next(&[MethodKind::PublicKey]), None);
    }

    #[test]
    fn a_method_the_server_does_not_offer_is_not_tried() {
        assert_eq!(plan(&ALL).next(&[MethodKind::HostBased]), None);
    }
}
