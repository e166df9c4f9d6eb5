import type { RsyncEnd } from './rsync-output.ts';
import { judgeDisk, judgeTroubles, sayings } from './rsync-output.ts';

/** What unpacks at the destination, in the directory itself. */
export const unpackCommand =
  "tar --extract --file=- --preserve-permissions --same-owner --numeric-owner --acls --xattrs '--xattrs-include=*' --delay-directory-restore --overwrite";

/**
 * Stands between tar and the wire: holds the limit, counts, and reports in rsync's words, so that an observer needs no second language.
 * Argument: KiB/s or 0. No module of perl but the core is used.
 */
const throttleProgram = String.raw`
my $limit = $ARGV[0] * 1024; my ($sent, $begin, $shown) = (0, time, 0);
$SIG{PIPE} = "IGNORE"; binmode STDIN; binmode STDOUT; $| = 1;
while (my $n = sysread(STDIN, my $data, 65536)) {
  for (my $at = 0; $at < $n;) { my $put = syswrite(STDOUT, $data, $n - $at, $at); exit 32 unless defined $put; $at += $put }
  $sent += $n;
  if ($limit) { select(undef, undef, undef, 0.05) while $sent > $limit * (time - $begin + 1) }
  if (time != $shown) { $shown = time; printf STDERR "%d 0%% %.2fkB/s 0:00:00\r", $sent, $sent / 1000 / (time - $begin + 1) }
}
printf STDERR "%d 100%% %.2fkB/s 0:00:00\nTotal bytes sent: %d\nLiteral data: %d bytes\n", $sent, $sent / 1000 / (time - $begin + 1), $sent, $sent;
`;

/**
 * One pass where an end has no rsync: everything, through tar. Takes the arguments of the other pass's script, and the limit in KiB/s
 * in the place of rsync's options. The destination is emptied first: what is there may differ in a way that tar would leave.
 */
export const tarPassScript = String.raw`#!/bin/sh
set -u
state=$1 source=$2 target=$3 lock=$5 flush=$6 limit=$7
export LC_ALL=C
cd / || exit 99
rm -f "$state"/out.* "$state"/err.* "$state"/codes "$state"/steps "$state"/moment
step() { echo "$1 $(date +%s.%N)" >>"$state/steps"; }
read -r up rest </proc/uptime
echo "$(date +%s.%N) $up $(cat /proc/sys/kernel/random/boot_id)" >"$state/moment"
step flushing
if [ "$flush" = tree ]; then sync -f "$source" 2>/dev/null || sync; else sync; fi
cat >"$state/throttle" <<'end-of-program'
${throttleProgram}
end-of-program
pack() {
  tar --create --file=- --format=posix --sparse --numeric-owner --acls --xattrs '--xattrs-include=*' "--directory=$source/" . 2>"$state/err.pack"
  echo "pack $?" >>"$state/codes"
}
unpack() {
  if [ "$lock" = - ]; then
    ssh -F "$state/ssh_config" ferry ferry-tar
  else
    flock -n -E 97 "$lock" sh -c 'cd -- "$1" && find . -xdev -mindepth 1 -delete && exec ${unpackCommand.replaceAll("'", String.raw`'\''`)}' sh "$target"
  fi 2>"$state/err.rest"
}
step copying
pack | perl "$state/throttle" "$limit" 2>"$state/out.rest" | unpack
code=$?
echo "rest $code" >>"$state/codes"
find "$source/" -printf '%y %s\n' 2>/dev/null | awk '
  { entries++ } $1 == "f" { files++; bytes += $2 }
  END { printf "Number of files: %d\nNumber of regular files transferred: %d\nTotal file size: %.0f bytes\nTotal transferred file size: %.0f bytes\n", entries, files, bytes, bytes }' >>"$state/out.rest"
step ended
exit "$code"
`;

/** What tar says of a source in use, as a regular expression that `grep -E` understands as well. */
export const changedUnderTar =
  ': (File removed before we read it|file changed as we read it|File shrank by [0-9]+ bytes?; padding with zeros|Cannot (stat|open|readlink|read|savedir): No such file or directory|Cannot open: Too many levels of symbolic links|Cannot (open|savedir): Not a directory|socket ignored)$|^tar: Exiting with failure status due to previous errors$';
const changedLine = new RegExp(changedUnderTar);

/** How a pass by tar ended, from the exit codes of both ends; undefined when one is missing because the machine went down. */
export function judgeTar(
  codes: ReadonlyMap<string, number>,
  stderr: { pack: string; rest: string },
  isLive: boolean,
): RsyncEnd {
  const pack = codes.get('pack');
  const rest = codes.get('rest');
  if (pack === undefined || rest === undefined) return { kind: 'again', why: 'the copy was interrupted' };
  if (rest !== 0) {
    // 255 is ssh's own word, whatever ran behind it.
    const who = rest === 255 ? 'ssh' : 'tar at the destination';
    const why = `${who} ended with ${rest}${said(stderr.rest)}`;
    const trouble = judgeTroubles(stderr.rest) ?? judgeDisk(stderr.rest, 'destination');
    if (trouble !== undefined) return { ...trouble, why };
    if (rest === 255) return { kind: 'link', why };
    const isCut = rest > 128 || /Unexpected EOF|unexpected end of file/i.test(stderr.rest);
    return isCut ? { kind: 'again', why } : { kind: 'partial', why, at: 'destination' };
  }
  if (pack === 0) return { kind: 'done', why: '' };
  const why = `tar at the source ended with ${pack}${said(stderr.pack)}`;
  if (pack > 128) return { kind: 'again', why };
  const lines = stderr.pack.split('\n').filter((line) => line.trim() !== '');
  if (isLive && lines.every((line) => changedLine.test(line))) return { kind: 'vanished', why };
  return { kind: 'partial', why, at: 'source', ...judgeDisk(stderr.pack, 'source') };
}

function said(stderr: string): string {
  const words = sayings(stderr);
  return words === '' ? '' : `: ${words}`;
}
