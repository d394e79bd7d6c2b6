#!/bin/sh
# Runs a command as a child of pid 1 of the namespaces this script was started in, as user $1
# (0: as it is). $2 holds pairs "cover folder", a line each: folders that user must be able to
# reach although something above them is closed to it. They are mounted at their own paths below an
# open file system over that something, which only these namespaces see.
set -eu
uid=$1 pairs=$2
shift 2

if [ -n "$pairs" ]; then
  stage=$(mktemp -d)
  mount -t tmpfs -o mode=755 stage "$stage"
  printf '%s\n' "$pairs" | {
    number=0
    while IFS='	' read -r _ folder; do
      number=$((number + 1))
      mkdir "$stage/$number"
      mount --bind "$folder" "$stage/$number"
    done
  }
  printf '%s\n' "$pairs" | cut -f1 | sort -u | while read -r cover; do
    mount -t tmpfs -o mode=755 cover "$cover"
  done
  printf '%s\n' "$pairs" | {
    number=0
    while IFS='	' read -r _ folder; do
      number=$((number + 1))
      mkdir -p "$folder"
      mount --bind "$stage/$number" "$folder"
    done
  }
fi
if [ "$uid" != 0 ]; then
  set -- setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"
fi
# Not exec: pid 1 stays this shell, which reaps whatever loses its parent, and which nothing in
# here can kill.
"$@"
exit $?
