import type { CopyChoice } from './transfer-contract.ts';
import { streamsOf } from './transfer-streams.ts';

/** What rsync of one machine can do, from `rsync --version`. */
export interface RsyncFacts {
  version: string;
  acls: boolean;
  xattrs: boolean;
  compress: string[];
}

/** What one machine brings along for a transfer. */
export interface EndFacts {
  rsync: RsyncFacts | undefined;
  /** The file system keeps nanoseconds; undefined where it was not tried. */
  nanoseconds: boolean | undefined;
  ciphers: string[];
  aesInHardware: boolean;
  /** Digest tools found, with bytes per second of a short trial. */
  digests: Partial<Record<'sha256' | 'blake2b', number>>;
  cores: number;
  /** perl with the modules that describing a tree needs; absent: nobody looked. */
  perl?: boolean;
  /** Its tar carries ACLs and extended attributes; absent: nobody looked. */
  completeTar?: boolean;
  /** The kernel labels every file for SELinux, enforcing or not; absent: nobody looked. */
  selinux?: boolean;
}

/** Is there while the kernel labels files. */
export const selinuxIsOn = '/sys/fs/selinux/enforce';

/** What the data asks for. */
export interface TreeFacts {
  hardLinks: boolean;
  /** Sockets, and pipes and devices with several names. */
  beyondTar?: number;
  acls: boolean;
  xattrs: boolean;
  largestFile: number;
  files: number;
  bytes: number;
  /** Bytes of the files that lie on no disk. Absent: not known. */
  holes?: number;
}

export interface Wishes {
  mode: 'live' | 'final';
  sameHost: boolean;
  limitKiBps: number;
  /** Bytes per second that the wire carried when it was tried, 0 = unknown. */
  linkBytesPerSecond: number;
}

/** A combination that would lose something: `why` names it, `wayOut` what helps. */
export class CopyRefused extends Error {
  override readonly name = 'CopyRefused';
  readonly wayOut: string;

  constructor(why: string, wayOut: string) {
    super(why);
    this.wayOut = wayOut;
  }
}

/** Output of `rsync --version`, any version from 2.6 on; undefined when it is not rsync's. */
export function parseRsyncVersion(text: string): RsyncFacts | undefined {
  const version = /^rsync\s+version\s+v?(\d+\.\d+(?:\.\d+)?)/m.exec(text)?.[1];
  if (version === undefined) return undefined;
  const words = text.replaceAll(/\s+/g, ' ');
  const list = /Compress list: ([a-z0-9 ]+?) (?:Daemon|rsync|$)/.exec(words)?.[1];
  return {
    version,
    acls: /\bACLs\b/.test(words) && !/\bno ACLs\b/.test(words),
    xattrs: /\bxattrs\b/.test(words) && !/\bno xattrs\b/.test(words),
    compress: list === undefined ? ['zlib'] : list.split(' ').filter((name) => name !== 'none'),
  };
}

/** True when version `left` is `right` or later. */
export function isAtLeast(left: string, right: string): boolean {
  const a = left.split('.').map(Number);
  const b = right.split('.').map(Number);
  for (let index = 0; index < 3; index += 1) {
    const difference = (a[index] ?? 0) - (b[index] ?? 0);
    if (difference !== 0) return difference > 0;
  }
  return true;
}

/** Older ones carry neither ACLs nor extended attributes. */
export const oldestRsync = '3.0.0';
const blockSize = 16 * 1024;
/** Above it the list of block digests grows too long for memory. */
const largestForSmallBlocks = 16 * 1024 ** 3;
const large = 64 * 1024 ** 2;
const MiB = 1024 ** 2;
/**
 * Bytes per second up to which each compression pays: it must give back on the wire what one core spends on it. Measured per byte, with
 * data of which half is random, zstd at level 3 costs the sender five times what an uncompressed copy does and saves two fifths, at
 * level 1 two and a half times and a third, lz4 half as much again and a fifth. One core fills a gigabit at level 3 (docs/benchmarks.md).
 */
const paysUpTo = { zstdWell: 120 * MiB, zstdFast: 160 * MiB, lz4: 300 * MiB, zlib: 10 * MiB };
/** Between a gigabit and the speed of a core compression takes a core that must not be needed elsewhere. */
const coresForFastLink = 4;

