#!/bin/sh
# Run lint and all tests in parallel, because the type checker uses one core. Fails if either fails; lint's report is
# printed in one piece.
set -u
report=$(mktemp)
trap 'kill "$lint" 2>/dev/null; rm -f "$report"' EXIT
(make --no-print-directory lint >"$report" 2>&1; status=$?; echo; cat "$report"; exit $status) &
lint=$!
python -m pytest
tests=$?
wait "$lint"
linted=$?
if [ $linted -ne 0 ]; then echo "make test: lint failed; \`make lint\` shows why" >&2; fi
exit $((tests ? tests : linted))
