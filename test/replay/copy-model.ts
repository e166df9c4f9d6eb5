import type { CopyChoice, TransferActivities } from '../../src/activities/transfer-contract.ts';
import type { ReplicateRequest } from '../../src/plan/replicate.ts';
import { planOf } from '../workflow/plans.ts';

const MiB = 1024 * 1024;

const choice: CopyChoice = {
  tool: 'rsync',
  nanoseconds: true,
  inplace: false,
  sparse: true,
  blockSize: 0,
  compress: 'none',
  info: true,
  cipher: 'aes128-gcm@openssh.com',
  streams: 1,
  digest: 'sha256',
  reasons: [],
};

/** What one directory of the template plan asks of the mover. */
export function copyRequest(change: Partial<ReplicateRequest>): ReplicateRequest {
  const { hosts, transfers } = planOf('copy');
  const [transfer] = transfers;
  const host = (name = ''): ReplicateRequest['source'] => hosts.find((candidate) => candidate.name === name)!;
  return {
    migration: 'copy',
    transfer: transfer!,
    source: host(transfer?.source.host),
    destination: host(transfer?.destination.host),
    mode: 'live',
    ...change,
  };
}

/** A mover without machines: every pass finds a tenth of what the one before moved; the first comparison finds a difference. */
export function createCopyModel(): TransferActivities {
  let comparisons = 0;
  return {
    prepareTransfer: () =>
      Promise.resolve({ choice, bytes: 10_000 * MiB, files: 100, bytesThere: 0, proof: 'both ends looked at' }),
    runPass: ({ pass }) =>
      Promise.resolve({
        startedAt: new Date(Date.UTC(2026, 0, 1, 0, pass * 10)).toISOString(),
        seconds: 100,
        scanSeconds: 1,
        files: 100,
        filesTransferred: 10,
        deleted: 0,
        totalBytes: 10_000 * MiB,
        transferredSize: 10 * MiB,
        literalBytes: Math.round((10_000 * MiB) / 10 ** (pass - 1)),
        matchedBytes: 0,
        wireBytes: 10 * MiB,
        doubtful: 0,
        vanished: false,
        explanation: '',
      }),
    proveQuiet: () => Promise.resolve({ changed: false, proof: 'nothing has it open' }),
    verifyTransfer: () => {
      comparisons += 1;
      const equal = comparisons > 1;
      return Promise.resolve({
        equal,
        kind: 'full' as const,
        ...(equal && { digest: `sha256:${'a'.repeat(64)}` }),
        entries: 100,
        bytes: 10_000 * MiB,
        seconds: 10,
        differences: equal ? [] : [{ path: 'data', what: 'content' }],
        differing: equal ? 0 : 1,
        proof: 'full: 100 entries',
      });
    },
    finishTransfer: () => Promise.resolve({ changed: true, proof: 'the key is gone' }),
  };
}
