import type { HostConnection } from '../hosts/contract.ts';
import { contentOfTop } from './directories.ts';
import { parseFields, runScript } from './host-script.ts';
import type { Lately } from './lately.ts';
import type { Mount } from './mounts.ts';
import { parseMountInfo } from './mounts.ts';
import type { EndFacts, TreeFacts } from './rsync-options.ts';
import { parseRsyncVersion, selinuxIsOn } from './rsync-options.ts';
import { opensslDigests } from './tree-scan.ts';

/** A moment on a machine: its clock, and what tells whether the clock was set or the machine restarted since. */
export interface Moment {
  /** Seconds since 1970 with fraction, as text: more digits than a number keeps. */
  epoch: string;
  /** Seconds since the boot. */
  uptime: number;
  bootId: string;
}

export interface EndProbe extends EndFacts {
  /** Resolved path; the directory may be absent at the destination. */
  path: string;
  exists: boolean;
  mounts: Mount[];
  moment: Moment;
}

const probeScript = String.raw`
printf 'path=%s\n' "$(realpath -m -- "$1")"
[ -d "$1" ] && echo exists=yes
echo "epoch=$(date +%s.%N)"; read -r up rest </proc/uptime; echo "uptime=$up"; echo "boot=$(cat /proc/sys/kernel/random/boot_id)"
echo "ciphers=$(ssh -Q cipher 2>/dev/null | tr '\n' ' ')"
grep -qw aes /proc/cpuinfo && echo aes=yes
echo "cores=$(nproc)"
perl -MPOSIX -e 1 2>/dev/null && echo perl=yes
[ -e ${selinuxIsOn} ] && echo selinux=yes
words=$(tar --help 2>/dev/null)
case "$words" in *--acls*) case "$words" in *--xattrs*) echo tar=yes ;; esac ;; esac
echo "--- rsync"; rsync --version 2>/dev/null
echo "--- mounts"; cat /proc/self/mountinfo
:
`;

/** What a machine can do for a transfer of a directory. */
export async function probeEnd(
  connection: HostConnection,
  path: string,
  memory: Lately<EndFacts['digests']>,
): Promise<EndProbe> {
  const [text, digests] = await Promise.all([
    runScript(connection, `looking at ${path}`, probeScript, [path]),
    digestsOf(connection, memory),
  ]);
  const [head = '', rest = ''] = text.split('--- rsync\n');
  const [rsync = '', mounts = ''] = rest.split('--- mounts\n');
  const fields = parseFields(head);
  return {
    path: fields.get('path') ?? path,
    exists: fields.get('exists') === 'yes',
    moment: momentOf(fields),
    ciphers: (fields.get('ciphers') ?? '').split(' ').filter(Boolean),
    aesInHardware: fields.get('aes') === 'yes',
    cores: Number(fields.get('cores') ?? 1),
    perl: fields.get('perl') === 'yes',
    completeTar: fields.get('tar') === 'yes',
    selinux: fields.get('selinux') === 'yes',
    digests,
    rsync: parseRsyncVersion(rsync),
    nanoseconds: undefined,
    mounts: parseMountInfo(mounts),
  };
}

/** From lines with `epoch`, `uptime` and `boot`. */
export function momentOf(fields: Map<string, string>): Moment {
  return {
    epoch: fields.get('epoch') ?? '0',
    uptime: Number(fields.get('uptime') ?? 0),
    bootId: fields.get('boot') ?? '',
  };
}

/** Milliseconds for which the trial of one transfer serves the others of the same machine. */
export const digestsAreKnownFor = 10 * 60_000;

/** What a trial digests: ten milliseconds and more on a fast machine. */
const digestTrialBytes = 16 * 1024 ** 2;

/**
 * Time of the processor, not of the clock: a machine that has work to do digests slowly by the clock, and another digest each time. Bash tells
 * it to the millisecond; where there is none, the usual digest does. sha256 is tried by the program that the verification takes.
 */
const digestScript = String.raw`
spent() { # bytes, command: milliseconds
  said=$(head -c "$1" /dev/zero | LC_ALL=C bash -c 'TIMEFORMAT="%3U %3S"; time "$@" >/dev/null 2>&1' bash $2 2>&1) || return 1
  echo "$said" | awk 'NF == 2 { printf "%.0f\n", ($1 + $2) * 1000 }'
}
trial() { # name, command: without what its start takes
  start=$(spent 1 "$2") && all=$(spent ${digestTrialBytes} "$2") && [ "$all" -gt "$start" ] && echo "digest-$1=$((all - start))"
}
if ${opensslDigests}; then trial sha256 'openssl dgst -sha256 -r'; else trial sha256 sha256sum; fi
trial blake2b b2sum
:
`;

/** Bytes per second of one processor that a machine digests, by digest. Where it cannot be told the usual digest does. */
async function digestsOf(
  connection: HostConnection,
  memory: Lately<EndFacts['digests']>,
): Promise<EndFacts['digests']> {
  const { address, port } = connection.host;
  const trial = async (): Promise<EndFacts['digests']> => {
    const fields = parseFields(await runScript(connection, 'trying the digests', digestScript));
    return { ...speed(fields, 'sha256'), ...speed(fields, 'blake2b') };
  };
  return memory.ask(`${address} ${port}`, trial).catch(() => ({}));
}

