/**
 * Writes the parts of the documents that follow from the code, between `<!-- generated: NAME -->` and `<!-- end -->`:
 * `npm run docs:reference`. Everything else in them is written by hand and stays. A unit test compares.
 */
import { execFileSync } from 'node:child_process';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Command } from 'commander';
import { format, resolveConfig } from 'prettier';
import { checksOf } from '../../src/activities/preflight.ts';
import { exitCodes } from '../../src/client/errors.ts';
import { createProgram } from '../../src/client/main.ts';
import { schemaNames } from '../../src/client/commands/schema.ts';
import { jsonSchema } from '../../src/client/schema.ts';
import { metrics } from '../../src/metrics.ts';
import { componentKinds } from '../../src/plan/plan.ts';
import { exchangeOf, quorumSequence } from '../../src/plan/quorum.ts';
import { decisionKinds } from '../../src/workflows/gates.ts';
import { searchAttributes, taskQueue } from '../../src/workflows/messages.ts';
import { policies } from '../../src/workflows/policies.ts';
import { stackedPlanOf } from '../workflow/plans.ts';
import type { FailureRow } from './source.ts';
import { checkRow, declarationsOf, failureRows, literalRows, parseSource, schemaComments } from './source.ts';

const root = join(import.meta.dirname, '..', '..');
export const referenceFile = join(root, 'docs', 'reference.md');
export const generatedFiles = [
  referenceFile,
  ...['errors', 'lab', 'quorum'].map((name) => join(root, 'docs', `${name}.md`)),
];
const helpWidth = 110;

interface Schema {
  type?: string | string[];
  const?: string | number | boolean;
  enum?: (string | number)[];
  format?: string;
  default?: unknown;
  description?: string;
  minimum?: number;
  maximum?: number;
  minItems?: number;
  required?: string[];
  properties?: Record<string, Schema>;
  items?: Schema;
  oneOf?: Schema[];
  anyOf?: Schema[];
  additionalProperties?: Schema | boolean;
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]): string =>
    `| ${cells.map((cell) => cell.replaceAll('|', String.raw`\|`).replaceAll('\n', ' ')).join(' | ')} |`;
  return [line(head), line(head.map(() => '---')), ...rows.map(line)].join('\n');
}

function code(text: string): string {
  return `\`${text}\``;
}

function typeOf(schema: Schema): string {
  if (schema.const !== undefined) return code(String(schema.const));
  if (schema.enum !== undefined) return schema.enum.map((value) => code(String(value))).join(', ');
  const range =
    schema.minimum !== undefined && schema.minimum > Number.MIN_SAFE_INTEGER
      ? `, ${schema.minimum}${schema.maximum !== undefined && schema.maximum < Number.MAX_SAFE_INTEGER ? ` to ${schema.maximum}` : ' or more'}`
      : '';
  if (schema.items !== undefined) {
    const least = schema.minItems === undefined ? '' : `, ${schema.minItems} or more`;
    return `list of ${schema.items.properties === undefined && schema.items.oneOf === undefined ? typeOf(schema.items) : 'objects'}${least}`;
  }
  if (typeof schema.additionalProperties === 'object') return `map of ${typeOf(schema.additionalProperties)}`;
  if (schema.oneOf !== undefined || schema.anyOf !== undefined) return 'object';
  return `${schema.format ?? [schema.type ?? 'any'].flat().join(' or ')}${range}`;
}

function fieldRows(schema: Schema, at: string, comments: ReadonlyMap<string, string>): string[][] {
  const variants = schema.oneOf ?? schema.anyOf;
  if (variants !== undefined) {
    const rows = variants.flatMap((variant) => fieldRows(variant, at, comments));
    // The field that tells the variants apart stands once, with all its values.
    return [...Map.groupBy(rows, ([path]) => path).values()].map((same) => {
      const [first = []] = same;
      return [first[0] ?? '', same.map((row) => row[1]).join(', '), first[2] ?? '', first[3] ?? ''];
    });
  }
  return Object.entries(schema.properties ?? {}).flatMap(([name, field]) => {
    const path = at === '' ? name : `${at}.${name}`;
    const isObject = field.properties !== undefined || field.oneOf !== undefined;
    const fallback =
      field.default !== undefined && !isObject
        ? code(JSON.stringify(field.default))
        : schema.required?.includes(name) === true
          ? 'required'
          : '';
    const own = [code(path), typeOf(field), fallback, field.description ?? comments.get(path) ?? ''];
    const inner =
      field.items === undefined ? fieldRows(field, path, comments) : fieldRows(field.items, `${path}[]`, comments);
    return [own, ...inner];
  });
}

