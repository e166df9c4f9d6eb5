/** Stand-in for the platform's load balancer manager (port 9547): keeps the posted haproxy document, nothing more. */
import { existsSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { dirname } from 'node:path';

const kept = '/var/lib/proton-slb/haproxy.json';
mkdirSync(dirname(kept), { recursive: true });

createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    const path = request.url ?? '';
    if (request.method === 'GET') return response.writeHead(200).end('[]');
    if (!path.startsWith('/api/slb/v1/haproxy/haproxy')) return response.writeHead(404).end();
    if (request.method === 'POST' && existsSync(kept)) return response.writeHead(409).end();
    writeFileSync(kept, Buffer.concat(chunks));
    return response.writeHead(request.method === 'POST' ? 201 : 204).end();
  });
}).listen(9547);
