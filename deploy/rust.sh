#!/bin/sh
# Runs a command with a Rust toolchain at hand: the one on PATH, else the one in ~/.cargo, else one put into the cache
# folder. Compiled crates are kept in the cache folder too, where all checkouts share them.
# usage: deploy/rust.sh COMMAND ARGUMENT…
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

PUCCINIALIN_VERSION=0.1.14
rust=$cache/rust
least=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' datago/Cargo.toml)

# usable: cargo and rustc run, and are new enough for the crate
usable() {
    cargo --version >/dev/null 2>&1 || return 1
    found=$(rustc --version 2>/dev/null | cut -d' ' -f2)
    [ -n "$found" ] && [ "$(printf '%s\n' "$least" "${found%%-*}" | sort -V | head -n 1)" = "$least" ]
}

# rustup finds its toolchains below HOME unless told: look beside the cargo that is on PATH when HOME is another one
beside_cargo() {
    cargo=$(command -v cargo) || return 1
    home=$(dirname "$(dirname "$(dirname "$cargo")")")
    [ -d "$home/.rustup/toolchains" ] || return 1
    export RUSTUP_HOME="${RUSTUP_HOME:-$home/.rustup}"
    [ ! -w "$home/.cargo" ] || export CARGO_HOME="${CARGO_HOME:-$home/.cargo}"
    usable
}

in_cache() {
    [ -x "$rust/cargo/bin/cargo" ] || return 1
    use_cache
    usable
}

use_cache() {
    export RUSTUP_HOME="$rust/rustup" CARGO_HOME="$rust/cargo" PATH="$rust/cargo/bin:$PATH"
}

install_rust() {
    python=$cache/bootstrap/bin/python
    { [ -x "$python" ] || python3 -m venv "$cache/bootstrap"; } &&
        "$python" -m pip install --quiet --disable-pip-version-check "puccinialin==$PUCCINIALIN_VERSION" &&
        "$python" -m puccinialin --location "$rust" &&
        use_cache &&
        rustup toolchain install "$RUST_VERSION" --profile minimal --component clippy,rustfmt &&
        rustup default "$RUST_VERSION" && rustup toolchain uninstall stable && usable
}

find_rust() {
    usable && return 0
    beside_cargo && return 0
    if [ -x "$HOME/.cargo/bin/cargo" ]; then
        PATH="$HOME/.cargo/bin:$PATH"
        export PATH
        usable && return 0
    fi
    in_cache && return 0
    quietly "installing Rust into $rust" alone rust install_rust
    use_cache
}

find_rust
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$cache/target}"
export PYO3_PYTHON="$PWD/.venv/bin/python"
LD_LIBRARY_PATH=$("$PYO3_PYTHON" -c 'import sysconfig; print(sysconfig.get_config_var("LIBDIR"))')${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export LD_LIBRARY_PATH
exec "$@"
