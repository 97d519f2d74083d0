#!/bin/sh
# Compiles the datago crate into this checkout and installs refinery into .venv as an editable package.
# Does nothing when no input of the build changed since the last time.
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

stamp=.venv/.build-digest

inputs() {
    pwd
    cat .venv/.lock-digest pyproject.toml
    find datago -path datago/fuzz -prune -o -type f \( -name '*.rs' -o -name 'Cargo.*' \) -print | LC_ALL=C sort | xargs cat
}

compile() {
    rm -f "$stamp" &&
        VIRTUAL_ENV="$PWD/.venv" PATH="$(dirname "$(command -v "$uv")"):$PATH" \
            deploy/rust.sh .venv/bin/maturin develop --release --uv --locked
}

wanted=$(inputs | digest)
[ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ] && ls datago/_core*.so >/dev/null 2>&1 && exit 0
find_uv
# alone: the target folder is shared, and maturin picks the library up after cargo has let go of it
quietly "compiling datago (about five minutes the first time)" alone build compile
echo "$wanted" >"$stamp"
