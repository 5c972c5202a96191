#!/bin/sh
# Builds what changed, then runs the tests against the program named by MOORLINE_BIN.
set -eu
cd "$(dirname "$0")"
sh build.sh
cache=${MOORLINE_INTEROP_CACHE:-../../target/interop}
exec "$cache/interop.test" -test.v -test.timeout 15m "$@"
