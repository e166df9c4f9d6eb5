/* Which directories may be written to. The plan is held against this when it is read, the copy once more where it really ends up. */

/** Directories that hold the system or other programs' state: nothing in them is ever a destination. */
const closedTrees = [
  '/bin',
  '/boot',
  '/dev',
  '/etc',
  '/lib',
  '/lib32',
  '/lib64',
  '/libx32',
  '/proc',
  '/run',
  '/sbin',
  '/sys',
  '/usr',
  '/var/cache',
  '/var/lib/dpkg',
  '/var/lib/etcd',
  '/var/lib/ferry',
  '/var/lib/kubelet',
  '/var/lib/rpm',
  '/var/lib/systemd',
  '/var/log',
  '/var/run',
  '/var/spool',
];

/** Directories whose children may be destinations, they themselves never. */
const sharedParents = [
  '/',
  '/home',
  '/media',
  '/mnt',
  '/opt',
  '/root',
  '/srv',
  '/tmp',
  '/var',
  '/var/lib',
  '/var/local',
  '/var/tmp',
];

/** True for the directory itself and everything below it. Both are absolute and without `..`. */
export function isWithin(path: string, directory: string): boolean {
  return path === directory || directory === '/' || path.startsWith(`${directory}/`);
}

/** Why a path can never be a destination, or undefined. */
export function whyClosed(path: string): string | undefined {
  const tree = closedTrees.find((candidate) => isWithin(path, candidate));
  if (tree !== undefined) return `${path} belongs to the system (${tree})`;
  if (sharedParents.includes(path)) return `${path} is a directory of the system that many programs share`;
  return undefined;
}