/** How to copy, from what both ends can do. Throws CopyRefused where something would be lost. */
export function chooseCopy(source: EndFacts, destination: EndFacts, tree: TreeFacts, wishes: Wishes): CopyChoice {
  const reasons: string[] = [];
  refuseUnproved(source, destination);
  refuseLabels(source, destination);
  const digest = chooseDigest(source, destination);
  const cipher = chooseCipher(source, destination);
  if (digest === 'blake2b') reasons.push('digest blake2b: faster than sha256 on both machines');
  if (!wishes.sameHost && cipher.startsWith('chacha')) reasons.push('cipher ChaCha20: no AES in hardware');
  const link = wishes.linkBytesPerSecond;
  const common = { cipher, digest, reasons, ...(link > 0 && { linkBytesPerSecond: Math.round(link) }) };
  const missing = [source.rsync === undefined && 'the source', destination.rsync === undefined && 'the destination'];
  if (source.rsync === undefined || destination.rsync === undefined) {
    const beyond = tree.beyondTar ?? 0;
    if (wishes.mode === 'final' && beyond > 0) {
      throw new CopyRefused(
        `the tree has ${beyond} sockets, or pipes and devices with several names, which tar cannot carry, and there is no rsync on ${missing.filter(Boolean).join(' and ')}`,
        'remove them (find -type s), nobody listens on them any more; or install rsync',
      );
    }
    refuseSimpleTar(source, destination);
    reasons.push(`tar over ssh: no rsync on ${missing.filter(Boolean).join(' and ')}; every pass copies everything`);
    const plain = { nanoseconds: destination.nanoseconds !== false, inplace: false, sparse: true, blockSize: 0 };
    return { ...common, ...plain, tool: 'tar', compress: 'none', info: false, streams: 1 };
  }
  const both = (version: string): boolean =>
    isAtLeast(source.rsync?.version ?? '0', version) && isAtLeast(destination.rsync?.version ?? '0', version);
  const versions = `${source.rsync.version} and ${destination.rsync.version}`;
  if (!both(oldestRsync)) {
    throw new CopyRefused(
      `rsync ${versions} is too old to carry ACLs and extended attributes`,
      `install rsync ${oldestRsync} or later on both machines, or let the worker lend its own (bringRsync)`,
    );
  }
  refuseLosses(source.rsync, destination.rsync, tree);
  const nanoseconds = both('3.1.3') && destination.nanoseconds !== false;
  if (!nanoseconds) {
    reasons.push(
      both('3.1.3')
        ? 'times to the second: the file system of the destination keeps no nanoseconds'
        : `times compared to the second: rsync ${versions} (3.1.3 compares nanoseconds)`,
    );
  }
  let inplace = both('3.3.0');
  if (!inplace) reasons.push(`no writing in place: rsync ${versions} cannot do it for files with holes (3.3.0 can)`);
  if (inplace && tree.hardLinks) {
    inplace = false;
    reasons.push(
      'no writing in place: a file with several names would pass its content on to a name that was replaced',
    );
  }
  if (tree.hardLinks && !wishes.sameHost) reasons.push('one stream: some file has several names');
  const small = tree.largestFile >= large && tree.largestFile <= largestForSmallBlocks;
  if (small) reasons.push(`blocks of ${blockSize / 1024} KiB: a file of ${Math.round(tree.largestFile / MiB)} MiB`);
  const { forHoles, ...compression } = chooseCompression(source, destination, tree, wishes, reasons);
  // tar knows holes, and where the wire is slow rsync's compression counts for more than its price.
  const isFastWire = compression.compress === 'none' || forHoles === true;
  const canTar = source.completeTar === true && destination.completeTar === true;
  return {
    ...common,
    tool: 'rsync',
    nanoseconds,
    inplace,
    sparse: true,
    blockSize: small ? blockSize : 0,
    ...compression,
    ...(isFastWire && canTar && !wishes.sameHost && { tarFirst: true }),
    info: both('3.1.0'),
    // Streams would part files that have several names.
    streams: tree.hardLinks ? 1 : streamsOf(source, destination),
  };
}

const bothEnds = (source: EndFacts, destination: EndFacts): ['source' | 'destination', EndFacts][] => [
  ['source', source],
  ['destination', destination],
];

