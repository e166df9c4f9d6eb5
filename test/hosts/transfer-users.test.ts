import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import { freshName, script } from './machines.ts';
import type { Mover } from './transfer-setup.ts';
import { once, openMover, prepare, sweep } from './transfer-setup.ts';

let mover: Mover;
const requests: ReplicateInput[] = [];

beforeAll(async () => {
  mover = await openMover();
});
afterAll(async () => {
  for (const request of requests) await sweep(mover, request);
  await mover.close();
});

async function filled(prefix: string): Promise<ReplicateInput> {
  const request = await mover.request(freshName(prefix));
  requests.push(request);
  await script(
    mover.source,
    `mkdir -p '${request.transfer.source.path}/d'; echo x >'${request.transfer.source.path}/x'`,
  );
  return request;
}

/** What stands against the last pass, or `quiet`. */
async function proof(request: ReplicateInput): Promise<string> {
  return once(() => mover.activities.proveQuiet({ request })).then(
    () => 'quiet',
    (error: unknown) => (error instanceof Error ? error.message : String(error)),
  );
}

describe('a cron table', () => {
  const tables: [string, string, (path: string) => string, boolean][] = [
    ['of the system', '/etc/cron.d/ferry-test', (path) => `1 1 * * * root rm -rf ${path}/d/*`, true],
    ['of a user', '/var/spool/cron/crontabs/ferry-test', (path) => `* * * * * tar c "${path}" >/dev/null`, true],
    ['of the night', '/etc/cron.daily/ferry-test', (path) => `#!/bin/sh\nDIR='${path}'; find $DIR -delete`, true],
    [
      'that names a neighbour',
      '/etc/cron.d/ferry-test',
      (path) => `1 1 * * * root rm ${path}-old ${path}2 /mnt${path}`,
      false,
    ],
    ['with a line that is none', '/etc/cron.d/ferry-test', (path) => `  # 1 1 * * * root rm ${path}`, false],
  ];

  it.each(tables)('%s in %s', async (_name, file, line, isNamed) => {
    const request = await filled('cron');
    await script(
      mover.source,
      `mkdir -p "$(dirname ${file})"; cat >${file} <<'end'\n${line(request.transfer.source.path)}\nend`,
    );

    const said = await proof(request);
    await script(mover.source, `rm ${file}`);

    if (isNamed)
      expect(said).toMatch(new RegExp(`is still in use: the cron table ${file} names it\\. .* stop it on old1`));
    else expect(said).toBe('quiet');
  });

  it('is found by either name of a directory behind a symlink', async () => {
    const request = await filled('cron-link');
    const { path } = request.transfer.source;
    const named = { ...request, transfer: { ...request.transfer, source: { host: 'old1', path: `${path}-link` } } };
    await script(mover.source, `ln -sfn '${path}' '${path}-link'`);

    const said: string[] = [];
    for (const name of [`${path}-link`, path]) {
      await script(mover.source, `echo '1 1 * * * root touch ${name}/d' >/etc/cron.d/ferry-test`);
      said.push(await proof(named));
    }
    await script(mover.source, `rm /etc/cron.d/ferry-test '${path}-link'`);

    for (const each of said) expect(each).toContain('the cron table /etc/cron.d/ferry-test names it');
  });
});

