/** Stand-in for the platform's deployment tool, as far as a migration meets it. Never kinder than the real one. */
import { readFileSync } from 'node:fs';
import { stringify } from 'yaml';
import { apply } from './apply.ts';
import { getConf } from './get-conf.ts';
import { build, Crash, Failure, Log, readSwitches } from './log.ts';

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

const applyHelp = `apply proton cluster by file name,For Example:
    proton-cli apply -f config.yaml

Usage:
  proton-cli apply [flags]

Flags:
  -f, --file string        proton cluster config file name
  -h, --help               help for apply
  -n, --namespace string   deploy namespace
`;

function version(): void {
  const packageVersion = (() => {
    try {
      return { packageVersion: readFileSync('/usr/local/share/proton-version.txt', 'utf8').trim() };
    } catch {
      return {};
    }
  })();
  process.stdout.write(
    stringify({ ...build, ...packageVersion }, { sortMapEntries: true, defaultStringType: 'PLAIN' }),
  );
}

async function main(words: readonly string[]): Promise<void> {
  const [command, sub] = words;
  if (command === 'apply') {
    const { flags } = readFlags(words.slice(1), applyFlags());
    if (flags.has('help')) {
      process.stdout.write(
        readSwitches().variantP ? `${applyHelp}  -p, --password string    ssh password\n` : applyHelp,
      );
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
    return;
  }
  if (command === 'get' && sub === 'conf') {
    const { flags } = readFlags(words.slice(2), [namespaceFlag, { long: 'value', short: 'v', hasValue: false }]);
    await getConf(flags.get('namespace'));
    return;
  }
  if (command === 'version') {
    readFlags(words.slice(1), []);
    version();
    return;
  }
  throw new Failure(`unknown command "${command ?? ''}" for "proton-cli"\n\nRun 'proton-cli --help' for usage.`);
}

try {
  await main(process.argv.slice(2));
} catch (error) {
  if (error instanceof Crash) {
    process.stderr.write(`${error.message}\n[signal SIGSEGV: segmentation violation]\n\ngoroutine 1 [running]:\n`);
    process.exitCode = 2;
  } else {
    process.stderr.write(`Error: ${error instanceof Error ? error.message : String(error)}\n`);
    process.exitCode = 1;
  }
}
