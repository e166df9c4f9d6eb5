import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { configNodes, editConfig, repairGetConf } from '../../../src/plan/config-edit.ts';
import type { ConfigEditStage } from '../../../src/plan/config-edit.ts';
import { flattenTokens, YamlEditError } from '../../../src/plan/yaml-source.ts';
import { recorded, recordedConfig, recordedConfigNames, sampleComponents, samplePlan } from './samples.ts';

const plan = samplePlan();
const components = sampleComponents();
const edit = (text: string, stage: ConfigEditStage): string => editConfig(text, stage, plan, components).text;

/** Every leaf by path, as YAML 1.1 reads it. */
function leaves(value: unknown, path = ''): Map<string, string> {
  if (typeof value !== 'object' || value === null || value instanceof Date) {
    return new Map([[path, `${typeof value} ${String(value)}`]]);
  }
  const entries = Object.entries(value);
  if (entries.length === 0) return new Map([[path, Array.isArray(value) ? '[]' : '{}']]);
  return new Map(entries.flatMap(([key, entry]) => [...leaves(entry, `${path}/${key}`)]));
}

function read11(text: string): Map<string, string> {
  return leaves(parse(text, { version: '1.1', merge: true, uniqueKeys: false, logLevel: 'silent' }));
}

function differing(before: string, after: string): string[] {
  const [old, next] = [read11(before), read11(after)];
  return [...new Set([...old.keys(), ...next.keys()])].filter((path) => old.get(path) !== next.get(path));
}

