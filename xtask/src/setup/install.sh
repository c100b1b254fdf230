# Installs the packages in "$@" without starting their services.
#
# Debian starts a service as soon as it is installed, and ocserv's would listen on port 443 with Debian's sample
# configuration. policy-rc.d is Debian's way to say no: it is asked before every start, with and without systemd. Where
# the machine has one of its own, that one decides.
set -eu
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
mark='# cargo xtask setup, gone when it is done'

if [ ! -e "$policy" ] || grep -qF "$mark" "$policy"; then
    trap 'rm -f "$policy"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    printf '#!/bin/sh\n%s\nexit 101\n' "$mark" >"$policy"
    chmod 755 "$policy"
fi

# Mirrors stumble: each step has a second try.
apt() { apt-get -q -o DPkg::Lock::Timeout=120 -o Acquire::Retries=3 "$@"; }
apt update || apt update
apt install -y --no-install-recommends "$@" || apt install -y --no-install-recommends "$@"

# Nor shall it start when the machine boots.
case " $* " in *' ocserv '*)
    if [ -d /run/systemd/system ]; then systemctl disable ocserv.service; fi ;;
esac
