import { defineConfig } from 'vitest/config';
import type { TestSpecification } from 'vitest/node';
import { BaseSequencer } from 'vitest/node';

/** Files by name: the rollback comes before the migration that leaves no old machine to go back to. */
class ByName extends BaseSequencer {
  override sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    return Promise.resolve(files.toSorted((one, other) => one.moduleId.localeCompare(other.moduleId)));
  }
}

/**
 * unit: pure core, no server, no lab. replay: saved histories on the code as it is. workflow: the real time-skipping Temporal server.
 * browser: Temporal's Web UI and the report in a real Chromium.
 * hosts: machines with sshd and rsync. cluster: machines and a real Kubernetes API. stacked: masters that kubeadm made. e2e: whole
 * migrations. These last four run inside the lab.
 */
export default defineConfig({
  test: {
    sequence: { sequencer: ByName },
    projects: [
      // Some start programs, which takes long where the machine is busy.
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 30_000, hookTimeout: 30_000 } },
      { test: { name: 'replay', include: ['test/replay/**/*.test.ts'], testTimeout: 120_000, hookTimeout: 120_000 } },
      {
        test: {
          name: 'workflow',
          include: ['test/workflow/**/*.test.ts'],
          globalSetup: ['test/workflow/setup.ts'],
          testTimeout: 240_000,
          hookTimeout: 120_000,
          // Each file has a server and a worker of its own; side by side they only wait for each other.
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'browser',
          include: ['test/browser/**/*.test.ts'],
          globalSetup: ['test/browser/setup.ts'],
          testTimeout: 120_000,
          hookTimeout: 180_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'hosts',
          include: ['test/hosts/**/*.test.ts'],
          // Three files share the cores with six machines, and some tests watch the clock. The runner names every second try; what draws its
          // own schedule has none, since its failures are findings.
          retry: 1,
          testTimeout: 300_000,
          hookTimeout: 300_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'cluster',
          include: ['test/cluster/**/*.test.ts'],
          testTimeout: 600_000,
          hookTimeout: 600_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'stacked',
          include: ['test/stacked/**/*.test.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 900_000,
          fileParallelism: false,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 1_800_000,
          hookTimeout: 900_000,
          fileParallelism: false,
        },
      },
    ],
  },
});
