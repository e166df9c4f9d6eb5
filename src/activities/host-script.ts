import type { HostConnection, RunOptions, RunResult } from '../hosts/contract.ts';
import { CommandFailed } from '../hosts/errors.ts';

/** Runs a POSIX shell script that travels through stdin, with arguments as `$1`, `$2`, …; answers whatever it ended with. */
export async function tryScript(
  connection: HostConnection,
  script: string,
  args: readonly string[] = [],
  options: RunOptions = {},
): Promise<RunResult> {
  // The whole script is read before it runs, so that no command in it can eat the rest.
  const input = `ferry_script() {\n${script}\n}\nferry_script "$@" </dev/null\n`;
  return connection.run(['sh', '-s', '--', ...args], { timeout: 120_000, env: { LC_ALL: 'C' }, ...options, input });
}

/** Like tryScript, but throws CommandFailed unless it ends with 0; answers stdout. `what` names the step for people. */
export async function runScript(
  connection: HostConnection,
  what: string,
  script: string,
  args: readonly string[] = [],
  options: RunOptions = {},
): Promise<string> {
  const result = await tryScript(connection, script, args, options);
  if (result.code !== 0) throw new CommandFailed(connection.host.name, what, result);
  return result.stdout;
}

/** Lines `name=value`; a later line of the same name wins. */
export function parseFields(text: string): Map<string, string> {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const at = line.indexOf('=');
    if (at > 0) fields.set(line.slice(0, at), line.slice(at + 1));
  }
  return fields;
}