describe('the recorded documents', () => {
  it.each<[string, ConfigEditStage, string]>([
    ['base', 'add-nodes', 'middle'],
    ['middle', 'reinstall', 'middle-hosts-replaced'],
    ['middle-hosts-replaced', 'remove-nodes', 'final'],
    ['middle-hosts-replaced', 'reinstall-back', 'middle'],
    ['middle', 'remove-new-nodes', 'base'],
  ])('%s, %s: %s byte for byte', (before, stage, after) => {
    const result = editConfig(recordedConfig(before), stage, plan, components);

    expect(result.text).toBe(recordedConfig(after));
    expect(result.changed).toBe(true);
    expect(result.nodes).toEqual(configNodes(recordedConfig(after)));
  });

  it.each<[string, ConfigEditStage]>([
    ['middle', 'add-nodes'],
    ['middle-hosts-replaced', 'reinstall'],
    ['final', 'remove-nodes'],
    ['middle', 'reinstall-back'],
    ['base', 'remove-new-nodes'],
  ])('%s already is what %s makes', (name, stage) => {
    expect(editConfig(recordedConfig(name), stage, plan, components)).toEqual({
      text: recordedConfig(name),
      nodes: configNodes(recordedConfig(name)),
      changed: false,
    });
  });

  it.each(['flow-style', 'json-file', 'crlf', 'bom', 'comments-everywhere'])(
    '%s goes through all stages and reads like the final one',
    (name) => {
      const before = recordedConfig(name);

      const middle = edit(before, 'add-nodes');
      const moved = edit(middle, 'reinstall');
      const final = edit(moved, 'remove-nodes');

      expect(read11(middle)).toEqual(read11(recordedConfig('middle')));
      expect(read11(moved)).toEqual(read11(recordedConfig('middle-hosts-replaced')));
      expect(read11(final)).toEqual(read11(recordedConfig('final')));
      expect(final.includes('\r\n')).toBe(before.includes('\r\n'));
      expect(final.startsWith('\uFEFF')).toBe(before.startsWith('\uFEFF'));
    },
  );

  it.each(['anchors-for-hosts', 'merge-key'])('%s: written out, then edited', (name) => {
    const middle = edit(recordedConfig(name), 'add-nodes');

    expect(differing(recordedConfig(name), middle).every((path) => /^\/(nodes|cs\/master)\/[3-5]/.test(path))).toBe(
      true,
    );
    const hosts = differing(middle, edit(middle, 'reinstall'));
    expect(hosts.length).toBeGreaterThan(20);
    expect(hosts.every((path) => /\/hosts\/\d$|\/storage\/local\/0\/host$/.test(path))).toBe(true);
  });

  it('keeps what an unquoted password reads as', () => {
    const names = recordedConfigNames().filter((name) =>
      /unquoted|octal|password-(bool|date|number|unicode)/.test(name),
    );
    expect(names.length).toBeGreaterThan(5);
    for (const name of names) {
      const text = recordedConfig(name);
      let after: string;
      try {
        after = edit(text, 'add-nodes');
      } catch (error) {
        expect(error).toBeInstanceOf(YamlEditError);
        continue;
      }
      expect(differing(text, after).filter((path) => !/^\/(nodes|cs\/master)\//.test(path))).toEqual([]);
    }
  });

  it('adding nodes touches nothing but nodes and masters, or refuses, in every recorded document', () => {
    let edited = 0;
    for (const name of recordedConfigNames()) {
      const text = recordedConfig(name);
      let after: string;
      try {
        after = edit(text, 'add-nodes');
      } catch (error) {
        expect(error, name).toBeInstanceOf(YamlEditError);
        continue;
      }
      edited += 1;
      const [old, next] = [flattenTokens(text), flattenTokens(after)];
      const changed = [...new Set([...old.keys(), ...next.keys()])].filter((path) => old.get(path) !== next.get(path));
      expect(
        changed.filter((path) => !/^(nodes|cs\.master)\[/.test(path)),
        name,
      ).toEqual([]);
      expect(configNodes(after), name).toEqual(expect.arrayContaining(['node-4', 'node-5', 'node-6']));
    }
    expect(edited).toBeGreaterThan(200);
  }, 60_000);
});

describe('refuses', () => {
  const replace = (name: string, from: string | RegExp, to: string): string => {
    const text = recordedConfig(name);
    const result = text.replace(from, to);
    expect(result).not.toBe(text);
    return result;
  };

  it.each<[string, string, ConfigEditStage, RegExp]>([
    ['a document without nodes', recordedConfig('no-nodes'), 'add-nodes', /^nodes: lists no node/],
    ['an empty document', '', 'add-nodes', /empty/],
    [
      'another address',
      replace('middle', '10.0.0.14', '10.0.0.99'),
      'add-nodes',
      /nodes\[3\].*10\.0\.0\.99.*10\.0\.0\.14/,
    ],
    ['a taken address', replace('base', '10.0.0.13', '10.0.0.14'), 'add-nodes', /node-3 already has the address/],
    [
      'a new master in front',
      recordedConfig('middle-new-masters-first'),
      'add-nodes',
      /cs\.master: starts with the new node/,
    ],
    [
      'hosts in another order',
      edit(recordedConfig('reversed-kafka'), 'add-nodes'),
      'reinstall',
      /kafka\.hosts: is \[.*\], expected \[node-1/,
    ],
    ['a stale document', recordedConfig('base'), 'reinstall', /^nodes: does not list node-4/],
    [
      'another directory',
      replace('middle', '/sysvol/grafana', '/other'),
      'reinstall',
      /grafana\.data_path: is \/other/,
    ],
    ['a component that stayed', recordedConfig('middle'), 'remove-nodes', /still names node-1/],
    [
      'a missing section',
      replace('middle', /^grafana:\n {2}.*\n {2}hosts:\n {2}- node-1\n/m, ''),
      'reinstall',
      /^grafana: is missing/,
    ],
  ])('%s', (_what, text, stage, message) => {
    expect(() => edit(text, stage)).toThrow(message);
  });

  it('removing a registry host without a word on its data', () => {
    expect(() =>
      editConfig(
        recordedConfig('middle-hosts-replaced'),
        'remove-nodes',
        { ...plan, containerRegistry: 'not-moved' },
        components,
      ),
    ).toThrow(/cr\.local\.hosts: names node-1, node-2.*containerRegistry.*line 16/);
  });

  it('says where, without quoting the document', () => {
    expect(() => edit('a: 1\npassword: "hunter2\nb: [', 'add-nodes')).toThrow(
      expect.objectContaining({
        message: expect.not.stringContaining('hunter2') as string,
        line: expect.any(Number) as number,
      }),
    );
  });
});

describe('fields that name nodes', () => {
  it('rewrites selectors, registries of containerd and eceph', () => {
    const text = recordedConfig('middle-hosts-replaced')
      .replace('cms: {}', 'cms:\n  nodeSelector:\n    kubernetes.io/hostname: node-2 # pinned')
      .replace(
        / {4}docker:\n(?: {6}.*\n)+/,
        `    containerd:
      registries:
      - host: node-1:5000
        server: http://node-1:5000
        host_configs:
          node-1:5000: {skip_verify: true}
      - host: registry.example:15000
        server: http://registry.example:15000
`,
      )
      .concat('eceph:\n  hosts: [node-3, "node-1"]\n');

    const final = edit(text, 'remove-nodes');

    expect(final).toContain('kubernetes.io/hostname: node-5 # pinned\n');
    expect(final).toContain(`      - host: node-4:5000
        server: http://node-4:5000
        host_configs:
          node-4:5000: {skip_verify: true}
      - host: registry.example:15000`);
    expect(final).toContain('hosts: [node-6, "node-4"]');
    expect(final).not.toMatch(/node-[123]/);
  });

  it('switches a directory where the platform records it', () => {
    const moved = components.map((component) => ({ ...component, newDataPath: `/data/${component.kind}` }));

    const text = editConfig(recordedConfig('middle'), 'reinstall', plan, moved).text;

    expect(differing(recordedConfig('middle-hosts-replaced'), text)).toHaveLength(components.length + 1);
    expect(parse(text)).toMatchObject({
      'package-store': { storage: { path: '/data/package-store' } },
      proton_monitor: { storage: { local: { '0': { host: 'node-4', path: '/data/proton-monitor' } } } },
    });
    expect(editConfig(text, 'reinstall-back', plan, moved).text).toBe(recordedConfig('middle'));
  });

  it('takes lost new nodes off the list on the way back, and those only', () => {
    const lost = ['node-5'];

    const back = editConfig(recordedConfig('middle-hosts-replaced'), 'reinstall-back', { ...plan, lost }, components);

    expect(back.nodes).toEqual(configNodes(recordedConfig('middle')).filter((name) => name !== 'node-5'));
    expect(back.text).not.toContain('node-5');
    expect(editConfig(back.text, 'reinstall-back', { ...plan, lost }, components).changed).toBe(false);
    expect(edit(back.text, 'remove-new-nodes')).toBe(recordedConfig('base'));
  });

  it('quotes a node whose name YAML 1.1 takes for a boolean', () => {
    const odd = samplePlan((input) => {
      input.nodes.add = [{ name: 'y', ip4: '10.0.0.14', controlPlane: true }];
    });

    const text = editConfig(recordedConfig('base'), 'add-nodes', odd, components).text;

    expect(read11(text).get('/cs/master/3')).toBe('string y');
    expect(read11(text).get('/nodes/3/name')).toBe('string y');
  });
});

describe('get conf', () => {
  interface Transcripts {
    cases: { name: string; recorded_config: string | null; stdout: string }[];
    documents: Record<string, string>;
  }
  const transcripts = recorded('cli-transcripts.json') as Transcripts;
  const find = (name: string): Transcripts['cases'][number] => {
    const found = transcripts.cases.find((entry) => entry.name === name);
    if (found === undefined) throw new Error(name);
    return found;
  };

  it('loses its stray first line', () => {
    const output = find('get-conf-no-deploy').stdout;
    expect(output).toMatch(/^GuessDeployConfig/);

    expect(repairGetConf(output)).toBe(output.slice(output.indexOf('\n') + 1));
  });

  it('gets its node selector back', () => {
    const { stdout, recorded_config: name } = find('get-conf-node-selector');
    const before = transcripts.documents[name ?? ''] ?? '';
    expect(read11(before).has('/component_management/nodeSelector/kubernetes.io~1hostname')).toBe(false);
    expect(before).toContain('nodeSelector');
    expect(stdout).not.toMatch(/component_management:\n {2}nodeSelector/);

    const repaired = repairGetConf(stdout, before);

    const selector = (text: string): unknown =>
      (parse(text) as { component_management: { nodeSelector?: unknown } }).component_management.nodeSelector;
    expect(selector(repaired)).toEqual(selector(before));
    expect(differing(stdout, repaired).filter((path) => !path.startsWith('/component_management'))).toEqual([]);
  });
});

describe('properties', () => {
  const odd = fc.constantFrom(
    '0123', '0o17', '0x1f', '1_000', '1e3', '1.10', '.5', '+5', '-0', 'yes', 'y', 'off', '~', 'null', '2020-01-01', '1:20',
    '12:30:45', "'0123'", '"yes"', '"a # b"', 'a#b', '!!str 07', '"\\u00e9"', '密码', '<<x', "''", 'a: b'.replace(': ', ':'),
  ); // prettier-ignore
  const comment = fc.constantFrom('', ' # note', '  # 注释 [x, y]');

  it('an edit reads differently only where it is meant to', () => {
    fc.assert(
      fc.property(
        fc.array(fc.tuple(odd, comment), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 4 }),
        fc.boolean(),
        fc.boolean(),
        (secrets, originals, flow, crlf) => {
          const names = Array.from({ length: originals }, (_, index) => `node-${index + 1}`);
          const nodes = names.map((name, index) =>
            flow
              ? `- {name: ${name}, ip4: 10.0.0.${index + 11}}`
              : `- ip4: 10.0.0.${index + 11} # c\n  name: "${name}"`,
          );
          const text = [
            '# head',
            ...secrets.map(([value, note], index) => `password_${index}: ${value}${note}`),
            'cs:',
            flow
              ? `  master: [${names.join(', ')}]`
              : `  master:\n${names.map((name) => `    - '${name}'`).join('\n# x\n')}`,
            '  after: 010',
            'nodes:',
            ...nodes,
            '# tail',
            ...secrets.map(
              ([value, note], index) => `tail_${index}: {k: [${/[#"' !]/.test(value) ? '0' : value}]}${note}`,
            ),
          ]
            .join('\n')
            .replaceAll('\n', crlf ? '\r\n' : '\n');

          const after = edit(text, 'add-nodes');

          expect(differing(text, after).filter((path) => !/^\/(nodes|cs\/master)\/\d+/.test(path))).toEqual([]);
          expect(configNodes(after)).toEqual([...new Set([...names, 'node-4', 'node-5', 'node-6'])]);
          expect(edit(after, 'remove-new-nodes').replace(/\s*$/, '')).toBe(
            originals < 4 ? text.replace(/\s*$/, '') : edit(text, 'remove-new-nodes').replace(/\s*$/, ''),
          );
        },
      ),
      { numRuns: 200 },
    );
  });
});
