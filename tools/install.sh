#!/bin/sh
# install.sh PACKAGE [FORMULA]: installs a system package where that needs no password: with apt-get
# (as root or through passwordless sudo) or with Homebrew, which calls it FORMULA. Otherwise, and
# with SYSTEM_PACKAGES=no, says in one line what to install, and fails. Never asks, never hangs.
package=$1
formula=${2:-$1}

advise() {
  echo "$package: $1; to have it, run: $2" >&2
  exit 1
}

apt() {  # SECONDS ARGUMENTS...; 0 seconds is no limit
  limit=$1
  shift
  $as_root env DEBIAN_FRONTEND=noninteractive timeout --foreground "$limit" apt-get -qq \
    -o Acquire::http::Timeout=15 -o Acquire::Retries=1 -o DPkg::Lock::Timeout=30 "$@" \
    >/dev/null 2>&1 </dev/null
}

download() {
  apt 300 install --yes --no-install-recommends --download-only "$package"
}

if command -v apt-get >/dev/null; then
  advice="sudo apt-get install $package"
  [ "$SYSTEM_PACKAGES" = no ] && advise "SYSTEM_PACKAGES=no" "$advice"
  if [ "$(id -u)" -eq 0 ]; then
    as_root=
  elif sudo -n true 2>/dev/null; then
    as_root="sudo -n"
  else
    advise "installing needs a password" "$advice"
  fi
  echo "installing $package with apt-get" >&2
  # Only downloads are limited in time: dpkg must not be interrupted.
  download || { apt 90 update && download; } || advise "apt-get cannot fetch it" "$advice"
  apt 0 install --yes --no-install-recommends "$package" || advise "apt-get failed" "$advice"
elif command -v brew >/dev/null; then
  advice="brew install $formula"
  [ "$SYSTEM_PACKAGES" = no ] && advise "SYSTEM_PACKAGES=no" "$advice"
  echo "installing $formula with Homebrew" >&2
  export HOMEBREW_NO_AUTO_UPDATE=1 NONINTERACTIVE=1
  brew install --quiet "$formula" >/dev/null </dev/null || advise "Homebrew failed" "$advice"
else
  echo "$package: neither apt-get nor Homebrew is here; install it with your package manager" >&2
  exit 1
fi
