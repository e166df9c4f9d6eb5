import { describe, expect, it } from 'vitest';
import { usersOf } from '../../../src/activities/transfer-users.ts';
import type { HostConnection } from '../../../src/hosts/contract.ts';

const line = (device: string, root: string, mountPoint: string, options = 'rw'): string =>
  `1 2 ${device} ${root} ${mountPoint} ${options} - ext4 /dev/x rw\n`;

/** A machine that answers what the look at it prints. */
function machine(stdout: string): HostConnection {
  return {
    host: { name: 'old1', address: '10.0.0.1', port: 22, user: 'root', hostKeys: [] },
    run: () => Promise.resolve({ code: 0, signal: null, stdout, stderr: '' }),
    readFile: () => Promise.resolve(undefined),
    writeFile: () => Promise.resolve(),
  };
}

const sections = (own: string, containers = '', cron = '', processes = ''): string =>
  `${own}=== containers\n${containers}=== cron\n${cron}=== processes\n${processes}`;

const rootDisk = line('8:1', '/', '/');
const dataDisk = line('8:16', '/', '/data/redis');
const parentDisk = line('8:16', '/', '/data');
const image = line('0:40', '/', '/');

describe('a container counts as a user of a directory', () => {
  it.each<[string, string, string, boolean]>([
    ['a directory of the root disk', rootDisk, image + line('8:1', '/data/redis', '/var/lib/redis'), true],
    ['a directory below it', rootDisk, image + line('8:1', '/data/redis/aof', '/aof'), true],
    ['a directory above it', rootDisk, image + line('8:1', '/data', '/data'), true],
    ['a directory above it, to read', rootDisk, image + line('8:1', '/data', '/data', 'ro'), false],
    ['the disk that it lies on', rootDisk + parentDisk, image + line('8:16', '/', '/data'), true],
    ['the disk that it lies on, to read', rootDisk + parentDisk, image + line('8:16', '/', '/data', 'ro'), false],
    ['the whole machine, to read', rootDisk, image + line('8:1', '/', '/rootfs', 'ro'), false],
    [
      'the whole machine with the disk above it',
      rootDisk + parentDisk,
      image + line('8:1', '/', '/host') + line('8:16', '/', '/host/data'),
      false,
    ],
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
    const text = sections(own, `=== 77 redis pod.scope\n${container}`);
    const users = await usersOf(machine(text), '/data/redis', 'write');

    expect(users.map(({ kind }) => kind)).toEqual(isUser ? ['container'] : []);
  });

  it('that mounts it to read, not one that reads what lies above, where nobody may use it', async () => {
    const container = (pid: number, root: string): string =>
      `=== ${pid} reader pod.scope\n${image}${line('8:1', root, '/x', 'ro')}`;
    const text = sections(rootDisk, container(1, '/data/redis') + container(2, '/data'));
    const users = await usersOf(machine(text), '/data/redis', 'any');

    expect(users.map(({ text: said }) => said)).toEqual([expect.stringContaining('(pid 1)')]);
  });
});

describe('the users of a directory', () => {
  it('are told apart by the section that they stand in', async () => {
    const container = `=== 77 redis pod.scope\n${image}${line('8:1', '/data/redis', '/var/lib/redis')}`;
    const held = 'writes\tredis-server (pid 812, redis.service) has appendonly.aof open for writing\n';
    const users = await usersOf(
      machine(sections(rootDisk, container, '/etc/cron.d/save\n', held)),
      '/data/redis',
      'any',
    );

    expect(users).toEqual([
      { kind: 'writes', text: expect.stringContaining('appendonly.aof') as string },
      { kind: 'container', text: expect.stringContaining('pid 77') as string },
      { kind: 'cron', text: 'the cron table /etc/cron.d/save names it' },
    ]);
  });

  it('are found also when a name looks like a section', async () => {
    const held = 'writes\tperl (pid 5, x.service) has a\n=== cron\nopens\tperl (pid 6, y.service) has b open\n';
    const users = await usersOf(machine(sections(rootDisk, '', '', held)), '/data/redis', 'any');

    expect(users.map(({ kind }) => kind)).toEqual(['writes', 'opens']);
  });

  it('are not taken for none where the answer breaks off', async () => {
    const text = sections(rootDisk).replace('=== processes\n', '');

    await expect(usersOf(machine(text), '/data/redis', 'any')).rejects.toThrow('=== processes');
  });
});
