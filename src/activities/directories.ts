import { CommandFailed } from '../hosts/errors.ts';
import type { HostConnection } from '../hosts/contract.ts';

/** Size of a directory; bytes are apparent ones, files are everything but directories. */
export interface DirectorySize {
  bytes: number;
  files: number;
}

/** The file system that holds a directory, or would hold it. */
export interface FreeSpace {
  freeBytes: number;
  /** Infinity on file systems without a fixed number. */
  freeInodes: number;
  /** Where the file system is mounted. */
  mount: string;
}

/** What stands at a path: nothing, an empty directory, one with content, a symbolic link, or something else. */
export type PathState = 'absent' | 'empty' | 'filled' | 'link' | 'other';

const hour = 3_600_000;
const minute = 60_000;

// du reads a live tree: files that vanish under it are no failure, so only its last line decides.
const sizeScript =
  'if ! [ -d "$1" ]; then exit 44; fi; b=$(du -s --apparent-size -B1 -- "$1" 2>/dev/null | cut -f1); ' +
  'n=$(find "$1" ! -type d -printf x 2>/dev/null | wc -c); echo "$b $n"';

/** Bytes and files below a directory, undefined when there is none. Reads the whole tree: minutes on a large one. */
export async function measureDirectory(
  connection: HostConnection,
  path: string,
  options: { timeout?: number; signal?: AbortSignal } = {},
): Promise<DirectorySize | undefined> {
  // Idle class: applications are reading the same disks.
  const argv = ['nice', '-n', '19', 'sh', '-c', sizeScript, 'sh', path];
  const result = await connection.run(argv, { timeout: hour, ...options });
  if (result.code === 44) return undefined;
  const [bytes, files] = result.stdout.trim().split(' ').map(Number);
  if (result.code !== 0 || !Number.isSafeInteger(bytes) || !Number.isSafeInteger(files)) {
    throw new CommandFailed(connection.host.name, `measuring ${path}`, result);
  }
  return { bytes: bytes ?? 0, files: files ?? 0 };
}

const spaceScript =
  'p=$1; while ! [ -e "$p" ]; do p=$(dirname -- "$p"); done; ' +
  'df -B1 --output=avail,target -- "$p" | tail -n 1; df --output=iavail,itotal -- "$p" | tail -n 1';

/** Free space where a path is or would be created. */
export async function measureFreeSpace(connection: HostConnection, path: string): Promise<FreeSpace> {
  const result = await connection.run(['sh', '-c', spaceScript, 'sh', path], { timeout: minute });
  const match = /^\s*(?<bytes>\d+)\s+(?<mount>\S.*)\n\s*(?<inodes>\d+|-)\s+(?<total>\d+|-)/.exec(result.stdout);
  if (result.code !== 0 || match?.groups === undefined) {
    throw new CommandFailed(connection.host.name, `asking for the space at ${path}`, result);
  }
  const { bytes, mount, inodes, total } = match.groups;
  const limited = total !== '0' && total !== '-';
  return {
    freeBytes: Number(bytes),
    freeInodes: limited ? Number(inodes) : Number.POSITIVE_INFINITY,
    mount: mount ?? '/',
  };
}

/** For find: what counts at the top of a directory. The root of a fresh ext file system holds an empty lost+found. */
export const contentOfTop = "-mindepth 1 -maxdepth 1 ! '(' -name lost+found -type d -empty ')'";

const stateScript =
  'if [ -L "$1" ]; then echo link; elif ! [ -e "$1" ]; then echo absent; elif ! [ -d "$1" ]; then echo other; ' +
  `elif [ -z "$(find "$1" ${contentOfTop} -print -quit)" ]; then echo empty; else echo filled; fi; ` +
  'readlink -m -- "$1"';

/** What stands at a path, and the path without symbolic links. */
export async function inspectPath(
  connection: HostConnection,
  path: string,
): Promise<{ state: PathState; resolved: string }> {
  const result = await connection.run(['sh', '-c', stateScript, 'sh', path], { timeout: minute });
  const [state = '', resolved = path] = result.stdout.split('\n');
  if (result.code !== 0 || !/^(absent|empty|filled|link|other)$/.test(state)) {
    throw new CommandFailed(connection.host.name, `looking at ${path}`, result);
  }
  return { state: state as PathState, resolved };
}
