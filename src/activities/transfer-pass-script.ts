import { firstCopyFunctions } from './transfer-first-copy.ts';
import { streamFunctions } from './transfer-streams.ts';

/**
 * Tells which directories have another identity under their name than they had, or had in one of the tries between. Arguments: what is
 * there now, what was there, both sorted; file that collects the names.
 */
const movedProgram = String.raw`
use strict; use warnings; local $/ = "\0";
my ($now, $known, $moved) = @ARGV;
my %before;
if (open my $names, "<", $moved) { while (my $name = <$names>) { $before{$name} = 1 } }
open my $here, "<", $now or die "$now: $!\n"; open my $there, "<", $known or die "$known: $!\n"; open my $keep, ">>", $moved or die "$moved: $!\n";
my $old = <$there>;
while (my $entry = <$here>) {
  $old = <$there> while defined $old and $old lt $entry;
  my $name = substr $entry, 1 + index $entry, " ";
  next if defined $old and $old eq $entry and !$before{$name};
  print $name or die "$!\n";
  $before{$name} or print $keep $name or die "$!\n";
}
close $keep or die "$moved: $!\n";
close STDOUT or die "$!\n";
`;

/**
 * One pass on the source, run as a job. Arguments: state directory, source, target, `since` (`none`: nothing was there before; `all`:
 * compare every content; else a time for `find -newerct`), lock file for a target on the same machine or `-`, `flush` (`tree` or
 * `everything`), how many streams at most, their token, `fill` (`fill` when much is still to come, `tar` when everything is and tar may
 * carry it, `alone` when another pass follows and tells right from wrong, or `-`), file with the directories that the pass of `since` met,
 * `live` or `final`, then rsync's options.
 *
 * The source's file system is flushed first: pages that a memory-mapped writer dirtied are write-protected by it, so that whoever
 * writes after this moment moves the change time. The files that changed since the last pass began are compared by content, because
 * size and times of such a file prove nothing; only the others may be judged by size and time.
 */
