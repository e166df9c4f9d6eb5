import { writeFileSync } from 'node:fs';
import { parseDocument } from 'yaml';
import { z } from 'zod';
import { observeFacts } from '../activities/facts.ts';
import { fetchHostKeys, fingerprint } from '../hosts/known-hosts.ts';
import type { Answers } from '../plan/derive.ts';
import { derivePlan, PlanNotPossible } from '../plan/derive.ts';
import type { Facts, HostFact } from '../plan/facts.ts';
import type { ComponentKind, GateName, Plan } from '../plan/plan.ts';
import { absolutePath, componentKinds, dnsLabel, gateNames } from '../plan/plan.ts';
import { formatPlanErrors, parsePlan, parsePlanData } from '../plan/validate.ts';
import { ask } from './ask.ts';
import { forStderr, pcError } from './colors.ts';
import type { OutputFormat } from './commands/options.ts';
import type { GlobalOptions } from './connection.ts';
import { personName } from './connection.ts';
import { CliError } from './errors.ts';
import { readNamed } from './files.ts';
import { print, render, writeResult } from './output.ts';
import { describePlan } from './plan-view.ts';
import type { Platform, PlatformOptions } from './platform.ts';
import { knownHostsFiles, readKnownHosts, withPlatform } from './platform.ts';
import { secondsOfRehearsal } from './rehearsal.ts';

export interface PlanOptions extends GlobalOptions, PlatformOptions {
  map?: string[];
  seal?: string;
  output?: OutputFormat;
  outputFile?: string;
  cluster?: string;
  author?: string;
  approver?: string[];
  notify?: string[];
  required?: number;
  selfApproval?: boolean;
  hostAddress?: Record<string, string>;
  sshUser?: string;
  sshPort?: number;
  package?: string;
  home?: string;
  protonCli?: string;
  containerRegistry?: 'copy-data' | 're-push' | 'not-moved';
  applicationNamespace?: string[];
  configNamespace?: string;
  resourceNamespace?: string;
  dataPath?: Record<string, string>;
  removeOldNodes: boolean;
  removeNodesAfter?: 'reinstall' | 'start-apps';
  budget?: number;
  rehearsal?: string;
  limit?: number;
  verify?: Plan['verify'];
  bringRsync?: string | true;
  restart?: 'start' | 'reboot';
  prewarm?: boolean;
  measure: boolean;
}

/** `ferry plan`. */
export async function planOrSeal(options: PlanOptions): Promise<void> {
  if (options.seal !== undefined) {
    seal(options.seal, options);
    return;
  }
  const mapping = options.map?.flatMap(parseMapping) ?? (await askMapping());
  await withPlatform(options, async (platform) => {
    const { plan, notes } = await makePlan(platform, options, mapping);
    showPlan(plan, notes, options);
  });
}

function showPlan(plan: Plan, notes: readonly string[], options: PlanOptions): void {
  const text = (): string => describePlan(plan, notes);
  const file = options.outputFile;
  if (file === undefined) {
    print(plan, options.output ?? 'table', text);
    if (options.output !== undefined && options.output !== 'table' && options.quiet !== true) {
      for (const note of notes) process.stderr.write(`note: ${note}\n`);
    }
    return;
  }
  const format = options.output ?? (file.endsWith('.json') ? 'json' : 'yaml');
  writeResult(file, render(plan, format, text));
  if (options.quiet === true) return;
  process.stderr.write(`${forStderr(text())}\n\nWritten to ${file}. Next: ferry check ${file}\n`);
}

