import { createHash } from 'node:crypto';
import type { HostConnection } from '../hosts/contract.ts';
import { quote } from '../hosts/quote.ts';
import type { ReplicateInput } from '../plan/replicate.ts';
import { contentOfTop } from './directories.ts';
import { needsHuman } from './failures.ts';
import { parseFields, runScript } from './host-script.ts';
import { gateBusy, gateRefused } from './rsync-output.ts';
import { flushedIn } from './transfer-marker.ts';
import type { TransferNames } from './transfer-names.ts';
import { unpackStreamCommand } from './transfer-first-copy.ts';
import { programDirectory } from './transfer-program.ts';
import { unpackCommand } from './transfer-tar.ts';

/** Name under which the source's ssh knows the destination; nothing of the plan stands in an argument. */
export const remoteTarget = 'ferry:data/';

/** How the source reaches the destination: a key of this transfer alone, pinned host keys, a fast cipher. */
export async function grantAccess(
  source: HostConnection,
  destination: HostConnection,
  request: ReplicateInput,
  names: TransferNames,
  options: { destinationPath: string; cipher: string },
): Promise<void> {
  const { key, addresses } = await makeKey(source, request, names, options.cipher);
  const line = `restrict,from="${addresses.join(',')}",command="${names.directory}/gate" ${key} ${keyComment(names.key)}`;
  const files = [gateScript(options.destinationPath, names), `${names.claim}\n`].map(inBase64);
  const args = [names.key, line, names.directory, names.claim, ...files];
  const answer = await runScript(destination, 'admitting the source', admitScript, args);
  if (answer.includes('elsewhere=')) {
    throw needsHuman({
      what: `${destination.host.name} does not read keys from ~/.ssh/authorized_keys`,
      cause: `its sshd has AuthorizedKeysFile ${parseFields(answer).get('elsewhere') ?? ''}`,
      untouched: 'no data was copied',
      next: `add .ssh/authorized_keys to AuthorizedKeysFile on ${destination.host.name}, then resume`,
    });
  }
}

/** What a pass meets at the destination. */
export interface Ready {
  /**
   * Gate and key are there. The access of a transfer that rested for long may have been swept by another one, or taken away by hand:
   * looked at before every pass, and granted anew.
   */
  gate: boolean;
  empty: boolean;
  /** Some file has several names. */
  links: boolean;
  /** Size of its files. */
  bytes: number;
  /** The machine restarted since what it was given was last flushed. */
  restarted: boolean;
}

/** What the file of the claim says behind the token while streams are tar's and not rsync's. */
const streamsOfTar = 'tar';

/**
 * Ends an orphan that still writes, then looks at the destination. From here on only streams with this token may write side by side: of
 * tar where it may fill the destination and that is empty, else of rsync.
 */
export async function readyDestination(
  destination: HostConnection,
  path: string,
  names: TransferNames,
  streams: { token: string; mayBeTar: boolean },
  signal: AbortSignal | undefined,
): Promise<Ready> {
  // Another version of the worker may have left a gate that knows less.
  const gate = createHash('sha256').update(gateScript(path, names)).digest('hex');
  const ofTar = streams.mayBeTar ? ` ${streamsOfTar}` : '';
  const args = [names.claim, names.key, names.directory, path, streams.token, gate, ofTar];
  const text = await runScript(destination, `looking into ${path}`, readyScript, args, {
    timeout: 6 * 3_600_000,
    ...(signal && { signal }),
  });
  const fields = parseFields(text);
  return {
    gate: fields.get('gate') === 'there',
    empty: fields.get('empty') !== 'no',
    links: Number(fields.get('links') ?? 0) > 0,
    bytes: Number(fields.get('bytes') ?? 0),
    restarted: fields.get('restarted') === 'yes',
  };
}

/** Takes key and gate away on both machines; does nothing where they are gone already. */
export async function revokeAccess(connection: HostConnection, names: TransferNames): Promise<void> {
  await runScript(connection, 'taking the key away', revokeScript, [names.key, names.directory]);
}

