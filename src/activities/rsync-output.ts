/** Last known figures of a running rsync. */
export interface RsyncProgress {
  bytes: number;
  /** 0 to 100. */
  percent: number;
  bytesPerSecond: number;
  files: number;
}

export interface RsyncStats {
  files: number;
  filesTransferred: number;
  deleted: number;
  totalBytes: number;
  transferredSize: number;
  literalBytes: number;
  matchedBytes: number;
  sent: number;
  received: number;
}

const unitFactors: Record<string, number> = { B: 1, kB: 1000, MB: 1000 ** 2, GB: 1000 ** 3, TB: 1000 ** 4 };
const progressLine =
  /(?<bytes>\d[\d,.]*)\s+(?<percent>\d{1,3})%\s+(?<rate>\d+(?:\.\d+)?)(?<unit>[kMGT]?B)\/s\s+[\d:]+(?:\s+\((?:xfr#|xfer#)(?<files>\d+))?/g;

/**
 * The last progress line in a piece of output, which may begin and end anywhere. Lines that claim more than 100 % or numbers that no
 * computer counts exactly are passed over.
 */
export function parseProgress(text: string): RsyncProgress | undefined {
  let found: RsyncProgress | undefined;
  for (const line of text.split(/[\r\n]/)) {
    for (const match of line.matchAll(progressLine)) {
      const groups = match.groups ?? {};
      const bytes = Number((groups['bytes'] ?? '').replaceAll(/[,.]/g, ''));
      const percent = Number(groups['percent']);
      if (!Number.isSafeInteger(bytes) || percent > 100) continue;
      found = {
        bytes,
        percent,
        bytesPerSecond: Number(groups['rate']) * (unitFactors[groups['unit'] ?? ''] ?? 1),
        files: Number(groups['files'] ?? 0),
      };
    }
  }
  return found;
}

const statFields: [keyof RsyncStats, RegExp][] = [
  ['files', /^Number of files: ([\d,.]+)/m],
  ['filesTransferred', /^Number of (?:regular )?files transferred: ([\d,.]+)/m],
  ['deleted', /^Number of deleted files: ([\d,.]+)/m],
  ['totalBytes', /^Total file size: ([\d,.]+)/m],
  ['transferredSize', /^Total transferred file size: ([\d,.]+)/m],
  ['literalBytes', /^Literal data: ([\d,.]+)/m],
  ['matchedBytes', /^Matched data: ([\d,.]+)/m],
  ['sent', /^Total bytes sent: ([\d,.]+)/m],
  ['received', /^Total bytes received: ([\d,.]+)/m],
];

/** The summary that `--stats` prints; what is absent counts as 0. Undefined when there is none. */
export function parseStats(text: string): RsyncStats | undefined {
  if (!/^Number of files: /m.test(text)) return undefined;
  const stats: RsyncStats = {
    files: 0,
    filesTransferred: 0,
    deleted: 0,
    totalBytes: 0,
    transferredSize: 0,
    literalBytes: 0,
    matchedBytes: 0,
    sent: 0,
    received: 0,
  };
  for (const [field, expression] of statFields) {
    const value = Number((expression.exec(text)?.[1] ?? '0').replaceAll(/[,.]/g, ''));
    stats[field] = Number.isSafeInteger(value) ? value : 0;
  }
  return stats;
}

/** Exit codes as rsync documents them. */
const meanings: Record<number, string> = {
  1: 'syntax or usage error',
  2: 'protocol incompatibility',
  3: 'errors selecting input/output files, dirs',
  4: 'requested action not supported',
  5: 'error starting client-server protocol',
  10: 'error in socket I/O',
  11: 'error in file I/O',
  12: 'error in rsync protocol data stream',
  13: 'errors with program diagnostics',
  14: 'error in IPC code',
  20: 'received SIGUSR1 or SIGINT',
  21: 'some error returned by waitpid()',
  22: 'error allocating core memory buffers',
  23: 'partial transfer due to error',
  24: 'partial transfer due to vanished source files',
  25: 'the --max-delete limit stopped deletions',
  30: 'timeout in data send/receive',
  35: 'timeout waiting for daemon connection',
  255: 'the ssh connection failed',
};

export interface RsyncEnd {
  /**
   * done: everything copied. vanished: files went away under a live pass. again, link (ssh between the two machines): heals by itself.
   * no-space, disk, busy, refused, partial, broken: somebody must look.
   */
  kind: 'done' | 'vanished' | 'again' | 'link' | 'no-space' | 'disk' | 'busy' | 'refused' | 'partial' | 'broken';
  /** Code with its documented meaning, and what rsync said. */
  why: string;
  /** Whose files the errors are about, where they tell. */
  at?: Side;
  /** Of `disk`: what is wrong with it, and what helps. */
  disk?: { is: string; helps: string };
}

type Side = 'source' | 'destination';

/** Printed by the forced command of the destination. */
export const gateBusy = 'ferry: busy';
export const gateRefused = 'ferry: refused';

/** What an exit code of rsync means for a transfer, with the lines of its stderr. 24 is only right while the source is in use. */
export function judgeExit(code: number, stderr: string, isLive: boolean): RsyncEnd {
  const said = sayings(stderr);
  const why = `rsync ended with ${code} (${meanings[code] ?? 'not documented'})${said === '' ? '' : `: ${said}`}`;
  if (code === 0) return { kind: 'done', why: '' };
  const trouble = judgeTroubles(stderr) ?? judgeDisk(stderr);
  if (trouble !== undefined) return { ...trouble, why };
  if (code === 24) return { kind: isLive ? 'vanished' : 'partial', why };
  if (code === 23 && isLive && onlyChanged(stderr)) return { kind: 'vanished', why };
  if (code === 23 && onlyStale(stderr)) return { kind: 'again', why };
  // Its two ends disagree when all names of a file that has several go away under it.
  if (code === 2 && isLive && onlyChanged(stderr.replace(/^Invalid packet at end of run .*$/m, '')))
    return { kind: 'again', why };
  if (code === 255) return { kind: 'link', why };
  // A machine that is short of memory or of open files for a moment.
  if ([10, 12, 20, 21, 22, 30, 35].includes(code) || code > 128 || isShortOf.test(stderr))
    return { kind: 'again', why };
  if (code === 11 || code === 23) {
    const at = stderr.split('\n').map(sideOf).find(Boolean);
    return { kind: 'partial', why, ...(at && { at }) };
  }
  return { kind: 'broken', why };
}

const isShortOf = /: (?:Too many open files(?: in system)?|Cannot allocate memory)(?: \(\d+\))?$/m;

/**
 * 11 is any error of reading or writing, and 23 holds them as well: the words of the system tell what it was. None of these goes away by
 * itself.
 */
const diskTroubles: { said: RegExp; is: string; helps: string }[] = [
  {
    said: /Read-only file system/,
    is: 'the file system is read-only',
    helps: 'find out why (dmesg: the kernel does it after an error of the disk), mount it for writing',
  },
  {
    said: /Input\/output error|Structure needs cleaning|Bad message/,
    is: 'the disk gives errors',
    helps: 'look at the disk (dmesg, smartctl), restore or remove the files named',
  },
  {
    said: /Stale (?:NFS )?file handle|Transport endpoint is not connected/,
    is: 'the storage behind the directory is gone',
    helps: 'mount it again',
  },
  {
    said: /File too large/,
    is: 'the file system or a limit of sshd there (ulimit -f) allows no file so large',
    helps: 'raise it or name a directory on another file system',
  },
  {
    said: /(?:xattr|set_acl|sys_acl|Cannot set (?:POSIX ACLs|'[^']*' extended attribute)).*(?:Operation not supported|not supported)/,
    is: 'the file system keeps no ACLs or extended attributes, and the source has some',
    helps: 'name a directory on a file system that does',
  },
  {
    said: /security\.selinux.*(?:Permission denied|Operation not permitted|Invalid argument)/,
    is: 'SELinux does not let the labels of files become those of the source',
    helps: 'boot it with selinux=0 until the migration has ended (permissive is not enough)',
  },
];

/** A disk that cannot do what was asked of it. `side` where only one can have spoken. */
export function judgeDisk(stderr: string, side?: Side): Pick<RsyncEnd, 'kind' | 'at' | 'disk'> | undefined {
  for (const line of stderr.split('\n')) {
    const trouble = diskTroubles.find(({ said }) => said.test(line));
    const at = side ?? sideOf(line);
    if (trouble === undefined || at === undefined) continue;
    return { kind: 'disk', at, disk: { is: trouble.is, helps: trouble.helps } };
  }
  return undefined;
}

/** Who said a line: newer versions name the process, of older ones the call tells. Undefined where it is no error about a file. */
function sideOf(line: string): Side | undefined {
  if (!/^rsync: .* \(\d+\)$/.test(line.trim())) return undefined;
  const process = /^rsync: \[(\w+)\]/.exec(line)?.[1]?.toLowerCase();
  if (process !== undefined) return process === 'sender' ? 'source' : 'destination';
  return /^rsync: (?:send_files|read errors mapping|link_stat|readlink_stat|readlink|opendir|readdir|change_dir|push_dir|get_acl|get_xattr_names|rsync_xal_get)\b/.test(
    line,
  )
    ? 'source'
    : 'destination';
}

/** What is said about the road and the room, whichever program moves the bytes. */
export function judgeTroubles(stderr: string): { kind: 'busy' | 'refused' | 'no-space' } | undefined {
  if (stderr.includes(gateBusy)) return { kind: 'busy' };
  if (stderr.includes(gateRefused)) return { kind: 'refused' };
  if (/No space left on device|Disk quota exceeded/.test(stderr)) return { kind: 'no-space' };
  if (/Host key verification failed|Permission denied \([a-z]|REMOTE HOST IDENTIFICATION/.test(stderr))
    return { kind: 'refused' };
  return undefined;
}

/** It was a directory when it was looked at; what is none has no default ACL, and the kernel says so in these words. */
const staleAcl =
  /^rsync: (?:\[(?:generator|receiver)\] )?get_acl: sys_acl_get_file\(.*, ACL_TYPE_DEFAULT\): Permission denied \(13\)$/;

/**
 * True when rsync only asked for the ACL of a directory that it had itself made a further name of a file meanwhile, as 3.5.0 does.
 * Nothing is amiss with what it copied, and it does not say so of the same files again.
 */
function onlyStale(stderr: string): boolean {
  const lines = wordsOf(stderr).filter(
    (line) => !line.startsWith('rsync error: some files/attrs were not transferred'),
  );
  return lines.length > 0 && lines.every((line) => staleAcl.test(line));
}

/** What the sender says of a file that became a symlink, a directory or shorter between being listed and being read. */
const changedLines = [
  /(?:file|directory) has vanished/,
  /some files vanished|some files\/attrs were not transferred/,
  /^rsync error: protocol incompatibility \(code 2\)/,
  /^IO error encountered -- skipping file deletion/,
  /failed verification -- update (?:discarded|retained|put into partial-dir)/,
  /^rsync: (?:\[sender\] .*|(?:send_files|read errors|link_stat|readlink_stat|opendir|readdir|get_xattr|rsync_xal_get|l?(?:get|list)xattr).*) \((?:2|6|20|21|40|61)\)$/,
  /link_stat .* failed: No such file or directory/,
  staleAcl,
];

/** True when nothing but the liveness of the source explains the errors; files that changed so are looked at again by the next pass. */
function onlyChanged(stderr: string): boolean {
  const lines = wordsOf(stderr);
  return lines.length > 0 && lines.every((line) => changedLines.some((expression) => expression.test(line)));
}

function wordsOf(stderr: string): string[] {
  return stderr
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '');
}

const sayingsKept = 8;

/** The first error lines, without ssh's banners and rsync's closing line. */
export function sayings(stderr: string): string {
  const lines = wordsOf(stderr).filter(
    (line) => !/^rsync error: .*\(code \d+\)/.test(line) && !/^Warning: Permanently added/.test(line),
  );
  const rest = lines.length > sayingsKept ? `; and ${lines.length - sayingsKept} more lines` : '';
  return (
    lines
      .slice(0, sayingsKept)
      .map((line) => line.slice(0, 300))
      .join('; ') + rest
  );
}
