import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createTransferActivities } from '../../src/activities/transfer.ts';
import { HostRefused } from '../../src/hosts/errors.ts';
import { createJobs } from '../../src/hosts/jobs.ts';
import { createHosts } from '../../src/hosts/ssh.ts';
import type { ReplicateInput } from '../../src/plan/replicate.ts';
import { replicateInputSchema } from '../../src/plan/replicate.ts';
import { freshName, script } from './machines.ts';
import type { Mover } from './transfer-setup.ts';
import { bothTrees, keyOf, once, openMover, pass, prepare, sweep, traces } from './transfer-setup.ts';

describe('the key of a transfer', () => {
  let mover: Mover;
  const requests: ReplicateInput[] = [];

  beforeAll(async () => {
    mover = await openMover();
  });
  afterEach(async () => {
    for (const request of requests.splice(0)) await sweep(mover, request);
  });
  afterAll(async () => {
    await mover.close();
  });

  async function prepared(prefix: string): Promise<{ request: ReplicateInput; directory: string; key: string }> {
    const request = await mover.request(freshName(prefix));
    requests.push(request);
    const { path } = request.transfer.source;
    await script(mover.source, `mkdir -p '${path}'; head -c 100000 /dev/urandom >'${path}/data'`);
    await prepare(mover, request);
    const key = await keyOf(mover.source, request.transfer.id);
    return { request, key, directory: `/var/lib/ferry/transfers/${key}` };
  }

  it('opens one directory to one rsync and to nothing else', async () => {
    const { source, destination } = mover;
    const { request, directory } = await prepared('gate');
    const { path } = request.transfer.destination;
    const server = 'rsync --server -logDtpAXrSe.iLsfxCIvu';
    const asked = [
      ['', ''],
      ['id', ''],
      [`${server} . data/; touch /srv/pwned`, ''],
      [`${server} . $(touch /srv/pwned)`, ''],
      [`${server} . \`touch /srv/pwned\``, ''],
      [`${server} . data/\ntouch /srv/pwned`, ''],
      [`${server} . /etc/`, ''],
      [`${server} . data/../`, ''],
      [`${server} . ../data/`, ''],
      [`${server} /etc data/`, ''],
      [`rsync --server --sender -logDtpre.iLsfxCIvu . data/`, ''],
      [`rsync --server --daemon .`, ''],
      [`${server} --log-file=/srv/pwned . data/`, ''],
      [`${server} --partial-dir=/srv/pwned . data/`, ''],
      [`${server} --backup-dir=/srv . data/`, ''],
      [`${server} --copy-dest=/etc . data/`, ''],
      [`${server} --files-from=/etc/passwd . data/`, ''],
      [`${server} --remove-source-files . data/`, ''],
      [`${server} --rsync-path=/bin/sh . data/`, ''],
      [`${server} --bwlimit=/srv/pwned . data/`, ''],
      [`${server} -M--log-file=x . data/`, ''],
      [`${server} -T/srv . data/`, ''],
      [`rsync --server -logDtprKe.iLsfxCIvu . data/`, ''],
      ['ferry-check; touch /srv/pwned', ''],
      ['ferry-tar -C /', ''],
      ['/bin/rsync --server . data/', ''],
      ['scp -t /srv', ''],
    ].map(([command = '']) => command);

    const answers: string[] = [];
    for (const command of asked) {
      const result = await source.run(
        ['sh', '-c', 'exec ssh -T -F "$1" ferry "$(cat)" </dev/null', 'sh', `${directory}/ssh_config`],
        {
          input: command,
          timeout: 30_000,
        },
      );
      answers.push(`${result.code ?? '?'} ${result.stderr.trim().split('\n').at(-1) ?? ''}`);
    }
    const sftp = await source.run(
      ['sh', '-c', 'exec sftp -b /dev/null -F "$1" ferry', 'sh', `${directory}/ssh_config`],
      { timeout: 30_000 },
    );
    const forward = await source.run(
      [
        'ssh',
        '-F',
        `${directory}/ssh_config`,
        '-o',
        'ClearAllForwardings=no',
        '-o',
        'ExitOnForwardFailure=yes',
        '-R',
        '4711:localhost:22',
        'ferry',
        'ferry-check',
      ],
      { timeout: 30_000 },
    );

    for (const [index, answer] of answers.entries())
      expect(`${asked[index] ?? ''}: ${answer}`).toContain('98 ferry: refused');
    expect(sftp.code).not.toBe(0);
    expect(forward.code).not.toBe(0);
    expect(forward.stderr).toMatch(/forwarding failed/);
    expect(await script(destination, `ls /srv/pwned 2>/dev/null || :; ls -A '${path}'`)).toBe('');
  });

  it('opens no road past the directory', async () => {
    const { source } = mover;
    const { directory } = await prepared('roads');
    const ssh = async (...args: string[]): Promise<string> => {
      const road = ['ssh', '-F', `${directory}/ssh_config`, '-o', 'ClearAllForwardings=no', '-o', 'LogLevel=INFO'];
      const { code, stdout, stderr } = await source.run([...road, ...args], { timeout: 30_000 });
      return `${code ?? '?'} ${stdout} ${stderr}`.replaceAll(/\s+/g, ' ');
    };

    expect(await ssh('ferry', 'ferry-check')).toContain('0 ferry-ready');
    expect(await ssh('-W', 'localhost:22', 'ferry')).toMatch(/administratively prohibited|open failed/);
    expect(
      await ssh('-o', 'ExitOnForwardFailure=yes', '-R', '/run/ferry-pwned:localhost:22', 'ferry', 'ferry-check'),
    ).toMatch(/forwarding failed/);
    expect(await ssh('-tt', 'ferry', 'ferry-check')).toMatch(/PTY allocation request failed/);
    expect(
      await ssh('-o', 'SetEnv=LC_ALL=en_US.UTF-8 BASH_ENV=/etc/passwd', 'ferry', 'rsync --server é . data/'),
    ).toContain('ferry: refused: odd characters');
    // A subsystem has no stderr.
    expect(await ssh('-s', 'ferry', 'sftp')).toBe('98 ');
  });

  it('writes nowhere but in the directory, whatever rsync is asked for', async () => {
    const { source, destination } = mover;
    const { request, directory } = await prepared('rogue');
    const { path } = request.transfer.destination;
    const rogue = `/srv/${request.transfer.id}-rogue`;
    const victim = `/srv/${request.transfer.id}-victim`;
    await script(source, `mkdir -p '${rogue}/out'; echo evil >'${rogue}/out/evil'; echo a >'${rogue}/a'`);
    await script(destination, `mkdir '${victim}'; echo good >'${victim}/good'; ln -s '${victim}' '${path}/out'`);
    const push = async (...args: string[]): Promise<string> => {
      const rsync = ['rsync', '-e', `ssh -F ${directory}/ssh_config`, ...args, `${rogue}/`, 'ferry:data/'];
      const { code, stderr } = await source.run(rsync, { timeout: 30_000 });
      return `${code ?? '?'} ${stderr.trim().split('\n')[0] ?? ''}`;
    };
    const beside = `cd /srv; find '${victim}' -type f | sort; cat '${victim}/good'; find /srv -maxdepth 1 -name 'evil*'`;

    const refused = [
      ['-aK'],
      ['-a', '--backup', `--backup-dir=${victim}`],
      ['-a', `--partial-dir=${victim}`],
      ['-a', `--temp-dir=${victim}`],
      ['-a', `--link-dest=${victim}`],
      ['-a', `--compare-dest=${victim}`],
      ['-aR', '--no-implied-dirs'],
      ['-a', '--append'],
      ['-a', '--max-delete=0'],
      ['-a', '--copy-unsafe-links', '--mkpath'],
      ['-a', '-M--log-file=/srv/evil'],
      ['-a', '--iconv=utf8,latin1'],
    ];
    for (const args of refused) {
      expect(`${args.join(' ')}: ${await push(...args)}`).toMatch(/: \d+ ferry: refused/);
    }
    const before = await script(destination, `readlink '${path}/out'; ${beside}`);
    // What is allowed replaces the symlink, and does not follow it.
    expect(await push('-a', '--delete')).toBe('0 ');
    const after = await script(destination, `stat -c %F '${path}/out'; cat '${path}/out/evil'; ${beside}`);
    await script(destination, `rm -rf '${victim}'`);
    await script(source, `rm -rf '${rogue}'`);

    const untouched = `${victim}/good\ngood\n`;
    expect(before).toBe(`${victim}\n${untouched}`);
    expect(after).toBe(`directory\nevil\n${untouched}`);
  });

  it('is of no use once the directory, or one above it, was replaced by a symlink', async () => {
    const { source, destination } = mover;
    const { transfer, ...rest } = await mover.request(freshName('replaced'));
    const above = transfer.destination.path;
    const request = {
      ...rest,
      allowedRoots: [above],
      transfer: { ...transfer, destination: { host: 'new1', path: `${above}/in/side` } },
    };
    requests.push(request);
    await script(source, `mkdir -p '${transfer.source.path}'; echo a >'${transfer.source.path}/a'`);
    await prepare(mover, request);
    const directory = `/var/lib/ferry/transfers/${await keyOf(source, transfer.id)}`;
    const push = async (): Promise<string> => {
      const rsync = ['rsync', '-a', '-e', `ssh -F ${directory}/ssh_config`, '/etc/hostname', 'ferry:data/'];
      return (await source.run(rsync, { timeout: 30_000 })).stderr;
    };

    const said: string[] = [];
    for (const [from, to] of [
      [`${above}/in/side`, `${above}/real`],
      [`${above}/in`, `${above}/real`],
    ] as const) {
      await script(destination, `mv '${from}' '${to}'; ln -s '${to}' '${from}'`);
      said.push(await push());
      await script(destination, `rm '${from}'; mv '${to}' '${from}'`);
    }
    await script(destination, `mv '${above}/in/side' '${above}/gone'`);
    said.push(await push());
    const listing = await script(destination, `cd '${above}'; find . -type f; rm -rf '${above}'`);

    for (const each of said) expect(each).toContain('ferry: refused: the destination is gone or was replaced');
    expect(listing).toBe('');
  });

  it('is of no use to another machine', async () => {
    const { request, directory } = await prepared('stolen');
    const privateKey = await mover.source.readFile(`${directory}/id`);
    const thief = createHosts({ privateKey: privateKey ?? '' });

    await expect(thief.connect(request.destination)).rejects.toThrow(HostRefused);
    await thief.close();
  });

  it.each([
    ['shares one login', false, 1],
    ['logs in for each, where none can be shared', true, 3],
  ])('lets in a pass that copies twice: it %s', async (_name, isHindered, expected) => {
    const { source, destination } = mover;
    const { request, directory } = await prepared('logins');
    const { choice } = await prepare(mover, request);
    await once(() => mover.activities.runPass(pass(request, choice, 1)));
    const key = await script(source, `ssh-keygen -lf '${directory}/id.pub' | cut -d' ' -f2`);
    const logins = async (): Promise<number> =>
      Number(await script(destination, `journalctl --sync; journalctl -q _COMM=sshd | grep -cF '${key.trim()}' || :`));
    // The comparison of what changed, then the look at the whole tree. Nobody can listen where a directory stands.
    const hinder = isHindered ? `mkdir '${directory}/road'` : ':';
    await script(source, `touch '${request.transfer.source.path}/data'; ${hinder}`);
    const before = await logins();

    const { doubtful } = await once(() => mover.activities.runPass(pass(request, choice, 2)));
    const after = await logins();
    const [left, right] = await bothTrees(mover, request);

    expect(doubtful).toBe(1);
    expect(after - before).toBe(expected);
    expect(right).toEqual(left);
  });

  it('is gone on both machines when a transfer ends without success', async () => {
    const { request } = await prepared('abandoned');

    expect(await traces(mover, request)).not.toBe('');
    await once(() => mover.activities.finishTransfer({ request }));
    expect(await traces(mover, request)).toBe('');
    await once(() => mover.activities.finishTransfer({ request }));
  });

  it('is swept by a later transfer when nobody came back for it, and others keep theirs', async () => {
    const { source, destination } = mover;
    const dead = await prepared('dead');
    const young = await prepared('young');
    const strangers =
      'ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXAMPLEEXA somebody else';
    await script(destination, `printf '%s' '${strangers}' >>~/.ssh/authorized_keys`);
    for (const machine of [source, destination]) await script(machine, `touch -d '2 hours ago' '${dead.directory}'`);

    const later = await prepared('later');
    const keys = await script(destination, 'cat ~/.ssh/authorized_keys; stat -c %a ~/.ssh/authorized_keys');

    expect(await traces(mover, dead.request)).toBe('');
    expect(keys).not.toContain(`ferry:${dead.key}`);
    expect(keys).toContain(`ferry:${young.key}\n`);
    expect(keys).toContain(`ferry:${later.key}\n`);
    expect(keys).toContain(`${strangers}\n`);
    expect(keys).toMatch(/\n600\n$/);
    await script(destination, `sed -i '/somebody else$/d' ~/.ssh/authorized_keys`);
  });

  it('comes back by itself for a transfer that rested so long that it was swept', async () => {
    const { source, destination } = mover;
    const rested = await prepared('rested');
    const { choice } = await prepare(mover, rested.request);
    await once(() => mover.activities.runPass(pass(rested.request, choice, 1)));
    for (const machine of [source, destination]) await script(machine, `touch -d '2 hours ago' '${rested.directory}'`);
    await prepared('sweeper');
    const swept = await script(destination, `grep -c 'ferry:${rested.key}$' ~/.ssh/authorized_keys || :`);
    await script(source, `echo more >'${rested.request.transfer.source.path}/more'`);

    await once(() => mover.activities.runPass(pass(rested.request, choice, 2)));
    const [left, right] = await bothTrees(mover, rested.request);

    expect(swept).toBe('0\n');
    expect(right).toEqual(left);
  });
});