/**
 * Ends a process of this transfer that still holds the lock of the destination: the orphan of a cut link. Afterwards the lock is free.
 * Answers whether there was one.
 */
export async function evictWriter(destination: HostConnection, names: TransferNames): Promise<boolean> {
  const answer = await runScript(destination, 'ending the writer', evictScript, [names.claim], { timeout: 60_000 });
  return answer.includes('evicted');
}

/** Minutes after which a transfer that gave no sign may be a dead one. */
const silentMinutes = 60;

/** Shell function that writes a file whole or not at all. Arguments: file, mode, content in base64. */
const putFunction = `put() { printf '%s' "$3" | base64 -d >"$1.$$" && chmod "$2" "$1.$$" && mv -f -- "$1.$$" "$1"; }`;

/**
 * Shell function that takes the lines of a key out of a file and puts one in their place, or none: whole or not at all, with mode and owner
 * as they were. A full disk must not lock everybody out. Arguments: file, key, line or nothing.
 */
const replaceKeyFunction = String.raw`replace_key() {
  new=$(mktemp -- "$1.XXXXXX") || return 1
  # 1 says that no other line is there.
  if cp -p -- "$1" "$new" && { grep -av " ferry:$2\$" "$1" >"$new" || [ $? -eq 1 ]; } &&
    { [ -z "$3" ] || printf '%s\n' "$3" >>"$new"; } && sync -- "$new" && mv -f -- "$new" "$1"; then return 0; fi
  rm -f -- "$new"
  return 1
}`;

/** Lines do not travel in an argument. */
function inBase64(text: string): string {
  return Buffer.from(text).toString('base64');
}

function keyComment(key: string): string {
  return `ferry:${key}`;
}

/**
 * Arguments: directory, comment of the key, known hosts and configuration of ssh in base64, address of the destination. Keys of transfers whose worker
 * died are of no use any more: silent for an hour, or for a week with a result that nobody read.
 */
const keyScript = String.raw`
umask 077
mkdir -p -- "$1" && cd -- "$1" || exit 1
for dir in $(find /var/lib/ferry/transfers -mindepth 1 -maxdepth 1 -type d ! -name '*[!a-z0-9-]*' -mmin +${silentMinutes}); do
  other=${'$'}{dir##*/}
  [ "$dir" != "$1" ] && [ ! -e "$dir/gate" ] || continue
  case "$(systemctl show -p ActiveState "ferry-$other.service")" in *=inactive | *=failed) ;; *) continue ;; esac
  [ ! -d "/var/lib/ferry/jobs/$other" ] || [ -n "$(find "$dir" -maxdepth 0 -mmin +10080)" ] || continue
  rm -rf -- "$dir" "/var/lib/ferry/jobs/$other"
done
${putFunction}
[ -s id ] && [ -s id.pub ] || { rm -f id id.pub; ssh-keygen -q -t ed25519 -N '' -C "$2" -f id || exit 1; }
put known_hosts 0600 "$3" && put ssh_config 0600 "$4" || exit 1
echo "key=$(cut -d' ' -f1,2 id.pub)"
to=$(getent ahosts "$5" | cut -d' ' -f1 | head -n 1); [ -n "$to" ] || to=$5
echo "from=$(ip -o route get "$to" | sed -n 's/.* src \([^ ]*\).*/\1/p')"
`;