describe('a container', () => {
  /** A world of its own with a root of its own, as container runtimes make them, that mounts a directory; ends by itself. */
  const start = (tree: string, root: string, options: string): string => String.raw`
mkdir -p ${root}
setsid unshare --mount --propagation private sh -euc '
  mount -t tmpfs tmpfs ${root}; cd ${root}; mkdir usr data old proc; mount --rbind /proc proc
  mount --rbind /usr usr; for d in bin lib lib64; do ln -s usr/$d $d; done
  mount --bind "${tree}" data; mount -o remount,bind,${options} data
  echo $$ >${root}.pid; pivot_root . old; umount -l /old
  exec /usr/bin/sleep 60' >/dev/null 2>${root}.log </dev/null &
for i in $(seq 100); do [ -s ${root}.pid ] && [ "$(cat /proc/$(cat ${root}.pid)/comm)" = sleep ] && break; sleep 0.05; done
[ "$(cat /proc/$(cat ${root}.pid)/comm)" = sleep ] || { cat ${root}.log >&2; exit 1; }`;
  const end = (root: string): string =>
    `kill $(cat ${root}.pid); while [ -e /proc/$(cat ${root}.pid) ]; do sleep 0.05; done; rm -rf ${root} ${root}.pid ${root}.log`;

  it.each([
    ['that mounts it', '', 'rw', true],
    ['that mounts a part of it', '/d', 'rw', true],
    ['that may only read it', '', 'ro', false],
    ['that mounts a neighbour', '-neighbour', 'rw', false],
  ])('%s', async (_name, part, options, isHolder) => {
    const request = await filled('container');
    const tree = `${request.transfer.source.path}${part}`;
    const root = `/run/${request.transfer.id}`;
    await script(mover.source, `mkdir -p '${tree}'; ${start(tree, root, options)}`);

    const said = await proof(request);
    await script(mover.source, end(root));
    const after = await proof(request);
    await script(mover.source, `rm -rf '${request.transfer.source.path}-neighbour'`);

    if (isHolder) expect(said).toMatch(/is still in use: the container .* of sleep \(pid \d+\) mounts it at \/data/);
    else expect(said).toBe('quiet');
    expect(after).toBe('quiet');
  });

  it('that mounts the whole disk on which the directory lies', async () => {
    const request = await filled('container-disk');
    const { path } = request.transfer.source;
    const root = `/run/${request.transfer.id}`;
    await script(mover.source, `mount -t tmpfs tmpfs '${path}'; echo a >'${path}/a'; ${start(path, root, 'rw')}`);
    const said = await proof(request);
    await script(mover.source, `${end(root)}; umount '${path}'`);

    expect(said).toMatch(/is still in use: the container .* of sleep \(pid \d+\) mounts it at \/data/);
  });

  it('that so much as reads the destination stands against the copy', async () => {
    const request = await filled('container-there');
    const { path } = request.transfer.destination;
    const root = `/run/${request.transfer.id}`;
    await script(mover.destination, `mkdir -p '${path}'; ${start(path, root, 'ro')}`);

    await expect(prepare(mover, request)).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: /is in use: the container .* of sleep \(pid \d+\) mounts it at \/data/,
    });
    await script(mover.destination, end(root));
  });
});

describe('two directories of one machine', () => {
  it('are not copied into each other through a bind mount, whichever lies inside', async () => {
    const request = await filled('bound');
    const { path } = request.transfer.source;
    const between = (from: string, to: string): ReplicateInput => ({
      ...request,
      allowedRoots: ['/srv'],
      destination: request.source,
      transfer: {
        ...request.transfer,
        source: { host: 'old1', path: from },
        destination: { host: 'old1', path: to },
      },
    });
    await script(
      mover.source,
      `mkdir '${path}-bind'; mount --bind '${path}/d' '${path}-bind'; ln -s '${path}/d' '${path}-link'`,
    );
    try {
      for (const [from, to, why] of [
        [`${path}-bind`, path, /inside the other/],
        [path, `${path}-bind`, /inside the other/],
        [`${path}-bind`, `${path}/d`, /same directory/],
        [path, `${path}-link/deep`, /inside the other/],
        [`${path}-link`, path, /inside the other/],
      ] as const) {
        await expect(prepare(mover, between(from, to)), `${from} to ${to}`).rejects.toMatchObject({
          type: 'Permanent',
          message: why,
        });
      }
    } finally {
      await script(mover.source, `umount '${path}-bind'; rmdir '${path}-bind'; rm '${path}-link'`);
    }
    expect(await script(mover.source, `cd '${path}'; find . | sort`)).toBe('.\n./d\n./x\n');
  });

  it('are refused where a symlink leads out of what is allowed', async () => {
    const request = await filled('led-out');
    const { path } = request.transfer.destination;
    await script(
      mover.destination,
      `mkdir -p '/opt/${request.transfer.id}'; ln -sfn '/opt/${request.transfer.id}' '${path}'`,
    );

    await expect(prepare(mover, { ...request, allowedRoots: ['/srv'] })).rejects.toMatchObject({
      type: 'Permanent',
      message: /it is really \/opt\/\S+, which lies outside of what is allowed \(\/srv\)/,
    });
    await script(mover.destination, `rm '${path}'; rmdir '/opt/${request.transfer.id}'`);
  });
});
