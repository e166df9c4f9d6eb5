import { createServer, type AddressInfo, type Server } from 'node:net';
import { MockActivityEnvironment } from '@temporalio/testing';
import { afterEach, describe, expect, it } from 'vitest';
import { defaultDeadlines } from '../../../src/activities/deadlines.ts';
import type { CommandRunner } from '../../../src/activities/helm.ts';
import { createSystemdActivities } from '../../../src/activities/systemd.ts';
import type { HostConnection, Hosts, RunResult } from '../../../src/hosts/contract.ts';
import { HostUnreachable } from '../../../src/hosts/errors.ts';
import type { Host } from '../../../src/plan/plan.ts';

const oldBoot = '00000000-0000-0000-0000-000000000001';
const newBoot = '00000000-0000-0000-0000-000000000002';

let listener: Server | undefined;
afterEach(() => {
  listener?.close();
  listener = undefined;
});

async function openPort(): Promise<number> {
  const server = createServer((socket) => socket.destroy());
  listener = server;
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return (server.address() as AddressInfo).port;
}

const hostAt = (port: number, bmc?: string): Host => ({
  name: 'new1',
  address: '127.0.0.1',
  port,
  user: 'root',
  hostKeys: ['ssh-ed25519 AAAA'],
  role: 'new',
  ...(bmc !== undefined && { bmc }),
});

/** Answers of one machine, one after the other: a boot id, or an error; the last one stays. */
function machineThat(answers: (string | Error)[]): { hosts: Hosts; ordered: string[][] } {
  const ordered: string[][] = [];
  const left = [...answers];
  const run = (argv: readonly string[]): Promise<RunResult> => {
    if (argv[0] === 'systemctl') {
      ordered.push([...argv]);
      return Promise.resolve({ code: 0, signal: null, stdout: '', stderr: '' });
    }
    const answer = left.length > 1 ? left.shift() : left[0];
    if (answer instanceof Error) return Promise.reject(answer);
    return Promise.resolve({ code: 0, signal: null, stdout: `${answer ?? ''}\n`, stderr: '' });
  };
  return {
    ordered,
    hosts: {
      connect: (host) => Promise.resolve({ host, run } as unknown as HostConnection),
      close: () => Promise.resolve(),
    },
  };
}

const pingAnswers = (code: number | null, stderr = ''): CommandRunner & { asked: string[][] } => {
  const asked: string[][] = [];
  return {
    asked,
    run: (argv) => {
      asked.push([...argv]);
      return Promise.resolve({ code, signal: null, stdout: '', stderr });
    },
  };
};

const away = new HostUnreachable('new1', 'connect ETIMEDOUT');

function reboot(hosts: Hosts, host: Host, local: CommandRunner, deadline = 1): Promise<unknown> {
  const activities = createSystemdActivities({ hosts, local, deadlines: { ...defaultDeadlines, reboot: deadline } });
  return activities.rebootHost({ host, bootId: oldBoot });
}

