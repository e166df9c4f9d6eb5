import { ApplicationFailure, CancelledFailure } from '@temporalio/common';
import { describe, expect, it } from 'vitest';
import {
  isClassified,
  needsHuman,
  networkCode,
  onHost,
  permanent,
  transient,
} from '../../../src/activities/failures.ts';
import { CommandTimedOut, HostKeyMismatch, HostRefused, HostUnreachable } from '../../../src/hosts/errors.ts';

const failure = { what: 'It broke', cause: 'a reason', untouched: 'the data', next: 'ferry resume' };

describe('failures', () => {
  it.each([
    { make: transient, type: 'Transient', nonRetryable: false },
    { make: needsHuman, type: 'NeedsHuman', nonRetryable: true },
    { make: permanent, type: 'Permanent', nonRetryable: true },
  ])('$type tells what happened, why, what is untouched and what to do', ({ make, type, nonRetryable }) => {
    const made = make(failure);

    expect(made).toMatchObject({
      type,
      nonRetryable,
      message: 'It broke: a reason. Untouched: the data. Next: ferry resume',
      details: [{ cause: 'a reason', untouched: 'the data', next: 'ferry resume' }],
    });
  });

  it.each([
    { what: 'a failure with a type', error: transient(failure), classified: true },
    { what: 'a cancellation', error: new CancelledFailure('stop'), classified: true },
    { what: 'a failure without a type', error: ApplicationFailure.create({ message: 'x' }), classified: false },
    { what: 'any error', error: new Error('x'), classified: false },
  ])('$what is classified: $classified', ({ error, classified }) => {
    expect(isClassified(error)).toBe(classified);
  });

  it.each([
    { what: 'a code', error: Object.assign(new Error('x'), { code: 'ECONNREFUSED' }), code: 'ECONNREFUSED' },
    {
      what: 'a code of a cause',
      error: new TypeError('fetch failed', { cause: Object.assign(new Error('x'), { code: 'UND_ERR_SOCKET' }) }),
      code: 'UND_ERR_SOCKET',
    },
    {
      what: 'a code among several causes',
      error: new Error('x', {
        cause: new AggregateError([new Error('a'), Object.assign(new Error('b'), { code: 'EHOSTUNREACH' })]),
      }),
      code: 'EHOSTUNREACH',
    },
    { what: 'a time limit', error: new DOMException('late', 'TimeoutError'), code: 'ETIMEDOUT' },
    {
      what: 'an error of the program',
      error: Object.assign(new Error('x'), { code: 'ERR_INVALID_ARG_TYPE' }),
      code: undefined,
    },
  ])('finds the network code in $what', ({ error, code }) => {
    expect(networkCode(error)).toBe(code);
  });

  it.each([
    { error: new HostUnreachable('old1', 'no route'), type: 'Transient' },
    { error: new CommandTimedOut('old1', 'ls', 1000), type: 'Transient' },
    { error: new HostRefused('old1', 'root'), type: 'NeedsHuman' },
    { error: new HostKeyMismatch('old1', '10.0.0.1', 'a', ['b']), type: 'NeedsHuman' },
  ])('$error.name of a machine is $type', async ({ error, type }) => {
    await expect(onHost('old1', 'everything', () => Promise.reject(error))).rejects.toMatchObject({ type });
  });

  it('leaves unknown errors of a machine as they are', async () => {
    const error = new Error('a bug');

    await expect(onHost('old1', 'everything', () => Promise.reject(error))).rejects.toBe(error);
  });
});
