#!/bin/sh
# Lint and all tests side by side, because the type checker uses one core. Fails when either does; lint's report comes
# in one piece, among pytest's progress.
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
