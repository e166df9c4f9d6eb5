import { Command, Option } from 'commander';
import { oneOf } from './options.ts';

const shells = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof shells)[number];

/** Takes the program as a function, since the program holds this command as well. */
export function completionCommand(program: () => Command): Command {
  return new Command('completion')
    .description('completion for a shell')
    .addArgument(oneOf('<shell>', 'which shell', shells))
    .addOption(new Option('--migrations', 'the ids of migrations that run; the scripts ask for them').hideHelp())
    .addHelpText(
      'after',
      `
Commands, options and their values are completed, and the ids of migrations that run.

Examples:
  $ source <(ferry completion bash)
  $ ferry completion zsh > "\${fpath[1]}/_ferry"
  $ ferry completion fish > ~/.config/fish/completions/ferry.fish`,
    )
    .action(async (shell: Shell, { migrations }: { migrations?: boolean }, command: Command) => {
      if (migrations !== true) {
        process.stdout.write(completionScript(program(), shell));
        return;
      }
      const { printMigrations } = await import('../migrations.ts');
      await printMigrations(command.optsWithGlobals());
    });
}

interface Choice {
  long: string;
  short: string | undefined;
  description: string;
  /** Nothing to choose from: what stands behind it is a file or free text. */
  values: readonly string[];
  takesValue: boolean;
}

interface Entry {
  name: string;
  description: string;
  options: Choice[];
  /** Of the first argument. */
  choices: readonly string[];
  /** Which argument, from 1 on, is a migration. */
  migrationAt: number | undefined;
}

/** The script for a shell, made from the commands as they are. */
export function completionScript(program: Command, shell: Shell): string {
  const shared = choicesOf(program);
  const entries = program.commands.map((command): Entry => {
    const migration = command.registeredArguments.findIndex((argument) => argument.name() === 'migration');
    return {
      name: command.name(),
      description: command.description().split(/[;:]/)[0] ?? '',
      options: [...choicesOf(command), ...shared],
      choices: command.registeredArguments[0]?.argChoices ?? [],
      migrationAt: migration < 0 ? undefined : migration + 1,
    };
  });
  switch (shell) {
    case 'bash':
      return bash(entries, shared);
    case 'zsh':
      return zsh(entries, shared);
    case 'fish':
      return fish(entries, shared);
  }
}

function choicesOf(command: Command): Choice[] {
  return command.options
    .filter(({ hidden, long }) => !hidden && long !== undefined)
    .map(({ long, short, description, argChoices, required, optional }) => ({
      long: long ?? '',
      short,
      description,
      values: argChoices ?? [],
      takesValue: required || optional,
    }));
}

function flagsOf({ long, short }: Choice): string[] {
  return [long, ...(short === undefined ? [] : [short])];
}

function longOptions({ options }: Entry): string {
  return longs(options);
}

function longs(options: readonly Choice[]): string {
  return options.map(({ long }) => long).join(' ');
}

/** Pattern of bash and zsh for an option that takes a value, behind the name of its command. */
function patternsOf(name: string, option: Choice): string {
  return flagsOf(option)
    .map((flag) => `'${name} ${flag}'`)
    .join('|');
}

/** Cases of bash and zsh for the word behind an option: its values, or nothing where a file or free text stands. */
function valueCases(entries: readonly Entry[], offer: (values: readonly string[]) => string): string {
  return entries
    .flatMap(({ name, options }) =>
      options
        .filter(({ takesValue }) => takesValue)
        .map((option) => `    ${patternsOf(name, option)}) ${offer(option.values)} ;;`),
    )
    .join('\n');
}

/** Tells bash and zsh whether the next word belongs to an option, which may stand before the command as well. */
function takesValue(entries: readonly Entry[]): string {
  const patterns = entries.flatMap(({ name, options }) =>
    options.filter((option) => option.takesValue).map((option) => patternsOf(name, option)),
  );
  return `_ferry_takes_value() {
  case "$1 $2" in
    ${patterns.join('|')}) return 0 ;;
  esac
  return 1
}`;
}

/** What stands before the command: options that all commands share. */
function withoutCommand(shared: readonly Choice[]): Entry {
  return { name: '', description: '', options: [...shared], choices: [], migrationAt: undefined };
}

/** Cases of bash and zsh for an argument, by the command's name and the place of the word, from 1 on. Files are left to the shell. */
function argumentCases(entries: readonly Entry[], set: (words: string) => string): string {
  return entries
    .flatMap(({ name, choices, migrationAt }) => [
      ...(choices.length === 0 ? [] : [`    '${name} 1') ${set(choices.join(' '))} ;;`]),
      ...(migrationAt === undefined ? [] : [`    '${name} ${migrationAt}') ${set('$(_ferry_migrations)')} ;;`]),
    ])
    .join('\n');
}

/** Cases for a word that begins with a dash, by the command's name. */
function optionCases(entries: readonly Entry[], set: (words: string) => string): string {
  return entries.map((entry) => `    '${entry.name}') ${set(longOptions(entry))} ;;`).join('\n');
}

/** Asked only where an id can stand; without a server nothing is offered. */
const migrationsOf = (shell: Shell): string => `ferry completion ${shell} --migrations 2>/dev/null`;

