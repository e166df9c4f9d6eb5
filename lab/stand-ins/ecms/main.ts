/** Stand-in for the platform's agent of a node (port 9202): runs commands and writes files for whoever knows the minute's token. */
import { spawn } from 'node:child_process';
import { appendFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { dirname } from 'node:path';
import { isValidToken, user } from './token.ts';

const log = '/var/log/ecms/server.log';
mkdirSync(dirname(log), { recursive: true });

function note(line: string): void {
  appendFileSync(log, `${new Date().toISOString()} ${line}\n`);
}

function isAllowed(request: IncomingMessage): boolean {
  const [scheme, encoded] = (request.headers.authorization ?? '').split(' ');
  if (scheme !== 'Basic' || encoded === undefined) return false;
  const [name, token = ''] = Buffer.from(encoded, 'base64').toString().split(':');
  return name === user && isValidToken(token, Date.now());
}

async function bodyOf(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

function execute(argv: string[], input: Buffer): Promise<{ exit: number; stdout: string; stderr: string }> {
  const [file = '', ...args] = argv;
  return new Promise((resolve) => {
    const child = spawn(file, args, { cwd: '/root', env: { ...process.env, HOME: '/root' } });
    let stdout = '';
    let stderr = '';
    child.stdout.on('data', (chunk: Buffer) => (stdout += chunk.toString()));
    child.stderr.on('data', (chunk: Buffer) => (stderr += chunk.toString()));
    child.stdin.on('error', () => undefined);
    child.once('error', (error) => resolve({ exit: 127, stdout, stderr: error.message }));
    child.once('close', (code) => resolve({ exit: code ?? 1, stdout, stderr }));
    child.stdin.end(input);
  });
}

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (!isAllowed(request)) {
    response.writeHead(401).end();
    return;
  }
  const url = new URL(request.url ?? '/', 'http://node');
  const input = await bodyOf(request);
  if (url.pathname === '/api/ecms/v1alpha1/exec') {
    const argv = url.searchParams.getAll('command');
    const result = await execute(argv, input);
    note(`exec ${argv.join(' ')}: exit ${result.exit} ${result.stderr.trim()}`);
    response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(result));
    return;
  }
  if (url.pathname === '/api/ecms/v1alpha1/files') {
    const path = url.searchParams.get('path') ?? '';
    note(`write ${path}`);
    if (url.searchParams.has('directory')) mkdirSync(path, { recursive: true });
    else {
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(path, input);
    }
    response.writeHead(201).end();
    return;
  }
  response.writeHead(404).end();
}

createServer((request, response) => {
  answer(request, response).catch((error: unknown) => response.writeHead(500).end(String(error)));
}).listen(9202);
