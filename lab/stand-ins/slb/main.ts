/**
 * Stand-in for the platform's load balancer manager (port 9547): keeps the posted haproxy document, and makes it the machine's
 * configuration where haproxy is installed. A document that is put replaces all of the one before.
 */
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createServer, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import { renderHaproxy, type HaproxyDocument } from './haproxy.ts';

const kept = '/etc/slb/haproxy.json';
const configuration = '/usr/local/haproxy/haproxy.cfg';
const program = '/usr/sbin/haproxy';
for (const file of [kept, configuration]) mkdirSync(dirname(file), { recursive: true });

class Refused extends Error {}

/** Whole or not at all: haproxy judges the new configuration before it takes the place of the old one. */
function install(text: string): void {
  const rendered = renderHaproxy(JSON.parse(text) as HaproxyDocument);
  const fresh = `${configuration}.new`;
  writeFileSync(fresh, rendered);
  if (existsSync(program)) {
    const judged = spawnSync(program, ['-c', '-q', '-f', fresh], { encoding: 'utf8' });
    if (judged.status !== 0) throw new Refused(judged.stderr.trim());
  }
  renameSync(fresh, configuration);
  writeFileSync(kept, text);
  if (!existsSync(program)) return;
  const reloaded = spawnSync('systemctl', ['reload-or-restart', 'haproxy'], { encoding: 'utf8' });
  if (reloaded.status !== 0) throw new Error(reloaded.stderr.trim());
}

function answer(method: string, path: string, text: string, response: ServerResponse): void {
  const json = { 'content-type': 'application/json' };
  if (method === 'GET' && path === '/api/slb/v2/keepalived/keepalived') {
    response.writeHead(200, json).end('{}');
    return;
  }
  const isThere = existsSync(kept);
  if (path !== '/api/slb/v1/haproxy/haproxy') response.writeHead(404).end();
  else if (method === 'GET') {
    if (isThere) response.writeHead(200, json).end(readFileSync(kept));
    else response.writeHead(404).end();
  } else if (method === 'POST' && isThere) response.writeHead(409).end();
  else if (method === 'PUT' && !isThere) response.writeHead(404).end();
  else if (method === 'POST' || method === 'PUT') {
    install(text);
    response.writeHead(method === 'POST' ? 201 : 204).end();
  } else response.writeHead(405).end();
}

createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    try {
      answer(request.method ?? '', request.url ?? '', Buffer.concat(chunks).toString(), response);
    } catch (error) {
      const status = error instanceof Refused || error instanceof SyntaxError || error instanceof TypeError ? 400 : 500;
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(JSON.stringify({ cause: error instanceof Error ? error.message : String(error) }));
    }
  });
}).listen(9547);
