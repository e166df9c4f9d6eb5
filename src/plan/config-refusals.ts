import { readConfigTexts } from './config-edit.ts';
import { configFacts, text, textAt, texts } from './config-facts.ts';

/** What the platform would not take in a document, and what helps. */
export interface Refusal {
  cause: string;
  next: string;
}

const addressKeys: Record<string, string> = { IPv4: 'ip4', IPv6: 'ip6' };

/**
 * The rules of the platform that a document may come to break by nodes that are added and removed, although every edit succeeds: an apply of
 * such a document ends before it does anything.
 */
export function refusals(document: string): Refusal[] {
  const config = readConfigTexts(document);
  return [...addressRefusals(config), ...timeServerRefusals(config, configFacts(document).masters)];
}

function addressRefusals(config: unknown): Refusal[] {
  const listed = textAt(config, ['nodes']);
  const nodes: unknown[] = Array.isArray(listed) ? listed : [];
  return texts(textAt(config, ['cs', 'ipFamilies'])).flatMap((family) => {
    const key = addressKeys[family];
    if (key === undefined) return [];
    const lacking = nodes
      .filter((node) => text(textAt(node, [key])) === undefined)
      .map((node) => text(textAt(node, ['name'])) ?? '(no name)');
    if (lacking.length === 0) return [];
    return [
      {
        cause: `${lacking.join(', ')} would have no ${key}, and cs.ipFamilies demands an address of ${family} of every node`,
        next: 'a plan adds nodes with their ip4 only: add these by hand, with both addresses in the document of proton-cli apply, then: ferry check PLAN; what is a node already is not added again',
      },
    ];
  });
}

function timeServerRefusals(config: unknown, masters: readonly string[]): Refusal[] {
  if (textAt(config, ['chrony', 'mode']) !== 'localmaster') return [];
  const [server] = texts(textAt(config, ['chrony', 'server']));
  if (server === undefined || masters.includes(server)) return [];
  return [
    {
      cause: `chrony.server would be ${server}, which is not in cs.master (${masters.join(', ')})`,
      next: 'proton-cli edit conf: name in chrony.server a master that stays, or one whose new node becomes a master too (controlPlane in nodes.add of the plan)',
    },
  ];
}
