#!/usr/bin/env bash
# Put mailferry's systemd unit in place, or take it and the program away again.
#
# usage: tools/service.sh install [PREFIX]      the program must be in PREFIX (/opt/mailferry) already
#        tools/service.sh uninstall [PREFIX]
#
# DESTDIR=/some/root works on a file system that is not the running one: then systemctl is not called.
#
# Neither starts the service: a configuration comes first. Neither touches a configuration,
# a password or the ledger that are there: `uninstall` says where they lie.
# No user, no sysusers.d, no tmpfiles.d: DynamicUser= and the unit's directories do that.
set -euo pipefail
cd "$(dirname "$0")/.."

action=${1:-}
prefix=${2:-/opt/mailferry}
root=${DESTDIR:-}
etc=$root/etc/mailferry
units=$root/etc/systemd/system
unit=$units/mailferry.service
drop_in=$units/mailferry.service.d/restart-delay.conf

say() { printf 'service: %s\n' "$*"; }

running_systemd() { [ -z "$root" ] && [ -d /run/systemd/system ]; }

systemd_version() { systemctl --version 2>/dev/null | awk 'NR == 1 {print $2 + 0}'; }

case $prefix in
    *[!A-Za-z0-9_./-]*|[!/]*) say "PREFIX must be an absolute path of plain letters: $prefix" >&2; exit 2 ;;
esac

# The unit's ProtectHome= and PrivateTmp= hide these from the service.
hidden_from_service() {
    case $prefix/ in
        /home/*|/root/*|/run/user/*|/tmp/*|/var/tmp/*) return 0 ;;
    esac
    return 1
}

install_service() {
    if hidden_from_service; then
        say "no unit is put in place: a service could not see $prefix; /opt/mailferry would do"
        return
    fi
    install -d -m 755 "$units" "$etc"
    install -d -m 700 "$etc/secrets"
    sed "s|/opt/mailferry/|$prefix/|g" deploy/systemd/mailferry.service > "$unit.new"
    chmod 644 "$unit.new"
    mv -f "$unit.new" "$unit"
    # Earlier versions would warn about its keys at every daemon-reload.
    if [ "$(systemd_version)" -ge 254 ] 2>/dev/null; then
        install -D -m 644 deploy/systemd/restart-delay.conf "$drop_in"
    else
        rm -f "$drop_in"
    fi
    if [ ! -e "$etc/mailferry.toml" ]; then
        install -m 644 config/mailferry.toml "$etc/mailferry.toml"
        say "$etc/mailferry.toml is the commented sample: edit it"
    fi
    if running_systemd; then systemctl daemon-reload; fi
    say "$unit is in place; start it with: systemctl enable --now mailferry"
}

uninstall_service() {
    if running_systemd && [ -e "$unit" ]; then systemctl disable --now --quiet mailferry || true; fi
    rm -f "$unit" "$drop_in"
    rmdir "$units/mailferry.service.d" 2>/dev/null || true
    if running_systemd; then systemctl daemon-reload; fi
    # Nothing but what install.sh has made is taken away.
    if [ -x "$root$prefix/bin/mailferry" ] && [ -f "$root$prefix/pyvenv.cfg" ]; then
        rm -rf -- "$root$prefix"
        say "the unit and $root$prefix are gone"
    else
        say "the unit is gone; $root$prefix holds no mailferry"
    fi
    for left in "$etc" "$root/var/lib/mailferry"; do
        if [ -e "$left" ]; then say "left alone: $left"; fi
    done
}

case $action in
    install) install_service ;;
    uninstall) uninstall_service ;;
    *) sed -n '2,12p' "$0" >&2; exit 2 ;;
esac
