
usage() {
    cat >&2 <<USAGE
Makes this machine an agent of $server: installs the coder program, and a service that runs it.

  CODER_AGENT_TOKEN=TOKEN sh enrol.sh [OPTION…]

  --token-file FILE   takes the token from a file; without both, it is asked for
  --user NAME         whose shells people get; default: who runs this script, or who called sudo
  --directory DIR     where program, token and logs are kept
  --no-service        installs no service and runs the agent here, as containers want it
USAGE
}

options() {
    service=yes
    user=
    folder=
    token=${CODER_AGENT_TOKEN-}
    while [ $# -gt 0 ]; do
        case $1 in
            --no-service) service=no ;;
            --token-file | --user | --directory)
                [ $# -ge 2 ] || {
                    say "error: $1 needs a value."
                    exit 2
                }
                case $1 in
                    --token-file) token=$(cat "$2") || fail "the token cannot be read from $2." ;;
                    --user) user=$2 ;;
                    --directory) folder=$2 ;;
                esac
                shift ;;
            -h | --help)
                usage
                exit 0 ;;
            *)
                say "error: $1 is not an option."
                usage
                exit 2 ;;
        esac
        shift
    done
}

ask_for_token() {
    if [ -z "$token" ]; then
        # Standard input may be this script.
        if ! { : > /dev/tty; } 2> /dev/null; then
            fail "no token: set CODER_AGENT_TOKEN or use --token-file."
        fi
        printf 'Agent token: ' > /dev/tty
        stty -echo < /dev/tty 2> /dev/null || :
        read -r token < /dev/tty || :
        stty echo < /dev/tty 2> /dev/null || :
        printf '\n' > /dev/tty
    fi
    token=$(printf '%s' "$token" | tr -d '[:space:]')
    case $token in
        ????????-????-????-????-????????????) ;;
        *) fail "the token is not one: it has the form xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx." ;;
    esac
    case $token in
        *[!0-9a-fA-F-]*) fail "the token has a character that none has." ;;
    esac
}

