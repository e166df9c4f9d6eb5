/** A value that must not reach a shell, whatever the quoting. */
export class UnquotableArgument extends Error {
  override readonly name = 'UnquotableArgument';
}

const controlCharacter = /[\u0000-\u001f\u007f]/;

/** Word for a POSIX shell that stands for exactly this text. Throws UnquotableArgument for control characters and text that is not valid Unicode. */
export function quote(argument: string): string {
  if (controlCharacter.test(argument)) {
    throw new UnquotableArgument(
      `an argument holds a control character, which never travels through a shell: ${JSON.stringify(argument.slice(0, 80))}; long scripts and data go through stdin`,
    );
  }
  if (!argument.isWellFormed()) {
    throw new UnquotableArgument(`an argument is not valid Unicode: ${JSON.stringify(argument.slice(0, 80))}`);
  }
  if (/^[A-Za-z0-9_./:@%+,-]+$/.test(argument)) return argument;
  return `'${argument.replaceAll("'", String.raw`'\''`)}'`;
}

/** Command line of a POSIX shell for one command. The program must be a plain name or path. */
export function quoteCommand(argv: readonly string[], env: Readonly<Record<string, string>> = {}): string {
  const program = argv[0];
  if (program === undefined || !/^[A-Za-z0-9_./+][A-Za-z0-9_./+:@-]*$/.test(program)) {
    throw new UnquotableArgument(`not the name of a program: ${JSON.stringify(program ?? '')}`);
  }
  const settings = Object.entries(env).map(([name, value]) => {
    if (!/^[A-Za-z_][A-Za-z0-9_]*$/.test(name)) {
      throw new UnquotableArgument(`not the name of an environment variable: ${JSON.stringify(name)}`);
    }
    return quote(`${name}=${value}`);
  });
  const words = argv.map((argument) => quote(argument));
  return settings.length === 0 ? words.join(' ') : ['env', ...settings, ...words].join(' ');
}
