/** A tree with everything that a copy may lose. Fails on a machine that cannot make one of them. Argument of the script: `$tree`. */
export function oddTree(tree: string): string {
  return (
    String.raw`
tree='${tree}'
mkdir -p "$tree" && cd "$tree"
umask 022
echo plain >plain
mkdir empty 'empty with space' deep deep/er deep/er/est
echo bottom >deep/er/est/file
: >nothing
printf 'new\nline' >$'new\nline'
printf x >$'quo"te\'s $(id) ` +
    '`id`' +
    String.raw` \\ * ? [a]'
printf x >$'bytes-\xff\xfe-\xc3\x28'
printf x >$'return\rtab\tbell\a'
printf x >'-rf'
printf x >'  spaces  '
printf x >'ünïcode'
mkdir $'dir\nline\xff'
echo inside >$'dir\nline\xff/in\\side'
long=$(printf '%0255d' 0); echo long >"$long"
path=long; for i in 1 2 3 4; do path=$path/$(printf '%0200d' $i); done; mkdir -p "$path"; echo far >"$path/far"
ln -s plain link; ln -s /nowhere/at/all dangling; ln -s $'odd\ntarget \xff' odd-link; ln -s deep link-to-directory; ln -s ../../.. up
chown -h 4242:4343 dangling; touch -h -d '2001-02-03 04:05:06.700000008' dangling
echo set >setuid; chown 12345:23456 setuid; chmod 6755 setuid
mkdir sticky sgid; chmod 1777 sticky; chown 0:4321 sgid; chmod 2750 sgid
echo nobody >nameless; chown 4000000000:3999999999 nameless; chmod 0 nameless
echo one >linked; mkdir links; ln linked links/two; ln linked $'links/th\nree'; ln link links/linked-symlink
mkfifo fifo; chmod 640 fifo; chown 7:8 fifo
mknod null c 1 3; mknod block b 7 9; ln fifo links/fifo
perl -MIO::Socket::UNIX -e 'IO::Socket::UNIX->new(Local => "socket", Listen => 1) or die $!'
echo attributes >attributes; setfattr -n user.colour -v 'green' attributes; setfattr -n user.bytes -v 0x00ff0a00 attributes
setfattr -n trusted.ferry -v yes attributes; setfattr -n user.on-directory -v yes deep
echo caps >capable; setfattr -n security.capability -v 0x0100000200040000000000000000000000000000 capable
echo acl >acl; setfacl -m u:54321:rw,g:54322:r,m::r acl
mkdir acl-default; setfacl -m u:54321:rwx,d:u:54323:rx,d:g::rwx acl-default; echo inherits >acl-default/inherits
truncate -s 80M sparse; printf begin | dd of=sparse conv=notrunc status=none; printf middle | dd of=sparse bs=1M seek=40 conv=notrunc status=none
truncate -s 16M all-hole
printf end | dd of=tail-data bs=1 seek=10000000 conv=notrunc status=none
head -c 3000000 /dev/urandom >random
mkdir many; for i in $(seq 300); do echo "$i" >many/$i; done
touch -d '1980-01-02 03:04:05.000000001' plain; touch -d '2030-12-31 23:59:59.999999999' nothing
touch -d '2011-11-11 11:11:11.111111111' deep/er empty; chmod 711 empty; chown 99:98 empty
chmod 750 .; chown 501:502 .; touch -d '1999-09-09 09:09:09.090909090' .`
  );
}

/**
 * A description of a tree by find, stat, sha256sum and getfattr (which shows ACLs as well): neither rsync nor the product's own scan.
 * One line per entry with everything that the inode says, then contents, holes, shared inodes, devices and attributes, each in the
 * order of names.
 */
export function describeTree(tree: string): string {
  return String.raw`
cd '${tree}'; export LC_ALL=C
list() { find . "$@" -print0 | sort -z; }
plain() { perl -0 -pe 'chomp; s/([^\x20-\x7e]|\\)/sprintf("\\x%02x", ord $1)/ge; $_ .= "\n"'; }
find . -type d -printf 'entry %p|%y|%#m|%U:%G|%T@\0' , ! -type d -printf 'entry %p|%y|%#m|%U:%G|%T@|%s|%n|%l\0' | sort -z | plain
list -type f | xargs -0 -r sha256sum -b | sed 's/^/content /'
find . -type f -size +900k -printf '%s %b %p\0' | perl -0 -ne 'chomp; my ($size, $blocks, $name) = split / /, $_, 3; print "$name has ", ($blocks * 512 < $size / 2 ? "holes" : "no holes"), "\0"' | sort -z | plain
find . ! -type d -links +1 -printf '%i %p\0' | sort -z -k2 | perl -0 -ne 'chomp; my ($inode, $name) = split / /, $_, 2; $first{$inode} = $name unless defined $first{$inode}; print "$name shares $first{$inode}\0"' | sort -z | plain
list '(' -type b -o -type c ')' | xargs -0 -r stat -c 'device %n %t:%T'
list | xargs -0 getfattr -h -d -m - -e hex | sed '/^$/d; s/^/attribute /'`;
}

/**
 * Starts a process that maps a file of the current directory and writes through the mapping whenever it is asked to; `touch end` ends
 * it. read(2) into the mapping is what perl has for it.
 */
