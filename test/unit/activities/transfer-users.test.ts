import { describe, expect, it } from 'vitest';
import { usersOf } from '../../../src/activities/transfer-users.ts';
import type { HostConnection } from '../../../src/hosts/contract.ts';

const line = (device: string, root: string, mountPoint: string, options = 'rw'): string =>
  `1 2 ${device} ${root} ${mountPoint} ${options} - ext4 /dev/x rw\n`;

/** A machine with its own mounts, and one container with others. */
function machine(own: string, container: string): HostConnection {
  return {
    host: { name: 'old1', address: '10.0.0.1', port: 22, user: 'root', hostKeys: [] },
    run: (_argv, { input } = {}) => {
      const script = String(input);
      const stdout = script.includes('/ns/mnt')
        ? `=== 77 redis pod.scope\n${container}`
        : script.includes('cat /proc/self/mountinfo')
          ? own
          : '';
      return Promise.resolve({ code: 0, signal: null, stdout, stderr: '' });
    },
    readFile: () => Promise.resolve(undefined),
    writeFile: () => Promise.resolve(),
  };
}

const rootDisk = line('8:1', '/', '/');
const dataDisk = line('8:16', '/', '/data/redis');
const image = line('0:40', '/', '/');

describe('a container counts as a user of a directory', () => {
  it.each<[string, string, string, boolean]>([
    ['a directory of the root disk', rootDisk, image + line('8:1', '/data/redis', '/var/lib/redis'), true],
    ['a directory below it', rootDisk, image + line('8:1', '/data/redis/aof', '/aof'), true],
    ['its neighbour', rootDisk, image + line('8:1', '/data/redis2', '/var/lib/redis'), false],
    ['the same by its name on another disk', rootDisk + dataDisk, image + line('8:1', '/data/redis', '/x'), false],
    ['a disk of its own', rootDisk + dataDisk, image + line('8:16', '/', '/var/lib/redis'), true],
    ['a disk of its own, to read', rootDisk + dataDisk, image + line('8:16', '/', '/var/lib/redis', 'ro'), false],
    ['the whole machine', rootDisk, image + line('8:1', '/', '/host'), false],
    [
      'the whole machine with its disks',
      rootDisk + dataDisk,
      image + line('8:1', '/', '/host') + line('8:16', '/', '/host/data/redis'),
      false,
    ],
    [
      'the whole machine, and the disk for itself',
      rootDisk + dataDisk,
      image + line('8:1', '/', '/host') + line('8:16', '/', '/host/data/redis') + line('8:16', '/', '/mine'),
      true,
    ],
  ])('that mounts %s', async (_name, own, container, isUser) => {
    const users = await usersOf(machine(own, container), '/data/redis', 'write');

    expect(users.map(({ kind }) => kind)).toEqual(isUser ? ['container'] : []);
  });
});