/** Makes the key of a transfer, unless it is there, and what goes with it. Answers also from which addresses the destination sees the source. */
async function makeKey(
  source: HostConnection,
  request: ReplicateInput,
  names: TransferNames,
  cipher: string,
): Promise<{ key: string; addresses: string[] }> {
  const { address } = request.destination;
  const files = [knownHosts(request), sshConfig(request, names, cipher)].map(inBase64);
  const args = [names.directory, keyComment(names.key), ...files, address];
  const fields = parseFields(await runScript(source, 'making a key', keyScript, args));
  const key = fields.get('key') ?? '';
  if (!/^ssh-ed25519 [A-Za-z0-9+/=]+$/.test(key)) {
    throw new TypeError(`ssh-keygen on ${source.host.name} gave no ed25519 key`);
  }
  const candidates = [fields.get('from') ?? '', request.source.address].filter((each) => /^[0-9a-fA-F.:]+$/.test(each));
  if (candidates.length === 0)
    throw new TypeError(`no address of ${request.source.name} towards ${request.destination.name}`);
  return { key, addresses: [...new Set(candidates)] };
}

function knownHosts(request: ReplicateInput): string {
  return request.destination.hostKeys.map((key) => `ferry ${key}\n`).join('');
}

function sshConfig(request: ReplicateInput, names: TransferNames, cipher: string): string {
  const { address, port, user } = request.destination;
  if (!/^[A-Za-z0-9][A-Za-z0-9.:-]*$/.test(address)) throw new TypeError(`not an address: ${JSON.stringify(address)}`);
  const settings: [string, string | number][] = [
    ['HostName', address],
    ['Port', port],
    ['User', user],
    ['HostKeyAlias', 'ferry'],
    ['IdentityFile', `${names.directory}/id`],
    ['IdentitiesOnly', 'yes'],
    ['UserKnownHostsFile', `${names.directory}/known_hosts`],
    ['GlobalKnownHostsFile', '/dev/null'],
    ['StrictHostKeyChecking', 'yes'],
    ['CheckHostIP', 'no'],
    ['BatchMode', 'yes'],
    ['PreferredAuthentications', 'publickey'],
    ['ClearAllForwardings', 'yes'],
    ['ForwardAgent', 'no'],
    ['ForwardX11', 'no'],
    ['ControlPath', 'none'],
    ['ConnectTimeout', 15],
    ['ServerAliveInterval', 10],
    ['ServerAliveCountMax', 3],
    ['Compression', 'no'],
    ['Ciphers', cipher],
    ['LogLevel', 'ERROR'],
  ];
  return `Host ferry\n${settings.map(([name, value]) => `  ${name} ${value}\n`).join('')}`;
}

/**
 * Forced command of the key: an rsync that receives into one directory, with options of a known kind, and only while nobody else writes
 * there. The name `data/` stands for the directory, so no path of the source's choice is ever used.
 */
