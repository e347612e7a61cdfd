#!/usr/bin/env bash
# Run every test there is, against real mail servers too. `make test` calls this.
#
# usage: tests/run-all.sh FOLDER_WITH_PYTEST [pytest arguments]
#
# Dovecot, Postfix, Prometheus (for promtool) and Chromium are installed when they
# are missing and we may; they are never started as services: the tests run private
# instances on loopback. Exim, which cannot be installed beside Postfix, is only
# unpacked into build/. A C compiler is for `make bench-smoke`, which CI runs next.
set -uo pipefail
cd "$(dirname "$0")/.."

bin=${1:-.venv/bin}
shift || true
search="$PATH:/usr/local/sbin:/usr/sbin:/sbin"

has() { PATH="$search" command -v "$1" >/dev/null; }

missing_servers() {
    has dovecot || echo dovecot-pop3d
    [ -x /usr/lib/dovecot/lmtp ] || echo dovecot-lmtpd
    has postfix || echo postfix
    has promtool || echo prometheus
    has chromium || echo chromium
    has cc || echo gcc libc6-dev
}

as_root() {
    if [ "$(id -u)" -eq 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() {
    has apt-get && { [ "$(id -u)" -eq 0 ] || sudo -n true 2>/dev/null; }
}

# Debian starts a service as soon as it is installed, unless this file says no
# (exit status 101: action forbidden). An administrator's own file is left alone.
forbid_service_starts() {
    [ -e /usr/sbin/policy-rc.d ] && return 1
    printf '#!/bin/sh\nexit 101\n' | as_root tee /usr/sbin/policy-rc.d >/dev/null
    as_root chmod 755 /usr/sbin/policy-rc.d
}

allow_service_starts() { as_root rm -f /usr/sbin/policy-rc.d; }

apt() { as_root env DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o Dpkg::Use-Pty=0 "$@" </dev/null; }

install_servers() {
    local ours=no result=0
    echo "tests: installing $*"
    # Postfix asks what it is for: nothing beyond this machine.
    has postfix || echo 'postfix postfix/main_mailer_type select Local only' | as_root debconf-set-selections
    forbid_service_starts && ours=yes && trap allow_service_starts EXIT
    { apt update >/dev/null || true; apt --no-install-recommends install "$@" >/dev/null; } || result=$?
    if [ "$ours" = yes ]; then
        allow_service_starts
        trap - EXIT
    fi
    return "$result"
}

provide_servers() {
    local wanted
    wanted=$(missing_servers)
    [ -z "$wanted" ] && return
    if ! may_install; then
        echo "tests: missing and not installable from here (no apt-get, or not root): " $wanted
        return
    fi
    # shellcheck disable=SC2086  # several package names, several words
    install_servers $wanted || echo "tests: apt-get could not install: " $wanted
}

provide_exim() {
    [ -x build/exim/usr/sbin/exim4 ] && return
    has apt-get && has dpkg && bash tests/fetch-exim.sh || echo "tests: Exim could not be unpacked into build/exim"
}

provide_servers
provide_exim
# pytest-randomly shuffles and prints its seed; `--randomly-seed=N` repeats an order.
# Most tests wait for servers most of the time, so twice as many run at once as there are cores.
"$bin/pytest" -q -n "$((2 * $(nproc)))" --dist worksteal "$@" tests
result=$?

wanted=$(missing_servers; [ -x build/exim/usr/sbin/exim4 ] || echo exim4)
if [ -n "$wanted" ]; then
    echo "REAL SERVERS ARE MISSING:" $wanted "- THE TESTS AGAINST THEM DID NOT RUN"
    # As in tests/support/processes.py: where they are a must, to miss them is to fail.
    [ -n "${CI:-}" ] || [ "${MAILFERRY_REQUIRE_SERVERS:-}" = 1 ] && exit 1
elif [ "$(id -u)" -ne 0 ]; then
    echo "A PRIVATE POSTFIX NEEDS ROOT: THE TESTS AGAINST IT DID NOT RUN"
fi
exit "$result"
