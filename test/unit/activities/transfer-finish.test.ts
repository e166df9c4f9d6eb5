import { describe, expect, it } from 'vitest';
import { namesOf } from '../../../src/activities/transfer-names.ts';
import { createTransferActivities } from '../../../src/activities/transfer.ts';
import type { HostConnection, Hosts, Jobs } from '../../../src/hosts/contract.ts';
import { HostRefused, HostUnreachable } from '../../../src/hosts/errors.ts';
import { request } from './transfer-sample.ts';

const marker = JSON.stringify({
  ...{ migration: 'lab', transfer: 'redis-0', sourceHost: 'old1', sourcePath: '/sysvol/redis' },
  ...{ destinationPath: '/sysvol/redis', state: 'incomplete' },
});

/** Activities on two machines of which some are gone, and what the others were asked for, in this order. */
function world(gone: Record<string, Error>): { finish: (verified?: string) => Promise<unknown>; asked: string[] } {
  const asked: string[] = [];
  const connection = (name: string): HostConnection => ({
    host: { ...request.source, name },
    run: (argv, { input = '' } = {}) => {
      const text = input.toString();
      const step = text.includes('authorized_keys') ? 'revoke' : text.includes('evicted') ? 'evict' : undefined;
      if (step !== undefined) asked.push(`${name} ${step}`);
      if (text.startsWith('ferry_script() {\nrm -rf -- "$@"')) {
        const { directory, lists } = namesOf(request);
        for (const each of argv.slice(3))
          asked.push(`${name} remove ${{ [directory]: 'directory', [lists]: 'lists' }[each] ?? each}`);
      }
      return Promise.resolve({ code: 0, signal: null, stdout: '/sysvol/redis\n', stderr: '' });
    },
    readFile: () => Promise.resolve(Buffer.from(marker)),
    writeFile: (_path, content) => {
      asked.push(`${name} ${/"state": "(\w+)"/.exec(content.toString())?.[1] ?? '?'}`);
      return Promise.resolve();
    },
  });
  const hosts: Hosts = {
    connect: ({ name }) => {
      const error = gone[name];
      return error === undefined ? Promise.resolve(connection(name)) : Promise.reject(error);
    },
    close: () => Promise.resolve(),
  };
  const jobs = {
    stop: ({ host: { name } }: HostConnection, job: string) => {
      asked.push(`${name} stop ${job === namesOf(request).job ? 'job' : job}`);
      return Promise.resolve();
    },
    clear: () => Promise.resolve(),
  } as unknown as Jobs;
  const { finishTransfer } = createTransferActivities({ hosts, jobs });
  return {
    asked,
    finish: async (verified) => finishTransfer({ request, ...(verified !== undefined && { verified }) }),
  };
}

const away = (name: string): Error => new HostUnreachable(name, 'connect ETIMEDOUT');

describe('the end of a transfer', () => {
  it('takes everything away, the writer once more when the job is ended', async () => {
    const { finish, asked } = world({});

    await finish('sha256:1');

    expect(asked.filter((step) => step.startsWith('new1'))).toEqual([
      'new1 revoke',
      'new1 evict',
      'new1 evict',
      'new1 verified',
    ]);
    expect(asked.filter((step) => step.startsWith('old1'))).toEqual([
      'old1 stop job',
      'old1 remove directory',
      'old1 remove lists',
    ]);
    expect(asked.slice(-2)).toEqual(['new1 evict', 'new1 verified']);
  });

  it('leaves no key at the destination when the source is dead, and says what may be left there', async () => {
    const { finish, asked } = world({ old1: away('old1') });

    await expect(finish()).rejects.toMatchObject({
      type: 'Transient',
      message: expect.stringMatching(
        /the job on old1, if it runs stayed: old1 cannot be reached.*Untouched: the key on new1 is gone/,
      ) as unknown,
    });
    expect(asked).toEqual(['new1 revoke', 'new1 evict', 'new1 incomplete']);
  });

  it('ends the job when the destination is dead', async () => {
    const { finish, asked } = world({ new1: away('new1') });

    await expect(finish()).rejects.toMatchObject({
      message: expect.stringMatching(/the key on new1 stayed: new1 cannot be reached/) as unknown,
    });
    // Nothing is proved: the next pass knows by the lists what it need not read.
    expect(asked).toEqual(['old1 stop job', 'old1 remove directory']);
  });

  it.each([
    ['are away', away('new1'), 'Transient', /new1 cannot be reached.*; old1 cannot be reached/],
    ['differ in what helps', new HostRefused('new1', 'root'), 'NeedsHuman', /new1 does not let/],
  ])('tells of both machines when they %s', async (_name, error, type, message) => {
    const { finish } = world({ new1: error, old1: away('old1') });

    await expect(finish()).rejects.toMatchObject({ type, message: expect.stringMatching(message) as unknown });
  });
});