/** Told before the copy, not in the window: without perl both sides cannot be compared in the end. */
function refuseUnproved(source: EndFacts, destination: EndFacts): void {
  const without = bothEnds(source, destination).flatMap(([end, { perl }]) => (perl === false ? [end] : []));
  if (without.length === 0) return;
  throw new CopyRefused(
    `there is no perl with its module POSIX on the ${without.join(' and the ')}, and without it no copy can be proved`,
    `install perl on the ${without.join(' and the ')} (perl-base; on other systems perl-interpreter and perl-POSIX)`,
  );
}

/**
 * What the kernel labels cannot be made equal to what has no labels: it lets nobody take one away, in permissive mode neither, and rsync
 * tries to. A copy by tar would find it out in the window, when both sides are compared.
 */
function refuseLabels(source: EndFacts, destination: EndFacts): void {
  if (source.selinux === false && destination.selinux === true) throw new CopyRefused(whyLabels, wayOutOfLabels);
}

export const whyLabels = 'SELinux labels every file at the destination, and is off at the source';
export const wayOutOfLabels =
  'boot the destination with selinux=0 on the line of its kernel until the migration has ended (permissive is not enough: the labels stay), then let it label what came: touch /.autorelabel';

function refuseSimpleTar(source: EndFacts, destination: EndFacts): void {
  const simple = bothEnds(source, destination).flatMap(([end, { completeTar }]) =>
    completeTar === false ? [end] : [],
  );
  if (simple.length === 0) return;
  throw new CopyRefused(
    `there is no rsync, and tar on the ${simple.join(' and the ')} carries no ACLs and extended attributes`,
    'install rsync or GNU tar 1.27 or later there, or let the worker lend its rsync (bringRsync)',
  );
}

function refuseLosses(source: RsyncFacts, destination: RsyncFacts, tree: TreeFacts): void {
  for (const [end, facts] of [
    ['source', source],
    ['destination', destination],
  ] as const) {
    const lost = lostBy(facts, tree);
    if (lost.length > 0) {
      throw new CopyRefused(
        `the tree has ${lost.join(' and ')}, and rsync ${facts.version} of the ${end} was built without them`,
        `install a complete rsync on the ${end}, or let the worker lend its own (bringRsync)`,
      );
    }
  }
}

function lostBy(facts: RsyncFacts, tree: Pick<TreeFacts, 'acls' | 'xattrs'>): string[] {
  return [
    ...(tree.acls && !facts.acls ? ['ACLs'] : []),
    ...(tree.xattrs && !facts.xattrs ? ['extended attributes'] : []),
  ];
}

/** Why the rsync of a machine cannot carry everything that a tree has; undefined when it can. */
export function whyUseless(facts: RsyncFacts, tree: Pick<TreeFacts, 'acls' | 'xattrs'>): string | undefined {
  if (!isAtLeast(facts.version, oldestRsync)) return 'is too old to carry ACLs and extended attributes';
  const lost = lostBy(facts, tree);
  return lost.length === 0 ? undefined : `was built without ${lost.join(' and ')}`;
}

function chooseCompression(
  source: EndFacts,
  destination: EndFacts,
  tree: TreeFacts,
  wishes: Wishes,
  reasons: string[],
): Pick<CopyChoice, 'compress' | 'compressLevel'> & { forHoles?: true } {
  const plain = { compress: 'none' } as const;
  if (wishes.sameHost) return plain;
  const limit = wishes.limitKiBps * 1024;
  const known = [limit, wishes.linkBytesPerSecond].filter((rate) => rate > 0);
  if (known.length === 0) {
    reasons.push('not compressed: the speed of the wire is not known');
    return plain;
  }
  const rate = Math.min(...known);
  const has = (name: string): boolean =>
    [source, destination].every((end) => end.rsync?.compress.includes(name) ?? false);
  const wire = `${rate === limit ? 'the limit' : 'the wire'} (${Math.round(rate / MiB)} MiB/s)`;
  if (has('zstd') && rate <= paysUpTo.zstdFast) {
    const compressLevel = rate <= paysUpTo.zstdWell ? 3 : 1;
    reasons.push(`compressed by zstd at level ${compressLevel}: ${wire} is slower than it`);
    return { compress: 'zstd', compressLevel };
  }
  const isSpare = Math.min(source.cores, destination.cores) >= coresForFastLink;
  if (has('lz4') && (rate <= paysUpTo.zstdFast || (rate <= paysUpTo.lz4 && isSpare))) {
    reasons.push(`compressed by lz4: ${wire} is slower than it`);
    return { compress: 'lz4' };
  }
  if (rate <= paysUpTo.zlib) {
    reasons.push(`compressed by zlib: ${wire} is very slow and nothing faster is on both machines`);
    return { compress: 'zlib' };
  }
  const forHoles = methodForHoles(tree, rate, has);
  if (forHoles !== undefined) {
    const holes = Math.round((tree.holes ?? 0) / MiB);
    reasons.push(`compressed by ${forHoles.compress}: ${holes} MiB of holes would travel as zeros over ${wire}`);
    return { ...forHoles, forHoles: true };
  }
  const isSlow = rate <= paysUpTo.zstdFast;
  reasons.push(
    isSlow
      ? `not compressed: zlib, all that both machines have, is slower than ${wire}`
      : `not compressed: it would be slower than ${wire}`,
  );
  return plain;
}