export function gateScript(destinationPath: string, names: TransferNames): string {
  return String.raw`#!/bin/sh
refuse() { echo "${gateRefused}: $1" >&2; exit 98; }
set -f
umask 077
# What the machine's own language would say of a full disk is not understood at the other end.
LC_ALL=C
export LC_ALL
data=${quote(destinationPath)}
claim=${quote(names.claim)}
busy() { echo "${gateBusy}: another process writes there" >&2; exit 97; }
lock() {
  [ -d "$data" ] && [ "$(realpath -- "$data")" = "$data" ] || refuse 'the destination is gone or was replaced'
  exec 9>>"$claim/lock"
  if [ -z "$stream" ]; then
    flock -n 9 || busy
  else
    # Streams of one pass write side by side. Their token was written while nobody wrote, and is not changed while one of them does.
    flock -n -s 9 && [ "$(cat "$claim/streams" 2>/dev/null)" = "$stream" ] || busy
  fi
  cd -- "$data" || refuse 'the destination cannot be entered'
}
asked=$SSH_ORIGINAL_COMMAND
stream=
case "$asked" in
  'ferry-stream '[0-9a-f]*' rsync --server '* | 'ferry-stream '[0-9a-f]*' ferry-fill')
    asked=${'$'}{asked#ferry-stream }
    stream=${'$'}{asked%% *}
    asked=${'$'}{asked#* } ;;
esac
# rsync makes symlinks, and tar follows those that it finds: the streams of a pass are all of one kind.
[ "$asked" != ferry-fill ] || stream="$stream ${streamsOfTar}"
case "$asked" in
  ferry-check) echo ferry-ready; exit 0 ;;
  ferry-trial)
    echo ferry-ready
    timeout 1 head -c 262144 >/dev/null
    # dd keeps the time itself: what programs take to start would make a fast wire look like a slow one.
    timeout -s INT 0.5 dd bs=65536 of=/dev/null 2>&1 | sed -n 's/^\([0-9]*\) bytes.* copied, \([0-9.e-]*\) s.*/ferry-trial \1 \2/p'
    read -r one five fifteen tasks last </proc/loadavg
    echo "ferry-tasks ${'$'}{tasks%/*} $(nproc)"
    exit 0 ;;
  ferry-tar) lock; find . -xdev -mindepth 1 -delete || refuse 'the destination cannot be emptied'; exec ${unpackCommand} ;;
  ferry-fill)
    lock
    links=$(find . -type l -print -quit) && [ -z "$links" ] || refuse 'a first copy finds no symlinks'
    exec ${unpackStreamCommand} ;;
  *[!-A-Za-z0-9\ .,=/@_:]*) refuse 'odd characters' ;;
  'rsync --server '*) ;;
  *) refuse 'only a transfer comes in here' ;;
esac
set -- $asked
shift 2
count=$#
place=0
while [ "$place" -lt "$count" ]; do
  word=$1
  shift
  place=$((place + 1))
  if [ "$place" -eq "$count" ]; then
    [ "$word" = data/ ] || refuse 'another directory'
    continue
  fi
  if [ "$place" -eq $((count - 1)) ]; then
    [ "$word" = . ] || refuse 'another form'
    continue
  fi
  case "$word" in
    --delete | --delete-before | --delete-during | --delete-delay | --delete-after) ;;
    --existing | --ignore-existing | --force | --numeric-ids | --inplace | --partial | --stats | --fsync | --ignore-times | --no-r | --new-compress | --old-compress) ;;
    --info=* | --bwlimit=* | --modify-window=* | --compress-level=* | --compress-choice=* | --block-size=* | --checksum-choice=* | --log-format=* | --timeout=*)
      case "$word" in */*) refuse 'a path in an option' ;; esac ;;
    -B[0-9]* | -@*) case "$word" in -?*[!-0-9]*) refuse 'an odd number' ;; esac ;;
    --*) refuse "the option $word" ;;
    -*)
      letters=${'$'}{word#-}
      letters=${'$'}{letters%%e.*}
      case "$letters" in *[!lHogDtpAXrRISWcvzn]*) refuse "the options $word" ;; esac ;;
    *) refuse "the word $word" ;;
  esac
  set -- "$@" "$word"
done
[ ! -x ${quote(`${programDirectory(names)}/rsync`)} ] || PATH=${quote(programDirectory(names))}:$PATH
lock
exec rsync --server "$@" . ./
`;
}

