/** Stand-in for the platform's deployment tool, as far as a migration meets it. Never kinder than the real one. */
import { readFileSync } from 'node:fs';
import { apply } from './apply.ts';
import { check } from './check.ts';
import { getConf } from './get-conf.ts';
import { applyHelp, commands, getConfHelp, rootHelp, shortHelp, unknownCommand } from './help.ts';
import { build, Crash, Failure, Log, readSwitches } from './log.ts';
import { nilPointer } from './rules/access.ts';
import { dumpYaml } from './rules/config.ts';

interface Flag {
  long: string;
  short?: string;
  hasValue: boolean;
}

const globalFlags: readonly Flag[] = [
  { long: 'log-level', short: 'l', hasValue: true },
  { long: 'service-package', short: 's', hasValue: true },
  { long: 'service-package-eceph', hasValue: true },
  { long: 'cm-direct', hasValue: false },
  { long: 'help', short: 'h', hasValue: false },
];

/** Flags as the tool's command-line library reads them: anywhere, `-f x`, `-fx`, `--file=x`. */
function readFlags(words: readonly string[], own: readonly Flag[]): { flags: Map<string, string>; rest: string[] } {
  const flags = new Map<string, string>();
  const rest: string[] = [];
  const all = [...globalFlags, ...own];
  for (let index = 0; index < words.length; index++) {
    const word = words[index] ?? '';
    if (!word.startsWith('-') || word === '-') {
      rest.push(word);
      continue;
    }
    const isLong = word.startsWith('--');
    const [name = '', ...inline] = isLong
      ? word.slice(2).split('=')
      : [word.slice(1, 2), ...(word.length > 2 ? [word.slice(2).replace(/^=/, '')] : [])];
    const flag = all.find((candidate) => (isLong ? candidate.long : candidate.short) === name);
    if (flag === undefined)
      throw new Failure(isLong ? `unknown flag: --${name}` : `unknown shorthand flag: '${name}' in ${word}`);
    if (!flag.hasValue) flags.set(flag.long, inline.length > 0 ? inline.join('=') : 'true');
    else if (inline.length > 0) flags.set(flag.long, inline.join('='));
    else {
      index += 1;
      const value = words[index];
      if (value === undefined)
        throw new Failure(`flag needs an argument: ${isLong ? `--${name}` : `'${name}' in ${word}`}`);
      flags.set(flag.long, value);
    }
  }
  return { flags, rest };
}

const namespaceFlag: Flag = { long: 'namespace', short: 'n', hasValue: true };

function applyFlags(): Flag[] {
  const own = [{ long: 'file', short: 'f', hasValue: true }, namespaceFlag];
  return readSwitches().variantP ? [...own, { long: 'password', short: 'p', hasValue: true }] : own;
}

function version(): void {
  const packageVersion = (() => {
    try {
      return { packageVersion: readFileSync('/usr/local/share/proton-version.txt', 'utf8').trim() };
    } catch {
      return {};
    }
  })();
  // what is empty is left out
  const facts = Object.entries({ ...build, ...packageVersion }).filter(([, value]) => value !== '');
  process.stdout.write(dumpYaml(Object.fromEntries(facts)));
}

/** Words that are neither flags nor their values, as far as the flags that every command has are concerned. */
function commandOf(words: readonly string[]): string[] {
  const found: string[] = [];
  for (let index = 0; index < words.length && found.length < 2; index++) {
    const word = words[index] ?? '';
    if (!word.startsWith('-')) {
      found.push(word);
      continue;
    }
    const flag = globalFlags.find(({ long, short }) => word === `--${long}` || word === `-${short ?? ''}`);
    if (flag?.hasValue === true) index += 1;
  }
  return found;
}

async function runApply(words: readonly string[]): Promise<void> {
  const { flags } = readFlags(words, applyFlags());
  if (flags.has('help')) {
    process.stdout.write(applyHelp());
    return;
  }
  const file = flags.get('file');
  if (file === undefined) throw new Failure('required flag(s) "file" not set');
  await apply({
    file,
    namespace: flags.get('namespace') ?? '',
    servicePackage: flags.get('service-package') ?? 'service-package',
    ecephPackage: flags.get('service-package-eceph') ?? 'service-package-eceph',
    log: new Log(flags.get('log-level') ?? 'info'),
  });
}

async function runGet(words: readonly string[], sub: string | undefined): Promise<void> {
  if (sub === 'conf') {
    const { flags } = readFlags(words, [namespaceFlag, { long: 'value', short: 'v', hasValue: false }]);
    if (flags.has('help')) process.stdout.write(getConfHelp());
    else await getConf(flags.get('namespace'), new Log(flags.get('log-level') ?? 'info'));
    return;
  }
  if (sub === 'template') {
    // the lab has no use for the templates themselves
    const { flags } = readFlags(words, [namespaceFlag, { long: 'type', hasValue: true }]);
    const type = flags.get('type') ?? 'internal';
    if (!['internal', 'external', 'perfrec'].includes(type))
      process.stdout.write(
        'invalid template type, please specify one of internal, external or perfrec with the parameter --type ?\n',
      );
    return;
  }
  process.stdout.write(shortHelp('get', commands.get));
}

async function main(words: readonly string[]): Promise<void> {
  const [command, sub] = commandOf(words);
  const isHelp = (): boolean => readFlags(words, []).flags.has('help');
  switch (command) {
    case undefined:
      readFlags(words, []);
      process.stdout.write(rootHelp());
      return;
    case 'apply':
      return runApply(words);
    case 'get':
      return runGet(words, sub);
    case 'version':
      if (isHelp()) process.stdout.write(shortHelp('version', commands.version));
      else version();
      return;
    case 'check':
      if (isHelp()) process.stdout.write(shortHelp('check', commands.check));
      else await check();
      return;
    case 'help':
      process.stdout.write(sub === 'apply' ? applyHelp() : rootHelp());
      return;
    default:
      if (Object.hasOwn(commands, command)) throw new Failure(`the lab's proton-cli has no command ${command}`);
      throw new Failure(unknownCommand(command));
  }
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof Crash) {
    const signal = error.message === nilPointer ? '[signal SIGSEGV: segmentation violation]\n' : '';
    process.stderr.write(`${error.message}\n${signal}\ngoroutine 1 [running]:\n`);
    process.exitCode = 2;
  } else {
    process.stderr.write(`Error: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