export function mappedWriter(file: string, control: string): string {
  return String.raw`rm -rf '${control}'; mkdir -p '${control}'
setsid perl -e '
  my ($file, $control) = @ARGV;
  open(my $f, "+<", $file) or die; my $address = syscall(9, 0, -s $file, 3, 1, fileno($f), 0); close $f;
  open(my $ready, ">", "$control/ready");
  until (-e "$control/end") {
    for my $order (glob "$control/order.*") {
      my ($generation) = $order =~ /(\d+)$/;
      pipe(my $r, my $w); syswrite $w, $generation x 64; syscall(0, fileno($r), $address + 70000, 64) == 64 or die;
      unlink $order;
    }
    select(undef, undef, undef, 0.02);
  }' '${file}' '${control}' >/dev/null 2>&1 </dev/null &
for i in $(seq 100); do [ -e '${control}/ready' ] && break; sleep 0.05; done; [ -e '${control}/ready' ]`;
}

/** Has it write and waits until it has. */
export function mappedWrite(control: string, generation: number): string {
  return `: >'${control}/order.${generation}'; for i in $(seq 100); do [ -e '${control}/order.${generation}' ] || break; sleep 0.02; done; [ ! -e '${control}/order.${generation}' ]`;
}

/**
 * Starts a process that changes a tree at random, in all ways that a copy by size and time can miss, until `touch end`; then it leaves
 * `done`. It never waits long: passes are meant to read files while they change.
 */
export function randomWriter(tree: string, control: string, seed: number): string {
  return String.raw`rm -rf '${control}'; mkdir -p '${control}' '${tree}'
cd '${tree}'; for i in $(seq 0 24); do head -c $((i * 9000 + 300)) /dev/urandom >f$i; done; mkdir d; touch -d '@1700000000.123456789' *
setsid perl -e '
  my ($control, $seed) = @ARGV;
  srand($seed);
  my ($count, %map) = (0);
  sub any { my @all = grep { -f $_ && !-l $_ } glob("f* d/f*"); $all[rand @all] // fresh() }
  sub bytes { join("", map { chr rand 256 } 1 .. $_[0]) }
  sub fresh { my $f = (rand() < 0.3 ? "d/f" : "f") . int(rand 40); return $f if -d $f; unlink $f; open(my $o, ">", $f) or return $f; print $o bytes(int rand 20000); close $o; $f }
  sub rewrite { my $f = shift; my $s = -s $f or return; open(my $o, "+<", $f) or return; sysseek($o, int rand $s, 0); my $n = $s - sysseek($o, 0, 1); syswrite($o, bytes($n < 60 ? $n : 60)); close $o }
  sub mapped { my $f = shift; my $s = -s $f or return; open(my $o, "+<", $f) or return; my $a = syscall(9, 0, $s, 3, 1, fileno($o), 0); close $o; [$a, $s] }
  sub poke { my ($a, $s) = @{ $_[0] }; pipe(my $r, my $w); my $n = $s < 60 ? $s : 60; syswrite $w, bytes($n); syscall(0, fileno($r), $a + int rand($s - $n + 1), $n) }
  # Files of their own: shortened ones cannot be written through a mapping.
  for my $i (1 .. 4) { open(my $o, ">", "mapped$i"); print $o bytes(50000 * $i); close $o; $map{$i} = mapped("mapped$i") }
  my @do = (
    sub { rewrite(any()) },
    sub { my $f = any(); system("touch", "-r", $f, "$control/time"); rewrite($f); system("touch", "-r", "$control/time", $f) },
    (sub { poke($map{1 + int rand 4}) }) x 4,
    sub { my $i = 1 + int rand 4; my $m = mapped("mapped$i"); poke($m); syscall(11, @$m); },
    sub { my $f = any(); truncate($f, int rand 30000) },
    sub { my $f = any(); rename($f, (rand() < 0.3 ? "d/f" : "f") . int(rand 40)) },
    sub { unlink any() },
    sub { fresh() },
    sub { open(my $o, ">>", any()) or return; print $o bytes(int rand 500) },
    sub { my $f = any(); unlink $f; mkdir $f },
    sub { rmdir $_ for grep { -d $_ } glob("f* d/f*") },
    sub { link(any(), (rand() < 0.3 ? "d/f" : "f") . int(rand 40)) },
    sub { my $f = any(); unlink $f; symlink("target" . int(rand 9), $f) },
    sub { unlink $_ for grep { -l $_ } glob("f* d/f*") },
    sub { chmod(0600 + int(rand 64), any()) },
    sub { chown(int(rand 9), int(rand 9), any()) },
    sub { system("setfattr", "-n", "user.a", "-v", int(rand 99), any()) },
  );
  open(my $ready, ">", "$control/ready"); close $ready;
  until (-e "$control/end") { $do[rand @do]->(); $count++; select(undef, undef, undef, rand 0.02) }
  open(my $done, ">", "$control/done"); print $done $count; close $done;
' '${control}' '${seed}' >'${control}/log' 2>&1 </dev/null &
for i in $(seq 100); do [ -e '${control}/ready' ] && break; sleep 0.05; done; [ -e '${control}/ready' ]`;
}

/** Ends it and answers how many changes it made. */
export function endWriter(control: string): string {
  return `touch '${control}/end'; for i in $(seq 200); do [ -s '${control}/done' ] && break; sleep 0.02; done; cat '${control}/done'`;
}
