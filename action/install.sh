#!/usr/bin/env bash
# Puts glmconv on PATH: one that is there already, or the archive of a release,
# whose SHA-256 must be that of its SHA256SUMS (action/SHA256SUMS, if the release
# of this action has one, else the release's own).
set -euo pipefail
if [ -z "${GLMCONV_VERSION:-}" ] && command -v glmconv >/dev/null; then
  exit 0
fi
version=${GLMCONV_VERSION:-${GLMCONV_REF:-}}
version=${version#v}
case $version in
[0-9]*.[0-9]*.[0-9]*) ;;
*) echo "::error::the action was not used by a version tag: set the input version"; exit 2 ;;
esac
os=$(uname -s | tr '[:upper:]' '[:lower:]')
case $(uname -m) in
x86_64) arch=amd64 ;;
aarch64 | arm64) arch=arm64 ;;
*) echo "::error::there is no glmconv for $(uname -m)"; exit 2 ;;
esac
name=glmconv-$version-$os-$arch
base=https://github.com/glmconv/glmconv/releases/download/v$version
to=${RUNNER_TEMP:-/tmp}/$name
mkdir -p "$to"
curl -fsSL --retry 3 -o "$to/$name.tar.gz" "$base/$name.tar.gz"
sums=$(dirname "$0")/SHA256SUMS
if ! grep -qs "  $name.tar.gz\$" "$sums"; then
  sums=$to/SHA256SUMS
  curl -fsSL --retry 3 -o "$sums" "$base/SHA256SUMS"
fi
want=$(awk -v name="$name.tar.gz" '$2 == name { print $1 }' "$sums")
got=$( (sha256sum "$to/$name.tar.gz" 2>/dev/null || shasum -a 256 "$to/$name.tar.gz") | cut -d' ' -f1)
if [ -z "$want" ] || [ "$want" != "$got" ]; then
  echo "::error::$name.tar.gz is not what was published: SHA-256 $got, expected ${want:-none}"
  exit 1
fi
tar -xzf "$to/$name.tar.gz" -C "$to"
echo "$to/$name" >>"$GITHUB_PATH"
