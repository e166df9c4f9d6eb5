import { request } from 'node:http';
import { basicAuthorization } from './token.ts';

/** A command on a node ended with another exit code than 0; what it said is only in the node's own log, as on the platform. */
export class ExitStatus extends Error {
  readonly code: number;
  constructor(code: number) {
    super(`exit status ${code}`);
    this.code = code;
  }
}

const reasons: Record<string, string> = {
  ECONNREFUSED: 'connect: connection refused',
  EHOSTUNREACH: 'connect: no route to host',
  ENETUNREACH: 'connect: network is unreachable',
  ETIMEDOUT: 'i/o timeout',
};

/** A request as the platform's tool words its failures. */
export function call(
  method: string,
  address: string,
  port: number,
  path: string,
  body: Buffer | string = '',
): Promise<{ status: number; statusText: string; body: string }> {
  return new Promise((resolve, reject) => {
    const headers = port === 9202 ? { authorization: basicAuthorization(Date.now()) } : {};
    const outgoing = request({ method, host: address, port, path, headers, timeout: 600_000 }, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => (text += chunk.toString()));
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, statusText: response.statusMessage ?? '', body: text }),
      );
    });
    outgoing.on('error', (error: NodeJS.ErrnoException) => {
      const verb = method.charAt(0) + method.slice(1).toLowerCase();
      const reason = reasons[error.code ?? ''] ?? error.message;
      reject(new Error(`${verb} "http://${address}:${port}${path}": dial tcp ${address}:${port}: ${reason}`));
    });
    outgoing.end(body);
  });
}

/** The agent of one node. */
export class Agent {
  readonly address: string;
  constructor(address: string) {
    this.address = address;
  }

  /** stdout of the command; throws ExitStatus. */
  async run(...argv: string[]): Promise<string> {
    const command = argv.map((word) => `command=${encodeURIComponent(word)}`).join('&');
    const path = `/api/ecms/v1alpha1/exec?${command}&stderr=false&stdin=false&stdout=false`;
    const { status, statusText, body } = await call('POST', this.address, 9202, path);
    if (status !== 200) throw new Error(`invalid status: ${status} ${statusText}`);
    const result = JSON.parse(body) as { exit: number; stdout: string };
    if (result.exit !== 0) throw new ExitStatus(result.exit);
    return result.stdout;
  }

  async put(path: string, content: string): Promise<void> {
    await this.file(`path=${encodeURIComponent(path)}`, content);
  }

  async makeDirectory(path: string): Promise<void> {
    await this.file(`directory=true&path=${encodeURIComponent(path)}`, '');
  }

  private async file(query: string, content: string): Promise<void> {
    const { status, statusText } = await call('POST', this.address, 9202, `/api/ecms/v1alpha1/files?${query}`, content);
    if (status !== 201) throw new Error(`invalid status: ${status} ${statusText}`);
  }
}
