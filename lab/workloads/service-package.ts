/** The platform's dependency package as the lab has it: charts of our own under the platform's names. */
import { mkdir, mkdtemp, readFile, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { parse, parseDocument } from 'yaml';
import { copyFollowing, mariadbArguments } from './images.ts';
import { run } from './run.ts';

export const chartsFolder = join(import.meta.dirname, '..', 'charts');

/** What `proton-version.txt` says, on every machine. */
export const platformVersion = 'ProtonDeps-3.8.0-beta.34+lab.x86_64';

/** `small`: seven components with few containers; `full`: all thirteen kinds. */
export type Profile = 'small' | 'full';

/** The profile asked for by LAB_PROFILE; `full` if it says nothing. */
export function profileFromEnvironment(env: NodeJS.ProcessEnv = process.env): Profile {
  const wanted = env['LAB_PROFILE'] ?? 'full';
  if (wanted === 'small' || wanted === 'full') return wanted;
  throw new Error(`LAB_PROFILE=${wanted}: there are small and full`);
}

/** Values that differ from the charts' own, which are as the platform's. */
function valuesOf(chart: string, profile: Profile): Record<string, unknown> {
  const sides = profile === 'full';
  if (chart === 'rds-mariadb-operator')
    return { sides, mariadbArguments: [...mariadbArguments], replicas: sides ? 2 : 1 };
  if (chart === 'nebula-operator') return { reclaim: process.env['LAB_NEBULA_RECLAIM'] === 'true' };
  if (chart.endsWith('-operator') || chart === 'component-manage') return {};
  // the lab's kubelets allow no unsafe sysctl
  const special = chart === 'proton-redis' ? { sysctls: false } : {};
  return { sidecars: false, ...special };
}

export interface Chart {
  name: string;
  version: string;
}

/** Charts of the lab, by name. */
export async function listCharts(): Promise<Chart[]> {
  const entries = await readdir(chartsFolder, { withFileTypes: true });
  const names = entries.filter((entry) => entry.isDirectory()).map((entry) => entry.name);
  return Promise.all(
    names.sort().map(async (name) => {
      const { version } = parse(await readFile(join(chartsFolder, name, 'Chart.yaml'), 'utf8')) as { version: string };
      return { name, version };
    }),
  );
}

/** A chart as a folder that stands alone (links followed), its defaults replaced by `values`. */
export async function stageChart(name: string, to: string, values: Record<string, unknown> = {}): Promise<string> {
  const folder = join(to, name);
  await copyFollowing(join(chartsFolder, name), folder);
  const file = join(folder, 'values.yaml');
  const document = parseDocument(await readFile(file, 'utf8'));
  for (const [key, value] of Object.entries(values)) document.set(key, document.createNode(value));
  await writeFile(file, document.toString());
  return folder;
}

/**
 * Makes `<directory>/service-package/charts/<chart>-<version>.tgz`, an empty image index and `<directory>/proton-version.txt`.
 * What was there is replaced.
 */
export async function buildServicePackage(
  directory: string,
  profile: Profile = profileFromEnvironment(),
): Promise<void> {
  await mkdir(directory, { recursive: true });
  const work = await mkdtemp(join(directory, '.package-'));
  try {
    const charts = join(work, 'service-package', 'charts');
    await mkdir(charts, { recursive: true });
    await mkdir(join(work, 'service-package', 'images'));
    await writeFile(join(work, 'service-package', 'images', 'index.json'), '{"schemaVersion":2,"manifests":[]}\n');
    for (const { name, version } of await listCharts()) {
      await stageChart(name, join(work, 'staged'), valuesOf(name, profile));
      const tar = join(work, `${name}.tar`);
      const same = ['--sort=name', '--mtime=@0', '--owner=0', '--group=0', '--numeric-owner', '--format=gnu'];
      await run(['tar', ...same, '-C', join(work, 'staged'), '-cf', tar, name]);
      await writeFile(join(charts, `${name}-${version}.tgz`), gzipSync(await readFile(tar)));
    }
    await rm(join(directory, 'service-package'), { recursive: true, force: true });
    await rename(join(work, 'service-package'), join(directory, 'service-package'));
    await writeFile(join(directory, 'proton-version.txt'), `${platformVersion}\n`);
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
