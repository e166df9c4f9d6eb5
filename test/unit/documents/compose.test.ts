import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { ensureParts, partFolder } from '../../../lab/build/parts.ts';
import { searchAttributes } from '../../../src/workflows/messages.ts';

interface Service {
  image: string;
  ports?: string[];
  environment?: Record<string, string>;
  command?: string[];
  healthcheck?: { test: string[] };
  restart?: string;
  depends_on?: Record<string, { condition: string }>;
  volumes?: string[];
  profiles?: string[];
}

const text = readFileSync(new URL('../../../docker-compose.temporal.yml', import.meta.url), 'utf8');
const file = parse(text, { merge: true }) as { services: Record<string, Service>; volumes: Record<string, unknown> };
const services = Object.entries(file.services);

/** The part of an image after the colon. */
function tagOf(name: string): string {
  return file.services[name]?.image.split(':')[1] ?? '';
}

describe('docker-compose.temporal.yml', () => {
  it.each(services)('%s runs an image of an exact version', (_name, service) => {
    expect(service.image).toMatch(/^[a-z]+(\/[a-z-]+)?:\d+\.\d+(\.\d+)?(-[a-z]+)?$/);
  });

  it('sets the schema up with the tools of the very version of the server', () => {
    expect(new Set(['temporal', 'schema', 'namespace', 'tools'].map(tagOf))).toEqual(new Set([tagOf('temporal')]));
  });

  it.each(services.flatMap(([name, { ports = [] }]) => ports.map((port) => [name, port])))(
    '%s publishes %s on this machine only',
    (_name, port) => {
      expect(port).toMatch(/^127\.0\.0\.1:\d+:\d+$/);
    },
  );

  it('takes every password from outside and refuses to start without it', () => {
    const passwords = services.flatMap(([, { environment = {} }]) =>
      Object.entries(environment).filter(([key]) => /PASSWORD|PWD/.test(key)),
    );

    expect(passwords.length).toBeGreaterThanOrEqual(3);
    for (const [, value] of passwords) expect(value).toMatch(/^\$\{TEMPORAL_POSTGRES_PASSWORD:\?.+\}$/);
  });

  it('watches the health of everything that stays, and restarts it', () => {
    const lasting = services.filter(([name]) => !['schema', 'namespace', 'tools'].includes(name));

    expect(lasting.map(([name]) => name)).toEqual(['postgresql', 'temporal', 'ui', 'worker']);
    for (const [, service] of lasting) {
      expect(service.healthcheck?.test.length).toBeGreaterThan(0);
      expect(service.restart).toBe('unless-stopped');
    }
  });

  it('keeps the database in a volume and starts the server after the schema', () => {
    expect(file.services['postgresql']?.volumes).toEqual(['postgresql:/var/lib/postgresql/data']);
    expect(Object.keys(file.volumes)).toEqual(['postgresql', 'worker-state']);
    expect(file.services['temporal']?.depends_on?.['schema']?.condition).toBe('service_completed_successfully');
  });

  it('creates exactly the search attributes that a migration writes', () => {
    const script = file.services['namespace']?.command?.join('\n') ?? '';
    const created = [...script.matchAll(/search-attribute create --name (\w+) --type (\w+)/g)];

    expect(created.map(([, name, type]) => [name, type?.toUpperCase()])).toEqual(
      Object.values(searchAttributes).map(({ name, type }) => [name, type]),
    );
  });

  it('leaves no variable of a script for compose to fill in', () => {
    const scripts = services.flatMap(([, { command = [] }]) => command).join('\n');

    expect(scripts.replaceAll('$$', '')).not.toContain('$');
  });
});

/** Read, filled in and judged by the very library that `docker compose config` does it with. */
async function loaded(changed: string): Promise<{ output: string; problem: string }> {
  const directory = mkdtempSync(join(tmpdir(), 'ferry-compose-'));
  const path = join(directory, 'compose.yml');
  writeFileSync(path, changed);
  try {
    const { stdout } = await promisify(execFile)(join(partFolder('composeLoader'), 'compose-loader'), [path]);
    return { output: stdout, problem: '' };
  } catch (error) {
    return { output: '', problem: (error as { stderr?: string }).stderr ?? String(error) };
  } finally {
    rmSync(directory, { recursive: true });
  }
}

describe("docker-compose.temporal.yml in compose's own eyes", () => {
  // The library is run without an environment: what a person has to set is set in the file.
  const set = text.replaceAll(/\$\{TEMPORAL_POSTGRES_PASSWORD:\?[^}]+\}/g, 'c0ffee');
  beforeAll(() => ensureParts(['composeLoader']), 300_000);

  it('is valid, with every variable filled in and the services of its profiles', async () => {
    const { output, problem } = await loaded(set);
    const project = parse(output) as { services: Record<string, Service & { environment: Record<string, string> }> };

    expect(problem).toBe('');
    expect(Object.keys(project.services).toSorted()).toEqual(services.map(([name]) => name).toSorted());
    expect(project.services['temporal']?.environment['POSTGRES_PWD']).toBe('c0ffee');
    expect(project.services['namespace']?.environment['RETENTION']).toBe('2160h');
  });

  it('does not start without the password, and would not pass with a misspelt key', async () => {
    expect((await loaded(text)).problem).toContain('set TEMPORAL_POSTGRES_PASSWORD');
    expect((await loaded(set.replace('healthcheck:', 'healthchek:'))).problem).toContain('healthchek');
  });
});
