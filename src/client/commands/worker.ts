import { isIP } from 'node:net';
import { Command, InvalidArgumentError, Option } from 'commander';
import { defaultBackupDirectory } from '../../plan/names.ts';

export function workerCommand(): Command {
  return withWorkerOptions(new Command('worker'))
    .description('run the worker that does the work; as many as you like, anywhere but on the machines that move')
    .addHelpText(
      'after',
      `
The worker reaches the cluster with a kubeconfig and the machines with one private key. It can be killed and started again at any
moment: copies and applies run on, on the hosts, and the next worker takes up where they are.

People are told by the targets of the plan (ferry plan --notify ops); their addresses are secrets of the worker:
FERRY_NOTIFY_OPS=KIND:URL, or file:/path of a file that holds this. KIND is json, slack, dingtalk, feishu or wecom. Where a robot of
DingTalk or Feishu wants messages signed its key stands behind the address: dingtalk:https://…#SEC…

One with --copies-only can do nothing for a migration: beside other workers it needs a --task-queue of its own.

Examples:
  $ ferry worker --ssh-identity ~/.ssh/id_ed25519
  $ ferry worker --metrics-address 127.0.0.1:9464 --log-format json
  $ ferry worker --copies-only`,
    )
    .action(async (_options, command: Command) => {
      const { startWorker } = await import('../worker.ts');
      await startWorker(command.optsWithGlobals());
    });
}

/** Options that `ferry worker` and `ferry dev` share. */
export function withWorkerOptions(command: Command): Command {
  return command
    .option('--kubeconfig <file>', 'kubeconfig of the platform (default: KUBECONFIG, ~/.kube/config)')
    .option('--copies-only', 'serve ferry copy alone, where there is no cluster: replicateDirectory, no migrations')
    .addOption(new Option('--ssh-identity <file>', 'private key that opens the machines').env('FERRY_SSH_IDENTITY'))
    .option('--task-queue <name>', 'task queue', 'ferry')
    .addOption(
      new Option('--metrics-address <host:port>', 'serve Prometheus metrics there')
        .argParser(metricsAddressOf)
        .env('FERRY_METRICS_ADDRESS'),
    )
    .addOption(
      new Option('--log-level <level>', 'least level that is logged')
        .choices(['debug', 'info', 'warn', 'error'])
        .default('info'),
    )
    .addOption(
      new Option('--log-format <format>', 'how to log')
        .choices(['text', 'json'])
        .default(process.stderr.isTTY ? 'text' : 'json', 'text on a terminal, else json'),
    )
    .option('--backup-directory <path>', 'where Secrets are saved on the control host', defaultBackupDirectory)
    .addOption(
      new Option('--backup-key-file <file>', 'file with a 32-byte key that encrypts what is saved').env(
        'FERRY_BACKUP_KEY_FILE',
      ),
    )
    .option('--max-activities <number>', 'activities at the same time', activityCount, 50);
}

function activityCount(text: string): number {
  if (/^[1-9]\d{0,4}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It must be a whole number, 1 or more.');
}

/** The library that listens takes no names, and ends the process over anything else. */
function metricsAddressOf(text: string): string {
  const [, host = '', port = ''] = /^(.+):(\d{1,5})$/.exec(text) ?? [];
  if (isIP(host.replace(/^\[(.*)\]$/, '$1')) === 0 || Number(port) > 65535) {
    throw new InvalidArgumentError('It must be an IP address and a port, such as 127.0.0.1:9464.');
  }
  return text;
}
