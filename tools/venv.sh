#!/bin/sh
# venv.sh FOLDER: makes a virtual environment there, of $PYTHON or the first interpreter that is new
# enough, and sees to it that extension modules can be built with it.
folder=$1
here=$(dirname "$0")

fail() {
  echo "$1" >&2
  exit 1
}

if [ -n "$PYTHON" ]; then
  set -- "$PYTHON"
else
  set -- python3 python3.14 python3.13 python3.12 python3.11 python3.10
fi
python=
for candidate; do
  if "$candidate" -c 'import sys
sys.exit(sys.implementation.name != "cpython" or sys.version_info < (3, 10))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
[ -n "$python" ] || fail "no CPython 3.10 or newer (tried: $*); install one, or name it: PYTHON=..."
name=python$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')

command -v "${CXX:-c++}" >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null ||
  fail "no C++ compiler; install one (apt-get install g++, xcode-select --install), or set CXX"

# Debian keeps both of these apart from Python itself.
has_pip() {
  "$python" -c 'import ensurepip, venv' 2>/dev/null
}
has_headers() {
  "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))'
}
has_pip || "$here/install.sh" "$name-venv" "python@${name#python}"
has_pip || fail "$python cannot make virtual environments: it lacks the module venv or ensurepip"
has_headers || "$here/install.sh" "$name-dev" "python@${name#python}"
has_headers || fail "$python has no Python.h; install its development headers"

"$python" -m venv --clear "$folder" && exit
rm -rf "$folder"
fail "$python -m venv failed"
