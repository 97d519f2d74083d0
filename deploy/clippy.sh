#!/bin/sh
# clippy on the datago crate. The lints of our own Rust version are errors; a newer Rust knows lints that we have not met
# yet, and only shows them.
set -eu
cd "$(dirname "$0")/.."
. deploy/lib.sh

case "$(deploy/rust.sh cargo clippy --version)" in
*" 0.${RUST_VERSION%.*} "*) strict="-D warnings" ;;
*) strict="--cap-lints warn" ;;
esac
# shellcheck disable=SC2086
exec deploy/rust.sh cargo clippy --manifest-path datago/Cargo.toml --locked --all-targets --release -- $strict