choose_place() {
    me=$(id -un)
    if [ "$(id -u)" -eq 0 ]; then
        user=${user:-${SUDO_USER:-$me}}
        id -u "$user" > /dev/null 2>&1 || fail "there is no user $user."
        folder=${folder:-/var/lib/moorline-agent}
        [ "$user" != root ] || say "Note: people who connect get shells of root. Name another with --user."
    else
        user=${user:-$me}
        [ "$user" = "$me" ] || fail "only root can install a service for another user."
        folder=${folder:-${XDG_DATA_HOME:-${HOME:?}/.local/share}/moorline-agent}
    fi
    case $folder in
        /*) ;;
        *) folder=$(pwd)/$folder ;;
    esac
    case $folder in
        *[!A-Za-z0-9_./@:+=-]*) fail "the directory $folder has a character that a service cannot have." ;;
    esac
}

# The environment goes to every shell: tools in there find the server by it.
write_files() {
    {
        echo "CODER_AGENT_AUTH=token"
        echo "CODER_AGENT_URL=$server/"
        echo "CODER_AGENT_TOKEN=$token"
        echo "CODER_AGENT_LOG_DIR=$folder/logs"
        echo "CODER_AGENT_SCRIPT_DATA_DIR=$folder/scripts"
        if [ -n "$ca" ]; then
            echo "SSL_CERT_FILE=$ca"
        fi
    } > "$folder/agent.env"
    cat > "$folder/run" <<RUN
#!/bin/sh
set -a
. $folder/agent.env
set +a
exec $folder/coder agent
RUN
    chmod 755 "$folder/run"
    if [ "$user" != "$me" ]; then
        chown -R "$user" "$folder"
    fi
}

unit() {
    cat <<UNIT
[Unit]
Description=Agent of $server
Wants=network-online.target
After=network-online.target

[Service]
ExecStart=$folder/run
$1
WorkingDirectory=~
Restart=always
RestartSec=5
OOMPolicy=continue
TasksMax=infinity

[Install]
WantedBy=$2
UNIT
}

plist() {
    cat <<PLIST
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict>
<key>Label</key><string>moorline-agent</string>
<key>ProgramArguments</key><array><string>$folder/run</string></array>
$1
<key>RunAtLoad</key><true/>
<key>KeepAlive</key><true/>
</dict></plist>
PLIST
}

manage() {
    for verb in daemon-reload 'enable --quiet moorline-agent.service' 'restart moorline-agent.service'; do
        # shellcheck disable=SC2086
        "$@" $verb || fail "systemd did not take $file."
    done
}

# Installs and starts the service; 1 if there is nothing here that runs services.
start_service() {
    if [ "$system" = darwin ]; then
        if [ "$(id -u)" -eq 0 ]; then
            file=/Library/LaunchDaemons/moorline-agent.plist
            plist "<key>UserName</key><string>$user</string>" > "$file"
            chmod 644 "$file"
            domain=system
        else
            mkdir -p "${HOME:?}/Library/LaunchAgents"
            file=$HOME/Library/LaunchAgents/moorline-agent.plist
            plist "" > "$file"
            domain=gui/$(id -u)
        fi
        launchctl bootout "$domain/moorline-agent" 2> /dev/null || :
        launchctl bootstrap "$domain" "$file" || fail "launchd did not take $file."
    elif [ -d /run/systemd/system ] && [ "$(id -u)" -eq 0 ]; then
        file=/etc/systemd/system/moorline-agent.service
        unit "User=$user" multi-user.target > "$file"
        manage systemctl
    elif [ -d /run/systemd/system ] && systemctl --user show-environment > /dev/null 2>&1; then
        file=${XDG_CONFIG_HOME:-${HOME:?}/.config}/systemd/user/moorline-agent.service
        mkdir -p "${file%/*}"
        unit "" default.target > "$file"
        manage systemctl --user
        loginctl enable-linger "$user" > /dev/null 2>&1 ||
            say "Ask root for:  loginctl enable-linger $user   (else the agent ends when you sign out)"
    else
        return 1
    fi
    say "Installed the service $file."
}

# Says whether the server has taken the agent, within 30 s.
watch() {
    log=$folder/logs/coder-agent.log
    turn=0
    while [ "$turn" -lt 30 ]; do
        if [ -r "$log" ] && tail -n "+$((seen + 1))" "$log" | grep -q 'fetched manifest'; then
            say "Done: the server sees this machine."
            return 0
        fi
        sleep 1
        turn=$((turn + 1))
    done
    say "error: the agent runs, but the server has not taken it within 30 s. Its log ($log) ends with:"
    tail -n 5 "$log" >&2 || :
    return 1
}

main() {
    options "$@"
    detect
    choose_place
    ask_for_token
    umask 077
    mkdir -p "$folder/logs" "$folder/scripts"
    trap 'rm -f "$folder/coder.new"' EXIT
    trap 'exit 1' HUP INT TERM
    ca=
    if [ "$has_ca" = yes ]; then
        ca=$folder/ca.pem
        write_ca "$ca"
    fi
    obtain "$folder/coder.new"
    mv -f "$folder/coder.new" "$folder/coder"
    write_files
    if [ -n "$ca" ] && [ "$system" = darwin ]; then
        say "macOS takes certificates from its keychain only. As root:  security add-trusted-cert -d -k /Library/Keychains/System.keychain $ca"
    fi
    if [ "$service" = yes ]; then
        seen=0
        if [ -r "$folder/logs/coder-agent.log" ]; then
            seen=$(wc -l < "$folder/logs/coder-agent.log")
        fi
        if start_service; then
            watch
            exit
        fi
        say "Nothing here runs services, so the agent runs now and until this ends."
        say "To start it again:  $folder/run"
    fi
    trap - EXIT
    if [ "$user" = "$me" ]; then
        exec "$folder/run"
    fi
    exec su "$user" -c "exec $folder/run"
}

main "$@"