describe('a machine that does not come back from its reboot', () => {
  it.each<[string, { ping: CommandRunner; open: boolean; bmc?: string; then?: string | Error }, RegExp[], RegExp]>([
    [
      'is off',
      { ping: pingAnswers(1), open: false, bmc: 'https://bmc-1.example' },
      [
        /new1 does not answer yet/,
        /not seen again after the reboot was ordered/,
        /127\.0\.0\.1 does not answer ping/,
        /the last try over ssh said: new1 cannot be reached: connect ETIMEDOUT/,
      ],
      /the console of new1 \(https:\/\/bmc-1\.example\); when it is up: ferry resume, .* ferry abort$/,
    ],
    [
      'hangs while it starts',
      { ping: pingAnswers(0), open: false },
      [/127\.0\.0\.1 answers ping/, /its ssh port \d+ refuses connections/],
      /^it has power: look at the console of new1; when/,
    ],
    [
      'has an sshd that lets nobody in',
      { ping: pingAnswers(0), open: true },
      [/its ssh port \d+ accepts connections/],
      /^it has power/,
    ],
    [
      'never went down',
      { ping: pingAnswers(0), open: true, then: oldBoot },
      [/new1 is still in its old boot/, /last seen \d+ s after the order, in its old boot/],
      /ferry resume/,
    ],
    [
      'cannot be pinged from here',
      { ping: pingAnswers(127), open: false },
      [/ping was not tried \(the worker has no ping\)/],
      /ferry/,
    ],
    [
      'may not be pinged from here',
      { ping: pingAnswers(2, 'ping: socktype: SOCK_RAW\nping: socket: Operation not permitted'), open: false },
      [/ping was not tried \(ping: socket: Operation not permitted\)/],
      /ferry/,
    ],
  ])(
    'that %s: says what is known and what can be chosen',
    async (_what, { ping, open, bmc, then = away }, causes, next) => {
      const port = await openPort();
      if (!open) await new Promise((resolve) => listener?.close(resolve));
      const { hosts, ordered } = machineThat([oldBoot, then]);

      const error = await reboot(hosts, hostAt(port, bmc), ping).catch((thrown: unknown) => thrown);

      expect(error).toMatchObject({ type: 'NeedsHuman', nonRetryable: true });
      const [detail] = (error as { details: { cause: string; next: string }[] }).details;
      for (const cause of causes) expect(detail?.cause).toMatch(cause);
      expect(detail?.next).toMatch(next);
      expect(ordered).toEqual([['systemctl', 'reboot']]);
    },
  );

  it('is pinged once, as an address and never as an option', async () => {
    const ping = pingAnswers(1);
    await reboot(machineThat([oldBoot, away]).hosts, hostAt(9), ping).catch(() => undefined);

    expect(ping.asked).toEqual([['ping', '-c', '1', '-W', '2', '--', '127.0.0.1']]);
  });

  it('and is still away when it is resumed heals by itself, and says the same', async () => {
    const { hosts, ordered } = machineThat([away]);

    const error = await reboot(hosts, hostAt(9, 'rack 4, slot 7'), pingAnswers(1)).catch((thrown: unknown) => thrown);

    expect(error).toMatchObject({ type: 'Transient', message: expect.stringMatching(/rack 4, slot 7/) as string });
    expect(error).toMatchObject({ message: expect.stringMatching(/does not answer ping/) as string });
    expect(ordered).toEqual([]);
  });
});

it('a machine that came back meanwhile is not rebooted again', async () => {
  const { hosts, ordered } = machineThat([newBoot]);

  expect(await reboot(hosts, hostAt(9), pingAnswers(1))).toMatchObject({ changed: false });
  expect(ordered).toEqual([]);
});

describe('a worker that is restarted while the machine reboots', () => {
  /** What the worker said last before it was gone. */
  async function saidLast(): Promise<unknown> {
    const environment = new MockActivityEnvironment();
    const beats: unknown[] = [];
    environment.on('heartbeat', (details) => beats.push(details));
    const { hosts } = machineThat([oldBoot, away]);
    await environment.run(() => reboot(hosts, hostAt(9), pingAnswers(1))).catch(() => undefined);
    // The server holds the first one and later, now and then, another: any of them may be the last.
    expect(beats.filter((said) => (said as { ordered?: boolean }).ordered !== true)).toEqual([]);
    return beats.at(-1);
  }

  it('waits for it as the one before would have, and orders nothing', async () => {
    const { hosts, ordered } = machineThat([away, away, newBoot]);
    const next = new MockActivityEnvironment({ attempt: 2, heartbeatDetails: await saidLast() });

    const back = await next.run(() => reboot(hosts, hostAt(9), pingAnswers(1), 20_000));

    expect(back).toEqual({
      changed: false,
      proof: `new1 came back with boot id ${newBoot} instead of ${oldBoot}`,
    });
    expect(ordered).toEqual([]);
  });

  it('says what is known when it does not come back', async () => {
    const { hosts, ordered } = machineThat([away]);
    const next = new MockActivityEnvironment({ attempt: 2, heartbeatDetails: await saidLast() });

    const waited = next.run(() => reboot(hosts, hostAt(9), pingAnswers(1)));

    await expect(waited).rejects.toMatchObject({
      type: 'NeedsHuman',
      message: expect.stringMatching(/not come back from its reboot: .*not seen again after the reboot/) as string,
    });
    expect(ordered).toEqual([]);
  });

  it('orders it again when it is still in its old boot', async () => {
    const { hosts, ordered } = machineThat([oldBoot, newBoot]);
    const next = new MockActivityEnvironment({ attempt: 2, heartbeatDetails: await saidLast() });

    expect(await next.run(() => reboot(hosts, hostAt(9), pingAnswers(1)))).toMatchObject({ changed: true });
    expect(ordered).toEqual([['systemctl', 'reboot']]);
  });

  it('says at once that it does not answer when nothing was ordered', async () => {
    const earlierTries = [{ from: 1, to: 1, cause: 'new1 does not answer' }];
    const next = new MockActivityEnvironment({ attempt: 2, heartbeatDetails: { earlierTries } });

    const refused = next.run(() => reboot(machineThat([away]).hosts, hostAt(9), pingAnswers(1), 20_000));

    await expect(refused).rejects.toMatchObject({ type: 'Transient' });
  });
});
