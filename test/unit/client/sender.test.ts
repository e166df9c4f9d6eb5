import { hostname, userInfo } from 'node:os';
import { Client } from '@temporalio/client';
import { describe, expect, it } from 'vitest';
import { clientIdentity } from '../../../src/client/connection.ts';
import type { WireEvent } from '../../../src/client/report-events.ts';
import { decodeEvent } from '../../../src/client/report-events.ts';

describe('what stands beside a decision', () => {
  const account = userInfo().username;
  const client = Object.create(Client.prototype) as Client;

  it('is the account of the sender, whatever name the decision bears', () => {
    expect(clientIdentity({ FERRY_USER: 'zhao', USER: 'zhao' })).toBe(`ferry:${account}@${hostname()}`);
    expect(clientIdentity({ FERRY_USER: 'zhao', SUDO_USER: 'li' })).toBe(`ferry:${account} (sudo by li)@${hostname()}`);
  });

  const principal = { type: 'jwt', name: 'li@example.org' };

  it.each<[string, object, string]>([
    ['a signal', { workflowExecutionSignaledEventAttributes: { signalName: 'approve', identity: 'me' } }, 'me'],
    [
      'a signal of an authenticated caller',
      { principal, workflowExecutionSignaledEventAttributes: { signalName: 'approve', identity: 'me' } },
      'me (authenticated as jwt li@example.org)',
    ],
    [
      'an update of an authenticated caller',
      {
        principal,
        workflowExecutionUpdateAcceptedEventAttributes: {
          acceptedRequest: { input: { name: 'approve' }, meta: { identity: 'me' } },
        },
      },
      'me (authenticated as jwt li@example.org)',
    ],
    [
      'a cancellation by one who says nothing of himself',
      { principal, workflowExecutionCancelRequestedEventAttributes: {} },
      'authenticated as jwt li@example.org',
    ],
  ])('of %s is what its history holds', async (_name, event, identity) => {
    expect(await decodeEvent(client, event as WireEvent)).toMatchObject({ kind: 'decision', identity });
  });
});