export const passScript = String.raw`#!/bin/sh
set -u
state=$1 source=$2 target=$3 since=$4 lock=$5 flush=$6 streams=$7 token=$8 fill=$9
shift 9
known=$1 mode=$2
shift 2
[ ! -x "$state/program/rsync" ] || PATH=$state/program:$PATH
export LC_ALL=C
# The name of a socket is short; that of a transfer need not be.
cd "$state" || exit 99
echo "$*" >"$state/options"
rm -f road "$state"/out.* "$state"/err.* "$state"/list.* "$state"/sizes.* "$state"/packed.* "$state"/codes "$state"/ended "$state"/streams "$state"/steps "$state"/moment "$state"/linked "$state"/files
step() { echo "$1 $(date +%s.%N)" >>"$state/steps"; }
read -r up rest </proc/uptime
echo "$(date +%s.%N) $up $(cat /proc/sys/kernel/random/boot_id)" >"$state/moment"
checksum=
remote="ssh -F $state/ssh_config"
# Who logs in waits longer than for a look at a small tree: the copies that come one after another share a login, made meanwhile. Where
# there is none, ssh makes one of its own.
if [ "$lock" = - ] && [ "$since" != none ]; then
  $remote -f -N -o ControlMaster=yes -S road ferry </dev/null >/dev/null 2>&1 &
  trap '$remote -S road -O exit ferry 2>/dev/null' EXIT
fi
step flushing
if [ "$flush" = tree ]; then sync -f "$source" 2>/dev/null || sync; else sync; fi
# sshd hangs up on some of many that log in at once (MaxStartups), before a word is said.
turned_away() { # name, code
  [ "$2" -ne 0 ] && [ "$tries" -lt 20 ] && grep -qE '^(kex|ssh)_exchange_identification: ' "$state/err.$1" || return 1
  tries=$((tries + 1))
  sleep "$((1 + tries / 4)).$(($$ % 10))"
}
copy() { # name, rsync's arguments
  name=$1 way=$remote
  shift
  # Streams have processors of their own for what they encrypt.
  case $name in *.*) ;; *) wait; way="$remote -S road" ;; esac
  tries=0
  while :; do
    if [ "$lock" = - ]; then RSYNC_RSH=$way rsync "$@"; else flock -n -E 97 "$lock" rsync "$@"; fi >"$state/out.$name" 2>"$state/err.$name"
    code=$?
    turned_away "$name" "$code" || break
  done
  echo "$name" >>"$state/ended"
  # Of several streams the one who waits for them tells.
  case $name in room | *.*) ;; *) echo "$name $code" >>"$state/codes" ;; esac
  return "$code"
}
# All files of the source, with their sizes. Every name begins with ./: rsync takes a line that begins with # or ; for a comment.
list_all() {
  (cd "$source" && find . -type f '(' -fprintf "$state/sizes.fill" '%s\n' , -fprintf "$state/list.fill" '%p\0' ')') 2>/dev/null
}
# Which directory stands under which name now, and in list.moved those that did not when the destination was last right: what lies in a
# directory that took the place of another is as old as ever, and the directory itself may have changed as any does. A try that was not
# concluded may have copied from one that is gone again: what it found stays found.
lists=${'$'}{known%/*}
list_directories() {
  read -r epoch rest <"$state/moment"
  (umask 077; mkdir -p -- "$lists") || return 1
  [ "$since" != none ] || rm -f -- "$known" "$known.moved"
  find "$lists" -type f ! -name "${'$'}{known##*/}" ! -name "${'$'}{known##*/}.moved" ! -name 'said.*' -exec rm -f -- '{}' +
  (cd "$source" && find . -type d -printf '%D:%i %p\0') 2>"$state/err.directories" | sort -z -T "$state" >"$lists/$epoch" ||
    { rm -f -- "$lists/$epoch"; return 1; }
  # Nothing was there: what the next try finds comes from this one.
  [ "$since" != none ] || { ln -- "$lists/$epoch" "$known"; return; }
  [ -f "$known" ] || return 1
  perl - "$lists/$epoch" "$known" "$known.moved" >"$state/list.moved" 2>"$state/err.moved" <<'end-of-program'
${movedProgram}
end-of-program
}
# Files that changed since, and those in directories that took the place of others: their own times did not move.
list_doubtful() {
  (cd "$source" && find . -type f '(' -links +1 -fprintf "$state/linked" x , -fprintf "$state/files" x , -newerct "@$since" -fprintf "$state/sizes.doubtful" '%s\n' -fprintf "$state/list.doubtful" '%p\0' ')') 2>"$state/err.list"
  code=$?
  [ -s "$state/list.moved" ] || return "$code"
  (cd "$source" && xargs -0 -n 100 sh -c '
    state=$1 since=$2
    shift 2
    find "$@" -maxdepth 1 -type f ! -newerct "@$since" "(" -fprintf "$state/sizes.part" "%s\n" , -fprintf "$state/list.part" "%p\0" ")"
    code=$?
    cat "$state/sizes.part" >>"$state/sizes.doubtful" && cat "$state/list.part" >>"$state/list.doubtful" || exit 255
    exit "$code"' sh "$state" "$since" <"$state/list.moved") 2>>"$state/err.list"
  other=$?
  [ "$other" -gt "$code" ] && code=$other
  return "$code"
}
# A sender that copies while it lists, and finds gone or replaced one of several names of a file that the destination has, waits for its
# receiver, which waits for it (seen with 3.5.0). One that lists everything first does not, and keeps the list in its memory.
listing() {
  [ "$mode" = live ] || return 0
  [ -e "$state/files" ] ||
    (cd "$source" && find . -type f '(' -links +1 -fprintf "$state/linked" x , -fprintf "$state/files" x ')') 2>/dev/null
  [ ! -s "$state/linked" ] && [ "$(wc -c <"$state/files")" -gt 1000000 ] || echo --no-inc-recursive
}
# What is gone at the source may hold the place that the rest needs.
full() { grep -qsE 'No space left on device|Disk quota exceeded' "$state/err.$1" "$state/err.$1".*; }
${streamFunctions}
${firstCopyFunctions}
# 3.0.x has no word for it; what vanished is an error there, and one that a live pass expects.
case "$(rsync --help 2>/dev/null)" in *--ignore-missing-args*) gone=--ignore-missing-args ;; *) gone= ;; esac
doubtful() { copy doubtful "$@" --ignore-times $gone --from0 "--files-from=$state/list.doubtful" "$source/" "$target"; }
step comparing
list_directories || [ "$since" = none ] || since=all
[ "$since" = none ] || ! spoiled || since=all
case "$since" in
  none) ;;
  all) checksum=--checksum ;;
  *)
    list_doubtful
    code=$?
    # What went away under the look is no failure of it; anything else would hide changes for good.
    case $code in
      1 | 123) if [ -s "$state/err.list" ] && ! grep -qv 'No such file or directory$' "$state/err.list"; then code=24; else code=23; fi ;;
    esac
    echo "list $code" >>"$state/codes"
    case $code in 0 | 24) ;; *) step ended; exit 1 ;; esac
    if [ -s "$state/list.doubtful" ]; then
      step copying
      if deal doubtful; then fan doubtful "$@" --ignore-times $gone; else doubtful "$@"; fi
      code=$?
      if [ "$code" -ne 0 ] && full doubtful; then
        copy room "$@" --existing --ignore-existing --delete-before "$source/" "$target"
        sed -i '/^doubtful/d' "$state/codes"
        doubtful "$@"
        code=$?
      fi
      case $code in 0 | 23 | 24) ;; *) step ended; exit 1 ;; esac
    fi
    ;;
esac
case "$fill" in
  tar | alone)
    if gather; then
      step copying
      pour
      code=$?
      case "$fill $code" in
        # A later pass compares everything, makes what is left to it, and deletes what is gone.
        alone\ 0 | alone\ 24) echo "alone $code" >>"$state/codes"; step ended; exit 0 ;;
      esac
      ! spoiled || checksum=--checksum
    fi
    ;;
  fill)
    if [ "$streams" -gt 1 ]; then
      step comparing
      list_all
      if deal fill; then
        step copying
        fan fill "$@" $gone
      fi
    fi
    ;;
esac
listing=$(listing)
step copying
copy rest "$@" $listing $checksum --delete-delay "$source/" "$target"
code=$?
if [ "$code" -ne 0 ] && full rest; then
  copy rest "$@" $listing $checksum --delete-before "$source/" "$target"
  code=$?
fi
# All content was compared, or none was in doubt.
case $code in 0 | 24) rm -f "$lists"/said.* ;; esac
step ended
exit "$code"
`;

