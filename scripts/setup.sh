#!/bin/sh
# Creates .venv from a lock file and installs mailboxd into it. Names what is missing in one clear line.
set -eu
lock=$1
python=${PYTHON:-python3}
log=.venv/setup.log
exec 3>&2  # the trap may run while stderr goes to the log
fail() { echo "mailboxd set-up: $1" >&3; exit 1; }
trap 'trap "" INT TERM; fail "interrupted; the same command goes on where it was"' INT TERM

command -v "$python" >/dev/null 2>&1 || fail "'$python' was not found; install Python 3.11 or newer, or call make with PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
    || fail "$("$python" --version 2>&1) is too old; install Python 3.11 or newer, or call make with PYTHON=/path/to/python3"
"$python" -c 'import venv, ensurepip' 2>/dev/null \
    || fail "Python's venv module is missing; install it (Debian, Ubuntu, Raspberry Pi OS: sudo apt-get install python3-venv)"

# One at a time: two would write into the same .venv. The lock is on this script and ends with this process.
exec 9<"$0"
"$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX | fcntl.LOCK_NB)' 2>/dev/null || {
    echo "mailboxd set-up: waiting for another set-up in this folder …"
    "$python" -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
}

# A .venv may be half made (interrupted) or broken (its Python is gone, or this folder was moved).
usable='import os, sys, pip; sys.exit(sys.version_info < (3, 11) or not os.path.samefile(sys.prefix, ".venv"))'
if ! .venv/bin/python -c "$usable" >/dev/null 2>&1; then
    said=$("$python" -m venv --clear .venv 2>&1) || fail "creating .venv failed: $(echo "$said" | tail -n 1)"
fi

explain() {  # says what the log means, and ends
    because() { grep -qE "$1" "$log"; }
    if because 'gmp\.h'; then
        fail "the GMP headers are missing, which one dependency needs to build; install them (Debian, Ubuntu, Raspberry Pi OS: sudo apt-get install libgmp-dev; Fedora: sudo dnf install gmp-devel; macOS: brew install gmp), then try again"
    elif because "Python\.h|(gcc|cc|clang)['\"]? (failed: )?.*No such file|command '[^']*(cc|clang)[^']*' failed: No such file|No such file or directory: '[^']*(cc|clang)'"; then
        fail "a C compiler or Python's headers are missing; install them (Debian, Ubuntu, Raspberry Pi OS: sudo apt-get install build-essential python3-dev), then try again"
    elif because 'No space left on device'; then
        fail "the disk is full; about 500 MB are needed in this folder (or in the one for temporary files), then try again"
    elif because 'Max retries exceeded|Read timed out' || { because 'from versions: none' && because 'connection broken by'; }; then
        fail "the packages could not be downloaded; the set-up needs the internet, once. Check the connection and try again (details: $log)"
    fi
    tail -n 5 "$log" >&2
    fail "$1 failed; the whole story is in $log"
}

echo "mailboxd set-up: installing from $lock (the first time takes a minute or two, on a small computer longer) …"
pip() { .venv/bin/python -m pip install --disable-pip-version-check "$@"; }
pip --require-hashes -r "$lock" >"$log" 2>&1 || explain "the installation"
# Built with what the lock file brought: nothing is downloaded here.
pip --no-deps --no-build-isolation -e . >>"$log" 2>&1 || explain "installing mailboxd itself"
pwd >.venv/.place  # see the Makefile
