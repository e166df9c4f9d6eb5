import { execFileSync } from 'node:child_process';
import { describe, expect, it } from 'vitest';
import { shellWord, sshCommand } from '../../../src/activities/shell-words.ts';

/** What reaches the machine when a person copies the line: ssh joins its words and hands them to the shell there. */
function there(command: string): string[] {
  const script = `ssh() { shift; sh -c "run() { printf '%s\\\\0' \\"\\$@\\"; }; run $*"; }; ${command}`;
  return execFileSync('sh', ['-c', script], { encoding: 'utf8' }).split('\0').slice(0, -1);
}

describe('a command for another machine', () => {
  it.each([
    [['ls', '-la', '/sysvol/kafka']],
    [['ls', '-la', '/sysvol/my data']],
    [['ls', "/it's; touch /tmp/x", '$(id)`id`"\\']],
  ])('arrives as it was meant: %j', (argv) => {
    expect(there(sshCommand('new1', argv))).toEqual(argv);
  });

  it('leads to the machine where the command cannot be written', () => {
    expect(sshCommand('new1', ['ls', '/a\nb'])).toBe('ssh new1');
    expect(shellWord('/a\nb')).toBe('…');
    expect(shellWord('/a b')).toBe("'/a b'");
  });
});