/**
 * What an observer asks every few seconds. Arguments: unit, job directory, state directory, source, twentieths of a second that it looks for
 * the end of the job before it answers: at each of them when that is a second at most, else at every fourth, since every look takes a
 * process. `resultScript` follows it.
 */
export const watchScript = String.raw`
unit=$1 job=$2 state=$3 source=$4 looks=$5 current=
if [ "$looks" -gt 20 ]; then wait=0.2 step=4; else wait=0.05 step=1; fi
while [ "$looks" -gt 0 ] && [ ! -f "$job/exit" ]; do sleep "$wait"; looks=$((looks - step)); done
asked=0
while :; do
  shown=$(systemctl show -p ActiveState -p ControlGroup "$unit")
  active=$(printf '%s\n' "$shown" | sed -n 's/^ActiveState=//p')
  # The job's last word is written; systemd is about to notice.
  case "$active" in inactive | failed) break ;; esac
  [ -f "$job/exit" ] && [ "$asked" -lt 40 ] || break
  asked=$((asked + 1))
  sleep 0.02
done
echo "ActiveState=$active"
read -r up rest </proc/uptime
echo "epoch=$(date +%s.%N)"; echo "uptime=$up"; echo "boot=$(cat /proc/sys/kernel/random/boot_id)"
[ -s "$state/id" ] && [ -s "$state/ssh_config" ] && echo key=there
[ -f "$job/exit" ] && echo "exit=$(cat "$job/exit")"
[ -f "$job/token" ] && echo "token=$(cat "$job/token")"
echo "step=$(tail -n 1 "$state/steps" 2>/dev/null)"
for out in "$state"/out.*; do
  [ -f "$out" ] && printf '%s=%s\n' "${'$'}{out##*/}" "$(tail -c 2000 "$out" | tr '\r\n' '  ')"
done
echo "ended=$(tr '\n' ' ' <"$state/ended" 2>/dev/null)"
if [ -f "$state/sizes.doubtful" ] && [ ! -f "$state/sizes.sum" ] && grep -q copying "$state/steps"; then
  awk '{ s += $1 } END { printf "%.0f %d\n", s, NR }' "$state/sizes.doubtful" >"$state/sizes.sum"
fi
[ -f "$state/sizes.sum" ] && echo "doubt=$(cat "$state/sizes.sum")"
group=$(printf '%s\n' "$shown" | sed -n 's/^ControlGroup=//p')
if [ -n "$group" ]; then
  for procs in "/sys/fs/cgroup$group/cgroup.procs" "/sys/fs/cgroup/systemd$group/cgroup.procs" "/sys/fs/cgroup/unified$group/cgroup.procs"; do
    [ -r "$procs" ] && break
  done
  work=0
  for pid in $(cat "$procs" 2>/dev/null); do
    for n in $(sed -n 's/^[rw]char: //p' "/proc/$pid/io" 2>/dev/null); do work=$((work + n)); done
    for n in $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f12,13); do work=$((work + 65536 * n)); done
    file=$(readlink "/proc/$pid"/fd/* 2>/dev/null | grep -F -- "$source/" | head -n 1)
    [ -n "$file" ] && current=$file
  done
  echo "work=$work"
  # A file's name is whatever somebody chose: echo would make a line of its own of a \n in it.
  [ -n "$current" ] && printf 'file=%s\n' "$current"
fi
`;

