import { Argument, Command } from 'commander';

const shells = ['bash', 'zsh', 'fish'] as const;
type Shell = (typeof shells)[number];

/** Takes the program as a function, since the program holds this command as well. */
export function completionCommand(program: () => Command): Command {
  return new Command('completion')
    .description('completion for a shell')
    .addArgument(new Argument('<shell>', 'which shell').choices(shells))
    .addHelpText(
      'after',
      `
Examples:
  $ source <(ferry completion bash)
  $ ferry completion zsh > "\${fpath[1]}/_ferry"
  $ ferry completion fish > ~/.config/fish/completions/ferry.fish`,
    )
    .action((shell: Shell) => {
      process.stdout.write(completionScript(program(), shell));
    });
}

interface Entry {
  name: string;
  description: string;
  /** Long options, and the choices of the first argument. */
  words: string[];
}

/** The script for a shell, made from the commands as they are. */
export function completionScript(program: Command, shell: Shell): string {
  const shared = longOptions(program);
  const entries = program.commands.map((command) => ({
    name: command.name(),
    description: command.description().split(/[;:]/)[0] ?? '',
    words: [
      ...command.registeredArguments.flatMap((argument) => argument.argChoices ?? []),
      ...longOptions(command),
      ...shared,
    ],
  }));
  switch (shell) {
    case 'bash':
      return bash(entries);
    case 'zsh':
      return zsh(entries);
    case 'fish':
      return fish(entries);
  }
}

function longOptions(command: Command): string[] {
  return command.options.flatMap(({ long }) => long ?? []);
}

function bash(entries: readonly Entry[]): string {
  const cases = entries.map(({ name, words }) => `    ${name}) words="${words.join(' ')}" ;;`);
  return `# bash completion of ferry
_ferry() {
  local current=\${COMP_WORDS[COMP_CWORD]} words
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "${entries.map(({ name }) => name).join(' ')}" -- "$current"))
    return
  fi
  case \${COMP_WORDS[1]} in
${cases.join('\n')}
    *) words="" ;;
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
  const cases = entries.map(({ name, words }) => `    ${name}) compadd -- ${words.join(' ')} ;;`);
  return `#compdef ferry
_ferry() {
  local -a commands=(
${described.join('\n')}
  )
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case \${words[2]} in
${cases.join('\n')}
  esac
  _files
}
compdef _ferry ferry
`;
}

function fish(entries: readonly Entry[]): string {
  const quoted = (text: string): string => `'${text.replaceAll("'", "\\'")}'`;
  return entries
    .flatMap(({ name, description, words }) => [
      `complete -c ferry -n __fish_use_subcommand -a ${name} -d ${quoted(description)}`,
      `complete -c ferry -n ${quoted(`__fish_seen_subcommand_from ${name}`)} -a ${quoted(words.join(' '))}`,
    ])
    .join('\n')
    .concat('\n');
}
