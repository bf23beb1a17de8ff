# Sourced by build.sh and update-pins: apt with a configuration of its own, and this machine's Debian mirrors.
# The machine's own apt configuration is read (for mirrors and proxies) and never changed.

# mirror main|security: the first Debian mirror of that kind that this machine's apt knows.
mirror() {
  apt-get indextargets --format '$(REPO_URI) $(SUITE)' 'Origin: Debian' 'Created-By: Packages' |
    awk -v kind="$1" '($2 ~ /-security$/) == (kind == "security") && $2 !~ /-(updates|backports)/ { sub(/\/$/, "", $1); print $1; exit }'
}

# own_apt COMMAND…: apt-get or apt-cache over the suites of the kernel, in a directory of its own.
own_apt() {
  local program=$1 dir=$cache/apt
  shift
  mkdir -p "$dir"/{lists/partial,archives/partial}
  printf 'deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] %s %s main\n' \
    "$(mirror main)" "$suite" "$(mirror security)" "$suite-security" >"$dir/sources.list"
  "$program" -o Dir::Etc::sourcelist="$dir/sources.list" -o Dir::Etc::sourceparts=- \
    -o Dir::State="$dir" -o Dir::State::lists="$dir/lists" -o Dir::Cache="$dir" \
    -o APT::Architecture=amd64 -o APT::Architectures=amd64,arm64 -o Acquire::Languages=none -o APT::Sandbox::User="$(id -un)" "$@"
}
