# Made from the help text by crates/client/tests/manual.rs; do not edit.
_tssh() {
    local current=${COMP_WORDS[COMP_CWORD]}
    if [[ $current == --* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "--udp --quic --kcp --tcp --tsshd-path --tsshd-port --debug --via-ssh --version" -- "$current")
        return
    fi
    declare -F _comp_cmd_ssh _ssh >/dev/null || _comp_load ssh 2>/dev/null ||
        _completion_loader ssh 2>/dev/null
    if declare -F _comp_cmd_ssh >/dev/null; then
        _comp_cmd_ssh "$@"
    elif declare -F _ssh >/dev/null; then
        _ssh "$@"
    fi
}
complete -F _tssh tssh