/** The plan and what people should know about it. Throws a CliError with everything that stands against it. */
export async function makePlan(
  platform: Platform,
  options: PlanOptions,
  mapping: Plan['mapping'],
): Promise<{ plan: Plan; notes: string[] }> {
  const newDataPaths = parseDataPaths(options.dataPath ?? {});
  const answers: Answers = {
    cluster: clusterName(options.cluster ?? platform.kubeConfig.getCurrentCluster()?.name),
    author: options.author ?? personName(),
    createdAt: new Date().toISOString(),
    mapping,
    removeOldNodes: options.removeOldNodes,
    newDataPaths,
    overrides: overridesOf(options),
    ...(options.package === undefined ? {} : { packageDirectory: options.package }),
    ...(options.home === undefined ? {} : { home: options.home }),
    ...(options.protonCli === undefined ? {} : { protonCli: options.protonCli }),
    ...(options.containerRegistry === undefined ? {} : { containerRegistry: options.containerRegistry }),
    ...(options.applicationNamespace === undefined ? {} : { namespaces: options.applicationNamespace }),
    ...(options.restart === undefined ? {} : { restart: options.restart }),
  };
  const facts = await observeFacts(
    {
      ...platform,
      knownHosts: readKnownHosts(),
      ...(options.quiet === true
        ? {}
        : {
            progress: (line: string) => {
              process.stderr.write(`${pcError.dim(line)}\n`);
            },
          }),
    },
    {
      mapping,
      addresses: options.hostAddress ?? {},
      newDataPaths,
      measure: options.measure,
      ...(options.sshUser === undefined ? {} : { user: options.sshUser }),
      ...(options.sshPort === undefined ? {} : { port: options.sshPort }),
      ...(options.configNamespace === undefined ? {} : { configNamespace: options.configNamespace }),
      ...(options.resourceNamespace === undefined ? {} : { resourceNamespace: options.resourceNamespace }),
    },
  );
  const derived = await deriveOrAsk(facts, answers);
  const result = parsePlanData(derived.plan, { registryHosts: facts.config.registryHosts });
  if (!result.ok) throw notPossible(formatPlanErrors(result.errors, 'plan'));
  return { plan: result.plan, notes: derived.notes };
}