function helpOf(command: Command): string {
  let text = '';
  // They stand once, with the program itself.
  command.configureHelp({ ...command.configureHelp(), showGlobalOptions: false });
  command.configureOutput({
    writeOut: (part) => {
      text += part;
    },
    getOutHelpWidth: () => helpWidth,
    getOutHasColors: () => false,
  });
  command.outputHelp();
  return text.trimEnd();
}

function commands(): string {
  const program = createProgram();
  const sections = program.commands.map(
    (command) => `### ferry ${command.name()}\n\n\`\`\`text\n${helpOf(command)}\n\`\`\``,
  );
  return [`\`\`\`text\n${helpOf(program)}\n\`\`\``, ...sections].join('\n\n');
}

function messages(): string {
  return decisionKinds
    .map((kind) => {
      const rows = fieldRows(jsonSchema(kind), '', new Map());
      return `**${code(kind)}**\n\n${table(['field', 'type', '', 'meaning'], rows)}`;
    })
    .join('\n\n');
}

function policyTable(): string {
  const rows = Object.entries(policies).map(([name, row]) => [
    code(name),
    row.startToClose,
    row.heartbeat ?? '',
    String(row.attempts),
    `${row.firstPause} to ${row.longestPause}`,
    row.reason,
  ]);
  return table(['activity', 'one try', 'longest silence', 'tries', 'pauses', 'why'], rows);
}

function applyFailures(): string {
  const rows = literalRows('src/activities/apply-failures.ts', 'rules').map((rule) => [
    code(rule['name'] ?? ''),
    code(rule['pattern'] ?? ''),
    rule['type'] ?? '',
    rule['cause'] ?? '',
    rule['next'] ?? '',
  ]);
  return table(['name', 'the tool says', 'type', 'cause', 'next'], rows);
}

/** Failures of activities and of the workflow itself, file by file; what `apply` says is a table of its own. */
export function failureTables(): { title: string; rows: FailureRow[] }[] {
  const files = ['src/activities', 'src/workflows', 'src/workflows/phases'].flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => name.endsWith('.ts') && name !== 'apply-failures.ts')
      .toSorted()
      .map((name) => `${folder}/${name}`),
  );
  return files.map((file) => ({ title: titleOf(file), rows: failureRows(parseSource(file)) }));
}

/** Whether a failure has any words of its own: what only hands on the words of another one cannot be looked up. */
export function hasWords({ what, cause, next }: FailureRow): boolean {
  return /\w/.test(what + cause + next);
}

/** Where the name of a file says little to a reader. */
const titles: Record<string, string> = {
  'apply-gate': 'Before an apply',
  failures: 'Any machine',
  facts: 'What the platform recorded',
  'kubernetes-api': 'Kubernetes API',
  'replicate-directory': 'Copies: the workflow',
  status: 'Standing still',
  transfer: 'Copies: the end',
};

/** `src/activities/etcd-members.ts` is about etcd members. */
function titleOf(file: string): string {
  const name = basename(file, '.ts');
  if (file.includes('/phases/')) return `Phase ${name}`;
  const words = (titles[name] ?? name.replace(/^transfer-/, 'copies: ')).replaceAll('-', ' ');
  return name === 'proton-cli' ? name : words.charAt(0).toUpperCase() + words.slice(1);
}

function failures(): string {
  return failureTables()
    .flatMap(({ title, rows }) => {
      const cells = rows.filter(hasWords).map(({ what, cause, next, type }) => [what, cause, next, type].map(escaped));
      return cells.length === 0 ? [] : [`## ${title}\n\n${table(['what happened', 'cause', 'next', 'heals'], cells)}`];
    })
    .join('\n\n');
}

/** All checks there are: those of a plan whose masters are members of etcd, and of one component. */
function checkTable(): string {
  const folder = 'src/activities';
  const sources = readdirSync(join(root, folder))
    .filter((name) => name.startsWith('preflight'))
    .map((name) => parseSource(`${folder}/${name}`));
  const plan = stackedPlanOf('any');
  const checks = checksOf({ ...plan, components: plan.components.slice(0, 1) });
  const rows = checks.map(({ name, run }) => {
    const isOfComponent = name.startsWith('component/');
    const row = checkRow(sources, isOfComponent ? 'checkComponent' : run.name);
    return [isOfComponent ? 'component/KIND' : name, row.proof.join(' / '), row.next.join(' / ')];
  });
  return table(
    ['check', 'ok', 'else'],
    rows.map(([name = '', ...said]) => [code(name), ...said.map(escaped)]),
  );
}