/** Arguments: name of the key, its line, directory, claim; in base64 the gate and the file that names the claim. They are there before the key. */
const admitScript = String.raw`
umask 077
files=$(sshd -T 2>/dev/null | sed -n 's/^authorizedkeysfile //p'); [ -n "$files" ] || files=$(/usr/sbin/sshd -T 2>/dev/null | sed -n 's/^authorizedkeysfile //p')
case "$files" in ''|*.ssh/authorized_keys*) ;; *) echo "elsewhere=$files"; return 0;; esac
home=$(getent passwd "$(id -un)" | cut -d: -f6)
${putFunction}
${replaceKeyFunction}
mkdir -p -- "$home/.ssh" /var/lib/ferry && exec 8>>/var/lib/ferry/keys.lock && flock -w 30 8 || return 1
mkdir -p -- "$3" "$4" && put "$3/gate" 0700 "$5" && put "$3/claim" 0600 "$6" || return 1
file=$home/.ssh/authorized_keys
[ -e "$file" ] || : >"$file"
# Keys of transfers that ended without taking theirs away: no directory, or silent for an hour and nobody holds the lock.
fresh=" $1 $(find /var/lib/ferry/transfers -mindepth 1 -maxdepth 1 -type d ! -mmin +${silentMinutes} -printf '%f ')"
for other in $(sed -n 's/.* ferry:\([a-z0-9-]*\)$/\1/p' "$file"); do
  case "$fresh" in *" $other "*) continue ;; esac
  dir=/var/lib/ferry/transfers/$other
  if [ -d "$dir" ]; then
    claim=$(cat "$dir/claim" 2>/dev/null)
    [ -z "$claim" ] || [ ! -e "$claim/lock" ] || flock -n "$claim/lock" true || continue
    rm -rf -- "$dir"
  fi
  replace_key "$file" "$other" '' || return 1
done
replace_key "$file" "$1" "$2" || return 1
touch -- "/var/lib/ferry/transfers/$1"
command -v restorecon >/dev/null && restorecon "$file" 2>/dev/null
:`;

const revokeScript = String.raw`
umask 077
${replaceKeyFunction}
home=$(getent passwd "$(id -un)" | cut -d: -f6); file=$home/.ssh/authorized_keys
if grep -q " ferry:$1\$" "$file" 2>/dev/null; then
  exec 8>>/var/lib/ferry/keys.lock && flock -w 30 8 || return 1
  replace_key "$file" "$1" '' || return 1
  ! grep -q " ferry:$1\$" "$file" || return 1
fi
rm -rf -- "$2"
`;

/** The writer is known by the lock that it holds open, never by its number alone. */
const evictScript = String.raw`
[ -d "$1" ] || return 0
lock=$1/lock
free() { flock -n "$lock" true; }
[ -e "$lock" ] || return 0
free && return 0
holders() { find /proc/[0-9]*/fd -maxdepth 1 -lname "$lock" 2>/dev/null | cut -d/ -f3 | sort -u; }
for signal in TERM KILL; do
  for pid in $(holders); do kill -s "$signal" "$pid" 2>/dev/null; done
  for i in 1 2 3 4 5 6 7 8; do free && { echo evicted; return 0; }; sleep 0.5; done
done
return 1
`;

/** Arguments: claim, key, directory, path, token of the streams, digest of the gate, what streams into an empty place are of. The directory is touched under the lock of the sweepers, so that none takes away what was found. */
const readyScript = String.raw`
evict() {
${evictScript}
}
gate() {
  umask 077
  mkdir -p -- "$2" && exec 8>>/var/lib/ferry/keys.lock && flock -w 30 8 && touch -- "$2" || return 1
  home=$(getent passwd "$(id -un)" | cut -d: -f6)
  [ -x "$2/gate" ] && [ "$(sha256sum <"$2/gate" | cut -d' ' -f1)" = "$3" ] && grep -q " ferry:$1\$" "$home/.ssh/authorized_keys" && echo gate=there
  exec 8>&-
}
ended=$(evict "$1") || return 1
[ -z "$ended" ] || sleep 0.2
streams=$5
if [ -z "$(find "$4" ${contentOfTop} -printf x -quit)" ]; then streams="$5$7"; else echo empty=no; fi
if [ -d "$1" ]; then
  exec 7>>"$1/lock" && flock -n 7 && printf '%s' "$streams" >"$1/streams" || return 1
  exec 7>&-
fi
gate "$2" "$3" "$6" || return 1
[ ! -f "$1/${flushedIn}" ] || [ "$(cat "$1/${flushedIn}")" = "$(cat /proc/sys/kernel/random/boot_id)" ] || echo restarted=yes
find "$4" -type f -printf '%n %s\n' | awk '$1 > 1 { links++ } { bytes += $2 } END { printf "links=%d\nbytes=%.0f\n", links, bytes }'
:
`;
