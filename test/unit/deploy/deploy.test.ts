import { execFile } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { createProgram } from '../../../src/client/main.ts';

const run = promisify(execFile);
const root = new URL('../../../', import.meta.url).pathname;
const read = (file: string): string => readFileSync(join(root, file), 'utf8');
const packageJson = JSON.parse(read('package.json')) as {
  version: string;
  devDependencies: Record<string, string>;
  engines: { node: string };
};

interface Answer {
  code: number;
  output: string;
}

async function answerOf(argv: readonly string[], env: Record<string, string> = {}): Promise<Answer> {
  const [file = '', ...args] = argv;
  try {
    const { stdout, stderr } = await run(file, args, { env: { ...process.env, ...env }, cwd: root });
    return { code: 0, output: stdout + stderr };
  } catch (error) {
    const failed = error as { code?: number | string; stdout?: string; stderr?: string };
    return {
      code: typeof failed.code === 'number' ? failed.code : 127,
      output: `${failed.stdout ?? ''}${failed.stderr ?? ''}`,
    };
  }
}

/** Long options in a command line, and what of them `ferry worker` does not know. */
function unknownOptions(line: string): string[] {
  const program = createProgram();
  const worker = program.commands.find((command) => command.name() === 'worker');
  const known = [...program.options, ...(worker?.options ?? [])].map(({ long }) => long);
  return [...line.matchAll(/--[\w-]+/g)].map(([option]) => option).filter((option) => !known.includes(option));
}

/** Variables that the worker's options are taken from. */
function knownVariables(): string[] {
  const program = createProgram();
  const worker = program.commands.find((command) => command.name() === 'worker');
  return [...program.options, ...(worker?.options ?? [])].flatMap(({ envVar }) => envVar ?? []);
}

describe('deploy/Containerfile', () => {
  const lines = read('deploy/Containerfile')
    .split('\n')
    .filter((line) => /^[A-Z]+ /.test(line));
  const of = (instruction: string): string[] =>
    lines.filter((line) => line.startsWith(`${instruction} `)).map((line) => line.slice(instruction.length + 1));

  it('builds and runs on the very Node that the tests run on, with glibc', () => {
    expect(of('FROM').map((line) => line.split(' ')[0])).toEqual(
      Array.from({ length: 2 }, () => `node:${packageJson.devDependencies['node']}-bookworm-slim`),
    );
  });

  it('copies only what exists, lets it into the build, and takes over what the build made', () => {
    const allowed = read('deploy/Containerfile.dockerignore')
      .split('\n')
      .flatMap((line) => (line.startsWith('!') ? [line.slice(1)] : []));
    const copied = of('COPY')
      .filter((line) => !line.startsWith('--from='))
      .flatMap((line) => line.split(' ').slice(0, -1));

    expect(copied.filter((file) => !existsSync(join(root, file)))).toEqual([]);
    expect(copied.toSorted()).toEqual(allowed.toSorted());
    expect(of('COPY').filter((line) => line.startsWith('--from=build'))).toHaveLength(3);
  });

  it('runs as somebody else than root, and starts a worker', () => {
    const last = lines.lastIndexOf('USER node');

    expect(last).toBeGreaterThan(lines.findLastIndex((line) => line.startsWith('FROM ')));
    expect(lines.findLastIndex((line) => /^(RUN|COPY) /.test(line))).toBeLessThan(last);
    expect(of('ENTRYPOINT')).toEqual(['["node", "/app/dist/client/bin.js"]']);
    expect(of('CMD')).toEqual(['["worker"]']);
  });

  it('holds no key, no token and no password', () => {
    expect(lines.filter((line) => /^(ARG|ENV) .*(KEY|TOKEN|PASS|SECRET)/i.test(line))).toEqual([]);
  });
});

