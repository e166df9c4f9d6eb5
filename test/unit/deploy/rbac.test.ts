import { expect, it } from 'vitest';
import { calls, callsInCode } from '../../cluster/rbac-calls.ts';

it('the table behind deploy/kubernetes/rbac.yaml knows every call of the API in the code, and no others', () => {
  expect(Object.keys(calls).sort()).toEqual(callsInCode());
});
