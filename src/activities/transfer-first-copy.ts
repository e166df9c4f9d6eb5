import { dealing } from './transfer-streams.ts';
import { changedUnderTar } from './transfer-tar.ts';

/*
 * The first copy of a tree, by tar: a head start. Where nothing is there to compare with it takes half of the processor time that rsync
 * does (docs/benchmarks.md). rsync has the last word, in the same pass or in the next one.
 */

/** Blocks of 512 bytes in a record: with tar's own twenty both ends spend more time on asking for bytes than on moving them. */
const blocks = 512;

/**
 * Unpacks one of several streams at the destination, which was empty: nothing has to be overwritten. Symlinks are rsync's business; one
 * that is sent nevertheless leads nowhere, so that no other stream can write through it, out of the directory.
 */
export const unpackStreamCommand = `tar --extract --file=- --blocking-factor=${blocks} --warning=no-timestamp --preserve-permissions --same-owner --numeric-owner --xattrs '--xattrs-include=*' --delay-directory-restore '--transform=s,^,/ferry/leads/nowhere/,RH'`;

/** Less than this is not worth a connection of its own. */
const worthIt = { bytes: 16 * 1024 ** 2, files: 2000 };

/** Before it tar --sparse reads a file for ever that gets shorter under it (CVE-2018-20482): 1.31. */
const minorForHoles = 31;

/**
 * Lines of tar after which no file can have size and time of the source and another content: one that found no room, or whose end did not
 * come, is shorter or not there.
 */
const harmless = `${changedUnderTar}|: Cannot (write|open|mkdir|mknod|mkfifo): (No space left on device|Disk quota exceeded|Broken pipe)$|: Wrote only [0-9]+ of [0-9]+ bytes$|^tar: (Unexpected EOF in archive|Error is not recoverable: exiting now)$`;

/**
 * Deals what find tells of a tree out to lists. Arguments: state directory, whether tar may be trusted with holes, how many streams. It
 * takes a file without any blocks for a single hole, which some file systems say of data as well, so that these are left to rsync, like
 * symlinks and sockets.
 */
const gatherProgram = String.raw`
use strict; use warnings; local $/ = "\0";
${dealing}
my ($state, $holes, $streams) = @ARGV;
my %list;
for my $name ("list.folders", "list.fill") { open($list{$name}, ">", "$state/$name") or die "$name: $!\n" }
sub put { my ($name, $text) = @_; print { $list{$name} } $text or die "$name: $!\n" }
begin_lists("$state/list.fill", $streams) if $streams > 1;
my ($entries, $files, $total, $bytes, $data, $holed) = (0) x 6;
while (my $line = <STDIN>) {
  chomp $line;
  my ($type, $blocks, $size, $name) = split / /, $line, 4;
  $entries++; $total += $size if $type eq "f";
  if ($type eq "d") { put("list.folders", "$name\0"); next }
  next if $type eq "l" or $type eq "s";
  $size = 0 if $type ne "f";
  my $there = $blocks * 512;
  my $isHoled = $there < $size;
  next if $isHoled and !($holes and $there);
  $files++; $bytes += $size; $holed++ if $isHoled;
  my $sent = $isHoled ? $there : $size;
  $data += $sent;
  put("list.fill", "$name\0");
  deal($sent, "$name\0") if $streams > 1;
}
for (values %list) { close $_ or die "$!\n" }
my $several = $streams > 1 && end_lists(0) ? $streams : 1;
printf "entries=%d files=%d total=%.0f bytes=%.0f data=%.0f holed=%d several=%d\n", $entries, $files, $total, $bytes, $data, $holed, $several;
`;

/**
 * Functions of the pass's script. `gather`: true when it is worth it; then there are lists of the files and, where these are several, one of
 * the directories: each is a login at the destination, which costs as much as many a directory does. What was no hole when it was looked
 * at and is one to tar has changed since, so that the next pass compares it. ACLs travel as the attributes that they are to the kernel:
 * asked for by name they cost as much time as a small file. `pour` sends the lists: 0, or 24 when the source changed under it. `spoiled`: a
 * file may have size and time of the source and another content, because tar met an error that it fills with zeros, or because its last word
 * is missing. What it said lies beside the lists of directories until a comparison of all content has been there: no later try takes such a
 * file for right.
 */
