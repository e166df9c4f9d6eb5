import { describe, expect, it } from 'vitest';
import type { RsyncFacts } from '../../../src/activities/rsync-options.ts';
import { parseLibraries, whyLent } from '../../../src/activities/transfer-program.ts';

describe('the libraries of a program', () => {
  it('are read with their loader as glibc tells them', () => {
    const text = [
      '\tlinux-vdso.so.1 (0x00007ffc0b5f2000)',
      '\tlibacl.so.1 => /lib/x86_64-linux-gnu/libacl.so.1 (0x00007f1)',
      '\tlibstdc++.so.6 => /usr/lib/libstdc++.so.6 (0x00007f2)',
      '\t/lib64/ld-linux-x86-64.so.2 (0x00007f3)',
      '',
    ].join('\n');

    expect(parseLibraries(text)).toEqual({
      loader: '/lib64/ld-linux-x86-64.so.2',
      libraries: [
        { name: 'libacl.so.1', file: '/lib/x86_64-linux-gnu/libacl.so.1' },
        { name: 'libstdc++.so.6', file: '/usr/lib/libstdc++.so.6' },
        { name: 'ld-linux-x86-64.so.2', file: '/lib64/ld-linux-x86-64.so.2' },
      ],
    });
  });

  it('are read as musl tells them', () => {
    const text =
      '\t/lib/ld-musl-x86_64.so.1 (0x7f1)\n\tlibacl.so.1 => /usr/lib/libacl.so.1 (0x7f2)\n\tlibc.musl-x86_64.so.1 => /lib/ld-musl-x86_64.so.1 (0x7f1)\n';

    expect(parseLibraries(text)).toEqual({
      loader: '/lib/ld-musl-x86_64.so.1',
      libraries: [
        { name: 'libacl.so.1', file: '/usr/lib/libacl.so.1' },
        { name: 'libc.musl-x86_64.so.1', file: '/lib/ld-musl-x86_64.so.1' },
        { name: 'ld-musl-x86_64.so.1', file: '/lib/ld-musl-x86_64.so.1' },
      ],
    });
  });

  it.each(['', '\tstatically linked\n', '\tnot a dynamic executable\n'])('are none of a static one: %j', (text) => {
    expect(parseLibraries(text)).toEqual({ libraries: [] });
  });

  it('are refused when one is missing', () => {
    expect(() => parseLibraries('\tlibpopt.so.0 => not found\n')).toThrow('the library libpopt.so.0 is missing');
  });
});

describe('a machine', () => {
  const complete: RsyncFacts = { version: '3.4.1', acls: true, xattrs: true, compress: [] };
  const everything = { acls: true, xattrs: true };

  it.each([
    [undefined, everything, 'has none'],
    [complete, everything, undefined],
    [{ ...complete, version: '3.0.0' }, everything, undefined],
    [
      { ...complete, version: '2.6.9' },
      everything,
      'has rsync 2.6.9, which is too old to carry ACLs and extended attributes',
    ],
    [{ ...complete, acls: false }, everything, 'has rsync 3.4.1, which was built without ACLs'],
    [
      { ...complete, acls: false, xattrs: false },
      everything,
      'has rsync 3.4.1, which was built without ACLs and extended attributes',
    ],
    [{ ...complete, acls: false, xattrs: false }, { acls: false, xattrs: false }, undefined],
  ])('with %j is lent another for a tree with %j where its own would lose something', (rsync, tree, why) => {
    expect(whyLent(rsync, tree)).toBe(why);
  });
});
