import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { secondsOfRehearsal } from '../../../src/client/rehearsal.ts';

const directory = mkdtempSync(join(tmpdir(), 'ferry-rehearsal-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

function reportOf(content: unknown): string {
  const file = join(directory, 'report.json');
  writeFileSync(file, typeof content === 'string' ? content : JSON.stringify(content));
  return file;
}

const at = (seconds: number): string => new Date(Date.UTC(2026, 10, 1) + seconds * 1000).toISOString();
const phase = (name: string, seconds: number): object => ({
  name,
  state: 'done',
  startedAt: at(0),
  endedAt: at(seconds),
  doneAt: at(seconds),
});

describe('secondsOfRehearsal', () => {
  it('takes what the phases of the window took, in whole seconds, and nothing of those that were not done', () => {
    const phases = [
      phase('replicate', 3600),
      phase('stop-apps', 12.4),
      phase('uninstall', 45),
      phase('final-copy', 90),
      { name: 'stop-host-services', state: 'skipped' },
      { ...phase('add-nodes', 33), state: 'undone', endedAt: at(500) },
      { name: 'reinstall', state: 'undone', startedAt: at(100), endedAt: at(170) },
      { name: 'start-apps', state: 'running', startedAt: at(170) },
    ];

    const seconds = secondsOfRehearsal(reportOf({ workflowId: 'migrate-lab', outcome: 'rolled-back', phases }));

    expect(seconds).toEqual({ 'stop-apps': 13, 'add-nodes': 33, uninstall: 45 });
  });

  it.each([
    ['a table', 'lab  migrated'],
    ['a plan', { kind: 'MigrationPlan' }],
    ['a report of a migration that did nothing', { workflowId: 'migrate-lab', phases: [phase('preflight', 5)] }],
  ])('refuses %s and says how to get one', (_what, content) => {
    const file = reportOf(content);

    expect(() => secondsOfRehearsal(file)).toThrow(/is not the report of a migration to learn from/);
    expect(() => secondsOfRehearsal(file)).toThrow(
      expect.objectContaining({ next: `ferry report ID -o json --output-file ${file}` }),
    );
  });
});
