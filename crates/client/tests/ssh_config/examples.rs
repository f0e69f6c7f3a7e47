//! The examples of ssh_config(5), as OpenSSH 9.9 has them.

use crate::place::{Place, skipped};

/// Each example, and hosts to resolve with it.
const EXAMPLES: &[(&str, &[&str])] = &[
    ("CanonicalDomains example.com\nCanonicalizeMaxDots 2\n", &["h", "a.b"]),
    (
        "CanonicalizePermittedCNAMEs *.a.example.com:*.b.example.com,*.c.example.com\n",
        &["127.0.0.1"],
    ),
    ("CanonicalizePermittedCNAMEs none\n", &["h"]),
    ("Ciphers ^aes256-ctr\nMACs -*sha1*\nKexAlgorithms +diffie-hellman-group14-sha1\n", &["h"]),
    ("ControlMaster auto\nControlPath ~/.ssh/cm-%C\nControlPersist 10m\n", &["h", "bob@h"]),
    ("Host *.co.uk\n Port 7\n", &["a.co.uk", "co.uk", "a.com"]),
    ("Host 192.168.0.?\n Port 7\n", &["192.168.0.1", "192.168.0.10"]),
    ("Host !host1 !host2\n Port 7\nHost !host1 !host2 *\n User x\n", &["host1", "host3"]),
    ("Include ~/.ssh/no-such-directory/*.conf\nInclude @/no*such\nPort 7\n", &["h"]),
    ("IPQoS ef\nIPQoS cs0 none\n", &["h"]),
    ("KnownHostsCommand /usr/bin/printf %H\nRevokedHostKeys /k/revoked\n", &["h"]),
    ("LocalForward 8080 www.example.com:80\nLocalForward [::1]:81 [2001:db8::1]:80\n", &["h"]),
    ("LogVerbose kex.c:*:1000,*:kex_exchange_identification():*,packet.c:*\n", &["h"]),
    ("Match exec \"test %h = a.example.com\"\n Port 7\n", &["a.example.com", "b.example.com"]),
    (
        "Match host *.example.com,!bad.example.com user bob\n Port 7\n",
        &["bob@a.example.com", "bob@bad.example.com"],
    ),
    ("Match originalhost a !localuser nobody-here\n Port 7\nMatch all\n User x\n", &["a", "b"]),
    ("Match canonical host h\n Port 7\nMatch final all\n User x\n", &["h"]),
    ("PermitRemoteOpen example.com:80 [::1]:*\n", &["h"]),
    ("PermitRemoteOpen *:80\n", &["h"]),
    ("PreferredAuthentications keyboard-interactive,password\n", &["h"]),
    ("ProxyCommand /usr/bin/nc -X connect -x 192.0.2.0:8080 %h %p\n", &["h"]),
    ("ProxyJump gate.example.com:2222,ssh://bob@yard\n", &["h"]),
    ("RekeyLimit default none\n", &["h"]),
    ("RemoteForward 9000\nRemoteForward /run/s:h:1 x:2\n", &["h"]),
    ("RemoteForward 9000\nRemoteForward 80 intra.example.com:80\n", &["h"]),
    ("SendEnv LANG LC_*\nSendEnv -LC_TIME\nSetEnv A=1 B=\"two words\"\n", &["h"]),
    ("StreamLocalBindMask 0111\nStreamLocalBindUnlink yes\n", &["h"]),
    ("UserKnownHostsFile ~/.ssh/known_hosts.d/%k /k/%h\nHostKeyAlias alias\n", &["h"]),
    ("HostName %h.example.com\nUser %%\n", &["h"]),
    ("IdentityFile ~/.ssh/%d_%u_%l_%h_%r\nIdentityAgent ${FRUIT}\n", &["h"]),
    ("IdentityAgent SSH_AUTH_SOCK\nCertificateFile /c/1\nCertificateFile /c/2\n", &["h"]),
    ("AddKeysToAgent confirm 5m\nUpdateHostKeys ask\nVerifyHostKeyDNS ask\n", &["h"]),
    ("FingerprintHash md5\nVisualHostKey yes\nCheckHostIP yes\n", &["h"]),
    ("Tunnel point-to-point\nTunnelDevice 0:1\n", &["h"]),
    ("SyslogFacility LOCAL7\nSessionType none\nStdinNull yes\n", &["h"]),
    ("XAuthLocation /opt/xauth\nForwardX11 yes\nForwardX11Timeout 0\n", &["h"]),
    ("ServerAliveInterval 15\nServerAliveCountMax 3\nTCPKeepAlive no\n", &["h"]),
    ("GSSAPIAuthentication yes\nGSSAPIDelegateCredentials no\nEnableSSHKeysign yes\n", &["h"]),
    ("HostbasedAuthentication yes\nHostbasedAcceptedAlgorithms ssh-ed25519\n", &["h"]),
    ("PKCS11Provider none\nSecurityKeyProvider internal\nKbdInteractiveDevices pam\n", &["h"]),
];

#[test]
fn the_examples_of_the_manual_come_to_what_ssh_makes_of_them() {
    let place = Place::new();
    for (config, hosts) in EXAMPLES {
        place.write("config", config);
        for host in *hosts {
            let ours = place.ours(&[host]);
            let Some(found) = place.compare(&[host]) else {
                return skipped();
            };
            let complaint = ours.complaint;
            assert!(found.is_empty(), "{host}: {complaint} {}\n{config}", found.join("\n"));
        }
    }
}
