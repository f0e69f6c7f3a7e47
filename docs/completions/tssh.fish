# Made from the help text by crates/client/tests/manual.rs; do not edit.
complete -c tssh -w ssh
complete -c tssh -l udp -d 'move the session to QUIC over UDP after the login'
complete -c tssh -l quic -d 'move the session to QUIC over UDP after the login'
complete -c tssh -l kcp -d 'the same with KCP'
complete -c tssh -l tcp -d 'plain ssh, whatever the configuration says'
complete -c tssh -l tsshd-path -d 'path of the server program (default: tsshd)'
complete -c tssh -l tsshd-port -d 'ports the server may use (default: 61001-61999)'
complete -c tssh -l debug -d 'diagnostics of both ends'
complete -c tssh -l via-ssh -d 'let the system\'s ssh log in'
complete -c tssh -l version -d 'print the version'
