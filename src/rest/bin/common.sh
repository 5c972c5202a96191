# What install.sh and enrol.sh share. Nothing runs before the last line, so that half a script does nothing.

server='@url@'
has_ca='@has_ca@'
offered='@offered@'

say() { printf '%s\n' "$*" >&2; }

fail() {
    say "error: $*"
    exit 1
}

# The SHA-256 of each program that the server offers.
checksum() {
    case $1 in
@sums@
        *) return 1 ;;
    esac
}

# Sets program and expected.
detect() {
    case $(uname -s) in
        Linux) system=linux ;;
        Darwin) system=darwin ;;
        *) fail "this script is for Linux and macOS; here is $(uname -s)." ;;
    esac
    case $(uname -m) in
        x86_64 | amd64) architecture=amd64 ;;
        aarch64 | arm64) architecture=arm64 ;;
        armv7* | armv8l) architecture=armv7 ;;
        *) architecture=$(uname -m) ;;
    esac
    program=coder-$system-$architecture
    expected=$(checksum "$program") ||
        fail "$server has no program for $system-$architecture; it has: ${offered:-none}."
}

# Writes the certificates that the server needs into $1, behind those of the system: programs that are
# told of this file trust no others.
write_ca() {
    : > "$1"
    for bundle in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem \
        /etc/ssl/cert.pem; do
        if [ -r "$bundle" ]; then
            cat "$bundle" >> "$1"
            break
        fi
    done
    cat >> "$1" <<'CERTIFICATES'
@ca@
CERTIFICATES
}

with_curl() {
    if [ -n "$ca" ]; then
        curl -fsSL --connect-timeout 20 --cacert "$ca" -o "$2" "$1"
    else
        curl -fsSL --connect-timeout 20 -o "$2" "$1"
    fi
}

with_wget() {
    # The wget of busybox may stand here, too; it takes no certificates.
    if [ -n "$ca" ] && wget --help 2>&1 | grep -q -e --ca-certificate; then
        wget -q --ca-certificate="$ca" -O "$2" "$1"
    else
        wget -q -O "$2" "$1"
    fi
}

# Without a time limit: busybox 1.35 of Debian crashes when it is given one and is to be quiet.
with_busybox() { busybox wget -q -O "$2" "$1"; }

# Downloads $1 into $2 with the first tool that can.
download() {
    tried=
    for tool in curl wget busybox; do
        command -v "$tool" > /dev/null 2>&1 || continue
        tried="$tried $tool"
        rm -f "$2"
        if "with_$tool" "$1" "$2" && [ -s "$2" ]; then
            return 0
        fi
        say "$tool could not download $1"
    done
    [ -n "$tried" ] || fail "this machine has none of curl, wget and busybox; one of them is needed."
    fail "$1 could not be downloaded (tried:$tried). What each tool said stands above."
}

sha256() {
    if command -v sha256sum > /dev/null 2>&1; then
        sha256sum "$1"
    elif command -v shasum > /dev/null 2>&1; then
        shasum -a 256 "$1"
    elif command -v openssl > /dev/null 2>&1; then
        openssl dgst -sha256 -r "$1"
    elif command -v busybox > /dev/null 2>&1; then
        busybox sha256sum "$1"
    fi
}

# Goes on only if $1 is the program that this script was written for.
verify() {
    found=$(sha256 "$1" | cut -d ' ' -f 1)
    [ -n "$found" ] || fail "this machine has none of sha256sum, shasum, openssl and busybox; one of them is needed."
    [ "$found" != "$expected" ] || return 0
    start=$(dd if="$1" bs=256 count=1 2> /dev/null | tr -c '\011\012\040-\176' '.')
    say "error: what came is not $program."
    say "  SHA-256 expected  $expected"
    say "  SHA-256 received  $found"
    say "It begins with:"
    say "$start"
    case $(printf '%s' "$start" | tr -d ' \011\012\015') in
        '<'*)
            say "That is a web page. Is there a proxy or a sign-in page before $server? Let /bin through it." ;;
        *)
            say "If the program on the server was replaced just now, get this script again." ;;
    esac
    rm -f "$1"
    exit 1
}

# Downloads the program into the file $1 and makes sure that it runs here.
obtain() {
    say "Downloading $server/bin/$program"
    download "$server/bin/$program" "$1"
    verify "$1"
    chmod 755 "$1"
    case $("$1" --version 2>&1 | head -n 1) in
        *Coder*) ;;
        *) fail "the program does not run here: $("$1" --version 2>&1 | head -n 3)" ;;
    esac
}
