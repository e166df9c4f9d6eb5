import { readFileSync } from 'node:fs';
import { parse } from 'yaml';

/* The files that operators load into Prometheus and Grafana, and the metrics that they name. */

export interface Rule {
  alert: string;
  expr: string;
  for?: string;
  labels: { severity: string };
  annotations: { summary: string; description: string };
}

interface Panel {
  id: number;
  title: string;
  type: string;
  gridPos: { x: number; y: number; w: number; h: number };
  targets?: { expr: string }[];
}

interface Dashboard {
  title: string;
  panels: Panel[];
  templating: { list: { name: string; definition?: string }[] };
}

const deploy = new URL('../../../deploy/', import.meta.url);
export const rulesFile = new URL('prometheus/ferry-alerts.yml', deploy).pathname;
const rulesText = readFileSync(rulesFile, 'utf8');

export const rules = (parse(rulesText) as { groups: { rules: Rule[] }[] }).groups.flatMap((group) => group.rules);
export const dashboard = JSON.parse(readFileSync(new URL('grafana/ferry.json', deploy), 'utf8')) as Dashboard;

const expressions: readonly [string, string][] = [
  ...rules.map(({ alert, expr }): [string, string] => [alert, expr]),
  ...dashboard.panels.flatMap(({ title, targets = [] }) => targets.map(({ expr }): [string, string] => [title, expr])),
  ...dashboard.templating.list.flatMap(({ name, definition }): [string, string][] =>
    definition === undefined ? [] : [[`$${name}`, definition]],
  ),
];

/** Metrics of ours and of the SDK in an expression; `up` is Prometheus' own. */
export function metricsIn(expression: string): string[] {
  return [...expression.matchAll(/\b(?:ferry|temporal)_\w+/g)].map(([name]) => name);
}

export const namedMetrics = [...new Set(expressions.flatMap(([, expression]) => metricsIn(expression)))].sort();
