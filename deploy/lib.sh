# Shared by the scripts of this folder; they source it from the checkout's root.

cache="${XDG_CACHE_HOME:-${HOME:?set HOME: caches go to ~/.cache/refinery}/.cache}/refinery"

say() { printf '· %s\n' "$*"; }

fail() {
    printf '✗ %s\n' "$*" >&2
    exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# digest: of what is on stdin
digest() {
    if have sha256sum; then sha256sum; else shasum -a 256; fi | cut -d' ' -f1
}

# alone NAME COMMAND…: waits until no other checkout of this user runs its NAME
alone() {
    mkdir -p "$cache"
    lock=$cache/$1.lock
    shift
    if have flock; then (flock 9 && "$@") 9>"$lock"; else "$@"; fi
}

# quietly LABEL COMMAND…: one line with the time it took; what it printed only when it fails, or with V=1.
# `set -e` does not act inside COMMAND: a function passed here chains its commands with &&.
quietly() {
    label=$1
    shift
    started=$(date +%s)
    if [ -n "${V:-}" ]; then
        say "$label"
        "$@" || fail "$label: failed (exit code $?)."
        return 0
    fi
    log=$(mktemp)
    printf '· %s … ' "$label"
    if "$@" >"$log" 2>&1; then
        rm -f "$log"
        printf '%ss\n' "$(($(date +%s) - started))"
    else
        code=$?
        printf 'failed\n'
        cat "$log" >&2
        rm -f "$log"
        fail "$label: failed (exit code $code), see above."
    fi
}

UV_VERSION=0.11.33
# what a machine without Rust gets, and whose clippy judges
RUST_VERSION=1.95.0

install_uv() {
    python3 -m venv "$cache/bootstrap" &&
        "$cache/bootstrap/bin/python" -m pip install --quiet --disable-pip-version-check "uv==$UV_VERSION"
}

# find_uv: sets $uv to the uv on PATH, else to one of our own in the cache folder
find_uv() {
    uv=uv
    have uv && return 0
    uv=$cache/bootstrap/bin/uv
    case "$("$uv" --version 2>/dev/null)" in
    "uv $UV_VERSION"*) ;;
    *) quietly "installing uv $UV_VERSION" alone uv install_uv ;;
    esac
}
