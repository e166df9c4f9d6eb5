import { createLogUpdate } from 'log-update';
import type { CheckResult } from '../activities/contract.ts';
import { runPreflight } from '../activities/preflight.ts';
import { pc, pcError } from './colors.ts';
import type { OutputFormat } from './commands/options.ts';
import type { GlobalOptions } from './connection.ts';
import { exitCodes } from './errors.ts';
import { print } from './output.ts';
import { loadPlan } from './plan-file.ts';
import type { PlatformOptions } from './platform.ts';
import { withPlatform } from './platform.ts';

interface CheckOptions extends GlobalOptions, PlatformOptions {
  output: OutputFormat;
}

/** `ferry check`. */
export async function runChecks(file: string, options: CheckOptions): Promise<void> {
  const plan = loadPlan(file);
  const isTable = options.output === 'table';
  // Some checks ask every machine and take a minute.
  const atWork = process.stderr.isTTY ? createLogUpdate(process.stderr) : undefined;
  const results = await withPlatform(options, (platform) =>
    runPreflight(platform, plan, {
      begins(name) {
        atWork?.(pcError.dim(`checking ${name} …`));
      },
      ends(result) {
        atWork?.clear();
        if (isTable && shown(result, options)) process.stdout.write(`${describeResult(result)}\n`);
      },
    }),
  );
  if (isTable) process.stdout.write(`${summarize(results, file, options.quiet)}\n`);
  else print(results, options.output, () => '');
  process.exitCode = checkExitCode(results);
}

function shown(result: CheckResult, options: CheckOptions): boolean {
  return options.quiet !== true || result.state !== 'ok';
}

export function checkExitCode(results: readonly CheckResult[]): number {
  return results.some(({ state }) => state === 'failed') ? exitCodes.checkFailed.code : exitCodes.ok.code;
}

const paints: Record<CheckResult['state'], (text: string) => string> = {
  ok: pc.green,
  warning: pc.yellow,
  failed: pc.red,
};

/** `failed   space         new2: 3 GiB free, 9 GiB needed; next: …`, always one line. */
export function describeResult({ name, state, cause, next }: CheckResult): string {
  const text = cause?.replaceAll(/\s*\n\s*/g, '; ') ?? '';
  const help = next === undefined || state === 'ok' ? '' : `${text === '' ? '' : '; '}${pc.bold('next:')} ${next}`;
  // No codes around nothing: the blanks before them would stay at the end of the line.
  const what = state === 'ok' && text !== '' ? pc.dim(text) : text;
  return `${paints[state](state.padEnd(8))} ${name.padEnd(22)} ${what}${help}`.trimEnd();
}

export function summarize(results: readonly CheckResult[], file: string, quiet = false): string {
  const count = (wanted: CheckResult['state']): number => results.filter(({ state }) => state === wanted).length;
  const [failed, warnings] = [count('failed'), count('warning')];
  const counts = `${results.length} ${results.length === 1 ? 'check' : 'checks'}: ${count('ok')} ok, ${warnings} ${warnings === 1 ? 'warning' : 'warnings'}, ${failed} failed`;
  const next =
    failed > 0
      ? `Nothing was changed. Do what the failed lines say, then: ferry check ${file}`
      : `Next: ferry diff ${file}, then ferry start ${file}`;
  const said = failed > 0 ? pc.red(counts) : pc.green(counts);
  return quiet ? said : `\n${said}\n${next}`;
}
