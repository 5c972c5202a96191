#!/bin/sh
# Runs every fuzz target for a while: tests/fuzz/smoke.sh [SECONDS], 10 each unless told.
# Where nightly Rust or cargo-fuzz is missing it says so and succeeds.
set -eu
cd "$(dirname "$0")/../.."
seconds=${1:-10}

if ! cargo +nightly fuzz --version >/dev/null 2>&1; then
    echo "fuzz smoke skipped: it needs nightly Rust and cargo-fuzz (cargo install cargo-fuzz)"
    exit 0
fi

# No sanitizer: the code under test has no unsafe, and the build is a third as long.
for target in $(cargo +nightly fuzz list --fuzz-dir tests/fuzz); do
    echo "fuzz smoke: $target for $seconds s"
    mkdir -p "tests/fuzz/corpus/$target"
    cargo +nightly fuzz run --fuzz-dir tests/fuzz --sanitizer none "$target" \
        "tests/fuzz/corpus/$target" "tests/fuzz/seeds/$target" \
        -- -max_total_time="$seconds" -max_len=65536 -rss_limit_mb=1024
done
