#!/bin/sh
# Fuzzes every parser and decoder path of datago, each for SECONDS, with seeds of every kind of picture and shard, which
# the built datago writes. What it found of interest stays in the cache folder and is where the next run begins. Fails on
# the first input that ends the process.
# usage: deploy/fuzz.sh [SECONDS] [TARGET…]
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

NIGHTLY=nightly-2026-05-20
FUZZ_VERSION=0.13.2

seconds=${1:-60}
[ $# -eq 0 ] || shift
tools=$cache/fuzz
found=$tools/corpus
export PATH="$tools/bin:$PATH"

# nightly: the toolchain to use, a nightly that is here already or one put there by rustup
nightly() {
    have rustup || return 1
    rustup toolchain list | sed -n 's/^\(nightly[^ ]*\).*/\1/p' | head -n 1 | grep . && return 0
    rustup toolchain install "$NIGHTLY" --profile minimal >&2 && echo "$NIGHTLY"
}

install_fuzz() {
    cargo install cargo-fuzz --version "$FUZZ_VERSION" --locked --root "$tools"
}

if [ -z "${FUZZ_WITHIN:-}" ]; then
    # again, with the Rust that builds the crate on PATH
    FUZZ_WITHIN=1 exec deploy/rust.sh "$0" "$seconds" "$@"
fi
toolchain=$(nightly) || {
    say 'no fuzzing: it needs a nightly Rust, and there is no rustup here that could install one'
    exit 0
}
if [ "$(cargo-fuzz --version 2>/dev/null)" != "cargo-fuzz $FUZZ_VERSION" ]; then
    say "installing cargo-fuzz $FUZZ_VERSION"
    alone fuzz install_fuzz >/dev/null 2>&1 || {
        say "no fuzzing: cargo-fuzz $FUZZ_VERSION could not be installed"
        exit 0
    }
fi
export CARGO_TARGET_DIR="$CARGO_TARGET_DIR/fuzz"
quietly 'compiling the fuzz targets (some minutes the first time)' \
    alone build cargo "+$toolchain" fuzz build --fuzz-dir datago/fuzz
seeds=$(mktemp -d)
trap 'rm -rf "$seeds"' EXIT
.venv/bin/python -m tests.hardening.seeds "$seeds"
for target in ${*:-$(sed -n 's/^name = "\([a-z_]*\)"$/\1/p' datago/fuzz/Cargo.toml)}; do
    mkdir -p "$found/$target" "$tools/crashes/$target"
    quietly "fuzzing $target" cargo "+$toolchain" fuzz run --fuzz-dir datago/fuzz "$target" \
        "$found/$target" "$seeds/$target" -- -max_total_time="$seconds" -max_len=20000 -timeout=5 \
        -rss_limit_mb=2048 -artifact_prefix="$tools/crashes/$target/"
done
