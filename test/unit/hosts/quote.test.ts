import { spawnSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { quote, quoteCommand, UnquotableArgument } from '../../../src/hosts/quote.ts';

const printable = fc
  .string({ unit: 'binary', maxLength: 60 })
  .map((text) => text.replaceAll(/[\u0000-\u001f\u007f]/g, ''))
  .filter((text) => text.isWellFormed());
const nasty = fc
  .array(
    fc.constantFrom("'", '"', '\\', '$', '`', '!', ' ', '*', '~', '-', ';', '&', '|', '(', ')', '#', '=', 'a', 'é'),
    { maxLength: 20 },
  )
  .map((parts) => parts.join(''));

describe('quote', () => {
  it('gives a real shell exactly the same words', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(printable, nasty), { minLength: 1, maxLength: 40 }), (words) => {
        const result = spawnSync('sh', ['-c', quoteCommand(['printf', String.raw`%s\0`, ...words])]);

        expect(result.stdout.toString()).toBe(words.map((word) => `${word}\0`).join(''));
      }),
      { numRuns: 150 },
    );
  });

  it('passes environment variables through a real shell', () => {
    const result = spawnSync('sh', ['-c', quoteCommand(['printenv', 'A'], { A: "x' $HOME" })]);

    expect(result.stdout.toString()).toBe("x' $HOME\n");
  });

  it.each(['a\0b', 'a\nb', '\u001b[0m', 'tab\t', '\u007f', '\ud800'])('refuses %j', (text) => {
    expect(() => quote(text)).toThrow(UnquotableArgument);
  });

  it.each(['', '-x', 'A=b', 'a b', "a'b", '$x'])('refuses %j as a program', (program) => {
    expect(() => quoteCommand([program])).toThrow(UnquotableArgument);
  });

  it.each(['1A', 'A-B', 'A B', '', 'A=B'])('refuses %j as the name of a variable', (name) => {
    expect(() => quoteCommand(['true'], { [name]: 'x' })).toThrow(UnquotableArgument);
  });
});
