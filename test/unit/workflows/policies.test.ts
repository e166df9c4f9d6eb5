import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { activityOptions, clip, optionsOf, policies } from '../../../src/workflows/policies.ts';
import { planOf } from '../../workflow/plans.ts';
import { plan } from './states.ts';

type Name = keyof typeof policies;
const rows = Object.entries(policies) as [Name, (typeof policies)[Name]][];

function seconds(text: string): number {
  const unit = { s: 1, m: 60, h: 3600, d: 86_400 }[text.slice(-1)];
  return Number(text.slice(0, -1)) * (unit ?? Number.NaN);
}

/** Methods of the interfaces of a contract, as they stand in the source. */
function activitiesOf(file: string): string[] {
  const url = new URL(`../../../src/activities/${file}`, import.meta.url);
  const source = ts.createSourceFile(file, readFileSync(url, 'utf8'), ts.ScriptTarget.Latest);
  return source.statements
    .filter((statement) => ts.isInterfaceDeclaration(statement))
    .filter(({ name }) => name.text.endsWith('Activities'))
    .flatMap(({ members }) => members.filter((member) => ts.isMethodSignature(member)))
    .map(({ name }) => (ts.isIdentifier(name) ? name.text : ''));
}

describe('the table of policies', () => {
  it('has a row for every activity of a migration and of a copy, and no other', () => {
    const [migration, copy] = [activitiesOf('contract.ts'), activitiesOf('transfer-contract.ts')];

    expect(migration).not.toHaveLength(0);
    expect(copy).toContain('runPass');
    expect(rows.map(([name]) => name).toSorted()).toEqual([...migration, ...copy].toSorted());
  });

  it.each(rows)('%s has a reason in a sentence', (_name, { reason }) => {
    expect(reason).toMatch(/^[A-Za-z].{14,}\.$/s);
  });

  it('does not give two activities the same reason', () => {
    const reasons = rows.map(([, { reason }]) => reason);

    expect(new Set(reasons).size).toBe(reasons.length);
  });

  it.each(rows)('%s has times that fit together', (name, row) => {
    expect(seconds(row.startToClose)).toBeGreaterThan(0);
    expect(seconds(row.longestPause)).toBeGreaterThanOrEqual(seconds(row.firstPause));
    expect(row.attempts).toBeGreaterThanOrEqual(3);
    // A pass is at work for days, in which workers come and go.
    expect(row.attempts).toBeLessThanOrEqual(name === 'runPass' ? 20 : 10);
  });

  it.each<[Name, number]>([
    ['prepareTransfer', 2 * 6 * 3600],
    ['proveQuiet', 1800],
  ])('%s has more time than the looks that it takes, %d s', (name, looks) => {
    expect(seconds(policies[name].startToClose)).toBeGreaterThan(looks);
  });

  it.each(rows)('a lost worker under %s is noticed within minutes', (_name, { startToClose, heartbeat }) => {
    const silence = heartbeat === undefined ? seconds(startToClose) : seconds(heartbeat);

    expect(silence).toBeLessThanOrEqual(300);
    // Activities beat every 5 seconds at most; a slow network must not look like a death.
    if (heartbeat !== undefined) {
      expect(silence).toBeGreaterThanOrEqual(30);
      expect(silence).toBeLessThan(seconds(startToClose) / 2);
    }
  });
});

describe('the options of a call', () => {
  it.each(rows.map(([name]) => name))('%s parks when people must look, and reports how it ended', (name) => {
    const options = optionsOf(name);

    expect(options.retry.nonRetryableErrorTypes).toEqual(['NeedsHuman', 'Permanent']);
    expect(options.retry.maximumAttempts).toBe(policies[name].attempts);
    expect(options.cancellationType).toBe('WAIT_CANCELLATION_COMPLETED');
    expect(options.startToCloseTimeout).toBe(policies[name].startToClose);
    expect(options.heartbeatTimeout).toBe(policies[name].heartbeat);
  });

  it('take the tries of an apply from the plan, at even intervals', () => {
    const stubborn = planOf('stubborn', { limits: { applyAttempts: 7, applyBackoffSeconds: 600 } });

    expect(activityOptions('applyConfig', stubborn, 'x').retry).toMatchObject({
      maximumAttempts: 7,
      initialInterval: 600_000,
      maximumInterval: 600_000,
      backoffCoefficient: 1,
    });
    expect(activityOptions('prepareConfig', stubborn, 'x').retry?.maximumAttempts).toBe(6);
  });

  it('cut a long label to what the timeline takes', () => {
    expect(Buffer.byteLength(activityOptions('notify', plan, 'é'.repeat(300)).summary ?? '')).toBe(200);
  });
});

describe('clip', () => {
  it('keeps as much of the beginning as fits, and whole characters only', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'grapheme' }), fc.nat(50), (text, bytes) => {
        const kept = clip(text, bytes);
        const point = text.codePointAt(kept.length);
        expect(text.startsWith(kept)).toBe(true);
        expect(Buffer.byteLength(kept)).toBeLessThanOrEqual(bytes);
        if (point !== undefined) {
          expect(Buffer.byteLength(kept + String.fromCodePoint(point))).toBeGreaterThan(bytes);
        }
      }),
    );
  });
});
