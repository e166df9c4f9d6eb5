import { describe, expect, it } from 'vitest';
import { createProgram } from '../../../src/client/main.ts';

const program = createProgram();
const all = program.commands.map((command) => command.name());

function helpOf(name: string): string {
  let text = '';
  const command = program.commands.find((candidate) => candidate.name() === name);
  command?.configureOutput({ writeOut: (part) => (text += part) }).outputHelp();
  return text;
}

describe('the command line', () => {
  it('groups its commands by when they are used', () => {
    const help = program.helpInformation();
    const groups = ['Before:', 'During:', 'After:', 'Running it:'];

    expect(groups.map((group) => help.indexOf(`\n${group}\n`)).every((place) => place > 0)).toBe(true);
    expect(all).toEqual(expect.arrayContaining(['plan', 'check', 'diff', 'report', 'break-glass', 'copy']));
  });

  it.each(all)('ferry %s --help has a description and examples that name it', (name) => {
    const help = helpOf(name);

    expect(help).toContain('Examples:');
    expect(help).toContain(`ferry ${name}`);
    // What holds for all is found without asking for the help of the program.
    expect(help).toMatch(/Global Options:[\s\S]*--quiet[\s\S]*--address/);
  });

  it.each(['plann', 'chekc', 'reprot'])('%s asks whether something like it was meant', (word) => {
    let text = '';
    const asked = createProgram()
      .exitOverride()
      .configureOutput({ writeErr: (part) => (text += part) });

    expect(() => asked.parse([word], { from: 'user' })).toThrow();
    expect(text).toContain('Did you mean');
  });
});
