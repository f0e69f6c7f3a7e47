//! What the command line says: usage, help, version, and why options are refused.

/// What `-V` prints.
pub const VERSION: &str = concat!("tssh ", env!("CARGO_PKG_VERSION"));

/// The usage, as ssh prints it when it is called wrongly.
pub const USAGE: &str = "\
usage: tssh [-46AaCfGgkMNnqsTtVvXxYy] [-B bind_interface] [-b bind_address]
            [-c cipher_spec] [-D [bind_address:]port] [-E log_file] [-e escape_char]
            [-F configfile] [-i identity_file] [-J destination] [-L address] [-l login_name]
            [-m mac_spec] [-O ctl_cmd] [-o option] [-P tag] [-p port] [-R address]
            [-S ctl_path] [-W host:port] [--via-ssh]
            [--udp | --quic | --kcp | --tcp] [--tsshd-path path] [--tsshd-port ports]
            [--debug] [--help] destination [command [argument ...]]
       tssh [-Q query_option]";

/// The help printed for `--help`.
pub const HELP: &str = "\
usage: tssh [options] destination [command [argument ...]]

destination is [user@]host or ssh://[user@]host[:port].

Session over UDP:
  --udp, --quic       move the session to QUIC over UDP after the login
  --kcp               the same with KCP
  --tcp               plain ssh, whatever the configuration says
  --tsshd-path path   path of the server program (default: tsshd)
  --tsshd-port ports  ports the server may use (default: 61001-61999)
  --debug             diagnostics of both ends
  --via-ssh           let the system's ssh log in

As in ssh:
  -4, -6              IPv4 or IPv6 only
  -B interface        interface to connect from
  -A, -a              let programs there use the agent here, or not
  -b address          local address to connect from
  -C                  ask for compression
  -c ciphers          ciphers, in order of preference
  -D [bind:]port      SOCKS proxy on this side
  -E file             write diagnostics to a file
  -e char             escape character, ^X or none (default: ~)
  -f                  go to the background after the login
  -F file             configuration file instead of the usual ones, or none
  -g                  let other hosts use local forwards
  -G                  print the resolved configuration
  -i file             private key; may be repeated
  -J hosts            hosts to go through, [user@]host[:port], comma separated
  -L [bind:]port:host:hostport (or socket paths)
                      forward connections to this side; with udp/ in front
                      datagrams, in UDP mode
  -l user             user to log in as
  -M                  let others share the connection (-MM: ask each time)
  -m macs             MAC algorithms, in order of preference
  -N                  run nothing
  -n                  standard input from /dev/null
  -O command          tell whoever shares its connection: check, forward, cancel,
                      exit, stop or proxy
  -o key=value        any option of the configuration file; may be repeated
  -P tag              tag for Match tagged
  -p port             port of the ssh server
  -Q question         list algorithms and the like; -Q help lists the questions
  -q                  say nothing but what is fatal
  -R [bind:]port[:host:hostport] (or socket paths)
                      forward connections to the far side, or with udp/ datagrams
  -S path             socket where a shared connection is found, or none
  -s                  the command names a subsystem
  -T, -t              never, or always (-tt: even without a local one) ask for a terminal
  -X, -Y, -x          let programs there use the display here: without trust,
                      with trust, or not at all
  -W host:port        standard input and output go to that port
  -V, --version       print the version
  -v                  say more; up to three times
  -y                  send diagnostics to the system's log";

/// Options of OpenSSH 9.2 and of the reference client that this version does not have.
pub(super) const NOT_SUPPORTED: &[(&str, &str)] = &[
    ("-1", "SSH protocol v.1 is no longer supported"),
    ("-I", "PKCS#11 keys; load them into ssh-agent (ssh-add -s), or use --via-ssh"),
    ("-K", "GSSAPI; log in by ssh with --via-ssh"),
    ("-w", "tunnel devices; use ssh -w"),
    ("--attach", "attaching to a running session"),
    ("--client", "file transfer; use sftp -S tssh or rsync -e tssh"),
    ("--dns", "name servers of its own; set them in the system"),
    ("--download-path", "file transfer; use sftp -S tssh or rsync -e tssh"),
    ("--dragfile", "file transfer; use sftp -S tssh or rsync -e tssh"),
    ("--enc-secret", "secrets in files; use ssh-agent or a key with a passphrase"),
    ("--install-trzsz", "installing helpers; see the installation notes"),
    (
        "--install-tsshd",
        "installing the server; copy tsshd to the host, see the installation notes",
    ),
    ("--list-hosts", "listing hosts; see ~/.ssh/config"),
    ("--new-host", "adding hosts; edit ~/.ssh/config"),
    ("--reconnect", "logging in again; sessions over --udp survive outages"),
    ("--relay", "file transfer relaying"),
    ("--remove-host-key", "use ssh-keygen -R host"),
    ("--tracelog", "use --debug"),
    ("--upload-file", "file transfer; use sftp -S tssh or rsync -e tssh"),
    ("--zmodem", "file transfer; use sftp -S tssh or rsync -e tssh"),
];
