import { isWithin } from '../plan/directories.ts';

/** One line of /proc/PID/mountinfo. */
export interface Mount {
  /** `major:minor` of the file system. */
  device: string;
  /** Directory of the file system that is mounted. */
  root: string;
  mountPoint: string;
  type: string;
  writable: boolean;
}

/** Where a directory really is: a file system and a path inside it, whatever it was bound to. */
export interface Place {
  device: string;
  path: string;
  type: string;
}

/** Mounts in the order in which they were made; later ones hide earlier ones. */
export function parseMountInfo(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const words = line.split(' ');
    const separator = words.indexOf('-');
    const [, , device, root, mountPoint, options] = words;
    const type = words[separator + 1];
    if (separator < 6 || device === undefined || root === undefined || mountPoint === undefined) return [];
    const writable = options?.split(',').includes('rw') === true;
    return [{ device, root: decode(root), mountPoint: decode(mountPoint), type: type ?? '', writable }];
  });
}

/** The mount that serves an absolute resolved path. */
export function mountOf(mounts: readonly Mount[], path: string): Mount | undefined {
  let found: Mount | undefined;
  for (const mount of mounts) {
    if (isWithin(path, mount.mountPoint) && mount.mountPoint.length >= (found?.mountPoint.length ?? 0)) found = mount;
  }
  return found;
}

/** Where a resolved path really is. */
export function placeOf(mounts: readonly Mount[], path: string): Place | undefined {
  const mount = mountOf(mounts, path);
  if (mount === undefined) return undefined;
  const rest = path === mount.mountPoint ? '' : path.slice(mount.mountPoint === '/' ? 0 : mount.mountPoint.length);
  const inner = `${mount.root === '/' ? '' : mount.root}${rest}`;
  return { device: mount.device, path: inner === '' ? '/' : inner, type: mount.type };
}

/** All places that a tree shows: its own and those mounted below it. */
export function placesBelow(mounts: readonly Mount[], path: string): Place[] {
  const own = placeOf(mounts, path);
  const below = mounts
    .filter((mount) => mount.mountPoint !== path && isWithin(mount.mountPoint, path))
    .map((mount) => ({ device: mount.device, path: mount.root, type: mount.type }));
  return own === undefined ? below : [own, ...below];
}

/** How two trees of one machine share files: `same`, one `inside` the other, or not at all. */
export function relate(mounts: readonly Mount[], left: string, right: string): 'apart' | 'same' | 'inside' {
  if (left === right) return 'same';
  if (isWithin(left, right) || isWithin(right, left)) return 'inside';
  let relation: 'apart' | 'same' | 'inside' = 'apart';
  for (const a of placesBelow(mounts, left)) {
    for (const b of placesBelow(mounts, right)) {
      if (a.device !== b.device) continue;
      if (a.path === b.path) return 'same';
      if (isWithin(a.path, b.path) || isWithin(b.path, a.path)) relation = 'inside';
    }
  }
  return relation;
}

function decode(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_match, digits: string) => String.fromCharCode(Number.parseInt(digits, 8)));
}
