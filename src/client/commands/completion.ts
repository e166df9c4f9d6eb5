import { Argument, Command, Option } from 'commander';

const shells = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof shells)[number];

/** Takes the program as a function, since the program holds this command as well. */
export function completionCommand(program: () => Command): Command {
  return new Command('completion')
    .description('completion for a shell')
    .addArgument(new Argument('<shell>', 'which shell').choices(shells))
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
      return bash(entries);
    case 'zsh':
      return zsh(entries);
    case 'fish':
      return fish(entries);
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
  return options.map(({ long }) => long).join(' ');
}

/** Cases of bash and zsh for the word behind an option: its values, or nothing where a file or free text stands. */
function valueCases(entries: readonly Entry[], offer: (values: readonly string[]) => string): string {
  return entries
    .flatMap(({ name, options }) =>
      options
        .filter(({ takesValue }) => takesValue)
        .map((option) => {
          const patterns = flagsOf(option).map((flag) => `'${name} ${flag}'`);
          return `    ${patterns.join('|')}) ${offer(option.values)} ;;`;
        }),
    )
    .join('\n');
}

/** Cases of bash and zsh for an argument or an option: `words` by the command's name and the place of the word, from 1 on. */
function wordCases(entries: readonly Entry[], set: (words: string) => string): string {
  return entries
    .flatMap((entry) => {
      const { name, choices, migrationAt } = entry;
      const first =
        choices.length === 0 ? [] : [`    '${name} 1') ${set(`${choices.join(' ')} ${longOptions(entry)}`)} ;;`];
      const ids =
        migrationAt === undefined
          ? []
          : [`    '${name} ${migrationAt}') ${set(`$(_ferry_migrations) ${longOptions(entry)}`)} ;;`];
      return [...first, ...ids, `    '${name} '*) ${set(longOptions(entry))} ;;`];
    })
    .join('\n');
}

/** Asked only where an id can stand; without a server nothing is offered. */
const migrationsOf = (shell: Shell): string => `ferry completion ${shell} --migrations 2>/dev/null`;

function bash(entries: readonly Entry[]): string {
  return `# bash completion of ferry
_ferry_migrations() { case $current in -*) ;; *) ${migrationsOf('bash')} ;; esac; }
_ferry() {
  local current=\${COMP_WORDS[COMP_CWORD]} words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${entries.map(({ name }) => name).join(' ')}" -- "$current"))
    return
  fi
  case "\${COMP_WORDS[1]} \${COMP_WORDS[COMP_CWORD-1]}" in
${valueCases(entries, (values) => (values.length === 0 ? 'return' : `COMPREPLY=($(compgen -W "${values.join(' ')}" -- "$current")); return`))}
  esac
  case "\${COMP_WORDS[1]} $((COMP_CWORD - 1))" in
${wordCases(entries, (words) => `words="${words}"`)}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
}
complete -o default -F _ferry ferry
`;
}

function zsh(entries: readonly Entry[]): string {
  const described = entries.map(
    ({ name, description }) => `    '${name}:${description.replaceAll("'", "'\\''").replaceAll(':', '\\:')}'`,
  );
  return `#compdef ferry
_ferry_migrations() { [[ $PREFIX == -* ]] || ${migrationsOf('zsh')} }
_ferry() {
  local -a commands=(
${described.join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case "\${words[2]} \${words[CURRENT-1]}" in
${valueCases(entries, (values) => (values.length === 0 ? '_files; return' : `compadd -- ${values.join(' ')}; return`))}
  esac
  case "\${words[2]} $((CURRENT - 2))" in
${wordCases(entries, (words) => `compadd -- ${words}`)}
  esac
  _files
}
compdef _ferry ferry
`;
}

function fish(entries: readonly Entry[]): string {
  const quoted = (text: string): string => `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
  return entries
    .flatMap(({ name, description, options, choices, migrationAt }) => {
      const within = quoted(`__fish_seen_subcommand_from ${name}`);
      return [
        `complete -c ferry -n __fish_use_subcommand -a ${name} -d ${quoted(description)}`,
        ...(choices.length === 0 ? [] : [`complete -c ferry -n ${within} -a ${quoted(choices.join(' '))}`]),
        ...(migrationAt === undefined
          ? []
          : [`complete -c ferry -n ${within} -a ${quoted(`(${migrationsOf('fish')})`)}`]),
        ...options.map(({ long, short, description: text, values, takesValue }) => {
          const flags = [`-l ${long.replace(/^--/, '')}`, ...(short === undefined ? [] : [`-s ${short.slice(1)}`])];
          const value = values.length > 0 ? [`-x -a ${quoted(values.join(' '))}`] : takesValue ? ['-r'] : [];
          return ['complete -c ferry', `-n ${within}`, ...flags, ...value, `-d ${quoted(text)}`].join(' ');
        }),
      ];
    })
    .join('\n')
    .concat('\n');
}
