/** Help texts, as recorded. */
import { readSwitches } from './log.ts';
import { readNamespaces } from './namespaces.ts';

const globalFlags = `      --cm-direct                      component manage direct connect
  -l, --log-level string               set log level(info,debug,error) (default "info")
`;

const packageFlags = `  -s, --service-package string         path to a "service-package" directory (default "service-package")
      --service-package-eceph string   path to a "service-package-eceph" directory (default "service-package-eceph")
`;

export const commands = {
  alpha: 'Proton-cli experimental sub-commands',
  apply: 'apply proton cluster by file name',
  backup: 'Backup the current node configuration file',
  check: 'check Proton Runtime health after initial',
  completion: 'Generate completion script',
  component: 'manage data component',
  'delete-images': 'Clear space for images and private images',
  edit: 'Edit proton resources',
  get: 'show proton cluster conf or template conf',
  help: 'Help about any command',
  images: 'manage images',
  kubernetes: 'manage kubernetes',
  migrate: 'migrate components deployed by other programs.',
  package: '包管理命令',
  precheck: 'check node environment before install',
  'push-charts': 'push charts to repo by compressed archive file or directory',
  'push-images': 'push images to repo by archive file or directory',
  recover: 'recover the current node configuration file and data',
  reset: 'reset proton cluster',
  server: 'proton-cli server --port=?',
  version: 'print the version information',
} as const;

export function rootHelp(): string {
  const list = Object.entries(commands).map(([name, what]) => `  ${name.padEnd(13)} ${what}\n`);
  return `proton cluster deploy tool

Usage:
  proton-cli [command]

Available Commands:
${list.join('')}
Flags:
      --cm-direct                      component manage direct connect
  -h, --help                           help for proton-cli
  -l, --log-level string               set log level(info,debug,error) (default "info")
${packageFlags}
Use "proton-cli [command] --help" for more information about a command.
`;
}

export function applyHelp(): string {
  const password = readSwitches().variantP ? '  -p, --password string    ssh password\n' : '';
  return `apply proton cluster by file name,For Example:
    proton-cli apply -f conf.yaml

Usage:
  proton-cli apply [flags]

Flags:
  -f, --file string        proton cluster conf path
  -h, --help               help for apply
  -n, --namespace string   namespace to use for deployment, overrides the namespace in config file
${password}
Global Flags:
${globalFlags}${packageFlags}`;
}

export function getConfHelp(): string {
  const namespace = `  -n, --namespace string               namespace where the application is deployed (default "${readNamespaces().config}")\n`;
  return `show proton cluster conf to stdout.For Example:
    proton-cli get conf
also,can show all conf,For Example:
    proton-cli get conf -v
You can specify a namespace with -n flag, For Example:
    proton-cli get conf -n proton

Usage:
  proton-cli get conf [flags]

Flags:
  -h, --help    help for conf
  -v, --value   show all proton cluster conf

Global Flags:
${globalFlags}${namespace}${packageFlags}`;
}

/** Of commands whose help was not recorded. */
export function shortHelp(path: string, what: string): string {
  return `${what}

Usage:
  proton-cli ${path} [flags]

Flags:
  -h, --help   help for ${path.replace(/^.* /, '')}

Global Flags:
${globalFlags}${packageFlags}`;
}

function distance(one: string, other: string): number {
  let row = Array.from({ length: other.length + 1 }, (_, index) => index);
  for (const [i, letter] of Array.from(one).entries()) {
    const next = [i + 1];
    for (const [j, wanted] of Array.from(other).entries())
      next.push(Math.min((row[j] ?? 0) + (letter === wanted ? 0 : 1), (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    row = next;
  }
  return row.at(-1) ?? 0;
}

export function unknownCommand(given: string): string {
  const near = Object.keys(commands).filter(
    (name) => distance(given.toLowerCase(), name) <= 2 || name.startsWith(given.toLowerCase()),
  );
  const hint = near.length === 0 ? '' : `\nDid you mean this?\n${near.map((name) => `\t${name}\n`).join('')}`;
  return `unknown command "${given}" for "proton-cli"\n${hint}\nRun 'proton-cli --help' for usage.`;
}