function bash(entries: readonly Entry[], shared: readonly Choice[]): string {
  const offer = (words: string): string => `words="${words}"`;
  const all = [withoutCommand(shared), ...entries];
  // bash takes a word with = or : in it for three.
  return `# bash completion of ferry
_ferry_migrations() { ${migrationsOf('bash')}; }
${takesValue(all)}
_ferry() {
  local current=\${COMP_WORDS[COMP_CWORD]} words="" word command="" behind="" joined="" place=0
  COMPREPLY=()
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $word in
      = | :) joined=1; continue ;;
    esac
    if [ -n "$joined$behind" ]; then
      joined=""
      behind=""
    elif _ferry_takes_value "$command" "$word"; then
      behind=$word
    elif [ "\${word:0:1}" != - ]; then
      if [ -z "$command" ]; then command=$word; else place=$((place + 1)); fi
    fi
  done
  place=$((place + 1))
  case "$command $behind" in
${valueCases(all, (values) => (values.length === 0 ? 'return' : `COMPREPLY=($(compgen -W "${values.join(' ')}" -- "$current")); return`))}
  esac
  [ -z "$joined" ] || return
  case $current in
  -*) case "$command" in
    '') words="${longs(shared)}" ;;
${optionCases(entries, offer)}
    esac ;;
  *) case "$command $place" in
    ' 1') words="${[...entries.map(({ name }) => name), 'help'].join(' ')}" ;;
    'help 1') words="${entries.map(({ name }) => name).join(' ')}" ;;
${argumentCases(entries, offer)}
    esac ;;
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _ferry ferry
`;
}

function zsh(entries: readonly Entry[], shared: readonly Choice[]): string {
  const offer = (words: string): string => `compadd -- ${words}; return`;
  const all = [withoutCommand(shared), ...entries];
  const described = entries.map(
    ({ name, description }) => `    '${name}:${description.replaceAll("'", "'\\''").replaceAll(':', '\\:')}'`,
  );
  return `#compdef ferry
_ferry_migrations() { ${migrationsOf('zsh')} }
${takesValue(all)}
_ferry() {
  local -a commands=(
${described.join('\n')}
    'help:how a command is used'
  )
  local word command="" behind=""
  local -i place=0
  for word in "\${(@)words[2,CURRENT-1]}"; do
    if [[ -n $behind ]]; then
      behind=""
    elif _ferry_takes_value "$command" "$word"; then
      behind=$word
    elif [[ $word != -* ]]; then
      if [[ -z $command ]]; then command=$word; else place+=1; fi
    fi
  done
  place+=1
  case "$command $behind" in
${valueCases(all, (values) => (values.length === 0 ? '_files; return' : `compadd -- ${values.join(' ')}; return`))}
  esac
  if [[ $PREFIX == -* ]]; then
    case "$command" in
    '') compadd -- ${longs(shared)} ;;
${optionCases(entries, offer)}
    esac
    return
  fi
  case "$command $place" in
    ' 1' | 'help 1') _describe command commands; return ;;
${argumentCases(entries, offer)}
  esac
  _files
}
compdef _ferry ferry
`;
}

function fish(entries: readonly Entry[], shared: readonly Choice[]): string {
  const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  const at = (name: string, place?: number): string =>
    quoted(['__ferry_at', name === '' ? "''" : name, ...(place === undefined ? [] : [place])].join(' '));
  const words = (condition: string, offered: string): string => `complete -c ferry -n ${condition} -f -a ${offered}`;
  const optionLine = (condition: string, { long, short, description, values, takesValue }: Choice): string => {
    const flags = [`-l ${long.replace(/^--/, '')}`, ...(short === undefined ? [] : [`-s ${short.slice(1)}`])];
    const value = values.length > 0 ? [`-x -a ${quoted(values.join(' '))}`] : takesValue ? ['-r'] : [];
    return ['complete -c ferry', `-n ${condition}`, ...flags, ...value, `-d ${quoted(description)}`].join(' ');
  };
  const all = [withoutCommand(shared), ...entries];
  const valued = all.flatMap(({ name, options }) =>
    options
      .filter(({ takesValue }) => takesValue)
      .flatMap((option) => flagsOf(option).map((flag) => `'${name} ${flag}'`)),
  );
  const names = entries.map(({ name }) => name).join(' ');
  // What fish has for this takes the value of an option before the command for the command.
  return `# fish completion of ferry
function __ferry_takes_value
  switch "$argv[1] $argv[2]"
    case ${valued.join(' ')}
      return 0
  end
  return 1
end
function __ferry_at --argument-names wanted number
  set -l words (commandline -opc)
  set -e words[1]
  set -l command ''
  set -l behind ''
  set -l place 1
  for word in $words
    if test -n "$behind"
      set behind ''
    else if __ferry_takes_value "$command" "$word"
      set behind $word
    else if not string match -q -- '-*' "$word"
      if test -z "$command"
        set command $word
      else
        set place (math $place + 1)
      end
    end
  end
  test "$command" = "$wanted"; and test -z "$number" -o "$number" = "$place"
end
${[
  ...entries.flatMap(({ name, description, options, choices, migrationAt }) => [
    words(at('', 1), `${name} -d ${quoted(description)}`),
    ...(choices.length === 0 ? [] : [words(at(name, 1), quoted(choices.join(' ')))]),
    ...(migrationAt === undefined ? [] : [words(at(name, migrationAt), quoted(`(${migrationsOf('fish')})`))]),
    ...options.map((option) => optionLine(at(name), option)),
  ]),
  words(at('', 1), "help -d 'how a command is used'"),
  words(at('help', 1), quoted(names)),
  ...shared.map((option) => optionLine(at(''), option)),
].join('\n')}
`;
}
