
usage() {
    cat >&2 <<USAGE
Installs the coder command line from $server.

  sh install.sh [DIRECTORY]

DIRECTORY is where the program goes; without it, /usr/local/bin if that can be written, else ~/.local/bin.
USAGE
}

main() {
    case ${1-} in
        -h | --help)
            usage
            exit 0 ;;
        -*)
            usage
            exit 2 ;;
    esac
    if [ -n "${1-}" ]; then
        folder=$1
    elif [ -w /usr/local/bin ]; then
        folder=/usr/local/bin
    else
        folder=${HOME:?}/.local/bin
    fi
    detect
    mkdir -p "$folder"
    work=$(mktemp -d "$folder/.coder-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    ca=
    if [ "$has_ca" = yes ]; then
        ca=$work/ca.pem
        write_ca "$ca"
    fi
    obtain "$work/coder"
    mv -f "$work/coder" "$folder/coder"
    say "Installed $folder/coder."
    case :$PATH: in
        *:"$folder":*) ;;
        *) say "Add it to your PATH:  export PATH=\"$folder:\$PATH\"" ;;
    esac
    if [ "$has_ca" = yes ]; then
        keep=${XDG_CONFIG_HOME:-${HOME:?}/.config}/moorline
        mkdir -p "$keep"
        cp "$ca" "$keep/ca.pem"
        if [ "$system" = darwin ]; then
            say "Trust the server's certificate authority:  security add-trusted-cert -k ~/Library/Keychains/login.keychain-db $keep/ca.pem"
        else
            say "Trust the server's certificate authority:  export SSL_CERT_FILE=\"$keep/ca.pem\""
        fi
    fi
    say "Next:  coder login $server"
}

main "$@"
