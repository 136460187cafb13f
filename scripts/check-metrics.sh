#!/bin/sh
# Checks a running server's /metrics with promtool (Debian package prometheus): sh scripts/check-metrics.sh URL
# promtool asks for names without ":"; vLLM's have one, and routers read those names, so that one advice is left.
set -eu
url=${1:-http://127.0.0.1:8000/metrics}
exposition=$(mktemp)
trap 'rm -f "$exposition"' EXIT
curl --fail --silent --show-error "$url" >"$exposition"
status=0
report=$(promtool check metrics <"$exposition" 2>&1) || status=$?
# 0 = clean, 3 = advice; anything else means that promtool could not read it.
if [ "$status" -ne 0 ] && [ "$status" -ne 3 ]; then
  printf '%s\n' "$report"
  exit "$status"
fi
rest=$(printf '%s' "$report" | grep -v "^vllm:[a-z0-9_]* metric names should not contain ':'$" || true)
if [ -n "$rest" ]; then
  printf '%s\n' "$rest"
  exit 3
fi
echo "promtool: $(grep -c '^# TYPE' "$exposition") metrics are well formed"
