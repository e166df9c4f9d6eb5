import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it } from 'vitest';
import {
  copyExitCode,
  copyRequest,
  copyWorkflowId,
  describeOutcome,
  describeProgress,
  labelOf,
  parsePlace,
  workerFor,
} from '../../../src/client/copy.ts';
import { replicateInputSchema } from '../../../src/plan/replicate.ts';
import type { TransferOutcome } from '../../../src/workflows/replicate-messages.ts';
import { pass } from './report-sample.ts';

const key = 'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGludmVudGVkIGhvc3Qga2V5IG9mIGEgc2FtcGxl';
const known = ['old1', '10.0.0.2', '[new1.example]:2222'].map((name) => ({ patterns: [name], key, revoked: false }));
const options = { verify: 'full' as const, limit: 0, sshUser: 'root', sshPort: 22 };

describe('parsePlace', () => {
  it.each([
    ['old1:/sysvol/redis/', { address: 'old1', path: '/sysvol/redis' }],
    ['old1.example:/srv', { address: 'old1.example', path: '/srv' }],
    ['[fd00::1]:/srv/x//', { address: 'fd00::1', path: '/srv/x' }],
  ])('reads %s', (text, place) => {
    expect(parsePlace(text)).toEqual(place);
  });

  it.each(['/sysvol/redis', 'old1', 'old1:relative', 'old1:/', 'old1:/a/../b', '-oProxyCommand=x:/a'])(
    'refuses %s',
    (text) => {
      expect(() => parsePlace(text)).toThrow(/nothing was done/);
    },
  );
});

describe('labelOf', () => {
  it.each([
    ['old1', 'old1'],
    ['Old1.Example.com', 'old1-example-com'],
    ['10.0.0.2', 'host-10-0-0-2'],
  ])('%s is %s', (address, label) => {
    expect(labelOf(address)).toBe(label);
  });

  it('is short for a long name', () => {
    expect(labelOf('x'.repeat(90))).toMatch(/^host-[0-9a-f]{12}$/);
  });
});

describe('copyRequest', () => {
  it('is a valid input, final unless the source is in use', () => {
    const request = copyRequest('old1:/a/', '10.0.0.2:/b/', options, known);

    expect(replicateInputSchema.parse(request)).toMatchObject({
      mode: 'final',
      source: { name: 'old1', hostKeys: [key] },
      destination: { name: 'host-10-0-0-2', address: '10.0.0.2' },
      transfer: { source: { path: '/a' }, destination: { path: '/b' } },
    });
    expect(copyRequest('old1:/a/', '10.0.0.2:/b/', { ...options, live: true }, known).mode).toBe('live');
    expect(request.bringRsync).toBeUndefined();
    const lent = (bringRsync: string | true): unknown =>
      copyRequest('old1:/a/', '10.0.0.2:/b/', { ...options, bringRsync }, known).bringRsync;
    expect(lent(true)).toEqual({});
    expect(lent('/opt/rsync')).toEqual({ program: '/opt/rsync' });
  });

  it('finds the same copy again, whatever the slashes, and another one for another place', () => {
    const id = (to: string): string => copyWorkflowId(copyRequest('old1:/a/', to, options, known));

    expect(id('10.0.0.2:/b/')).toBe(id('10.0.0.2:/b'));
    expect(id('10.0.0.2:/b')).not.toBe(id('10.0.0.2:/c'));
  });

  it('refuses a machine whose key nobody vouched for, with the command that shows it', () => {
    expect(() => copyRequest('old1:/a', 'new1.example:/a', options, known)).toThrow(/which host key of new1\.example/);
  });
});

describe('what people see of a copy', () => {
  const outcome: TransferOutcome = {
    id: 'copy-1',
    mode: 'final',
    passes: [pass(0, 1, 'final', 500)],
    ready: true,
    notConverging: false,
    advice: '',
    projectedFinalSeconds: 1,
    projectedErrorSeconds: 1,
    destinationState: 'verified',
  };
  const said = (change: Partial<TransferOutcome>): string =>
    stripVTControlCharacters(describeOutcome({ ...outcome, ...change }));

  it('says proved only with a digest', () => {
    expect(said({ digest: 'sha256:abc', proof: 'full: 3 entries' })).toMatch(
      /^proved[\s\S]*full: 3 entries\nsha256:abc/,
    );
    expect(said({ mode: 'live' })).toMatch(/^fresh[\s\S]*Nothing is proved yet/);
    expect(said({ mode: 'live', ready: false, advice: 'raise the limit' })).toMatch(
      /^not converging[\s\S]*raise the limit/,
    );
  });

  it.each([
    ['final', { digest: 'sha256:abc' }, 0],
    ['final', {}, 1],
    ['live', {}, 0],
    ['live', { ready: false }, 1],
  ] as const)('asked for %s, exits for %j with %d', (mode, change, code) => {
    expect(copyExitCode({ ...outcome, ...change }, mode)).toBe(code);
  });

  it('shows progress, tries, and that no worker answers', () => {
    const progress = {
      pass: 2,
      step: 'copying',
      bytes: 512,
      total: 1024,
      files: 1,
      bytesPerSecond: 100,
      etaSeconds: 5,
    };
    const line = stripVTControlCharacters(
      describeProgress(
        { state: 'copying', limitKiBps: 0, passes: [pass(0, 1, 'live', 1)] },
        { attempt: 3, lastFailure: 'broken pipe', progress },
        'ferry worker',
      ),
    );

    expect(line).toContain('512 B of 1.0 KiB  100 B/s  5s left  pass 2, copying  try 3: broken pipe');
  });

  it.each([
    ['ferry', 'Start one: ferry worker'],
    ['ferry/copy-1-of-a-to-b', 'Start one: ferry worker --task-queue ferry/copy-1-of-a-to-b'],
  ])('names the worker that helps where none serves %s', (taskQueue, expected) => {
    const line = stripVTControlCharacters(describeProgress(undefined, undefined, workerFor(taskQueue)));

    expect(line).toMatch(/^no worker answers; /);
    expect(line.endsWith(expected)).toBe(true);
  });
});