/** Text from the code, with nothing in it that Markdown takes for a mark. */
function escaped(text: string): string {
  return text.replaceAll(/[<>*_`]/g, String.raw`\$&`);
}

const parts: Record<string, () => string> = {
  failures,
  commands,
  'exit-codes': () =>
    table(
      ['code', 'meaning'],
      Object.values(exitCodes).map(({ code: number, meaning }) => [String(number), meaning]),
    ),
  plan: () =>
    table(
      ['field', 'type', 'default', 'meaning'],
      fieldRows(jsonSchema('plan'), '', schemaComments('src/plan/plan.ts', 'planSchema')),
    ),
  'copy-request': () =>
    table(
      ['field', 'type', 'default', 'meaning'],
      fieldRows(jsonSchema('copy'), '', schemaComments('src/plan/replicate.ts', 'replicateInputSchema')).filter(
        // What lies deeper stands in the table of the plan.
        ([path = '']) => !path.includes('.') || path.startsWith('`schedule'),
      ),
    ),
  'schema-names': () => `Names: ${schemaNames.map(code).join(', ')}.`,
  components: () => `Component kinds: ${componentKinds.map(code).join(', ')}.`,
  'task-queue': () => `Task queue: ${code(taskQueue)}.`,
  messages,
  status: () =>
    `\`\`\`ts\n${declarationsOf('src/workflows/messages.ts', ['MigrationStatus', 'PhaseStatus', 'PhaseState', 'GateStatus', 'DecisionRecord', 'TransferStatus', 'PassSummary', 'BlockedStatus', 'DowntimeStatus', 'MigrationResult'])}\n\`\`\``,
  copy: () =>
    `\`\`\`ts\n${declarationsOf('src/workflows/replicate-messages.ts', ['CopyStatus', 'TransferOutcome'])}\n\`\`\``,
  'search-attributes': () =>
    table(
      ['attribute', 'type'],
      Object.values(searchAttributes).map(({ name, type }) => [
        code(name),
        type.charAt(0) + type.slice(1).toLowerCase(),
      ]),
    ),
  metrics: () =>
    table(
      ['metric', 'what it says'],
      Object.entries(metrics).map(([name, text]) => [code(name), text]),
    ),
  policies: policyTable,
  quorum: () =>
    table(
      ['step', 'members', 'votes', 'quorum', 'spare'],
      quorumSequence(exchangeOf(stackedPlanOf('any')) ?? { masters: [], joining: [], leaving: [] }).map(
        ({ step, members, quorum, spare }) => [
          step,
          members.join(' '),
          String(members.length),
          String(quorum),
          String(spare),
        ],
      ),
    ),
  'lab-help': () => {
    const help = execFileSync(process.execPath, [join(root, 'lab', 'cli.ts'), 'help'], { encoding: 'utf8' });
    return `\`\`\`text\n${help.trimEnd()}\n\`\`\``;
  },
  'apply-failures': applyFailures,
  checks: checkTable,
};

const region = /<!-- generated: ([\w-]+) -->[\s\S]*?<!-- end -->/g;

/** The document with its generated parts made anew. */
export async function makeReference(text: string): Promise<string> {
  const made = text.replaceAll(region, (_match, name: string) => {
    const part = parts[name];
    if (part === undefined)
      throw new Error(`there is no generated part ${name}; there are ${Object.keys(parts).join(', ')}`);
    return `<!-- generated: ${name} -->\n\n${part()}\n\n<!-- end -->`;
  });
  const options = await resolveConfig(referenceFile);
  return format(made, { ...options, parser: 'markdown' });
}

/** Parts that no document asks for. */
export function unusedParts(texts: readonly string[]): string[] {
  const used = new Set(texts.flatMap((text) => [...text.matchAll(region)].map(([, name]) => name)));
  return Object.keys(parts).filter((name) => !used.has(name));
}

if (process.argv[1] === import.meta.filename) {
  for (const file of generatedFiles) writeFileSync(file, await makeReference(readFileSync(file, 'utf8')));
}
