import { Command, Option } from 'commander';
import { collect, collectPairs, outputFormats, portNumber, wholeNumber, withPlatformOptions } from './options.ts';

export function planCommand(): Command {
  return withPlatformOptions(new Command('plan'))
    .description('make the plan of a migration from the live platform; changes nothing')
    .option('--map <old=new,…>', 'which new machine replaces which node', collect)
    .option('--seal <file>', 'instead: accept the edits in a plan file, by writing its digest anew')
    .addOption(
      new Option('-o, --output <format>', 'how to print (default: by the name of --output-file, else table)').choices(
        outputFormats,
      ),
    )
    .option('--output-file <file>', 'write the plan there (YAML unless the name or -o says JSON)')
    .option('--cluster <name>', 'name of the cluster (default: of the kubeconfig)')
    .option('--author <name>', 'who makes the plan; may not approve it (default: FERRY_USER, the user)')
    .option('--approver <[gate=]name>', 'who may approve, at one gate or at all; repeat it', collect)
    .option('--notify <name>', 'target on the worker that is told of gates, blocks and the end; repeat it', collect)
    .option('--required <number>', 'how many approvers each gate needs (default: 1)', wholeNumber)
    .option('--self-approval', 'the author may approve as well; for who works alone')
    .option('--host-address <name=address>', 'address of a machine; repeat it', collectPairs)
    .option('--ssh-user <name>', 'user on the machines (default: root)')
    .option('--ssh-port <port>', 'port of sshd on the machines (default: 22)', portNumber)
    .option('--package <directory>', 'extracted dependency package on the control host')
    .option('--home <directory>', 'home of the user that runs proton-cli')
    .option('--proton-cli <program>', 'name or path of proton-cli on the control host')
    .addOption(
      new Option('--container-registry <how>', 'what happens to the registry of a node that leaves').choices([
        're-push',
        'copy-data',
        'not-moved',
      ]),
    )
    .option('--application-namespace <name>', 'namespace that is stopped; repeat it (default: all)', collect)
    .option('--config-namespace <name>', 'namespace of proton-cli-config (default: proton)')
    .option('--resource-namespace <name>', 'namespace of the components (default: resource)')
    .option('--data-path <component=path>', 'new data directory of a component; repeat it', collectPairs)
    .option('--no-remove-old-nodes', 'old nodes stay in the cluster')
    .addOption(
      new Option('--remove-nodes-after <phase>', 'when old nodes are removed').choices(['reinstall', 'start-apps']),
    )
    .option('--budget <seconds>', 'downtime budget (default: 3600)', wholeNumber)
    .option('--rehearsal <file>', 'report of an earlier migration (JSON): expect of each phase what it took there')
    .option('--limit <KiB/s>', 'online copy limit per source host; 0 is none (default: 50000)', wholeNumber)
    .addOption(
      new Option('--verify <how>', 'how copies are verified (default: full)').choices(['metadata', 'sampled', 'full']),
    )
    .option(
      '--bring-rsync [path]',
      "lend rsync of the worker's machine to machines that have none, until their copies end; without it tar copies",
    )
    .addOption(
      new Option('--restart <how>', 'how machines whose services are stopped come back (default: start)').choices([
        'start',
        'reboot',
      ]),
    )
    .option('--no-prewarm', 'load no images onto the new machines beforehand')
    .option('--no-measure', 'do not measure directories')
    .addHelpText(
      'after',
      `
It reads the configuration and the components in the cluster and asks every machine over ssh; it writes nothing there.
Everything else that a plan can say is edited in the file (ferry schema describes it), then accepted with --seal.

What it cannot know it asks for on a terminal; without one it names the option that answers. Only for the container registry it
has an answer of its own then, copy-data, and says so.

Examples:
  $ ferry plan --map old1=new1,old2=new2,old3=new3
  $ ferry plan --map old1=new1,old2=new2,old3=new3 --approver li --approver wang -o yaml > plan.yaml
  $ ferry plan --map old1=new1,old2=new2,old3=new3 --approver remove-nodes=wang --budget 1800 --output-file plan.json
  $ ferry plan --map old1=new1,old2=new2,old3=new3 --rehearsal report.json -o yaml > plan.yaml
  $ ferry plan --seal plan.yaml`,
    )
    .action(async (_options, command: Command) => {
      const { planOrSeal } = await import('../plan.ts');
      await planOrSeal(command.optsWithGlobals());
    });
}
