import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { stripVTControlCharacters } from 'node:util';
import { describe, expect, it, vi } from 'vitest';
import { stringify } from 'yaml';
import { CliError } from '../../../src/client/errors.ts';
import { createProgram } from '../../../src/client/main.ts';
import { clusterName, gatesOf, parseMapping, sealText } from '../../../src/client/plan.ts';
import { describePlan, expectedPhases, projectedDowntime } from '../../../src/client/plan-view.ts';
import { parsePlan } from '../../../src/plan/validate.ts';
import { samplePlan } from '../plan/samples.ts';

describe('parseMapping', () => {
  it.each([
    ['old1=new1', [{ from: 'old1', to: 'new1' }]],
    [
      'old1=new1, old2=new2,',
      [
        { from: 'old1', to: 'new1' },
        { from: 'old2', to: 'new2' },
      ],
    ],
  ])('reads %j', (text, expected) => {
    const mapping = parseMapping(text);

    expect(mapping).toEqual(expected);
  });

  it.each(['old1', 'old1=', '=new1', 'old1=new1=x', 'Old1=new1', 'a b=c'])('refuses %j', (text) => {
    expect(() => parseMapping(text)).toThrow(/is not OLD=NEW/);
  });
});

describe('clusterName', () => {
  it.each([
    ['kubernetes', 'kubernetes'],
    ['Site A_2.example.com', 'site-a-2-example-com'],
    ['10.0.0.1-prod-', 'prod'],
  ])('makes a label of %j', (name, expected) => {
    const label = clusterName(name);

    expect(label).toBe(expected);
  });

  it.each([undefined, '', '10.0.0.1'])('refuses %j', (name) => {
    expect(() => clusterName(name)).toThrow(CliError);
  });
});

describe('gatesOf', () => {
  it('adds the approvers of one gate to those of all', () => {
    const gates = gatesOf(['li', 'remove-nodes=wang'], 1);

    expect(gates['open-downtime'].approvers).toEqual(['li']);
    expect(gates['remove-nodes'].approvers).toEqual(['li', 'wang']);
  });

  it('refuses a gate that does not exist', () => {
    expect(() => gatesOf(['remove-node=wang'], undefined)).toThrow(/there is no gate remove-node/);
  });
});

describe('ferry plan --seal', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'ferry-seal-')), 'plan.yaml');
  const said = async (...more: string[]): Promise<string> => {
    let text = '';
    const spy = vi.spyOn(process.stdout, 'write').mockImplementation((part) => ((text += String(part)), true));
    await createProgram().parseAsync(['plan', '--seal', file, ...more], { from: 'user' });
    spy.mockRestore();
    return text;
  };

  it('says the digest to people and to programs', async () => {
    const { digest, ...rest } = samplePlan();
    writeFileSync(file, stringify(rest));

    expect(await said()).toBe(`Sealed ${file}: ${digest}\nNext: ferry check ${file}\n`);
    expect(await said()).toBe(`${file} is sealed already: ${digest}\n`);
    expect(await said('--quiet')).toBe(`${digest}\n`);
    expect(JSON.parse(await said('-o', 'json'))).toEqual({ file, digest, changed: false });
  });
});

describe('sealText', () => {
  const plan = samplePlan();

  it('accepts an edited YAML plan and keeps its comments', () => {
    const text = `# for the night\n${stringify(plan)}`.replace('budgetSeconds: 3600', 'budgetSeconds: 1800');
    const sealed = sealText(text, 'plan.yaml');

    expect(parsePlan(text, 'yaml').ok).toBe(false);
    expect(parsePlan(sealed.text, 'yaml').ok).toBe(true);
    expect(sealed.text).toContain('# for the night');
    expect(sealed.digest).not.toBe(plan.digest);
  });

  it('accepts a YAML plan without a digest', () => {
    const { digest: _digest, ...rest } = plan;
    const sealed = sealText(stringify(rest), 'plan.yaml');

    expect(parsePlan(sealed.text, 'yaml').ok).toBe(true);
  });

  it('accepts an edited JSON plan', () => {
    const text = JSON.stringify({ ...plan, author: 'wang' });
    const sealed = sealText(text, 'plan.json');

    expect(parsePlan(sealed.text, 'json').ok).toBe(true);
  });

  it('leaves a sealed plan as it is', () => {
    const text = stringify(plan);

    expect(sealText(text, 'plan.yaml').text).toBe(text);
  });

  it('refuses a plan with mistakes, all at once', () => {
    const text = JSON.stringify({ ...plan, author: '', verify: 'maybe' });

    expect(() => sealText(text, 'plan.json')).toThrow(/author[\s\S]*verify/);
  });
});

describe('the table of a plan', () => {
  const plan = samplePlan((input) => {
    const [first] = input.transfers;
    if (first !== undefined) first.observed = { bytes: 3 * 1024 ** 3, files: 10, freeBytes: 1024 ** 3 };
  });
  const text = stripVTControlCharacters(describePlan(plan, ['redis stays']));

  it('has one row per transfer, with size and free space, and says where it does not fit', () => {
    for (const { source, destination } of plan.transfers) {
      expect(text).toMatch(new RegExp(`${source.host}\\s+${destination.host}`));
    }
    expect(text).toContain('3.0 GiB');
    expect(text).toContain('1.0 GiB (too little)');
    expect(text).toMatch(/\n\d+ directories, 3\.\d GiB in all\n/);
  });

  it('projects the downtime with its error band, from the phases in the window alone', () => {
    const { seconds, errorSeconds } = projectedDowntime(plan);
    const down = expectedPhases(plan).filter((phase) => phase.down);

    expect(seconds).toBe(down.reduce((sum, { expected }) => sum + expected.seconds, 0));
    expect(errorSeconds).toBeGreaterThan(0);
    expect(down.map(({ phase }) => phase)).not.toContain('replicate');
    expect(text).toContain('Projected downtime');
    expect(text).toContain('note: redis stays');
  });
});

it('shows the limits of online copies, by the hour where the plan has such', () => {
  const shown = stripVTControlCharacters(
    describePlan(
      samplePlan((input) => {
        const preCopySchedule = [{ from: '22:00', to: '06:00', limitKiBps: 0 }];
        input.limits = { preCopyKiBps: 10_240, preCopySchedule };
      }),
    ),
  );

  expect(shown).toMatch(/online limit +10\.0 MiB\/s per host; 22:00 to 06:00 UTC none\n/);
});

it('says how many members of etcd there are at every step, and how many may be lost', () => {
  const shown = (masters: string[]): string =>
    stripVTControlCharacters(
      describePlan(
        samplePlan((input) => {
          input.controlPlane = { etcd: 'stacked', masters };
        }),
      ),
    );

  expect(shown(['node-1', 'node-2', 'node-3'])).toMatch(
    /etcd members +3 → 4 → 5 → 6 → 5 → 4 → 3, 1 may be lost at every step/,
  );
  expect(shown(['node-1'])).toContain('the loss of one stops the API at some step');
  expect(stripVTControlCharacters(describePlan(samplePlan()))).not.toContain('etcd members');
});