function speed(fields: Map<string, string>, name: 'sha256' | 'blake2b'): Partial<Record<typeof name, number>> {
  const milliseconds = Number(fields.get(`digest-${name}`) ?? 0);
  return milliseconds > 0 ? { [name]: (digestTrialBytes * 1000) / milliseconds } : {};
}

export interface SourceTree extends TreeFacts {
  /** Bytes that the tree occupies on its disks. */
  allocated: number;
}

const treeScript = String.raw`
[ -d "$1" ] || return 0
cd -- "$1" || return 1
find . -printf '%y %n %s %b %D:%i\n' | awk '
  { entries++; blocks += $4 }
  $1 == "s" || ($1 ~ /^[pbc]$/ && $2 > 1) { odd++ }
  $1 == "f" { bytes += $3; if ($3 > $4 * 512) holes += $3 - $4 * 512; if ($3 > largest) largest = $3; if ($2 > 1 && ++names[$5] == 2) links++ }
  END { printf "entries=%d\nblocks=%.0f\nbytes=%.0f\nlargest=%.0f\nlinks=%d\nodd=%d\nholes=%.0f\n", entries, blocks, bytes, largest, links, odd, holes }'
`;

/** Size and shape of a tree, nothing where there is none. A tree in use may change under it. */
export async function measureTree(connection: HostConnection, path: string, signal?: AbortSignal): Promise<SourceTree> {
  const text = await runScript(connection, `measuring ${path}`, treeScript, [path], {
    timeout: 6 * 3_600_000,
    ...(signal && { signal }),
  });
  const fields = parseFields(text);
  const number = (name: string): number => Number(fields.get(name) ?? 0);
  return {
    files: number('entries'),
    bytes: number('bytes'),
    allocated: number('blocks') * 512,
    largestFile: number('largest'),
    hardLinks: number('links') > 0,
    beyondTar: number('odd'),
    holes: number('holes'),
    // Nothing here can rule them out, so an rsync without support is refused.
    acls: true,
    xattrs: true,
  };
}

/** Like measureTree; undefined where there is no such directory. */
export async function measureTreeIfThere(
  connection: HostConnection,
  path: string,
  signal?: AbortSignal,
): Promise<SourceTree | undefined> {
  const tree = await measureTree(connection, path, signal);
  // The directory itself is an entry.
  return tree.files === 0 ? undefined : tree;
}

const roomScript = String.raw`
# A symlink names the directory that it leads to.
set -- "$(realpath -m -- "$1")"
d=$1; while [ ! -d "$d" ]; do d=$(dirname -- "$d"); done
stat -f -c 'space=%a %S %d %c' -- "$d"
if [ -d "$1" ]; then
  first=$(find "$1" ${contentOfTop} -printf '%f\n' -quit | head -n 1); printf 'first=%s\n' "$first"
fi
:
`;

/** Free space and the first entry of the destination. An empty lost+found goes with the copy, as everything that the source does not have. */
export async function lookAtDestination(
  connection: HostConnection,
  path: string,
): Promise<{ freeBytes: number; freeInodes: number | undefined; firstEntry: string | undefined }> {
  const fields = parseFields(await runScript(connection, `looking into ${path}`, roomScript, [path]));
  const [blocks = 0, blockSize = 0, inodes = 0, allInodes = 0] = (fields.get('space') ?? '').split(' ').map(Number);
  const first = fields.get('first');
  return {
    freeBytes: blocks * blockSize,
    freeInodes: allInodes === 0 ? undefined : inodes,
    firstEntry: first === undefined || first === '' ? undefined : first,
  };
}

const nanosecondScript = String.raw`
f="$1/.ferry-probe.$2"; : >"$f" && touch -d '@1000000000.123456789' -- "$f" && stat -c 'time=%y' -- "$f"; rm -f -- "$f"
`;

/** Whether the file system of a directory of ours keeps nanoseconds. */
export async function keepsNanoseconds(connection: HostConnection, directory: string, token: string): Promise<boolean> {
  const text = await runScript(connection, `trying ${directory}`, nanosecondScript, [directory, token]);
  return text.includes('.123456789');
}

/**
 * What lies so close before a moment may be after it: kernel ticks, file systems with whole seconds, and a write that takes its time
 * first and is then held up for long because too much waits for the disk. It costs a comparison of content, of files that changed just
 * before a pass.
 */
export const clockSlack = 30;

/**
 * Files whose change time is not older than this may have changed after the moment `base`: seconds since 1970 for `find -newerct`.
 * `all` when the clock cannot be relied on because the machine restarted since. A clock that was set back widens the range.
 */
export function doubtfulSince(base: Moment | undefined, now: Moment): string {
  if (base === undefined || base.bootId !== now.bootId) return 'all';
  const drift = Number(now.epoch) - now.uptime - (Number(base.epoch) - base.uptime);
  const setBack = Math.max(0, Math.ceil(-drift - 0.5));
  const whole = Number(base.epoch.split('.')[0] ?? 0);
  return `${whole - clockSlack - setBack}`;
}
