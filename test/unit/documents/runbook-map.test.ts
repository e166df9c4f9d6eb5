import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { gateNames } from '../../../src/plan/plan.ts';
import { phaseNames } from '../../../src/workflows/messages.ts';
import { policies } from '../../../src/workflows/policies.ts';

const text = readFileSync(new URL('../../../docs/runbook-map.md', import.meta.url), 'utf8');
const rows = text
  .split('\n')
  .filter((line) => line.startsWith('|'))
  .map((line) => line.split('|').map((cell) => cell.trim()));

describe('the map of the runbook', () => {
  it.each(phaseNames)('has a row for phase %s', (name) => {
    expect(rows.filter(([, , where]) => where === `\`${name}\``)).toHaveLength(1);
  });

  it.each(gateNames)('has a row for gate %s', (name) => {
    expect(rows.filter(([, , where]) => where === `gate \`${name}\``)).toHaveLength(1);
  });

  it('names every activity and no other', () => {
    const named = rows.flatMap(([, , , activities = '']) =>
      [...activities.matchAll(/`(\w+)`/g)].map(([, name]) => name),
    );
    const others = ['replicateDirectory', 'live', 'final'];

    expect(new Set(named.filter((name) => !others.includes(name ?? '')))).toEqual(new Set(Object.keys(policies)));
  });
});
