import { stripVTControlCharacters } from 'node:util';
import picocolors from 'picocolors';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * Whether a stream gets colours; one that is no terminal has no `isTTY` at all. The default of picocolors takes CI=1 for a terminal, and asks stdout on behalf of stderr: escape codes
 * would stand in files and in the logs of pipelines.
 */
export function wantsColors(isTTY: boolean | undefined, env: Environment, argv: readonly string[]): boolean {
  if (argv.includes('--no-color') || (env['NO_COLOR'] ?? '') !== '') return false;
  const forced = env['FORCE_COLOR'];
  if (forced !== undefined && forced !== '') return forced !== '0' && forced !== 'false';
  return isTTY === true && env['TERM'] !== 'dumb';
}

function colorsOf(stream: NodeJS.WriteStream): typeof pc {
  return picocolors.createColors(wantsColors(stream.isTTY, process.env, process.argv));
}

/** For what goes to stdout. */
export const pc: ReturnType<typeof picocolors.createColors> = colorsOf(process.stdout);
/** For what goes to stderr. */
export const pcError: typeof pc = colorsOf(process.stderr);

/** Text made for stdout that goes to stderr. */
export function forStderr(text: string): string {
  return pcError.isColorSupported ? text : stripVTControlCharacters(text);
}
