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

/**
 * Lines of tar after which no file can have size and time of the source and another content: one that found no room, or whose end did not
 * come, is shorter.
 */
const harmless = `${changedUnderTar}|: Cannot write: (No space left on device|Disk quota exceeded|Broken pipe)$|: Wrote only [0-9]+ of [0-9]+ bytes$|^tar: (Unexpected EOF in archive|Error is not recoverable: exiting now)$`;

/**
 * Functions of the pass's script. `gather`: true when it is worth it; then there is a list of everything, or some of the files and
 * one of the directories. ACLs travel as the attributes that they are to the kernel: asked for by name they cost as much time as a small file.
 * `pour` sends the lists: 0, or 24 when the source changed under it. `spoiled`: tar met an error that it fills with zeros, so that a file
 * may have size and time of the source and another content. What it said lies beside the lists of directories until a comparison of all
 * content has been there: no later try takes such a file for right.
 */
export const firstCopyFunctions = String.raw`
gather() {
  entries=$(cd "$source" && find . -printf . '(' -type d -fprintf "$state/list.folders" '%p\0' -o ! -type l ! -type s -fprintf "$state/sizes.fill" '%s\n' -fprintf "$state/list.fill" '%p\0' ')' 2>/dev/null | wc -c)
  eval "$(awk '{ sum += $1 } END { printf "files=%d bytes=%.0f", NR, sum }' "$state/sizes.fill")"
  [ "$bytes" -ge ${worthIt.bytes} ] || [ "$files" -ge ${worthIt.files} ] || return 1
  if deal fill 0; then mv "$state/list.folders" "$state/list.fill.0"; else cat "$state/list.folders" "$state/list.fill" >"$state/list.fill.1"; fi
}
pour_list() { # name
  name=$1 tries=0
  read -r up rest </proc/uptime
  while :; do
    {
      tar --create --file=- --format=posix --blocking-factor=${blocks} --sparse --numeric-owner --xattrs '--xattrs-include=*' --totals \
        --checkpoint=128 "--checkpoint-action=exec=exec sh $state/tell $name ${'$'}{up%.*} $share" \
        "--directory=$source/" --no-recursion --no-unquote --null "--files-from=$state/list.$name" 2>>"$lists/said.$name"
      echo "$?" >"$state/packed.$name"
    } | ssh -F "$state/ssh_config" ferry "ferry-stream $token ferry-fill" >/dev/null 2>"$state/err.$name"
    code=$?
    turned_away "$name" "$code" || break
  done
  grep -a '^tar: ' "$state/err.$name" >>"$lists/said.$name"
  echo "$name" >>"$state/ended"
  return "$code"
}
pour() {
  # Nothing is there that could be spoiled.
  rm -f "$lists"/said.*
  # Of a thousand bytes of an archive so many are content, headers being what they are.
  share=$((bytes / ((bytes + entries * 2048) / 1000 + 2048)))
  cat >"$state/tell" <<'end-of-program'
read -r up rest </proc/uptime
state=${'$'}{0%/*} bytes=$((TAR_CHECKPOINT * ${blocks * 512} / 1000 * $3))
echo "$bytes 0% $((bytes / 1000 / (${'$'}{up%.*} - $2 + 1))).00kB/s 0:00:00" >>"$state/out.$1"
# tar at the other end would read to the end what it cannot write.
! grep -qsE '^tar: .*(No space left on device|Disk quota exceeded|Read-only file system)' "$state/err.$1" || kill "$PPID"
end-of-program
  echo "tar $(ls "$state"/list.fill.[1-9]* | wc -l)" >>"$state/streams"
  pids= worst=0
  for list in "$state"/list.fill.[1-9]*; do
    pour_list "fill.${'$'}{list##*.}" &
    pids="$pids $!"
  done
  for each in $pids; do wait "$each" || worst=$?; done
  # Last: files move the times of a directory on, and would inherit its ACLs.
  [ ! -s "$state/list.fill.0" ] || [ "$worst" -ne 0 ] || pour_list fill.0 || worst=$?
  sent=$(awk '/^Total bytes written: / { sum += $4 } END { printf "%.0f", sum }' "$lists"/said.*)
  [ "$sent" -lt "$bytes" ] && literal=$sent || literal=$bytes
  cat >"$state/out.fill" <<end-of-figures
Number of files: $entries
Number of regular files transferred: $files
Total file size: $bytes bytes
Total transferred file size: $bytes bytes
Literal data: $literal bytes
Total bytes sent: $sent
end-of-figures
  # The other end of a stream that broke needs a moment to notice.
  [ "$worst" -eq 0 ] || { sleep 2; return "$worst"; }
  rm -f "$state"/out.fill.*
  echo "$bytes 100% 0.00kB/s 0:00:00 (xfr#$files, to-chk=0/0)" >>"$state/out.fill"
  ! spoiled || return 23
  cat "$state"/packed.fill.* | grep -qvx 0 && return 24
  return 0
}
spoiled() { grep -ahs '^tar: ' "$lists"/said.* | grep -qavE '${harmless}'; }
`;
