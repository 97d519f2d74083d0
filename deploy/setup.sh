#!/bin/sh
# Gives this checkout what it needs: system packages, uv, and .venv exactly as requirements.lock says.
# Quick when nothing changed. System packages are installed by root through apt-get and only named to anyone else.
# usage: deploy/setup.sh [test] [servers] [pictures]     groups of packages beyond those that the build needs
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

venv=.venv
stamp=$venv/.lock-digest

# ---------------------------------------------------------------- system packages

can_install() { have apt-get && [ "$(id -u)" = 0 ]; }

apt_install() {
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq &&
        apt-get install -y -qq --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

how_to() {
    if have apt-get; then echo "as root: apt-get install $*"; else echo "install with your system's package manager: $*"; fi
}

# require WHAT-FOR PACKAGE…: installs them, or says in one sentence what is missing and stops
require() {
    purpose=$1
    shift
    [ $# -gt 0 ] || return 0
    can_install || fail "$purpose needs system packages that are not here; $(how_to "$@")"
    quietly "installing $* (for $purpose)" apt_install "$@"
}

# offer WHAT-FOR PACKAGE…: like require, but goes on without them; tried once for each .venv
offer() {
    purpose=$1
    shift
    [ $# -gt 0 ] || return 0
    mark="$venv/.offered-$(echo "$@" | tr ' ' '-')"
    if [ -e "$mark" ]; then
        say "going on without $* ($purpose)"
    elif can_install; then
        : >"$mark"
        (quietly "installing $* ($purpose)" apt_install "$@") || say "going on without them"
    else
        say "going on without $* ($purpose); $(how_to "$@")"
    fi
}

build_packages() {
    have cc && have c++ || echo build-essential
    have cmake || echo cmake
    have nasm || echo nasm
    have python3 && python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || echo python3
    have uv || [ -x "$cache/bootstrap/bin/uv" ] || python3 -c 'import ensurepip' 2>/dev/null || echo python3-venv
    [ -n "${SSL_CERT_FILE:-}" ] || ! have apt-get || [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
}

# cargo's test binaries link against libpython; Debian keeps the link in a package of its own
libpython_packages() {
    set -- "$($venv/bin/python -c 'import sysconfig as s; print(s.get_config_var("LIBDIR"), s.get_config_var("LDVERSION"))')"
    # shellcheck disable=SC2086
    set -- $1
    echo 'int main(void) { return 0; }' | cc -x c - -L"$1" "-lpython$2" -o /dev/null 2>/dev/null || echo libpython3-dev
}

picture_packages() {
    [ -d /usr/share/backgrounds/gnome ] || echo gnome-backgrounds
    [ -d /usr/share/backgrounds/mate ] || echo mate-backgrounds
    [ -d /usr/share/wallpapers/Path ] || echo plasma-workspace-wallpapers
}

# What installs and runs OpenSearch and MinIO. A Java that is too old for OpenSearch is enough for Maven; where the system
# has no newer one either, `install` says what to do.
server_packages() {
    have mvn || echo maven
    services java >/dev/null 2>&1 || ! can_install || newest_java
}

newest_java() {
    apt-get update -qq >/dev/null 2>&1 || :
    for version in 25 21; do
        if apt-cache show "openjdk-$version-jre-headless" >/dev/null 2>&1; then
            echo "openjdk-$version-jre-headless"
            return
        fi
    done
}

services() { "$venv/bin/python" -m deploy.services "$@"; }

# ---------------------------------------------------------------- Python packages

make_venv() {
    rm -rf "$venv"
    "$uv" venv --quiet --no-python-downloads --python 3.11 "$venv" 2>/dev/null ||
        "$uv" venv --quiet --python '>=3.11' "$venv"
}

sync_venv() {
    rm -f "$stamp" && UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-300} \
        "$uv" pip sync --quiet --python "$venv/bin/python" --require-hashes requirements.lock
}

# ----------------------------------------------------------------

# shellcheck disable=SC2046
require "the build" $(build_packages)

"$venv/bin/python" -c '' 2>/dev/null || {
    find_uv
    quietly "making .venv" make_venv
}
wanted=$(digest <requirements.lock)
if [ "$(cat "$stamp" 2>/dev/null)" != "$wanted" ]; then
    find_uv
    quietly "installing the locked Python packages into .venv (about 6 GB the first time, some minutes)" sync_venv
    echo "$wanted" >"$stamp"
fi

for group in "$@"; do
    # shellcheck disable=SC2046
    case $group in
    test)
        require "cargo test" $(libpython_packages)
        offer "tests in a real browser" $(have chromium || echo chromium chromium-driver)
        ;;
    servers)
        services installed || {
            require "the servers" $(server_packages)
            find_uv
            quietly "installing OpenSearch and MinIO (about five minutes the first time)" services install
        }
        ;;
    pictures) offer "more photographs for the demo" $(picture_packages) ;;
    *) fail "deploy/setup.sh knows no group '$group': test, servers or pictures." ;;
    esac
done