/** Bytes per second that one core compresses, of data and of zeros: rsync reads a hole as zeros, and sends them all unless it compresses. */
const compressionSpeeds = [
  { choice: { compress: 'zstd', compressLevel: 1 }, data: 200 * MiB, zeros: 800 * MiB },
  { choice: { compress: 'lz4' }, data: 400 * MiB, zeros: 700 * MiB },
  { choice: { compress: 'zlib' }, data: 30 * MiB, zeros: 100 * MiB },
] as const;
/** Fewer holes are not worth the thought; every file system leaves some. */
const holesThatCount = 64 * MiB;

/** What makes the whole copy faster because of its holes, although it slows the data down. */
function methodForHoles(
  tree: TreeFacts,
  rate: number,
  has: (name: string) => boolean,
): Pick<CopyChoice, 'compress' | 'compressLevel'> | undefined {
  const { holes = 0 } = tree;
  if (holes < holesThatCount) return undefined;
  const data = tree.bytes - holes;
  const best = compressionSpeeds
    .filter(({ choice }) => has(choice.compress))
    .map((speeds) => ({ ...speeds, seconds: data / Math.min(rate, speeds.data) + holes / speeds.zeros }))
    .toSorted((left, right) => left.seconds - right.seconds)[0];
  return best !== undefined && best.seconds < tree.bytes / rate ? best.choice : undefined;
}

const ciphersByPreference = [
  'aes128-gcm@openssh.com',
  'aes256-gcm@openssh.com',
  'chacha20-poly1305@openssh.com',
  'aes128-ctr',
  'aes256-ctr',
];

/** Ciphers of the link, the fastest first; the other end picks the first it knows as well. */
function chooseCipher(source: EndFacts, destination: EndFacts): string {
  const known = ciphersByPreference.filter((name) => source.ciphers.length === 0 || source.ciphers.includes(name));
  const isFast = source.aesInHardware && destination.aesInHardware;
  const sorted = isFast
    ? known
    : known.toSorted((a, b) => Number(b.startsWith('chacha')) - Number(a.startsWith('chacha')));
  return sorted.join(',');
}

function chooseDigest(source: EndFacts, destination: EndFacts): CopyChoice['digest'] {
  const speed = (name: 'sha256' | 'blake2b'): number =>
    Math.min(source.digests[name] ?? 0, destination.digests[name] ?? 0);
  return speed('blake2b') > speed('sha256') * 1.1 ? 'blake2b' : 'sha256';
}

/** Options that every pass of a choice has, without source, destination and remote shell. */
export function rsyncOptions(choice: CopyChoice, limitKiBps: number): string[] {
  return [
    '-aHAX',
    ...(choice.sparse ? ['-S'] : []),
    '--numeric-ids',
    '--force',
    ...(choice.nanoseconds ? ['--modify-window=-1'] : []),
    ...(choice.inplace ? ['--inplace'] : ['--partial']),
    ...(choice.blockSize > 0 ? [`--block-size=${choice.blockSize}`] : []),
    ...compression(choice),
    ...(limitKiBps > 0 ? [`--bwlimit=${limitKiBps}`] : []),
    ...(choice.info ? ['--info=progress2,stats2,name0,flist0'] : ['--stats', '--progress']),
  ];
}

function compression({ compress, compressLevel = 1 }: CopyChoice): string[] {
  switch (compress) {
    case 'none':
      return [];
    case 'zstd':
      return ['--compress', '--compress-choice=zstd', `--compress-level=${compressLevel}`];
    case 'lz4':
      return ['--compress', '--compress-choice=lz4'];
    case 'zlib':
      return ['--compress', '--compress-level=1'];
  }
}