/** What only a person can say is asked for on a terminal, one question after the other; everything else is told at once. */
async function deriveOrAsk(facts: Facts, answers: Answers): Promise<ReturnType<typeof derivePlan>> {
  try {
    return derivePlan(facts, answers);
  } catch (error) {
    if (error instanceof z.ZodError) {
      throw notPossible(error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`));
    }
    if (!(error instanceof PlanNotPossible)) throw error;
    const [question] = error.questions;
    if (error.problems.length === 0 && !process.stdin.isTTY && mayCopyRegistry(error, facts)) {
      const derived = await deriveOrAsk(facts, { ...answers, containerRegistry: 'copy-data' });
      return { ...derived, notes: [...derived.notes, registryNote(facts)] };
    }
    if (error.problems.length > 0 || question === undefined || !process.stdin.isTTY) {
      throw await explainProblems(error, facts, answers);
    }
    const choices = question.choices.length === 0 ? '' : ` [${question.choices.join(' | ')}]`;
    const answer = await ask(`${question.text}${choices} `, `${question.text} Say it: ${question.option}`);
    return deriveOrAsk(facts, withAnswer(answers, question.option, answer));
  }
}

/** Without a person to ask, the registry's data goes along: the only answer that loses nothing and needs nobody afterwards. */
function mayCopyRegistry({ questions }: PlanNotPossible, facts: Facts): boolean {
  return (
    facts.config.registryStorage !== undefined &&
    questions.some(({ option }) => option.startsWith('--container-registry'))
  );
}

function registryNote({ config }: Facts): string {
  return `the container registry is on ${config.registryHosts.join(', ')}, some of which leave: its data is copied to their successors (--container-registry re-push plans without)`;
}

function withAnswer(answers: Answers, option: string, answer: string): Answers {
  if (option.startsWith('--package')) return { ...answers, packageDirectory: answer };
  if (option.startsWith('--container-registry') && (answer === 're-push' || answer === 'copy-data')) {
    return { ...answers, containerRegistry: answer };
  }
  throw new CliError('usage', `${answer} is no answer to this; nothing was done`, option);
}

async function explainProblems(error: PlanNotPossible, facts: Facts, answers: Answers): Promise<CliError> {
  const mapped = new Set(answers.mapping.flatMap(({ from, to }) => [from, to]));
  const unknown = facts.hosts.filter(
    (host) => host.hostKeys.length === 0 && (mapped.has(host.name) || host.name === facts.config.masters[0]),
  );
  const questions = error.questions.map(({ text, option, choices }) => {
    const found = choices.length === 0 ? '' : ` One of: ${choices.join(', ')}.`;
    return `${text}${found} Say it: ${option}`;
  });
  const refused = notPossible([...error.problems, ...questions], error);
  if (unknown.length === 0) return refused;
  return new CliError(
    'usage',
    `${refused.message}\n\n${await explainHostKeys(unknown)}`,
    'compare the fingerprints, run the commands, then make the plan again',
    error,
  );
}

/** A plan pins the keys of all machines, so somebody must have looked at them once. */
async function explainHostKeys(unknown: readonly HostFact[]): Promise<string> {
  const file = knownHostsFiles()[0] ?? '~/.ssh/known_hosts';
  const lines = await Promise.all(
    unknown.map(async ({ name, address, port }) => {
      const at = port === 22 ? address : `-p ${port} ${address}`;
      const shown = await fetchHostKeys(address, port).catch(() => []);
      const prints = shown.map((key) => `    shows now: ${key.split(' ')[0] ?? ''} ${fingerprint(key)}`);
      return [
        `  ${name} (${address})`,
        ...(prints.length === 0 ? ['    does not answer now'] : prints),
        `    see:       ssh-keyscan ${at} 2>/dev/null | ssh-keygen -lf -`,
        `    trust it:  ssh-keyscan ${at} >> ${file}`,
      ].join('\n');
    }),
  );
  return [
    'Nobody has said yet which host keys are the right ones. Compare each with the console of the machine',
    '(there: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub) before you trust it:',
    ...lines,
  ].join('\n');
}

function notPossible(problems: readonly string[], cause?: unknown): CliError {
  const count = problems.length === 1 ? 'one thing stands' : `${problems.length} things stand`;
  return new CliError(
    'usage',
    `no plan can be made, ${count} against it; nothing was changed\n${problems.map((line) => `  ${line}`).join('\n')}`,
    'set these right, then make the plan again',
    cause,
  );
}

const mappingExample = 'ferry plan --map old1=new1,old2=new2,old3=new3';

/** On a terminal people are asked; a script must say it. */
export async function askMapping(): Promise<Plan['mapping']> {
  const missing = `which machine replaces which node? Nothing was done; say it: ${mappingExample}`;
  return parseMapping(await ask('Which machine replaces which node? [old1=new1,old2=new2,…] ', missing));
}

/** `old1=new1,old2=new2`. */
export function parseMapping(text: string): Plan['mapping'] {
  return text
    .split(',')
    .filter((pair) => pair.trim() !== '')
    .map((pair) => {
      const [from, to, ...more] = pair.split('=').map((name) => name.trim());
      const names = z.tuple([dnsLabel, dnsLabel]).safeParse([from, to]);
      if (!names.success || more.length > 0) {
        throw new CliError(
          'usage',
          `"${pair}" is not OLD=NEW with names of nodes (lower-case letters, digits, -). Nothing was done`,
          mappingExample,
        );
      }
      return { from: names.data[0], to: names.data[1] };
    });
}

function parseDataPaths(pairs: Record<string, string>): Partial<Record<ComponentKind, string>> {
  const parsed = z.partialRecord(z.enum(componentKinds), absolutePath).safeParse(pairs);
  if (parsed.success) return parsed.data;
  const problems = parsed.error.issues.map(({ path, message }) => `${path.join('.')}: ${message}`).join('; ');
  throw new CliError('usage', `--data-path: ${problems}; nothing was done`, '--data-path redis=/data/redis');
}

/** What people call their cluster, as a label of the plan. */
export function clusterName(name: string | undefined): string {
  const label = (name ?? '')
    .toLowerCase()
    .replaceAll(/[^a-z0-9-]+/g, '-')
    .replaceAll(/^[^a-z]+|-+$/g, '')
    .slice(0, 50)
    .replace(/-+$/, '');
  if (label !== '') return label;
  throw new CliError('usage', 'the kubeconfig does not name its cluster; nothing was done', '--cluster NAME');
}

/** Approvers for all gates, or for one: `li`, `remove-nodes=wang`. */
export function gatesOf(
  approvers: readonly string[],
  required: number | undefined,
  selfApproval = false,
): Record<GateName, { approvers: string[]; required: number; selfApproval: boolean }> {
  const everywhere = approvers.filter((name) => !name.includes('='));
  const known = new Set<string>(gateNames);
  for (const entry of approvers) {
    const [gate = '', name = ''] = entry.split('=');
    if (entry.includes('=') && (!known.has(gate) || name === '')) {
      throw new CliError(
        'usage',
        `--approver ${entry}: there is no gate ${gate}; nothing was done`,
        `gates are ${gateNames.join(', ')}`,
      );
    }
  }
  const of = (gate: GateName): { approvers: string[]; required: number; selfApproval: boolean } => ({
    approvers: [
      ...new Set([
        ...everywhere,
        ...approvers.filter((entry) => entry.startsWith(`${gate}=`)).map((entry) => entry.slice(gate.length + 1)),
      ]),
    ],
    required: required ?? 1,
    selfApproval,
  });
  return {
    'open-downtime': of('open-downtime'),
    'remove-nodes': of('remove-nodes'),
    'close-downtime': of('close-downtime'),
  };
}

function overridesOf(options: PlanOptions): NonNullable<Answers['overrides']> {
  return {
    gates: {
      ...gatesOf(options.approver ?? [], options.required, options.selfApproval),
      ...(options.removeNodesAfter === undefined ? {} : { removeNodesAfter: options.removeNodesAfter }),
    },
    ...(options.limit === undefined ? {} : { limits: { preCopyKiBps: options.limit } }),
    downtime: {
      ...(options.budget === undefined ? {} : { budgetSeconds: options.budget }),
      ...(options.rehearsal === undefined ? {} : { expectedSeconds: secondsOfRehearsal(options.rehearsal) }),
    },
    ...(options.verify === undefined ? {} : { verify: options.verify }),
    ...(options.notify === undefined ? {} : { notify: options.notify }),
    ...(options.bringRsync === undefined ? {} : { bringRsync: bringRsyncOf(options.bringRsync) }),
    ...(options.prewarm === false ? { images: { prewarm: false } } : {}),
  };
}

/** As `ferry copy` takes it. */
export function bringRsyncOf(named: string | true): NonNullable<Plan['bringRsync']> {
  if (named === true) return {};
  const program = absolutePath.safeParse(named);
  if (program.success) return { program: program.data };
  const why = program.error.issues[0]?.message ?? '';
  throw new CliError('usage', `--bring-rsync ${named}: ${why}; nothing was done`, '--bring-rsync /usr/bin/rsync');
}

function seal(file: string, { output = 'table', quiet }: PlanOptions): void {
  const text = readNamed(file).toString();
  const sealed = sealText(text, file);
  const { digest } = sealed;
  const isNew = sealed.text !== text;
  if (isNew) writeFileSync(file, sealed.text);
  print({ file, digest, changed: isNew }, output, () => {
    if (quiet === true) return digest;
    return isNew ? `Sealed ${file}: ${digest}\nNext: ferry check ${file}` : `${file} is sealed already: ${digest}`;
  });
}

/** The text of a plan file with the digest of what stands in it; comments and order stay. */
export function sealText(text: string, file: string): { text: string; digest: string } {
  const isJson = file.endsWith('.json') || text.trimStart().startsWith('{');
  const result = parsePlan(text, isJson ? 'json' : 'yaml', { digest: 'ignore' });
  if (!result.ok) {
    const lines = formatPlanErrors(result.errors, file);
    throw new CliError(
      'usage',
      `${file} is not a valid plan; it was not touched\n${lines.map((line) => `  ${line}`).join('\n')}`,
      `correct it, then: ferry plan --seal ${file}`,
    );
  }
  const { digest } = result.plan;
  if (isJson) {
    const data = JSON.parse(text) as Record<string, unknown>;
    if (data['digest'] === digest) return { text, digest };
    return { text: `${JSON.stringify({ ...data, digest }, null, 2)}\n`, digest };
  }
  const before: unknown = parseDocument(text).get('digest');
  if (before === digest) return { text, digest };
  const line = /^digest:.*$/m;
  const next = line.test(text)
    ? text.replace(line, `digest: ${digest}`)
    : `${text.replace(/\n*$/, '\n')}digest: ${digest}\n`;
  return { text: next, digest };
}