export const firstCopyFunctions = String.raw`
gather() {
  cat >"$state/gather" <<'end-of-program'
${gatherProgram}
end-of-program
  minor=$(tar --version 2>/dev/null | sed -n '1s/.* 1\.\([0-9]*\).*/\1/p')
  if [ "${'$'}{minor:-0}" -ge ${minorForHoles} ]; then holes=1; else holes=0; fi
  shares
  found=$( (cd "$source" && find . -printf '%y %b %s %p\0') 2>/dev/null | perl "$state/gather" "$state" "$holes" "$share" 2>"$state/err.gather") || return 1
  eval "$found"
  [ "$bytes" -ge ${worthIt.bytes} ] || [ "$files" -ge ${worthIt.files} ] || return 1
  sparse=
  [ "$holed" -eq 0 ] || sparse=--sparse
  if [ "$several" -gt 1 ]; then
    echo "fill $several" >>"$state/streams"
    mv "$state/list.folders" "$state/list.fill.folders"
  else
    rm -f "$state"/list.fill.[1-9]*
    cat "$state/list.folders" "$state/list.fill" >"$state/list.fill.1"
  fi
}
pour_list() { # name
  name=$1 tries=0
  read -r up rest </proc/uptime
  while :; do
    {
      tar --create --file=- --format=posix --blocking-factor=${blocks} --numeric-owner --xattrs '--xattrs-include=*' --totals $sparse \
        --checkpoint=128 "--checkpoint-action=exec=exec sh $state/tell $name ${'$'}{up%.*} $share" \
        "--directory=$source/" --no-recursion --no-unquote --null "--files-from=$state/list.$name" 2>>"$lists/said.$name"
      echo "$?" >"$state/packed.$name"
    } | $remote ferry "ferry-stream $token ferry-fill" >/dev/null 2>"$state/err.$name"
    code=$?
    turned_away "$name" "$code" || break
  done
  grep -a '^tar: ' "$state/err.$name" >>"$lists/said.$name"
  echo "$name" >>"$state/ended"
  return "$code"
}
# How both ends of a list ended: 0, 24 with a reason, 1 where that reason is missing.
outcome() { # name, code of the destination
  case "$(cat "$state/packed.$1" 2>/dev/null) $2" in
    '0 0') return 0 ;;
    '1 0' | '2 0') ! grep -qs '^tar: ' "$lists/said.$1" || return 24 ;;
    # Whoever found no room, or no end, has said so.
    *' '[1-9]*) ! grep -qs '^tar: ' "$state/err.$1" || return 24 ;;
  esac
  return 1
}
pour() {
  # Nothing is there that could be spoiled, and from here on nothing is known until all have said their last word.
  rm -f "$lists"/said.*
  echo 'tar: not at its end' >"$lists/said.so.far" && [ -s "$lists/said.so.far" ] || return 23
  # Of a thousand bytes of an archive so many are told: headers are no content, and holes do not travel.
  share=$((bytes / ((data + entries * 2048) / 1000 + 2048)))
  cat >"$state/tell" <<'end-of-program'
read -r up rest </proc/uptime
state=${'$'}{0%/*} bytes=$((TAR_CHECKPOINT * ${blocks * 512} / 1000 * $3))
echo "$bytes 0% $((bytes / 1000 / (${'$'}{up%.*} - $2 + 1))).00kB/s 0:00:00" >>"$state/out.$1"
# tar at the other end would read to the end what it cannot write.
! grep -qsE '^tar: .*(No space left on device|Disk quota exceeded|Read-only file system)' "$state/err.$1" || kill "$PPID"
end-of-program
  echo "$fill $(ls "$state"/list.fill.[1-9]* | wc -l)" >>"$state/streams"
  pids= worst=0 known=yes vanished=0
  for list in "$state"/list.fill.[1-9]*; do
    pour_list "fill.${'$'}{list##*.}" &
    pids="$pids fill.${'$'}{list##*.}:$!"
  done
  for each in $pids; do
    wait "${'$'}{each#*:}"
    ended "${'$'}{each%%:*}" "$?"
  done
  # Last: files move the times of a directory on, and would inherit its ACLs.
  [ ! -s "$state/list.fill.folders" ] || [ "$worst" -ne 0 ] || { pour_list fill.folders; ended fill.folders "$?"; }
  [ "$known" = no ] || rm -f "$lists/said.so.far"
  sent=$(awk '/^Total bytes written: / { sum += $4 } END { printf "%.0f", sum }' "$lists"/said.* 2>/dev/null)
  [ "${'$'}{sent:-0}" -lt "$bytes" ] && literal=${'$'}{sent:-0} || literal=$bytes
  # What broke off is counted by the rsync that comes after it.
  [ "$worst" -eq 0 ] || files=0 bytes=0
  cat >"$state/out.fill" <<end-of-figures
Number of files: $entries
Number of regular files transferred: $files
Total file size: $total bytes
Total transferred file size: $bytes bytes
Literal data: $literal bytes
Total bytes sent: ${'$'}{sent:-0}
end-of-figures
  # The other end of a stream that broke needs a moment to notice.
  [ "$worst" -eq 0 ] || { sleep 2; return "$worst"; }
  rm -f "$state"/out.fill.*
  echo "$bytes 100% 0.00kB/s 0:00:00 (xfr#$files, to-chk=0/0)" >>"$state/out.fill"
  ! spoiled || return 23
  return "$vanished"
}
ended() { # name, code of the destination
  [ "$2" -eq 0 ] || worst=$2
  outcome "$1" "$2"
  case $? in 24) vanished=24 ;; 1) known=no ;; esac
}
spoiled() { grep -ahs '^tar: ' "$lists"/said.* | grep -qavE '${harmless}'; }
`;
