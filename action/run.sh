#!/usr/bin/env bash
# Runs one command of glmconv for a workflow: a summary, an annotation for each
# failed check, outputs. What it is asked for comes in GLMCONV_*, never as text of
# the script. Its exit code is glmconv's; 3 is 0 where undecided is to warn.
set -euo pipefail
out=${RUNNER_TEMP:-/tmp}/glmconv-${GITHUB_RUN_ID:-0}-$$
mkdir -p "$out"
read -ra more <<<"${GLMCONV_ARGS:-}"
source=$GLMCONV_SOURCE
destination=${GLMCONV_DESTINATION:-}

need_destination() {
  [ -n "$destination" ] || { echo "::error::$GLMCONV_COMMAND needs the input destination"; exit 2; }
}

case $GLMCONV_COMMAND in
quantize)
  need_destination
  call=(quantize --resume)
  [ -z "${GLMCONV_SCHEME:-}" ] || call+=(--scheme "$GLMCONV_SCHEME")
  call+=(${more[@]+"${more[@]}"} -- "$source" "$destination")
  ;;
verify)
  need_destination
  call=(verify --json "$out/verify.json" --junit "$out/verify.xml" --report "$out/verify.html")
  [ -z "${GLMCONV_TOL:-}" ] || call+=(--tol "$GLMCONV_TOL")
  [ -z "${GLMCONV_CACHE:-}" ] || call+=(--state "$GLMCONV_CACHE")
  call+=(${more[@]+"${more[@]}"} -- "$source" "$destination")
  ;;
check) call=(check ${more[@]+"${more[@]}"} -- "$source") ;;
*)
  echo "::error::the input command is quantize, verify or check, not ${GLMCONV_COMMAND//[^a-z-]/?}"
  exit 2
  ;;
esac

code=0
glmconv "${call[@]}" >"$out/text" 2>"$out/messages" || code=$?
cat "$out/text"
cat "$out/messages" >&2

escaped() { sed -e 's/%/%25/g' -e 's/\r/%0D/g'; }
# A line of the text that begins with a cross is a check that failed.
{ grep -E '^ +✗ ' "$out/text" || true; } | escaped | sed -E 's/^ +✗ +([^ ]+) +(.*)$/::error title=glmconv \1::\2/'
{ grep -E '^glmconv: ' "$out/messages" || true; } | escaped | sed -E 's/^glmconv: /::error title=glmconv::/'

case $code in
0) verdict=pass ;;
1) verdict=fail ;;
3) verdict=undecided ;;
*) verdict=error ;;
esac
kl=
[ ! -f "$out/verify.json" ] || kl=$(awk '/^ *"kl": \{/ { inside = 1 } inside && /"mean":/ { gsub(/[^0-9.eE+-]/, "", $2); print $2; exit }' "$out/verify.json")
{
  echo "verdict=$verdict"
  echo "kl=$kl"
  [ ! -f "$out/verify.html" ] || echo "report=$out/verify.html"
  [ ! -f "$out/verify.xml" ] || echo "junit=$out/verify.xml"
  manifest=${destination:-$source}/glmconv-manifest.json
  [ ! -f "$manifest" ] || echo "manifest-sha256=$( (sha256sum "$manifest" 2>/dev/null || shasum -a 256 "$manifest") | cut -d' ' -f1)"
} >>"${GITHUB_OUTPUT:-/dev/null}"
{
  echo "### glmconv $GLMCONV_COMMAND: $verdict"
  echo
  echo '````text'
  cat "$out/text" "$out/messages"
  echo '````'
} >>"${GITHUB_STEP_SUMMARY:-/dev/null}"

if [ "$code" = 3 ] && [ "${GLMCONV_UNDECIDED:-fail}" = warn ]; then
  echo "::warning title=glmconv::undecided"
  exit 0
fi
exit "$code"
