/** Verdicts of the stand-in on cases in the format of the recorded ones, for comparison. */
import { readFileSync } from 'node:fs';
import { isDeepStrictEqual } from 'node:util';
import { judgeComponent, type ComponentCase } from './rules/components.ts';
import { documentOf, dumpYaml, judgeConfig } from './rules/config.ts';

interface ConfigCase {
  name: string;
  old: string | null;
  new: string;
  [field: string]: unknown;
}

type Case = ConfigCase | ({ name: string } & ComponentCase & Record<string, unknown>);

interface CasesFile {
  cases: Case[];
  documents?: Record<string, string>;
}

export interface Judged {
  cases: Record<string, unknown>[];
  documents?: Record<string, string>;
}

function isComponent(given: Case): given is Extract<Case, ComponentCase> {
  return 'type' in given && 'component' in given && 'method' in given;
}

function judgeConfigCases(cases: readonly ConfigCase[], documents: Record<string, string>): Judged {
  const completed: Record<string, string> = {};
  const document = (name: string): string => {
    const found = documents[name];
    if (found === undefined) throw new Error(`no document ${name}`);
    return found;
  };
  const judged = cases.map((given) => {
    const verdict = judgeConfig({
      old: given.old === null ? undefined : document(given.old),
      new: document(given.new),
    });
    const result: Record<string, unknown> = {
      name: given.name,
      old: given.old,
      new: given.new,
      verdict: verdict.verdict,
      stage: verdict.stage,
      message: verdict.message ?? '',
      exit_code: verdict.exitCode,
    };
    if (verdict.oldError !== undefined) result['old_error'] = verdict.oldError;
    if (verdict.completed !== undefined) {
      const name = `${given.name}.completed`;
      completed[name] = dumpYaml(documentOf(verdict.completed));
      result['completed'] = name;
    }
    return result;
  });
  return { cases: judged, documents: completed };
}

export function judgeCases(file: CasesFile): Judged {
  if (!Array.isArray(file.cases)) throw new Error('no list of cases');
  const configs: ConfigCase[] = [];
  const components: Extract<Case, ComponentCase>[] = [];
  for (const given of file.cases) {
    if (isComponent(given)) components.push(given);
    else configs.push(given);
  }
  if (configs.length > 0 && components.length > 0) throw new Error('configurations and components in one file');
  if (components.length === 0) return judgeConfigCases(configs, file.documents ?? {});
  return {
    cases: components.map(({ name, type, component, ...given }) => ({
      name,
      type,
      component,
      ...judgeComponent({ ...given, type, component }),
    })),
  };
}

/** Texts of YAML and JSON libraries are not compared. */
function differs(field: string, recorded: Record<string, unknown>, judged: Record<string, unknown>): boolean {
  if (!(field in recorded)) return false;
  const isLibraryText = field === 'message' && recorded['stage'] === 'parse';
  return !isLibraryText && !isDeepStrictEqual(recorded[field] ?? null, judged[field] ?? null);
}

const compared = ['verdict', 'stage', 'exit_code', 'message', 'error', 'http_status', 'http_body', 'completed_params'];

/** Disagreements with verdicts that the file itself carries, as `name: fields`. */
export function disagreements(file: CasesFile, judged: Judged): string[] {
  return file.cases.flatMap((recorded, index) => {
    const mine = judged.cases[index] ?? {};
    const fields = compared.filter((field) => differs(field, recorded, mine));
    const { completed } = recorded as Record<string, unknown>;
    if (typeof completed === 'string') {
      const wanted = file.documents?.[completed];
      const got = judged.documents?.[String(mine['completed'])];
      if (wanted !== undefined && wanted !== got) fields.push('completed');
    }
    return fields.length === 0 ? [] : [`${recorded.name}: ${fields.join(', ')}`];
  });
}

export function judgeFile(path: string): number {
  const file = JSON.parse(readFileSync(path, 'utf8')) as CasesFile;
  const judged = judgeCases(file);
  process.stdout.write(`${JSON.stringify(judged, null, 1)}\n`);
  if (file.cases.some((given) => 'verdict' in given)) {
    const different = disagreements(file, judged);
    for (const line of different) process.stderr.write(`differs: ${line}\n`);
    const [agreed, all] = [file.cases.length - different.length, file.cases.length];
    process.stderr.write(`${agreed} of ${all} as recorded\n`);
  }
  return 0;
}
