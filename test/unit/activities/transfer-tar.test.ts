import { describe, expect, it } from 'vitest';
import { gateBusy, gateRefused } from '../../../src/activities/rsync-output.ts';
import { judgeTar } from '../../../src/activities/transfer-tar.ts';

/** Exit codes as the pass writes them down: `pack` at the source, `rest` what ran behind ssh. */
type Codes = [pack: number | undefined, rest: number | undefined];

function judge(
  [pack, rest]: Codes,
  said: { pack?: string; rest?: string },
  isLive = false,
): ReturnType<typeof judgeTar> {
  const codes = new Map(
    Object.entries({ pack, rest }).flatMap(([name, code]): [string, number][] =>
      code === undefined ? [] : [[name, code]],
    ),
  );
  return judgeTar(codes, { pack: '', rest: '', ...said }, isLive);
}

const vanished = 'tar: ./a: File removed before we read it\ntar: ./b: file changed as we read it';

describe('the end of a pass by tar', () => {
  it.each<[Codes, { pack?: string; rest?: string }, 'live' | 'final', string, string | undefined]>([
    [[0, 0], {}, 'final', 'done', undefined],
    [[undefined, 0], {}, 'live', 'again', undefined],
    [[0, undefined], {}, 'live', 'again', undefined],
    [[1, 0], { pack: vanished }, 'live', 'vanished', undefined],
    [[1, 0], { pack: vanished }, 'final', 'partial', 'source'],
    [[2, 0], { pack: 'tar: ./a: Cannot open: Permission denied' }, 'live', 'partial', 'source'],
    [
      [2, 0],
      { pack: 'tar: ./a: Read error at byte 0, while reading 512 bytes: Input/output error' },
      'live',
      'disk',
      'source',
    ],
    [[137, 0], {}, 'live', 'again', undefined],
    [[141, 2], { rest: 'tar: Unexpected EOF in archive' }, 'live', 'again', undefined],
    [[141, 255], { rest: 'client_loop: send disconnect: Broken pipe' }, 'live', 'link', undefined],
    [[141, 2], { rest: 'tar: ./a: Cannot write: No space left on device' }, 'live', 'no-space', undefined],
    [[141, 2], { rest: 'tar: ./a: Cannot open: Read-only file system' }, 'live', 'disk', 'destination'],
    [[141, 2], { rest: 'tar: ./a: Cannot mknod: Operation not permitted' }, 'live', 'partial', 'destination'],
    [[141, 97], { rest: gateBusy }, 'live', 'busy', undefined],
    [[141, 98], { rest: gateRefused }, 'live', 'refused', undefined],
  ])('%j with %j in a %s pass is %s', (codes, said, mode, kind, at) => {
    const end = judge(codes, said, mode === 'live');

    expect([end.kind, end.at]).toEqual([kind, at]);
  });

  it('is no word of tar where ssh failed', () => {
    expect(judge([0, 255], { rest: 'Connection reset by peer' }).why).toBe(
      'ssh ended with 255: Connection reset by peer',
    );
  });
});