describe('names that are not meant for a shell', () => {
  it('are copied as directories like any other', async () => {
    const mover = await openMover();
    const base = await mover.request(freshName('names'));
    const odd = String.raw`/srv/${base.transfer.id}/$(touch pwned) 'q' "d" ; & | -rf * \ ${'`id`'} ünï:x@y`;
    const request = replicateInputSchema.parse({
      ...base,
      allowedRoots: [`/srv/${base.transfer.id}`],
      transfer: {
        ...base.transfer,
        source: { host: 'old1', path: odd },
        destination: { host: 'new1', path: `${odd}/--delete -e sh` },
      },
    });
    const quoted = (path: string): string => `'${path.replaceAll("'", String.raw`'\''`)}'`;
    await script(mover.source, `mkdir -p ${quoted(odd)} && cd ${quoted(odd)} && echo a >a && ln a b`);

    const { choice } = await prepare(mover, request);
    await once(() => mover.activities.runPass(pass(request, choice, 1)));
    await script(mover.source, `cd ${quoted(odd)} && echo c >c`);
    await once(() => mover.activities.proveQuiet({ request }));
    await once(() => mover.activities.runPass(pass(request, choice, 2, { mode: 'final' })));
    const verification = await once(() => mover.activities.verifyTransfer({ request, choice }));
    await once(() => mover.activities.finishTransfer({ request, verified: verification.digest ?? '' }));
    const listing = await script(
      mover.destination,
      `cd ${quoted(`${odd}/--delete -e sh`)} && ls -A && find / -xdev -name pwned`,
    );
    for (const machine of [mover.source, mover.destination]) await script(machine, `rm -rf '/srv/${base.transfer.id}'`);
    await mover.close();

    expect(verification.differences).toEqual([]);
    expect(listing).toBe('a\nb\nc\n');
  });

  it('are refused as addresses', async () => {
    const mover = await openMover();
    const request = await mover.request(freshName('address'));
    await script(mover.source, `mkdir -p '${request.transfer.source.path}'`);
    // The worker's connections stand: only what the source is told differs.
    const activities = createTransferActivities({
      jobs: createJobs(),
      hosts: {
        ...mover.hosts,
        connect: (host) =>
          mover.hosts.connect(host.name === 'old1' ? host : { ...host, address: mover.destination.host.address }),
      },
    });

    for (const address of ['-oProxyCommand=touch /srv/pwned', 'new1 touch', 'new1\nProxyCommand x', '$(id)']) {
      const odd = { ...request, destination: { ...request.destination, address } };
      await expect(once(() => activities.prepareTransfer({ request: odd, mode: 'live' }))).rejects.toThrow(
        /not an address|control character/,
      );
    }
    await sweep(mover, request);
    await mover.close();
  });
});