describe('deploy/systemd/ferry-worker.service', () => {
  const text = read('deploy/systemd/ferry-worker.service');
  const values = (name: string): string[] =>
    [...text.matchAll(new RegExp(`^${name}=(.*)$`, 'gm'))].map(([, value = '']) => value);

  it('gives the worker options and variables that it knows', () => {
    const [start = ''] = values('ExecStart');
    const variables = [...text.matchAll(/Environment=(\w+)=/g)]
      .map(([, name = '']) => name)
      // Conventions of all programs, of Node and of libc, no options of this one.
      .filter((name) => !['XDG_STATE_HOME', 'NODE_OPTIONS', 'MALLOC_ARENA_MAX'].includes(name));

    expect(start).toContain('ferry worker ');
    expect(unknownOptions(start)).toEqual([]);
    expect(variables.length).toBeGreaterThanOrEqual(3);
    expect(variables.filter((name) => !knownVariables().includes(name))).toEqual([]);
  });

  it('gives the worker a place for what it remembers, and names it', () => {
    const [directory = ''] = values('StateDirectory');

    expect(values('Environment')).toContain(`XDG_STATE_HOME=/var/lib/${directory}`);
    expect(values('StateDirectoryMode')).toEqual(['0700']);
  });

  it('hands every credential to the worker that it loads', () => {
    const loaded = values('LoadCredential').map((value) => value.split(':')[0]);
    const used = [...(values('ExecStart')[0] ?? '').matchAll(/\$\{CREDENTIALS_DIRECTORY\}\/([\w-]+)/g)];

    expect(used.map(([, name]) => name).toSorted()).toEqual(loaded.toSorted());
  });

  it('gives activities the time that they have to let go, and comes back always', () => {
    const force = /shutdownForceTime: '(\d+)s'/.exec(read('src/worker.ts'))?.[1];

    expect(Number(values('TimeoutStopSec')[0])).toBeGreaterThan(Number(force));
    expect(values('Restart')).toEqual(['always']);
    expect(values('StartLimitIntervalSec')).toEqual(['0']);
  });

  it('is one that systemd takes, and exposes little of the machine', { timeout: 60_000 }, async () => {
    const version = await answerOf(['systemd-analyze', '--version']);
    // Without systemd on this machine the other tests have to do.
    if (version.code !== 0) return;
    const directory = mkdtempSync(join(tmpdir(), 'ferry-unit-'));
    const file = join(directory, 'ferry-worker.service');
    // The program need not be installed here.
    writeFileSync(file, text.replaceAll('/usr/local/bin/ferry', process.execPath));
    const verified = await answerOf(['systemd-analyze', 'verify', '--man=no', file]);
    const exposed = await answerOf(['systemd-analyze', 'security', '--offline=true', '--threshold=20', file]);
    rmSync(directory, { recursive: true });

    expect(verified.output.split('\n').filter((line) => line.includes('ferry-worker'))).toEqual([]);
    expect(exposed.output).toMatch(/Overall exposure level for ferry-worker\.service: [01]\.\d/);
    expect(exposed.code).toBe(0);
  });
});

describe('the worker of docker-compose.temporal.yml', () => {
  interface Service {
    image: string;
    environment: Record<string, string>;
    volumes: string[];
    secrets: string[];
    stop_grace_period: string;
    profiles: string[];
  }
  const file = parse(read('docker-compose.temporal.yml'), { merge: true }) as {
    services: { worker: Service };
    secrets: Record<string, { file: string }>;
  };
  const { worker } = file.services;

  it('has the version of this package and starts only when it is asked for', () => {
    expect(worker.image).toBe(`ferry/worker:${packageJson.version}`);
    expect(worker.profiles).toEqual(['worker']);
  });

  it('takes keys from files that are mounted, and every one that it mounts', () => {
    const mounted = Object.values(worker.environment).filter((value) => value.startsWith('/run/secrets/'));

    expect(mounted.map((value) => value.slice('/run/secrets/'.length)).toSorted()).toEqual(worker.secrets.toSorted());
    expect(Object.keys(file.secrets).toSorted()).toEqual(worker.secrets.toSorted());
  });

  it('sets variables that the worker knows', () => {
    const others = Object.keys(worker.environment).filter(
      (name) => !/^TEMPORAL_|^KUBECONFIG$|^FERRY_USER$|^XDG_STATE_HOME$/.test(name),
    );

    expect(others.filter((name) => !knownVariables().includes(name))).toEqual([]);
  });

  it('keeps what it learned of API servers in a volume that the image lets anybody write to', () => {
    const [volume = ''] = worker.volumes;
    const place = volume.split(':')[1] ?? '';

    expect(worker.environment['XDG_STATE_HOME']).toBe(place);
    expect(readFileSync('deploy/Containerfile', 'utf8')).toContain(`install -d -m 1777 ${place}`);
  });

  it('is valid for compose, with and without the profile', { timeout: 60_000 }, async () => {
    const compose = ['docker', 'compose', '-f', 'docker-compose.temporal.yml'];
    // Without the plugin on this machine the other tests have to do.
    if ((await answerOf([...compose.slice(0, 2), 'version'])).code !== 0) return;
    const env = { TEMPORAL_POSTGRES_PASSWORD: 'x' };
    const plain = await answerOf([...compose, 'config', '--services'], env);
    const all = await answerOf([...compose, '--profile', 'worker', 'config', '--services'], env);

    expect(plain.output.split('\n')).not.toContain('worker');
    expect(all.output.split('\n')).toContain('worker');
    expect((await answerOf([...compose, 'config'])).output).toContain('set TEMPORAL_POSTGRES_PASSWORD');
  });
});