/** Goes on after `watchScript` and tells what a job left that has ended. */
export const resultScript = String.raw`
case "$active" in inactive | failed) ;; *) return 0 ;; esac
echo '=== result'
cd -- "$state" 2>/dev/null || return 0
echo "moment=$(cat moment 2>/dev/null)"
[ -f options ] && echo "options=$(cat options)"
echo "codes=$(tr '\n' ';' <codes 2>/dev/null)"
echo "steps=$(tr '\n' ';' <steps 2>/dev/null)"
echo "streams=$(tr '\n' ';' <streams 2>/dev/null)"
[ -f sizes.doubtful ] && echo "doubtful=$(wc -l <sizes.doubtful)"
usual='(file|directory) has vanished|failed verification -- update|link_stat .* failed: No such file or directory'
for name in $(ls | sed -n 's/^\(out\|err\)\.//p' | sort -u); do
  echo "=== out $name"; tail -c 3000 "out.$name" 2>/dev/null
  # What a source in use says by the thousand comes last and is cut short, so that it hides nothing.
  echo; echo "=== err $name"; { grep -avE "$usual" "err.$name" | head -n 35; grep -aE "$usual" "err.$name" | head -n 5; } 2>/dev/null | cut -c1-4000; echo
done
:
`;

/** How far the writer on the destination is, when the source waits for it. Argument: directory of the claim. */
export const watchWriterScript = String.raw`
work=0
for pid in $(find /proc/[0-9]*/fd -maxdepth 1 -lname "$1/lock" 2>/dev/null | cut -d/ -f3 | sort -u); do
  for n in $(sed -n 's/^[rw]char: //p' "/proc/$pid/io" 2>/dev/null); do work=$((work + n)); done
  for n in $(sed 's/.*) //' "/proc/$pid/stat" 2>/dev/null | cut -d' ' -f12,13); do work=$((work + 65536 * n)); done
done
echo "work=$work"
`;
