#!/bin/sh
# Creates .venv from a lock file and installs mailboxd into it. Names what is missing in one clear line.
set -eu
lock=$1
python=${PYTHON:-python3}
fail() { echo "mailboxd set-up: $1" >&2; exit 1; }

command -v "$python" >/dev/null 2>&1 || fail "'$python' was not found; install Python 3.11 or newer, or call make with PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || fail "$("$python" --version 2>&1) is too old; install Python 3.11 or newer, or call make with PYTHON=/path/to/python3"
"$python" -c 'import venv, ensurepip' 2>/dev/null \
    || fail "Python's venv module is missing; install it (Debian, Ubuntu, Raspberry Pi OS: sudo apt-get install python3-venv)"

[ -x .venv/bin/python ] || "$python" -m venv .venv
echo "mailboxd set-up: installing from $lock (the first time takes a minute or two) …"
log=.venv/setup.log
if ! .venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r "$lock" >"$log" 2>&1; then
    grep -q 'gmp\.h' "$log" \
        && fail "the GMP headers are missing, which one dependency needs to build; install them (Debian, Ubuntu, Raspberry Pi OS: sudo apt-get install libgmp-dev; Fedora: sudo dnf install gmp-devel; macOS: brew install gmp), then try again"
    grep -qE "Python\.h|(gcc|cc|clang)['\"]? (failed: )?.*No such file|command '[^']*(cc|clang)[^']*' failed: No such file" "$log" \
        && fail "a C compiler or Python's headers are missing; install them (Debian, Ubuntu, Raspberry Pi OS: sudo apt-get install build-essential python3-dev), then try again"
    tail -n 5 "$log" >&2
    fail "the installation failed; the whole story is in $log"
fi
.venv/bin/python -m pip install --disable-pip-version-check --no-deps -e . >>"$log" 2>&1 \
    || { tail -n 5 "$log" >&2; fail "installing mailboxd itself failed; the whole story is in $log"; }
