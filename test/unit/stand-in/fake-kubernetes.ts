import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer as createPlainServer, type AddressInfo, type Server } from 'node:net';
import { createServer } from 'node:https';
import type { RequestListener } from 'node:http';
import { join } from 'node:path';

export const platformHost = 'proton-cs.lb.aishu.cn';

export interface Certificate {
  key: string;
  cert: string;
}

export function makeCertificate(directory: string): Certificate {
  const [key, cert] = [join(directory, 'key.pem'), join(directory, 'cert.pem')];
  const subject = ['-subj', '/CN=test', '-addext', `subjectAltName=DNS:${platformHost}`];
  const kind = ['-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes', '-days', '2'];
  execFileSync('openssl', ['req', ...kind, '-keyout', key, '-out', cert, ...subject], { stdio: 'ignore' });
  return { key: readFileSync(key, 'utf8'), cert: readFileSync(cert, 'utf8') };
}

export function writeKubeconfig(file: string, port: number, { key, cert }: Certificate): void {
  const base64 = (text: string): string => Buffer.from(text).toString('base64');
  const cluster = { server: `https://${platformHost}:${port}`, 'certificate-authority-data': base64(cert) };
  const user = { 'client-certificate-data': base64(cert), 'client-key-data': base64(key) };
  const config = {
    'current-context': 'test',
    contexts: [{ name: 'test', context: { cluster: 'test', user: 'test' } }],
    clusters: [{ name: 'test', cluster }],
    users: [{ name: 'test', user }],
  };
  writeFileSync(file, JSON.stringify(config));
}

/** Port and how to end it. */
export interface Listening {
  port: number;
  close: () => void;
}

function listening(server: Server): Promise<Listening> {
  const sockets = new Set<{ destroy: () => void }>();
  server.on('connection', (socket) => sockets.add(socket));
  const close = (): void => {
    server.close();
    for (const socket of sockets) socket.destroy();
  };
  return new Promise((resolve) => {
    server.listen(0, '127.0.0.1', () => resolve({ port: (server.address() as AddressInfo).port, close }));
  });
}

export function serveHttps(certificate: Certificate, answer: RequestListener): Promise<Listening> {
  return listening(createServer({ ...certificate }, answer));
}

/** Takes connections and says nothing. */
export function serveSilence(): Promise<Listening> {
  return listening(createPlainServer());
}

/** A port on which nobody listens. */
export async function closedPort(): Promise<Listening> {
  const { port, close } = await serveSilence();
  close();
  return { port, close: () => undefined };
}
