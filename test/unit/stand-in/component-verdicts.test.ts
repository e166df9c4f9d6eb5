import { describe, expect, it } from 'vitest';
import { judgeComponent, type ComponentCase } from '../../../lab/stand-ins/proton-cli/rules/components.ts';
import { recorded } from './fixtures.ts';

interface Recorded extends ComponentCase {
  name: string;
  verdict: string;
  stage: string;
  error: string;
  http_status: number | null;
  http_body: object | null;
  completed_params?: object;
}

const { cases } = recorded<{ cases: Recorded[] }>('component-verdicts.json');

describe('verdicts on components', () => {
  it('are all there', () => {
    expect(cases).toHaveLength(244);
  });

  it.each(cases)('$name', (given) => {
    const { verdict, stage, error, http_status, http_body, completed_params } = given;
    const wanted = { verdict, stage, error, http_status, http_body };
    expect(judgeComponent(given)).toStrictEqual(
      completed_params === undefined ? wanted : { ...wanted, completed_params },
    );
  });
});
